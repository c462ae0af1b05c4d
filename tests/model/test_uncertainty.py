"""predict(std=True): its formula, unknown ids, and the share of ratings inside the intervals."""

import numpy as np
import pytest

import fastmf
from fastmf import Gibbs, ParameterError, Ratings


@pytest.fixture(scope="module")
def rows(planted):
    return planted(60, 40, 900, noise=0.6)


@pytest.fixture(scope="module")
def split(rows):
    return Ratings.from_arrays(*rows).split(0.2, seed=0)


@pytest.fixture(scope="module")
def model(split):
    return fastmf.fit(split[0], solver=Gibbs(k=3, burn=10, samples=40, kept=10))


def pairs(ratings):
    return np.array(ratings.user_ids)[ratings.users], np.array(ratings.item_ids)[ratings.items]


def test_the_deviation_is_the_spread_of_the_samples_and_their_noise(model, split):
    users, items = pairs(split[1])
    found = model.predict(users, items, std=True)
    u, i = (np.searchsorted(np.array(own), ids) for own, ids in ((model.user_ids, users), (model.item_ids, items)))
    s = model.samples
    estimates = s.user_bias[:, u] + s.item_bias[:, i] + np.sum(s.user_factors[:, u] * s.item_factors[:, i], axis=2)
    noise = np.mean(1 / (s.user_precisions[:, u].astype(np.float64) * s.item_precisions[:, i]), axis=0)
    exact = model.scale * np.sqrt(estimates.astype(np.float64).var(axis=0) + noise)
    np.testing.assert_allclose(found["std"], exact, rtol=1e-3)
    assert found["prediction"].equals(model.predict(users, items)["prediction"])
    averaged = model.mean + model.scale * estimates.mean(axis=0)
    assert metrics_close(averaged, found["prediction"], 0.3)  # the mean of ten samples, and the mean factors


@pytest.mark.big
def test_intervals_hold_their_share_of_the_ratings(model, split):
    result = fastmf.evaluate(model, split[1])
    for level, share in result["coverage"].items():
        assert share == pytest.approx(int(level) / 100, abs=0.1)
    assert list(result["coverage"].values()) == sorted(result["coverage"].values())


def test_the_noise_of_planted_ratings_is_found(model):
    noise = 1 / np.sqrt(np.mean(model.samples.user_precisions) * np.mean(model.samples.item_precisions))
    assert model.scale * noise == pytest.approx(0.6, rel=0.25)


def test_unknown_ids_are_less_sure(model):
    users, items = np.array(model.user_ids)[:40], np.array(model.item_ids)
    nobody = np.full(40, -1)
    known, of_item, of_user = (
        model.predict(*ids, std=True)["std"] for ids in ((users, items), (users, nobody), (nobody, items))
    )
    assert np.isfinite(of_item).all()
    assert np.isfinite(of_user).all()
    assert known.mean() < min(of_item.mean(), of_user.mean())
    assert model.predict([-1], [-1], std=True)["std"][0] == pytest.approx(model.scale)
    users, items = [users[0], users[0], -1, -1], [items[0], -1, items[0], -1]
    missing = model.predict(users, items, on_unknown="nan", std=True)
    assert missing["std"].isna().tolist() == [False, True, True, True]


def test_folded_in_users_have_deviations_too_and_a_saved_model_keeps_them(model, split, tmp_path):
    folded = model.fold_in(split[0])
    users, items = pairs(split[1])
    one, other = (each.predict(users, items, std=True) for each in (model, folded))
    assert np.corrcoef(one["std"], other["std"])[0, 1] > 0.8
    assert metrics_close(one["prediction"], other["prediction"], 0.2)
    few = model.fold_in((["new"], [model.item_ids[3]], [4.0]))
    assert few.predict(["new"], [model.item_ids[5]], std=True)["std"][0] > 0
    folded.save(tmp_path / "a")
    assert fastmf.load(tmp_path / "a").predict(users, items, std=True).equals(other)


def metrics_close(one, other, most=0.1):
    return np.sqrt(np.mean((one - other) ** 2)) < most


@pytest.mark.parametrize("settings", [{"solver": "als"}, {"solver": "gibbs", "samples": 2, "kept": 0}])
def test_a_model_without_samples_says_so(rows, settings):
    model = fastmf.fit(rows, k=2, **settings)
    assert "coverage" not in fastmf.evaluate(model, rows)
    assert model.fold_in(rows).samples is None
    with pytest.raises(ParameterError, match="without samples gives no standard deviations: fit one with solver gibbs"):
        model.predict([rows[0][0]], [rows[1][0]], std=True)


def test_gibbs_without_biases_knows_how_sure_it_is(rows):
    model = fastmf.fit(rows, k=2, solver="gibbs", samples=4, kept=2, biases=False)
    found = model.predict([int(rows[0][0]), -1], [int(rows[1][0])] * 2, std=True)["std"]
    assert np.isfinite(found).all()
    assert (found > 0).all()


def test_a_deviation_does_not_depend_on_the_other_pairs(model, split):
    users, items = pairs(split[1])
    users, items = np.append(users, [-1, users[0]]), np.append(items, [items[0], -1])
    together = model.predict(users, items, std=True)["std"].to_numpy()
    for place in (0, 3, len(users) - 2, len(users) - 1):
        alone = model.predict(users[[place]], items[[place]], std=True)["std"]
        np.testing.assert_allclose(alone, together[place], rtol=1e-5)


@pytest.mark.parametrize("biases", [True, False])
def test_unknown_users_deviate_as_users_drawn_from_the_prior_do(rows, biases):
    model = fastmf.fit(rows, solver=Gibbs(k=2, burn=5, samples=10, kept=1, biases=biases))
    rng, prior, s = np.random.default_rng(0), model.user_prior, model.samples
    users = rng.multivariate_normal(prior.mean, np.linalg.inv(prior.precision.astype(np.float64)), 100_000)
    p, pull = map(float, prior.numbers[1:])
    bias = pull / p + rng.standard_normal(len(users)) / np.sqrt(p) if biases else 0
    noise = np.mean(1 / s.user_precisions[0].astype(np.float64)) / s.item_precisions[0]
    for item in range(5):
        y = s.item_factors[0, item].astype(np.float64)
        expected = np.sqrt(np.mean(((users - prior.origin) @ y + bias) ** 2) + noise[item])
        found = model.predict([-1], [model.item_ids[item]], std=True)["std"][0] / model.scale
        assert found == pytest.approx(expected, rel=0.01)
