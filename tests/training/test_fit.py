"""fit: the same model from any container, inputs left alone, and one script from ratings to lists under -O."""

import subprocess
import sys

import duckdb
import numpy as np
import pandas as pd
import polars as pl
import pyarrow as pa
import pyarrow.parquet as pq
import pytest

import fastmf
from fastmf import DivergenceError, Ratings
from fastmf.solvers.sgd import SGD
from fastmf.training import fit as training
from fastmf.training.blend import WEIGHTS, learn_blend


def containers(rows, folder):
    """The same ratings, shuffled, in everything that ratings come in."""
    order = np.random.default_rng(5).permutation(len(rows[0]))
    users, items, values = (column[order] for column in rows)
    columns = {"rating": values, "user_id": users, "item_id": items}
    frame, table = pd.DataFrame(columns), pa.table(columns)
    pq.write_table(table, folder / "whole.parquet", row_group_size=70)
    (folder / "parts").mkdir()
    for n, (first, size) in enumerate(((0, 11), (11, 200), (211, 1000))):
        pq.write_table(table.slice(first, size), folder / "parts" / f"{n}.parquet", row_group_size=7 + 40 * n)
    yield "arrays", (users, items, values)
    yield "lists", (users.tolist(), items.tolist(), values.tolist())
    yield "int32 and float32", (users.astype(np.int32), items.astype(np.int32), values.astype(np.float32))
    yield "pandas", frame
    yield "pyarrow", table
    yield "polars", pl.DataFrame(columns)
    yield "duckdb", duckdb.connect().from_arrow(table)
    yield "parquet", folder / "whole.parquet"
    yield "parquet path as text", str(folder / "whole.parquet")
    yield "directory of parquet", folder / "parts"
    yield "Ratings", Ratings.from_frame(frame)


@pytest.mark.parametrize("solver", ["als", "implicit"])
def test_containers_do_not_change_a_bit(solver, planted, tmp_path):
    users, items, values = planted()
    rows = users, items, values + 10
    expected = fastmf.fit(rows, 2, solver, epochs=2)
    for name, source in containers(rows, tmp_path):
        assert fastmf.fit(source, 2, solver, epochs=2).content_hash == expected.content_hash, name
    other = fastmf.fit((users, items, rows[2][::-1]), 2, solver, epochs=2)
    assert (other.content_hash != expected.content_hash) == (not expected.implicit)


def test_the_same_ratings_with_and_without_seen(noisy):
    model = fastmf.fit(noisy, k=2, epochs=2, keep_seen=False)
    assert model.seen is None
    assert model.content_hash == fastmf.fit(noisy, k=2, epochs=2).content_hash


def test_inputs_are_left_as_they_are_and_may_be_read_only(planted):
    rows = planted()
    for array in rows:
        array.flags.writeable = False
    before = [array.copy() for array in rows]
    ratings = Ratings.from_arrays(*rows)
    values = ratings.values.copy()
    for source in (rows, ratings):
        fastmf.fit(source, k=2, epochs=2)
        fastmf.fit(source, k=2, epochs=2, solver="sgd", validation=0.1)
    for array, copy in zip(rows, before, strict=True):
        np.testing.assert_array_equal(array, copy)
    np.testing.assert_array_equal(ratings.values, values)


def test_a_solver_object_is_the_same_as_its_name_and_settings(noisy):
    by_object = fastmf.fit(noisy, solver=SGD(k=2, epochs=2, seed=3))
    assert by_object.content_hash == fastmf.fit(noisy, 2, "sgd", epochs=2, seed=3).content_hash


def test_many_ratings_without_the_jit_are_warned_of(monkeypatch, noisy):
    monkeypatch.setattr(training, "ENABLED", False)
    monkeypatch.setattr(training, "MANY", 399)
    with pytest.warns(UserWarning, match="NUMBA_DISABLE_JIT is set: 400 ratings") as caught:
        fastmf.fit(noisy, k=2, epochs=1)
    assert caught[0].filename == __file__


@pytest.mark.filterwarnings("ignore:overflow")
def test_factors_beyond_float32_on_the_rating_scale_are_a_divergence():
    # two users and many items of rank one: the users' factors are several times the deviation of the ratings
    users, items = np.divmod(np.arange(400), 200)
    ratings = 3e38 * np.resize([1.0, -1.0], 400)
    with pytest.raises(DivergenceError, match=r"float32 on the rating scale \(3e\+38\): rescale the ratings$"):
        fastmf.fit((users, items, ratings), 1, "sgd", biases=False, reg=0.0, reg0=0.0)


def test_a_blend_is_learned_from_validation_or_from_a_tenth(noisy):
    rest, held_out = noisy.split(0.1, seed=0)
    model, extra = fastmf.fit(noisy, k=2, epochs=2, blend=True), fastmf.fit(rest, k=2, epochs=2)
    assert model.blend == learn_blend(extra, held_out)
    assert model.blend in [weight * extra.scale for weight in WEIGHTS]
    watched = fastmf.fit(rest, k=2, epochs=2, validation=held_out, blend=True, keep_seen=False)
    assert watched.blend == learn_blend(fastmf.fit(rest, k=2, epochs=2, validation=held_out), held_out)
    assert watched.seen is None
    unknown = Ratings.from_arrays([1, 2], [1, 2], [1.0, 2.0])
    assert learn_blend(model, unknown) == 0


OPTIMISED = """
import sys
import fastmf

assert False, "assert statements must not run: use -O"
rows = ["ann", "ann", "bob", "bob", "eve"], [1, 2, 2, 3, 1], [5.0, 3.0, 2.0, 4.0, 1.0]
for solver in fastmf.solvers.SOLVERS:
    model = fastmf.fit(rows, 2, solver)
    model.save(f"{sys.argv[1]}/{solver}.fastmf")
    again = fastmf.load(f"{sys.argv[1]}/{solver}.fastmf")
    print(solver, again.content_hash == model.content_hash, *again.recommend("ann")["item_id"])
for refused in (
    lambda: fastmf.fit(rows, k=0),
    lambda: fastmf.fit(rows, patience=1),
    lambda: fastmf.fit((*rows[:2], [float("nan")] * 5)),
    lambda: fastmf.load(sys.argv[2]),
):
    try:
        refused()
    except fastmf.FastMFError as error:
        print(type(error).__name__)
"""


def test_everything_works_and_is_refused_without_assert_statements(tmp_path):
    (tmp_path / "no.fastmf").write_bytes(b"no model")
    command = [sys.executable, "-O", "-c", "import fastmf.solvers\n" + OPTIMISED, tmp_path, tmp_path / "no.fastmf"]
    done = subprocess.run(list(map(str, command)), capture_output=True, text=True, check=False)
    lists = [f"{solver} True 3" for solver in ("als", "als-links", "sgd", "gibbs", "implicit")]
    refused = ["ParameterError", "ParameterError", "DataError", "ModelFormatError"]
    assert done.stdout.split("\n")[:-1] == lists + refused, done.stderr
