"""Text as people see it: how wide it is, and what must be written out before it is shown."""

from __future__ import annotations

import unicodedata
from itertools import pairwise
from typing import Final

_UNITS: Final = (("d", 86_400_000), ("h", 3_600_000), ("min", 60_000), ("s", 1_000))
_UNSEEN: Final = frozenset(("Cc", "Cf", "Cs", "Co", "Cn", "Zl", "Zp"))


def columns(text: str) -> int:
    """Give how many columns a text takes where all letters are equally wide."""
    return sum(0 if unicodedata.combining(c) else 2 if unicodedata.east_asian_width(c) in "WF" else 1 for c in text)


def escaped(text: str) -> str:
    """Give text with whatever moves a cursor, changes a colour or reverses the reading written out."""
    if text.isascii() and text.isprintable():
        return text
    return "".join(c.encode("unicode_escape").decode() if unicodedata.category(c) in _UNSEEN else c for c in text)


def span(length_ms: int) -> str:
    """Give a length of time in at most two units: `0 ms`, `41 ms`, `1.2 s`, `2 min 5 s`, `3 h`, `14 d`."""
    length_ms = max(0, length_ms)
    if length_ms < 1_000:
        return f"{length_ms} ms"
    if length_ms < 60_000:
        return f"{length_ms // 100 / 10:g} s"
    for (unit, length), (lower, part) in pairwise(_UNITS):
        if length_ms >= length:
            rest = length_ms % length // part
            return f"{length_ms // length} {unit}" + (f" {rest} {lower}" if rest else "")
    raise AssertionError("a minute or more has a unit")


def cut(text: str, longest: int) -> str:
    """Give text in at most so many columns, with a mark where something was left out."""
    if columns(text) <= longest:
        return text
    kept = ""
    for c in text:
        if columns(kept + c) > longest - 1:
            break
        kept += c
    return kept + "…"
