"""The first lines of text: what stands above the header, and text that is no table of ratings."""

import re
from collections.abc import Callable, Sequence
from typing import NamedTuple

from fastmf.data.columns import choose
from fastmf.errors import DataError

EXCEL = re.compile(r'"?sep=(.)"?', re.IGNORECASE)  # what Excel may write as the first line
COMMENT = ("#", "%")
FAR = 20  # lines to look for a header in

IsHeader = Callable[[str], bool]


class Top(NamedTuple):
    """Where a table begins: the lines from its header on, how many are above them, and the separator named there."""

    lines: list[str]
    above: int
    sep: str | None


def top_of(lines: Sequence[str], is_header: IsHeader) -> Top:
    """Leave out Excel's "sep=;", and comments above a header; a header may be a comment itself.

    Lines that start as comments do are left out only if a header follows them or is the last of them: otherwise they
    may be rows.
    """
    excel = EXCEL.fullmatch(lines[0])
    above = 1 if excel else 0
    n_comments = next((n for n, line in enumerate(lines[above:]) if line and not line.startswith(COMMENT)), 0)
    comments = [n for n, line in enumerate(lines[above : above + n_comments], above) if line]
    left = list(lines)
    if comments and is_header(lines[above + n_comments]):
        above += n_comments
    elif comments and is_header(bare := lines[comments[-1]].lstrip("#% ")):
        above = comments[-1]
        left[above] = bare
    return Top(left[above:], above, excel[1] if excel else None)


def hint_of(lines: Sequence[str], is_header: IsHeader) -> str:
    """Say which line below the first looks like a header, and what to do; "" if none does."""
    place = next((n for n, line in enumerate(lines[1:FAR], 1) if line and is_header(line)), None)
    return "" if place is None else f". Line {place + 1} looks like a header: take out the lines above it"


def require_usual(first: Sequence[str], roles: Sequence[str], where: str, hint: str) -> None:
    """Raise a DataError with a hint, if there is one and a first line lacks a usual name for one of the roles."""
    try:
        choose(first, dict.fromkeys(roles), where)
    except DataError as error:
        if hint:
            raise DataError(f"{error}{hint}") from None


def refuse_other_tables(lines: Sequence[str], where: str) -> None:
    """Raise a DataError for text in which a line is no row: it says how to read it."""
    if re.fullmatch(r"\d+:", lines[0]):
        awk = "awk -F: '/:$/ {item = $1; next} {print item \",\" $0}'"
        raise DataError(
            f"{where} has blocks of lines under a line {lines[0]!r}, as those of the Netflix prize: write the item into"
            f" each line, such as by {awk} {where} | fastmf fit - --columns item,user,rating,date -o ratings.fastmf"
        )
    rows = [line.split() for line in lines if line.strip()]
    if rows and all(len(row) > 1 and all(re.fullmatch(r"\d+:[\d.eE+-]+", field) for field in row[1:]) for row in rows):
        raise DataError(
            f"{where} looks like LIBSVM's format, with column:value in each line: in Python,"
            f" fastmf.fit(sklearn.datasets.load_svmlight_file({where!r})[0])"
        )
