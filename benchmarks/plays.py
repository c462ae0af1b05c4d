"""Write three sets of plays and purchases, for benchmarks/ranking.py.

    python benchmarks/plays.py FOLDER

No factor model draws them. Items belong to scenes, scenes to genres. A user has a home genre and a few scenes. Each
choice is a hit (by popularity), or follows up an earlier choice (the next item of its scene, or a partner that some
item happens to have), or comes from one of the user's scenes. benchmarks/README.md explains their purpose.
"""

from pathlib import Path
from typing import NamedTuple

import click
import numpy as np
from common import write_sets

SEED = 0
SCENES_EACH, AT_HOME = 6, 0.7  # scenes of a user at most, and the share of them that lies in the home genre
ATTEMPTS = 4  # choices per pair wanted, at most: most repeat earlier ones where a user's scenes are small
DEVOTION = 1.0  # by how much more, as a logarithm, what is in a user's scenes is played


class Recipe(NamedTuple):
    """How to draw a set.

    median and spread are those of the number of pairs of a user, which is log-normal. skew is the exponent by which
    popularity falls inside a scene. hits and follow_ups are shares of the choices.
    """

    users: int
    items: int
    genres: int
    scenes: int
    median: float
    spread: float
    skew: float
    hits: float
    follow_ups: float
    plays: bool


RECIPES = {
    "plays": Recipe(2_000, 15_000, 20, 400, 30, 0.6, 0.9, 0.10, 0.15, True),
    "purchases": Recipe(10_000, 3_500, 12, 150, 1.5, 1.6, 1.1, 0.25, 0.35, False),
    "watched": Recipe(4_000, 2_500, 8, 60, 50, 1.0, 0.7, 0.15, 0.20, False),
}


class Catalogue(NamedTuple):
    """Items in the order of their scenes.

    first (scenes + 1,): where each scene starts. cumulative (items,): the running sum of popularity. partner (items,).
    """

    first: np.ndarray
    cumulative: np.ndarray
    partner: np.ndarray

    def from_scenes(self, scenes: np.ndarray, rng: np.random.Generator) -> np.ndarray:
        """Draw an item from each of the given scenes, by popularity."""
        ends = np.append(0.0, self.cumulative)
        low, high = ends[self.first[scenes]], ends[self.first[scenes + 1]]
        found = np.searchsorted(self.cumulative, low + (high - low) * rng.random(len(scenes)), side="right")
        return np.clip(found, self.first[scenes], self.first[scenes + 1] - 1)

    def hits(self, n: int, rng: np.random.Generator) -> np.ndarray:
        """Draw items by popularity."""
        found = np.searchsorted(self.cumulative, self.cumulative[-1] * rng.random(n), side="right")
        return np.minimum(found, len(self.partner) - 1)

    def after(self, items: np.ndarray, rng: np.random.Generator) -> np.ndarray:
        """Return what follows each item: the next of its scene, or its partner."""
        scene = np.searchsorted(self.first, items, side="right") - 1
        following = np.where(items + 1 < self.first[scene + 1], items + 1, self.first[scene])
        return np.where(rng.random(len(items)) < 0.5, following, self.partner[items])


def draw_catalogue(recipe: Recipe, rng: np.random.Generator) -> tuple[Catalogue, np.ndarray]:
    """Draw the items; return them and the popularity of each scene."""
    sizes = 1 + rng.multinomial(recipe.items - recipe.scenes, rng.dirichlet(np.full(recipe.scenes, 2.0)))
    first = np.append(0, np.cumsum(sizes))
    scene_popularity = rng.permutation((1.0 + np.arange(recipe.scenes)) ** -0.8)
    place = np.arange(recipe.items) - np.repeat(first[:-1], sizes)
    within = (place + 2.0) ** -recipe.skew
    totals = np.add.reduceat(within, first[:-1])
    popularity = within / np.repeat(totals, sizes) * np.repeat(scene_popularity, sizes)
    return Catalogue(first, np.cumsum(popularity), rng.permutation(recipe.items)), scene_popularity


def draw_tastes(recipe: Recipe, scenes: np.ndarray, rng: np.random.Generator) -> tuple[np.ndarray, np.ndarray]:
    """Draw the scenes of each user, and their running weights: both (users, SCENES_EACH)."""
    genre = rng.integers(recipe.genres, size=recipe.scenes)
    share = scenes / scenes.sum()
    of_all = rng.choice(recipe.scenes, p=share, size=(recipe.users, SCENES_EACH))
    home, at_home = genre[of_all[:, 0]], np.empty_like(of_all)
    for each in range(recipe.genres):
        own, there = np.flatnonzero(genre == each), np.flatnonzero(home == each)
        if len(there):
            at_home[there] = rng.choice(own, p=share[own] / share[own].sum(), size=(len(there), SCENES_EACH))
    chosen = np.where(rng.random(of_all.shape) < AT_HOME, at_home, of_all)
    weights = rng.gamma(0.7, size=chosen.shape) + 1e-9
    weights[np.arange(SCENES_EACH) > rng.poisson(2.0, recipe.users)[:, None]] = 0
    return chosen, np.cumsum(weights, axis=1) / weights.sum(axis=1, keepdims=True)


def draw(name: str, seed: int = SEED) -> dict[str, np.ndarray]:
    """Draw a set by name: distinct (user, item) pairs, with "plays" if the set has any."""
    recipe, rng = RECIPES[name], np.random.default_rng(seed)
    catalogue, popularity = draw_catalogue(recipe, rng)
    scenes, running = draw_tastes(recipe, popularity, rng)
    lengths = np.exp(np.log(recipe.median) + recipe.spread * rng.standard_normal(recipe.users))
    wanted = np.clip(lengths.astype(int), 1, recipe.items // 3)
    chosen = np.full((recipe.users, ATTEMPTS * wanted.max()), -1)
    devoted = np.zeros(chosen.shape, bool)
    for step in range(chosen.shape[1]):
        users = np.flatnonzero(ATTEMPTS * wanted > step)
        kind, earlier = rng.random(len(users)), (rng.random(len(users)) * step).astype(int)
        own = (running[users] < rng.random((len(users), 1))).sum(axis=1).clip(max=SCENES_EACH - 1)
        by_taste = catalogue.from_scenes(scenes[users, own], rng)
        found = np.where(kind < recipe.hits, catalogue.hits(len(users), rng), by_taste)
        follows = (kind >= recipe.hits) & (kind < recipe.hits + recipe.follow_ups) & (step > 0)
        chosen[users, step] = np.where(follows, catalogue.after(chosen[users, earlier], rng), found)
        devoted[users, step] = kind >= recipe.hits
    return _distinct(recipe, chosen, devoted, wanted, rng)


def _distinct(
    recipe: Recipe, chosen: np.ndarray, devoted: np.ndarray, wanted: np.ndarray, rng: np.random.Generator
) -> dict[str, np.ndarray]:
    """Keep the first ``wanted`` distinct choices of each user, under shuffled ids."""
    users, steps = np.nonzero(chosen >= 0)
    keys = users * recipe.items + chosen[users, steps]
    _, first = np.unique(keys, return_index=True)
    first = np.sort(first)  # in the order of choice, user by user
    users, steps = users[first], steps[first]
    place = np.arange(len(users)) - np.searchsorted(users, users)
    kept = place < wanted[users]
    users, steps = users[kept], steps[kept]
    found = {"user": users, "item": rng.permutation(recipe.items)[chosen[users, steps]]}
    if recipe.plays:
        level = 1.5 + 0.8 * rng.standard_normal(recipe.users)
        plays = level[users] + DEVOTION * devoted[users, steps] + 1.2 * rng.standard_normal(len(users))
        found["plays"] = np.maximum(np.round(np.exp(plays)), 1).astype(np.int64)
    return found


@click.command(help=__doc__.replace("\n\n", "\n\n\b\n", 1))
@click.argument("folder", type=click.Path(file_okay=False, path_type=Path))
def main(folder: Path) -> None:
    """Write the three files."""
    write_sets(RECIPES, draw, folder)


if __name__ == "__main__":
    main()
