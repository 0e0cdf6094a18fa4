"""Threads for plain functions: bounded, and able to lose one that never comes back.

The standard pool joins its threads at exit, so one hung function would keep the process from ending; and it cannot
replace a thread that hangs. Here a thread whose caller has given up is *abandoned*: it is counted, another may take
its place, and when it does come back its result goes nowhere.
"""

from __future__ import annotations

import asyncio
import contextvars
import queue
import threading
from collections.abc import Callable
from typing import Any, Protocol

from minuet.errors import Busy

_Job = tuple[Callable[[], Any], "asyncio.Future[Any]", asyncio.AbstractEventLoop]


class ThreadPool(Protocol):
    """Who runs plain functions without holding up the event loop."""

    @property
    def abandoned(self) -> int:
        """Give how many threads hang in functions that nobody waits for any more."""
        ...

    async def call(self, function: Callable[[], Any]) -> Any:
        """Run a function with the context of the caller; who is cancelled waits for it no more."""
        ...

    def close(self) -> None:
        """Let go of what is idle."""
        ...


class Threads:
    """A pool of at most `limit` working threads; none begins anything once `abandoned_limit` are abandoned.

    Those that work at that moment may still be abandoned, so there are less than both limits together.
    """

    def __init__(self, limit: int, abandoned_limit: int) -> None:
        self._limit = limit
        self._abandoned_limit = abandoned_limit
        self._jobs: queue.SimpleQueue[_Job | None] = queue.SimpleQueue()
        self._lock = threading.Lock()
        self._working = 0
        self._idle = 0
        self._queued = 0
        self._abandoned = 0

    @property
    def abandoned(self) -> int:
        """Give how many threads hang in functions that nobody waits for any more."""
        return self._abandoned

    async def call(self, function: Callable[[], Any]) -> Any:
        """Run a function in a thread, with the context of the caller; cancelling this abandons the thread.

        Raises:
            Busy: too many threads are abandoned.
        """
        if self._abandoned >= self._abandoned_limit:
            raise Busy(
                f"{self._abandoned} threads hang in functions that outlived their timeout",
                remedy="Restart the process, and bound what the functions wait for",
            )
        loop = asyncio.get_running_loop()
        context = contextvars.copy_context()
        done: asyncio.Future[Any] = loop.create_future()
        with self._lock:
            self._queued += 1
            if self._queued > self._idle and self._working < self._limit:
                self._working += 1
                threading.Thread(target=self._work, daemon=True, name="minuet-action").start()
        self._jobs.put((lambda: context.run(function), done, loop))
        return await done

    def _work(self) -> None:
        while True:
            with self._lock:
                self._idle += 1
            job = self._jobs.get()
            with self._lock:
                self._idle -= 1
                self._queued -= job is not None
            if job is None:
                return
            function, done, loop = job
            if done.cancelled():
                continue
            given_up = threading.Event()
            loop.call_soon_threadsafe(done.add_done_callback, lambda f, e=given_up: self._given_up(f, e))
            result: Any = None
            error: BaseException | None = None
            try:
                result = function()
            except BaseException as e:
                error = e
            with self._lock:
                if given_up.is_set():
                    self._abandoned -= 1
                    return  # another thread has taken this one's place
                given_up.set()
            try:
                loop.call_soon_threadsafe(_answer, done, result, error)
            except RuntimeError:
                return  # the loop has been closed meanwhile

    def _given_up(self, done: asyncio.Future[Any], given_up: threading.Event) -> None:
        if not done.cancelled():
            return
        with self._lock:
            if given_up.is_set():
                return  # it has come back in the same moment
            given_up.set()
            self._abandoned += 1
            self._working -= 1

    def close(self) -> None:
        """Let the idle threads end; those that hang end with the process."""
        for _ in range(self._working):
            self._jobs.put(None)


def _answer(done: asyncio.Future[Any], result: Any, error: BaseException | None) -> None:
    if done.done():
        return
    if error is None:
        done.set_result(result)
    elif isinstance(error, StopIteration):
        done.set_exception(RuntimeError("the function raised StopIteration"))
    else:
        done.set_exception(error)
