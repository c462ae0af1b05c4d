"""Whole fits on a GPU against the definitions; without a GPU in Numba's simulator, if that is on."""

import numpy as np
import pyarrow as pa
import pytest

import fastmf
from fastmf.errors import DeviceUnavailableError, DivergenceError, ParameterError, ResourceError
from fastmf.runtime.device import CudaDevice, resolve, unavailable

pytestmark = [
    pytest.mark.gpu,
    pytest.mark.skipif(bool(unavailable("cuda")), reason="no GPU"),
    pytest.mark.usefixtures("small_blocks"),
]

CASES = {
    "als": {"solver": "als"},
    "als cg without biases": {"solver": "als", "method": "cg", "biases": False},
    "als-links": {"solver": "als-links", "link_steps": 2, "epochs": 3},
    "implicit": {"solver": "implicit"},
    "implicit by rating": {"solver": "implicit", "weight": "rating", "method": "cg"},
    "als by weight": {"solver": "als", "weight": "weight"},
    "als-links by weight": {"solver": "als-links", "weight": "weight", "epochs": 3},
    "implicit with dislikes": {"solver": "implicit", "positive_from": 3.0, "negative_to": 2.5},
    "sgd": {"solver": "sgd", "bins": 3},
    "sgd by weight": {"solver": "sgd", "weight": "weight", "bins": 3},
    "sgd adaptive": {"solver": "sgd", "adaptive": True, "lr": 0.2, "bins": 3},
}


@pytest.fixture(scope="module")
def rows(planted):
    return planted(6, 5, 20)


@pytest.mark.parametrize("how", CASES.values(), ids=CASES)
def test_a_fit_gives_the_factors_of_the_definitions(rows, how):
    run = {"k": 3, "epochs": 2, "validation": 0.2, **how}
    if how.get("weight") == "weight":
        rows = *rows, np.random.default_rng(0).uniform(0.2, 3, len(rows[0]))
    expected, found = (fastmf.fit(rows, device=device, **run) for device in ("numpy", "cuda"))
    for name in ("user_factors", "item_factors", "user_bias", "item_bias"):
        one, other = getattr(expected, name), getattr(found, name)
        np.testing.assert_allclose(other, one, rtol=0, atol=1e-4 * max(np.abs(one).max(), 1e-6))
    for one, other in zip(expected.history, found.history, strict=True):
        assert other.train_rmse == pytest.approx(one.train_rmse, abs=1e-4)
        for name in ("validation_rmse", "validation_ndcg"):
            assert getattr(other, name) == pytest.approx(getattr(one, name), abs=1e-4)
    assert found.best_epoch == expected.best_epoch


@pytest.mark.parametrize("solver", ["als", "als-links", "implicit", "sgd"])
def test_a_fit_with_side_features_gives_the_factors_of_the_definitions(rows, solver):
    rng = np.random.default_rng(3)
    tables = {
        f"{side}_features": pa.table({side: ids, "a": rng.random(len(ids)), "b": rng.random(len(ids))})
        for side, ids in (("user", np.unique(rows[0])), ("item", np.arange(1000, 1006)))  # 1005 has no ratings
    }
    run = {"k": 3, "epochs": 2, "solver": solver, **tables}
    expected, found = (fastmf.fit(rows, device=device, **run) for device in ("numpy", "cuda"))
    for name in ("user_factors", "item_factors", "user_bias", "item_bias"):
        one, other = getattr(expected, name), getattr(found, name)
        np.testing.assert_allclose(other, one, rtol=0, atol=1e-4 * max(np.abs(one).max(), 1e-6))
    assert found.item_factors[-1].any()


def test_a_solver_without_kernels_for_it_says_so_and_auto_takes_the_cpu(rows):
    run = {"k": 2, "solver": "gibbs", "burn": 1, "samples": 1}
    message = "solver .gibbs. does not run on a GPU: use another, or --device cpu"
    with pytest.raises(DeviceUnavailableError, match=message):
        fastmf.fit("nowhere.parquet", device="cuda", **run)
    model = fastmf.fit(rows, device="auto", **run)
    assert model.content_hash == fastmf.fit(rows, **run).content_hash
    assert model.fold_in(rows, device="auto").samples is not None


def test_training_goes_on_from_a_checkpoint_to_the_same_bits(rows, tmp_path):
    run = {"k": 2, "device": "cuda", "validation": 0.2}
    whole = fastmf.fit(rows, epochs=2, **run)

    def stop(epoch):
        raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        fastmf.fit(rows, epochs=2, checkpoint=tmp_path, callback=stop, **run)
    resumed = fastmf.fit(rows, epochs=2, checkpoint=tmp_path, resume=True, **run)
    assert resumed.content_hash == whole.content_hash


def test_lists_and_folded_in_users_are_those_of_the_cpu(rows):
    model = fastmf.fit(rows, k=3, epochs=2, device="numpy")
    ours, theirs = (model.recommend(n=3, device=device) for device in ("cpu", "cuda"))
    assert ours.drop(columns="score").equals(theirs.drop(columns="score"))
    np.testing.assert_allclose(theirs["score"], ours["score"], rtol=1e-5)
    new = (["ann", "ann", "bob"], [1000, 1003, 1001], [5.0, 1.0, 3.0])
    one, other = (model.fold_in(new, device=device) for device in ("numpy", "cuda"))
    np.testing.assert_allclose(other.user_factors, one.user_factors, atol=1e-5)
    np.testing.assert_allclose(other.user_bias, one.user_bias, atol=1e-5)


@pytest.mark.filterwarnings("ignore:.*(overflow|invalid value)")
def test_divergence_is_found(rows):
    with pytest.raises(DivergenceError, match=r"epoch \d: .*lower lr"):
        fastmf.fit(rows, k=2, solver="sgd", bins=2, lr=1e6, epochs=2, device="cuda")


def test_too_many_factors_for_the_kernels_are_refused():
    with pytest.raises(ParameterError, match=r"k is 1,025: .* at most 1,024 .*--device cpu"):
        fastmf.fit("nowhere.parquet", k=1025, device="cuda")


def test_a_fit_too_big_for_the_gpu_is_refused_with_the_numbers(rows, monkeypatch):
    from numba import cuda

    context = type(cuda.current_context())
    monkeypatch.setattr(context, "get_memory_info", lambda self: (1000, 2000))
    with pytest.raises(
        ResourceError, match=r"takes at least [0-9,]+ bytes of the GPU's memory, of which 1,000 bytes are"
    ):
        fastmf.fit(rows, k=3, device="cuda")


def test_a_gpu_that_runs_out_of_memory_is_a_resource_error():
    device = resolve("cuda")
    assert isinstance(device, CudaDevice)
    with pytest.raises(ResourceError, match="out of memory: use fewer factors"), device.active():
        raise RuntimeError("Call to cuMemAlloc results in CUDA_ERROR_OUT_OF_MEMORY")
    with pytest.raises(RuntimeError, match="INVALID_VALUE"), device.active():
        raise RuntimeError("CUDA_ERROR_INVALID_VALUE")
