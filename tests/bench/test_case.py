import math
import sys

import pytest

from fastmf.bench import case
from fastmf.solvers import ALS, SGD, Gibbs


def request(file, device, epochs=None, target_rmse=None):
    """What a child is asked, for a case measured in this process."""
    return {"file": file, "device": device, "threads": 1, "epochs": epochs, "target_rmse": target_rmse}


@pytest.mark.parametrize(("kind", "sampled"), [(SGD, 72), (ALS, None)], ids=["sgd", "als"])
def test_numpy_runs_one_epoch_of_many_ratings_or_a_sample(file, monkeypatch, kind, sampled):
    monkeypatch.setattr(case, "FEW_RATINGS", 100)
    monkeypatch.setattr(case, "SAMPLE", 72)
    found = case._measure(file, kind(k=4), request(file, "numpy"))
    assert (found["epochs"], found["full_epochs"], found["sampled_ratings"]) == (1, kind.epochs, sampled)
    assert found["ratings_per_second"] * found["epoch_seconds_median"] == pytest.approx(720)
    assert found["rmse"] is None if sampled else math.isfinite(found["rmse"])


def test_seconds_to_an_rmse_are_those_of_the_epochs_it_took(file):
    found = case._measure(file, ALS(k=4, epochs=3), request(file, "cpu", target_rmse=9.0))
    assert found["seconds_to_rmse"] == found["epoch_seconds"][0]
    never = case._measure(file, ALS(k=4, epochs=3), request(file, "cpu", target_rmse=0.0))
    assert never["seconds_to_rmse"] is None


@pytest.mark.parametrize(("device", "epochs", "run"), [("numpy", None, 3), ("numpy", 5, 5), ("cpu", None, 5)])
def test_numpy_runs_a_few_epochs_of_few_ratings_unless_told(device, epochs, run):
    assert case._share(ALS(epochs=5), request("", device, epochs), 720) == (run, None)


def test_a_solver_keeps_its_burn_in_if_all_its_epochs_run(file):
    found = case._measure(file, Gibbs(k=2, burn=2, samples=3, kept=0), request(file, "cpu"))
    assert (found["epochs"], len(found["epoch_seconds"])) == (5, 5)


def test_a_sample_keeps_all_ids(file):
    ratings = case.Ratings.read(file)
    sample = case._sampled(ratings, 72)
    assert (len(sample), sample.n_users, sample.n_items) == (72, ratings.n_users, ratings.n_items)


def test_blas_may_be_unpinned(monkeypatch):
    monkeypatch.setitem(sys.modules, "threadpoolctl", None)
    assert case.pin_blas(1) is None


def test_the_ratings_to_compile_on_run_through_every_step(tmp_path):
    ratings = case.Ratings.read(case._write_tiny(tmp_path))
    assert len(ratings) == 600
    assert ratings.user_counts.min() > 0
    assert [path.name for path in tmp_path.iterdir()] == ["tiny.parquet"]
