"""Order per key: what may be applied now, what waits for another of its key, what holds its key up.

A key has a lane while something of it is in memory: one is being applied, the others queue in the order of
publication. An event that fails is a *blocker*: its key goes no further until it has been applied, or a person lets
the key go on. What comes for such a key meanwhile is *held*: recorded in the store and gone from memory, so that a
key which is held up for days costs a few bytes. When the last blocker is gone the key is *drained*: the held ones
are taken back in their order before anything newer is.

Without an order key there are no lanes, and nothing holds up anything.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Iterable

from minuet.engine.inbox import Delivery


class Lanes:
    """The keys of one subscription, in memory and in the store."""

    def __init__(self, *, is_ordered: bool) -> None:
        self._is_ordered = is_ordered
        self._lanes: dict[str, deque[Delivery]] = {}
        self._blockers: dict[str, set[int]] = {}
        self._held: dict[str, int] = {}  # how often something of the key was held: a drain sees whether there was more
        self._unrecorded: dict[str, int] = {}  # how many of those are not durable yet

    @property
    def stalled(self) -> int:
        """Give about how many keys do not go on by themselves."""
        return len(self._blockers) + len(self._held)

    def recall(self, rows: Iterable[tuple[str, int, str]], *, dead_block: bool) -> None:
        """Learn, at the start, what the store says: (key, entry, state)."""
        if not self._is_ordered:
            return
        for key, entry, state in rows:
            if state == "held":
                self._held[key] = 1
            elif state != "dead" or dead_block:
                self._blockers.setdefault(key, set()).add(entry)

    @property
    def blockers(self) -> set[int]:
        """Give the entries that hold keys up."""
        return set[int]().union(*self._blockers.values())

    def is_blocked(self, key: str) -> bool:
        """Say whether something else of a key has to be applied first that is not in its lane."""
        return key in self._blockers or key in self._held

    def take(self, delivery: Delivery) -> str:
        """Take a new event: `run` it now, it is in the `queue`, or `hold` it."""
        if not self._is_ordered:
            return "run"
        key = delivery.key
        if key in self._blockers or key in self._held:
            self._held[key] = self._held.get(key, 0) + 1
            self._unrecorded[key] = self._unrecorded.get(key, 0) + 1
            return "hold"
        return self._join(delivery)

    def take_back(self, delivery: Delivery) -> str:
        """Take an event that is due again, or was held: `run` it now, or it is in the `queue`."""
        return self._join(delivery) if self._is_ordered else "run"

    def _join(self, delivery: Delivery) -> str:
        lane = self._lanes.get(delivery.key)
        if lane is None:
            self._lanes[delivery.key] = deque()
            return "run"
        lane.append(delivery)
        return "queue"

    def recorded(self, key: str) -> bool:
        """Take that one that is held is durable by now; True if the key is to be drained."""
        if (left := self._unrecorded[key] - 1) > 0:
            self._unrecorded[key] = left
        else:
            del self._unrecorded[key]
        return self._may_drain(key)

    def block(self, delivery: Delivery) -> tuple[list[Delivery], list[Delivery], list[Delivery]]:
        """Take that an event failed and holds up its key; its lane is given up.

        Gives those of the lane that are to be held now, those that leave memory because the store has a row of
        theirs already, by which they are found again, and those that wait in their stream instead.
        """
        if not self._is_ordered:
            return [], [], []
        key = delivery.key
        self._blockers.setdefault(key, set()).add(delivery.entry)
        fresh, stored, streamed = list[Delivery](), list[Delivery](), list[Delivery]()
        for waiting in self._lanes.pop(key, ()):
            if waiting.is_streamed:
                streamed.append(waiting)
            else:
                (fresh if waiting.row is None else stored).append(waiting)
        if fresh:
            self._unrecorded[key] = self._unrecorded.get(key, 0) + len(fresh)
        if fresh or any(d.row is not None and d.row.state == "held" for d in stored):
            self._held[key] = self._held.get(key, 0) + len(fresh) + 1
        return fresh, stored, streamed

    def unblock(self, key: str, entry: int) -> bool:
        """Take that an event holds up its key no longer; True if the key is to be drained."""
        blockers = self._blockers.get(key)
        if blockers is None:
            return False
        blockers.discard(entry)
        if blockers:
            return False
        del self._blockers[key]
        return self._may_drain(key)

    def next(self, key: str) -> Delivery | None:
        """Give what is to be applied after one of a key has been; None ends its lane."""
        if not self._is_ordered:
            return None
        lane = self._lanes.get(key)
        if lane:
            return lane.popleft()
        self._lanes.pop(key, None)
        return None

    def is_to_drain(self, key: str) -> bool:
        """Say whether a key is held for no other reason than that nobody has looked."""
        return self._may_drain(key)

    def _may_drain(self, key: str) -> bool:
        return (
            key in self._held and key not in self._blockers and key not in self._lanes and key not in self._unrecorded
        )

    def to_drain(self) -> list[str]:
        """Give all keys that are to be drained."""
        return [key for key in self._held if self._may_drain(key)]

    def hold_back(self, key: str) -> None:
        """Take that something of a key was recorded as held, by a person's wish to have it applied once more."""
        if self._is_ordered:
            self._held[key] = self._held.get(key, 0) + 1

    def mark(self, key: str) -> int:
        """Give a mark to be shown to `drained`: it tells whether more was held meanwhile."""
        return self._held.get(key, 0)

    def drained(self, key: str, mark: int) -> bool:
        """Take that nothing of a key is held in the store; True if it goes on as if nothing had been."""
        if self._held.get(key) == mark and key not in self._unrecorded and key not in self._lanes:
            del self._held[key]
            return True
        return False
