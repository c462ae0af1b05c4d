"""Sections on what the factors mean: the extremes of the biases, the axes, and a map of the items."""

import numpy as np

from fastmf.errors import counted
from fastmf.model.axes import Axes, axes_of
from fastmf.model.enrichment import enriched
from fastmf.model.factors import both_ends, enough, groups_among, table_of
from fastmf.reporting import draw
from fastmf.reporting.asked import Asked, share
from fastmf.reporting.page import Section, Table

AXES, AT_ENDS, NAMED = 6, 8, 3  # axes, items at each end, and categories named there
MOST = 10_000  # items on the map
PLAIN = 400  # items in the picture that stands for the map in print
LONGEST = 80  # characters of a title on the map
COMMON = 24  # categories to colour by


def meaning(asked: Asked) -> list[Section]:
    """Return the sections on biases, axes and the map."""
    axes = axes_of(asked.model)
    numbers, shares, coordinates = table_of(asked.model, axes, "item", AXES)
    shown = enough(asked.model.item_counts, None)
    named = _categories(asked, coordinates, shown, numbers)
    sections = [] if 0 not in numbers else [_biases(asked, coordinates[:, 0], shown, float(shares[0]), named)]
    first = len(sections)
    if len(numbers) == first:
        return [
            *sections,
            Section("axes", "What the factors mean", ["The factors explain nothing: there are no axes."]),
        ]
    return [
        *sections,
        _axes(asked, axes, coordinates[:, first:], shown, named),
        _map(asked, numbers, shares, coordinates, shown, first),
    ]


def _categories(
    asked: Asked, coordinates: np.ndarray, shown: np.ndarray, numbers: np.ndarray
) -> dict[tuple[int, str], list[str]]:
    """Return the categories over-represented at each (axis, end)."""
    if asked.features is None:
        return {}
    found: dict[tuple[int, str], list[str]] = {}
    groups = groups_among(asked.model, asked.features, shown)
    for row in enriched(groups, coordinates[shown], asked.model.item_counts[shown]):
        found.setdefault((int(numbers[row["axis"]]), row["end"]), []).append(row["category"].rpartition("=")[2])
    return found


def _extremes(asked: Asked, values: np.ndarray, shown: np.ndarray, captions: tuple[str, str], unit: str) -> list[Table]:
    """Return tables of the items with the highest and the lowest values."""
    low, high = both_ends(shown, values, AT_ENDS)
    tables = []
    for caption, items in zip(captions, (high, low), strict=True):
        rows = [
            (name, float(values[item]), int(asked.model.item_counts[item]))
            for name, item in zip(asked.names(items), items, strict=True)
        ]
        tables.append(Table(caption, ("item", unit, "ratings"), rows))
    return tables


def _biases(
    asked: Asked, beyond: np.ndarray, shown: np.ndarray, explained: float, named: dict[tuple[int, str], list[str]]
) -> Section:
    words = [
        f"An item's bias is how much higher or lower than others it is rated by anybody. Biases of items explain"
        f" {share(explained, 1)} of the variance of the ratings. What popularity explains, a straight line in the log"
        " of the number of ratings, is taken off here: these are the items loved and loathed beyond it.",
        *_said(named, 0, "Among the loved", "among the loathed"),
    ]
    tables = _extremes(
        asked, beyond, shown, ("Loved beyond their popularity", "Loathed beyond their popularity"), "bias"
    )
    return Section("biases", "Loved and loathed", words, (), tables)


def _said(named: dict[tuple[int, str], list[str]], axis: int, high: str, low: str) -> list[str]:
    """Name the categories at both ends of an axis in a sentence."""
    parts = [
        f"{where}, more than by chance: {', '.join(named[axis, end][:NAMED])}"
        for end, where in (("high", high), ("low", low))
        if (axis, end) in named
    ]
    return [f"{'; '.join(parts)}."] if parts else []


def _axes(
    asked: Asked, axes: Axes, coordinates: np.ndarray, shown: np.ndarray, named: dict[tuple[int, str], list[str]]
) -> Section:
    implicit, shares = asked.model.implicit, axes.share
    whole, biases = "scores" if implicit else "ratings", sum(axes.bias_shares)
    rest = "" if implicit else f", biases {share(biases, 1)}; the rest is finer, or chance"
    words = [
        "Factors mean nothing one by one: they may be turned. So they are turned until each explains as much as it can."
        f" The first {coordinates.shape[1]} of {len(shares)} axes explain"
        f" {share(shares[: coordinates.shape[1]].sum(), 1)} of the variance of the {whole}{rest}. An item's coordinate"
        f" is what a user one standard deviation along the axis adds to its {'score' if implicit else 'rating'}.",
    ]
    label = f"Share of the variance of the {whole} that each axis explains."
    names = [str(number) for number in range(1, min(len(shares), 20) + 1)]
    picture = draw.picture(
        label, draw.Bars(names=names, series={"share": [100 * float(each) for each in shares[:20]]}, value="%")
    )
    tables = []
    for place in range(coordinates.shape[1]):
        ends = [named.get((place + 1, end), [])[:NAMED] for end in ("high", "low")]
        captions = tuple(
            f"Axis {place + 1} ({share(shares[place], 1)}), {end} end" + (f": more {', '.join(found)}" if found else "")
            for end, found in zip(("high", "low"), ends, strict=True)
        )
        tables += _extremes(asked, coordinates[:, place], shown, captions, "coordinate")  # type: ignore[arg-type]
    advice = [] if asked.features is not None else [
        "With a table of genres or other categories (--item-features), each end is also described by those that are"
        " over-represented there."
    ]  # fmt: skip
    if asked.titles is None:
        advice.append("Give titles (--titles) to read names instead of ids.")
    return Section("axes", "What the factors mean", words, [picture], tables, advice, per_row=2)


def _map(
    asked: Asked, numbers: np.ndarray, shares: np.ndarray, coordinates: np.ndarray, shown: np.ndarray, first: int
) -> Section:
    counts = asked.model.item_counts
    items = shown[np.argsort(-counts[shown], kind="stable")][:MOST]
    titles = [name[:LONGEST] for name in asked.names(items)]
    categories, groups = _groups(asked, items)
    data = {
        "axes": [
            f"{'loved' if number == 0 else f'axis {number}'} ({share(part, 1)})"
            for number, part in zip(numbers, shares, strict=True)
        ],
        "first": first,
        "titles": titles,
        "counts": counts[items].tolist(),
        "coordinates": [np.round(column, 3).tolist() for column in coordinates[items].T],
        "categories": categories,
        "groups": groups,
    }  # fmt: skip
    least = counted(int(counts[items].min()), "training rating")
    words = [
        f"{counted(len(items), 'item')}, those with at least {least}: neighbours please the same people. Search for a"
        " title, or point at an item; other axes and colours can be chosen.",
    ]
    across, up = coordinates[items[:PLAIN], first], coordinates[items[:PLAIN], min(first + 1, coordinates.shape[1] - 1)]
    label = f"The {min(PLAIN, len(items))} most rated items along the first two axes."
    picture = draw.picture(label, draw.Dots(series={"items": (across, up)}, x="axis 1", y="axis 2"))
    return Section("items", "A map of the items", words, [picture], map=data)


def _groups(asked: Asked, items: np.ndarray) -> tuple[list[str], list[list[int]]]:
    """Return the names of the most common categories, and which of them each item has."""
    if asked.features is None:
        return [], [[] for _ in items]
    made = groups_among(asked.model, asked.features, items)
    sizes = np.bincount(made.groups, minlength=len(made.names))
    common = np.argsort(-sizes, kind="stable")[:COMMON]
    common = common[sizes[common] > 0]
    place = np.full(len(made.names), -1)
    place[common] = np.arange(len(common))
    found: list[list[int]] = [[] for _ in items]
    for item, group in zip(made.items.tolist(), place[made.groups].tolist(), strict=True):
        if group >= 0:
            found[item].append(group)
    return [str(made.names[int(each)])[:LONGEST] for each in common], found
