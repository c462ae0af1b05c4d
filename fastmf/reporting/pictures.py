"""What is drawn of results: a history, an evaluation, a tuning, a benchmark."""

from collections.abc import Mapping
from typing import Any

import numpy as np

from fastmf.model.history import train_name
from fastmf.model.state import State
from fastmf.reporting import draw
from fastmf.reporting.draw import Picture


def learning_curve(model: State) -> Picture:
    """Draw training and validation figures of each epoch, with the best epoch marked."""
    history, known = model.history, {"train_rmse": train_name(model.implicit)}
    known |= {"validation_rmse": "validation RMSE", "validation_ndcg": "validation nDCG@10"}
    series: dict[str, draw.Points] = {}
    for attribute, name in known.items():
        found = [
            (epoch.number, getattr(epoch, attribute)) for epoch in history if getattr(epoch, attribute) is not None
        ]
        if found:
            series[name] = tuple(np.array(each) for each in zip(*found, strict=True))  # type: ignore[assignment]
    marks = [(float(model.best_epoch), f"best: {model.best_epoch}")] if model.best_epoch else []
    label = f"Figures of each epoch: {', '.join(series)}."
    return draw.lines(series, label=label, x="epoch", y="RMSE" if not model.implicit else "figure", marks=marks)


def evaluation(result: Mapping[str, Any]) -> Picture:
    """Draw an evaluation: errors by activity beside those of biases, or else measures of lists beside popularity's."""
    groups = result.get("by_activity")
    if groups:
        series = {"model": [group["rmse"] for group in groups.values()]}
        biases = [group["rmse_of_biases"] for group in groups.values()]
        if all(value is not None for value in biases):
            series["biases alone"] = biases
        label = f"RMSE by the user's number of training ratings; over all pairs it is {result['rmse']:.4f}."
        return draw.bars(list(groups), series, label=label, value="RMSE")
    return lists(result)


def lists(result: Mapping[str, Any]) -> Picture:
    """Draw measures of top-n lists beside those of the most rated items."""
    names = {"ndcg": "nDCG", "precision": "precision", "recall": "recall", "map": "MAP", "mrr": "MRR",
             "hit_rate": "hit rate"}  # fmt: skip
    popular = result["popularity"] or {}
    series = {
        "model": [result[name] or 0.0 for name in names],
        "most rated items": [popular.get(name) or 0.0 for name in names],
    }
    label = f"Measures of lists of {result['n']} items, beside lists of the most rated items. Higher is better."
    return draw.bars(list(names.values()), series, label=label, value="mean over users")
