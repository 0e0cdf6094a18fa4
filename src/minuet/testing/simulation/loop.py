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
import threading
import warnings
from asyncio import events
from collections import deque
from collections.abc import Callable, Coroutine, Generator
from typing import Any, NoReturn, TypeVar, TypeVarTuple

from minuet.testing.simulation.chance import ORDER, Chance

T = TypeVar("T")
Ts = TypeVarTuple("Ts")

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
        self.tasks = _Tasks()
        self.mourners: list[Callable[[], object]] = []  # called in the world when it has crashed
        self._loop = loop
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
        """End at once: nothing of it goes on, and nothing is cleaned up.

        Have the world call it (`call_outside`), not the process itself: what does so goes on to where it next waits.
        """
        if self.is_alive:
            self.is_alive = False
            self._loop.halt(self)
            for mourner in self.mourners:
                self._loop.call_outside(0, mourner)

    def pause(self) -> None:
        """Stand still, as at a SIGSTOP; time goes on."""
        self.is_paused = True
        self._loop.halt(self)

    def resume(self) -> None:
        """Go on, with everything that became due meanwhile."""
        self.is_paused = False
        self._loop.go_on(self)


_process: contextvars.ContextVar[Process | None] = contextvars.ContextVar("minuet-simulated-process", default=None)


def current_process() -> Process | None:
    """Give the simulated process whose code this is; None for what belongs to the simulated world itself."""
    return _process.get()


def _refused(name: str) -> Any:
    def refuse(loop: SimulationLoop, *_: object, **__: object) -> NoReturn:
        loop.refuse(name)

    return refuse


class SimulationLoop(asyncio.AbstractEventLoop):
    """One world's loop; `chance` draws which process goes on. Close it, for it holds what has crashed."""

    def __init__(self, chance: Chance) -> None:
        self.steps = 0
        self.on_step: Callable[[Process], None] | None = None  # called after each step of a process
        self.failures: list[str] = []  # what nobody has caught
        self.processes: list[Process] = []  # all that there ever were
        self._random = chance.drawing(ORDER)
        self._now_s = 0.0
        self._outside: deque[asyncio.Handle] = deque()  # of the world itself: first of all
        self._runnable: list[Process] = []  # those that have something ready, and are neither dead nor paused
        self._timers: list[tuple[float, int, asyncio.TimerHandle, Process | None]] = []
        self._order = itertools.count()
        self._numbers = itertools.count(1)
        self._tasks = _Tasks()
        self._is_running = self._is_stopping = self._is_closed = False
        self._thread = threading.get_ident()
        self._steps_max = STEPS_AT_ONCE_MAX

    # Time

    def time(self) -> float:
        """Give the simulated seconds since the beginning."""
        return self._now_s

    # Processes

    def halt(self, process: Process) -> None:
        """Let a process do nothing more for now."""
        if process in self._runnable:
            self._runnable.remove(process)

    def go_on(self, process: Process) -> None:
        """Let a process do what is ready."""
        if process.is_alive and process.ready and process not in self._runnable:
            self._runnable.append(process)

    # Callbacks

    def call_soon(
        self, callback: Callable[[*Ts], object], *args: *Ts, context: contextvars.Context | None = None
    ) -> asyncio.Handle:
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
        self, callback: Callable[[*Ts], object], *args: *Ts, context: contextvars.Context | None = None
    ) -> asyncio.Handle:
        """Have a callback called; there is one thread only."""
        if threading.get_ident() != self._thread:
            self.refuse(f"the thread that calls {callback!r}")
        return self.call_soon(callback, *args, context=context)

    def call_later(
        self,
        delay: float,
        callback: Callable[[*Ts], object],
        *args: *Ts,
        context: contextvars.Context | None = None,
    ) -> asyncio.TimerHandle:
        """Have a callback called after so many simulated seconds."""
        return self.call_at(self._now_s + max(delay, 0), callback, *args, context=context)

    def call_at(
        self,
        when: float,
        callback: Callable[[*Ts], object],
        *args: *Ts,
        context: contextvars.Context | None = None,
    ) -> asyncio.TimerHandle:
        """Have a callback called at an instant of simulated time."""
        if context is None:
            context = contextvars.copy_context()
        handle = asyncio.TimerHandle(when, callback, args, self, context)
        heapq.heappush(self._timers, (when, next(self._order), handle, context.get(_process)))
        return handle

    def _timer_handle_cancelled(self, handle: asyncio.TimerHandle) -> None:
        """Do nothing: what is cancelled is dropped when it is due."""

    def call_outside(self, delay_s: float, callback: Callable[..., object], *arguments: Any) -> asyncio.Handle:
        """Have something happen in the world itself: it does not die with whoever caused it."""
        if delay_s <= 0:
            return self.call_soon(callback, *arguments, context=_WORLD.copy())
        return self.call_later(delay_s, callback, *arguments, context=_WORLD.copy())

    def create_future(self) -> asyncio.Future[Any]:
        """Give a future of this loop."""
        return asyncio.Future(loop=self)

    def create_task(self, coro: Any, *, name: str | None = None, context: Any = None, **_: Any) -> asyncio.Task[Any]:
        """Have a coroutine go on in the process of its context."""
        if context is None:
            context = contextvars.copy_context()
        task = _Task(next(self._numbers), coro, loop=self, name=name, context=context)
        process = context.get(_process)
        (self._tasks if process is None else process.tasks).keep(task)
        return task

    # Running

    def run_until_complete(self, future: Generator[Any, None, T] | Any) -> T:
        """Go on until this is done.

        Raises:
            Stuck: nothing can happen any more, and it is not done.
        """
        awaited: Any = self.create_task(future, context=_WORLD.copy()) if asyncio.iscoroutine(future) else future
        awaited.add_done_callback(lambda _: self.stop(), context=_WORLD.copy())
        self.run_forever()
        if not awaited.done():
            raise Stuck("\n".join(["nothing can happen any more", *self.waiting()]))
        result: T = awaited.result()
        return result

    def run_forever(self) -> None:
        """Go on until `stop`, or until nothing can happen any more."""
        if self._is_running or events._get_running_loop() is not None:  # noqa: SLF001 - as loops do
            raise RuntimeError("a loop is running already")
        self._is_running, self._is_stopping = True, False
        events._set_running_loop(self)  # noqa: SLF001
        try:
            self._run()
        finally:
            self._is_running = False
            events._set_running_loop(None)  # noqa: SLF001

    def _run(self) -> None:
        outside, runnable, random = self._outside, self._runnable, self._random  # all of it is the hot path
        while not self._is_stopping:
            process = None
            if outside:
                handle = outside.popleft()
            elif runnable:
                n = len(runnable)
                process = runnable[0] if n == 1 else runnable[int(random() * n)]
                ready = process.ready
                handle = ready.popleft()
                if not ready:
                    runnable.remove(process)
            elif self._pass_time():
                continue
            else:
                return
            if handle._cancelled:  # noqa: SLF001 - as loops do
                continue
            self.steps += 1
            if self.steps > self._steps_max:
                raise Stuck("\n".join([f"no time passes at {self._now_s} s, in {handle}", *self.waiting()]))
            handle._run()  # noqa: SLF001
            if self.on_step is not None and process is not None:
                self.on_step(process)

    def _pass_time(self) -> bool:
        """Go to the next instant at which somebody is to do something; False if there is none."""
        timers = self._timers
        while timers:
            now_s = timers[0][0]
            # All that is due at an instant becomes ready together: in which order processes do it is drawn.
            while timers and timers[0][0] <= now_s:
                _, _, handle, process = heapq.heappop(timers)
                if handle._cancelled or (process is not None and not process.is_alive):  # noqa: SLF001
                    continue
                if now_s > self._now_s:
                    self._now_s, self._steps_max = now_s, self.steps + STEPS_AT_ONCE_MAX
                self._enqueue(handle, process)
            if self._outside or self._runnable:
                return True
        return False

    def waiting(self) -> list[str]:
        """Say what is waited for, and where."""
        lines = [f"  the world: {_where(t)}" for t in self._tasks.pending()]
        for p in self.processes:
            state = ", which is paused" if p.is_paused else ""
            if p.is_alive:
                lines += [f"  {p.name}{state}: {_where(t)}" for t in p.tasks.pending()]
        crashed = [p.name for p in self.processes if not p.is_alive]
        return [*lines, f"  crashed: {', '.join(crashed)}"] if crashed else lines

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
        """Drop everything that is left, in silence.

        Only now, when the world is over, does Python close what has crashed, and runs its `finally`s: into the void.
        """
        self._is_closed = True
        tasks = [t for of_one in (self._tasks, *(p.tasks for p in self.processes)) for t in of_one.pending()]
        for task in tasks:
            task._log_destroy_pending = False  # type: ignore[attr-defined]  # noqa: SLF001 - as meant
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")  # of coroutines that are never awaited
            for task in tasks:
                with contextlib.suppress(BaseException):  # whatever it does instead of ending
                    task.get_coro().close()
            for process in self.processes:
                process.ready.clear()
                process.tasks.clear()
            self._tasks.clear()
            self._outside.clear()
            self._timers.clear()

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

    # What would leave the simulation

    def refuse(self, what: str) -> NoReturn:
        """Raise `EscapedSimulation`, and keep it: whoever tried may catch it, and try again for ever."""
        self.failures.append(f"{what} is no part of the simulation")
        raise EscapedSimulation(self.failures[-1])

    add_reader = _refused("add_reader")
    add_signal_handler = _refused("add_signal_handler")
    add_writer = _refused("add_writer")
    connect_accepted_socket = _refused("connect_accepted_socket")
    connect_read_pipe = _refused("connect_read_pipe")
    connect_write_pipe = _refused("connect_write_pipe")
    create_connection = _refused("create_connection")
    create_datagram_endpoint = _refused("create_datagram_endpoint")
    create_server = _refused("create_server")
    create_unix_connection = _refused("create_unix_connection")
    create_unix_server = _refused("create_unix_server")
    get_exception_handler = _refused("get_exception_handler")
    get_task_factory = _refused("get_task_factory")
    getaddrinfo = _refused("getaddrinfo")
    getnameinfo = _refused("getnameinfo")
    remove_reader = _refused("remove_reader")
    remove_signal_handler = _refused("remove_signal_handler")
    remove_writer = _refused("remove_writer")
    run_in_executor = _refused("run_in_executor")
    sendfile = _refused("sendfile")
    set_default_executor = _refused("set_default_executor")
    set_exception_handler = _refused("set_exception_handler")
    set_task_factory = _refused("set_task_factory")
    sock_accept = _refused("sock_accept")
    sock_connect = _refused("sock_connect")
    sock_recv = _refused("sock_recv")
    sock_recv_into = _refused("sock_recv_into")
    sock_recvfrom = _refused("sock_recvfrom")
    sock_recvfrom_into = _refused("sock_recvfrom_into")
    sock_sendall = _refused("sock_sendall")
    sock_sendfile = _refused("sock_sendfile")
    sock_sendto = _refused("sock_sendto")
    start_tls = _refused("start_tls")
    subprocess_exec = _refused("subprocess_exec")
    subprocess_shell = _refused("subprocess_shell")


_WORLD = contextvars.Context()


class _Task(asyncio.Task[Any]):
    """A task whose place in a set does not depend on where it is in memory, so that sets of tasks have one order."""

    def __init__(self, number: int, coroutine: Any, *, loop: SimulationLoop, name: str | None, context: Any) -> None:
        self._number = number  # before all else: tasks are put into a set where they begin
        super().__init__(coroutine, loop=loop, name=name or f"task-{number}", context=context)

    def __hash__(self) -> int:
        return self._number


class _Tasks(list[asyncio.Task[Any]]):
    """Tasks, held so that none is collected, and closed, before its time."""

    def __init__(self) -> None:
        super().__init__()
        self._most = 1_000

    def keep(self, task: asyncio.Task[Any]) -> None:
        """Hold a task; those that are done are let go now and then."""
        self.append(task)
        if len(self) > self._most:
            self[:] = self.pending()
            self._most = max(1_000, 2 * len(self))

    def pending(self) -> list[asyncio.Task[Any]]:
        """Give those that are not done."""
        return [task for task in self if not task.done()]


def _where(task: asyncio.Task[Any]) -> str:
    """Say which task, and the line at which it waits: of the innermost function that is not of asyncio."""
    awaited: Any = task.get_coro()
    place = repr(awaited)
    while (frame := getattr(awaited, "cr_frame", None)) is not None:
        if not frame.f_globals.get("__name__", "").startswith("asyncio."):
            place = f"{frame.f_code.co_qualname}, line {frame.f_lineno}"
        awaited = awaited.cr_await
    return f"{task.get_name()} at {place}"
