"""What a solver starts from and updates: the factors of a fit, and where they are in an earlier model."""

from typing import NamedTuple

import numpy as np

from fastmf.kernels.types import Side
from fastmf.model.frame import Frame, to_training
from fastmf.model.learned import Expected, Links


class Factors(NamedTuple):
    """Factors and biases of both sides, on the standardised scale. A solver updates them in place.

    ``memory`` holds everything else that the next epoch depends on, so that Factors alone are enough to resume from.
    ``kept`` holds what the model keeps besides factors and biases; see :meth:`Solver.learned`.
    """

    users: Side
    items: Side
    memory: tuple[np.ndarray, ...] = ()
    kept: tuple[np.ndarray, ...] = ()


class Start(NamedTuple):
    """Where training starts from an earlier model: its rows, in the order of the ratings' and on their scale.

    users, items : as the model has them; see :mod:`fastmf.model.frame` for ``frame``. Rows that the model has nothing
        to say about are zero.
    known_users, known_items : (n,) bool, False for these rows.
    links : those of the model, on the same scale; None if it has none.
    expected : what the model has learned of the same features as those of the ratings, by "user" and "item".
    """

    users: Side
    items: Side
    known_users: np.ndarray
    known_items: np.ndarray
    frame: Frame
    links: Links | None
    expected: dict[str, Expected]

    @property
    def trained(self) -> "Start":
        """The same rows in the frame of the training objective."""
        users, items = to_training(self.users, self.items, self.frame)
        nothing = np.zeros_like(self.frame.user_origin)
        return self._replace(users=users, items=items, frame=Frame(nothing, nothing))
