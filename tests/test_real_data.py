"""Is it as accurate as it is said to be? On MovieLens where FASTMF_DATA_DIR has it, on a synthetic twin anywhere."""

import os
from itertools import islice
from pathlib import Path

import numpy as np
import pandas as pd
import pyarrow as pa
import pytest

import fastmf
from fastmf import Ratings
from fastmf.data.csr import compress
from fastmf.datasets import twins
from fastmf.evaluation.hits import hits_of, wanted_of
from fastmf.evaluation.metrics import ndcg
from fastmf.model.axes import axes_of
from fastmf.model.recommend import Ranker
from fastmf.runtime.device import resolve
from fastmf.solvers import SOLVERS, links

pytestmark = pytest.mark.big

FOLDER = Path(os.environ.get("FASTMF_DATA_DIR", ""))
MOVIELENS, MOVIES = FOLDER / "ml-latest-small.parquet", FOLDER / "ml-latest-small-movies.parquet"
OF_RATINGS = [name for name, solver in SOLVERS.items() if not solver.implicit]
BIAS_ONLY = {"k": 1, "reg0": 1e9}  # factors weighted down to nothing: the biases remain

needs_movielens = pytest.mark.skipif(
    not (FOLDER.name and MOVIELENS.is_file()), reason="FASTMF_DATA_DIR holds no ml-latest-small.parquet"
)


def mean_rmse(ratings, folds=5, **settings):
    """Mean RMSE over the first of five random folds."""
    errors = []
    for rest, held_out in islice(ratings.folds(5, seed=0), folds):
        errors.append(fastmf.evaluate(fastmf.fit(rest, **settings), held_out)["rmse"])
    return np.mean(errors)


@pytest.fixture(scope="module")
def movielens():
    return Ratings.from_parquet(MOVIELENS)


@needs_movielens
@pytest.mark.parametrize("solver", SOLVERS)
def test_neighbours_are_well_known_and_found_again_by_other_users(solver, movielens):
    # Plain cosines have a median count of 7 (als) and 6 (sgd), and agree on 2 % of the neighbours.
    settings = {"solver": solver} | ({"positive_from": 4} if SOLVERS[solver].implicit else {})
    queries = np.argsort(-movielens.item_counts, kind="stable")[:200]
    whole = fastmf.fit(movielens, **settings).similar_items(movielens.item_ids.take(pa.array(queries)))
    assert whole["count"].median() >= 60
    assert whole["similar_item_id"].nunique() > 300
    half = np.random.default_rng(0).permutation(movielens.n_users)[movielens.users] < movielens.n_users / 2
    models = [fastmf.fit(movielens.take(part), **settings) for part in (half, ~half)]
    both = np.all([model.item_counts[queries] > 0 for model in models], axis=0)
    asked = movielens.item_ids.take(pa.array(queries[both]))
    lists = [model.similar_items(asked)["similar_item_id"].to_numpy().reshape(-1, 10) for model in models]
    shared = np.mean([len(np.intersect1d(*pair)) / 10 for pair in zip(*lists, strict=True)])
    assert shared > 0.07


@pytest.fixture(scope="module")
def bias_only(movielens):
    return mean_rmse(movielens, solver="als", **BIAS_ONLY)


@needs_movielens
@pytest.mark.parametrize("solver", OF_RATINGS)
def test_movielens_small_is_predicted_as_well_as_measured(solver, movielens, bias_only):
    # .8418 (ALS) and .8412 (SGD) were measured with prototypes, on other folds; seeds change it by about .001
    found = mean_rmse(movielens, 1 if solver == "gibbs" else 5, k=32, solver=solver)  # a hundred sweeps take seconds
    assert found <= 0.845
    assert found < bias_only - 0.015


@needs_movielens
def test_lists_of_implicit_feedback_beat_popularity_and_predictions(movielens):
    rest, held_out = movielens.split(0.2, seed=0)
    found = fastmf.evaluate(fastmf.fit(rest, solver="implicit", positive_from=4), held_out)
    assert found["ndcg"] > 1.5 * found["popularity"]["ndcg"]
    predicted = fastmf.fit(rest, solver="als", blend=True)
    plain, blended = (
        fastmf.evaluate(predicted, held_out, relevant_from=4, rank_by=way)["ndcg"] for way in ("rating", "blend")
    )
    assert plain < found["popularity"]["ndcg"] < blended < found["ndcg"]


@needs_movielens
def test_intervals_of_gibbs_hold_what_they_say_and_errors_rise_with_them(movielens):
    rest, held_out = next(iter(movielens.folds(5, seed=1)))
    model = fastmf.fit(rest, solver="gibbs", samples=40)
    result = fastmf.evaluate(model, held_out)
    assert result["rmse"] < result["rmse_of_biases"] - 0.025
    assert 0.79 <= result["coverage"]["80"] <= 0.83
    users, items = np.array(held_out.user_ids)[held_out.users], np.array(held_out.item_ids)[held_out.items]
    found = model.predict(users, items, std=True)
    errors = (held_out.values - found["prediction"]) ** 2
    deciles = [np.sqrt(errors.iloc[rows].mean()) for rows in np.array_split(np.argsort(found["std"]), 10)]
    assert np.corrcoef(deciles, range(10))[0, 1] > 0.95
    assert deciles[-1] > 1.5 * deciles[0]


class Permuted(links.Linked):
    """Links by what somebody else has rated: all that differs is whose rows are whose."""

    def __init__(self, k, ridge, entries, others, table, *more):
        indptr, indices, values, _ = entries
        counts = np.diff(indptr)
        order = np.random.default_rng(0).permutation(len(counts))
        columns = np.concatenate([indices[indptr[row] : indptr[row + 1]] for row in order])
        rows = np.repeat(np.arange(len(counts), dtype=np.int32), counts[order])
        shape = len(counts), len(table)
        theirs = compress(rows, columns, values, shape, resolve("cpu"))
        back = compress(columns, rows, values, shape[::-1], resolve("cpu"))
        super().__init__(k, ridge, theirs, back, table, *more)


@needs_movielens
def test_links_gain_a_lot_and_links_of_permuted_rows_nothing(movielens, monkeypatch):
    plain, linked = (mean_rmse(movielens, solver=solver) for solver in ("als", "als-links"))
    assert linked < min(0.817, plain - 0.02)
    monkeypatch.setattr(links, "Linked", Permuted)
    assert mean_rmse(movielens, solver="als-links") > plain - 0.001


@needs_movielens
def test_users_folded_in_from_few_ratings_are_predicted_no_worse_than_by_biases(movielens):
    rng, squares = np.random.default_rng(0), {}
    group = rng.permutation(movielens.n_users) % 5
    for turn in range(5):
        new = (group == turn)[movielens.users]
        known, theirs = movielens.take(~new), movielens.take(new)
        order = rng.permutation(len(theirs))
        order = order[np.argsort(theirs.users[order], kind="stable")]
        place = np.arange(len(order)) - np.searchsorted(theirs.users[order], theirs.users[order])
        fits = {"biases": fastmf.fit(known, solver="als", **BIAS_ONLY)}
        fits |= {solver: fastmf.fit(known, solver=solver) for solver in ("als", "als-links")}
        for n in (5, 10):
            given = np.isin(np.arange(len(theirs)), order[place < n])
            few, rest = theirs.take(given), theirs.take(~given)
            for name, model in fits.items():
                error = fastmf.evaluate(model.fold_in(few), rest)["rmse"]
                squares[name, n] = squares.get((name, n), 0) + error**2
    for n in (5, 10):
        assert squares["als", n] <= squares["biases", n] * 1.0005  # at 5 ratings they are the same but for .0003
        assert squares["als-links", n] < squares["biases", n]


@pytest.mark.parametrize("solver", OF_RATINGS)
def test_factors_beat_biases_on_a_twin(solver):
    # The twin of ml-20m, as small as it gets and so nearly dense: in that of ml-latest-small, with as many ratings of
    # far more items, the factors are too weak to be found.
    twin = twins.synthesize("ml-20m", scale=0.006, seed=0)
    rest, held_out = Ratings.from_arrays(twin.users, twin.items, twin.ratings).split(0.1)
    biases = fastmf.fit(rest, solver="als", **BIAS_ONLY)
    assert np.abs(biases.user_factors).max() < 1e-3
    found, without = (fastmf.evaluate(m, held_out)["rmse"] for m in (fastmf.fit(rest, k=8, solver=solver), biases))
    users, items = np.array(held_out.user_ids)[held_out.users], np.array(held_out.item_ids)[held_out.items]
    truth = np.sqrt(np.mean((held_out.values - twin.predict(users, items)) ** 2))
    assert truth < found < without - 0.004


@needs_movielens
@pytest.mark.parametrize("solver", ["als", "als-links"])
def test_two_epochs_from_a_model_of_most_ratings_are_as_good_as_a_fit_of_all(solver, movielens):
    gaps = []
    for seed in range(3):
        train, held_out = movielens.split(0.1, seed=seed)
        most, _ = train.split(0.1, seed=seed + 10)
        warm = fastmf.fit(train, solver=solver, epochs=2, init=fastmf.fit(most, solver=solver))
        rmse = [fastmf.evaluate(model, held_out)["rmse"] for model in (warm, fastmf.fit(train, solver=solver))]
        gaps.append(rmse[0] - rmse[1])
    assert np.mean(gaps) < 0.0005
    assert max(gaps) < 0.0015  # fits with other seeds differ as much


@needs_movielens
@pytest.mark.parametrize("solver", ["als", "als-links", "sgd", "gibbs"])
def test_an_update_is_nearly_as_good_as_a_refit(solver, movielens):
    train, held_out = movielens.split(0.1, seed=0)
    old, new = train.split(0.01, seed=1)
    settings = {"burn": 8, "samples": 30, "kept": 0} if solver == "gibbs" else {}
    model = fastmf.fit(old, solver=solver, **settings)
    models = model, model.update(new, old), fastmf.fit(train, solver=solver, **settings)
    before, after, refit = (fastmf.evaluate(each, held_out)["rmse"] for each in models)
    assert after < refit + 0.002
    assert after < before


@pytest.fixture(scope="module")
def movies(movielens):
    """Genres and years of the movies; the years are read from the titles."""
    table = pd.read_parquet(MOVIES)
    return table.assign(year=table["title"].str.extract(r"\((\d{4})\)")[0].astype(float)).drop(columns="title")


@needs_movielens
def test_the_first_axes_are_the_same_for_any_seed_and_what_their_titles_say(movielens, movies):
    first, *others = (fastmf.fit(movielens, seed=seed) for seed in range(3))
    known = first.item_counts >= 20
    one = axes_of(first).items[known, :3]
    for other in others:
        two = axes_of(other).items[known, :3]
        lengths = np.sqrt(np.sum(one**2, axis=0) * np.sum(two**2, axis=0))
        assert np.all(np.sum(one * two, axis=0) / lengths > 0.9)  # signs, too; .995 and more were measured
    found = first.factors(of="categories", axes=3, item_features=movies[["movieId", "genres"]])
    ends = {(row.axis, row.end): set() for row in found.itertuples()}
    for row in found.itertuples():
        ends[row.axis, row.end].add(row.category.removeprefix("genres="))
    assert {"Drama", "Film-Noir"} <= ends[1, "high"]  # Pulp Fiction, Citizen Kane, Chinatown
    assert {"Action"} <= ends[1, "low"]  # First Knight, Congo, Tomb Raider
    assert {"Action", "Sci-Fi", "Adventure"} <= ends[2, "high"]  # Jurassic Park, The Matrix, Star Wars
    assert {"Drama"} <= ends[2, "low"]  # Boys Don't Cry, Dogville, Three Colors: Blue
    assert {"Romance", "Musical", "Children"} <= ends[3, "high"]  # The Sound of Music, Titanic
    assert {"Horror", "Thriller"} <= ends[3, "low"]  # From Dusk Till Dawn, American Psycho


def rmse(train, held_out, **settings):
    return fastmf.evaluate(fastmf.fit(train, **settings), held_out)["rmse"]


def without_items(ratings, seed, share):
    """Hold out all ratings of a share of the items; also return which these are."""
    held = np.random.default_rng(seed).permutation(ratings.n_items) < share * ratings.n_items
    return ratings.take(~held[ratings.items]), ratings.take(held[ratings.items]), held


@needs_movielens
@pytest.mark.parametrize(("solver", "least"), [("als", 0.018), ("als-links", 0.008), ("sgd", 0.018)])
def test_genres_and_years_help(solver, least, movielens, movies):
    gains = []
    for seed in range(3):
        parts = movielens.split(0.2, seed=seed)
        given = {"solver": solver, "seed": seed}
        gains.append(rmse(*parts, **given) - rmse(*parts, **given, item_features=movies))
    assert np.mean(gains) > least


@needs_movielens
@pytest.mark.parametrize(("solver", "least"), [("als", 0.033), ("als-links", 0.033), ("sgd", 0.033), ("gibbs", 0.025)])
def test_genres_and_years_help_items_without_ratings_most(solver, least, movielens, movies):
    gains = []
    for seed in range(3):
        train, held_out, _ = without_items(movielens, seed, 0.2)
        known = rmse(train, held_out, solver=solver, seed=seed, item_features=movies)
        gains.append(rmse(train, held_out, solver=solver, seed=seed) - known)
    assert np.mean(gains) > least


@needs_movielens
@pytest.mark.parametrize("solver", ["als", "als-links", "sgd"])
def test_useless_features_cost_next_to_nothing(solver, movielens, movies):
    rng, costs = np.random.default_rng(0), []
    noise = pd.DataFrame(rng.standard_normal((len(movies), 30))).add_prefix("noise ").assign(movieId=movies["movieId"])
    shuffled = movies.assign(movieId=rng.permutation(movies["movieId"]))
    people = pd.DataFrame(rng.standard_normal((movielens.n_users, 30))).add_prefix("noise ")
    people["userId"] = movielens.user_ids.to_pylist()
    tables = {"item_features": noise}, {"item_features": shuffled}, {"user_features": people}
    for given in tables:
        for seed in range(3):
            parts = movielens.split(0.2, seed=seed)
            costs.append(rmse(*parts, solver=solver, seed=seed, **given) - rmse(*parts, solver=solver, seed=seed))
    assert max(np.array(costs).reshape(3, 3).mean(axis=1)) < 0.002


@needs_movielens
def test_implicit_lists_of_items_without_pairs_beat_chance_and_their_genres(movielens, movies):
    found = {"features": [], "chance": [], "genres": []}
    for seed in range(3):
        train, held_out, held = without_items(movielens, seed, 0.1)
        model = fastmf.fit(train, solver="implicit", seed=seed, item_features=movies)
        candidates = np.flatnonzero(held)
        users = np.flatnonzero(held_out.user_counts)
        every = np.arange(held_out.n_users), np.arange(held_out.n_items)
        wanted = wanted_of((held_out.users, held_out.items), users, *every)
        dummies = movies.set_index("movieId")["genres"].str.get_dummies("|")
        dummies = dummies.reindex(train.item_ids.to_pylist(), fill_value=0).to_numpy()
        popular = dummies.T @ train.item_counts / np.maximum((dummies.T * (train.item_counts > 0)).sum(axis=1), 1)
        by_genre = candidates[np.argsort(-(dummies[candidates] @ popular / np.maximum(dummies[candidates].sum(1), 1)))]
        rng = np.random.default_rng(seed)
        places = model.present_rows("item", held_out.item_ids)
        back = np.full(len(model.item_ids), -1)
        back[places] = np.arange(len(places))
        ranker = Ranker(model, items=model.item_ids.take(pa.array(places[candidates])))
        lists = {
            "features": back[ranker.top(users, 10)[0]],
            "chance": np.array([rng.permutation(candidates)[:10] for _ in users]),
            "genres": np.tile(by_genre[:10], (len(users), 1)),
        }
        for name, each in lists.items():
            hits = hits_of(each.astype(np.int32), wanted, held_out.n_items, 10)
            found[name].append(ndcg(hits, wanted.counts).mean())
    means = {name: np.mean(values) for name, values in found.items()}
    assert means["features"] > max(2 * means["chance"], means["genres"])


def test_noisy_truth_about_items_is_nearly_as_good_as_the_truth():
    rng = np.random.default_rng(0)
    x, y = (rng.standard_normal((n, 4)) * 0.5 for n in (500, 400))
    users, items = np.divmod(rng.permutation(500 * 400)[:30_000], 400)
    values = 3 + np.sum(x[users] * y[items], axis=1) + 0.5 * rng.standard_normal(30_000)
    ratings = Ratings.from_arrays(users, items, values)
    train, held_out, _ = without_items(ratings, 0, 0.2)

    def with_table(factors):
        table = pd.DataFrame(factors).add_prefix("factor ").assign(item=np.arange(400))
        return rmse(train, held_out, k=8, item_features=table)

    none, truth = rmse(train, held_out, k=8), with_table(y)
    noisy = with_table(y + 0.2 * y.std() * rng.standard_normal(y.shape))
    assert none - truth > 0.1
    assert none - noisy > 0.8 * (none - truth)
