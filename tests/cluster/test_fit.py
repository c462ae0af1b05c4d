"""A fit on a Dask cluster is the fit in memory, bit for bit, whatever happens to workers."""

import contextlib
import os
import signal
import subprocess
import sys
import tempfile
import threading
import time
import uuid
from pathlib import Path
from types import SimpleNamespace

import numpy as np
import pyarrow as pa
import pytest

import fastmf
from fastmf import DataError, ParameterError, Ratings, ResourceError
from fastmf.data.storage import Storage
from fastmf.data.write import write_parquet
from fastmf.solvers import make
from fastmf.training.plan import make_plan

distributed = pytest.importorskip("distributed", reason="the extra cluster is not installed")

from fastmf.cluster import data, workers  # noqa: E402
from fastmf.cluster.fit import Fit  # noqa: E402
from fastmf.cluster.plan import Counted, Machines, plan  # noqa: E402
from fastmf.kernels import tasks  # noqa: E402

pytestmark = [
    pytest.mark.big,
    pytest.mark.filterwarnings("ignore::DeprecationWarning", "ignore::ResourceWarning", "ignore:unclosed"),
]
DASK = [sys.executable, "-m", "dask"]
QUIET = {"NUMBA_NUM_THREADS": "1", "DASK_DISTRIBUTED__COMM__TIMEOUTS__CONNECT": "5s"}
N, LEAST = 40_000, 1_000


class Cluster:
    """A scheduler and workers, started as people start them; they talk over TCP."""

    def __init__(self, folder):
        self.file, self.processes = folder / "scheduler.json", []
        self.scheduler = self.start("scheduler", "--port", "0", "--no-dashboard")

    def start(self, kind, *options):
        given = [*DASK, kind, "--scheduler-file", str(self.file), *options]
        environment = os.environ | QUIET
        pipe = subprocess.DEVNULL
        process = subprocess.Popen(given, stdout=pipe, stderr=pipe, env=environment, cwd=self.file.parent)
        self.processes.append(process)
        return process

    def worker(self):
        small = self.file.parent / "small_sections.py"  # as this process has them
        small.write_text(f"from fastmf.kernels import tasks\ntasks.LEAST = {LEAST}\n")
        options = "--nthreads", "1", "--no-nanny", "--no-dashboard", "--memory-limit", "0", "--death-timeout", "60"
        return self.start("worker", *options, "--preload", str(small))

    def client(self, n):
        until = time.monotonic() + 60
        while not (self.file.exists() and self.file.read_text()):
            assert time.monotonic() < until
            time.sleep(0.05)
        client = distributed.Client(scheduler_file=str(self.file), set_as_default=False)
        client.wait_for_workers(n, timeout=60)
        return client

    def stop(self):
        for process in self.processes:
            with contextlib.suppress(ProcessLookupError):
                process.kill()
            process.wait()


@pytest.fixture(scope="module")
def two(tmp_path_factory):
    """A client of two workers."""
    cluster = Cluster(tmp_path_factory.mktemp("two"))
    for _ in range(2):
        cluster.worker()
    with contextlib.closing(cluster.client(2)) as client:
        yield client
    cluster.stop()


@pytest.fixture
def dying(tmp_path):
    """A cluster whose workers may be killed."""
    (tmp_path / "cluster").mkdir()
    cluster = Cluster(tmp_path / "cluster")
    yield cluster
    cluster.stop()


@pytest.fixture(scope="module")
def table(planted):
    users, items, ratings = planted(n_users=900, n_items=300, n=N, noise=1.0)
    columns = {"user": users, "item": items, "rating": np.clip(np.round(ratings * 2) / 2, 0.5, 5)}
    return pa.table(columns | {"weight": 1 + users % 5})


@pytest.fixture(scope="module")
def folder(table, tmp_path_factory):
    """Three files of several row groups."""
    place = tmp_path_factory.mktemp("ratings")
    for n in range(3):
        rows = range(n * N // 3, (n + 1) * N // 3)
        write_parquet(table.slice(rows.start, len(rows)), place / f"{n}.parquet")
    return place


@pytest.fixture(autouse=True)
def small_chunks_and_sections(monkeypatch):
    monkeypatch.setattr(data, "MOST", 5_000)
    monkeypatch.setattr(tasks, "LEAST", LEAST)


@pytest.fixture(autouse=True)
def nothing_left(monkeypatch, tmp_path):
    (tmp_path / "temporary").mkdir()
    monkeypatch.setattr(tempfile, "tempdir", str(tmp_path / "temporary"))
    yield
    assert not list((tmp_path / "temporary").glob("fastmf-*"))


def require_same(one, other):
    assert one.content_hash == other.content_hash
    for name in ("rows", "columns", "weight", "weight_scale", "duplicates", "rating_range", "solver", "best_epoch"):
        assert getattr(one, name) == getattr(other, name)
    assert (one.user_rule, one.item_rule) == (other.user_rule, other.item_rule)
    for name in ("user_counts", "item_counts"):
        assert np.array_equal(getattr(one, name), getattr(other, name))
    for mine, theirs in zip(one.seen, other.seen, strict=True):
        assert np.array_equal(mine, theirs)


def require_nothing_held(client):
    until = time.monotonic() + 10
    while client.who_has():
        assert time.monotonic() < until, client.who_has()
        time.sleep(0.02)


@pytest.mark.parametrize(
    "settings",
    [
        {"solver": "als"},
        {"solver": "als", "method": "cg", "biases": False, "choice": False},
        {"solver": "als", "validation": 0.2, "patience": 2, "weight": "weight"},
        {"solver": "implicit", "weight": "weight", "duplicates": "sum"},
        {"solver": "implicit", "method": "exact", "positive_from": 3.5, "weight": ""},
        {"solver": "implicit", "positive_from": 3.5, "weight": "", "validation": 0.2, "patience": 1},
    ],
    ids=str,
)
def test_the_model_is_that_of_a_fit_in_memory(two, folder, settings):
    given = {"k": 5, "epochs": 3, **settings}
    require_same(fastmf.fit(folder, **given), fastmf.fit(folder, cluster=two, **given))


@pytest.mark.parametrize("n", [1, 3, 5])
def test_any_number_of_workers(folder, n):
    given = {"k": 4, "epochs": 2, "solver": "als", "validation": 0.1}
    how = {"n_workers": n, "threads_per_worker": 1, "processes": False, "dashboard_address": ":0"}
    with distributed.LocalCluster(**how) as local, distributed.Client(local, set_as_default=False) as client:
        require_same(fastmf.fit(folder, **given), fastmf.fit(folder, cluster=client, **given))
        given = {"k": 4, "epochs": 2, "solver": "implicit", "weight": ""}
        require_same(fastmf.fit(folder, **given), fastmf.fit(folder, cluster=client, **given))


@pytest.mark.parametrize("duplicates", ["last", "mean"])
def test_duplicates_bad_rows_and_validation_of_its_own(two, table, tmp_path, duplicates):
    table = table.drop_columns("weight")
    again = table.take(np.random.default_rng(0).integers(0, N, 3_000))
    bad = pa.table({"user": [None, 103, 106], "item": [1001, 1002, None], "rating": [1.0, np.nan, 3.0]})
    whole = pa.concat_tables([table.slice(0, 30_000), bad, again, table.slice(7, 100)], promote_options="default")
    write_parquet(whole, tmp_path / "training.parquet")
    write_parquet(table.slice(30_000), tmp_path / "validation.parquet")
    given = {"duplicates": duplicates, "bad_rows": "drop", "solver": "als", "k": 4, "epochs": 3}
    given["validation"] = tmp_path / "validation.parquet"
    source = tmp_path / "training.parquet"
    with pytest.warns(UserWarning, match="validation pairs are in the training ratings"):
        one = fastmf.fit(source, **given)
    other = fastmf.fit(source, cluster=two, **given)
    require_same(one, other)
    assert other.rows["duplicates"] > 1_000
    assert other.rows["null_users"] == other.rows["nan_ratings"] == 1


@pytest.mark.parametrize(
    "made",
    [
        lambda ids: pa.array([f"u{n} é" for n in ids]),
        lambda ids: pa.array([uuid.UUID(int=int(n)).bytes for n in ids], pa.uuid()),
    ],
)
def test_ids_that_are_no_numbers(two, table, tmp_path, made):
    table = table.slice(0, 6_000).set_column(0, "user", made(table["user"].to_numpy()[:6_000]))
    write_parquet(table, tmp_path / "r.parquet")
    given = {"solver": "als", "k": 3, "epochs": 2, "validation": 0.1}
    require_same(fastmf.fit(tmp_path / "r.parquet", **given), fastmf.fit(tmp_path / "r.parquet", cluster=two, **given))


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"rating": [1.0, None, np.inf, 4.0, 5.0]}, r"2 of 5 rows cannot be used \(null ratings 1, infinite .* row 1 "),
        ({"user": [1, 2, 3, 3, 5], "item": [1, 2, 3, 3, 5]}, "1 of 5 rows repeat a .* first for user 3 and item 3"),
        ({"rating": ["a", "b", "c", "d", "e"]}, "column 'rating' holds string, not numbers"),
        ({"rating": [1.0] * 5, "user": [1.5] * 5}, "column 'user' holds double, which cannot be an id"),
    ],
)
def test_bad_data_is_told_as_in_memory(two, tmp_path, change, message):
    table = pa.table({"user": [1, 2, 3, 4, 5], "item": [1, 2, 3, 4, 5], "rating": [1.0, 2, 3, 4, 5]} | change)
    write_parquet(table, tmp_path / "r.parquet")
    with pytest.raises(DataError, match=f"r.parquet: .*{message}"):
        fastmf.fit(tmp_path / "r.parquet", solver="als", k=2, cluster=two)
    require_nothing_held(two)


def test_ratings_that_are_all_null(two, tmp_path):
    null = pa.array([None] * 4, pa.float64())
    write_parquet(pa.table({"user": [5, 6, 7, 8], "item": [1, 1, 2, 2], "rating": null}), tmp_path / "r.parquet")
    given = {"solver": "implicit", "k": 2, "epochs": 1}
    require_same(fastmf.fit(tmp_path / "r.parquet", **given), fastmf.fit(tmp_path / "r.parquet", cluster=two, **given))


@pytest.mark.parametrize("uri", [False, True])
def test_storage_that_workers_see(two, folder, tmp_path, uri):
    place = (tmp_path / "shared").as_uri() if uri else tmp_path / "shared"
    given = {"solver": "als", "k": 3, "epochs": 4}
    require_same(fastmf.fit(folder, **given), fastmf.fit(folder, cluster=two, storage=place, **given))
    assert not [path for path in (tmp_path / "shared").rglob("*") if path.is_file()]
    how = given | {"cluster": two, "storage": place, "checkpoint": tmp_path / "state"}
    fastmf.fit(folder, callback=lambda epoch: epoch.number < 2, **how)
    assert len(list((tmp_path / "state").rglob("*.safetensors"))) == 1
    require_same(fastmf.fit(folder, **given), fastmf.fit(folder, resume=True, **how))


def test_a_frame_of_dask(two, folder):
    frames = pytest.importorskip("dask.dataframe")
    frame = frames.read_parquet(str(folder / "*.parquet"))
    given = {"solver": "als", "k": 3, "epochs": 2, "duplicates": "last"}
    require_same(fastmf.fit(folder, **given), fastmf.fit(frame, cluster=two, **given))
    require_nothing_held(two)


def test_row_counts_are_weights_of_implicit_feedback(two, table, tmp_path):
    table = table.select(["user", "item"])
    write_parquet(pa.concat_tables([table, table.slice(5, 9_000)]), tmp_path / "r.parquet")
    for more in ({}, {"weight_scale": "none", "method": "exact"}):
        given = {"solver": "implicit", "k": 3, "epochs": 2, "duplicates": "sum", **more}
        require_same(
            fastmf.fit(tmp_path / "r.parquet", **given), fastmf.fit(tmp_path / "r.parquet", cluster=two, **given)
        )


def test_validation_of_implicit_feedback_from_a_file(two, table, tmp_path):
    table = table.drop_columns("weight")
    write_parquet(table.slice(0, 30_000), tmp_path / "training.parquet")
    more = pa.table({"user": [1, 2, 103], "item": [1001, 7, 5], "rating": [5.0, 5.0, 5.0]})
    write_parquet(pa.concat_tables([table.slice(30_000), more]), tmp_path / "validation.parquet")
    for least in (None, 4):
        given = {"solver": "implicit", "k": 4, "epochs": 3, "positive_from": least}
        given["validation"] = tmp_path / "validation.parquet"
        source = tmp_path / "training.parquet"
        require_same(fastmf.fit(source, **given), fastmf.fit(source, cluster=two, **given))


def test_what_is_no_parquet_is_refused(two, tmp_path, planted):
    (tmp_path / "r.csv").write_text("user,item,rating\n1,2,3\n")
    for source in (tmp_path / "r.csv", planted(n=40)):
        with pytest.raises(DataError, match="the workers of a cluster read"):
            fastmf.fit(source, solver="als", k=2, cluster=two)


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        ({"solver": "sgd"}, "solver 'sgd' does not run on a cluster: use als or implicit"),
        ({"solver": "als", "blend": True}, "blend does not go with a cluster"),
        ({"solver": "als", "min_user_ratings": 2}, "a core .* does not go with a cluster"),
        ({"solver": "als", "half_life": 3}, "half_life does not go with a cluster"),
        ({"solver": "als", "device": "numpy"}, "device numpy does not go with a cluster"),
        ({"solver": "als", "cluster": None, "storage": "s"}, "storage is for a cluster: give one with --cluster"),
        ({"solver": "als", "cluster": 3}, "cluster is 3: give a Dask client"),
        ({"solver": "als", "cluster": "local:0"}, "cluster is 'local:0': give local:N"),
    ],
    ids=str,
)
def test_what_a_cluster_cannot_do_is_refused(folder, settings, message):
    with pytest.raises(ParameterError, match=message):
        fastmf.fit(folder, **{"cluster": "tcp://127.0.0.1:1", "k": 2} | settings)


def test_no_scheduler(folder, monkeypatch):
    monkeypatch.setattr(workers, "ANSWER", 1.0)
    with pytest.raises(ResourceError, match="no scheduler answers at tcp://127"):
        fastmf.fit(folder, solver="als", cluster="tcp://127.0.0.1:1")


def test_a_scheduler_that_dies_is_told(dying, folder):
    dying.worker()

    def kill(epoch):
        dying.scheduler.kill()
        dying.scheduler.wait()

    with contextlib.closing(dying.client(1)) as client:
        address = client.scheduler.address
        with pytest.raises(
            ResourceError, match=r"the scheduler at tcp://.* is gone: start it .* goes on with --resume"
        ):
            fastmf.fit(folder, solver="als", k=4, epochs=50, cluster=address, callback=kill)


def test_two_fits_on_one_cluster_at_once(two, folder):
    found, given = {}, {"k": 4, "epochs": 3, "solver": "als"}

    def fit(seed):
        found[seed] = fastmf.fit(folder, seed=seed, cluster=two.scheduler.address, **given)

    threads = [threading.Thread(target=fit, args=(seed,)) for seed in (0, 1)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    for seed, model in found.items():
        require_same(fastmf.fit(folder, seed=seed, **given), model)


def test_a_callback_ends_a_fit_and_nothing_is_left_on_the_workers(two, folder):
    model = fastmf.fit(folder, solver="als", k=3, epochs=9, cluster=two, callback=lambda epoch: epoch.number < 2)
    assert len(model.history) == 2
    require_nothing_held(two)


@pytest.mark.parametrize("stage", ["load", 2])
def test_a_killed_worker_does_not_change_a_bit(dying, folder, stage):
    given = {"solver": "als", "k": 4, "epochs": 4, "validation": 0.1}
    killed, _ = dying.worker(), dying.worker()
    with contextlib.closing(dying.client(2)) as client:
        kill = threading.Timer(0.5, killed.kill)
        if stage == "load":
            kill.start()
        other = fastmf.fit(
            folder, cluster=client, callback=lambda epoch: killed.kill() if epoch.number == stage else None, **given
        )
        kill.join() if stage == "load" else None
    require_same(fastmf.fit(folder, **given), other)


def test_a_worker_that_joins_later_is_used(dying, folder):
    given = {"solver": "als", "k": 4, "epochs": 4}
    dying.worker()
    with contextlib.closing(dying.client(1)) as client:

        def join(epoch):
            if epoch.number == 1:
                dying.worker()
                client.wait_for_workers(2, timeout=60)
            elif epoch.number == 3:
                held = client.has_what()
                assert len(held) == 2
                assert all(held.values())

        other = fastmf.fit(folder, cluster=client, callback=join, **given)
    require_same(fastmf.fit(folder, **given), other)


def test_without_workers_a_fit_ends_and_can_be_resumed(dying, folder, monkeypatch, tmp_path):
    monkeypatch.setattr(workers, "ALONE", 1.0)
    given = {"solver": "als", "k": 4, "epochs": 5, "checkpoint": tmp_path / "state"}
    first = dying.worker()
    with contextlib.closing(dying.client(1)) as client:

        def kill(epoch):
            if epoch.number == 2:
                first.send_signal(signal.SIGKILL)
                first.wait()

        with pytest.raises(ResourceError, match=r"has had no workers for 1 s: start some .* goes on with --resume"):
            fastmf.fit(folder, cluster=client, callback=kill, **given)
        for _ in range(2):
            dying.worker()
        client.wait_for_workers(2, timeout=60)
        seen = []
        other = fastmf.fit(folder, cluster=client, resume=True, callback=lambda each: seen.append(each.number), **given)
        assert seen == [3, 4, 5]
    left = {path.name.split(".")[-1] for path in (tmp_path / "state" / "cluster").glob("factors.*")}
    assert left == {"3", "4", "5"}  # those of the last checkpoint but one stay until there is another
    given.pop("checkpoint")
    require_same(fastmf.fit(folder, **given), other)


@pytest.mark.parametrize("n", [1, 2, 3])
@pytest.mark.parametrize("solver", ["als", "implicit"])
def test_an_epoch_sends_what_the_plan_says(folder, tmp_path, n, solver):
    chosen = make(solver, k=4, epochs=2)
    planned = make_plan(folder, chosen, choice=False, weight="")
    how = {"n_workers": n, "threads_per_worker": 1, "processes": False, "dashboard_address": ":0"}
    with distributed.LocalCluster(**how) as local, workers.connected(local.scheduler_address) as found:
        fit = Fit(planned, found, Storage(str(tmp_path / "storage")))
        fit.model(None)
    expected = plan(chosen, Counted(Ratings.read(folder)), Machines(workers=n)).epoch_bytes_sent
    assert fit.remote.bytes_an_epoch() == expected
    assert fit.remote.sent[1:] == [expected]
    assert (expected > 0) == (n > 1)


@pytest.mark.skipif(os.name == "nt", reason="no SIGINT")
def test_an_interrupt_leaves_nothing(two, folder, tmp_path):
    out, place = tmp_path / "m.fastmf", tmp_path / "temporary"
    command = [sys.executable, "-m", "fastmf", "fit", str(folder), "--solver", "als", "--k", "3", "--epochs", "500"]
    pipes = {"stdout": subprocess.PIPE, "stderr": subprocess.PIPE, "text": True}
    command += ["--cluster", two.scheduler.address, "-o", str(out)]
    process = subprocess.Popen(command, **pipes, env=os.environ | {"TMPDIR": str(place)})
    for line in process.stderr:
        if line.startswith("epoch 2"):
            break
    process.send_signal(signal.SIGINT)
    _, told = process.communicate(timeout=60)
    assert process.returncode == 130, told
    assert told.splitlines()[-1] == "error: interrupted"
    require_nothing_held(two)
    assert not out.exists()
    assert not list(place.glob("fastmf-*"))


class Stuck:
    """A client whose tasks never end."""

    status, scheduler = "running", SimpleNamespace(address="tcp://s:1")

    def __init__(self, states):
        self.states = states

    def scheduler_info(self, n_workers):
        return {"workers": {address: {"status": state} for address, state in self.states.items()}}

    def as_current(self):
        return contextlib.nullcontext()


def test_workers_that_do_nothing_are_named(monkeypatch):
    def wait(futures, **how):
        raise TimeoutError

    monkeypatch.setattr(distributed, "wait", wait)
    monkeypatch.setattr(workers, "PATIENCE", 0.0)
    found = workers.Workers(Stuck({"tcp://a:1": "running", "tcp://b:2": "paused"}))
    with pytest.raises(
        ResourceError, match=r"1 task made no progress for 0 s; 1 worker not running, the first tcp://b"
    ):
        found.results([object()])


def test_the_command_line(two, folder, tmp_path, monkeypatch):
    monkeypatch.setattr(tasks, "LEAST", 1 << 15)
    out = tmp_path / "m.fastmf"
    command = [sys.executable, "-m", "fastmf", "fit", str(folder), "--solver", "als", "--k", "3", "--epochs", "2"]
    done = subprocess.run(
        [*command, "--cluster", two.scheduler.address, "-o", str(out)], capture_output=True, text=True
    )
    assert (done.returncode, done.stdout) == (0, f"{out}\n"), done.stderr
    assert "2 workers, " in done.stderr
    assert "an epoch sends" in done.stderr
    require_same(fastmf.fit(folder, solver="als", k=3, epochs=2), fastmf.load(out))
    assert Path(out).exists()
