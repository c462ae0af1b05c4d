"""The scripts in benchmarks/, run in this process where they can be; fastmf alone, so that nothing is installed."""

import importlib
import json
import os
import sys
from pathlib import Path
from types import SimpleNamespace

import click
import numpy as np
import pyarrow as pa
import pytest
from click.testing import CliRunner

import fastmf
from fastmf import Ratings
from fastmf.data.write import write_parquet
from fastmf.errors import DataError, ParameterError

BENCHMARKS = Path(__file__).parents[1] / "benchmarks"


@pytest.fixture(autouse=True)
def scripts_on_path(monkeypatch):
    monkeypatch.syspath_prepend(BENCHMARKS)


def run(script, *arguments, code=0):
    """Run a script's command in this process."""
    done = CliRunner().invoke(importlib.import_module(script).main, [str(word) for word in arguments])
    assert done.exit_code == code, (done.output, done.exception)
    return done


@pytest.fixture
def file(tmp_path):
    users, items = np.divmod(np.random.default_rng(3).permutation(20 * 30)[:300], 30)
    rows = {"user": users, "item": items, "rating": np.float32(1 + (users * items) % 9 / 2)}
    write_parquet(rows, tmp_path / "some.parquet")
    return tmp_path / "some.parquet"


@pytest.fixture
def peers():
    return importlib.import_module("peers")


@pytest.mark.parametrize(
    "script",
    [
        "accuracy",
        "cluster",
        "defaults",
        "features",
        "generated",
        "ingest",
        "lists",
        "peers",
        "plays",
        "ranking",
        "scaling",
        "serving",
        "similar",
        "spill",
        "startup",
        "topn",
    ],
)
def test_scripts_have_help(script):
    assert "benchmarks/README.md explains" in " ".join(run(script, "--help").stdout.split())


FEW_EPOCHS = ("--k", 4, "--threads", 1, "--rounds", 1, "--epochs", "fastmf-als=2", "--epochs", "fastmf-sgd=2")


def test_fastmf_alone_beside_no_peer(file, peers, tmp_path):
    alone = run("peers", "--peer", "none", "--dataset", file, *FEW_EPOCHS, "-o", tmp_path / "alone.json")
    report = json.loads((tmp_path / "alone.json").read_text())
    assert [line["name"] for line in report["summary"]] == ["fastmf-als", "fastmf-sgd"]
    assert report["data"] | {"data": "file", "ratings": 300, "training_ratings": 270} == report["data"]
    assert report["data"]["test_pairs"] + report["data"]["cold_pairs_left_out"] == 30
    for result in report["runs"]:
        assert result["epochs"] == len(result["seconds_of_epochs"]) == 2
        assert 0 < result["rmse"] < 5
        assert min(result[figure] for figure in peers.FIGURES) > 0
    assert [row.split()[0] for row in alone.stdout.splitlines()[1:3]] == ["fastmf-als", "fastmf-sgd"]


@pytest.mark.skipif(os.name == "nt", reason="makes a virtual environment out of a symbolic link")
def test_a_peer_that_fails_is_named_and_left_out(file, peers, tmp_path):
    folder = tmp_path / "venvs" / "implicit"
    (folder / "bin").mkdir(parents=True)
    (folder / "bin" / "python").symlink_to(sys.executable)
    (folder / "installed.json").write_text(json.dumps(peers.installation(peers.PEERS["implicit-cg"])))
    options = ("--dataset", file, "--venvs", tmp_path / "venvs", *FEW_EPOCHS, "-o", tmp_path / "failed.json")
    run("peers", "--peer", "implicit-cg", *options)
    failed = json.loads((tmp_path / "failed.json").read_text())
    assert (failed["summary"], failed["runs"]) == ([], [])
    assert "No module named" in failed["peers"]["implicit-cg"]["failed"]
    assert "implicit-cg FAILED, round 1: ended with status 1" in "\n".join(failed["notes"])


def test_a_peer_is_installed_again_if_its_flags_have_changed(peers, monkeypatch, tmp_path):
    ran = []
    done = SimpleNamespace(returncode=0)
    monkeypatch.setattr(peers.subprocess, "run", lambda command, **given: ran.append(given["env"]) or done)
    record = tmp_path / "libmf" / "installed.json"
    record.parent.mkdir()
    peers.environment("libmf", tmp_path)
    assert len(ran) == 2  # makes the environment, and installs
    assert "-DUSEAVX" in ran[1]["CXXFLAGS"]
    assert ran[1]["CFLAGS"] == ran[1]["CXXFLAGS"]  # one of them is read, which one depends on setuptools
    peers.environment("libmf", tmp_path)
    assert len(ran) == 2
    record.write_text(json.dumps({**json.loads(record.read_text()), "build": {"CFLAGS": "-O2"}}))
    peers.environment("libmf", tmp_path)
    assert len(ran) == 4


def test_libmf_without_its_flags_is_refused(peers, monkeypatch, tmp_path):
    built = tmp_path / "libmf.so"
    monkeypatch.setitem(sys.modules, "libmf", SimpleNamespace(mf=SimpleNamespace(compiled_src=built)))
    rows = {"users": np.int32([0, 1]), "items": np.int32([1, 0]), "ratings": np.float32([3.5, 4])}
    np.savez(tmp_path / "train.npz", **rows)
    built.write_bytes(b"mf_train")
    with pytest.raises(RuntimeError, match="without the flags of LIBMF's Makefile"):
        peers.PEERS["libmf"].load(tmp_path)
    built.write_bytes(b"mf_train GOMP_parallel")
    loaded = peers.PEERS["libmf"].load(tmp_path)
    assert (loaded.dtype, loaded.flags.c_contiguous) == (np.float32, True)
    assert loaded.tolist() == [[0, 1, 3.5], [1, 0, 4]]


def test_ratios_are_medians_of_rounds_and_above_one_where_fastmf_is_better(peers):
    def runs(name, seconds, speeds):
        others = {"version": "1", "epochs": 2, "load_seconds": None, "peak_memory_bytes": 4, "rmse": 0.9}
        for number, (second, speed) in enumerate(zip(seconds, speeds, strict=True)):
            figures = {"epoch_seconds": second, "training_seconds": second, "users_per_second": speed}
            yield {"round": number, "beside": "implicit-cg", "name": name, **figures, **others}

    line = peers.summarised(
        "implicit-cg", [*runs("implicit-cg", (2, 9, 40), (1, 1, 1)), *runs("fastmf-als", (1, 3, 10), (2, 3, 5))]
    )
    assert line["epoch_seconds"] == 9
    assert line["fastmf"]["epoch_seconds"] == 3
    assert line["ratios"] == {
        "epoch_seconds": 3, "training_seconds": 3, "load_seconds": None, "peak_memory_bytes": 1, "users_per_second": 3
    }  # fmt: skip
    assert [row[3:] for row in peers.rows_of(line)][2] == ["3x", "3x", "", "-", "1x", "3x"]


def test_mistakes_are_usage_errors(peers, file, tmp_path):
    with pytest.raises(peers.click.BadParameter, match="'libmf=1' is not NAME=N with N at least 2"):
        peers.asked_epochs(["libmf=1"])
    assert "is an input, or lies in one" in run("peers", "--dataset", file, "-o", file, code=1).stderr


@pytest.fixture
def one_thread(monkeypatch):
    """Restore the variables that scaling.py sets for its children."""
    for name in importlib.import_module("scaling").THREADS:
        monkeypatch.setenv(name, "1")


def test_scaling_measures_each_point_once(one_thread, tmp_path):
    few = ("--ratings", 2000, "--ratings", 9_000_000, "--max-ratings", 10_000, "--k", 4, "--threads", 1)
    effort = ("--epochs", 1, "--repeat", 1, "--users", 5)
    done = run("scaling", *few, *effort, "-o", tmp_path / "scaling.json")
    report = json.loads((tmp_path / "scaling.json").read_text())
    assert [point["sweep"] for point in report["points"]] == ["ratings", "k", "threads"]
    assert len({json.dumps(point["raw"]) for point in report["points"]}) == 1
    for point in report["points"]:
        assert (point["ratings"], point["k"], point["threads"], point["failed"]) == (2000, 4, 1, None)
        for figure, values in point["raw"].items():
            assert len(values) == (4 if "epoch" in figure else 1)
            assert min(values) > 0
    assert len(done.stdout.splitlines()) == 4
    assert (report["model"]["figures"], report["predictions"], report["estimates"]["points"]) == ({}, [], [])


def test_large_points_get_the_least_epochs_and_the_first_does_not_count():
    scaling = importlib.import_module("scaling")
    effort = scaling.Effort(epochs=3, repeat=1, users=1)
    epochs = [effort.epochs_at(scaling.Point(ratings, 32, 1)) for ratings in (10**6, 2 * 10**7, 10**8)]
    assert epochs == [12, 5, 3]
    assert scaling.middle("als_epoch_seconds", [9.0, 1.0, 2.0]) == 1.5
    assert scaling.middle("als_epoch_seconds", [9.0]) == 9
    assert scaling.middle("ingest_seconds", [9.0, 1.0, 2.0]) == 2
    assert scaling.middle("als_peak_bytes", [None]) is None


def test_sweeps_vary_one_thing_and_the_caches_are_filled_by_factors():
    scaling = importlib.import_module("scaling")
    values = {"ratings": [10, 20, 30_000_000], "k": [16, 32], "threads": [1, 2]}
    usual = scaling.usual_point(values)
    assert usual == (20, 32, 2)
    assert list(scaling.points_of(scaling.SWEEPS, values, usual)) == [
        *(("ratings", (n, 32, 2)) for n in values["ratings"]),
        *(("k", (20, k, 2)) for k in values["k"]),
        *(("threads", (20, 32, n)) for n in values["threads"]),
        ("caches", (10, 128, 2)),
    ]


@pytest.fixture
def growth():
    return importlib.import_module("growth")


SERIAL, START = 0.25, 2.5e8
PLANTED = {  # coefficients of one figure of each kind, by term
    "als_epoch_seconds": {
        "1": 1e-3, "ratings": 8e-9, "ratings k^2": 2e-11, "ratings k misses": 3e-11, "rows k^3": 6e-12
    },
    "als_peak_bytes": {"1": 5e6, "ratings": 36.0, "rows k": 9.0, "threads k^2": 500.0},
}  # fmt: skip


@pytest.fixture
def planted(growth):
    """Points of 1 to 100 million ratings whose figures are exactly those of PLANTED; the last one failed."""
    around = [(ratings, 32, 2) for ratings in (1, 2, 5, 10, 20, 50, 100)]
    around += [(20, k, 2) for k in (16, 32, 64, 128, 256)] + [(n, 128, 2) for n in (1, 2, 5, 10)] + [(20, 32, 1)]
    points = []
    for millions, k, threads in around:
        size = growth.Size.of_twin(millions * 1_000_000, k, threads)
        figures = {
            name: sum(value * growth.TERMS[term](size) for term, value in terms.items())
            for name, terms in PLANTED.items()
        }
        figures["als_peak_bytes"] += START
        figures["als_epoch_seconds"] *= (SERIAL + (1 - SERIAL) / threads) / (SERIAL + (1 - SERIAL) / 2)
        about = {"failed": None, "sweep": "ratings", "start_bytes": START}
        points.append(dict.fromkeys(growth.FIGURES) | size._asdict() | figures | about)
    nothing = dict.fromkeys((*growth.FIGURES, "users", "items"))
    return [*points, {**points[-1], **nothing, "k": 64, "failed": "MemoryError: "}]


def test_the_model_finds_planted_coefficients(growth, planted):
    model = growth.fitted(planted, k=32)
    assert set(model) == set(PLANTED)  # nothing else was measured
    for name, terms in PLANTED.items():
        assert model[name].coefficients == pytest.approx(terms, rel=1e-4)
        assert model[name].largest_error < 1e-6
    assert model["als_epoch_seconds"].points == 5 + 4 + 4  # those of two threads, each once
    assert model["als_epoch_seconds"].serial_share == pytest.approx(SERIAL)
    assert (model["als_peak_bytes"].serial_share, model["als_peak_bytes"].start) == (None, START)


def test_large_points_are_predicted_and_not_fitted(growth, planted):
    wrong = [{**p, "als_peak_bytes": 2 * p["als_peak_bytes"]} if p["ratings"] > 40_000_000 else p for p in planted[:-1]]
    report = growth.report_of(wrong, 32, 20_000_000)
    assert report["model"] == growth.report_of(planted, 32, 20_000_000)["model"]
    assert [round(each["ratings"] / 1e6) for each in report["predictions"]] == [50, 100]
    for found in report["predictions"]:
        assert found["figures"]["als_epoch_seconds"]["error"] == pytest.approx(0, abs=1e-6)
        assert found["figures"]["als_peak_bytes"]["error"] == pytest.approx(-0.5, abs=1e-6)


def test_a_disturbed_point_hardly_moves_the_model(growth, planted):
    point = planted[3]
    disturbed = [*planted[:3], {**point, "als_epoch_seconds": 3 * point["als_epoch_seconds"]}, *planted[4:]]
    (*_, last), (*_, usual) = (growth.report_of(p, 32, 20_000_000)["predictions"] for p in (disturbed, planted))
    figures = (each["figures"]["als_epoch_seconds"]["predicted"] for each in (last, usual))
    assert next(figures) == pytest.approx(next(figures), rel=0.03)


def test_coefficients_are_never_negative(growth):
    n = np.arange(1.0, 9.0)
    terms, values = np.stack((np.ones(8), n, n**2), axis=1), 3 * n - n**2 / 20
    found = growth.non_negative(terms / values[:, None], np.ones(8))
    assert found[2] == 0
    assert found.min() >= 0
    assert found @ terms.T == pytest.approx(values, rel=0.2)


def test_estimates_are_labelled_and_bounded(growth, planted):
    found = growth.report_of(planted, 32, 20_000_000)["estimates"]
    assert "estimate" in found["label"]
    assert found["assumptions"]
    shapes = [(round(each["ratings"] / 1e6), each["threads"]) for each in found["points"]]
    assert shapes == [(1000, 2), (100, 16), (100, 64), (1000, 16), (1000, 64)]
    seconds = [each["figures"]["als_epoch_seconds"] for each in found["points"]]
    assert seconds[2] < seconds[1]
    assert all(each["label"] == found["label"] for each in found["points"])
    for each in found["points"][1:]:
        size = growth.Size.of(each)
        least = 2 * size.ratings * (4 * size.floats + 12) / growth.BANDWIDTH
        assert least <= each["at_best"]["als_epoch_seconds"] < each["figures"]["als_epoch_seconds"]


def test_without_one_thread_nothing_is_estimated_for_more_cores(growth, planted):
    model = growth.fitted([point for point in planted if point["threads"] == 2], k=32)
    assert model["als_epoch_seconds"].serial_share is None
    alone, more, *_ = growth.estimates(model, 32, 2)["points"]
    assert alone["figures"]["als_epoch_seconds"] > 0
    assert more["figures"]["als_epoch_seconds"] is None
    assert more["figures"]["als_peak_bytes"] > 0


def test_the_table_labels_predictions_and_estimates(growth, planted):
    report = {"points": planted} | growth.report_of(planted, 32, 20_000_000)
    rows = list(importlib.import_module("scaling").rows_of(report | {"points": []}))
    assert [row[0] for row in rows] == [
        *("predicted", "error") * 2, "ESTIMATE", *("ESTIMATE", "ESTIMATE at best") * 4
    ]  # fmt: skip
    assert rows[1] == ["error", "", "", "", "-", "+0 %", "-", "-", "-", "+0 %", "-"]


def test_the_picture_is_drawn_from_a_report(growth, planted, tmp_path):
    pytest.importorskip("matplotlib")
    points = [{**point, "sweep": sweep} for point in planted for sweep in ("ratings", "k")]
    report = {"points": points} | growth.report_of(planted, 32, 20_000_000)
    (tmp_path / "report.json").write_text(json.dumps(report))
    run("scaling_plot", tmp_path / "report.json", tmp_path / "picture.png")
    assert (tmp_path / "picture.png").read_bytes().startswith(b"\x89PNG")
    run("scaling_plot", tmp_path / "report.json", tmp_path / "picture.png", code=1)


@pytest.mark.slow
def test_startup_times_every_command_first_and_later(file, tmp_path):
    told = run("startup", file, "--runs", 1, "-o", tmp_path / "startup.json")
    results = json.loads((tmp_path / "startup.json").read_text())["results"]
    assert list(results) == ["fit (als)", "fit (sgd)", "recommend", "evaluate", "--help", "warmup"]
    assert all(of["first_seconds"] > 0 and len(of["later_seconds"]) == 1 for of in results.values())
    assert all(name in told.stdout for name in results)


def test_the_defaults_are_among_the_values_tried():
    defaults = importlib.import_module("defaults")
    for solver, settings in defaults.TRIED.items():
        for setting, values in settings.items():
            assert defaults.default_of(solver, setting) in values


def test_settings_are_tried_and_put_back(file):
    defaults = importlib.import_module("defaults")
    folds = list(Ratings.read(file).folds(2))
    quick = {"k": 2, "epochs": 2}
    usual = defaults.rmse("als", quick, folds)
    assert defaults.rmse("als", {**quick, "init": 1.0}, folds) != usual
    assert defaults.rmse("als", quick, folds) == usual


def test_defaults_compares_every_value_with_the_default(monkeypatch, file, tmp_path):
    defaults = importlib.import_module("defaults")
    monkeypatch.setattr(defaults, "TRIED", {"als": {"epochs": (2, 12)}})
    monkeypatch.setattr(defaults, "splits", lambda: [("some", list(Ratings.read(file).folds(2)))])
    shown = run("defaults", "--solver", "als", "-o", tmp_path / "defaults.json").stdout
    results = json.loads((tmp_path / "defaults.json").read_text())["results"]
    assert [(each["data"], each["setting"], each["value"]) for each in results] == [
        ("some", "epochs", 2), ("some", "epochs", 12)
    ]  # fmt: skip
    assert results[0]["rmse"] != results[1]["rmse"]
    assert "12 *" in shown


def test_ingest_reads_a_layout_in_a_process_of_its_own(file, tmp_path):
    shown = run("ingest", file, "--runs", 2, "--layout", "text shuffled", "-o", tmp_path / "ingest.json").stdout
    assert [line.split()[:2] for line in shown.splitlines()[1:]] == [["text", "shuffled"]]
    report = json.loads((tmp_path / "ingest.json").read_text())
    assert report["ratings"] == 300
    for found in report["results"].values():
        assert found["best"] <= found["total"]


def test_every_layout_of_ingest_holds_the_same_ratings(file, tmp_path):
    ingest, whole = importlib.import_module("ingest"), Ratings.read(file)
    for layout in ingest.LAYOUTS:
        ingest.write(whole, layout, tmp_path / "other.parquet")
        other = Ratings.read(tmp_path / "other.parquet")
        assert np.array_equal(other.users, whole.users)
        assert np.array_equal(other.items, whole.items)
        assert np.array_equal(other.values, whole.values)


def test_topn_measures_each_device_and_k(monkeypatch, tmp_path):
    monkeypatch.setattr("fastmf.bench.machine.ARRAY", 1 << 12)  # the peak is not the question
    monkeypatch.setattr("fastmf.bench.machine.ITERATIONS", 1)
    monkeypatch.setattr("fastmf.bench.machine.SIDE", 64)
    out = tmp_path / "topn.json"
    done = run("topn", "--device", "numpy", "--k", 2, "--k", 3, "--users", 20, "--items", 15, "--runs", 2, "-o", out)
    report = json.loads(out.read_text())
    assert [(result["device"], result["k"]) for result in report["results"]] == [("numpy", 2), ("numpy", 3)]
    assert all(result["users_per_second"] > 0 and len(result["seconds"]) == 2 for result in report["results"])
    assert len(done.stdout.splitlines()) == 3


def test_serving_measures_one_user_at_a_time_and_threads(file, tmp_path):
    model, out = fastmf.fit(file, k=2, epochs=1), tmp_path / "serving.json"
    model.save(tmp_path / "m.fastmf")
    how = ("--threads", 1, "--threads", 3, "--seconds", 0.01, "--runs", 2, "-n", 4, "-o", out)
    done = run("serving", tmp_path / "m.fastmf", *how)
    results = json.loads(out.read_text())["results"]
    assert all(len(values) == 2 and min(values) > 0 for values in results.values())
    assert [name for name in results if name.startswith("users/s")] == ["users/s, threads: 1", "users/s, threads: 3"]
    assert len(done.stdout.splitlines()) == 1 + len(results) == 8
    user = model.user_ids[0]
    places, scores = importlib.import_module("serving").bare(model)(user, 4)
    items, expected = model.top(user, 4, rank_by="rating")
    np.testing.assert_array_equal(np.asarray(model.item_ids)[places], items)
    np.testing.assert_allclose(scores + model.user_bias[0] + model.mean, expected, rtol=1e-5)


def few(folder):
    """Write ratings of eight items."""
    users, items = np.divmod(np.arange(80), 8)
    write_parquet({"user": users, "item": items, "rating": np.float32(items % 5)}, folder / "few.parquet")
    return folder / "few.parquet"


def test_similar_measures_neighbours_beside_cosines_and_controls(file, tmp_path):
    titles = {"item": range(30), "title": [f"Film {n}" for n in range(30)], "genres": ["A|B", "B", "C"] * 10}
    write_parquet(titles, tmp_path / "movies.parquet")
    out, chosen = tmp_path / "similar.json", ("--solver", "als", "--solver", "implicit", "--positive-from", 1)
    how = ("--seed", 0, "--queries", 5, "--half-known", 5, "--show", "Film 7", "-o", out)
    done = run("similar", file, tmp_path / "movies.parquet", *chosen, *how)
    results = json.loads(out.read_text())["results"]
    names = ["cosine", "similar", "most rated", "random", "similar, 5"]
    pairs = [(solver, measure) for solver in ("als", "implicit") for measure in names]
    assert [(each["solver"], each["measure"]) for each in results] == pairs
    for each in results:
        assert -1 <= each["co_rating"] <= 1
        assert 0 <= min(each["agreement"], each["genre"]) <= max(each["agreement"], each["genre"]) <= 1
        assert 10 <= each["distinct"] <= each["distinct_of_all"] <= 30
    assert max(results[:5], key=lambda each: each["count"])["measure"] == "most rated"
    (lists,) = results[0]["lists"].values()
    found = fastmf.fit(file, solver="als").similar_items(7)
    pairs = zip(found["similar_item_id"], found["count"], strict=True)
    assert lists["similar"] == [{"title": f"Film {item}", "count": count} for item, count in pairs]
    assert "als, Film 7, similar:" in done.stdout
    assert "give a whole title" in run("similar", file, tmp_path / "movies.parquet", "--show", "Film", code=1).stderr
    assert "fewer than 10 neighbours" in run("similar", few(tmp_path), "--solver", "als", code=1).stderr


def test_what_held_out_users_say_is_what_numpy_says(file):
    similar, ratings = importlib.import_module("similar"), Ratings.read(file)
    users = np.arange(5, 20)
    held = similar.held_of(ratings, users)
    rated = np.zeros((20, 30), bool)
    rated[ratings.users, ratings.items] = True
    np.testing.assert_array_equal(held.rated, rated[users])
    pairs = (3, 8), (4, 9)
    said = similar.said_of(held, np.array([3, 4]), np.array([[8], [9]]))
    correlations = [np.corrcoef(rated[users, a], rated[users, b])[0, 1] for a, b in pairs]
    assert said["co_rating"] == pytest.approx(np.mean(correlations), abs=1e-5)
    shrunk = []
    for a, b in pairs:
        rows = np.flatnonzero(rated[users, a] & rated[users, b])
        one, two = held.errors[rows, a], held.errors[rows, b]
        shrunk.append(one @ two / np.sqrt((one @ one) * (two @ two)) * len(rows) / (len(rows) + 10))
    assert said["ratings"] == pytest.approx(np.mean(shrunk), abs=1e-5)


@pytest.fixture
def accuracy():
    return importlib.import_module("accuracy")


@pytest.fixture
def timed(tmp_path):
    """Shuffled rows with text for ids, users of 1 to 12 ratings, many at the same time."""
    rng = np.random.default_rng(5)
    users = np.repeat(np.arange(12), np.arange(1, 13))
    items = np.concatenate([rng.permutation(15)[:n] for n in range(1, 13)])
    order = rng.permutation(len(users))
    rows = {
        "user": [f"u{n}" for n in users[order]],
        "item": [f"i{n}" for n in items[order]],
        "rating": np.float32(rng.integers(1, 6, len(users))),
        "timestamp": rng.integers(0, 6, len(users)),
    }
    write_parquet(rows, tmp_path / "timed.parquet")
    return tmp_path / "timed.parquet", rows


def pairs_of(ratings):
    """Return (user id, item id, rating) of every pair."""
    users, items = (ids.take(pa.array(indices)).to_pylist() for ids, indices in (
        (ratings.user_ids, ratings.users), (ratings.item_ids, ratings.items)
    ))  # fmt: skip
    return set(zip(users, items, ratings.values.tolist(), strict=True))


def pairs_in(rows, chosen):
    return {(rows["user"][n], rows["item"][n], float(rows["rating"][n])) for n in chosen}


def splits_of(accuracy, protocol, path, folds=5, seeds=(0,), hold_out=0.2):
    data, _ = accuracy.read(str(path), {}, required=True)
    return list(accuracy.PROTOCOLS[protocol](data, accuracy.How(folds, seeds, hold_out)))


def test_folds_by_row_hold_out_the_rows_of_the_file(accuracy, timed):
    path, rows = timed
    for folds in (2, 5):
        for split in splits_of(accuracy, "modulo", path, folds):
            assert pairs_of(split.test) == pairs_in(rows, range(split.fold, len(rows["user"]), folds))


def test_rows_are_counted_through_all_files_of_a_folder(accuracy, timed, tmp_path):
    _, rows = timed
    (tmp_path / "parts").mkdir()
    for name, part in (("a", slice(0, 31)), ("b", slice(31, None))):
        write_parquet({key: column[part] for key, column in rows.items()}, tmp_path / f"parts/{name}.parquet")
    for split in splits_of(accuracy, "modulo", tmp_path / "parts", 3):
        assert pairs_of(split.test) == pairs_in(rows, range(split.fold, len(rows["user"]), 3))


@pytest.mark.parametrize("hold_out", [0.2, 0.5, 0.95])
@pytest.mark.parametrize("kind", ["int64", "date", "text"])
def test_the_latest_of_each_user_are_held_out(accuracy, timed, hold_out, kind):
    path, rows = timed
    times = {"int64": rows["timestamp"], "text": [str(n) for n in rows["timestamp"]]}
    times["date"] = pa.array(rows["timestamp"].astype(np.int32)).cast(pa.date32())
    write_parquet({**rows, "timestamp": times[kind]}, path, overwrite=True)
    latest = []
    for user in set(rows["user"]):
        own = sorted((time, n) for n, time in enumerate(rows["timestamp"].tolist()) if rows["user"][n] == user)
        n_held_out = min(round(len(own) * hold_out), len(own) - 1)
        latest += [n for _, n in own[len(own) - n_held_out :]]
    (split,) = splits_of(accuracy, "temporal", path, hold_out=hold_out)
    assert pairs_of(split.test) == pairs_in(rows, latest)
    assert split.train.user_counts.min() >= 1


@pytest.mark.parametrize("protocol", ["random", "modulo", "temporal"])
def test_nothing_held_out_is_trained_on_and_nothing_is_lost(accuracy, timed, protocol):
    path, rows = timed
    everything = pairs_in(rows, range(len(rows["user"])))
    splits = splits_of(accuracy, protocol, path, folds=4, seeds=(0, 7))
    for split in splits:
        assert pairs_of(split.train) | pairs_of(split.test) == everything
        assert len(split.train) + len(split.test) == len(everything)
        assert (split.train.n_users, split.train.n_items) == (split.test.n_users, split.test.n_items)
    for seed in {split.seed for split in splits} if protocol != "temporal" else ():
        held_out = [pairs_of(split.test) for split in splits if split.seed == seed]
        assert set.union(*held_out) == everything
        assert sum(map(len, held_out)) == len(everything)
    assert {split.seed for split in splits} == ({0, 7} if protocol == "random" else {None})


def test_nothing_to_hold_out_is_said(accuracy, timed):
    with pytest.raises(ParameterError, match="79 folds of 78 ratings"):
        splits_of(accuracy, "modulo", timed[0], folds=79)
    with pytest.raises(ParameterError, match="hold out more"):
        splits_of(accuracy, "temporal", timed[0], hold_out=0.01)


def test_biases_alone_are_those_of_a_plain_loop(accuracy, timed):
    train, test = Ratings.read(timed[0]).split(0.3, seed=1)
    mean, scale = train.values.mean(dtype=np.float64), train.values.std(dtype=np.float64)
    users, items = [0.0] * train.n_users, [0.0] * train.n_items
    rows = [*zip(train.users.tolist(), train.items.tolist(), ((train.values - mean) / scale).tolist(), strict=True)]
    for _ in range(300):
        for u in range(train.n_users):
            left = [r - items[i] for user, i, r in rows if user == u]
            users[u] = sum(left) / (len(left) + 3)
        for i in range(train.n_items):
            left = [r - users[u] for u, item, r in rows if item == i]
            items[i] = sum(left) / (len(left) + 3)
    model = accuracy.fit_biases(train)
    np.testing.assert_allclose(model.user_bias, np.array(users) * scale, atol=1e-4)
    np.testing.assert_allclose(model.item_bias, np.array(items) * scale, atol=1e-4)
    guess = [mean + scale * (users[u] + items[i]) for u, i in zip(test.users, test.items, strict=True)]
    error = np.clip(guess, train.values.min(), train.values.max()) - test.values
    assert fastmf.evaluate(model, test)["rmse"] == pytest.approx(np.sqrt(np.mean(error**2)), abs=1e-4)
    error = mean - test.values
    assert fastmf.evaluate(accuracy.fit_mean(train), test)["rmse"] == pytest.approx(np.sqrt(np.mean(error**2)))


FEW = ("--k", 2, "--folds", 2, "--set", "als.epochs=1", "--set", "sgd.epochs=1", "--set", "sgd.schedule=hogwild")


def test_accuracy_shows_what_it_reports(timed, tmp_path):
    names = ["als", "sgd", "biases", "mean"]
    chosen = [word for name in names for word in ("--solver", name)]
    shown = run("accuracy", timed[0], *FEW, *chosen, "--seed", 0, "--seed", 1, "-o", tmp_path / "out.json")
    report = json.loads((tmp_path / "out.json").read_text())
    assert report["data"] | {"dataset": "timed.parquet", "data": "file", "ratings": 78} == report["data"]
    assert report["solvers"]["als"] | {"k": 2, "epochs": 1, "reg0": 8.0} == report["solvers"]["als"]
    assert report["solvers"]["sgd"] | {"k": 2, "epochs": 1, "schedule": "hogwild"} == report["solvers"]["sgd"]
    assert list(report["protocols"]) == ["random", "modulo", "temporal"]
    assert [run["solver"] for run in report["runs"]] == names * (4 + 2 + 1)  # in turn, fold by fold
    lines = shown.stdout.splitlines()[1:13]
    for line, row in zip(report["summary"], lines, strict=True):
        own, als = (
            [r["measures"]["rmse"] for r in report["runs"] if (r["protocol"], r["solver"]) == (line["protocol"], name)]
            for name in (line["solver"], "als")
        )
        assert row.split()[:3] == [line["protocol"], line["solver"], str(len(own))]
        figures = f"{np.mean(own):.4f}" + (f" ± {np.std(own, ddof=1):.4f}" if len(own) > 1 else " ")
        assert figures in row
        assert line["rmse"]["mean"] == pytest.approx(np.mean(own))
        if line["solver"] != "als":
            apart = np.subtract(own, als)
            assert line["rmse_minus_als"]["mean"] == pytest.approx(np.mean(apart))
            assert f"{np.mean(apart):+.4f}" + (f" ± {np.std(apart, ddof=1):.4f}" if len(own) > 1 else "") in row
    assert len(shown.stderr.splitlines()) == len(report["runs"])  # in the order of the runs, one line each


def test_without_timestamps_the_temporal_split_is_left_out_or_refused(accuracy, file, timed):
    shown = run("accuracy", file, *FEW, "--solver", "als", "--solver", "sgd").stdout
    assert [line.split()[0] for line in shown.splitlines()[1:5]] == ["random", "random", "modulo", "modulo"]
    assert "temporal is left out: some.parquet has no column for the timestamps" in shown
    refused = run("accuracy", file, "--solver", "mean", "--protocol", "temporal", code=1).stderr
    assert "has no column for the timestamps" in refused
    assert "--timestamp COLUMN" in refused
    path, rows = timed
    write_parquet({**rows, "timestamp": [None, *rows["timestamp"][1:].tolist()]}, path, overwrite=True)
    with pytest.raises(DataError, match="1 of 78 timestamps are null"):
        accuracy.read(str(path), {}, required=True)


def test_settings_are_chosen_on_a_split_like_the_one_that_is_measured(accuracy, timed):
    ranking = importlib.import_module("ranking")
    data, _ = accuracy.read(str(timed[0]), {}, required=True)
    when = dict(zip(zip(data.ratings.users, data.ratings.items, strict=True), data.times, strict=True))
    left = len(data.ratings)
    for job in ranking.jobs(data, "temporal", 0):
        left -= len(job.test)
        assert 0 < len(job.test) < left == len(job.train)
        for user in set(job.test.users):
            trained, tested = (
                [when[user, item] for item in part.items[part.users == user]] for part in (job.train, job.test)
            )
            assert max(trained) < min(tested)
    whole, part = ranking.jobs(data, "random", 0)
    assert len(part.train) + len(part.test) == len(whole.train) == len(part.seen.indices) + len(part.test)


def test_lists_leave_out_everything_rated_in_training(accuracy, file):
    ranking = importlib.import_module("ranking")
    data, _ = accuracy.read(str(file), {}, required=False)
    job, _ = ranking.jobs(data, "random", 3.0)
    users = np.flatnonzero((job.test.user_counts > 0) & (job.train.user_counts > 0))
    for (lists, seconds), epochs in (
        (ranking.by_fastmf(job, users, 4, 2, 1, ranking.USUAL["fastmf"]), 2),
        (ranking.by_ease(job, users, ranking.USUAL["ease"]), 1),
    ):
        assert (lists.shape, len(seconds["epoch_seconds"])) == ((len(users), ranking.N), epochs)
        for user, found in zip(users, lists, strict=True):
            seen = job.seen.indices[job.seen.indptr[user] : job.seen.indptr[user + 1]]
            assert len(seen) > np.count_nonzero(job.train.users == user)  # some are rated badly, and not trained on
            assert not np.isin(found, seen).any()
        measures = ranking.measured(job, ranking.in_order(lists), users)
        assert 0 < measures["ndcg"] < 1
        assert 0 < measures["reach"] <= 1


def test_ease_is_its_published_solution(accuracy, file):
    ranking = importlib.import_module("ranking")
    data, _ = accuracy.read(str(file), {}, required=False)
    job, _ = ranking.jobs(data, "random", 0)
    x = np.zeros((job.train.n_users, job.train.n_items))
    x[job.train.users, job.train.items] = 1
    warm = job.train.item_counts > 0
    inverse = np.linalg.inv(x[:, warm].T @ x[:, warm] + 5 * np.eye(warm.sum()))
    weights = np.eye(warm.sum()) - inverse / np.diag(inverse)  # the paper's equation 8
    scores = np.full(x.shape, -np.inf)
    scores[:, warm] = x[:, warm] @ weights
    scores[np.repeat(np.arange(len(x)), np.diff(job.seen.indptr)), job.seen.indices] = -np.inf
    users = np.arange(len(x))
    lists, _ = ranking.by_ease(job, users, {"reg": 5})
    found, best = (np.take_along_axis(scores, each, 1) for each in (lists, np.argsort(-scores, axis=1)[:, : ranking.N]))
    np.testing.assert_allclose(found, best, atol=1e-5)


def test_settings_are_of_a_solver_that_runs(accuracy):
    assert accuracy.settings_given(["als.reg=0.5", "sgd.loss=absolute", "als.biases=false"]) == {
        "als": {"reg": 0.5, "biases": False}, "sgd": {"loss": "absolute"}
    }  # fmt: skip
    for text in ("als.reg", "reg=1", "mean.reg=1", "other.reg=1"):
        with pytest.raises(accuracy.click.BadParameter, match=r"is not SOLVER\.SETTING=VALUE"):
            accuracy.settings_given([text])
    with pytest.raises(accuracy.click.BadParameter, match="als, which is not run"):
        accuracy.trainers_of(["sgd"], None, {"als": {"reg": 0.5}}, None)
    assert set(accuracy.VARIANTS) == {*fastmf.solvers.SOLVERS, "gibbs-links"} - {"implicit"}


def test_generated_sets_are_what_they_are_called(tmp_path):
    done = run("generated", tmp_path / "sets")
    paths = [Path(line) for line in done.stdout.split()]
    assert len(paths) == 4
    for path in paths:
        ratings = Ratings.read(path)
        assert len(ratings) in (20_000, 40_000)
    once, tens, hundreds, noise = (Ratings.read(path) for path in paths)
    assert once.user_counts.max() == 1
    assert (tens.values.min(), tens.values.max(), hundreds.values.max()) == (-10, 10, 100)
    assert set(noise.values) <= {1, 2, 3, 4, 5}


def test_plays_and_purchases_are_what_the_readme_says(tmp_path):
    paths = [Path(line) for line in run("plays", tmp_path / "sets").stdout.split()]
    assert [path.stem for path in paths] == ["plays", "purchases", "watched"]
    plays, purchases, watched = (Ratings.read(path, rating="") for path in paths)  # repeated pairs would be an error
    assert (len(plays), plays.n_users, plays.n_items) == (68_991, 2_000, 12_388)
    assert [np.median(each.user_counts) for each in (plays, purchases, watched)] == [29, 1, 50]
    assert [round(len(each) / (each.n_users * each.n_items), 4) for each in (purchases, watched)] == [0.0015, 0.0316]
    counts = Ratings.read(paths[0], rating="plays").values
    assert counts.min() == 1
    assert counts.max() > 100 * np.median(counts)


def test_side_features_beside_none(file, tmp_path):
    output = tmp_path / "features.json"
    given = "--k", 2, "--epochs", 2, "--noise", 2, "--tags", 5, "--seed", 0
    done = run("features", file, *given, *("--protocol", "items", "--protocol", "users-1"), "-o", output)
    report = json.loads(output.read_text())
    assert report["n_features"] == 7
    assert [len(result["runs"]) for result in report["results"]] == [1, 1]
    assert [line.split()[:2] for line in done.stdout.splitlines()[1:3]] == [["items", "als"], ["users-1", "als"]]
    for result in report["results"]:
        assert all(0 < each["rmse"] < 5 and each["seconds"] > 0 for pair in result["runs"] for each in pair.values())


def test_lists_of_all_solvers_are_measured_in_both_orders(file, tmp_path):
    output = tmp_path / "lists.json"
    given = "--split", "random", "--k", 2, "--seed", 0, "--solver", "als", "--solver", "implicit"
    done = run("lists", file, *given, "--relevant-from", 3, "-o", output)
    runs = json.loads(output.read_text())["runs"]
    assert [line["by"] for line in runs] == ["popularity", "choice", "rating", "score"]
    for line in runs:
        assert all(0 <= line[name] <= 1 for name in ("ndcg", "rare", "reach"))
        assert 0 < line["common"] <= 10
    assert runs[1]["ndcg"] != runs[2]["ndcg"]
    assert [line.split()[:3] for line in done.stdout.splitlines()[1:3]] == [
        ["random", "-", "popularity"], ["random", "als", "choice"]
    ]  # fmt: skip


def test_a_picture_that_cannot_be_written_loses_no_table(monkeypatch, tmp_path):
    pytest.importorskip("matplotlib")
    common = importlib.import_module("common")

    def full(self, path, overwrite):
        raise OSError("No space left on device")

    monkeypatch.setattr("fastmf.reporting.draw.Picture.save", full)
    main = click.command()(common.reporting("some.py")(lambda: ({}, ("set", "seconds"), [("plays", 1.5)])))
    done = CliRunner().invoke(main, ["--plot", str(tmp_path / "a.svg")])
    assert done.exit_code == 1
    assert "plays" in done.output
    assert "No space left" in done.output
