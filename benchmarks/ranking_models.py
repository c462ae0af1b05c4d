"""Fit and recommend with implicit, in its virtual environment; ranking.py passes a folder and the settings."""

import json
import sys
import time
from pathlib import Path

import implicit
import numpy as np
from implicit.als import AlternatingLeastSquares
from scipy.sparse import csr_matrix


def main() -> None:
    """Read the job from the folder and write the lists there; print the seconds and implicit's version as JSON."""
    folder, given = Path(sys.argv[1]), json.loads(sys.argv[2])
    job = np.load(folder / "job.npz")
    n_users, n_items, users = len(job["indptr"]) - 1, int(job["n_items"]), job["users"]
    pairs = csr_matrix((job["weights"], job["indices"], job["indptr"]), shape=(n_users, n_items))
    ones = np.ones(len(job["seen_indices"]), np.float32)
    seen = csr_matrix((ones, job["seen_indices"], job["seen_indptr"]), shape=(n_users, n_items))
    model = AlternatingLeastSquares(
        factors=given["k"],
        alpha=given["alpha"],
        regularization=given["reg"],
        iterations=given["epochs"],
        num_threads=given["threads"],
        random_state=0,
        use_gpu=False,
        use_cg=given.get("cg", True),
    )
    ends = [time.perf_counter()]
    model.fit(pairs, show_progress=False, callback=lambda *_: ends.append(time.perf_counter()))
    began = time.perf_counter()
    lists, _ = model.recommend(users, seen[users], N=given["n"], filter_already_liked_items=True)
    seconds = time.perf_counter() - began
    np.save(folder / "lists.npy", lists.astype(np.int32))
    times = {"epoch_seconds": list(np.diff(ends)), "recommend_seconds": seconds}
    print(json.dumps({**times, "version": implicit.__version__}))


if __name__ == "__main__":
    main()
