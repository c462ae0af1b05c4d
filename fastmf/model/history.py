"""The figures of an epoch of training, and how two epochs are compared."""

import math
from dataclasses import asdict, dataclass, fields
from typing import TYPE_CHECKING, Any, NamedTuple

if TYPE_CHECKING:
    import pandas as pd


@dataclass(frozen=True, kw_only=True)
class Epoch:
    """The figures of one epoch, passed to callbacks and kept in a model's history.

    Attributes
    ----------
    number : the epoch's number, from 1.
    seconds : time that the solver alone took.
    train_rmse : RMSE on the training ratings after the epoch, not clipped. For implicit feedback there are none: it
        is how far the observed pairs' scores are from 1, and those of dislikes from 0 (root mean square).
    validation_rmse, validation_mae : errors on the validation ratings, clipped to the rating range; None without
        validation.
    validation_ndcg : for implicit feedback, nDCG@10 of lists for validation users; None without validation.
    """

    number: int
    seconds: float
    train_rmse: float
    validation_rmse: float | None = None
    validation_mae: float | None = None
    validation_ndcg: float | None = None


class History(list[Epoch]):
    """The epochs of a fit, a list of :class:`Epoch` with a table of its figures.

    >>> History([Epoch(number=1, seconds=0.5, train_rmse=0.9)]).to_frame().to_dict("records")
    [{'number': 1, 'seconds': 0.5, 'train_rmse': 0.9}]
    """

    def to_frame(self) -> "pd.DataFrame":
        """Return a frame with a row for each epoch; figures that no epoch has are left out."""
        import pandas as pd

        names = [each.name for each in fields(Epoch)]
        frame = pd.DataFrame([asdict(epoch) for epoch in self], columns=names)
        always = ["number", "seconds", "train_rmse"]
        return frame[[name for name in names if name in always or frame[name].notna().any()]]

    def _repr_html_(self) -> str:
        html: str = self.to_frame().to_html(index=False)
        return html


def train_name(implicit: bool) -> str:
    """Return what to call ``train_rmse`` on a terminal: of implicit feedback it is no RMSE of ratings."""
    return "observed pairs off by" if implicit else "train RMSE"


class Measure(NamedTuple):
    """A validation figure by which two epochs, or two trials, are compared.

    key is the suffix of :attr:`attribute`; name is for display; higher is True if a higher figure is better.
    """

    key: str
    name: str
    higher: bool = False

    @property
    def attribute(self) -> str:
        """The attribute of an :class:`Epoch` that holds the figure."""
        return f"validation_{self.key}"

    def of(self, found: Any) -> float | None:
        """Return the figure of an epoch, or of anything with the same attribute."""
        value: float | None = getattr(found, self.attribute)
        return value

    def cost(self, found: Any) -> float:
        """Return the figure as a cost (lower is better); infinite if there is no figure."""
        value = self.of(found)
        return math.inf if value is None else -value if self.higher else value


RMSE, MAE, NDCG = Measure("rmse", "RMSE"), Measure("mae", "MAE"), Measure("ndcg", "nDCG@10", higher=True)
