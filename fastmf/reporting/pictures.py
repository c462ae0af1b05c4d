"""What is drawn of results: a history, an evaluation, a tuning, a benchmark, any table of figures."""

import math
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np

from fastmf.model.history import train_name
from fastmf.model.state import State
from fastmf.reporting import draw
from fastmf.reporting.draw import Bars, Dots, Lines, Picture

MEASURES = {"ndcg": "nDCG", "precision": "precision", "recall": "recall", "map": "MAP", "mrr": "MRR",
            "hit_rate": "hit rate"}  # fmt: skip
MOST_COLUMNS = 3  # of a table that is drawn
FEWEST = 8  # trials, below which nothing is said of what matters


def learning_curve(model: State) -> Picture:
    """Draw training and validation figures of each epoch, with the best epoch marked."""
    history, known = model.history, {"train_rmse": train_name(model.implicit)}
    known |= {"validation_rmse": "validation RMSE", "validation_ndcg": "validation nDCG@10"}
    series: dict[str, draw.Points] = {}
    for attribute, name in known.items():
        found = [epoch for epoch in history if getattr(epoch, attribute) is not None]
        if found:
            numbers = np.array([epoch.number for epoch in found])
            series[name] = numbers, np.array([getattr(epoch, attribute) for epoch in found])
    marks = [(float(model.best_epoch), f"best: {model.best_epoch}")] if model.best_epoch else []
    label = f"Figures of each epoch: {', '.join(series)}."
    return draw.picture(label, Lines(series=series, x="epoch", y="figure" if model.implicit else "RMSE", marks=marks))


def evaluation(result: Mapping[str, Any]) -> Picture:
    """Draw an evaluation: errors by activity beside those of biases, and measures of lists beside popularity's."""
    charts, words = [], []
    groups = result.get("by_activity")
    if groups:
        series = {"model": [group["rmse"] for group in groups.values()]}
        biases = [group["rmse_of_biases"] for group in groups.values()]
        if all(value is not None for value in biases):
            series["biases alone"] = biases
        charts.append(Bars(names=list(groups), series=series, value="RMSE by the user's ratings", horizontal=True))
        words.append(f"RMSE by the user's number of training ratings; over all pairs it is {result['rmse']:.4f}.")
    if result["ndcg"] is not None:
        charts.append(_measures(result))
        words.append(f"Lists of {result['n']} items, beside lists of the most rated items.")
    return draw.picture(" ".join(words) or "Nothing was measured.", *charts)


def lists(result: Mapping[str, Any]) -> Picture:
    """Draw measures of top-n lists beside those of the most rated items."""
    label = f"Measures of lists of {result['n']} items, beside lists of the most rated items. Higher is better."
    return draw.picture(label, _measures(result))


def _measures(result: Mapping[str, Any]) -> Bars:
    series = {
        "model": [result[name] for name in MEASURES],
        "most rated items": [result["popularity"][name] for name in MEASURES],
    }
    return Bars(names=list(MEASURES.values()), series=series, value=f"lists of {result['n']}")


def tuning(found: Any) -> Picture:
    """Draw a tuning: the figure of each trial with the best so far, and how much each setting matters."""
    measure, complete = found.best.measure, [trial for trial in found.trials if trial.state == "complete"]
    states = {
        "complete": complete,
        "stopped early": [trial for trial in found.trials if trial.state == "pruned" and measure.of(trial) is not None],
    }
    series = {
        name: ([trial.number for trial in trials], [measure.of(trial) for trial in trials])
        for name, trials in states.items()
        if trials
    }
    figures = [measure.of(trial) for trial in complete]
    best = (np.maximum if measure.higher else np.minimum).accumulate(figures)
    line = "best so far", ([*(trial.number for trial in complete), len(found.trials)], [*best, best[-1]])
    charts: list[Any] = [Dots(series=series, x="trial", y=f"validation {measure.name}", line=line)]
    label = f"Validation {measure.name} of {len(found.trials)} trials; the line is the best so far."
    weights = importance(found)
    if weights:
        charts.append(Bars(names=list(weights), series={"importance": list(weights.values())}, horizontal=True,
                           value=f"importance for {found.best.solver}"))  # fmt: skip
        label += " Importance: in what the best tenth of the trials differs; with few trials, much of it is chance."
    return draw.picture(label, *charts)


def importance(found: Any) -> dict[str, float]:
    """Return how much each setting of the best trial's solver matters, by falling importance (adding up to 1).

    It is that of PED-ANOVA (Watanabe, Bansal and Hutter 2023): in what the best tenth of the trials differs from the
    others. Trials that were stopped early count with what they had reached. None for fewer than FEWEST trials.
    """
    from fastmf.training.trials import quiet_optuna

    measure = found.best.measure
    trials = [trial for trial in found.trials if trial.solver == found.best.solver and measure.of(trial) is not None]
    names = [name for name in found.best.settings if len({trial.settings.get(name) for trial in trials}) > 1]
    trials = [trial for trial in trials if all(trial.settings.get(name) is not None for name in names)]
    if len(trials) < FEWEST or not names:
        return {}
    spaces = {name: _space([trial.settings[name] for trial in trials]) for name in names}
    with quiet_optuna() as optuna:
        study = optuna.create_study(direction="maximize" if measure.higher else "minimize")
        for trial in trials:
            given = {name: trial.settings[name] for name in names}
            study.add_trial(optuna.trial.create_trial(params=given, distributions=spaces, value=measure.of(trial)))
        evaluator = optuna.importance.PedAnovaImportanceEvaluator()
        return dict(optuna.importance.get_param_importances(study, evaluator=evaluator))


def _space(values: Sequence[Any]) -> Any:
    """Return a distribution that could have given these values."""
    from optuna import distributions

    if all(isinstance(value, int) and not isinstance(value, bool) for value in values):
        return distributions.IntDistribution(min(values), max(values))
    if all(isinstance(value, float) for value in values):
        return distributions.FloatDistribution(min(values), max(values), log=min(values) > 0)
    return distributions.CategoricalDistribution(sorted(set(values), key=str))


def benchmark(report: Mapping[str, Any]) -> Picture:
    """Draw a report of ``fastmf bench``: seconds per epoch of each solver on each device."""
    results = report["results"]
    devices = list(dict.fromkeys(result["device"] for result in results))
    cases = list(dict.fromkeys((result["dataset"], result["solver"]) for result in results))
    seconds = {(r["dataset"], r["solver"], r["device"]): r["epoch_seconds_median"] for r in results}
    series = {device: [seconds.get((*case, device), math.nan) for case in cases] for device in devices}
    label = "Seconds per epoch by data set, solver and device; the axis is logarithmic, and shorter is better."
    names = [f"{dataset}, {solver}" for dataset, solver in cases]
    return draw.picture(label, Bars(names=names, series=series, value="seconds per epoch", horizontal=True, log=True))


def table(header: Sequence[str], rows: Sequence[Sequence[Any]]) -> Picture:
    """Draw the first columns of figures of a table: a panel for each, a bar for each row.

    The columns before the first one with figures name the rows.
    """
    columns = [[_figure(row[place]) for row in rows] for place in range(len(header))]
    shown = [place for place, column in enumerate(columns) if not all(map(math.isnan, column))][:MOST_COLUMNS]
    first = shown[0] if shown else 0
    names = [" ".join(str(cell) for cell in row[:first]) or str(place + 1) for place, row in enumerate(rows)]
    figures = [(header[place], columns[place]) for place in shown]
    charts = [Bars(names=names, series={name: found}, value=name, horizontal=True) for name, found in figures]
    return draw.picture(f"{', '.join(header[place] for place in shown)} of each row.", *charts)


def _figure(cell: Any) -> float:
    """Return a cell as a number: "1.5 s" is 1.5; NaN for anything else."""
    try:
        return float(cell if isinstance(cell, int | float) else str(cell).split()[0].rstrip("%x").replace(",", ""))
    except (ValueError, IndexError):
        return math.nan
