"""The docstrings of fastmf as Markdown: sections, lists of parameters, and references to other names."""

import re
from typing import Any

from griffe import Extension

HEADING = re.compile(r"^(?P<title>[A-Z][\w ]*)\n-{3,}\n", re.MULTILINE)
ENTRY = re.compile(r"^(?P<names>[*\w][\w*, ()]*?) ?: (?P<text>\S.*)$")
ROLE = re.compile(r":\w+:`~?(?:fastmf\.)?([^`]+)`")
LISTED = {"Parameters", "Attributes"}


class Docstrings(Extension):
    """Rewrites every docstring that is loaded."""

    def on_instance(self, *, obj: Any, **more: Any) -> None:
        """Make Markdown of an object's docstring."""
        if obj.docstring is not None:
            obj.docstring.value = markdown(obj.docstring.value)


def markdown(text: str) -> str:
    """Return a docstring as Markdown."""
    parts = HEADING.split(ROLE.sub(r"`\1`", text))
    found = [parts[0]]
    for title, body in zip(parts[1::2], parts[2::2], strict=True):
        found.append(
            f"\n**{title}**\n\n{_entries(body) if title in LISTED else _errors(body) if title == 'Raises' else body}"
        )
    return "\n".join(found)


def _entries(body: str) -> str:
    """Return "name : text" lines, with what is indented below them, as a list."""
    lines = []
    for line in body.strip("\n").splitlines():
        entry = ENTRY.match(line)
        if entry:
            lines.append(f"- `{entry['names'].strip()}`: {entry['text']}")
        else:
            lines.append(f"  {line.strip()}" if line.strip() else "")
    return "\n".join(lines) + "\n"


def _errors(body: str) -> str:
    """Return names of errors, each with what is indented below it, as a list."""
    lines = [
        f"  {line.strip()}" if line.startswith(" ") else f"- `{line.strip()}`:" if line.strip() else ""
        for line in body.strip("\n").splitlines()
    ]
    return "\n".join(lines) + "\n"
