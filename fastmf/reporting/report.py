"""The report: one HTML file that shows a model to people, with what to do about what it shows."""

import os
from pathlib import Path
from typing import Any

from fastmf.data.atomic import check_output, replacing
from fastmf.errors import ParameterError, counted
from fastmf.model.state import State
from fastmf.reporting import errors, fitting, lists
from fastmf.reporting.asked import Asked
from fastmf.reporting.draw import require_report
from fastmf.reporting.meaning import meaning
from fastmf.reporting.page import rendered


def write_report(
    model: State, path: str | os.PathLike[str], tables: dict[str, Any], overwrite: bool, reading: dict[str, Any]
) -> None:
    """Write the report of a model; see :meth:`fastmf.Model.report`."""
    require_report()
    require_page(path)
    check_output(path, overwrite, inputs=[each for each in tables.values() if isinstance(each, str | os.PathLike)])
    page = page_of(Asked.read(model, **tables, reading=reading))
    with replacing(path, overwrite) as temporary:
        Path(temporary).write_text(page, encoding="utf-8", newline="\n")


def require_page(path: str | os.PathLike[str]) -> None:
    """Raise a ParameterError unless the name is that of an HTML file."""
    if Path(path).suffix.lower() not in (".html", ".htm"):
        raise ParameterError(f"{os.fspath(path)}: a report is an HTML file: give a name that ends in .html")


def page_of(asked: Asked) -> str:
    """Return the HTML of the report."""
    model = asked.model
    title = f"fastmf report: {model.solver.get('name')}, k = {model.k}"
    size = f"{counted(len(model.user_ids), 'user')}, {counted(len(model.item_ids), 'item')}"
    sections = [
        fitting.data(asked),
        fitting.learning(asked),
        *errors.errors(asked),
        errors.ranking(asked),
        lists.tail(asked),
        *meaning(asked),
        lists.users(asked),
        fitting.settings(asked),
    ]
    return rendered(title, f"{size}. What the model was fitted to, how good it is, and what it has learned.", sections)
