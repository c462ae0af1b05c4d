"""Axes: the same predictions, uncorrelated coordinates, shares of the variance, whatever the factors' own scale."""

import dataclasses

import numpy as np
import pytest

import fastmf
from fastmf.model.axes import axes_of


def predictions(model):
    """All predictions, (n_users, n_items), without clipping."""
    products = np.einsum("uk,ik->ui", model.user_factors.astype(float), model.item_factors.astype(float))
    return model.mean + model.user_bias[:, None] + model.item_bias + products


def of_axes(axes):
    return axes.mean + axes.user_bias[:, None] + axes.item_bias + np.einsum("ua,ia->ui", axes.users, axes.items)


@pytest.fixture(scope="module")
def fitted(planted):
    return fastmf.fit(planted(60, 40, 900), k=5, epochs=5)


@pytest.mark.parametrize("scale", [1.0, 1e-25, 1e25])
def test_predictions_stay(build, scale):
    model = build()
    model = dataclasses.replace(
        model,
        user_factors=(model.user_factors * scale).astype(np.float32),
        item_factors=(model.item_factors / scale).astype(np.float32),
    )
    there = np.ix_(model.user_counts > 0, model.item_counts > 0)
    np.testing.assert_allclose(of_axes(axes_of(model))[there], predictions(model)[there], atol=1e-4)


def test_coordinates_are_uncorrelated_and_of_the_stated_size(fitted):
    axes = axes_of(fitted)
    for coordinates, counts, sizes in (
        (axes.users, fitted.user_counts, np.ones(len(axes.share))),
        (axes.items, fitted.item_counts, axes.share * fitted.scale**2),
    ):
        mean = np.average(coordinates, axis=0, weights=counts)
        np.testing.assert_allclose(mean, 0, atol=1e-6)
        covariance = np.einsum("n,na,nb->ab", counts / counts.sum(), coordinates, coordinates)
        np.testing.assert_allclose(covariance, np.diag(sizes), atol=1e-4)
    assert np.all(np.diff(axes.share) <= 0)
    assert np.average(axes.user_bias, weights=fitted.user_counts) == pytest.approx(0, abs=1e-6)
    assert np.average(axes.item_bias, weights=fitted.item_counts) == pytest.approx(0, abs=1e-6)
    moments = np.einsum("n,na->a", fitted.item_counts, axes.items**3)
    assert np.all(moments > 0)


def test_axes_do_not_depend_on_what_stands_between_the_factors(fitted):
    rng = np.random.default_rng(1)
    between, moved = rng.standard_normal((5, 5)), rng.standard_normal(5)
    users = fitted.user_factors @ between
    items = fitted.item_factors @ np.linalg.inv(between).T + moved
    other = dataclasses.replace(
        fitted,
        user_factors=users.astype(np.float32),
        item_factors=items.astype(np.float32),
        user_bias=(fitted.user_bias - users @ moved).astype(np.float32),
    )
    one, two = axes_of(fitted), axes_of(other)
    np.testing.assert_allclose(two.share, one.share, rtol=1e-3)
    for name in ("users", "items", "user_bias", "item_bias"):
        np.testing.assert_allclose(getattr(two, name), getattr(one, name), atol=2e-3)


def test_rows_without_ratings_do_not_count(build):
    model = build()
    cold = model.item_counts == 0
    factors = model.item_factors.copy()
    factors[cold] = 50
    other = axes_of(dataclasses.replace(model, item_factors=factors))
    np.testing.assert_array_equal(other.share, axes_of(model).share)
    np.testing.assert_array_equal(other.users, axes_of(model).users)


def test_factors_that_are_all_the_same_have_no_axes(build):
    model = build(item_factors=np.ones((8, 3), np.float32))
    axes = axes_of(model)
    assert axes.items.shape == (8, 0)
    assert axes.users.shape == (7, 0)
    np.testing.assert_allclose(of_axes(axes), predictions(model), atol=1e-5)


def test_shares_of_implicit_scores_add_up_to_one(build):
    axes = axes_of(build(implicit=True, scale=1.0))
    assert axes.share.sum() == pytest.approx(1)
    assert axes.bias_shares == (0, 0)
