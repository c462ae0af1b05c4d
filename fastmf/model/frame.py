"""The frame of a model's rows: what was moved between factors, biases and the mean after training.

A training objective penalises factors x, y and biases b, c of standardised ratings. A model may hold rows that are
measured from the mean row, so that zeros stand for that row. With the mean user p and the mean item q, its rows x', y'
and biases b', c' are

    x' = x - p,    b' = b + x' . q        y' = y - q,    c' = c + y' . p

Predictions stay the same if the model's mean is the training mean plus p . q; so far only one of the two is not zero.
Everything here is on the standardised scale.
"""

from typing import TYPE_CHECKING, NamedTuple

import numpy as np

from fastmf.kernels.types import Side
from fastmf.model.learned import product
from fastmf.runtime.device import resolve

if TYPE_CHECKING:
    from fastmf.model.state import State


class Frame(NamedTuple):
    """What a model's rows are measured from: user_origin p and item_origin q (k,)."""

    user_origin: np.ndarray
    item_origin: np.ndarray

    @property
    def swapped(self) -> "Frame":
        """The same frame with users and items exchanged."""
        return Frame(self.item_origin, self.user_origin)


def frame_of(state: "State") -> Frame:
    """Return the frame of a model's rows."""
    nothing = np.zeros(state.k, np.float32)
    if state.user_prior is not None:
        return Frame(state.user_prior.origin, nothing if state.item_prior is None else state.item_prior.origin)
    biased = state.user_rule is not None and state.user_rule.bias_reg is not None
    return Frame(nothing if state.links is None or not biased else state.links.origin, nothing)


def to_training(users: Side, items: Side, frame: Frame) -> tuple[Side, Side]:
    """Return a model's sides as the training objective has them."""
    return _penalised(users, frame), _penalised(items, frame.swapped)


def to_model(users: Side, items: Side, frame: Frame) -> tuple[Side, Side]:
    """Return sides of the training objective as the model has them: the inverse of :func:`to_training`."""
    return _measured(users, frame), _measured(items, frame.swapped)


def _penalised(side: Side, frame: Frame) -> Side:
    """Undo :func:`_measured`."""
    factors, bias = side
    if frame.item_origin.any():
        bias = bias - shares(factors, frame.item_origin)
    return Side(factors + frame.user_origin if frame.user_origin.any() else factors, bias)


def _measured(side: Side, frame: Frame) -> Side:
    """Measure rows from ``frame.user_origin``; their biases absorb the other side's origin."""
    factors = side.factors - frame.user_origin if frame.user_origin.any() else side.factors
    return Side(factors, absorbed(factors, side.bias, frame))


def absorbed(factors: np.ndarray, bias: np.ndarray, frame: Frame) -> np.ndarray:
    """Return a model's biases (n,), given its factors and the penalised biases."""
    if frame.item_origin.any():
        return bias + shares(factors, frame.item_origin)
    return bias


def shares(factors: np.ndarray, origin: np.ndarray) -> np.ndarray:
    """Return factors (n, k) times an origin (k,), float32; BLAS's bits would depend on the machine's cores."""
    return product(factors, origin[:, None], resolve("cpu"))[:, 0].astype(np.float32)
