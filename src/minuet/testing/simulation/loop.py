"""An event loop for one thread, several simulated processes, and time that passes only when nobody has anything to do.

What is ready in one process is done in its order, as asyncio does it; which process goes on next is drawn. A process
that crashes is dropped with everything that it was about to do: no `finally` runs, nobody is told. Whatever would leave
the simulation (threads, sockets, other processes) raises `EscapedSimulation` where it tries to.
"""

from __future__ import annotations

import asyncio
import contextlib
import contextvars
import heapq
import itertools
import sys
import threading
import warnings
from asyncio import events
from collections import deque
from collections.abc import Callable, Coroutine, Generator
from typing import Any, NoReturn, TypeVar

from minuet.testing.simulation.chance import Chance

T = TypeVar("T")

STEPS_AT_ONCE_MAX = 500_000  # callbacks while no time passes: something goes round in a circle


class EscapedSimulation(RuntimeError):
    """Something tried to leave the simulation: to use a thread, a socket, or another process."""


class Stuck(RuntimeError):
    """Nothing can happen any more, or no time passes; says what everybody waits for."""


class Process:
    """A simulated process: what belongs to it goes on with it, stands still with it, and dies with it."""

    def __init__(self, loop: SimulationLoop, name: str) -> None:
        self.name = name
        self.is_alive = True
        self.is_paused = False
        self.ready: deque[asyncio.Handle] = deque()
        self.tasks: list[asyncio.Task[Any]] = []
        self._loop = loop
        self._tasks_max = 1_000
        loop.processes.append(self)
        self._context = contextvars.copy_context()
        self._context.run(_process.set, self)

    def call(self, function: Callable[..., object], *arguments: Any, after_s: float = 0) -> None:
        """Have a function called in this process, after a while; never, if it has crashed by then."""
        context = self._context.copy()
        if after_s > 0:
            self._loop.call_later(after_s, function, *arguments, context=context)
        else:
            self._loop.call_soon(function, *arguments, context=context)

    def spawn(self, coroutine: Coroutine[Any, Any, T], name: str | None = None) -> asyncio.Task[T]:
        """Have something go on in this process. What waits for it from outside waits for ever after a crash."""
        return self._loop.create_task(coroutine, name=name, context=self._context.copy())

    def crash(self) -> None:
        """End at once: nothing of it goes on, and nothing is cleaned up."""
        if self.is_alive:
            self.is_alive = False
            self._loop.bury(self)

    def pause(self) -> None:
        """Stand still, as at a SIGSTOP; time goes on."""
        self.is_paused = True
        self._loop.halt(self)

    def resume(self) -> None:
        """Go on, with everything that became due meanwhile."""
        self.is_paused = False
        self._loop.go_on(self)

    def keep(self, task: asyncio.Task[Any]) -> None:
        """Hold a task, so that it is not collected, and closed, before its time."""
        self.tasks.append(task)
        if len(self.tasks) > self._tasks_max:
            self.tasks = [t for t in self.tasks if not t.done()]
            self._tasks_max = max(1_000, 2 * len(self.tasks))


_process: contextvars.ContextVar[Process | None] = contextvars.ContextVar("minuet-simulated-process", default=None)


def current_process() -> Process | None:
    """Give the simulated process whose code this is; None for what belongs to the simulated world itself."""
    return _process.get()


class SimulationLoop(asyncio.AbstractEventLoop):
    """One world's loop; `chance` draws which process goes on. Close it, for it holds what has crashed."""

    def __init__(self, chance: Chance) -> None:
        self.steps = 0
        self.failures: list[str] = []  # what nobody has caught
        self.processes: list[Process] = []  # all that there ever were
        self._chance = chance
        self._now_s = 0.0
        self._outside: deque[asyncio.Handle] = deque()  # of the world itself: first of all
        self._runnable: list[Process] = []  # those that have something ready, and are neither dead nor paused
        self._timers: list[tuple[float, int, asyncio.TimerHandle, Process | None]] = []
        self._order = itertools.count()
        self._names = itertools.count(1)
        self._tasks: list[asyncio.Task[Any]] = []
        self._is_running = self._is_stopping = self._is_closed = False
        self._thread = threading.get_ident()
        self._steps_then = 0

    # Time

    def time(self) -> float:
        """Give the simulated seconds since the beginning."""
        return self._now_s

    # Processes

    def bury(self, process: Process) -> None:
        """Drop what a process was about to do."""
        process.ready.clear()
        self.halt(process)

    def halt(self, process: Process) -> None:
        """Let a process do nothing more for now."""
        if process in self._runnable:
            self._runnable.remove(process)

    def go_on(self, process: Process) -> None:
        """Let a process do what is ready."""
        if process.is_alive and process.ready and process not in self._runnable:
            self._runnable.append(process)

    # Callbacks

    def call_soon(self, callback: Any, *args: Any, context: contextvars.Context | None = None) -> asyncio.Handle:
        """Have a callback called in its process, after those that are ready there."""
        if context is None:
            context = contextvars.copy_context()
        handle = asyncio.Handle(callback, args, self, context)
        self._enqueue(handle, context.get(_process))
        return handle

    def _enqueue(self, handle: asyncio.Handle, process: Process | None) -> None:
        if process is None:
            self._outside.append(handle)
        elif process.is_alive:
            process.ready.append(handle)
            if len(process.ready) == 1 and not process.is_paused:
                self._runnable.append(process)

    def call_soon_threadsafe(
        self, callback: Any, *args: Any, context: contextvars.Context | None = None
    ) -> asyncio.Handle:
        """Have a callback called; there is one thread only."""
        if threading.get_ident() != self._thread:
            raise EscapedSimulation(f"a thread calls into the simulation: {callback!r}")
        return self.call_soon(callback, *args, context=context)

    def call_later(
        self, delay: float, callback: Any, *args: Any, context: contextvars.Context | None = None
    ) -> asyncio.TimerHandle:
        """Have a callback called after so many simulated seconds."""
        return self.call_at(self._now_s + max(delay, 0), callback, *args, context=context)

    def call_at(
        self, when: float, callback: Any, *args: Any, context: contextvars.Context | None = None
    ) -> asyncio.TimerHandle:
        """Have a callback called at an instant of simulated time."""
        if context is None:
            context = contextvars.copy_context()
        handle = asyncio.TimerHandle(when, callback, args, self, context)
        heapq.heappush(self._timers, (when, next(self._order), handle, context.get(_process)))
        return handle

    def _timer_handle_cancelled(self, handle: asyncio.TimerHandle) -> None:
        """Do nothing: what is cancelled is dropped when it is due."""

    def call_outside(self, delay_s: float, callback: Callable[..., object], *arguments: Any) -> asyncio.TimerHandle:
        """Have something happen in the world itself: it does not die with whoever caused it."""
        return self.call_later(delay_s, callback, *arguments, context=_WORLD.copy())

    def create_future(self) -> asyncio.Future[Any]:
        """Give a future of this loop."""
        return asyncio.Future(loop=self)

    def create_task(self, coro: Any, *, name: str | None = None, context: Any = None, **_: Any) -> asyncio.Task[Any]:
        """Have a coroutine go on in the process of its context."""
        if context is None:
            context = contextvars.copy_context()
        task: asyncio.Task[Any] = asyncio.Task(
            coro, loop=self, name=name or f"task-{next(self._names)}", context=context
        )
        process = context.get(_process)
        if process is None:
            self._tasks.append(task)
        else:
            process.keep(task)
        return task

    # Running

    def run_until_complete(self, future: Generator[Any, None, T] | Any) -> T:
        """Go on until this is done.

        Raises:
            Stuck: nothing can happen any more, and it is not done.
        """
        if asyncio.iscoroutine(future):
            future = self.create_task(future, context=_WORLD.copy())
        future.add_done_callback(lambda _: self.stop(), context=_WORLD.copy())
        self.run_forever()
        if not future.done():
            raise Stuck("\n".join(["nothing can happen any more", *self.waiting()]))
        result: T = future.result()
        return result

    def run_forever(self) -> None:
        """Go on until `stop`, or until nothing can happen any more."""
        if self._is_running or events._get_running_loop() is not None:  # noqa: SLF001 - as loops do
            raise RuntimeError("a loop is running already")
        self._is_running, self._is_stopping = True, False
        events._set_running_loop(self)  # noqa: SLF001
        try:
            while not self._is_stopping and self._step():
                pass
        finally:
            self._is_running = False
            events._set_running_loop(None)  # noqa: SLF001

    def _step(self) -> bool:
        """Do the next thing; False if there is none."""
        if self._outside:
            handle = self._outside.popleft()
        elif self._runnable:
            n = len(self._runnable)
            process = self._runnable[0] if n == 1 else self._chance.pick("order", self._runnable)
            handle = process.ready.popleft()
            if not process.ready:
                self._runnable.remove(process)
        else:
            return self._pass_time()
        if not handle.cancelled():
            self.steps += 1
            handle._run()  # noqa: SLF001 - as loops do
            if self.steps - self._steps_then > STEPS_AT_ONCE_MAX:
                raise Stuck("\n".join([f"no time passes at {self._now_s} s", *self.waiting()]))
        return True

    def _pass_time(self) -> bool:
        """Go to the next instant at which something is due; False if nothing is."""
        timers = self._timers
        while timers:
            when, _, handle, process = heapq.heappop(timers)
            if handle.cancelled() or (process is not None and not process.is_alive):
                continue
            if when > self._now_s:
                self._now_s, self._steps_then = when, self.steps
            self._enqueue(handle, process)
            if self._outside or self._runnable:
                return True
        return False

    def waiting(self) -> list[str]:
        """Say what is waited for, and where."""
        owned = [("the world", self._tasks), *((p.name, p.tasks) for p in self.processes if p.is_alive)]
        return [f"  {name}: {t.get_name()} at {_where(t)}" for name, tasks in owned for t in tasks if not t.done()]

    def stop(self) -> None:
        """End `run_forever` after this step."""
        self._is_stopping = True

    def is_running(self) -> bool:
        """Say whether it goes on."""
        return self._is_running

    def is_closed(self) -> bool:
        """Say whether it was closed."""
        return self._is_closed

    def close(self) -> None:
        """Drop everything that is left, in silence: the world is over, and nothing in it is told."""
        self._is_closed = True
        hook, sys.unraisablehook = sys.unraisablehook, lambda _: None
        try:
            with warnings.catch_warnings():
                warnings.simplefilter("ignore")  # of coroutines that are never awaited
                for tasks in (self._tasks, *(p.tasks for p in self.processes)):
                    for task in tasks:
                        if not task.done():
                            task._log_destroy_pending = False  # type: ignore[attr-defined]  # noqa: SLF001 - as meant
                            with contextlib.suppress(BaseException):
                                task.get_coro().close()  # type: ignore[union-attr]
                    tasks.clear()
                for process in self.processes:
                    process.ready.clear()
                self._timers.clear()
                self._outside.clear()
        finally:
            sys.unraisablehook = hook

    async def shutdown_asyncgens(self) -> None:
        """There is nothing to be shut down."""

    async def shutdown_default_executor(self, timeout: float | None = None) -> None:
        """There is no executor."""

    def get_debug(self) -> bool:
        """There is no debug mode."""
        return False

    def set_debug(self, enabled: bool) -> None:  # noqa: FBT001 - as in asyncio
        """There is no debug mode."""

    def default_exception_handler(self, context: dict[str, Any]) -> None:
        """Keep what nobody has caught."""
        error = context.get("exception")
        self.failures.append(f"{context.get('message')}: {error!r}")

    def call_exception_handler(self, context: dict[str, Any]) -> None:
        """Keep what nobody has caught."""
        if not self._is_closed:
            self.default_exception_handler(context)

    def run_in_executor(self, executor: Any, func: Any, *args: Any) -> NoReturn:  # type: ignore[override]
        """Refuse: a thread would leave the simulation."""
        raise EscapedSimulation(f"a thread is wanted for {func!r}")


_WORLD = contextvars.Context()


def _escaping(name: str) -> Callable[..., NoReturn]:
    def escape(*_: object, **__: object) -> NoReturn:
        raise EscapedSimulation(f"{name} would leave the simulation")

    return escape


for _name in (
    *("create_connection", "create_server", "create_unix_connection", "create_unix_server", "start_tls"),
    *("create_datagram_endpoint", "connect_accepted_socket", "connect_read_pipe", "connect_write_pipe"),
    *("subprocess_exec", "subprocess_shell", "getaddrinfo", "getnameinfo", "add_reader", "add_writer"),
    *("sock_recv", "sock_recv_into", "sock_sendall", "sock_connect", "sock_accept", "sendfile", "sock_sendfile"),
):
    setattr(SimulationLoop, _name, _escaping(_name))


def _where(task: asyncio.Task[Any]) -> str:
    frames = task.get_stack(limit=1)
    return f"{frames[-1].f_code.co_qualname}, line {frames[-1].f_lineno}" if frames else repr(task.get_coro())
