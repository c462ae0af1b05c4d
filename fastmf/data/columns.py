"""Which column of a table plays which role: user, item, rating, weight, timestamp."""

from collections.abc import Collection, Mapping, Sequence

from fastmf.errors import DataError

# The names a column may have if the caller names none.
USUAL = {
    "user": ("user_id", "user", "userId", "userid"),
    "item": ("item_id", "item", "movieId", "itemId", "itemid"),
    "rating": ("rating", "value", "score"),
    "timestamp": ("timestamp",),
}


def choose(
    names: Sequence[str], roles: Mapping[str, str | None], where: str, optional: Collection[str] = ()
) -> list[str]:
    """Return the name of the column for each role; see :func:`fastmf.data.read.read_columns`."""
    chosen: dict[str, str] = {}
    for role, asked in roles.items():
        usual = USUAL[role] if asked is None else (asked,)
        found = [name for name in names if name in usual]
        if len(found) == 1:
            chosen[role] = found[0]
        elif found or asked is not None or role not in optional:
            raise DataError(f"{where} has {_problem(role, asked, found, names)}")
    # The ratings' column may also hold the weights.
    apart = [name for role, name in chosen.items() if role != "weight" or name != chosen.get("rating")]
    if len(set(apart)) < len(apart):
        named = ", ".join(f"{role} {name!r}" for role, name in chosen.items())
        raise DataError(f"{where}: one column is named for two roles ({named}): name another")
    return list(chosen.values())


def _problem(role: str, asked: str | None, found: Sequence[str], names: Sequence[str]) -> str:
    if found:
        problem = f"more than one column that could hold the {role}s, {' and '.join(map(repr, found))}"
    elif asked is not None:
        problem = f"no column {asked!r} for the {role}s"
    else:
        problem = f"no column for the {role}s, none of {', '.join(map(repr, USUAL[role]))}"
    option = f", or name it with --{role} COLUMN ({role}=) where possible" if role in USUAL else ""
    return f"{problem}: rename it{option}; there are {', '.join(map(repr, names)) or 'none'}"


def distinct(names: Sequence[str], where: str) -> list[str]:
    """Return the names of all columns; raise a DataError if two are the same."""
    repeated = [name for place, name in enumerate(names) if name in names[:place]]
    if repeated:
        raise DataError(f"{where} has several columns {repeated[0]!r}: rename them")
    return list(names)
