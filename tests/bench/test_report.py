from fastmf.bench.report import HEADER, add_speedups, notes, table
from fastmf.bench.sources import Source

RESULT = {
    "dataset": "some", "data": "file", "solver": "als", "device": "cpu", "threads": 1, "users": 40, "items": 50,
    "ratings": 800, "training_ratings": 720, "load_seconds": 0.1234, "compile_seconds": 123.4, "epochs": 2,
    "full_epochs": 2, "sampled_ratings": None, "epoch_seconds_median": 2.0, "epoch_seconds_min": 1.0,
    "ratings_per_second": 360.0, "share_of_peak": 0.125, "rmse": 1.0, "seconds_to_rmse": None,
    "peak_memory_bytes": 2**31, "blas": [],
    "limits": {"flops_per_second": 2e11, "bytes_per_second": 3.21e10, "blas_flops_per_second": None},
}  # fmt: skip


def results():
    devices = {"numpy": 6.0, "cpu": 2.0, "cuda:1": 0.5}
    found = [RESULT | {"device": device, "epoch_seconds_median": seconds} for device, seconds in devices.items()]
    return [*found, RESULT | {"dataset": "alone"}]


def test_speedups_are_ratios_to_the_same_solver_on_the_same_data():
    found = results()
    add_speedups(found)
    assert [result["speedup_over_numpy"] for result in found] == [None, 3.0, 12.0, None]
    assert [result["speedup_over_cpu"] for result in found] == [None, None, 4.0, None]


def test_the_table_has_a_row_for_each_case():
    found = results()
    add_speedups(found)
    header, rows = table({"results": found})
    assert [len(row) for row in rows] == [len(header)] * 4
    assert all(isinstance(cell, str) for row in rows for cell in row)
    assert [row[header.index("vs NumPy")] for row in rows] == ["-", "3x", "12x", "-"]
    shown = dict(zip(header, rows[1], strict=True))
    assert (shown["compile s"], shown["load s"], shown["of peak"]) == ("123", "0.123", "12 %")
    assert (shown["RMSE"], shown["s to RMSE"], shown["peak MiB"]) == ("1.0000", "-", "2,048")


def test_cells_of_what_was_cut_short_or_not_measured():
    changes = [
        ({"epochs": 1}, "RMSE", "1.0000 (epoch 1)"),
        ({"sampled_ratings": 2000, "rmse": None}, "epochs", "2,000 ratings"),
        ({"rmse": None}, "RMSE", "-"),
        ({"peak_memory_bytes": None}, "peak MiB", "-"),
        ({"seconds_to_rmse": 1.5}, "s to RMSE", "1.5"),
    ]
    for change, column, text in changes:
        found = [RESULT | change]
        add_speedups(found)
        assert table({"results": found})[1][0][HEADER.index(column)] == text


def test_notes_name_the_data_and_what_was_cut_short(monkeypatch):
    monkeypatch.setenv("NUMBA_DISABLE_JIT", "1")
    cut = [RESULT | {"solver": "sgd", "sampled_ratings": 9}, RESULT | {"epochs": 1, "blas": None}]
    first, *rest = notes([Source("some", "", "twin (seed 0)", "not real")], cut)
    assert first == "some: twin (seed 0): 40 users, 50 items, 800 ratings, 720 of them trained on. not real"
    assert rest[0].startswith("some, sgd, cpu: timed on a random sample of 9 of 720 training ratings")
    assert rest[1] == "some, als, cpu: RMSE after 1 of the solver's 2 epochs"
    assert rest[2].startswith("peak of the host, measured after each case: 200 GFLOP/s of multiply-adds, 32.1 GB/s")
    assert "threadpoolctl is not installed" in rest[3]
    assert "nothing was compiled" in rest[4]


def test_notes_name_the_peaks_that_shares_are_of():
    faster = {"flops_per_second": 2.2e11, "bytes_per_second": 3e10, "blas_flops_per_second": 1.9e11}
    gpu = {"flops_per_second": 5e13, "bytes_per_second": 4e12, "blas_flops_per_second": None}
    found = [RESULT, RESULT | {"limits": faster}, RESULT | {"device": "cuda:1", "limits": gpu}]
    assert notes([], found)[:2] == [
        "peak of the host, measured after each case:"
        " 200 to 220 GFLOP/s of multiply-adds, 190 GFLOP/s in a BLAS product, 30 to 32.1 GB/s read from memory",
        "peak of the GPU, measured after each case: 50,000 GFLOP/s of multiply-adds, 4,000 GB/s read from memory",
    ]
