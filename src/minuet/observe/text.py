"""Text as people see it: how wide it is, and what must be written out before it is shown."""

from __future__ import annotations

import unicodedata
from typing import Final

_UNSEEN: Final = frozenset(("Cc", "Cf", "Cs", "Co", "Cn", "Zl", "Zp"))


def columns(text: str) -> int:
    """Give how many columns a text takes where all letters are equally wide."""
    return sum(0 if unicodedata.combining(c) else 2 if unicodedata.east_asian_width(c) in "WF" else 1 for c in text)


def escaped(text: str) -> str:
    """Give text with whatever moves a cursor, changes a colour or reverses the reading written out."""
    if text.isascii() and text.isprintable():
        return text
    return "".join(c.encode("unicode_escape").decode() if unicodedata.category(c) in _UNSEEN else c for c in text)
