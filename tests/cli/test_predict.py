"""``fastmf predict``."""

import numpy as np
import pandas as pd
import pyarrow.parquet as pq

from fastmf.data.write import write_parquet


def test_predict_writes_what_the_function_predicts(path, model, run, run_json, tmp_path):
    users, items = [100, 1, 103, 1], [1000, 1001, 7, 7]
    write_parquet({"who": users, "what": items}, tmp_path / "pairs.parquet")
    options = [path, tmp_path / "pairs.parquet", "--user", "who", "--item", "what"]
    done = run("predict", *options, "-o", tmp_path / "p.csv")
    assert done.stdout == f"{tmp_path / 'p.csv'}\n"
    assert done.stderr.startswith("4 pairs predicted, 2 with an unknown user, 2 with an unknown item")
    found = run_json("predict", *options, "-o", tmp_path / "p.parquet", "--on-unknown", "nan")
    assert found == {"output": str(tmp_path / "p.parquet"), "pairs": 4, "unknown_users": 2, "unknown_items": 2}
    with_means, with_nans = pd.read_csv(tmp_path / "p.csv"), pq.read_table(tmp_path / "p.parquet").to_pandas()
    assert list(with_means) == list(with_nans) == ["user_id", "item_id", "prediction"]
    for written, on_unknown in ((with_means, "mean"), (with_nans, "nan")):
        expected = model.predict(users, items, on_unknown=on_unknown)
        np.testing.assert_array_equal(written.to_numpy(np.float32), expected.to_numpy(np.float32))
