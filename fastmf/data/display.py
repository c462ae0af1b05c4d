"""What a notebook shows of ratings, models and histories: small tables, in the notebook's own style."""

import html
from collections.abc import Iterable
from typing import Any

LEFT = 'style="text-align: left"'


def facts_table(caption: str, facts: Iterable[tuple[str, Any]]) -> str:
    """Return an HTML table of names and values, all of them escaped."""
    rows = "".join(
        f"<tr><th {LEFT}>{html.escape(name)}</th><td {LEFT}>{_text(value)}</td></tr>" for name, value in facts
    )
    return f"<table><caption>{html.escape(caption)}</caption><tbody>{rows}</tbody></table>"


def _text(value: Any) -> str:
    shown = f"{value:,}" if isinstance(value, int) and not isinstance(value, bool) else value
    return html.escape(f"{shown:.4f}" if isinstance(shown, float) else str(shown))
