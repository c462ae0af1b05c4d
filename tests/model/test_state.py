import dataclasses

import numpy as np
import pyarrow as pa

import fastmf
from fastmf.model.learned import Baseline, Choice, Links


def test_the_content_hash_follows_the_results_and_nothing_else(model, tmp_path):
    users, items = model.user_ids.to_pylist(), model.item_ids.to_pylist()
    changed = {
        "user_factors": model.user_factors + np.float32(1e-7) * (np.arange(3) == 1),
        "item_factors": -model.item_factors,
        "user_bias": model.user_bias[::-1],
        "item_bias": model.item_bias + np.float32(1e-7),
        "user_ids": pa.array(["!", *users[1:]], pa.large_string()),
        "item_ids": pa.array([-6, *items[1:]]),
        "mean": np.nextafter(model.mean, 4),
        "scale": np.nextafter(model.scale, 4),
        "history": model.history[:1],
        "baseline": Baseline(model.user_bias, model.item_bias),
        "links": Links(model.item_factors, model.user_factors, model.item_factors[0]),
        "choice": Choice(model.user_factors, model.item_factors, np.ones(3, np.float32)),
    }
    hashes = {name: dataclasses.replace(model, **{name: value}).content_hash for name, value in changed.items()}
    assert len({model.content_hash, *hashes.values()}) == len(hashes) + 1
    slower = [dataclasses.replace(epoch, seconds=9.0) for epoch in model.history]
    same = {"history": slower, "seen": None, "rows": {}, "best_epoch": 1}
    assert dataclasses.replace(model, **same).content_hash == model.content_hash
    model.save(tmp_path / "model")
    assert fastmf.load(tmp_path / "model").content_hash == model.content_hash


def test_known_rows_are_those_with_training_ratings(model):
    assert model.known_users(["eve", "cold", "zoe", ""]).tolist() == [5, -1, -1, 0]
    assert model.known_items([3, 7, 8]).tolist() == [2, -1, -1]
    assert model.known_users([]).dtype == np.int32
    assert model.k == 3


def test_what_only_some_solvers_learn_is_found_by_name(model):
    names = "baseline", "links", "user_prior", "item_prior", "samples", "choice", "user_expected", "item_expected"
    assert model.learned == dict.fromkeys((*names, "user_choice_expected", "item_choice_expected"))
    own = Baseline(model.user_bias, model.item_bias)
    assert dataclasses.replace(model, baseline=own).learned["baseline"] is own
