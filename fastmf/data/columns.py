"""Which column of a table plays which role: user, item, rating, weight, timestamp, title."""

import re
from collections.abc import Collection, Mapping, Sequence
from numbers import Integral

from fastmf.errors import DataError, ParameterError, brief

# The names a column may have if the caller names none, without case, blanks, hyphens and underscores. Those of the
# second line are tried if no column has one of the first.
USUAL: dict[str, tuple[tuple[str, ...], ...]] = {
    "user": (
        ("userid", "user"),
        ("uid", "customerid", "customer", "reviewerid", "memberid", "accountid", "visitorid", "personid", "userkey"),
    ),
    "item": (
        ("itemid", "item", "movieid"),
        (
            *("iid", "movie", "filmid", "songid", "song", "trackid", "artistid", "productid", "product", "asin"),
            *("parentasin", "bookid", "isbn", "gameid", "animeid", "articleid", "newsid", "recipeid", "businessid"),
        ),
    ),
    "rating": (("rating", "value", "score"), ("stars", "starrating", "ratings", "overall", "bookrating")),
    "timestamp": (("timestamp",), ("ts", "time", "datetime", "date", "unixreviewtime", "eventtime")),
    "weight": (("count", "plays", "playcount"), ("weight",)),
    "title": (("title",), ("name", "movietitle", "itemname")),
}
# What the columns of a table without names are, from the first on.
POSITIONS = ("user", "item", "rating", "timestamp")
# How to name the column of a role.
_WHERE_ID = ", in recommend and explain --{0}-column"  # there, --user is an id
OPTIONS = {role: f"--{role} COLUMN ({role}=" + _WHERE_ID.format(role) + ")" for role in ("user", "item", "rating")}
OPTIONS |= {role: f"--{role} COLUMN ({role}=)" for role in ("weight", "timestamp")}
LISTED = 20  # names that a message lists at most


def choose(
    names: Sequence[str],
    roles: Mapping[str, str | None],
    where: str,
    optional: Collection[str] = (),
    preferred: Mapping[str, str] | None = None,
) -> dict[str, str]:
    """Return the name of the column for each role that has one; see :func:`fastmf.data.read.read_roles`.

    ``preferred`` names columns to take, if they are there, before the usual ones are tried.
    """
    chosen: dict[str, str] = {}
    for role, asked in roles.items():
        require_name(role, asked)
        found = _found(names, role, asked, (preferred or {}).get(role))
        if len(found) == 1:
            chosen[role] = found[0]
        elif found or asked is not None or role not in optional:
            raise DataError(f"{where} has {_problem(role, asked, found, names)}")
    # The ratings' column may also hold the weights.
    apart = [name for role, name in chosen.items() if role != "weight" or name != chosen.get("rating")]
    if len(set(apart)) < len(apart):
        named = ", ".join(f"{role} {name!r}" for role, name in chosen.items())
        raise DataError(f"{where}: one column is named for two roles ({named}): name another")
    return chosen


def require_name(role: str, asked: object) -> None:
    """Raise a ParameterError unless ``asked`` can be the name of a column, or is None."""
    is_name = isinstance(asked, str | Integral | None) and (asked != "" or role in ("rating", "weight"))
    if not is_name:
        raise ParameterError(f"{role} is {brief(asked)}: give the name of a column")


def plain(name: object) -> str:
    """Return a column's name without what does not tell names apart: case, blanks, hyphens and underscores."""
    return re.sub(r"[\s_-]+", "", str(name)).casefold()


def is_usual(name: object, role: str) -> bool:
    """Check whether a name is a usual one for a role."""
    return any(plain(name) in tier for tier in USUAL.get(role, ()))


def _found(names: Sequence[str], role: str, asked: str | None, preferred: str | None) -> list[str]:
    """Return the columns that may play a role: those with the name asked for, or else with a usual one."""
    exact = [name for name in names if name == (preferred if asked is None else asked)]
    if exact:
        return exact
    tiers = USUAL[role] if asked is None else ((plain(asked),),)
    each = ([name for name in names if plain(name) in tier] for tier in tiers)
    return next((found for found in each if found), [])


def _problem(role: str, asked: str | None, found: Sequence[str], names: Sequence[str]) -> str:
    if found:
        problem = f"more than one column that could hold the {role}s, {' and '.join(map(repr, found))}"
    elif asked is not None:
        problem = f"no column {asked!r} for the {role}s"
    else:
        problem = f"no column for the {role}s, none of {', '.join(map(repr, USUAL[role][0]))} or their like"
    option = f", or name it with {OPTIONS[role]}" if role in OPTIONS else ""
    wide = (
        "; if every column but one is an item, give --wide (wide=True)"
        if role == "item" and len(names) > 4 and not found
        else ""
    )
    return f"{problem}: rename it{option}{wide}; there are {listed(names)}"


def listed(names: Sequence[object], most: int = LISTED) -> str:
    """List names for a message: at most ``most`` of them, and how many more there are."""
    more = f" and {len(names) - most:,} more" if len(names) > most else ""
    return ", ".join(brief(name) for name in names[:most]) + more or "none"


def distinct(names: Sequence[str], where: str) -> list[str]:
    """Return the names of all columns; raise a DataError if two are the same."""
    repeated = [name for place, name in enumerate(names) if name in names[:place]]
    if repeated:
        raise DataError(f"{where} has several columns {repeated[0]!r}: rename them")
    return list(names)
