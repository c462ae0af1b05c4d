"""Checkpoints: a run that was interrupted and resumed ends as one that was not."""

import json
import sys

import numpy as np
import pytest
import safetensors.numpy

import fastmf
from fastmf.data.arrays import load_arrays, save_arrays
from fastmf.training.checkpoint import NAME


class InterruptionError(Exception):
    pass


def interrupt_after(number):
    def callback(epoch):
        if epoch.number == number:
            raise InterruptionError

    return callback


@pytest.fixture(scope="module")
def ratings():
    rng = np.random.default_rng(5)
    chosen = np.sort(rng.choice(30 * 25, 400, replace=False))
    return fastmf.Ratings.from_arrays(chosen // 25, chosen % 25, rng.integers(1, 11, 400) / 2)


RUNS = {
    "als": {"solver": "als", "k": 4, "epochs": 6},
    "als-links": {"solver": "als-links", "k": 4, "epochs": 6},
    "implicit": {"solver": "implicit", "k": 4, "epochs": 6},
    "gibbs": {"solver": "gibbs", "k": 4, "burn": 1, "samples": 5, "kept": 3, "links": True},
    "sgd adaptive": {"solver": "sgd", "k": 4, "epochs": 6, "adaptive": True},
    "als, watched": {"solver": "als", "k": 4, "epochs": 30, "reg0": 0.1, "validation": 0.2, "patience": 2},
    "sgd": {"solver": "sgd", "k": 4, "epochs": 6},
    "sgd, watched": {"solver": "sgd", "k": 4, "epochs": 60, "lr": 0.2, "reg0": 0, "validation": 0.2, "patience": 2},
}


@pytest.mark.parametrize("run", RUNS.values(), ids=RUNS)
def test_resumed_equals_uninterrupted(ratings, tmp_path, run):
    whole, after = fastmf.fit(ratings, **run), 2
    assert len(whole.history) > after
    with pytest.raises(InterruptionError):
        fastmf.fit(ratings, **run, checkpoint=tmp_path, callback=interrupt_after(after))
    seen = []
    resumed = fastmf.fit(
        ratings, **run, checkpoint=tmp_path, resume=True, callback=lambda epoch: seen.append(epoch.number)
    )
    assert seen == list(range(after + 1, len(whole.history) + 1))
    assert resumed.content_hash == whole.content_hash
    assert resumed.best_epoch == whole.best_epoch


@pytest.mark.parametrize("every", [1, 4])
def test_a_run_that_its_callback_stopped_goes_on_with_resume(ratings, tmp_path, every):
    run = RUNS["sgd"]
    stopped = fastmf.fit(ratings, **run, checkpoint=tmp_path, every=every, callback=lambda epoch: epoch.number < 2)
    assert len(stopped.history) == 2
    resumed = fastmf.fit(ratings, **run, checkpoint=tmp_path, every=every, resume=True)
    assert resumed.content_hash == fastmf.fit(ratings, **run).content_hash


def test_stopping_early_is_remembered(ratings, tmp_path):
    run = RUNS["als, watched"]
    first = fastmf.fit(ratings, **run, checkpoint=tmp_path)
    assert len(first.history) < run["epochs"]
    seen = []
    again = fastmf.fit(ratings, **run, checkpoint=tmp_path, resume=True, callback=seen.append)
    assert seen == []
    assert again.content_hash == first.content_hash


def test_resume_begins_where_there_is_nothing(ratings, tmp_path):
    model = fastmf.fit(ratings, k=4, checkpoint=tmp_path / "new", resume=True)
    assert model.content_hash == fastmf.fit(ratings, k=4).content_hash
    assert [path.name for path in (tmp_path / "new").iterdir()] == [NAME]


def test_an_earlier_run_is_not_overwritten(ratings, tmp_path):
    fastmf.fit(ratings, k=2, epochs=1, checkpoint=tmp_path)
    before = (tmp_path / NAME).read_bytes()
    with pytest.raises(FileExistsError, match="--resume"):
        fastmf.fit(ratings, k=2, epochs=1, checkpoint=tmp_path)
    assert (tmp_path / NAME).read_bytes() == before


def test_other_settings_and_data_are_refused_and_named(ratings, tmp_path):
    fastmf.fit(ratings, k=2, epochs=2, checkpoint=tmp_path)
    for named, change in {
        "k": {"k": 3},
        "epochs": {"epochs": 9},
        "reg0": {"reg0": 1.0},
        "seed": {"seed": 1},
        "solver": {"solver": "sgd"},
        "device": {"device": "numpy"},
        "ratings": {"validation": 0.5},
        "validation": {"validation": ([99], [99], [3.0])},
    }.items():
        with pytest.raises(fastmf.ParameterError, match=f"with {named} "):
            fastmf.fit(ratings, **{"k": 2, "epochs": 2, **change}, checkpoint=tmp_path, resume=True)
    other = ratings.with_values(ratings.values + np.float32(0.5))
    with pytest.raises(fastmf.ParameterError, match="with ratings"):
        fastmf.fit(other, k=2, epochs=2, checkpoint=tmp_path, resume=True)


def test_a_damaged_checkpoint_is_refused(ratings, tmp_path):
    run, path = {"k": 2, "epochs": 2, "checkpoint": tmp_path}, tmp_path / NAME
    fastmf.fit(ratings, **run)
    whole, arrays = path.read_bytes(), safetensors.numpy.load_file(path)
    with safetensors.safe_open(path, framework="numpy") as file:
        metadata = file.metadata()
    lost = {**arrays, "now.users.factors": np.full_like(arrays["now.users.factors"], np.nan)}
    fewer = {name: array for name, array in arrays.items() if name != "now.items.bias"}
    save = safetensors.numpy.save
    for damaged in (
        whole[:-7],
        b"",
        save(lost, metadata),
        save(fewer, metadata),
        save(arrays, {"fastmf": json.dumps({})}),
    ):
        path.write_bytes(damaged)
        with pytest.raises(fastmf.ModelFormatError, match="delete it to start over"):
            fastmf.fit(ratings, **run, resume=True)


def test_arrays_of_another_shape_are_refused_even_with_a_sound_digest(ratings, tmp_path):
    run = {"k": 2, "epochs": 2, "checkpoint": tmp_path}
    fastmf.fit(ratings, **run)
    arrays, text, _ = load_arrays(tmp_path / NAME)
    for name, array in (
        ("now.items.bias", None),
        ("now.items.bias", np.zeros(3, np.float32)),
        ("now.items.bias", np.full_like(arrays["now.items.bias"], np.inf)),
    ):
        changed = {key: value for key, value in {**arrays, name: array}.items() if value is not None}
        save_arrays(changed, tmp_path / NAME, text)
        with pytest.raises(fastmf.ModelFormatError, match=f"damaged in {name}: delete it to start over"):
            fastmf.fit(ratings, **run, resume=True)


@pytest.mark.filterwarnings("ignore::RuntimeWarning")  # without the JIT, NumPy warns of the overflow
def test_a_failure_leaves_the_last_good_epoch(ratings, tmp_path):
    with pytest.raises(fastmf.DivergenceError):
        fastmf.fit(ratings, solver="sgd", k=2, lr=0.5, decay=1.0, reg0=0.0, epochs=200, checkpoint=tmp_path)
    arrays = safetensors.numpy.load_file(tmp_path / NAME)
    assert all(np.isfinite(array).all() for array in arrays.values())


LIES = {
    "best epoch beyond": lambda told: told.update(best_epoch=99),
    "best epoch a text": lambda told: told.update(best_epoch="a"),
    "a measure a text": lambda told: told["history"][0].update(validation_rmse="low"),
    "an epoch twice": lambda told: told["history"].append(told["history"][-1]),
    "more epochs than asked for": lambda told: told["history"].append({**told["history"][-1], "number": 3}),
    "another format": lambda told: told.update(format=2),
}


def test_a_checkpoint_that_lies_is_refused(ratings, tmp_path):
    run = {"k": 2, "epochs": 2, "validation": 0.2}
    fastmf.fit(ratings, **run, checkpoint=tmp_path)
    arrays, text, _ = load_arrays(tmp_path / NAME)
    for lie in LIES.values():
        told = json.loads(text)
        lie(told)
        save_arrays(arrays, tmp_path / NAME, json.dumps(told))
        with pytest.raises(fastmf.ModelFormatError, match="delete it to start over"):
            fastmf.fit(ratings, **run, checkpoint=tmp_path, resume=True)


def test_a_flipped_bit_anywhere_is_found(ratings, tmp_path):
    run = {"k": 2, "epochs": 2, "checkpoint": tmp_path}
    fastmf.fit(ratings, **run)
    whole = (tmp_path / NAME).read_bytes()
    for at in np.random.default_rng(0).integers(0, len(whole), 60):
        damaged = bytearray(whole)
        damaged[at] ^= 1 << at % 8
        (tmp_path / NAME).write_bytes(damaged)
        with pytest.raises(fastmf.ModelFormatError, match="delete it to start over"):
            fastmf.fit(ratings, **run, resume=True)


def test_an_input_is_no_place_for_checkpoints(ratings, tmp_path):
    (tmp_path / "parts").mkdir()
    for folder in (tmp_path / "parts", tmp_path / "parts" / "new"):
        with pytest.raises(FileExistsError, match="is an input, or lies in one"):
            fastmf.fit(tmp_path / "parts", checkpoint=folder)
    with pytest.raises(FileNotFoundError, match="has no name"):
        fastmf.fit(ratings, checkpoint="")


@pytest.mark.parametrize(
    ("solver", "every", "interrupted"), [("als", 3, 2), ("sgd", 3, 5), ("als", 4, 8), ("sgd", 100, 9)]
)
def test_every_so_many_epochs_are_kept_and_the_last_whole_one(ratings, tmp_path, solver, every, interrupted):
    run = {"k": 3, "epochs": 10, "solver": solver, "checkpoint": tmp_path, "every": every}
    with pytest.raises(InterruptionError):
        fastmf.fit(ratings, **run, callback=interrupt_after(interrupted))
    seen = []
    model = fastmf.fit(ratings, **run, resume=True, callback=lambda epoch: seen.append(epoch.number))
    assert seen[0] == interrupted + 1
    assert model.content_hash == fastmf.fit(ratings, k=3, epochs=10, solver=solver).content_hash
    seen.clear()
    fastmf.fit(ratings, **run, resume=True, callback=lambda epoch: seen.append(epoch.number))
    assert seen == []


def test_a_folder_that_takes_no_files_is_refused_before_anything_is_read(ratings, tmp_path, monkeypatch):
    monkeypatch.setattr(fastmf.Ratings, "read", lambda *_, **__: pytest.fail("nothing must be read"))
    (tmp_path / "file").touch()
    for folder in (tmp_path / "file", tmp_path / "file" / "below"):
        with pytest.raises(NotADirectoryError, match="file is a file: give a folder"):
            fastmf.fit("ratings.parquet", checkpoint=folder)
    if sys.platform == "linux":
        with pytest.raises(OSError, match="cannot be written to"):
            fastmf.fit("ratings.parquet", checkpoint="/proc/self/here")
    assert [path.name for path in tmp_path.iterdir()] == ["file"]
