"""Text from outside (ids, titles, file names), made safe to show."""

import unicodedata

# Unicode categories that a terminal may act upon: control, format (such as text direction), private or unassigned,
# surrogates, and the separators of lines and paragraphs.
_ACTIVE = {"Cc", "Cf", "Cn", "Co", "Cs", "Zl", "Zp"}


def printable(text: str) -> str:
    r"""Escape the characters that act on a terminal instead of being shown.

    >>> print(printable("a\x1b[31m b"))
    a\x1b[31m b
    """
    return "".join(c.encode("unicode_escape").decode() if unicodedata.category(c) in _ACTIVE else c for c in text)
