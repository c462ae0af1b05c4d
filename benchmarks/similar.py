"""Measure neighbours of items: those of Model.similar_items beside plain cosines, the most rated items and random ones.

    python benchmarks/similar.py ratings.parquet movies.parquet -o similar.json
    python benchmarks/similar.py ratings.parquet movies.parquet --show "Godfather, The (1972)" --show "Toy Story (1995)"

Users are cut into two halves, once for each --seed. A model fitted to one half is compared with a model fitted to the
other, and its neighbours with what the other half has rated. benchmarks/README.md explains the figures.
"""

import functools
from collections.abc import Callable, Sequence
from typing import Any, NamedTuple

import click
import numpy as np
from common import README, Table, number, reporting

import fastmf
from fastmf import Model, Ratings
from fastmf.cli.console import remark
from fastmf.data.read import read_columns
from fastmf.errors import ParameterError
from fastmf.model.similar import nearest, similar_vectors
from fastmf.model.titles import titles_of
from fastmf.solvers import SOLVERS, make

N = 10  # neighbours
ENOUGH = 20  # ratings of an item in the second set of queries
SURE = 10  # common raters at which a correlation of ratings counts half
BIAS_REG = 3.0
NO_GENRE = {"", "(no genres listed)"}
COLUMNS = {
    "count": "count",
    "agreement": "agreement",
    "agreement_enough": "(20 ratings)",
    "co_rating": "co-rating",
    "ratings": "ratings",
    "ratings_if_any": "(10 raters)",
    "raters": "10 raters",
    "genre": "genre",
    "genre_enough": "(20 ratings)",
    "distinct": "distinct",
    "distinct_of_all": "(of all)",
}


def cosines(model: Model) -> np.ndarray:
    """Return the items' factors at length 1."""
    factors = model.item_factors.astype(np.float64)
    lengths = np.linalg.norm(factors, axis=1)
    return (factors / np.where(lengths > 0, lengths, 1)[:, None]).astype(np.float32)


def most_rated(model: Model) -> np.ndarray:
    """Return vectors whose neighbours are the most rated items."""
    return (model.item_counts / model.item_counts.max()).astype(np.float32)[:, None]


def at_random(model: Model) -> np.ndarray:
    """Return vectors whose neighbours are any items; those of two models have nothing in common."""
    rng = np.random.default_rng(int(model.item_counts.sum()))
    return rng.standard_normal((len(model.item_counts), 16)).astype(np.float32)


MEASURES: dict[str, Callable[[Model], np.ndarray]] = {
    "cosine": cosines,
    "similar": lambda model: similar_vectors(model, "item"),
    "most rated": most_rated,
    "random": at_random,
}


class Held(NamedTuple):
    """What users say of items, (n_users, n_items) float32 each.

    rated is 1 for what a user has rated, else 0. who is the same, centred and at length 1 for each item: inner products
    are the correlations of who has rated two items. errors are ratings without biases, 0 where not rated.
    """

    rated: np.ndarray
    who: np.ndarray
    errors: np.ndarray


def held_of(ratings: Ratings, users: np.ndarray) -> Held:
    """Return what the given users say."""
    rated = np.zeros((ratings.n_users, ratings.n_items), np.float32)
    errors = np.zeros_like(rated)
    rated[ratings.users, ratings.items] = 1
    errors[ratings.users, ratings.items] = ratings.values
    rated, errors = rated[users], errors[users]
    who = rated - rated.mean(axis=0)
    lengths = np.linalg.norm(who, axis=0)
    mean = errors.sum() / max(rated.sum(), 1)
    of_users, of_items = np.zeros((len(users), 1)), np.zeros((1, ratings.n_items))
    for _ in range(10):
        left = (errors - mean - of_items) * rated
        of_users = left.sum(axis=1, keepdims=True) / (rated.sum(axis=1, keepdims=True) + BIAS_REG)
        left = (errors - mean - of_users) * rated
        of_items = left.sum(axis=0, keepdims=True) / (rated.sum(axis=0, keepdims=True) + BIAS_REG)
    left = (errors - mean - of_users - of_items) * rated
    return Held(rated, who / np.where(lengths > 0, lengths, 1), left.astype(np.float32))


def said_of(held: Held, queries: np.ndarray, lists: np.ndarray) -> dict[str, float]:
    """Measure how the held-out users rate an item and its neighbours."""
    one, two = np.repeat(queries, lists.shape[1]), lists.ravel()
    both = np.einsum("un,un->n", held.rated[:, one], held.rated[:, two])
    squares = [
        np.einsum("un,un->n", np.square(held.errors[:, a]), held.rated[:, b]) for a, b in ((one, two), (two, one))
    ]
    products = np.einsum("un,un->n", held.errors[:, one], held.errors[:, two])
    length = np.sqrt(squares[0] * squares[1])
    correlations = products / np.where(length > 0, length, 1)
    enough = both >= SURE
    return {
        "co_rating": float(np.einsum("un,un->n", held.who[:, one], held.who[:, two]).mean()),
        "ratings": float((correlations * both / (both + SURE)).mean()),
        "ratings_if_any": float(correlations[enough].mean()) if enough.any() else 0.0,
        "raters": float(enough.mean()),
    }


class Setup(NamedTuple):
    """The ratings, what is asked of all solvers, and the genres of items (n_items, n_genres) float32, or None."""

    ratings: Ratings
    queries: dict[str, np.ndarray]
    halves: list[tuple[np.ndarray, np.ndarray]]
    genres: np.ndarray | None


def genres_of(ratings: Ratings, movies: str | None, column: str) -> np.ndarray | None:
    """Read the genres of all rated items; None without a table."""
    if movies is None:
        return None
    item_ids, texts = (each.to_pylist() for each in read_columns(movies, {"item": None, "genres": column}).columns)
    words = {item: set((text or "").split("|")) - NO_GENRE for item, text in zip(item_ids, texts, strict=True)}
    names = sorted(set().union(*words.values()))
    own = [words.get(item, set()) for item in ratings.item_ids.to_pylist()]
    return np.array([[name in each for name in names] for each in own], np.float32)


def halves_of(ratings: Ratings, seed: int) -> tuple[np.ndarray, np.ndarray]:
    """Cut the users into two halves at random."""
    order = np.random.default_rng(seed).permutation(ratings.n_users)
    return order[: len(order) // 2], order[len(order) // 2 :]


def lists_of(vectors: np.ndarray, model: Model, queries: np.ndarray) -> np.ndarray:
    """Return the N nearest items of each query by inner product, (n_queries, N)."""
    found, _ = nearest(vectors, model.item_counts > 0, queries, N)
    if found.shape[1] < N or (found < 0).any():
        raise ParameterError(f"an item has fewer than {N} neighbours: give more ratings")
    return found


def in_common(one: np.ndarray, two: np.ndarray) -> float:
    """Return the mean share of the neighbours that two models have in common."""
    return float(np.mean([len(np.intersect1d(a, b)) / N for a, b in zip(one, two, strict=True)]))


def share_of_genre(genres: np.ndarray | None, queries: np.ndarray, lists: np.ndarray) -> float | None:
    """Return the share of neighbours that have a genre in common with their query."""
    if genres is None:
        return None
    return float((np.einsum("qg,qng->qn", genres[queries], genres[lists]) > 0).mean())


def measured(setup: Setup, whole: Model, halves: list[list[Model]], vectors: Callable[[Model], np.ndarray]) -> Any:
    """Measure the neighbours that these vectors give."""
    found: dict[str, Any] = {}
    own, warm = vectors(whole), np.flatnonzero(whole.item_counts > 0)
    for name, queries in setup.queries.items():
        asked = queries[whole.item_counts[queries] > 0]
        lists = lists_of(own, whole, asked)
        found |= {f"count{name}": float(np.median(whole.item_counts[lists]))}
        found |= {f"genre{name}": share_of_genre(setup.genres, asked, lists), f"distinct{name}": len(np.unique(lists))}
    found["distinct_of_all"] = len(np.unique(lists_of(own, whole, warm)))
    said, agreed = [], {name: [] for name in setup.queries}
    for users, models in zip(setup.halves, halves, strict=True):
        pair = [vectors(model) for model in models]
        for name, queries in setup.queries.items():
            asked = queries[np.all([model.item_counts[queries] > 0 for model in models], axis=0)]
            lists = [lists_of(each, model, asked) for each, model in zip(pair, models, strict=True)]
            agreed[name].append(in_common(*lists))
            if not name:  # what a half's neighbours are to the users of the other
                others = (held_of(setup.ratings, half) for half in reversed(users))
                said += [said_of(held, asked, each) for held, each in zip(others, lists, strict=True)]
    found |= {f"agreement{name}": float(np.mean(values)) for name, values in agreed.items()}
    return found | {key: float(np.mean([each[key] for each in said])) for key in said[0]}


def shown_lists(ratings: Ratings, whole: Model, names: dict[Any, Any], titles: Sequence[str]) -> dict[str, Any]:
    """Return the neighbours of items of these titles, and their counts, by cosine and by similar_items."""
    item_ids, found = ratings.item_ids.to_pylist(), {}
    for title in titles:
        rows = [row for row, item in enumerate(item_ids) if names.get(item) == title]
        if not rows:
            raise ParameterError(f"no rated item has the title {title!r}: give a whole title")
        for measure in ("cosine", "similar"):
            lists = lists_of(MEASURES[measure](whole), whole, np.array(rows[:1]))[0].tolist()
            pairs = [{"title": names.get(item_ids[row]), "count": int(whole.item_counts[row])} for row in lists]
            found.setdefault(title, {})[measure] = pairs
    return found


@click.command(epilog=README)
@click.argument("ratings")
@click.argument("movies", required=False)
@click.option("--solver", "solvers", multiple=True, default=list(SOLVERS), type=click.Choice(list(SOLVERS)),
              help="A solver; may be given several times.  [default: all]")  # fmt: skip
@click.option("--seed", "seeds", multiple=True, type=int, default=[0, 1, 2], show_default=True)
@click.option("--queries", default=200, show_default=True, help="How many of the most rated items to ask for.")
@click.option("--positive-from", default=4.0, show_default=True, help="For implicit feedback.")
@click.option("--genres", default="genres", show_default=True, help="Column of MOVIES: words with | between them.")
@click.option("--half-known", "others", multiple=True, type=float, metavar="N",
              help="Try N in place of 20 ratings; may be given several times.")  # fmt: skip
@click.option("--show", "titles", multiple=True, metavar="TITLE", help="Show the neighbours of the item of this title.")
@reporting("similar.py", "ratings", "movies")
def main(
    ratings: str,
    movies: str | None,
    solvers: tuple[str, ...],
    seeds: tuple[int, ...],
    queries: int,
    positive_from: float,
    genres: str,
    others: tuple[float, ...],
    titles: tuple[str, ...],
) -> Table:
    """Measure neighbours of items, for every solver with its defaults."""
    given = Ratings.read(ratings)
    order = np.argsort(-given.item_counts, kind="stable")
    asked = {"": order[:queries], "_enough": order[given.item_counts[order] >= ENOUGH]}
    asked = {name: rows for name, rows in asked.items() if len(rows)}
    setup = Setup(given, asked, [halves_of(given, seed) for seed in seeds], genres_of(given, movies, genres))
    measures = MEASURES | {
        f"similar, {n:g}": functools.partial(similar_vectors, side="item", half_known=n) for n in others
    }
    results, notes = [], []
    for name in solvers:
        solver = make(name, **({"positive_from": positive_from} if SOLVERS[name].implicit else {}))
        whole = fastmf.fit(given, solver=solver)
        halves = [
            [fastmf.fit(given.take(np.isin(given.users, half)), solver=solver) for half in users]
            for users in setup.halves
        ]
        for measure, vectors in measures.items():
            results.append({"solver": name, "measure": measure, **measured(setup, whole, halves, vectors)})
        if titles:
            lists = shown_lists(given, whole, titles_of(movies, whole) or {}, titles)
            results[-len(measures)]["lists"] = lists
            notes += noted(name, lists)
        remark(f"{name}: {len(measures)} measures")
    report = {"ratings": len(given), "users": given.n_users, "items": given.n_items, "queries": queries}
    rows = [(each["solver"], each["measure"], *(number(each.get(key)) for key in COLUMNS)) for each in results]
    return report | {"results": results, "notes": notes}, ("solver", "measure", *COLUMNS.values()), rows


def noted(solver: str, lists: dict[str, Any]) -> list[str]:
    """Return lists as lines of text."""
    lines = []
    for title, measures in lists.items():
        for measure, pairs in measures.items():
            lines += [f"{solver}, {title}, {measure}:", *(f"  {pair['count']:>6,}  {pair['title']}" for pair in pairs)]
    return lines


if __name__ == "__main__":
    main()
