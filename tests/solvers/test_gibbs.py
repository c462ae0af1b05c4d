"""Gibbs sampling: which samples are kept, and what links do where there are few ratings."""

import numpy as np
import pyarrow as pa
import pytest

import fastmf
from fastmf import DivergenceError, Gibbs, Ratings
from fastmf.solvers import draws
from fastmf.solvers.draws import draw_normal_wishart


def test_hyper_parameters_follow_their_posterior():
    # n rows x ~ N(m, L^-1) and the prior Normal-Wishart(0, 2, I, k): L ~ Wishart(W, k + n), m ~ N(mean, ((2 + n) L)^-1)
    rng, n, k = np.random.default_rng(0), 12, 2
    x = rng.standard_normal((n, k)) @ [[1.0, 0.4], [0.0, 0.6]] + [1.0, -2.0]
    drawn = [draw_normal_wishart(n, x.sum(axis=0), x.T @ x, rng) for _ in range(4000)]
    means, precisions = (np.array(each) for each in zip(*drawn, strict=True))
    mean = x.sum(axis=0) / (2 + n)
    w = np.linalg.inv(np.eye(k) + x.T @ x - (2 + n) * np.outer(mean, mean))
    np.testing.assert_allclose(precisions.mean(axis=0), (k + n) * w, rtol=0.03)
    np.testing.assert_allclose(precisions.var(axis=0), (k + n) * (w**2 + np.outer(np.diag(w), np.diag(w))), rtol=0.12)
    np.testing.assert_allclose(means.mean(axis=0), mean, atol=0.03)
    roots = np.linalg.cholesky(precisions).transpose(0, 2, 1)
    whitened = np.sqrt(2 + n) * np.einsum("nij,nj->ni", roots, means - mean)
    np.testing.assert_allclose(np.cov(whitened.T), np.eye(k), atol=0.08)


def test_draws_that_cannot_go_on_are_a_divergence(rows, monkeypatch):
    def fail(*_):
        raise np.linalg.LinAlgError

    monkeypatch.setattr(draws, "draw_normal_wishart", fail)
    with pytest.raises(DivergenceError, match=r"^sweep 1: the factors diverged; use fewer factors \(k is 3\)$"):
        fastmf.fit(rows, 3, "gibbs", burn=1, samples=1)


def test_gibbs_keeps_the_samples_there_are_and_no_sweep_of_its_burn_in(planted):
    rows = planted()
    few = fastmf.fit(rows, 3, "gibbs", burn=2, samples=4, kept=16)
    assert few.samples.user_bias.shape[0] == 4
    stopped = fastmf.fit(rows, 3, "gibbs", burn=3, samples=150, kept=150, validation=0.2, patience=2)
    n_samples = len(stopped.history) - 3
    assert 3 < stopped.best_epoch < 153
    assert stopped.samples.user_bias.shape[0] == n_samples
    assert (stopped.samples.user_precisions > 0).all()


def sparse(seed):
    """Ratings by users with one or two each, of items with two or three, but for 25 of item 0, far below the others."""
    rng, n_users, n_items = np.random.default_rng(seed), 700, 400
    drawn = np.append(rng.integers(n_items, n_users * n_items, 975), rng.choice(n_users, 25, replace=False) * n_items)
    users, items = np.divmod(np.unique(drawn), n_items)
    user_bias, item_bias = 0.5 * rng.standard_normal(n_users), 0.3 * rng.standard_normal(n_items)
    item_bias[0] = -2
    return users, items, user_bias[users] + item_bias[items] + 0.8 * rng.standard_normal(len(users))


@pytest.mark.parametrize("seed", [0, 1, 2])
def test_a_few_sweeps_find_how_much_the_biases_of_sparse_rows_vary(standardised, ran, seed):
    given = sparse(seed)
    ratings, solver = standardised(given), Gibbs(k=3, burn=4, samples=8, kept=0)
    factors = ran(solver, ratings)
    variance = 1 / solver.learned(factors)["user_prior"].numbers[1]
    assert 0.67 < variance * given[2].var() / 0.5**2 < 1.5
    outlier = ratings.items == 0
    assert factors.items.bias[0] / ratings.values[outlier].mean() > 0.65


@pytest.mark.big
@pytest.mark.parametrize("samples", [84, 300])
def test_gibbs_with_links_stays_where_it_is_on_little_data(planted, samples):
    train, test = Ratings.from_arrays(*planted(30, 300, 3000, noise=1.5)).split(0.2)
    model = fastmf.fit(train, k=16, solver="gibbs", links=True, samples=samples)
    found = fastmf.evaluate(model, test)
    assert found["rmse"] < 1.01 * found["rmse_of_biases"]
    assert found["coverage"]["80"] == pytest.approx(0.8, abs=0.05)


@pytest.mark.big
def test_ids_without_ratings_do_not_change_what_gibbs_learns_of_links(planted):
    ratings = Ratings.from_arrays(*planted(40, 30, 500))
    wide = Ratings(
        users=ratings.users,
        items=ratings.items,
        values=ratings.values,
        user_ids=ratings.user_ids,
        item_ids=pa.array(range(1000, 1000 + 3 * ratings.n_items)),
    )
    models = [fastmf.fit(each, k=3, solver="gibbs", links=True, burn=4, samples=30) for each in (ratings, wide)]
    found, expected = (np.abs(model.links.items[: ratings.n_items]).mean() for model in models)
    assert found == pytest.approx(expected, rel=0.5)
    assert not models[1].links.items[ratings.n_items :].any()
