"""Plans: what is refused before anything is read, what is refused once it is, and what is told of the ratings."""

import numpy as np
import pyarrow as pa
import pytest

import fastmf
from fastmf import ALS, SGD, DataError, ParameterError, Ratings, ResourceError
from fastmf.data.write import write_parquet
from fastmf.solvers import make
from fastmf.training.plan import make_plan


@pytest.fixture(scope="module")
def ratings(planted):
    return Ratings.from_arrays(*planted(n=400, noise=1.0))


@pytest.mark.parametrize(
    ("settings", "error", "message"),
    [
        ({"patience": 2}, ParameterError, "patience needs validation"),
        ({"patience": 0, "validation": 0.1}, ParameterError, "patience is 0"),
        ({"patience": 1.5, "validation": 0.1}, ParameterError, "patience is 1.5"),
        ({"validation": 0.0}, ParameterError, "validation is 0.0: give a fraction"),
        ({"validation": 1}, ParameterError, "validation is 1: give a fraction"),
        ({"validation": float("nan")}, ParameterError, "validation is nan: give a fraction"),
        ({"validation": "missing.parquet"}, FileNotFoundError, "missing.parquet does not exist"),
        ({"solver": "svd"}, ParameterError, "unknown solver 'svd'"),
        ({"solver": ALS(), "k": 3}, ParameterError, "k given with a solver object"),
        ({"solver": SGD(), "lr": 0.1, "seed": 3}, ParameterError, "seed, lr given with a solver object"),
        ({"lr": 0.1}, ParameterError, "solver 'als-links' has no setting lr; .*; for lr, give --solver sgd"),
        ({"k": 0}, ParameterError, "k is 0"),
        ({"seed": -1}, ParameterError, "seed is -1"),
        ({"threads": 0}, ParameterError, "threads is 0"),
        ({"device": "tpu"}, ParameterError, "unknown device 'tpu'"),
        ({"every": 3}, ParameterError, "every needs a checkpoint"),
        ({"every": 0}, ParameterError, "every is 0"),
        ({"resume": True}, ParameterError, "resume needs a checkpoint"),
        ({"half_life": 0}, ParameterError, "half_life is 0: give a number above 0"),
        ({"timestamp": "at"}, ParameterError, "timestamp is 'at', but there is no half_life"),
        ({"half_life": 5, "time_unit": "days"}, ParameterError, "time_unit is 'days': choose s or ms or us or ns"),
        ({"solver": "implicit", "blend": True}, ParameterError, "blend is for models of ratings: solver 'implicit'"),
        ({"min_item_ratings": 0}, ParameterError, "min_item_ratings is 0: give an integer of at least 1"),
        ({"min_user_ratings": 2.5}, ParameterError, "min_user_ratings is 2.5: give an integer of at least 1"),
        ({"memory_limit": "lots"}, ParameterError, "memory limit is 'lots'"),
        ({"k": 10**9}, ResourceError, r"^fitting k = 1,000,000,000 factors takes at least .* GiB"),
        ({"k": 1000, "memory_limit": "1 MB"}, ResourceError, r"\d MiB of memory, but 1\.0 MiB are allowed"),
    ],
    ids=str,
)
def test_what_cannot_be_is_refused_before_anything_is_read(monkeypatch, settings, error, message):
    monkeypatch.setattr(Ratings, "read", lambda *_, **__: pytest.fail("nothing must be read"))
    with pytest.raises(error, match=message):
        fastmf.fit("ratings.parquet", **settings)


def test_how_to_read_is_checked_by_reading(ratings, planted):
    with pytest.raises(ParameterError, match="duplicates is 'first'"):
        fastmf.fit(planted(n=50), duplicates="first")
    with pytest.raises(DataError, match="rating"):
        make_plan(([1, 2], [1, 2]), ALS()).read()


def test_outputs_are_checked_with_the_inputs_and_the_checkpoint(tmp_path):
    def plan(output, **more):
        return make_plan(tmp_path / "r.parquet", ALS(), outputs=[output], **more)

    (tmp_path / "r.parquet").touch()
    (tmp_path / "old.fastmf").touch()
    with pytest.raises(FileExistsError, match="--overwrite"):
        plan(tmp_path / "old.fastmf")
    assert [path.name for path in plan(tmp_path / "old.fastmf", overwrite=True).outputs] == ["old.fastmf"]
    with pytest.raises(FileExistsError, match="input"):
        plan(tmp_path / "r.parquet", overwrite=True)
    with pytest.raises(FileExistsError, match="input"):
        plan(tmp_path / "state/checkpoint.safetensors", overwrite=True, checkpoint=tmp_path / "state")


def test_memory_is_counted_again_once_the_ratings_are_known(ratings):
    with pytest.raises(ResourceError, match="fitting k = 1 factors of 50 users and items takes at least"):
        fastmf.fit(ratings, k=1, threads=1, memory_limit=1000)
    rows = Ratings.read((ratings.users, ratings.items, ratings.values, ratings.values**2 + 1), weight="weight")
    # per rating: 12 bytes held, 12 of training, 4 of a weight; 8 per row and factor
    for given, need in ((ratings, 400 * 24 + 50 * 8), (rows, 400 * 28 + 50 * 8)):
        solver = make("implicit", k=1, method="cg")
        make_plan(given, solver, threads=1, memory_limit=need).read()
        with pytest.raises(ResourceError, match="are allowed"):
            make_plan(given, solver, threads=1, memory_limit=need - 1).read()


def test_too_few_ratings_for_a_blend_are_refused_once_they_are_read():
    with pytest.raises(ParameterError, match="4 ratings are too few to learn a blend from a tenth"):
        fastmf.fit(([1, 1, 2, 2], [1, 2, 1, 2], [1.0, 2, 3, 4]), blend=True)


def test_each_file_is_told_with_what_was_left_out(tmp_path):
    rows = {"user": [1, 1, 2, 2], "item": [1, 2, 1, 1], "rating": np.float64([1, np.nan, 3, 4])}
    write_parquet(rows, tmp_path / "r.parquet")
    told = []
    plan = make_plan(tmp_path / "r.parquet", ALS(), validation=0.5, duplicates="last", bad_rows="drop")
    data = plan.read(told.append)
    assert told == [
        f"{tmp_path / 'r.parquet'}: 2 ratings of 1 item by 2 users (columns user, item, rating)",
        "note: 1 row of repeated pairs was merged (--duplicates last)",
        "note: 1 bad row was dropped (--bad-rows drop): nan ratings 1",
    ]
    assert (len(data.ratings), len(data.validation), data.rows["validation"]) == (1, 1, 1)


def test_a_fit_leaves_out_users_and_items_with_few_ratings(planted):
    # items 1 to 4 by users 1 to 4; user 5 rated item 1 alone, and item 6 has one rating, by user 1
    pairs = [(user, item) for user in range(1, 5) for item in range(1, 5)] + [(5, 1), (1, 6)]
    users, items = map(np.array, zip(*pairs, strict=True))
    rows, held_out = (users, items, np.arange(18.0)), ([5, 1], [2, 6], [1.0, 2.0])
    model = fastmf.fit(rows, k=2, min_user_ratings=2, min_item_ratings=2, validation=held_out)
    assert model.user_ids.to_pylist() == model.item_ids.to_pylist() == [1, 2, 3, 4]
    named = {name: model.rows[name] for name in ("read", "used", "validation")}
    assert named == {"read": 20, "used": 16, "validation": 2}
    assert (model.rows["below_min_user_ratings"], model.rows["below_min_item_ratings"]) == (1, 1)
    plain = Ratings.from_arrays(*rows).core(2, 2)
    assert model.content_hash == fastmf.fit(plain, k=2, validation=fastmf.Ratings.read(held_out)).content_hash
    assert fastmf.fit(Ratings.from_arrays(*rows), k=2, min_item_ratings=2).item_ids.to_pylist() == [1, 2, 3, 4]
    assert fastmf.fit(rows, k=2).user_ids.to_pylist() == [1, 2, 3, 4, 5]


def test_what_a_core_leaves_out_is_told():
    told = []
    rows = ([1, 1, 2, 2, 3], [1, 2, 1, 2, 3], [1.0, 2, 3, 4, 5])
    make_plan(rows, ALS(), min_user_ratings=2).read(told.append)
    left = "4 of 5 ratings, 2 of 3 users and 2 of 3 items"
    assert told[1:] == [f"note: --min-user-ratings 2 and --min-item-ratings 1 leave {left}"]


def test_ratings_without_rows_are_refused(ratings):
    with pytest.raises(DataError, match="there are no ratings to fit"):
        fastmf.fit(ratings.take(np.zeros(len(ratings), bool)), k=2)


def test_a_half_life_that_leaves_next_to_nothing_is_warned_of():
    table = pa.table(
        {"user": [1, 1, 2] * 100, "item": list(range(300)), "rating": [3.0] * 300, "timestamp": [0] * 299 + [2 * 10**8]}
    )
    with pytest.warns(UserWarning, match=r"the half-life leaves 1\.0 of 300 ratings: is the newest time right"):
        fastmf.fit(table, 1, epochs=1, half_life=90)
