"""The docstrings of fastmf as Markdown: sections, lists of parameters, and references to other names."""

import re
from typing import Any

from griffe import Extension

HEADING = re.compile(r"^(?P<title>[A-Z][\w ]*)\n-{3,}\n", re.MULTILINE)
ENTRY = re.compile(r"^(?P<names>[*\w][\w*, ()]*?) ?: (?P<text>\S.*)$")
EXAMPLE = re.compile(r"^>>> .*\n?(?:^\S.*\n?)*", re.MULTILINE)  # up to an empty line
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
    found = [_fenced(parts[0])]
    for title, body in zip(parts[1::2], parts[2::2], strict=True):
        make = {"Raises": _errors, **dict.fromkeys(LISTED, _entries)}.get(title, _fenced)
        found.append(f"\n**{title}**\n\n{make(body)}")
    return "\n".join(found)


def _fenced(body: str) -> str:
    """Put examples into fences: Markdown takes their prompts for quotes."""
    plain = re.sub(r" *# doctest: .*", "", body)
    return EXAMPLE.sub(lambda found: f"```pycon\n{found[0].rstrip()}\n```\n", plain)


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
