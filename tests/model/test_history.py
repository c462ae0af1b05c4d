"""Epochs: how they are compared, their table, and what a notebook shows."""

import math
import pickle
from dataclasses import replace

import pytest

import fastmf
from fastmf.model.history import MAE, NDCG, RMSE, Epoch, History


def test_a_measure_reads_its_figure_and_makes_it_a_cost():
    epoch = Epoch(number=1, seconds=0.1, train_rmse=1.0, validation_rmse=0.9, validation_mae=0.7, validation_ndcg=0.2)
    assert [measure.of(epoch) for measure in (RMSE, MAE, NDCG)] == [0.9, 0.7, 0.2]
    assert [measure.cost(epoch) for measure in (RMSE, MAE, NDCG)] == pytest.approx([0.9, 0.7, -0.2])
    assert NDCG.attribute == "validation_ndcg"
    assert RMSE.cost(Epoch(number=1, seconds=0.1, train_rmse=1.0)) == math.inf


def test_a_history_is_a_list_with_a_table():
    epochs = [Epoch(number=n, seconds=0.5, train_rmse=1 / n, validation_rmse=None) for n in (1, 2)]
    history = History(epochs)
    assert history == epochs
    assert pickle.loads(pickle.dumps(history)) == epochs
    assert list(history.to_frame().columns) == ["number", "seconds", "train_rmse"]
    assert History([replace(epochs[0], validation_mae=0.5), epochs[1]]).to_frame()["validation_mae"].tolist()[0] == 0.5
    assert list(History().to_frame().columns) == ["number", "seconds", "train_rmse"]
    assert "<table" in history._repr_html_()


def test_a_model_keeps_such_a_history(model, tmp_path):
    model.save(tmp_path / "m")
    for each in (model, fastmf.load(tmp_path / "m"), fastmf.load(tmp_path / "m", mmap=True)):
        assert each.history.to_frame()["number"].tolist() == [1, 2]
        assert isinstance(each.history, list)


def test_notebooks_show_models_and_ratings_escaped(build):
    text = build(solver={"name": "<b>als</b>", "k": 3}, best_epoch=1)._repr_html_()
    assert "&lt;b&gt;als" in text
    assert "<b>" not in text
    assert "1 of 2" in text
    assert "k 3" in text
    assert "observed pairs off by" in build(implicit=True)._repr_html_()
    ratings = fastmf.Ratings.read(([1, 1, 2], [5, 6, 5], [1.0, 2, 5]))
    assert "75.00%" in ratings._repr_html_()
    assert "1 to 5, mean 2.667" in ratings._repr_html_()
    assert "rows read" in ratings._repr_html_()
