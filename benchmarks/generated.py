"""Write four sets of ratings in which factors find little or nothing, for benchmarks/accuracy.py.

    python benchmarks/generated.py FOLDER

benchmarks/README.md explains their purpose.
"""

from pathlib import Path

import click
import numpy as np
from common import write_sets

SEED = 0
USERS, ITEMS, RATINGS, ONCE = 2000, 600, 40_000, 20_000
RANK, SIGMA, BIAS, NOISE = 4, 0.35, 0.5, 0.8  # factors this weak can hardly be found from 20 ratings per user
SCALES = {
    "one-rating-per-user": (1, 5),
    "minus10-to-10": (-10, 10),
    "0-to-100": (0, 100),
    "pure-noise": (1, 5),
}


def draw(name: str) -> dict[str, np.ndarray]:
    """Draw a set by name: integer ratings on its scale; some users and items have many more than others."""
    rng, (low, high) = np.random.default_rng(SEED), SCALES[name]
    if name == "one-rating-per-user":
        n_users = ONCE
        users, items = np.arange(n_users), (rng.random(n_users) ** 2 * ITEMS).astype(int)
    else:
        n_users = USERS
        drawn = (rng.random((2, 3 * RATINGS)) ** [[1.5], [2.0]] * [[n_users], [ITEMS]]).astype(np.int64)
        pairs = rng.permutation(np.unique(drawn[0] * ITEMS + drawn[1]))[:RATINGS]
        users, items = np.divmod(pairs, ITEMS)
    user_bias, item_bias = (BIAS * rng.standard_normal(n) for n in (n_users, ITEMS))
    x, y = (SIGMA * rng.standard_normal((n, RANK)) for n in (n_users, ITEMS))
    truth = user_bias[users] + item_bias[items] + np.sum(x[users] * y[items], axis=1)
    noise = rng.standard_normal(len(users))
    exact = noise if name == "pure-noise" else truth + NOISE * noise
    ratings = np.clip(np.round(low + (high - low) * (exact + 2.5) / 5), low, high)
    return {"user": users, "item": items, "rating": ratings}


@click.command(help=__doc__.replace("\n\n", "\n\n\b\n", 1))
@click.argument("folder", type=click.Path(file_okay=False, path_type=Path))
def main(folder: Path) -> None:
    """Write the four files."""
    write_sets(SCALES, draw, folder)


if __name__ == "__main__":
    main()
