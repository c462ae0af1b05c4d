"""Pictures of results: what is in them is what was measured."""

import math
import xml.etree.ElementTree as ET

import numpy as np
import pytest

import fastmf
from fastmf.model.history import RMSE
from fastmf.reporting import pictures
from fastmf.training.tune import Trial, Tuning

pytest.importorskip("matplotlib")


def texts(picture):
    return [each.text for each in ET.fromstring(picture.svg()).iter() if each.tag.endswith("text")]


def test_a_learning_curve_marks_the_best_epoch(model):
    shown = texts(pictures.learning_curve(model))
    assert {"train RMSE", "validation RMSE", "epoch", f"best: {model.best_epoch}"} <= set(shown)


def test_an_evaluation_shows_errors_and_lists(model, parts):
    result = fastmf.evaluate(model, parts[1])
    picture = pictures.evaluation(result)
    assert f"{result['rmse']:.4f}" in picture.label
    assert {*result["by_activity"], "biases alone", "most rated items", "nDCG"} <= set(texts(picture))
    implicit = fastmf.fit(parts[0], solver="implicit", k=2, epochs=2)
    assert "biases alone" not in texts(pictures.evaluation(fastmf.evaluate(implicit, parts[1])))


def tuned(n, figure):
    rng = np.random.default_rng(0)
    trials = [
        Trial(number=number, solver="als", settings={"reg": float(reg), "k": int(k)}, state="complete", epochs=3,
              best_epoch=2, validation_rmse=figure(reg, k), seconds=0.1)
        for number, reg, k in zip(range(1, n + 1), rng.uniform(0.01, 1, n), rng.integers(2, 64, n), strict=True)
    ]  # fmt: skip
    return Tuning(trials=(*trials, Trial(number=n + 1, solver="als", settings={}, state="failed", epochs=0, seconds=0)),
                  training=9, validation=3)  # fmt: skip


def test_importance_names_the_setting_that_matters():
    pytest.importorskip("optuna")
    found = tuned(40, lambda reg, k: (reg - 0.3) ** 2)
    weights = pictures.importance(found)
    assert next(iter(weights)) == "reg"
    assert weights["reg"] > 0.8
    assert sum(weights.values()) == pytest.approx(1)
    assert "Importance: " in pictures.tuning(found).label
    assert pictures.importance(tuned(4, lambda reg, k: reg)) == {}
    assert found.best.measure == RMSE
    assert {"trial", "validation RMSE"} <= set(texts(pictures.tuning(tuned(4, lambda reg, k: reg))))


def test_a_benchmark_is_drawn_by_case_and_device():
    results = [
        {"dataset": "ml", "solver": "als", "device": device, "epoch_seconds_median": seconds}
        for device, seconds in (("numpy", 9.0), ("cpu", 0.01))
    ]
    assert {"numpy", "cpu", "ml, als", "seconds per epoch"} <= set(texts(pictures.benchmark({"results": results})))


def test_tables_are_drawn_by_their_figures():
    picture = pictures.table(
        ("set", "nDCG", "s", "note"), [("plays", "0.31", "1.5 s", "-"), ("films", 0.2, "-", "none")]
    )
    assert {"plays", "films", "nDCG", "s"} <= set(texts(picture))
    assert "note" not in texts(picture)
    assert [pictures._figure(cell) for cell in ("1,200", "7x", "12 %", 3)] == [1200, 7, 12, 3]
    assert math.isnan(pictures._figure("n/a"))
