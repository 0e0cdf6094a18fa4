"""An app in a simulated world without faults, and its runs: time passes when a test says so, and costs nothing.

Every call goes on until nothing happens any more by itself: attempts that failed are repeated, messages arrive. Timers
and waits are where it stops, until the test advances the time or sends an event.
"""

from __future__ import annotations

import asyncio
import itertools
from collections.abc import Callable, Coroutine, Iterable
from datetime import timedelta
from typing import TYPE_CHECKING, Any, Final, TypeVar, cast

from minuet.contracts.message import event_spec
from minuet.errors import NotFound
from minuet.ids import parse_run
from minuet.runtime import describe
from minuet.runtime.client import Run, Verbs
from minuet.runtime.settings import Settings
from minuet.testing.aside import drive
from minuet.testing.conditions import Conditions
from minuet.testing.looking import Published, published, view_of
from minuet.testing.outcomes import Outcomes, Tapes, actions_of
from minuet.testing.simulation.faults import Faults
from minuet.testing.simulation.loop import EscapedSimulation
from minuet.testing.simulation.quiet import is_quiet, next_due_ms
from minuet.testing.simulation.settled import under_way
from minuet.testing.simulation.world import Layout, World
from minuet.testing.stage import Stage

if TYPE_CHECKING:
    from minuet.contracts.service import Service
    from minuet.runtime.app import App
    from minuet.runtime.control import Control
    from minuet.runtime.view import EventReceipt, RunView
    from minuet.workflows.workflow import Workflow

R = TypeVar("R")
T = TypeVar("T")

LOOK_S: Final = 0.02
LOOK_AT_MOST_S: Final = 1.0
SETTLES_WITHIN_S: Final = 3_600.0
KEPT_MS: Final = 100 * 365 * 86_400_000
KEEPING: Final = Settings(retention_ms=KEPT_MS, event_retention_ms=KEPT_MS)  # however far a test goes


class SimulatedApp(Verbs):
    """An app in a world of its own: `start`, `send` and the other verbs, and time that a test moves.

    Args:
        app: workflows, events, and services.
        services: what makes the services of one process, each time that it starts; those of the app by default, which
            outlive a crash with all that they hold.
        layout: styles, and who has a store of its own.
        seed: of all latencies and orders; the same seed gives the same.
        outcomes: tapes, see `minuet.testing.outcomes`.
        conditions: what is looked at whenever something was recorded.
    """

    def __init__(
        self,
        app: App,
        *,
        services: Callable[[], Iterable[Service]] | None = None,
        layout: Layout | None = None,
        seed: int = 0,
        outcomes: Outcomes | None = None,
        conditions: Conditions | None = None,
    ) -> None:
        self.app = app
        self.tapes = Tapes(outcomes, actions_of(app.services))
        self._services = services or (lambda: app.services)
        self._conditions = conditions or Conditions()
        self._stages: list[Stage] = []
        self._numbers = itertools.count(1)
        self.world = World(self._build, seed=seed, layout=layout or Layout(), faults=Faults(), settings=KEEPING)
        app.plans(self.world.settings)  # refuses what cannot be performed
        self.stage.begin()
        for member in self.world.members:
            member.start()

    def _build(self, world: World) -> App:
        if not self._stages:
            self._stages.append(Stage(world, self.tapes, self._conditions))
        return self.stage.app(self.app, self._services())

    @property
    def stage(self) -> Stage:
        """What stands around actions."""
        return self._stages[0]

    @property
    def control(self) -> Control:
        """The plain verbs."""
        return cast("Control", _Driven(self))

    @property
    def now_ms(self) -> int:
        """Give the simulated time, in milliseconds since 1970 UTC."""
        return self.world.wall_ms

    async def start(
        self, flow: Workflow[Any, Any, R], input: Any = None, *, key: str | None = None, **more: Any
    ) -> SimulatedRun[R]:
        """Start a run, and go on until nothing happens by itself any more; see `Verbs.start`.

        It always has a key: a start whose answer is lost in a crash is asked for again, and must not begin another run.
        """
        run = await super().start(flow, input, key=key or f"run-{next(self._numbers)}", **more)
        return SimulatedRun(self, run)

    async def send(self, event: object, *, key: str | None = None, id: str | None = None) -> EventReceipt:
        """Send an event from outside; see `Verbs.send`. It always has an id, as a start has a key."""
        return await super().send(event, key=key, id=id or f"event-{next(self._numbers)}")

    async def settle(self) -> None:
        """Go on until nothing happens any more by itself.

        Raises:
            EscapedSimulation: an action has tried to use a socket, a thread or another process.
            TimeoutError: something still goes on after an hour.
            AssertionError: what is always to hold does not.
        """
        self.drive(self._settled())

    async def advance(self, by: timedelta) -> None:
        """Let time pass: what becomes due meanwhile happens, each at its own instant."""
        await self.advance_to(self.now_ms + round(by / timedelta(milliseconds=1)))

    async def advance_to(self, instant_ms: int) -> None:
        """Let time pass until an instant."""
        await self.settle()
        while (due := next_due_ms(self.world)) is not None and due <= instant_ms:
            self._jump(due)
            await self.settle()
        self._jump(instant_ms)
        await self.settle()

    def published(self, event: type | str | None = None) -> list[Published]:
        """Give the events that were published so far, in their order; of one type, or all."""
        name = event if isinstance(event, str) or event is None else _name_of(event)
        return [p for p in published(self.world) if name in (None, p.event)]

    def crash(self) -> None:
        """Have all processes crash; they start again."""
        for member in self.world.members:
            if member.process is not None:
                self.stage.crash(member.process)

    def drive(self, coroutine: Coroutine[Any, Any, T]) -> T:
        """Go on in the world until this is done."""
        done = drive(self.world.loop, coroutine)
        self._complain()
        return done

    def close(self) -> None:
        """Drop everything. Raises AssertionError where an invariant was broken."""
        try:
            self._complain()
        finally:
            self.world.close()

    def _complain(self) -> None:
        if escaped := list(self.stage.escaped):
            self.stage.escaped.clear()
            self.world.loop.failures = []  # which say the same
            raise EscapedSimulation(escaped[0])
        if wrong := [*self.world.violations, *self.world.loop.failures]:
            self.world.violations, self.world.loop.failures = [], []
            raise AssertionError("\n".join(wrong))

    async def _settled(self) -> None:
        world = self.world
        until, wait_s, quiet = world.now_s + SETTLES_WITHIN_S, LOOK_S, 0
        while quiet < 2:  # once may be between two messages
            await asyncio.sleep(wait_s)
            if self.stage.escaped:
                return
            if is_quiet(world):
                wait_s, quiet = LOOK_S, quiet + 1
                continue
            wait_s, quiet = min(2 * wait_s, LOOK_AT_MOST_S), 0
            if world.now_s >= until:
                left = "; ".join(under_way(world)) or "an attempt is repeated"
                raise TimeoutError(f"still going on after an hour of simulated time: {left}")

    def _jump(self, instant_ms: int) -> None:
        """Put all clocks forward: so nobody has to look at what is due every few seconds of a fortnight."""
        self.world.skip(instant_ms - self.now_ms)


class SimulatedRun(Run[R]):
    """A run in a simulated world: as `minuet.Run`, and time, events, crashes.

    `result()` lets as much time pass as it takes.
    """

    def __init__(self, app: SimulatedApp, run: Run[R]) -> None:
        self.app = app
        self._control = app.control
        self._flow = run._flow  # noqa: SLF001 - of the same class
        self.id, self.key, self.is_new = run.id, run.key, run.is_new

    async def advance(self, by: timedelta) -> None:
        """Let time pass."""
        await self.app.advance(by)

    async def send(self, event: object, *, key: str | None = None) -> EventReceipt:
        """Send an event from outside."""
        return await self.app.send(event, key=key)

    def published(self, event: type | str | None = None) -> list[Published]:
        """Give what was published in its world so far."""
        return self.app.published(event)


class _Driven:
    """`Control` over a simulated app: each verb goes on until nothing happens any more."""

    def __init__(self, app: SimulatedApp) -> None:
        self._app = app

    def __getattr__(self, verb: str) -> Any:
        async def ask(*given: Any, **named: Any) -> Any:
            return self._app.drive(self._asked(verb, given, named))

        return ask

    async def _asked(self, verb: str, given: tuple[Any, ...], named: dict[str, Any]) -> Any:
        answer = await getattr(self._app.world.client.control, verb)(*given, **named)
        await self._app._settled()  # noqa: SLF001 - one unit
        return answer

    async def show(self, run: str, *, facts: bool = True) -> RunView:
        """Give a run with all its facts, whoever has them."""
        number = parse_run(run)
        view = None if number is None else view_of(self._app.world, number, self._app.now_ms)
        if view is None:
            raise NotFound(f"there is no run {run}", run=run)
        return view

    async def wait(self, run: str, timeout_s: float | None) -> RunView:
        """Let time pass until a run has ended or is parked, or the time is over."""
        app = self._app
        until = None if timeout_s is None else app.now_ms + round(timeout_s * 1_000)
        await app.settle()
        while not describe.is_settled((view := await self.show(run)).state):
            due = next_due_ms(app.world)
            if until is not None and (due is None or due > until):
                await app.advance_to(until)
                return await self.show(run)
            if due is None:
                needs = ", ".join(f"{w.needs} at {w.position}" for w in view.waiting) or "nothing that is known"
                raise TimeoutError(f"run {run} waits for {needs}, and nothing more happens by itself")
            await app.advance_to(due)
        return view


def _name_of(event: type) -> str:
    spec = event_spec(event)
    if spec is None:
        raise NotFound(f"{event.__qualname__} is no event", remedy="Declare it: @event(…) above the class")
    return spec.name
