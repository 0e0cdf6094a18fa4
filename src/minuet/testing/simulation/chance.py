"""All chance of one world: drawn from its seed, and by name, so that it can be repeated, and taken back piece by piece.

Each name has a stream of its own. Whether a fault strikes is drawn with `strikes`; the n-th that did so under a name is
known as `name#n`. A world that failed can thus be tried again with some of its faults only: that is how it is shrunk.
So can the order in which processes go on: it is drawn under the name `order`, or else the first one goes on.
"""

from __future__ import annotations

import random
from collections import Counter
from collections.abc import Callable, Collection, Sequence
from typing import TypeVar

T = TypeVar("T")

ORDER = "order"


class Chance:
    """The chance of one world. `only`: of what would strike, what has these names, and `order` perhaps; None: all."""

    def __init__(self, seed: int, *, only: Collection[str] | None = None) -> None:
        self.seed = seed
        self.struck: list[str] = []  # faults that did strike, in their order
        self.tried = Counter[str]()  # how often each could have struck
        self.is_calm = False  # whether the faults have stopped
        self._only = None if only is None else frozenset(only)
        self._streams: dict[str, random.Random] = {}
        self._drawn = Counter[str]()

    def stream(self, name: str) -> random.Random:
        """Give the random numbers of a name, which depend on nothing but the seed."""
        if (found := self._streams.get(name)) is None:
            found = self._streams[name] = random.Random(f"{self.seed} {name}")  # noqa: S311 - it is no secret
        return found

    def drawing(self, name: str) -> Callable[[], float]:
        """Give what draws numbers from 0 on, below 1, under a name; where the order is taken back it draws 0 only."""
        if name == ORDER and self._only is not None and ORDER not in self._only:
            return float
        return self.stream(name).random

    def strikes(self, fault: str, rate: float) -> bool:
        """Say whether a fault strikes now, with this probability."""
        if self.is_calm:
            return False
        self.tried[fault] += 1
        if rate <= 0 or self.stream(fault).random() >= rate:
            return False
        return self.happens(fault)

    def happens(self, fault: str) -> bool:
        """Say whether a fault that was planned for now is to happen: not if only others are wanted, or all is calm."""
        if self.is_calm:
            return False
        self._drawn[fault] += 1
        name = f"{fault}#{self._drawn[fault]}"
        if self._only is not None and name not in self._only:
            return False
        self.struck.append(name)
        return True

    def between(self, name: str, low: float, high: float) -> float:
        """Draw a number evenly."""
        return low + (high - low) * self.stream(name).random()

    def pick(self, name: str, among: Sequence[T]) -> T:
        """Draw one of several."""
        return among[int(self.drawing(name)() * len(among))]

    @property
    def counts(self) -> Counter[str]:
        """How often each fault did strike."""
        return Counter(name.partition("#")[0] for name in self.struck)
