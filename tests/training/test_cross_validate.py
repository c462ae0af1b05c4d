"""cross_validate: one read, the same folds for all, and the figures that fit and evaluate give fold by fold."""

import inspect

import numpy as np
import pandas as pd
import pytest

import fastmf
from fastmf import ParameterError, Ratings, ResourceError
from fastmf.data import ratings as ratings_module
from fastmf.data.write import write_parquet
from fastmf.training import plan
from fastmf.training.cross_validate import LEFT_OUT, OPTIONS


def without_seconds(frame):
    return frame.drop(columns="seconds")


@pytest.fixture(scope="module")
def ratings(planted):
    return Ratings.from_arrays(*planted())


def test_figures_are_those_of_fit_and_evaluate(ratings):
    solvers = {"als": {"k": 2}, "steps": fastmf.SGD(k=2, epochs=5), "bayes": {"solver": "gibbs", "k": 2, "samples": 3}}
    found = fastmf.cross_validate(ratings, solvers, folds=3, seed=4, lists=True, n=3, relevant_from=3.0)
    assert found["solver"].tolist() == [*solvers] * 3
    assert found["fold"].tolist() == [0] * 3 + [1] * 3 + [2] * 3
    rows = found.to_dict("records")
    for fold, (train, test) in enumerate(ratings.folds(3, seed=4)):
        for row, model in zip(
            rows[3 * fold :],
            (
                fastmf.fit(train, 2, "als"),
                fastmf.fit(train, solver=fastmf.SGD(k=2, epochs=5)),
                fastmf.fit(train, 2, "gibbs", samples=3),
            ),
            strict=False,
        ):
            measures = fastmf.evaluate(model, test, n=3, relevant_from=3.0)
            assert (row["train"], row["test"], row["epochs"]) == (len(train), len(test), len(model.history))
            assert row["seconds"] > 0
            names = ["rmse", "mae", "rmse_of_biases", "precision", "ndcg", "hit_rate", "reach", "novelty"]
            assert [row[name] for name in names] == [measures[name] for name in names]


def test_ratings_are_read_once(planted, tmp_path, monkeypatch):
    users, items, values = planted()
    write_parquet({"user": users, "item": items, "rating": values}, tmp_path / "r.parquet")
    calls, read = [], ratings_module.gathered
    monkeypatch.setattr(ratings_module, "gathered", lambda *given, **how: calls.append(1) or read(*given, **how))
    found = fastmf.cross_validate(tmp_path / "r.parquet", ["als", "sgd"], folds=2)
    assert calls == [1]
    again = fastmf.cross_validate(Ratings.from_arrays(users, items, values), ["als", "sgd"], folds=2)
    pd.testing.assert_frame_equal(without_seconds(found), without_seconds(again))


def test_implicit_solvers_are_measured_by_lists_alone_and_beside_others(planted):
    users, items, values = planted()
    found = fastmf.cross_validate((users, items, values), ["implicit", "als"], folds=2)
    implicit, als = (found[found["solver"] == name] for name in ("implicit", "als"))
    assert implicit["ndcg"].notna().all()
    assert implicit[["rmse", "mae"]].isna().all(axis=None)
    assert als["rmse"].notna().all()
    assert als["ndcg"].isna().all()
    pairs = fastmf.cross_validate(pd.DataFrame({"user": users, "item": items}), "implicit", folds=2)
    np.testing.assert_array_equal(pairs["ndcg"], implicit["ndcg"])
    assert pairs["rmse"].dtype == np.float64
    liked = {"liked": {"solver": "implicit", "positive_from": 3}, "all": "implicit"}
    both = fastmf.cross_validate(pd.DataFrame({"user": users, "item": items, "rating": values}), liked, folds=2)
    assert both["ndcg"][both["solver"] == "all"].tolist() == implicit["ndcg"].tolist()
    assert both["ndcg"][both["solver"] == "liked"].tolist() != implicit["ndcg"].tolist()


def test_options_reach_the_plan(planted):
    users, items, values = planted()
    frame = pd.DataFrame({"user": users, "item": items, "rating": values, "w": np.where(values > 3, 5.0, 1.0)})
    features = pd.DataFrame({"item": np.unique(items), "size": np.sin(np.unique(items))})
    found = fastmf.cross_validate(
        frame, {"labelled": {"k": 2}}, folds=2, weight="w", item_features=features, min_user_ratings=9, threads=1
    )
    weighted = Ratings.read(frame, weight="w").core(9)
    assert found["train"].sum() == len(weighted) < len(frame)
    train, test = next(weighted.folds(2))
    model = fastmf.fit(train, k=2, item_features=features)
    assert found["rmse"][0] == fastmf.evaluate(model, test)["rmse"]


def test_the_callback_gets_every_row_and_may_end_it(ratings):
    rows = []
    found = fastmf.cross_validate(ratings, {"a": {"k": 2}, "b": {"k": 3}}, folds=2, callback=rows.append)
    assert rows == found.to_dict("records")
    short = fastmf.cross_validate(
        ratings, {"a": {"k": 2}, "b": {"k": 3}}, folds=2, callback=lambda row: row["fold"] < 1
    )
    pd.testing.assert_frame_equal(without_seconds(short), without_seconds(found[:3]))


@pytest.mark.parametrize(
    ("solvers", "options", "error", "message"),
    [
        ([], {}, ParameterError, "there are no solvers to validate: give one or more of als"),
        (["als", fastmf.ALS(k=2)], {}, ParameterError, r"two solvers have the same name \(als, als\): give a dict"),
        (5, {}, ParameterError, "solvers is 5: give names, solver objects, or a dict"),
        ("sag", {}, ParameterError, "unknown solver 'sag'"),
        ({"a": {"lr": 1}}, {}, ParameterError, "solver 'als-links' has no setting lr"),
        ("als", {"validation": 0.1}, ParameterError, "cross_validate takes no validation; it takes bad_rows, columns"),
        ("als", {"folds": 1}, ParameterError, "folds is 1: give an integer of at least 2"),
        ("als", {"seed": -1}, ParameterError, "seed is -1"),
        ("als", {"device": "tpu"}, ParameterError, "tpu"),
        ({"a": {"k": 10**9}}, {}, ResourceError, "fitting k = 1,000,000,000 factors"),
    ],
    ids=str,
)
def test_what_cannot_be_is_refused_before_anything_is_read(monkeypatch, solvers, options, error, message):
    monkeypatch.setattr(plan.Plan, "read", lambda *_: pytest.fail("nothing must be read"))
    with pytest.raises(error, match=message):
        fastmf.cross_validate("ratings.parquet", solvers, **options)


def test_more_folds_than_ratings_are_refused():
    with pytest.raises(ParameterError, match="cannot make 5 folds of 2 ratings"):
        fastmf.cross_validate(([1, 1], [1, 2], [1.0, 2.0]), folds=5)


def test_options_are_those_of_fit_that_go_with_folds():
    arguments = set(inspect.signature(fastmf.fit).parameters)
    assert arguments >= LEFT_OUT
    assert arguments - LEFT_OUT == OPTIONS
    assert {"device", "weight", "item_features", "min_item_ratings"} <= OPTIONS
