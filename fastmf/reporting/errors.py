"""Sections on held-out ratings: errors beside simple baselines, predictions against the truth, and ranked lists."""

from typing import Any, NamedTuple

import numpy as np

from fastmf.data.ratings import Ratings
from fastmf.errors import counted, verb
from fastmf.evaluation.evaluate import by_count, count_trained, measure_errors, measure_lists
from fastmf.evaluation.hits import LIST_LENGTH
from fastmf.kernels.types import Pairs
from fastmf.model.baseline import baseline_sides
from fastmf.model.predict import estimates
from fastmf.model.state import State
from fastmf.reporting import draw, pictures
from fastmf.reporting.asked import Asked, has_setting, share
from fastmf.reporting.page import Section, Table

ENOUGH = 50  # pairs that a group needs before advice is given on it
SAME = 0.002  # standard deviations of the ratings: RMSEs closer than that are the same
GROUPS = 10  # of true ratings, if they take many values
NO_TEST = "No held-out ratings were given, so nothing is said of new ratings."
GIVE_TEST = (
    "Hold ratings out before the fit and give them here: fastmf split RATINGS TRAIN TEST, fastmf fit TRAIN, then"
    " fastmf report MODEL --test TEST (test=)."
)


class Held(NamedTuple):
    """Held-out ratings with predictions (n,): of the model, of biases alone (None if they are not known)."""

    values: np.ndarray
    model: np.ndarray
    biases: np.ndarray | None
    user_counts: np.ndarray
    item_counts: np.ndarray


def errors(asked: Asked) -> list[Section]:
    """Return the sections on errors and on predictions against the truth; one that says why there are none."""
    title = "Errors on held-out ratings"
    if asked.model.implicit:
        return [Section("errors", title, ["Implicit feedback has no ratings to predict: see the lists below."])]
    if asked.test is None or not len(asked.test):
        return [Section("errors", title, [NO_TEST], advice=[GIVE_TEST])]
    held, facts = held_out(asked.model, asked.test), measure_errors(asked.model, asked.test)
    return [_by_group(asked.model, held, facts, title), _against_truth(asked.model, held, facts)]


def held_out(model: State, test: Ratings) -> Held:
    """Predict held-out ratings by the model and by biases alone."""
    users, items = (model.present_rows(side, getattr(test, f"{side}_ids")) for side in ("user", "item"))
    pairs, biases = Pairs(users[test.users], items[test.items]), None
    counts = (
        np.append(getattr(model, f"{side}_counts"), 0)[rows] for side, rows in zip(("user", "item"), pairs, strict=True)
    )
    if model.baseline is not None:
        biases = estimates(model, pairs, baseline_sides(model.baseline)).astype(np.float64)
    return Held(test.values.astype(np.float64), estimates(model, pairs).astype(np.float64), biases, *counts)


def _rmse(found: np.ndarray, values: np.ndarray) -> float:
    return float(np.sqrt(np.mean((found - values) ** 2)))


def _three(model: State, held: Held, rows: np.ndarray) -> list[float | None]:
    """Return the RMSE of some rows by the model, by biases, and by the mean."""
    values = held.values[rows]
    biases = None if held.biases is None else _rmse(held.biases[rows], values)
    return [_rmse(held.model[rows], values), biases, _rmse(np.full(len(values), model.mean), values)]


def _by_group(model: State, held: Held, facts: dict[str, Any], title: str) -> Section:
    """Compare the model with biases and the mean: over all pairs, by activity, by popularity."""
    own, biases, mean = _three(model, held, np.full(len(held.values), True))
    words = [
        f"Over {counted(len(held.values), 'held-out rating')}, the RMSE is {own:.4f}. Predicting the mean of training"
        f" gives {mean:.4f}" + ("." if biases is None else f", biases alone {biases:.4f}.")
    ]
    advice = _advice_on_whole(model, own, biases, facts, len(held.values))
    shown, tables = [], []
    for kind, counts in (("users", held.user_counts), ("items", held.item_counts)):
        name, groups = f"training ratings of the {kind[:-1]}", _grouped(model, held, counts)
        names = [group for group, _, _ in groups]
        figures = [found for _, _, found in groups]
        series: dict[str, Any] = {"model": [each[0] for each in figures]}
        if biases is not None:
            series["biases alone"] = [each[1] for each in figures]
        series["mean"] = [each[2] for each in figures]
        label = f"RMSE by the number of {name}."
        shown.append(draw.picture(label, draw.Bars(names=names, series=series, value="RMSE")))
        rows = [(group, n, *found) for group, n, found in groups]
        tables.append(Table(f"RMSE by {name}", ("ratings", "pairs", "model", "biases", "mean"), rows))
        advice += _advice_on_groups(model, groups, kind)
    return Section("errors", title, words, shown, tables, advice)


def _grouped(model: State, held: Held, counts: np.ndarray) -> list[tuple[str, int, list[float | None]]]:
    """Return name, number of pairs and RMSEs of the groups of pairs with like counts."""
    return [(name, int(rows.sum()), _three(model, held, rows)) for name, rows in by_count(counts)]


def _advice_on_whole(model: State, own: Any, biases: Any, facts: dict[str, Any], n: int) -> list[str]:
    advice = []
    if biases is not None:
        gain = biases - own
        if own > 0 and gain < SAME * model.scale:
            advice.append(
                "The factors predict no better than biases alone: there is too little data for them, or they are fitted"
                f" too closely. Try fewer factors (--k){', a larger --reg,' if has_setting(model, 'reg') else ''} or"
                " fastmf tune."
            )
        elif gain < 0.02 * biases:
            advice.append(
                f"The factors lower the RMSE of biases by only {share(gain, biases)}: fastmf tune may find more."
            )
    trained = facts["trained_pairs"]
    if trained:
        advice.append(
            f"{counted(trained, 'held-out rating')} {verb(trained, 'was', 'were')} trained on: these figures are"
            " misleading, and lists leave such items out. Hold them out of the fit."
        )
    for side, method in (("user", "fold_in"), ("item", "fold_in_items")):
        unknown = facts[f"unknown_{side}s"]
        if unknown / n > 0.9:
            advice.append(f"{share(unknown, n)} of the {side}s of these ratings are unknown: is it the same data set?")
        elif unknown / n > 0.01:
            advice.append(
                f"{share(unknown, n)} of the ratings are of {side}s that the model does not know. Give their features"
                f" (--{side}-features), or fold in their first ratings (Model.{method})."
            )
    return advice


def _advice_on_groups(model: State, groups: list[tuple[str, int, list[Any]]], kind: str) -> list[str]:
    """Say which groups gain nothing by the factors."""
    known = [(name, found) for name, n, found in groups if n >= ENOUGH and found[1] is not None]
    equal = [name for name, (own, biases, _) in known if biases - own < SAME * model.scale and name != "0"]
    if not equal or len(equal) == len(known):
        return []
    names = " or ".join(equal)
    if model.solver.get("biases") is False:
        remedy = "the model has none; fit it without --no-biases"
    elif equal[0].endswith(" more"):
        remedy = "a larger --k may help where there are many ratings"
    elif getattr(model, f"{kind[:-1]}_features") is None:
        remedy = f"features of the {kind} (--{kind[:-1]}-features) say more than so few ratings"
    else:
        remedy = "their features do not make up for so few ratings"
    return [f"{kind.capitalize()} with {names} ratings are predicted no better than by biases alone: {remedy}."]


def _against_truth(model: State, held: Held, facts: dict[str, Any]) -> Section:
    """Show the spread of predictions for each true rating, the residuals, and the coverage of intervals."""
    away = held.values - held.model
    truths, low, middle, high = _quantiles(held)
    label = "Predictions for each true rating: their median, and the band that holds 80 % of them."
    shown = [
        draw.picture(label, draw.Lines(
            series={"median prediction": (truths, middle), "perfect": (truths, truths)}, x="true rating",
            y="prediction", spreads={"median prediction": (low, high)},
        ))
    ]  # fmt: skip
    counts, edges = np.histogram(away, 30)
    centres = (edges[1:] + edges[:-1]) / 2
    half = float(np.mean(np.abs(away) <= model.scale / 2))
    label = f"Residuals (true minus predicted): mean {away.mean():+.3f}, standard deviation {away.std():.3f}."
    shown.append(
        draw.picture(label, draw.Lines(series={"ratings": (centres, counts)}, x="true minus predicted", y="ratings"))
    )
    words = [
        f"{share(half, 1)} of predictions are within half a standard deviation ({model.scale / 2:.2f}) of the rating."
    ]
    if truths[-1] > truths[0]:
        words.append(
            f"Ratings of {truths[-1]:.3g} are predicted as {middle[-1]:.4g} in the median, ratings of {truths[0]:.3g}"
            f" as {middle[0]:.4g}: a cautious guess is drawn towards the mean, which keeps the squared error low."
        )
    advice, tables = [] if facts["trained_pairs"] else _advice_on_slope(model, held), []
    coverage = facts.get("coverage")
    if coverage:
        rows = [(f"{level} %", f"{100 * found:.1f} %") for level, found in coverage.items()]
        tables.append(Table("Ratings inside their prediction intervals", ("interval", "ratings in it"), rows))
        off = max(abs(100 * found - int(level)) for level, found in coverage.items())
        words.append(
            "The intervals hold about as many ratings as they should."
            if off < 3
            else f"The intervals are off by up to {off:.0f} points: do not take them at their word."
        )
    return Section("predicted", "Predicted against true", words, shown, tables, advice)


def _quantiles(held: Held) -> tuple[np.ndarray, ...]:
    """Return true ratings, or the means of groups of them, and the 10, 50 and 90 % quantiles of their predictions."""
    distinct, group = np.unique(held.values, return_inverse=True)
    if len(distinct) > 2 * GROUPS:
        bounds = np.unique(np.quantile(held.values, np.linspace(0, 1, GROUPS + 1)))
        group = np.clip(np.searchsorted(bounds, held.values, side="right") - 1, 0, max(len(bounds) - 2, 0))
    order = np.argsort(group, kind="stable")
    parts = np.split(order, np.flatnonzero(np.diff(group[order])) + 1)
    truths = np.array([held.values[part].mean() for part in parts])
    return truths, *(np.array([np.quantile(held.model[part], q) for part in parts]) for q in (0.1, 0.5, 0.9))


def _advice_on_slope(model: State, held: Held) -> list[str]:
    """Compare the spread of predictions with what ratings justify: the slope of ratings on predictions is then 1."""
    spread = float(np.var(held.model))
    if len(held.values) < ENOUGH or spread == 0:
        return []
    slope = float(np.mean((held.values - held.values.mean()) * (held.model - held.model.mean()))) / spread
    if slope < 0.9:
        remedy = "A larger --reg or fewer epochs" if has_setting(model, "reg") else "Fewer factors (--k)"
        return [
            f"A prediction one higher means a rating only {slope:.2f} higher: predictions are spread too far. {remedy}"
            " would draw them in."
        ]
    if slope > 1.15:
        remedy = "a smaller --reg" if has_setting(model, "reg") else "more factors (--k)"
        return [f"A prediction one higher means a rating {slope:.2f} higher: predictions are timid. Try {remedy}."]
    return []


def ranking(asked: Asked) -> Section:
    """Compare lists with those of the most rated items, for a sample of users."""
    title, model = "Ranked lists", asked.model
    if asked.test is None or not len(asked.test):
        return Section("ranking", title, [NO_TEST], advice=[GIVE_TEST])
    users = asked.sample(np.flatnonzero(np.bincount(asked.test.users, minlength=asked.test.n_users)))
    chosen = np.zeros(asked.test.n_users, bool)
    chosen[users] = True
    found = measure_lists(
        model, asked.test.take(chosen[asked.test.users]), LIST_LENGTH, model.positive_from if asked.test.rated else None
    )
    if found["ndcg"] is None:
        why = "the model does not hold what users have rated" if model.seen is None else "no user has a relevant item"
        return Section("ranking", title, [f"Lists were not measured: {why}."])
    ratio = found["ndcg"] / max(found["popularity"]["ndcg"], 1e-12)
    trained = count_trained(model, asked.test)
    words = [
        f"Lists of {LIST_LENGTH} items for {counted(found['ranked_users'], 'user')} were compared with what these users"
        f" went on to choose. nDCG is {found['ndcg']:.4f}; lists of the most rated items, the same for all, reach"
        f" {found['popularity']['ndcg']:.4f}.",
    ]
    advice = [] if ratio >= 1.05 else _advice_on_lists(model, ratio)
    if trained:
        advice = [
            f"{counted(trained, 'held-out pair')} {verb(trained, 'was', 'were')} trained on, and lists leave them out."
        ]
    names = pictures.MEASURES | {"reach": "reach", "novelty": "novelty, bits"}
    rows = [(name, found[key], found["popularity"][key]) for key, name in names.items()]
    table = Table("Measures of lists", ("measure", "model", "most rated"), rows)
    return Section("ranking", title, words, [pictures.lists(found)], [table], advice)


def _advice_on_lists(model: State, ratio: float) -> list[str]:
    """Say what may help lists that are no better than popularity, of what the model does not do yet."""
    if model.implicit:
        remedy = "Compare settings with fastmf tune, or give more pairs: there may be too few to tell users apart."
    elif model.choice is None:
        remedy = "Fit without --no-choice, so that lists are ranked by what users choose, or fit --solver implicit."
    else:
        remedy = "Fit --solver implicit, whose settings can be tuned for lists (fastmf tune --solver implicit)."
    how = "worse" if ratio < 0.95 else "hardly better"
    return [f"These lists are {how} than the most rated items. {remedy}"]
