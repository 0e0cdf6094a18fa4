"""The writer: one thread that has the store's groups recorded, one after another.

Whatever was submitted when a group begins is in it, up to its bounds; what comes meanwhile goes into the next one.
So an idle writer commits a lone decision at once, and a busy one makes its groups larger by itself: nobody waits
for a group to fill. Only when a group is durable are its outcomes told, all in one call of the loop.

The interpreter lock is the one thing that the writer shares with the loop. A loop that is never idle, and whose turns
are shorter than the switch interval, keeps it for ever: each turn gives the lock back for an instant, too short for a
thread to wake up in, and long enough to make its wait start anew (tried: no commit in seconds, at every interval
down to 0.1 ms). So the loop looks after the writer now and then, and steps aside when no group came to its end.
"""

from __future__ import annotations

import asyncio
import sqlite3
import threading
from collections import deque
from collections.abc import Callable, Sequence
from concurrent.futures import Future
from contextlib import suppress
from typing import Any

from minuet.engine.port import Outcome, Work
from minuet.engine.row import Decision
from minuet.stores.sqlite.group import Groups

# How often the loop looks after a writer that has something to do, and how long it steps aside for it at most.
LOOK_S = 0.01
STEP_ASIDE_S = 0.001


class _Task:
    """Something to be done in a transaction of its own, whose caller waits for the result."""

    __slots__ = ("future", "perform")

    def __init__(self, perform: Callable[[sqlite3.Connection], Any]) -> None:
        self.perform = perform
        self.future: Future[Any] = Future()

    def __call__(self, groups: Groups) -> None:
        """Do it."""
        if not self.future.set_running_or_notify_cancel():
            return
        try:
            result = groups.perform(self.perform)
        except BaseException as error:  # noqa: BLE001 - it is the caller's, who waits for it
            self.future.set_exception(error)
        else:
            self.future.set_result(result)


class Writer:
    """Runs the groups of one store, from `start` to `stop`."""

    def __init__(
        self,
        groups: Groups,
        loop: asyncio.AbstractEventLoop,
        on_outcomes: Callable[[Sequence[Outcome]], None],
    ) -> None:
        self._groups = groups
        self._loop = loop
        self._on_outcomes = on_outcomes
        self._waiting: deque[Decision | Work | _Task] = deque()
        # Locked while there is nothing to do. A bare lock wakes a thread quicker than a condition or a queue.
        self._bell = threading.Lock()
        self._bell.acquire()
        self._told = threading.Lock()  # unlocked by each group that has been told
        self._told.acquire()
        self._recorded = 0
        self._is_working = False
        self._is_looked_after = False
        self._stopping = False
        self._thread = threading.Thread(target=self._run, name="minuet-writer", daemon=True)

    @property
    def backlog(self) -> int:
        """Give how much waits for the next group."""
        return len(self._waiting)

    def start(self) -> None:
        """Begin to work."""
        self._thread.start()

    def submit(self, item: Decision | Work) -> None:
        """Have a decision or work recorded with the next group; to be called in the thread of the loop."""
        self._waiting.append(item)
        self._ring()
        if not self._is_looked_after:
            self._is_looked_after = True
            self._loop.call_later(LOOK_S, self._look_after, self._recorded)

    def perform(self, task: Callable[[sqlite3.Connection], Any]) -> Future[Any]:
        """Have something done on the connection that writes, in a transaction of its own."""
        item = _Task(task)
        self._waiting.append(item)
        self._ring()
        return item.future

    def perform_work(self, work: Work) -> Future[Any]:
        """Have a work performed in a group of its own; its failure is the caller's."""
        return self.perform(lambda _: self._groups.perform_work(work))

    def stop(self) -> None:
        """Commit what was submitted, and end the thread. Blocks; the connection stays open."""
        self._stopping = True
        self._ring()
        self._thread.join()

    def close(self) -> None:
        """Close the connection, which checkpoints the log. Readers are closed before."""
        self._groups.close()

    def _ring(self) -> None:
        if self._bell.locked():
            with suppress(RuntimeError):  # another thread rang in between
                self._bell.release()

    def _look_after(self, recorded_before: int) -> None:
        """See, in the loop, whether the writer gets on; step aside if it does not."""
        if not self._is_working and not self._waiting:
            self._is_looked_after = False
            return
        if self._recorded == recorded_before:
            self._told.acquire(blocking=False)
            self._told.acquire(timeout=STEP_ASIDE_S)
        self._loop.call_later(LOOK_S, self._look_after, self._recorded)

    def _run(self) -> None:
        while True:
            self._is_working = False
            self._bell.acquire()
            self._is_working = True
            while self._waiting:
                item = self._waiting[0]
                if isinstance(item, _Task):
                    self._waiting.popleft()
                    item(self._groups)
                else:
                    self._tell(self._groups.run(self._groups.take(self._waiting)))
                self._recorded += 1
                if self._told.locked():
                    self._told.release()
                self._groups.consider_checkpoint()
            if self._stopping:
                return

    def _tell(self, outcomes: list[Outcome]) -> None:
        with suppress(RuntimeError):  # the loop is closed: nobody is left to be told; what is recorded stays
            self._loop.call_soon_threadsafe(self._on_outcomes, outcomes)
