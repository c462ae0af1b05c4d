import math

import pytest

from fastmf.model.history import MAE, NDCG, RMSE, Epoch


def test_a_measure_reads_its_figure_and_makes_it_a_cost():
    epoch = Epoch(number=1, seconds=0.1, train_rmse=1.0, validation_rmse=0.9, validation_mae=0.7, validation_ndcg=0.2)
    assert [measure.of(epoch) for measure in (RMSE, MAE, NDCG)] == [0.9, 0.7, 0.2]
    assert [measure.cost(epoch) for measure in (RMSE, MAE, NDCG)] == pytest.approx([0.9, 0.7, -0.2])
    assert NDCG.attribute == "validation_ndcg"
    assert RMSE.cost(Epoch(number=1, seconds=0.1, train_rmse=1.0)) == math.inf
