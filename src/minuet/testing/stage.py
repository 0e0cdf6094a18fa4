"""The stage on which the actions of a simulated world are performed: tapes, failures, crashes, and who tries to leave.

Actions and reactions are the user's own. The stage stands between them and the runtime, and knows which process calls.
"""

from __future__ import annotations

from collections.abc import Callable, Coroutine, Generator, Iterable
from typing import TYPE_CHECKING, Any

from minuet.contracts.action import ActionSpec, ReactionSpec
from minuet.contracts.handler import Transaction
from minuet.contracts.service import Service
from minuet.engine.row import Decision
from minuet.runtime.app import App
from minuet.testing import escape
from minuet.testing.conditions import Conditions
from minuet.testing.outcomes import Call, Crash, Tapes, delayed, stand_in
from minuet.testing.simulation.loop import EscapedSimulation, Process, current_process

if TYPE_CHECKING:
    from minuet.testing.simulation.world import World

RESTARTS_S = 0.5


class Stage:
    """The stage of one world. `escaped`: what has tried to leave, in words.

    `moments`: when each action has begun, waited for something, and ended: simulated seconds, and a word on it. At the
    one with the number `crash_at` its process crashes.
    """

    def __init__(self, world: World, tapes: Tapes, conditions: Conditions) -> None:
        self.escaped: list[str] = []
        self.moments: list[tuple[float, str]] = []
        self.crash_at: int | None = None
        self._world = world
        self._tapes = tapes
        self._conditions = conditions
        self._doomed: set[str] = set()  # processes that crash when their next decision is recorded
        escape.watch()

    def begin(self) -> None:
        """Look at what is recorded from now on; the databases of the world are there by now."""
        for database in self._world.databases.values():
            database.on_recorded = self._looked_at(database.on_recorded)

    def app(self, app: App, services: Iterable[Service]) -> App:
        """Give the app of one process, whose services act on this stage."""
        return App(
            app.name,
            services=[stand_in(s, self._around) for s in services],
            workflows=app.workflows.values(),
            events=app.events.values(),
            provide=app._provided.values(),  # noqa: SLF001 - one unit
        )

    def crash(self, process: Process) -> None:
        """Have a process crash, and start again after a moment."""
        world = self._world
        member = next((m for m in world.members if m.process is process), None)
        if member is None:
            return

        def start() -> None:
            if member.process is process:
                member.start()

        def crash() -> None:
            if member.process is process and process.is_alive:
                world.note(process.name, "!! crashes")
                member.crash()
                world.loop.call_outside(RESTARTS_S, start)

        world.loop.call_outside(0, crash)

    async def _around(self, name: str, declared: ActionSpec | ReactionSpec, call: Call) -> Any:
        process, world = current_process(), self._world
        assert process is not None
        is_transactional = Transaction in declared.injected.values()
        try:
            entry = await delayed(self._tapes.take(name))
            if world.chance.strikes("failure", world.faults.failure):
                world.note(process.name, f"{name} fails")
                raise ConnectionError("simulated: it failed before it began")
            if isinstance(entry, BaseException):
                raise entry
            if entry == Crash("before"):
                await self._vanish(process)
            if entry is not ... and not isinstance(entry, Crash):
                return entry
            world.note(process.name, f"{name} begins")
            if self._is_moment(f"{name} begins"):
                await self._vanish(process)
            value = await (call() if is_transactional else _Watched(call(), lambda: self._suspended(process, name)))
            world.note(process.name, f"{name} ends")
            if self._is_moment(f"{name} ends") or isinstance(entry, Crash):
                if not is_transactional:
                    await self._vanish(process)
                self._doomed.add(process.name)
            return value
        except EscapedSimulation as e:
            self.escaped.append(f"{name}: {e}. {escape.REMEDY}")
            raise

    def _is_moment(self, what: str) -> bool:
        """Count a moment; say whether it is the one at which a process is to crash."""
        self.moments.append((self._world.now_s, what))
        return self.crash_at == len(self.moments) - 1

    def _suspended(self, process: Process, name: str) -> None:
        if self._is_moment(f"{name} waits"):
            self.crash(process)

    async def _vanish(self, process: Process) -> None:
        """Crash, and never come back here."""
        self.crash(process)
        await self._world.loop.create_future()

    def _looked_at(self, then: Callable[[str, Decision], None]) -> Callable[[str, Decision], None]:
        def recorded(name: str, decision: Decision) -> None:
            then(name, decision)
            world = self._world
            world.violations += [f"at {world.now_s:.3f} s: {what}" for what in self._conditions.look()]
            if name in self._doomed:
                self._doomed.discard(name)
                for member in world.members:
                    if member.process is not None and member.process.name == name:
                        self.crash(member.process)

        return recorded


class _Watched:
    """A coroutine, and what is called whenever it waits for something."""

    def __init__(self, coroutine: Coroutine[Any, Any, Any], waits: Callable[[], None]) -> None:
        self._coroutine = coroutine
        self._waits = waits

    def __await__(self) -> Generator[Any, Any, Any]:
        value: Any = None
        error: BaseException | None = None
        while True:
            try:
                asked = self._coroutine.send(value) if error is None else self._coroutine.throw(error)
            except StopIteration as end:
                return end.value
            self._waits()
            value = error = None
            try:
                value = yield asked
            except BaseException as e:  # noqa: BLE001 - it is handed on
                error = e
