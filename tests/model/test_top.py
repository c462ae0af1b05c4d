"""The best items of one user, as arrays: the lists of ``recommend``."""

import datetime
import uuid
from concurrent.futures import ThreadPoolExecutor

import numpy as np
import pandas as pd
import pytest

import fastmf
from fastmf.errors import DataError, ParameterError, UnknownIdError
from fastmf.kernels.topn_one import best
from fastmf.kernels.vectors import WIDTH
from fastmf.model.fold_in_rule import FoldInRule

USERS = {
    "integers": [-3, 0, 2**53 + 1, 2**62],
    "large unsigned": [1, 2**63, 2**63 + 1, 2**64 - 1],
    "text": ["", "007", "ann", "\U0001f600"],
    "bytes": [b"", b"\0a", b"b", b"\xff"],
    "uuid": [uuid.UUID(int=n) for n in (0, 5, 6, 2**127)],
    "dates": [datetime.date(2000 + n, 2, 28) for n in range(4)],
    "moments": [datetime.datetime(2000 + n, 1, 1, 3, tzinfo=datetime.UTC) for n in range(4)],
    "nanoseconds": [pd.Timestamp(f"200{n}-01-01 00:00:00.00000000{n}") for n in range(4)],
}


def same(model, user, n=10, include_seen=False):
    """Check that a user's best items are those recommended, and return them."""
    items, scores = model.top(user, n, include_seen=include_seen)
    frame = model.recommend([user], n, include_seen=include_seen)
    assert list(items) == frame["item_id"].tolist()
    np.testing.assert_allclose(scores, frame["score"], rtol=0 if WIDTH else 1e-5)
    assert scores.dtype == np.float32
    assert len(items) == len(scores)
    return items, scores


@pytest.mark.parametrize("include_seen", [False, True, np.True_])
@pytest.mark.parametrize("n", [1, 3, 10**6])
def test_a_user_gets_the_list_that_recommend_makes(model, n, include_seen):
    for user in model.user_ids:
        items, _ = same(model, user, n, include_seen)
        assert items.dtype == np.int64
        assert len(items) == min(n, 7) or not include_seen
    if not include_seen:
        assert len(model.top("", n)[0]) == 0  # has rated everything


@pytest.mark.parametrize("kind", USERS)
def test_users_are_found_by_ids_of_every_type(planted, kind):
    users, items, ratings = planted(n_users=4, n_items=9, n=25)
    names = [USERS[kind][(user - 100) // 3] for user in users]
    model = fastmf.fit((names, items.astype(str), ratings), k=2, epochs=2)
    for user in USERS[kind]:
        found, _ = same(model, user)
        assert found.dtype == object
        assert all(type(item) is str for item in found)
    if kind == "text":
        assert list(model.top(np.str_("ann"))[0]) == list(model.top("ann")[0])
    if kind == "moments":
        other = USERS[kind][1].astimezone(datetime.timezone(datetime.timedelta(hours=2)))
        assert list(model.top(other)[0]) == list(model.top(USERS[kind][1])[0])
    for other in (77, "nobody", b"no", uuid.UUID(int=9), 1.5, True, None, datetime.date(1, 1, 1)):
        with pytest.raises((UnknownIdError, DataError)):
            model.top(other)
    for several in ([USERS[kind][0]], (), model.user_ids):
        with pytest.raises(ParameterError, match=r"give the id of one user, or use recommend"):
            model.top(several)


def test_integers_of_any_type_are_the_same_user(planted):
    model = fastmf.fit(planted(), k=2, epochs=2)
    expected = model.top(103)
    for kind in (np.int8, np.uint8, np.int64, np.uint64):
        for ours, theirs in zip(model.top(kind(103)), expected, strict=True):
            np.testing.assert_array_equal(ours, theirs)
    for unknown in (101, -1, 99, 10**6, 2**63, np.uint64(2**64 - 1)):
        with pytest.raises(UnknownIdError, match=f"1 of 1 user ids are not in the model, the first {unknown}: "):
            model.top(unknown)
    for wrong in (True, 103.5, "103", None):
        with pytest.raises(DataError):
            model.top(wrong)


def test_implicit_users_without_factors_get_popular_items(build):
    model = build(implicit=True, mean=0.0, user_rule=FoldInRule(reg=0.1, all_pairs=0.25))
    for user in model.user_ids:
        same(model, user)
    items, scores = model.top("cold")
    assert (scores == 0).all()
    popular = np.argsort(-model.item_counts, kind="stable")[:7]
    np.testing.assert_array_equal(items, np.asarray(model.item_ids)[popular])


def test_items_known_by_their_features_are_recommended(planted):
    users, items, ratings = planted()
    table = pd.DataFrame({"item": np.append(np.unique(items), [5, 6]), "genre": ["a", "b"] * 11})
    model = fastmf.fit((users, items, ratings), k=2, epochs=2, item_features=table)
    assert {5, 6} <= set(same(model, 103, 30)[0])


def test_a_model_without_seen_items_needs_to_be_asked_for_them(build):
    model = build(seen=None)
    same(model, "ann", 3, include_seen=True)
    with pytest.raises(ParameterError, match="does not hold what users have rated"):
        model.top("ann")


def test_wrong_arguments_are_refused(model):
    for n in (0, -1, 2.5, True, "3", None):
        with pytest.raises(ParameterError, match="n is"):
            model.top("ann", n)
    with pytest.raises(ParameterError, match="include_seen is 1"):
        model.top("ann", include_seen=1)


def test_nothing_of_the_model_can_be_reached_through_a_list(model):
    items, scores = model.top("ann")
    items[:], scores[:] = 0, 0
    same(model, "ann")


def test_threads_get_the_lists_of_one(planted, tmp_path):
    fastmf.fit(planted(), k=8, epochs=2).save(tmp_path / "m")
    model = fastmf.load(tmp_path / "m", mmap=True)  # arrays are read, and the server made, by all threads at once
    users = model.user_ids.to_pylist() * 20
    with ThreadPoolExecutor(16) as pool:
        found = list(pool.map(model.top, users))
    expected = {user: fastmf.load(tmp_path / "m").top(user) for user in model.user_ids}
    for user, (items, scores) in zip(users, found, strict=True):
        np.testing.assert_array_equal(items, expected[user][0])
        np.testing.assert_array_equal(scores, expected[user][1])


@pytest.mark.skipif(not WIDTH, reason="nothing is compiled without the JIT")
def test_the_kernel_is_compiled_once(model, tmp_path):
    model.save(tmp_path / "m")
    model.top("ann")
    before = len(best.signatures)
    for each in (model, fastmf.load(tmp_path / "m"), fastmf.load(tmp_path / "m", mmap=True)):
        each.top("ann")
        each.top("ann", 2, include_seen=True)
    assert len(best.signatures) == before
