"""The best items of one user as arrays, for programs that serve one user at a time."""

from typing import Any

import numpy as np
from pyarrow import types

from fastmf.data import ids
from fastmf.data.arrow import to_numpy
from fastmf.errors import ParameterError, require_integer, require_truth
from fastmf.kernels.topn_one import best, depth_of, table_of
from fastmf.model.frozen import thawed
from fastmf.model.raw_ids import RawIds
from fastmf.model.recommend import Ranker
from fastmf.model.state import State


class Server:
    """What a model needs to find one user's best items, prepared once; threads may share it.

    It takes as much memory as the items' factors, and for ids that are not integers that of a dictionary of them.
    """

    def __init__(self, state: State, rank_by: str) -> None:
        ranker = Ranker(state, rank_by=rank_by, include_seen=True)
        self._state, self._table = state, table_of(ranker.items)
        self._depth, self._ranker = depth_of(self._table), ranker
        self._users, self._items = Places(state.user_ids), np.asarray(state.item_ids)
        self._seen = None if state.seen is None else thawed(state.seen)

    def top(self, user_id: Any, n: int, include_seen: bool) -> tuple[np.ndarray, np.ndarray]:
        """Return the ids and the scores of a user's best items; see :meth:`fastmf.Model.top`."""
        require_integer("n", n, 1)
        require_truth("include_seen", include_seen)
        row, state, n = self._users.find(user_id), self._state, min(n, len(self._items))
        user = np.zeros(self._depth, np.float32)
        user[1 : 1 + state.k] = self._ranker.users.factors[row]
        user[0] = self._ranker.users.bias[row] + self._ranker.constant
        if (self._seen is None and not include_seen) or (self._ranker.likely and not user[1:].any()):
            ranker = Ranker(state, rank_by=self._ranker.rank_by, include_seen=include_seen)  # refuses, or by popularity
            found, scores = ranker.top(np.array([row]), n)
        else:
            found, scores = np.empty((1, n), np.int32), np.empty((1, n), np.float32)
            best(self._table, user, self._left_out(row, include_seen), found, scores)
        length = n if found[0, -1] >= 0 else int(np.count_nonzero(found >= 0))
        return self._items[found[0, :length]], scores[0, :length]

    def _left_out(self, row: int, include_seen: bool) -> np.ndarray:
        """Return the items that a user has rated in training, (n,) int32."""
        indptr, indices = self._seen or ((0, 0), np.empty(0, np.int32))
        return indices[:0] if include_seen else indices[indptr[row] : indptr[row + 1]]


class Servers(dict[str, Server]):
    """The servers of a model by ``rank_by``, each prepared when it is first asked for; two threads may both do so."""

    def __init__(self, state: State) -> None:
        super().__init__()
        self._state = state

    def __missing__(self, rank_by: str) -> Server:
        return self.setdefault(rank_by, Server(self._state, rank_by))


class Places:
    """The rows of users by their ids: integers are searched in the sorted ids, others in a dictionary."""

    def __init__(self, user_ids: RawIds) -> None:
        self._ids, self._numbers = user_ids, to_numpy(user_ids.arrow) if types.is_integer(user_ids.type) else None
        values = [] if self._numbers is not None else user_ids.to_pylist()
        self._type, self._rows = type(values[0]) if values else None, {value: row for row, value in enumerate(values)}

    def find(self, user_id: Any) -> int:
        """Return the row of an id."""
        if self._numbers is None:
            row = self._rows.get(user_id) if type(user_id) is self._type else None
        else:
            row = self._searched(user_id)
        return self._required(user_id) if row is None else row

    def _required(self, user_id: Any) -> int:
        """Find an id of another type, or raise an error if it is unknown or several."""
        wanted = ids.many(user_id)
        if wanted is user_id:
            raise ParameterError(f"user_id is {user_id!r}: give the id of one user, or use recommend for several")
        return int(ids.require(self._ids.arrow, wanted, "user")[0])

    def _searched(self, user_id: Any) -> int | None:
        numbers, kind = self._numbers, type(user_id)
        if numbers is None or not (kind is int or issubclass(kind, np.integer)):
            return None
        try:
            row = int(numbers.searchsorted(numbers.dtype.type(user_id)))
        except OverflowError:
            return None
        return row if row < len(numbers) and int(numbers[row]) == int(user_id) else None
