"""tune: what is tried, what is stopped, and that the settings found give what was measured."""

import sys
from dataclasses import replace
from typing import ClassVar

import numpy as np
import pandas as pd
import pytest

import fastmf
from fastmf.data import ratings as ratings_module
from fastmf.data.features import Features
from fastmf.data.ratings import Ratings
from fastmf.data.write import write_parquet
from fastmf.errors import DataError, DivergenceError, ParameterError, ResourceError
from fastmf.solvers import ALS, SOLVERS, ImplicitALS
from fastmf.solvers.declare import with_settings
from fastmf.training import trials
from fastmf.training.tune import ranked

optuna = pytest.importorskip("optuna")
TRIALS = 16


@pytest.fixture(scope="module")
def ratings(planted):
    return Ratings.from_arrays(*planted())


@pytest.fixture(scope="module")
def found(ratings):
    return fastmf.tune(ratings, "als", trials=TRIALS, max_k=32)


@pytest.fixture(scope="module")
def liked(planted):
    """What was rated well, without the ratings."""
    users, items, values = planted()
    return pd.DataFrame({"user": users, "item": items})[values >= 3]


@pytest.fixture(scope="module")
def ranking(liked):
    return fastmf.tune(liked, "implicit", trials=TRIALS, max_k=32)


def plain(found):
    """All that does not depend on the time."""
    return [replace(trial, seconds=0.0) for trial in found.trials]


# what is tried


def test_the_defaults_come_first(ratings, found):
    first = found.defaults["als"]
    assert (first.number, first.solver, first.state) == (1, "als", "complete")
    assert first.settings == {"k": ALS.k, "reg": ALS.reg, "reg0": ALS.reg0}
    model = fastmf.fit(ratings, solver="als", validation=0.1)
    assert (first.best_epoch, first.epochs) == (model.best_epoch, ALS.epochs)
    assert first.validation_rmse == model.history[model.best_epoch - 1].validation_rmse


def test_settings_are_sought_around_the_defaults_and_each_is_tried_once(found):
    tried = [trial.settings for trial in found.trials]
    assert len({tuple(settings.items()) for settings in tried}) == len(tried) == TRIALS
    assert {settings["k"] for settings in tried} <= {8, 12, 16, 24, 32}
    for name, default in (("reg", ALS.reg), ("reg0", ALS.reg0)):
        values = [settings[name] for settings in tried]
        assert default / 6.5 < min(values) < default < max(values) < default * 6.5
        assert all(value == float(f"{value:.2g}") for value in values)


def test_trials_that_fall_behind_are_stopped_at_a_quarter_or_three_quarters(found):
    epochs = {state: {t.epochs for t in found.trials if t.state == state} for state in ("complete", "pruned")}
    assert epochs["complete"] == {ALS.epochs}
    assert epochs["pruned"] <= {3, 9}
    assert 3 in epochs["pruned"]
    stopped = [trial for trial in found.trials if trial.state == "pruned"]
    assert len(stopped) > TRIALS / 3
    assert all(trial.validation_rmse >= found.best.validation_rmse for trial in stopped)


def test_the_best_is_the_complete_trial_of_the_lowest_rmse(found):
    complete = [trial for trial in found.trials if trial.state == "complete"]
    assert found.best.validation_rmse == min(trial.validation_rmse for trial in complete)
    assert found.best.validation_rmse < found.defaults["als"].validation_rmse
    in_order = ranked(found.trials)
    assert [trial.state for trial in in_order] == sorted(trial.state for trial in found.trials)  # c comes before p
    again = replace(found, trials=(found.best, replace(found.best, number=99)))
    assert again.best is again.defaults["als"]


def test_the_same_seed_finds_the_same_for_any_number_of_threads(ratings, found):
    assert plain(fastmf.tune(ratings, "als", trials=TRIALS, max_k=32, threads=1)) == plain(found)
    other = fastmf.tune(ratings, "als", trials=4, max_k=32, seed=2**40)
    assert [t.settings for t in other.trials[1:]] != [t.settings for t in found.trials[1:4]]
    assert other.settings["seed"] == 2**40


def test_data_are_read_encoded_and_split_once(planted, tmp_path, monkeypatch):
    users, items, values = planted()
    write_parquet({"user": users, "item": items, "rating": values}, tmp_path / "r.parquet")
    calls = []

    def counted(owner, name):
        function = getattr(owner, name)

        def call(*arguments, **options):
            calls.append(name)
            return function(*arguments, **options)

        monkeypatch.setattr(owner, name, call)

    counted(ratings_module, "gathered")
    counted(ratings_module, "assembled")
    counted(Ratings, "split")
    counted(trials, "train")
    found = fastmf.tune(tmp_path / "r.parquet", "als", trials=3, k=2)
    assert calls == ["gathered", "assembled", "split", "train", "train", "train"]
    assert (found.training, found.validation) == (270, 30)


def test_validation_may_be_ratings_of_their_own(ratings):
    rest, held_out = ratings.split(0.1)
    given = fastmf.tune(rest, "als", validation=held_out, trials=3, k=2)
    assert plain(given) == plain(fastmf.tune(ratings, "als", trials=3, k=2))
    assert (given.training, given.validation) == (270, 30)


def test_settings_given_are_those_of_every_trial(ratings):
    found = fastmf.tune(ratings, "als", trials=5, k=3, reg=0.1, epochs=2, biases=False)
    assert len({trial.settings.pop("reg0") for trial in found.trials}) == 5
    assert all(trial.settings == dict(k=3, reg=0.1, epochs=2, biases=False) for trial in found.trials)
    assert {trial.epochs for trial in found.trials} <= {1, 2}


@pytest.fixture(scope="module")
def genres():
    """A table of the items' features."""
    numbers = np.random.default_rng(1).normal(size=(20, 2))
    return pd.DataFrame({"item": np.arange(1000, 1020), "x": numbers[:, 0], "y": numbers[:, 1]})


@pytest.mark.parametrize("solver", [name for name, solver in SOLVERS.items() if solver.tuned_with_features])
def test_with_features_their_weight_is_searched(ratings, genres, solver):
    found = fastmf.tune(ratings, solver, trials=6, k=4, item_features=genres)
    default = SOLVERS[solver]().feature_reg
    values = [trial.settings["feature_reg"] for trial in found.trials]
    assert values[0] == default
    assert default / 6.5 < min(values) < max(values) < default * 6.5
    assert len(set(values)) > 3
    model = fastmf.fit(ratings, **found.settings, item_features=genres, validation=0.1)
    measure = found.best.measure
    assert measure.of(model.history[-1]) == measure.of(found.best)


def test_features_may_be_of_users_or_in_the_ratings_and_their_weight_fixed(ratings, genres):
    inside = ratings.with_features(items=Features.read(genres, "item", like=ratings.item_ids))
    search = dict(solver="als", trials=3, k=4)
    assert plain(fastmf.tune(inside, **search)) == plain(fastmf.tune(ratings, **search, item_features=genres))
    people = pd.DataFrame({"user": ratings.user_ids.to_pylist(), "age": np.arange(ratings.n_users) ** 0.5})
    assert "feature_reg" in fastmf.tune(ratings, **search, user_features=people).best.settings
    fixed = fastmf.tune(ratings, **search, user_features=people, feature_reg=7.0)
    assert {trial.settings["feature_reg"] for trial in fixed.trials} == {7.0}
    without = fastmf.tune(ratings, **search)
    assert "feature_reg" not in without.best.settings
    assert without.trials[0].validation_rmse != fixed.trials[0].validation_rmse


def test_without_anything_left_to_try_it_ends(ratings):
    found = fastmf.tune(ratings, "als", trials=5, k=2, reg=0.1, reg0=1.0)
    assert [trial.state for trial in found.trials] == ["complete"]
    assert (
        len(fastmf.tune(ratings, "als", trials=99, max_k=16, reg=0.1, reg0=1.0, epochs=1).trials) == 3
    )  # k 8, 12 and 16


def test_defaults_beyond_max_k_are_tried_with_max_k(ratings):
    assert fastmf.tune(ratings, "als", trials=1, max_k=5).defaults["als"].settings["k"] == 5


def test_several_solvers_take_turns_and_als_brings_its_variants(ratings, monkeypatch):
    @with_settings
    class Twin(ALS):
        name: ClassVar[str] = "als-twin"
        reg: float = 0.02

    variants = [name for name in SOLVERS if name.startswith("als")]
    monkeypatch.setitem(SOLVERS, "als-twin", Twin)
    found = fastmf.tune(ratings, trials=2 * (len(variants) + 1), k=2)
    assert [trial.solver for trial in found.trials] == [*variants, "als-twin"] * 2
    assert found.trials[len(variants)].settings == {"k": 2, "reg": 0.02, "reg0": 8.0}
    assert [t.solver for t in fastmf.tune(ratings, ["sgd", "als"], trials=3, k=2).trials] == ["sgd", "als", "sgd"]


@pytest.mark.parametrize("solver", [name for name, solver in SOLVERS.items() if solver.tuned])
def test_the_settings_found_give_what_was_measured(ratings, solver):
    found = fastmf.tune(ratings, solver, trials=6, k=4, seed=3)
    model = fastmf.fit(ratings, **found.settings, validation=0.1)
    measure = found.best.measure
    assert measure.of(model.history[-1]) == measure.of(found.best)
    assert found.settings["solver"] == solver


def test_where_an_epoch_before_the_last_is_best_the_settings_stop_there(ratings):
    found = fastmf.tune(ratings, "als", trials=1, k=8, reg=0.001, reg0=0.5)
    assert 1 < found.best.best_epoch < found.best.epochs == ALS.epochs
    assert found.settings == dict(solver="als", k=8, reg=0.001, reg0=0.5, epochs=found.best.best_epoch)
    model = fastmf.fit(ratings, **found.settings, validation=0.1)
    assert model.history[-1].validation_rmse == found.best.validation_rmse


# what trials are compared by


def test_implicit_feedback_needs_no_ratings_and_is_tuned_by_its_lists(liked, ranking):
    first = ranking.defaults["implicit"]
    assert first.settings == {"k": 32, "reg": ImplicitALS().reg, "zeros": ImplicitALS.zeros}
    model = fastmf.fit(liked, solver="implicit", k=32, validation=0.1)
    assert first.best_epoch == model.best_epoch < len(model.history)
    assert first.validation_ndcg == max(epoch.validation_ndcg for epoch in model.history)
    assert first.validation_rmse is None
    for name, default in (("reg", ImplicitALS().reg), ("zeros", ImplicitALS.zeros)):
        values = [trial.settings[name] for trial in ranking.trials]
        assert default / 6.5 < min(values) < default < max(values) < default * 6.5


def test_the_best_of_implicit_feedback_has_the_highest_ndcg(ranking):
    best = ranking.best.validation_ndcg
    complete, stopped = ([t.validation_ndcg for t in ranking.trials if t.state == s] for s in ("complete", "pruned"))
    assert best == max(complete) > ranking.defaults["implicit"].validation_ndcg
    assert len(stopped) > TRIALS / 3
    assert max(stopped) < best
    told = ranking.as_dict()
    assert told["validation_ndcg"] == best
    assert told["defaults_ndcg"] == {"implicit": ranking.trials[0].validation_ndcg}
    assert "validation_rmse" not in told


def test_the_same_seed_finds_the_same_for_implicit_feedback(liked, ranking):
    assert plain(fastmf.tune(liked, "implicit", trials=TRIALS, max_k=32, threads=1)) == plain(ranking)


def test_what_counts_as_observed_is_that_of_every_trial(ratings):
    found = fastmf.tune(ratings, "implicit", trials=3, k=4, positive_from=3)
    assert [trial.settings["positive_from"] for trial in found.trials] == [3, 3, 3]
    assert found.settings["positive_from"] == 3
    assert found.training + found.validation == np.count_nonzero(ratings.values >= 3)
    tried = []
    with pytest.raises(DataError, match=r"none of [\d,]+ ratings is at least 99"):
        fastmf.tune(ratings, "implicit", trials=3, k=4, positive_from=99, callback=tried.append)
    assert not tried
    assert found.best.validation_ndcg != fastmf.tune(ratings, "implicit", trials=3, k=4).best.validation_ndcg


def test_the_absolute_loss_is_tuned_by_mae(ratings):
    found = fastmf.tune(ratings, "sgd", trials=3, k=16, loss="absolute")
    model = fastmf.fit(ratings, 16, "sgd", loss="absolute", validation=0.1)
    assert found.trials[0].best_epoch == model.best_epoch
    assert found.trials[0].validation_mae == min(epoch.validation_mae for epoch in model.history)
    assert found.as_dict()["defaults_mae"] == {"sgd": found.trials[0].validation_mae}


# what goes wrong


def test_a_trial_that_does_not_fit_into_memory_is_counted_and_the_others_go_on(ratings):
    found = fastmf.tune(ratings, "als", trials=10, max_k=1024, epochs=1, memory_limit="8MiB")
    failed = [trial for trial in found.trials if trial.state == "failed"]
    assert 0 < len(failed) < 10
    for trial in failed:
        assert (trial.epochs, trial.best_epoch, trial.validation_rmse) == (0, None, None)
        assert f"k = {trial.settings['k']:,}" in trial.error
    assert ranked(found.trials)[-len(failed) :] == failed
    assert found.best.state == "complete"


def test_a_trial_that_diverges_is_counted_even_if_it_is_that_of_the_defaults(ratings, monkeypatch):
    train = trials.train

    def failing(plan, data, callback):
        if plan.solver.reg == ALS.reg:
            raise DivergenceError("epoch 1: training diverged")
        return train(plan, data, callback)

    monkeypatch.setattr(trials, "train", failing)
    found = fastmf.tune(ratings, "als", trials=3, k=2)
    assert [trial.state == "failed" for trial in found.trials] == [True, False, False]
    assert found.defaults["als"].error == "epoch 1: training diverged"
    assert found.best.state == "complete"
    assert found.as_dict()["defaults_rmse"] == {"als": None}


def test_if_all_trials_fail_it_says_why(ratings):
    with pytest.raises(DivergenceError, match=r"none of the 2 trials completed.*lower lr"):
        fastmf.tune(ratings, "sgd", trials=2, k=2, lr=100.0)


REFUSED = [
    (dict(trials=0), "trials is 0"),
    (dict(max_k=0), "max_k is 0"),
    (dict(max_k=2.5), "max_k is 2.5"),
    (dict(timeout=0), "timeout is 0"),
    (dict(seed=-1), "seed is -1"),
    (dict(seed=0.0), "seed is 0.0"),
    (dict(validation=None), "needs validation"),
    (dict(validation=1), "validation is 1: give a fraction"),
    (dict(solver="svd"), "unknown solver 'svd'"),
    (dict(solver=[]), "give one or more of als, als-links, sgd"),
    (dict(solver=ALS()), "by name"),
    (dict(solver=["als", "gibbs"]), "'gibbs' has no weights to tune"),
    (dict(solver=["als", "implicit"], positive_from=4), "als by RMSE, implicit by nDCG@10.*separate runs"),
    (dict(lr=0.1), "'als' has no setting lr"),
    (dict(k=0), "k is 0"),
]


def test_what_cannot_be_is_refused_before_anything_is_read():
    for settings, message in REFUSED:
        with pytest.raises(ParameterError, match=message):
            fastmf.tune("missing.parquet", **{"solver": "als", **settings})


def test_factors_beyond_memory_are_refused_before_anything_is_read():
    with pytest.raises(ResourceError, match="k = 1,000,000,000"):
        fastmf.tune("missing.parquet", k=10**9)


def test_without_optuna_it_says_what_to_install(monkeypatch):
    monkeypatch.setitem(sys.modules, "optuna", None)
    with pytest.raises(ParameterError, match=r"pip install optuna"):
        fastmf.tune("missing.parquet")


def test_after_the_time_no_trial_is_begun(ratings):
    assert len(fastmf.tune(ratings, "als", trials=5, k=2, timeout=1e-9).trials) == 1


def test_a_callback_that_returns_false_ends_the_search(ratings):
    found = fastmf.tune(ratings, "als", trials=5, k=2, callback=lambda trial: trial.number < 2)
    assert [trial.number for trial in found.trials] == [1, 2]
    assert found.best in found.trials


def test_optuna_is_silent_meanwhile_and_as_it_was_afterwards(ratings, capfd):
    before = optuna.logging.get_verbosity()
    seen = []
    fastmf.tune(ratings, "als", trials=2, k=2, callback=lambda trial: seen.append(optuna.logging.get_verbosity()))
    assert seen == [optuna.logging.ERROR] * 2
    assert optuna.logging.get_verbosity() == before == optuna.logging.INFO
    assert capfd.readouterr() == ("", "")


def test_an_interruption_in_a_trial_ends_it(ratings):
    def interrupt(trial):
        raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        fastmf.tune(ratings, "als", trials=2, k=2, callback=interrupt)
