"""What an epoch of training came to: what a callback gets, and a model's history holds."""

from dataclasses import dataclass


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
