"""Sections on the data and the fit: what was trained on, how the error fell, settings and speed."""

import shlex
from typing import Any

import numpy as np

from fastmf.bench.machine import describe, limits, peak_memory, versions
from fastmf.errors import FastMFError, counted
from fastmf.model.history import train_name
from fastmf.model.learned import flat
from fastmf.model.state import State
from fastmf.reporting import draw
from fastmf.reporting.asked import Asked, has_setting, share
from fastmf.reporting.page import Section, Table
from fastmf.reporting.pictures import learning_curve
from fastmf.runtime.device import resolve
from fastmf.solvers import SOLVERS, make

FEW = 5  # ratings below which a user is hardly known
LEVELS = 20  # distinct ratings at most that have a bar each


def data(asked: Asked) -> Section:
    """Describe the training data, where its rows went, and the command that made the model."""
    model = asked.model
    users, items = int((model.user_counts > 0).sum()), int((model.item_counts > 0).sum())
    n = int(model.item_counts.sum(dtype=np.int64))
    what = "observed pair" if model.implicit else "rating"
    folded = int(model.user_counts.sum(dtype=np.int64)) != n
    of_pairs = "" if folded else f": {share(n, users * items)} of all pairs"
    words = [
        f"{counted(n, what)} of {counted(items, 'item')}"
        + ("." if folded else f" by {counted(users, 'user')}{of_pairs}.")
        + f" The median user has {np.median(_of(model.user_counts)):,.0f}, the median item"
        f" {np.median(_of(model.item_counts)):,.0f}."
    ]
    if folded:
        words.append(f"Users were folded in since: the model now holds {counted(users, 'user')} with ratings.")
    if not model.implicit:
        low, high = model.rating_range
        spread = f"a mean of {model.mean:.3f} and a standard deviation of {model.scale:.3f}"
        same = f"All ratings are {low:g}."
        words.append(same if low == high else f"Ratings go from {low:g} to {high:g}, with {spread}.")
    words += _of_tables(asked, n)
    cold = [
        counted(int((getattr(model, f"{side}_counts") == 0).sum()), side)
        for side in ("user", "item")
        if (getattr(model, f"{side}_counts") == 0).any()
    ]
    if cold:
        words.append(f"{' and '.join(cold)} in the model have no training ratings.")
    words.append("The settings that are not defaults, as a command; options of data and validation are not recorded:")
    rows = Table("Where every row went", ("rows", "count"), [(_plain(name), n) for name, n in model.rows.items()])
    pictures = []
    if asked.ratings is not None and asked.ratings.rated and not model.implicit:
        pictures.append(_distribution(asked.ratings.values))
    return Section(
        "data", "Data", words, pictures, [rows] if model.rows else [], _advice_on_data(model), command_of(model)
    )


def _of_tables(asked: Asked, n: int) -> list[str]:
    """Compare the tables given with the model."""
    words, model, unknown = [], asked.model, asked.unknown
    if asked.ratings is not None and (unknown or (len(asked.ratings) != n and not model.implicit)):
        words.append(
            f"The {counted(len(asked.ratings), 'rating')} given are not those that the model was fitted to:"
            f" {unknown:,} are of users or items that it does not know."
        )
    if asked.titles is not None:
        known = sum(item in asked.titles for item in model.item_ids)
        if known < len(model.item_ids):
            words.append(
                f"{known:,} of {counted(len(model.item_ids), 'item')} have a title; the others show their ids."
            )
    return words


def learning(asked: Asked) -> Section:
    """Show how the error fell from epoch to epoch."""
    model, history = asked.model, asked.model.history
    if not history:
        return Section("learning", "Learning curve", ["The model has no history of epochs."])
    first, last = history[0], history[-1]
    how = "observed pairs went from being off by" if model.implicit else f"{train_name(False)} went from"
    words = [f"In {counted(len(history), 'epoch')}, {how} {first.train_rmse:.4f} to {last.train_rmse:.4f}."]
    if last.train_rmse > first.train_rmse:
        stiff = ", or the penalties (--reg) outweigh what there is" if has_setting(model, "reg") else ""
        words.append(f"It rose: there is little to learn here{stiff}.")
    measure = _measure(model)
    found = [(measure.cost(epoch), epoch) for epoch in history if measure.of(epoch) is not None]
    if not found:
        advice = ["Fit with --validation 0.1 (validation=0.1) to see where more epochs stop helping."]
        words.append("No ratings were held out for validation: training error alone does not say when to stop.")
        return Section("learning", "Learning curve", words, [learning_curve(model)], advice=advice)
    best = min(found, key=lambda each: each[0])[1]
    value, final = measure.of(best), measure.of(last)
    words.append(f"On validation ratings, {measure.name} was best at epoch {best.number}: {value:.4f}.")
    return Section("learning", "Learning curve", words, [learning_curve(model)],
                   advice=_advice_on_epochs(model, best.number, value, final))  # fmt: skip


def settings(asked: Asked) -> Section:
    """List settings, versions, memory, and the speed of an epoch beside the limits of this machine."""
    model = asked.model
    machine = describe()
    arrays = [model.user_factors, model.item_factors, model.user_bias, model.item_bias]
    held = sum(array.nbytes for array in (*arrays, *flat(model.learned).values(), *(model.seen or ())))
    peak = peak_memory()
    tables = [
        Table("Settings", ("setting", "value"), [(name, str(value)) for name, value in model.solver.items()]),
        Table("This report", ("what", "value"), [
            *((name, version) for name, version in versions().items()),
            ("processor", machine["cpu"]), ("cores", machine["cores"]),
            ("memory of the model's arrays", f"{held / 2**20:,.1f} MiB"),
            ("peak memory of this process", "-" if peak is None else f"{peak / 2**20:,.0f} MiB"),
            ("content hash of the model", model.content_hash[:16]),
        ]),
    ]  # fmt: skip
    return Section("settings", "Settings and speed", _speed(model), (), tables)


def command_of(model: State) -> str:
    """Return a command that fits such a model: the solver, and the settings that are not its defaults."""
    name = model.solver.get("name")
    if name not in SOLVERS:
        return ""
    usual = make(name).settings
    words = ["fastmf", "fit", "RATINGS", "--solver", str(name)]
    for key, value in model.solver.items():
        if key in usual and value is not None and value != usual[key]:
            dashed = key.replace("_", "-")
            if isinstance(value, bool):
                words.append(f"--{dashed}" if value else f"--no-{dashed}")
            else:
                words += [f"--{dashed}", str(value)]
    if model.choice is None and not model.implicit:
        words.append("--no-choice")
    if model.weight:
        words += ["--weight", model.weight]
    if model.item_features is not None:
        words += ["--item-features", "FILE"]
    if model.user_features is not None:
        words += ["--user-features", "FILE"]
    return shlex.join(words)


def _of(counts: np.ndarray) -> np.ndarray:
    """Return the counts of rows with ratings; a zero if there are none."""
    there = counts[counts > 0]
    return there if len(there) else np.zeros(1)


def _plain(name: str) -> str:
    return name.replace("_", " ")


def _distribution(values: np.ndarray) -> draw.Picture:
    distinct, counts = np.unique(values, return_counts=True)
    if len(distinct) > LEVELS:
        counts, edges = np.histogram(values, LEVELS)
        distinct = (edges[1:] + edges[:-1]) / 2
    most = distinct[np.argmax(counts)]
    label = f"How often each rating was given. {share(counts.max(), counts.sum())} of the ratings are {most:.3g}."
    shown = [f"{value:.3g}" for value in distinct]
    return draw.picture(label, draw.Bars(names=shown, series={"ratings": [float(n) for n in counts]}, value="ratings"))


def _advice_on_data(model: State) -> list[str]:
    advice = []
    few = int(((model.user_counts > 0) & (model.user_counts < FEW)).sum())
    there = int((model.user_counts > 0).sum())
    if there and few / there > 0.2:
        features = "" if model.user_features is not None else "side features (--user-features), or "
        advice.append(
            f"{share(few, there)} of the users have fewer than {FEW} ratings, too few to know their taste: {features}a"
            " few more ratings folded in (Model.fold_in) would help most."
        )
    rare = int(((model.item_counts > 0) & (model.item_counts < FEW)).sum())
    items = int((model.item_counts > 0).sum())
    if items and rare / items > 0.5 and model.item_features is None:
        advice.append(
            f"{share(rare, items)} of the items have fewer than {FEW} ratings: with a table of what is known about them"
            " (--item-features), they borrow from items like them."
        )
    meant = "read", "used", "validation", "observed", "disliked", "below_"
    dropped = {name: n for name, n in model.rows.items() if n and not name.startswith(meant)}
    read = model.rows.get("read", 0)
    if read and sum(dropped.values()) / read > 0.01:
        names = ", ".join(f"{_plain(name)} {n:,}" for name, n in dropped.items())
        advice.append(f"{share(sum(dropped.values()), read)} of the rows were not used ({names}): check the source.")
    return advice


def _measure(model: State) -> Any:
    return SOLVERS[model.solver["name"]]().measure


def _advice_on_epochs(model: State, best: int, value: float, final: float) -> list[str]:
    n, worse = len(model.history), abs(final - value)
    if best == n:
        more = "more epochs (--epochs)" if has_setting(model, "epochs") else "more samples (--samples)"
        return [f"The last epoch was the best: {more} may help."]
    if not has_setting(model, "epochs"):  # a mean over draws: no epoch is kept before the last
        return []
    if worse > 0.01 * abs(value):
        kept = "The model has the factors of the best epoch." if model.best_epoch else "Fit with --patience 3."
        return [
            f"After epoch {best} the model fits training ratings better and new ones worse (by {worse:.4f}). {kept}"
        ]
    return [f"Epochs after {best} change little: --epochs {best} would save {share(n - best, n)} of the time."]


def _speed(model: State) -> list[str]:
    seconds = [epoch.seconds for epoch in model.history]
    if not seconds:
        return []
    median, n = float(np.median(seconds)), int(model.item_counts.sum(dtype=np.int64))
    words = [
        f"An epoch took {median:.3g} s in the median: {n / max(median, 1e-9) / 1e6:,.3g} million ratings a second."
    ]
    try:
        solver = make(model.solver["name"], **{name: value for name, value in model.solver.items() if name != "name"})
    except FastMFError:
        return words
    rows = int((model.user_counts > 0).sum() + (model.item_counts > 0).sum())
    rate, most = solver.operations(n, rows) / max(median, 1e-9), limits(resolve("cpu"), with_blas=False)
    words.append(
        f"That is {rate / 1e9:.3g} GFLOP/s of the arithmetic that the method needs:"
        f" {share(rate, most['flops_per_second'])} of the {most['flops_per_second'] / 1e9:.3g} GFLOP/s that this"
        f" machine reached just now. It reads {most['bytes_per_second'] / 1e9:.3g} GB/s from memory. If the fit ran on"
        " another machine, if this one is busy, or on few ratings, the share says little."
    )
    return words
