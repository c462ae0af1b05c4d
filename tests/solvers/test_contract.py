"""What every solver must do. A solver in SOLVERS is tested here unasked, with each of its modes."""

import json
import os
import subprocess
import sys
from dataclasses import FrozenInstanceError, fields
from functools import cached_property
from itertools import product

import numpy as np
import pandas as pd
import pytest

import fastmf
from fastmf import ParameterError, Ratings
from fastmf.kernels.compile import ENABLED
from fastmf.model.fold_in_rule import FoldInRule
from fastmf.runtime.device import CudaDevice, Device
from fastmf.solvers import SOLVERS, make
from fastmf.solvers.base import Solver, draw, zeros
from fastmf.solvers.declare import setting, settings_of, with_settings
from fastmf.solvers.factors import Factors
from fastmf.solvers.settings import Biases

# Settings that get far in a few epochs on a few hundred ratings.
QUICK = {"k": 3, "epochs": 6, "reg0": 0.5, "bias_reg": 1.0}
QUICK_OF = {"sgd": {"lr": 0.2}, "gibbs": {"burn": 2, "samples": 4, "kept": 2}}

# Besides each solver's defaults and each of its modes.
MORE = [
    ("als", {"momentum": 0.0}),
    ("sgd", {"bins": 1}),
    ("implicit", {"positive_from": 5.0}),
    ("implicit", {"positive_from": 4.0, "negative_to": 2.0}),
    *((name, {"weight": "rating"} | ({"lr": 0.05} if name == "sgd" else {})) for name in SOLVERS),
]


def modes(name):
    """Yield the settings of a solver's modes: its defaults, and each switch and choice that differs from them."""
    yield {}
    for each in settings_of(SOLVERS[name]).values():
        others = [not each.default] if each.kind is bool else [c for c in each.choices if c != each.default]
        yield from ({each.name: other} for other in others)


MODES = [(name, settings) for name in SOLVERS for settings in modes(name)] + MORE


def named(mode):
    return " ".join([mode[0], *(f"{name}={value}" for name, value in mode[1].items())])


class Subject:
    """A solver in one of its modes, and the ratings to try it on."""

    def __init__(self, rows, name, settings):
        self.rows, self.name, self.settings = rows, name, settings

    def fit(self, rows=None, **more):
        known = {field.name for field in fields(SOLVERS[self.name])}
        quick = {setting: value for setting, value in QUICK.items() if setting in known}
        given = {"threads": 1, **quick, **QUICK_OF.get(self.name, {}), **self.settings, **more}
        return fastmf.fit(self.rows if rows is None else rows, solver=self.name, **given)

    @cached_property
    def model(self):
        return self.fit()


@pytest.fixture(scope="module", params=MODES, ids=named)
def subject(request, rows):
    return Subject(rows, *request.param)


def check_a_fit_is_finite_and_better_than_the_mean_and_predicts(subject):
    model, values = subject.model, subject.rows[2]
    assert [epoch.number for epoch in model.history] == [1, 2, 3, 4, 5, 6]
    assert model.user_factors.shape == (30, 3)
    assert model.item_factors.shape == (20, 3)
    for array in (*model.user_side, *model.item_side):
        assert array.dtype == np.float32
        assert np.isfinite(array).all()
    mean, scale = (0, 1) if model.implicit else (values.mean(), values.std())
    assert (model.mean, model.scale) == pytest.approx((mean, scale), rel=1e-6)
    assert model.history[-1].train_rmse < 0.95 * scale
    assert model.best_epoch is None
    for bias in (model.user_bias, model.item_bias):
        assert bias.any() == model.solver.get("biases", False)
    users, items, _ = subject.rows  # predictions are the formula, clipped
    u, i = np.searchsorted(np.unique(users), users), np.searchsorted(np.unique(items), items)
    exact = model.mean + model.user_bias[u] + model.item_bias[i]
    exact = exact + np.sum(model.user_factors[u] * model.item_factors[i], axis=1)
    found = model.predict(users, items)["prediction"]
    np.testing.assert_allclose(found, np.clip(exact, *model.rating_range), rtol=1e-4, atol=1e-4)


def check_lists_are_unseen_or_other_rows_in_order(subject):
    model, (users, items, _) = subject.model, subject.rows
    lists = model.recommend(n=4)
    assert set(zip(lists["user_id"], lists["item_id"], strict=True)).isdisjoint(zip(users, items, strict=True))
    assert lists.groupby("user_id")["score"].is_monotonic_decreasing.all()
    assert set(lists["rank"]) == {1, 2, 3, 4}
    for similar, columns in (
        (model.similar_items(1000, n=5), ["item_id", "similar_item_id"]),
        (model.similar_users(100, n=5), ["user_id", "similar_user_id"]),
    ):
        assert list(similar.columns) == [*columns, "score", "rank", "count"]
        assert len(similar) == 5
        assert np.all(similar[columns[0]] != similar[columns[1]])
        assert similar["score"].is_monotonic_decreasing
        assert similar["score"].abs().max() <= 1


def check_fold_in_of_the_training_ratings_predicts_them_as_well(subject):
    model, rows = subject.model, subject.rows
    folded = model.fold_in(rows)
    assert folded.item_factors is model.item_factors
    if model.implicit:
        exact = model.solver["method"] == "exact"
        np.testing.assert_allclose(folded.user_factors, model.user_factors, atol=1e-5 if exact else 0.1)
        return
    before, after = (fastmf.evaluate(each, rows)["rmse"] for each in (model, folded))
    assert after < 1.2 * before
    assert folded.user_bias.any() == model.solver["biases"]


def check_a_saved_model_and_its_settings_come_back(subject, folder):
    model = subject.model
    model.save(folder / "a.fastmf")
    loaded = fastmf.load(folder / "a.fastmf")
    assert loaded.content_hash == model.content_hash
    assert loaded.solver == model.solver
    pd.testing.assert_frame_equal(loaded.recommend(n=3), model.recommend(n=3))
    settings = {name: value for name, value in loaded.solver.items() if name != "name"}
    solver = make(loaded.solver["name"], **settings)
    assert solver.settings == settings
    assert (solver.name, solver.k, solver.epochs) == (subject.name, 3, 6)


def check_the_seed_decides_everything_random_and_the_order_of_rows_nothing(subject):
    order = np.random.default_rng(5).permutation(len(subject.rows[0]))
    shuffled = tuple(column[order] for column in subject.rows)
    assert subject.fit(seed=0).content_hash == subject.model.content_hash
    assert subject.fit(shuffled).content_hash == subject.model.content_hash
    assert subject.fit(seed=2**63 - 1).content_hash != subject.model.content_hash


def check_the_definitions_agree(subject):
    model, plain = subject.model, subject.fit(device="numpy")
    assert plain.history[-1].train_rmse == pytest.approx(model.history[-1].train_rmse, rel=1e-4)
    for found, expected in zip((*model.user_side, *model.item_side), (*plain.user_side, *plain.item_side), strict=True):
        np.testing.assert_allclose(found, expected, rtol=2e-3, atol=2e-3)


def check_cold_rows_stay_zero_and_out_of_sight(subject):
    ratings = Ratings.read(subject.rows, weight=subject.settings.get("weight"))
    training, _ = ratings.split(0.75, seed=0)
    models = [subject.fit(training, device=device) for device in ("cpu", "numpy")]
    if models[0].implicit:
        training = training.observed(models[0].solver["positive_from"])
    users, items = training.user_counts == 0, training.item_counts == 0
    assert users.any()
    assert items.any()
    for model, (cold, side) in product(models, ((users, "user_side"), (items, "item_side"))):
        assert not getattr(model, side).factors[cold].any()
        assert not getattr(model, side).bias[cold].any()
        assert getattr(model, side).factors[~cold].any(axis=1).all()
    model, cold_users, cold_items = models[0], np.array(ratings.user_ids)[users], np.array(ratings.item_ids)[items]
    assert not model.recommend(n=50)["item_id"].isin(cold_items).any()
    assert not model.similar_items(np.array(model.item_ids), n=50)["similar_item_id"].isin(cold_items).any()
    assert not model.similar_users(np.array(model.user_ids), n=50)["similar_user_id"].isin(cold_users).any()


CHECKS = {name: check for name, check in globals().items() if name.startswith("check_")}


def run(check, subject, folder):
    """Run a check; some need a folder."""
    check(subject, folder) if check.__code__.co_argcount == 2 else check(subject)


@pytest.mark.parametrize("check", CHECKS)
def test_every_mode(check, subject, tmp_path):
    run(CHECKS[check], subject, tmp_path)


# what does not depend on the mode


@pytest.mark.parametrize("name", SOLVERS)
@pytest.mark.filterwarnings("ignore:column .rating. has .* ratings of 0 or below")
def test_the_defaults_serve_every_scale(name, rows):
    users, items, values = rows
    stars = np.clip(np.round(values * 2) / 2, 0.5, 5)
    scales = ((0.5, 5), (1, 10), (-10, 10), (0, 100))
    scaled = [low + (stars - 0.5) * (high - low) / 4.5 for low, high in scales]
    # k is 4 for speed without the JIT; all else is the default
    models = [fastmf.fit((users, items, each), k=4, solver=name, threads=1) for each in scaled]
    expected, *found = (model.predict(users, items) for model in models)
    for (low, high), each in zip(scales[1:], found, strict=True):
        if models[0].implicit:
            assert each.equals(expected)
            continue
        image = low + (expected["prediction"] - 0.5) * (high - low) / 4.5
        np.testing.assert_allclose(each["prediction"], image, atol=1e-3 * (high - low), rtol=0)


@pytest.mark.parametrize("name", SOLVERS)
def test_solvers_are_frozen_keyword_only_and_say_what_they_are(name):
    solvers_say_what_they_are(name)


def solvers_say_what_they_are(name):
    solver = make(name, k=2)
    assert isinstance(solver, Solver)
    assert solver == SOLVERS[name](k=2)
    with pytest.raises(FrozenInstanceError):
        solver.k = 3
    with pytest.raises(TypeError):
        SOLVERS[name](2)
    assert "{" not in solver.advise()
    assert any(word in solver.advise() for word in settings_of(SOLVERS[name]))
    assert set(solver.settings) == set(settings_of(SOLVERS[name]))
    assert all(f"    {each.name} : " in SOLVERS[name].__doc__ for each in settings_of(SOLVERS[name]).values())
    assert solver.with_epochs(2).epochs == 2
    for settings in modes(name):
        less, more = (make(name, k=k, **settings) for k in (2, 200))
        assert more.bytes_per_row > less.bytes_per_row >= 16
        assert more.bytes_per_thread >= less.bytes_per_thread >= 0
        assert more.operations(1000, 10) > less.operations(1000, 10) > 0
        assert more.traffic(1000) > less.traffic(1000) > 0
    assert all(make(name, **settings).name == name for settings in solver.variants.values())


@pytest.mark.parametrize("name", SOLVERS)
def test_settings_given_as_numpy_numbers_are_plain_data(name, rows, tmp_path):
    numbers = {int: np.int16, float: np.float32, bool: bool, str: str}
    found = settings_of(SOLVERS[name]).values()
    given = {each.name: numbers[each.kind](each.default) for each in found if each.default is not None}
    given |= {"k": np.int64(2), "seed": np.uint8(1)}
    solver = make(name, **given).with_epochs(np.int32(2))
    model = fastmf.fit(rows, solver=solver)
    model.save(tmp_path / "a.fastmf")
    assert fastmf.load(tmp_path / "a.fastmf").solver == model.solver
    plain = fastmf.fit(rows, solver=make(name, **solver.settings))
    assert plain.solver == model.solver
    assert plain.content_hash == model.content_hash


THREADS = """
import hashlib, json, sys, warnings
import numpy as np
import fastmf

warnings.simplefilter("error")
warnings.filterwarnings("ignore", "only .* possible factors are in use")  # there is nothing to find
rng = np.random.default_rng(0)
users, items = np.divmod(rng.permutation(400 * 300)[:20_000], 300)
rows = users, items, np.round(1 + 4 * rng.random(20_000))
for name, settings in json.loads(sys.argv[1]):
    solver = fastmf.solvers.make(name, k=24, **settings).with_epochs(4)
    ratings = fastmf.Ratings.read(rows)
    hashes = [fastmf.fit(ratings, solver=solver, threads=n).content_hash for n in (1, 2, 3, 4, 16)]
    assert len(set(hashes)) == 1, (name, settings, hashes)
print("same")
"""


@pytest.mark.skipif(not ENABLED, reason="needs many ratings, and so the JIT")
def test_the_same_bits_for_1_2_3_4_and_16_threads():
    deterministic = [(n, s) for n, s in MODES if s.get("schedule") != "hogwild" and "weight" not in s]
    environment = os.environ | {"NUMBA_NUM_THREADS": "16"}
    command = [sys.executable, "-c", "import fastmf.solvers\n" + THREADS, json.dumps(deterministic)]
    done = subprocess.run(command, env=environment, capture_output=True, text=True, check=False)
    assert done.stdout == "same\n", done.stderr


def test_a_device_made_by_hand_works(rows):
    subject = Subject(rows, "als", {})
    assert subject.fit(device=Device(name="cpu", threads=2)).content_hash == subject.model.content_hash


# a solver is one file, and one line in SOLVERS


@with_settings
class DenseALS(Biases, Solver):
    """Alternating ridge regressions of a dense matrix, in a few lines of NumPy."""

    name = "dense"
    remedy = "raise shrink (it is {shrink:g})"
    on_gpu = False
    tuned = ("shrink",)

    epochs: int = setting("Passes over the matrix.", default=3, low=1)
    shrink: float = setting("Weight of the squared factors.", default=2.0, low=0, above=True)

    def start(self, ratings):
        items = draw(ratings.item_counts, self.k, 0.1, np.random.default_rng(self.seed))
        return Factors(zeros(ratings.n_users, self.k), items)

    def run(self, ratings, factors, device, done=0):
        (x, b), (y, c) = factors.users, factors.items
        sides = (ratings.by_user, x, b, y, c), (ratings.by_item, y, c, x, b)
        for _ in range(done, self.epochs):
            for entries, own, bias, other, other_bias in sides:
                for row in np.flatnonzero(np.diff(entries.indptr)):
                    rated = slice(entries.indptr[row], entries.indptr[row + 1])
                    columns = entries.indices[rated]
                    design = np.column_stack([other[columns], np.full(len(columns), np.float32(self.biases))])
                    left = design.T @ design + self.shrink * np.eye(self.k + 1)
                    found = np.linalg.solve(left, design.T @ (entries.values[rated] - other_bias[columns]))
                    own[row], bias[row] = found[:-1], found[-1]
            yield 0

    def user_rule(self, ratings):
        return FoldInRule(reg0=self.shrink, bias_reg=self.shrink if self.biases else None)

    item_rule = user_rule


def test_a_new_solver_needs_one_file_and_one_line(rows, tmp_path, monkeypatch):
    monkeypatch.setitem(SOLVERS, "dense", DenseALS)
    for settings in modes("dense"):
        subject = Subject(rows, "dense", {**settings, "epochs": 6})
        for place, check in enumerate(CHECKS.values()):
            folder = tmp_path / f"{place} {settings}"
            folder.mkdir()
            run(check, subject, folder)
    solvers_say_what_they_are("dense")
    with pytest.raises(ParameterError, match="shrink is 0: give a number above 0"):
        fastmf.fit(rows, solver="dense", shrink=0)
    with pytest.raises(fastmf.DeviceUnavailableError, match="'dense' does not run on a GPU"):
        fastmf.fit(rows, solver="dense", device=CudaDevice(name="cuda", threads=1))
    ratings = Ratings.from_arrays(*rows)
    found = fastmf.tune(ratings, "dense", trials=3, max_k=16)
    assert [set(trial.settings) for trial in found.trials] == [{"k", "shrink"}] * 3
    model = fastmf.fit(ratings, **found.settings, validation=0.1)
    assert model.history[-1].validation_rmse == found.best.validation_rmse
    with pytest.raises(InterruptedError):
        fastmf.fit(ratings, solver="dense", checkpoint=tmp_path / "state", callback=interrupt)
    resumed = fastmf.fit(ratings, solver="dense", checkpoint=tmp_path / "state", resume=True)
    assert resumed.content_hash == fastmf.fit(ratings, solver="dense").content_hash


def interrupt(epoch):
    raise InterruptedError
