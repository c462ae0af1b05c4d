"""A model of time and memory by size, fitted to the smaller points of scaling.py.

A figure is a sum of terms, each with a coefficient of at least 0, fitted to absolute relative errors:

    seconds, or bytes besides those of the start = sum_t c_t * term_t(ratings, users, items, k)
    seconds on p threads / seconds on 1 = s + (1 - s) / p                s: the share of serial work (Amdahl 1967)

The rows of a twin grow as its ratings do, so a term of ratings includes what the same number of rows costs.
benchmarks/README.md says what the terms stand for.
"""

import math
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import asdict, dataclass, replace
from itertools import combinations
from typing import Any, NamedTuple, Self

import numpy as np

from fastmf.datasets.twins import TWINS, scaled
from fastmf.kernels.vectors import whole
from fastmf.solvers.sgd import default_bins

Point = Mapping[str, Any]  # a measured point of scaling.py's report

FITTED_TO = 20_000_000
WEIGHT = 2.0  # of points with the k that is extrapolated; the others weigh 1
ESTIMATED = ((1_000_000_000, None), (100_000_000, 16), (100_000_000, 64), (1_000_000_000, 16), (1_000_000_000, 64))
ROUNDS, EXACT = 20, 0.01  # of reweighting; relative error below which errors count by their squares
NEAR = 2**20  # bytes of rows that the caches near a core hold
BANDWIDTH = 200e9  # bytes per second that 16 or 64 cores read from memory: eight channels of DDR4-3200
LABEL = "estimate, not measured"
ASSUMPTIONS = (
    "Terms grow as they do in the points that were fitted.",
    "The share of serial work is the one that explains the speed-up from 1 thread to the most threads of the run.",
    "All cores are like those of the run.",
    f"No epoch is faster than {BANDWIDTH / 1e9:.0f} GB/s of memory allow.",
    "ALS finds no row in a cache, and SGD only those of a block.",
    "SGD uses no more threads than there are bins.",
)


class Size(NamedTuple):
    """What a figure depends on."""

    ratings: int
    users: int
    items: int
    k: int
    threads: int

    @classmethod
    def of(cls, point: Point) -> Self:
        """Return the size of a measured point."""
        return cls(*(point[name] for name in cls._fields))

    @classmethod
    def of_twin(cls, ratings: int, k: int, threads: int) -> Self:
        """Return the size of a twin of ml-20m."""
        shape = scaled("ml-20m", ratings / TWINS["ml-20m"].ratings)
        return cls(shape.ratings, shape.users, shape.items, k, threads)

    @property
    def floats(self) -> int:
        """The factors of a row, padded to whole vectors."""
        return whole(self.k)

    @property
    def rows(self) -> int:
        """Users and items."""
        return self.users + self.items

    @property
    def bins(self) -> int:
        """The bins per side of SGD's blocked schedule."""
        return min(default_bins(self.ratings), self.users, self.items)

    def misses(self, rows: float) -> float:
        """Return how far the factors of rows reach beyond the near caches: how often those must double to hold them."""
        return math.log2(1 + 4 * rows * self.floats / NEAR)


TERMS: dict[str, Callable[[Size], float]] = {
    "1": lambda _: 1.0,
    "ratings": lambda size: size.ratings,
    "ratings k": lambda size: size.ratings * size.floats,
    "ratings k^2": lambda size: size.ratings * size.floats**2,
    "ratings k misses": lambda size: size.ratings * size.floats * size.misses(size.rows),
    "ratings k misses in a block": lambda size: size.ratings * size.floats * size.misses(size.rows / size.bins),
    "rows k": lambda size: size.rows * size.floats,
    "rows k^3": lambda size: size.rows * size.floats**3,
    "items": lambda size: size.items,
    "items k": lambda size: size.items * size.floats,
    "threads k^2": lambda size: size.threads * size.floats**2,
}

FIGURES: dict[str, tuple[str, ...]] = {
    "ingest_seconds": ("1", "ratings"),
    "als_epoch_seconds": ("1", "ratings", "ratings k^2", "ratings k misses", "rows k^3"),
    "sgd_epoch_seconds": ("1", "ratings", "ratings k", "ratings k^2", "ratings k misses in a block"),
    "user_seconds": ("1", "items", "items k"),
    "ingest_peak_bytes": ("1", "ratings"),
    "als_peak_bytes": ("1", "ratings", "rows k", "threads k^2"),
    "sgd_peak_bytes": ("1", "ratings", "rows k"),
}

# Bytes that an epoch reads from memory and writes to it, if caches hold no more than the rows of a block.
MOVED: dict[str, Callable[[Size], float]] = {
    "als_epoch_seconds": lambda size: 2 * size.ratings * (4 * size.floats + 12),
    "sgd_epoch_seconds": lambda size: 12 * size.ratings + 8 * size.bins * size.rows * size.floats,
}


@dataclass(frozen=True, kw_only=True)
class Growth:
    """The fitted model of a figure.

    ``start`` is what the process holds before it reads, 0 for times; the terms are added to it. ``coefficients`` are
    seconds or bytes per unit of each term. ``threads`` are those of the points; None for memory, which is fitted to
    points of all numbers of threads. ``serial_share`` is None if one number was measured.
    """

    start: float
    coefficients: dict[str, float]
    threads: int | None
    serial_share: float | None
    points: int
    largest_error: float

    def predict(self, size: Size) -> float | None:
        """Return the figure at a size; None if the effect of its threads was not measured."""
        figure = self.start + sum(value * TERMS[name](size) for name, value in self.coefficients.items())
        if self.threads in (None, size.threads):
            return figure
        if self.serial_share is None:
            return None
        ours, measured = (self.serial_share + (1 - self.serial_share) / p for p in (size.threads, self.threads))
        return figure * ours / measured


def fitted(points: Iterable[Point], k: int, most: int = FITTED_TO) -> dict[str, Growth]:
    """Fit every figure that has at least as many points of at most ``most`` ratings as terms; see WEIGHT for k."""
    chosen = [point for point in measured(points) if point["ratings"] <= most]
    threads = max((point["threads"] for point in chosen), default=1)
    found = {}
    for figure, terms in FIGURES.items():
        own = [point for point in chosen if point[figure] is not None]
        if is_time(figure):
            own = [point for point in own if point["threads"] == threads]
        if len(own) >= len(terms):
            share = serial_share(figure, chosen, threads) if is_time(figure) else None
            found[figure] = fitted_to(own, k, figure, threads if is_time(figure) else None, share)
    return found


def is_time(figure: str) -> bool:
    """Return whether a figure is a time; the others are memory."""
    return figure.endswith("seconds")


def measured(points: Iterable[Point]) -> list[Point]:
    """Return the points that did not fail, each once, even if it is in several sweeps."""
    return list({Size.of(point): point for point in points if not point["failed"]}.values())


def fitted_to(points: Sequence[Point], k: int, figure: str, threads: int | None, share: float | None) -> Growth:
    """Fit a figure to all of the points."""
    names = FIGURES[figure]
    terms = np.array([[TERMS[name](Size.of(point)) for name in names] for point in points], np.float64)
    starts = np.array([0.0 if is_time(figure) else point["start_bytes"] for point in points])
    relative = terms / (np.array([point[figure] for point in points]) - starts)[:, None]
    coefficients = least_absolute(relative, np.array([WEIGHT if point["k"] == k else 1.0 for point in points]))
    return Growth(
        start=float(np.median(starts)),
        coefficients=dict(zip(names, coefficients.tolist(), strict=True)),
        threads=threads,
        serial_share=share,
        points=len(points),
        largest_error=float(np.abs(relative @ coefficients - 1).max()),
    )


def least_absolute(terms: np.ndarray, weights: np.ndarray) -> np.ndarray:
    """Return the coefficients c >= 0 that nearly minimise the sum of w^2 |terms c - 1|, by least squares in rounds.

    Absolute errors let a point count little that the machine was too busy for.
    """
    rounds = weights
    for _ in range(ROUNDS):
        coefficients = non_negative(terms, rounds)
        rounds = weights / np.sqrt(np.maximum(np.abs(terms @ coefficients - 1), EXACT))
    return coefficients


def non_negative(terms: np.ndarray, weights: np.ndarray) -> np.ndarray:
    """Return the coefficients c >= 0 (n_terms,) that minimise |w (terms c - 1)|^2.

    ``terms`` are (n_points, n_terms), ``weights`` w (n_points,). The minimum is the best of the ordinary solutions over
    subsets of the terms that are nowhere negative.
    """
    scale = terms.max(axis=0)
    scaled_terms = terms / scale * weights[:, None]
    best, least = np.zeros(terms.shape[1]), np.inf
    for count in range(1, terms.shape[1] + 1):
        for subset in map(list, combinations(range(terms.shape[1]), count)):
            own = scaled_terms[:, subset]
            solution = np.linalg.lstsq(own, weights, rcond=None)[0]
            error = float(np.sum((own @ solution - weights) ** 2))
            if solution.min() >= 0 and error < least:
                best, least = np.zeros_like(best), error
                best[subset] = solution / scale[subset]
    return best


def serial_share(figure: str, points: Sequence[Point], threads: int) -> float | None:
    """Return the share of serial work that explains the speed-up from 1 to the most threads, None without such points.

    It is the mean over the sizes measured on both, and between 0 and 1.
    """
    seconds = {Size.of(point): point[figure] for point in points}
    many = [size for size in seconds if size.threads == threads > 1 and size._replace(threads=1) in seconds]
    ratios = [seconds[size] / seconds[size._replace(threads=1)] for size in many]
    return min(max((float(np.mean(ratios)) - 1 / threads) / (1 - 1 / threads), 0.0), 1.0) if ratios else None


def predictions(model: Mapping[str, Growth], points: Iterable[Point], most: int = FITTED_TO) -> list[dict[str, Any]]:
    """Compare the model with the points it was not fitted to: predicted, measured, and the relative error."""
    found = []
    for point in measured(points):
        size = Size.of(point)
        values = {name: growth.predict(size) for name, growth in model.items() if point[name] is not None}
        if size.ratings > most and values:
            figures = {
                name: {"predicted": value, "measured": point[name], "error": value / point[name] - 1}
                for name, value in values.items()
                if value is not None
            }
            found.append({**size._asdict(), "figures": figures})
    return found


def estimates(model: Mapping[str, Growth], k: int, threads: int) -> dict[str, Any]:
    """Estimate what this machine cannot measure: a billion ratings, and 16 and 64 cores.

    "figures" have the measured share of serial work. "at_best" is the same without serial work: other cores gain no
    more than that.
    """
    found = []
    for ratings, cores in ESTIMATED if model else ():
        size = Size.of_twin(ratings, k, cores or threads)
        figures = {name: estimated(name, growth, size) for name, growth in model.items()}
        parallel = {name: replace(growth, serial_share=0.0) for name, growth in model.items()}
        at_best = {name: estimated(name, growth, size) for name, growth in parallel.items()} if cores else None
        found.append({"label": LABEL, **size._asdict(), "figures": figures, "at_best": at_best})
    return {"label": LABEL, "assumptions": list(ASSUMPTIONS), "points": found}


def estimated(figure: str, growth: Growth, size: Size) -> float | None:
    """Return the model's figure, but no time that memory is too slow for."""
    most = size.bins if figure == "sgd_epoch_seconds" else size.threads
    value = growth.predict(size._replace(threads=min(size.threads, most)))
    if value is None or figure not in MOVED:
        return value
    return max(value, MOVED[figure](size) / BANDWIDTH)


def report_of(points: Sequence[Point], k: int, most: int) -> dict[str, Any]:
    """Return the model, its predictions and its estimates, as plain data for the report."""
    model = fitted(points, k, most)
    threads = max((point["threads"] for point in points), default=1)
    return {
        "model": {"fitted_to_ratings": most, "figures": {name: asdict(growth) for name, growth in model.items()}},
        "predictions": predictions(model, points, most),
        "estimates": estimates(model, k, threads),
    }
