"""Conditions that a test states about a simulated world: what always holds, in the end, or at least once."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

from minuet.runtime.settings import duration_ms

Condition = Callable[[], object]


class Conditions:
    """The conditions of one world. `reached`: for each label of `sometimes`, whether it has held."""

    def __init__(self) -> None:
        self.reached: dict[str, bool] = {}
        self._always: list[tuple[Condition, str]] = []
        self._finally: list[tuple[Condition, str, float]] = []
        self._sometimes: list[tuple[Condition, str]] = []
        self._broken: set[str] = set()

    def always(self, condition: Condition, label: str = "") -> None:
        """Say what holds at any time: it is looked at whenever something was recorded, and in the end."""
        self._always.append((condition, label or f"always ({place(condition)})"))

    def eventually(self, condition: Condition, within: str | float = "1h", label: str = "") -> None:
        """Say what holds when everything has come to its end, which is to be at most so long after the last fault."""
        self._finally.append((condition, label or f"eventually ({place(condition)})", duration_ms(within) / 1_000))

    def sometimes(self, condition: Condition | bool, label: str) -> None:  # noqa: FBT001 - reads as a sentence
        """Say what holds at least once in all worlds that are tried: else the test does not reach what it is about."""
        self.reached.setdefault(label, False)
        if callable(condition):
            self._sometimes.append((condition, label))
        elif condition:
            self.reached[label] = True

    def look(self) -> list[str]:
        """Look now; give what does not hold, each once."""
        for condition, label in self._sometimes:
            if not self.reached[label] and condition():
                self.reached[label] = True
        broken = [label for condition, label in self._always if label not in self._broken and not condition()]
        self._broken.update(broken)
        return [f"{label} does not hold" for label in broken]

    def at_the_end(self, after_s: float) -> list[str]:
        """Look when everything has come to its end, `after_s` after the last fault."""
        broken = self.look()
        for condition, label, within_s in self._finally:
            if not condition():
                broken.append(f"{label} does not hold in the end")
            elif after_s > within_s:
                broken.append(f"{label} holds only {after_s:.0f} s after the last fault")
        return broken


def place(condition: Condition) -> str:
    """Say where a condition stands: `test_shop.py:12`."""
    code = getattr(condition, "__code__", None)
    return repr(condition) if code is None else f"{Path(code.co_filename).name}:{code.co_firstlineno}"
