"""Sections on what is recommended: the long tail, and five users with their history, their list, and why."""

import numpy as np

from fastmf.data import ids
from fastmf.errors import FastMFError, ParameterError, counted
from fastmf.evaluation.hits import LIST_LENGTH
from fastmf.evaluation.metrics import novelty, reach
from fastmf.model.explain import explain_score
from fastmf.model.recommend import Ranker, meaning_of
from fastmf.model.state import State
from fastmf.reporting import draw
from fastmf.reporting.asked import Asked, share
from fastmf.reporting.page import Section, Table

HISTORY, REASONS = 10, 3  # items of a history, and reasons for the first item of a list
QUANTILES = (0.1, 0.3, 0.5, 0.7, 0.9)  # of the users by number of ratings: those that are shown
PLACES = 120  # of a curve
REASON = (
    "Reasons are of the predicted rating of a list's first item. They do not say why it is first.",
    "Reasons are of the score of a list's first item.",
)
UNSEEN = "The model does not hold what users have rated (keep_seen=False), so lists would repeat it: none were made."


def tail(asked: Asked) -> Section:
    """Compare what was rated with what is recommended, by popularity."""
    model, title = asked.model, "The long tail"
    if model.seen is None:
        return Section("tail", title, [UNSEEN])
    warm = np.flatnonzero(model.user_counts > 0)
    users = asked.sample(warm)
    lists, _ = Ranker(model).top(users, LIST_LENGTH)
    present = model.present("item")
    order = np.flatnonzero(present)[np.argsort(-model.item_counts[present], kind="stable")]
    rated = model.item_counts[order].astype(np.float64)
    listed = np.bincount(lists[lists >= 0], minlength=len(present))[order].astype(np.float64)
    length, tenth = min(LIST_LENGTH, len(order)), max(round(len(order) / 10), 1)
    head = [each[:tenth].sum() / max(each.sum(), 1) for each in (rated, listed)]
    found = reach(lists, present)
    who = counted(len(users), "user") + ("" if len(users) == len(warm) else f", a fixed sample of {len(warm):,}")
    knowing = max(len(warm), int(model.item_counts.max(initial=1)))  # users may have been folded in since the fit
    what = "observed pairs" if model.implicit else "ratings"
    words = [
        f"The most popular tenth of the items got {share(head[0], 1)} of the {what}; it gets {share(head[1], 1)} of the"
        f" places in lists of {length} for {who}.",
        f"Reach: these lists hold {share(found, 1)} of the items. Gini coefficients, 0 if all items have equal shares"
        f" and near 1 if few have all: {_gini(rated):.2f} of the {what}, {_gini(listed):.2f} of the lists. Novelty,"
        " the mean of -log2 of the share of users who know an item:"
        f" {novelty(lists, model.item_counts, knowing):.2f} bits.",
    ]
    return Section(
        "tail", title, words, [_curves(rated, listed, what)], advice=_advice_on_tail(model, found, head, len(order))
    )


def _curves(rated: np.ndarray, listed: np.ndarray, what: str) -> draw.Picture:
    """Draw the shares of all ratings, and of all places in lists, that the most popular items have."""
    n = len(rated)
    places = np.unique(np.geomspace(1, n, min(PLACES, n)).round().astype(int))
    series = {
        name: (places, np.cumsum(each)[places - 1] / max(each.sum(), 1))
        for name, each in ((what, rated), ("places in lists", listed))
    }
    label = f"Share of the {what}, and of the places in lists, that the most popular items have."
    return draw.picture(label, draw.Lines(series=series, x="items, the most popular first", y="share", log_x=n > 20))


def _gini(values: np.ndarray) -> float:
    """Return the Gini coefficient of values (n,) >= 0."""
    n, total = len(values), values.sum()
    if not total:
        return 0.0
    return float(np.sum((2 * np.arange(1, n + 1) - n - 1) * np.sort(values)) / (n * total))


def _advice_on_tail(model: State, found: float, head: list[float], n_items: int) -> list[str]:
    if n_items >= 100 and head[1] > 0.95 and head[1] > head[0] + 0.1:
        other = "" if model.choice is None else (
            ", or rank by predicted rating (--rank-by rating): more novel lists, and less often right"
        )  # fmt: skip
        return [
            "Lists stay with the most popular items. To show more of the catalogue, recommend from a part of it"
            f" (--items){other}."
        ]
    if found < 0.01:
        return ["Lists hold less than 1 % of the items: check whether users differ at all in what they are shown."]
    return []


def users(asked: Asked) -> Section:
    """Show five users, from little to much rated: their history, their list, and reasons for its first item."""
    model, title = asked.model, "Five users"
    warm = np.flatnonzero(model.user_counts > 0)
    if model.seen is None or not len(warm):
        return Section("users", title, [UNSEEN])
    order = warm[np.argsort(model.user_counts[warm], kind="stable")]
    chosen = list(dict.fromkeys(int(order[int(q * (len(order) - 1) + 0.5)]) for q in QUANTILES))
    words = [
        "Chosen by their number of ratings: a tenth, three tenths, half, seven and nine tenths of all users have rated"
        f" no more. Lists are ranked by score: {meaning_of(model, None)}.",
    ]
    tables, why = [], ""
    found, scores = Ranker(model).top(np.array(chosen), LIST_LENGTH)
    for user, items, own in zip(chosen, found, scores, strict=True):
        listed = items[items >= 0]
        tables += [_history(asked, user), _list(asked, user, listed, own)]
        if len(listed) and (asked.ratings is not None or model.implicit):
            try:
                tables.append(_reasons(asked, user, int(listed[0])))
            except FastMFError as error:
                why = str(error)
    advice = []
    if asked.ratings is None:
        advice.append(
            "Give the training ratings (--ratings, ratings=) to see how users rated their items, and reasons."
        )
    elif why:
        words.append(f"There are no reasons: {why}.")
    if any("moves" in table.caption for table in tables):
        words.append(REASON[model.implicit])
    return Section("users", title, words, (), tables, advice, per_row=3)


def _name(asked: Asked, user: int) -> str:
    return f"User {asked.model.arrow_ids('user')[user].as_py()}"


def _list(asked: Asked, user: int, listed: np.ndarray, scores: np.ndarray) -> Table:
    """Return the items of the user's list."""
    rows = [
        (title, int(asked.model.item_counts[item]), float(score))
        for title, item, score in zip(asked.names(listed), listed, scores, strict=False)
    ]
    return Table(f"{_name(asked, user)}: list", ("item", "ratings", "score"), rows)


def _history(asked: Asked, user: int) -> Table:
    """Return the user's highest rated items; without ratings, the most popular of those rated."""
    model, name = asked.model, _name(asked, user)
    if asked.ratings is not None and asked.ratings.rated and not model.implicit:
        (row,) = ids.lookup(asked.ratings.user_ids, model.arrow_ids("user").slice(user, 1), "user")
        if row >= 0:
            entries = asked.ratings.by_user
            own = slice(*entries.indptr[row : row + 2])
            values, order = entries.values[own], np.argsort(-entries.values[own], kind="stable")[:HISTORY]
            shown = asked.titled(asked.ratings.item_ids.take(entries.indices[own][order]).to_pylist())
            rows = list(zip(shown, (f"{value:g}" for value in values[order]), strict=True))
            return Table(f"{name}: highest of {counted(len(values), 'rating')}", ("item", "rating"), rows)
    indptr, indices = model.seen or (np.zeros(1), np.zeros(0))
    seen = np.asarray(indices[indptr[user] : indptr[user + 1]])
    first = seen[np.argsort(-model.item_counts[seen], kind="stable")[:HISTORY]]
    known = [(title, int(model.item_counts[item])) for title, item in zip(asked.names(first), first, strict=True)]
    return Table(f"{name}: most popular of {counted(len(seen), 'known item')}", ("item", "ratings"), known)


def _reasons(asked: Asked, user: int, item: int) -> Table:
    """Return which of the user's ratings led to the score of an item by prediction."""
    model = asked.model
    user_id, item_id = (model.arrow_ids(side)[row].as_py() for side, row in (("user", user), ("item", item)))
    ratings = None if model.implicit and model.weight is None else asked.ratings
    found = explain_score(model, user_id, item_id, ratings, {}).head(REASONS)
    if not len(found):
        raise ParameterError("the user has no ratings that explain anything")
    rows = list(zip(asked.titled(found["item_id"].tolist()), map(float, found["contribution"]), strict=True))
    what, (title,) = "score" if model.implicit else "prediction", asked.titled([item_id])
    caption = f"{_name(asked, user)}: what moves the {what} of {title} most, up or down"
    return Table(caption, ("because of", "adds"), rows)
