"""What an epoch of training came to: what a callback gets, and a model's history holds; and how two are compared."""

import math
from dataclasses import dataclass
from typing import Any, NamedTuple


@dataclass(frozen=True, kw_only=True)
class Epoch:
    """What an epoch of training came to.

    Attributes
    ----------
    number : 1 for the first.
    seconds : time of the solver alone.
    train_rmse : of the ratings trained on, with the factors of the end of the epoch, not clipped.
        Of implicit feedback, of scores that should be 1.
    validation_rmse, validation_mae : of the validation ratings, clipped to the rating range; None without validation.
    validation_ndcg : of implicit feedback, of lists of 10 for users of the validation; None without validation.
    """

    number: int
    seconds: float
    train_rmse: float
    validation_rmse: float | None = None
    validation_mae: float | None = None
    validation_ndcg: float | None = None


class Measure(NamedTuple):
    """A figure of the validation that says which of two epochs, or trials, is the better one.

    key : of its attribute, see below. name : what it is called beside the figure. higher : whether higher is better.
    """

    key: str
    name: str
    higher: bool = False

    @property
    def attribute(self) -> str:
        """What an :class:`Epoch` calls it."""
        return f"validation_{self.key}"

    def of(self, found: Any) -> float | None:
        """Take the figure of an epoch, or of anything with its attributes."""
        value: float | None = getattr(found, self.attribute)
        return value

    def cost(self, found: Any) -> float:
        """Say the same as what is to be as low as can be; infinite where there is none."""
        value = self.of(found)
        return math.inf if value is None else -value if self.higher else value


RMSE, MAE, NDCG = Measure("rmse", "RMSE"), Measure("mae", "MAE"), Measure("ndcg", "nDCG@10", higher=True)
