"""`Kit`: what the fixture `minuet` is. It performs workflows in simulated worlds, with real services or with tapes."""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Iterable
from typing import Any, Self, TypeVar

from minuet.contracts.service import Service
from minuet.runtime.app import App
from minuet.testing.conditions import Condition, Conditions
from minuet.testing.crash_points import CrashPoint, crash_at_each
from minuet.testing.outcomes import Crash, Outcomes
from minuet.testing.simulated import SimulatedApp, SimulatedRun
from minuet.testing.variants import Variant
from minuet.workflows.workflow import Workflow

R = TypeVar("R")
Services = Iterable[Service] | Callable[[], Iterable[Service]]


class Kit:
    """Simulated worlds for one test; what it opens it closes, and then complains of what was not as it must be.

    `variant`: how everything is performed that does not say otherwise (`@styles` gives several); `seed`: of latencies
    and orders.
    """

    def __init__(self, variant: Variant | None = None, *, seed: int = 0) -> None:
        self.variant = variant or Variant()
        self.seed = seed
        self._opened: list[SimulatedApp] = []
        self._conditions = Conditions()
        self._crashes: list[str] = []

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    async def perform(
        self,
        flow: Workflow[Any, Any, R],
        input: Any = None,
        /,
        *,
        services: Services,
        outcomes: Outcomes | None = None,
        style: str | None = None,
        seed: int | None = None,
        key: str | None = None,
        provide: Iterable[Any] = (),
    ) -> SimulatedRun[R]:
        """Start a run in a world of its own, and go on until it has ended, or waits for time or for an event.

        Args:
            flow: the workflow.
            input: its input.
            services: instances, which outlive crashes; or what makes them, called at each start of a process, so that
                what they keep in memory is lost in a crash.
            outcomes: tapes of what actions answer instead of running, see `minuet.testing.outcomes`.
            style: `orchestration`, `choreography` or `hybrid`; by default the test's variant, or as it is written.
            seed: of latencies and orders; the kit's by default.
            key: the business key.
            provide: what actions ask for with `injected()`.

        Raises:
            EscapedSimulation: an action has tried to use a socket, a thread or another process.
            NotFound: `outcomes` names an action that is not there.
        """
        make = services if callable(services) else None
        app = App("test", services=services() if callable(services) else services, workflows=[flow], provide=provide)
        opened = self.open(app, services=make, outcomes=outcomes, style=style, seed=seed)
        return await opened.start(flow, input, key=key)

    def open(
        self,
        app: App,
        *,
        services: Callable[[], Iterable[Service]] | None = None,
        outcomes: Outcomes | None = None,
        style: str | None = None,
        seed: int | None = None,
    ) -> SimulatedApp:
        """Open an app in a world of its own, for tests of reactions, or of several runs. The kit closes it."""
        seed = self.seed if seed is None else seed
        variant = self.variant if style is None else Variant(style, self.variant.is_apart)
        layout = variant.layout(app.workflows.values(), seed=seed, styles=app.given.get("styles"))
        opened = SimulatedApp(
            app, services=services, layout=layout, seed=seed, outcomes=outcomes, conditions=self._conditions
        )
        self._opened.append(opened)
        for action in self._crashes:
            opened.tapes.put(action, Crash())
        self._crashes.clear()
        return opened

    async def crash_after(self, action: str) -> None:
        """Have a process crash once: after the next attempt of an action (`"payments.charge"`), before it is recorded.

        In the world that is opened last, or, before any is, in the first.
        """
        if self._opened:
            self._opened[-1].tapes.put(action, Crash())
        else:
            self._crashes.append(action)

    async def every_crash_point(
        self,
        flow: Workflow[Any, Any, R],
        input: Any = None,
        /,
        *,
        services: Callable[[], Services],
        outcomes: Outcomes | None = None,
        style: str | None = None,
        provide: Iterable[Any] = (),
        then: Callable[[SimulatedRun[R]], Awaitable[object]] | None = None,
    ) -> list[CrashPoint]:
        """Perform a run again and again, each time with a crash at another point; give what became of each.

        The points are those after which something else is durable, or was done in an action, than before. `services`
        is called for each time, and gives instances, or what makes them at each start of a process. `then` is what a
        test does with a run that waits, as `lambda run: run.send(PickedUp(…))`; it is done with crashes too.

        Raises:
            AssertionError: some run came to another end, or to other facts, than the one without a crash.
        """
        seed = self.seed
        variant = self.variant if style is None else Variant(style, self.variant.is_apart)

        def opened() -> SimulatedApp:
            given = services()
            make = given if callable(given) else None
            app = App("test", services=given() if callable(given) else given, workflows=[flow], provide=provide)
            layout = variant.layout([flow], seed=seed)
            return SimulatedApp(app, services=make, layout=layout, seed=seed, outcomes=outcomes)

        return crash_at_each(opened, flow, input, then)

    def always(self, condition: Condition, label: str = "") -> None:
        """Say what holds at any time from now on, whenever something is recorded in a world of this kit."""
        self._conditions.always(condition, label)

    def close(self) -> None:
        """Close all worlds. Raises AssertionError where an invariant was broken."""
        wrong: list[str] = []
        for opened in self._opened:
            try:
                opened.close()
            except AssertionError as e:
                wrong.append(str(e))
        self._opened.clear()
        if wrong:
            raise AssertionError("\n".join(wrong))
