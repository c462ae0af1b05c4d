"""Arrays of a model are read-only for users, and like those of a fit for kernels."""

import copy
import dataclasses
import pickle

import numpy as np
import pandas as pd
import pytest

import fastmf
from fastmf.kernels.region import Region
from fastmf.model.frozen import frozen, thawed
from fastmf.model.state import State
from fastmf.solvers import SOLVERS

FEATURES = pd.DataFrame({"item": np.arange(1000, 1022), "genre": ["a", "b"] * 11, "year": np.arange(22) % 5})


def arrays_of(model):
    """All arrays that a model holds, by name."""
    found = {}
    for field in dataclasses.fields(State):
        value = getattr(model, field.name)
        parts = value if isinstance(value, tuple) else [value]
        found |= {f"{field.name}[{n}]": part for n, part in enumerate(parts) if isinstance(part, np.ndarray)}
    return found


pytestmark = pytest.mark.filterwarnings("ignore:the factors of 3 items")  # of update without the old ratings


@pytest.fixture(scope="module")
def fit(planted):
    """Fit a small model of a solver."""

    def fit(solver, **settings):
        users, items, ratings = planted()
        how = {"burn": 1, "samples": 3, "kept": 2} if solver == "gibbs" else {"epochs": 2}
        return fastmf.fit((users, items, np.maximum(ratings, 0.5)), solver=solver, k=3, **how, **settings)

    return fit


def grown(model, path):
    """The same model after everything that can be done with one."""
    model.save(path)
    users, items = model.user_ids.to_pylist(), model.item_ids.to_pylist()
    new = [5, 5, 6], items[:3], [1.0, 4.0, 5.0]
    yield "load", fastmf.load(path)
    yield "fold_in", model.fold_in(new)
    yield "fold_in_items", model.fold_in_items((users[:2], [5, 5], [3.0, 4.0]))
    yield "update", model.update(new)
    yield "pickle", pickle.loads(pickle.dumps(model))
    yield "copy", copy.deepcopy(model)
    yield "replace", dataclasses.replace(model, mean=1.0)


@pytest.mark.parametrize("solver", SOLVERS)
def test_no_array_of_a_model_can_be_written_to(fit, solver, tmp_path):
    model = fit(solver)
    for way, other in [("fit", model), *grown(model, tmp_path / "m.fastmf")]:
        found = arrays_of(other)
        assert len(found) >= 8
        for name, array in found.items():
            assert not array.flags.writeable, (way, name)
            with pytest.raises(ValueError, match="read-only"):
                array[...] = 0


@pytest.mark.parametrize("solver", SOLVERS)
def test_kernels_get_no_read_only_array_of_a_model(fit, solver, tmp_path, monkeypatch):
    """Numba would compile them again: seconds each, whenever a model is used for the first time."""
    features = {"item_features": FEATURES} if solver != "implicit" else {}
    model, seen = fit(solver, **features), []
    owned = list(arrays_of(model).values())
    launched = Region.__call__

    def checked(self, tasks, *args, **options):
        def check(value):
            if isinstance(value, tuple):
                for part in value:
                    check(part)
            elif isinstance(value, np.ndarray) and not value.flags.writeable:
                assert not any(np.shares_memory(value, array) for array in owned), self.__name__

        check(args)
        seen.append(self.__name__)
        return launched(self, tasks, *args, **options)

    monkeypatch.setattr(Region, "__call__", checked)
    users, items = model.user_ids.to_pylist(), model.item_ids.to_pylist()
    model.predict(users[:1] * 2, items[:2], std=solver == "gibbs")
    model.recommend()
    model.recommend(users[0], items=items[:3])
    model.similar_items(items[0])
    model.similar_users(users[0])
    for _, other in grown(model, tmp_path / "m.fastmf"):
        other.recommend()
    users, items = np.repeat(users, 2), np.tile(items, 6)[: 2 * len(users)]
    test = fastmf.Ratings.from_arrays(users, items, np.resize([2.0, 3.0, 4.0], len(users)), duplicates="last")
    fastmf.evaluate(model, test)
    fit(solver, init=model, **features)
    if solver != "gibbs":
        model.explain(users[0], items[0], ratings=None if solver == "implicit" else test)
    assert len(set(seen)) > 3


def test_freezing_copies_only_what_cannot_be_thawed():
    own = np.arange(3)
    view = frozen(own)
    assert not view.flags.writeable
    assert own.flags.writeable
    assert frozen(view) is view
    assert np.shares_memory(view, own)
    assert thawed(view).flags.writeable
    assert np.shares_memory(thawed(view), own)
    foreign = np.frombuffer(b"\1\2", np.uint8)
    copied = frozen(foreign)
    assert not copied.flags.writeable
    assert thawed(copied).flags.writeable
    assert not np.shares_memory(copied, foreign)
    pair = frozen((own, "other"))
    assert frozen(pair) is pair
    assert pair[1] == "other"
    assert frozen(None) is None
