"""Positions: the static names of the places of a workflow, in the order of the text: `3`, `2a`, `4.1`, `3.then.1`."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Final

_LETTERS: Final = "abcdefghijklmnopqrstuvwxyz"


@dataclass(slots=True)
class Numbers:
    """Counts the places of one block; each of its positions begins with the prefix."""

    prefix: str
    count: int = 0

    def next(self) -> str:
        """Give the position of the next place."""
        self.count += 1
        return f"{self.prefix}{self.count}"


def branch_of(position: str, number: int) -> str:
    """Give the position of a branch of a `together`, counted from 0: `2a` of `2`, and `2a.b` of that."""
    letter = _LETTERS[number] if number < len(_LETTERS) else f"z{number + 1}"
    return f"{position}.{letter}" if position[-1:].isalpha() else f"{position}{letter}"
