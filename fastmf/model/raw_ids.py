"""The ids of a model's users or items, for people: a sequence of Python values that pandas and NumPy can use."""

from collections.abc import Iterator, Sequence
from typing import Any

import numpy as np
import pyarrow as pa

from fastmf.data import ids
from fastmf.errors import DataError


class RawIds(Sequence[Any]):
    """Sorted distinct ids, read-only: row u of a model's arrays belongs to the id at u.

    Ids are the values that were given: ``frame.loc[model.user_ids[0]]`` and ``series[model.user_ids]`` find them. NumPy
    gets an array of their natural type, of Python objects for text, bytes, dates and UUIDs. Methods of Arrow arrays,
    such as ``to_pylist`` and ``take``, work, too, and return what they do there; ``arrow`` is the array itself.

    >>> found = RawIds(pa.array([3, 5, 8]))
    >>> found[0], found[-1], len(found), 5 in found
    (3, 8, 3, True)
    >>> found[[2, 0]]
    RawIds([8, 3], int64)
    """

    __slots__ = ("arrow",)

    def __init__(self, arrow: pa.Array) -> None:
        self.arrow = arrow

    def __len__(self) -> int:
        return len(self.arrow)

    def __getitem__(self, index: Any) -> Any:
        """Return the id at an index; for a slice, a mask or several indices, those ids."""
        if isinstance(index, int | np.integer):
            return self.arrow[int(index)].as_py()
        if isinstance(index, slice):
            return RawIds(self.arrow[index])
        return RawIds(self.arrow.take(pa.array(np.arange(len(self))[index])))

    def __iter__(self) -> Iterator[Any]:
        return iter(self.arrow.to_pylist())

    def __contains__(self, value: object) -> bool:
        wanted = ids.many(value)
        try:
            return wanted is not value and bool(ids.lookup(self.arrow, wanted, "id")[0] >= 0)
        except DataError:  # of another type
            return False

    def __eq__(self, other: object) -> bool:
        return self.equals(other) if isinstance(other, RawIds | pa.Array) else NotImplemented

    def equals(self, other: "RawIds | pa.Array") -> bool:
        """Check whether other ids, or an Arrow array, are the same, of the same type."""
        return bool(self.arrow.equals(other.arrow if isinstance(other, RawIds) else other))

    __hash__ = None  # type: ignore[assignment]

    def __repr__(self) -> str:
        first = ", ".join(map(repr, self.arrow[:5].to_pylist()))
        return f"RawIds([{first}{f', … {len(self):,} in all' if len(self) > 5 else ''}], {self.arrow.type})"

    def __getattr__(self, name: str) -> Any:
        if name.startswith("_") or name == "arrow":
            raise AttributeError(f"RawIds has no attribute {name!r}")
        return getattr(self.arrow, name)

    def __reduce__(self) -> tuple[Any, ...]:
        return RawIds, (self.arrow,)

    def __array__(self, dtype: Any = None, copy: bool | None = None) -> np.ndarray:
        found = ids.to_pandas(self.arrow).to_numpy()
        return np.array(found, dtype, copy=copy)

    def __arrow_array__(self, type: pa.DataType | None = None) -> pa.Array:  # noqa: A002  Arrow's name
        return self.arrow if type is None else self.arrow.cast(type)

    def __arrow_c_array__(self, requested_schema: Any = None) -> Any:
        return self.arrow.__arrow_c_array__(requested_schema)
