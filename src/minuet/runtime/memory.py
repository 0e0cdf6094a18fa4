"""The runs in memory: bounded, the least recently used of those that only wait is forgotten first.

What is forgotten is folded again from its rows when something comes for it, so forgetting changes nothing. A run
that has something to do, or whose rows are not durable yet, is never forgotten.
"""

from __future__ import annotations

import asyncio
from collections import deque

from minuet.engine.knowledge import Knowledge


class Memory:
    """Holds at most `limit` runs, but for runs in flight that come back from the store: they are never turned away."""

    def __init__(self, limit: int) -> None:
        self.runs: dict[int, Knowledge] = {}
        self._limit = limit
        self._idle: dict[int, Knowledge] = {}  # may be forgotten, in this order
        self._queue: deque[asyncio.Future[None]] = deque()  # who waits for room

    def keep(self, k: Knowledge) -> None:
        """Take a run in."""
        self.runs[k.run] = k

    def hold(self, k: Knowledge) -> None:
        """Something happens in a run: it must not be forgotten now."""
        self._idle.pop(k.run, None)

    def release(self, k: Knowledge) -> None:
        """Nothing happens in a run any more: it may be forgotten when room is needed; at once, if it has ended."""
        if self.runs.get(k.run) is not k:
            return
        if k.load is None:
            self.drop(k)
        else:
            self._idle.pop(k.run, None)
            self._idle[k.run] = k
            while len(self.runs) > self._limit and len(self._idle) > 1:  # not this one: somebody may just have asked
                self._forget_oldest()
            self._tell()

    def drop(self, k: Knowledge) -> bool:
        """Forget a run; False if this is not what is held of it (any more)."""
        if self.runs.get(k.run) is not k:
            return False
        del self.runs[k.run]
        self._idle.pop(k.run, None)
        self._tell()
        return True

    def make_room(self) -> bool:
        """Forget idle runs until one more fits; False if none can be."""
        while len(self.runs) >= self._limit and self._idle:
            self._forget_oldest()
        return len(self.runs) < self._limit

    def _forget_oldest(self) -> None:
        run = next(iter(self._idle))
        del self._idle[run], self.runs[run]

    async def until_room(self) -> None:
        """Wait until a run has been released or dropped."""
        turn: asyncio.Future[None] = asyncio.get_running_loop().create_future()
        self._queue.append(turn)
        try:
            await turn
        except asyncio.CancelledError:
            if turn.done() and not turn.cancelled():
                self._tell()  # this turn was given, and is not used
            raise

    def close(self) -> None:
        """Wake everybody who waits for room: there will be none."""
        while self._queue:
            self._tell()

    def _tell(self) -> None:
        """Wake one who waits; whoever finds no room waits again."""
        while self._queue:
            turn = self._queue.popleft()
            if not turn.done():
                turn.set_result(None)
                return
