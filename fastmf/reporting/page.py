"""The parts of a report's page, as plain data; the template ``report.html`` lays them out and escapes all text."""

import json
from base64 import b64encode
from collections.abc import Sequence
from dataclasses import dataclass, field
from hashlib import sha256
from importlib.resources import files
from typing import Any

from fastmf.reporting.draw import Picture


@dataclass(frozen=True)
class Table:
    """A table: a caption, the names of the columns, and rows of text or numbers. The first column names the row."""

    caption: str
    head: Sequence[str]
    rows: Sequence[Sequence[Any]]


@dataclass(frozen=True)
class Section:
    """A section of the page: what it says in words, pictures with their captions, tables, and what to do about it.

    ``map`` is the data of the map, ``per_row`` the number of tables side by side where there is room.
    """

    key: str
    title: str
    words: Sequence[str] = ()
    pictures: Sequence[Picture] = ()
    tables: Sequence[Table] = ()
    advice: Sequence[str] = ()
    code: str = ""
    map: dict[str, Any] | None = field(default=None, repr=False)
    per_row: int = 9


def rendered(title: str, subtitle: str, sections: Sequence[Section]) -> str:
    """Return the HTML page: one file, without any request to elsewhere."""
    import jinja2

    folder = files("fastmf.reporting")
    style, script = ((folder / name).read_text(encoding="utf-8") for name in ("report.css", "report.js"))
    environment = jinja2.Environment(
        autoescape=True, undefined=jinja2.StrictUndefined, trim_blocks=True, lstrip_blocks=True
    )
    environment.filters["cell"] = cell
    template = environment.from_string((folder / "report.html").read_text(encoding="utf-8"))
    digest = b64encode(sha256(script.encode()).digest()).decode()
    data = next((section.map for section in sections if section.map is not None), None)
    return template.render(
        title=title, subtitle=subtitle, sections=sections, style=style, script=script, digest=digest,
        data=None if data is None else in_script(data),
    )  # fmt: skip


def in_script(data: Any) -> str:
    """Return data as JSON that may stand in a script element: no character in it can end the element."""
    text = json.dumps(data, separators=(",", ":"), allow_nan=False)
    return text.replace("<", "\\u003c").replace(">", "\\u003e").replace("&", "\\u0026")


def cell(value: Any) -> str:
    """Return a cell's text: numbers with separators and four digits that count."""
    if value is None:
        return "-"
    if isinstance(value, float):
        value = round(value, 4) + 0.0  # no -0.0000
        return f"{value:.4f}" if abs(value) < 100 else f"{value:,.1f}" if abs(value) < 1e6 else f"{value:.4g}"
    if isinstance(value, int) and not isinstance(value, bool):
        return f"{value:,}"
    return str(value)
