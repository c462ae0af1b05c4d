"""Over-represented categories: planted ones are named, noise and mere popularity are not."""

import numpy as np
import pandas as pd
import pytest

from fastmf.data.features import Features
from fastmf.model.enrichment import Groups, Strata, enriched, groups_of

N = 600


@pytest.fixture(scope="module")
def rng():
    return np.random.default_rng(0)


def groups(*members):
    sets = [np.flatnonzero(each) for each in members]
    names = [f"g{place}" for place in range(len(sets))]
    return Groups(names, np.concatenate(sets), np.repeat(np.arange(len(sets)), [len(each) for each in sets]))


def test_a_planted_category_is_named_at_its_end_with_its_counts(rng):
    member, counts = rng.random(N) < 0.15, rng.integers(20, 300, N)
    coordinates = rng.standard_normal((N, 2))
    coordinates[member, 1] -= 1.5
    (found,) = enriched(groups(member, rng.random(N) < 0.3), coordinates, counts)
    low, _ = Strata(counts).ends(coordinates[:, 1])
    assert (found["axis"], found["end"], found["category"]) == (1, "low", "g0")
    assert found["items"] == member[low].sum()
    assert found["expected"] == pytest.approx(member.mean() * len(low), rel=0.1)
    assert found["p_value"] < 0.05


def test_noise_is_seldom_named(rng):
    named = 0
    for _ in range(20):
        noise = groups(*(rng.random(N) < share for share in rng.uniform(0.03, 0.5, 20)))
        named += bool(enriched(noise, rng.standard_normal((N, 3)), rng.integers(20, 300, N)))
    assert named <= 4  # of 20, at a level of .05


def test_popularity_alone_names_nothing(rng):
    counts = np.sort(rng.integers(20, 3_000, N))
    popular = (np.arange(N) > N / 2) & (rng.random(N) < 0.9)
    coordinates = (rng.standard_normal(N) * np.log(counts))[:, None]  # both tails are popular
    assert enriched(groups(popular), coordinates, counts) == []


def test_ends_are_a_tenth_of_each_stratum_of_popularity(rng):
    counts, coordinates = rng.permutation(N), rng.standard_normal(N)
    low, high = Strata(counts).ends(coordinates)
    assert len(low) == len(high) == len(set(low) | set(high)) / 2 == N / 10
    for stratum in range(10):
        own = np.flatnonzero(counts // (N / 10) == stratum)
        assert set(own[np.argsort(coordinates[own])][:6]) <= set(low)
        assert set(own[np.argsort(coordinates[own])][-6:]) <= set(high)


def test_small_categories_and_few_items_are_left_alone(rng):
    tiny = np.arange(N) < 9
    coordinates = np.where(tiny, 9.0, rng.standard_normal(N))[:, None]
    assert enriched(groups(tiny, ~tiny), coordinates, np.full(N, 30)) == []
    assert enriched(groups(np.ones(3, bool)), np.zeros((3, 1)), np.full(3, 30)) == []


def test_features_make_groups_of_categories_and_of_thirds_of_numbers():
    table = pd.DataFrame(
        {"item": np.arange(9), "genres": ["a|b", "a", "b"] * 3, "year": [*range(1990, 1998), None], "x": 1.0}
    )
    features = Features.read(table, "item")
    made = groups_of(features, np.array([8, -1, 0, 1, 2, 3, 4, 5, 6, 7]))  # item 0 of these is row 8, item 1 is unknown
    sets = {name: set(made.items[made.groups == place]) for place, name in enumerate(made.names)}
    assert sets["genres=a"] == {2, 3, 5, 6, 8, 9}
    assert sets["genres=b"] == {0, 2, 4, 5, 7, 8}
    year = {name: rows for name, rows in sets.items() if name.startswith("year")}
    assert year["year ≤ 1992"] == {2, 3, 4}
    assert year["year ≥ 1995"] == {7, 8, 9}
