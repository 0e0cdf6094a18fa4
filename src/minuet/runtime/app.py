"""`App`: a program of services and workflows over one store, opened and closed as `async with`."""

from __future__ import annotations

import logging
from collections.abc import Callable, Iterable, Mapping, Sequence
from types import TracebackType
from typing import Any, Self, TypeVar

from minuet.contracts.message import event_spec
from minuet.contracts.service import Service, service_spec
from minuet.errors import Conflict, DeclarationError, NotRunning, WorkflowRefused
from minuet.finding import Finding
from minuet.plans.check import check, warnings
from minuet.plans.plan import Plan, make_plan
from minuet.runtime.client import Verbs, decode_result, encode_input, result_of
from minuet.runtime.clock import SystemClock, WaitingClock
from minuet.runtime.hosts import Hosts
from minuet.runtime.inlet import reactions_of
from minuet.runtime.local import LocalControl
from minuet.runtime.settings import Settings, load_settings
from minuet.workflows.workflow import Workflow

A = TypeVar("A")
R = TypeVar("R")
AnyWorkflow = Workflow[Any, Any, Any]

log = logging.getLogger("minuet")


class App(Verbs):
    """A program: services, workflows, and where what they do is kept.

    Args:
        name: names the program, in logs and lists.
        services: instances of services.
        workflows: what may be started, and what those call.
        events: further types of events that may be sent, beside those that workflows wait for.
        styles: the style of a workflow, or of one section by position (`"name/2"`).
        store: the store's URL; `sqlite:///file.db`, or `sqlite://` for one in memory.
        provide: values for parameters of their types that actions ask for with `injected()`.
    """

    def __init__(
        self,
        name: str,
        *,
        services: Iterable[Service] = (),
        workflows: Iterable[AnyWorkflow] = (),
        events: Iterable[type] = (),
        styles: Mapping[str, str] | None = None,
        store: str | None = None,
        broker: str | None = None,
        provide: Iterable[Any] = (),
        clock: WaitingClock | None = None,
    ) -> None:
        self.name = name
        self.services = list(services)
        self.workflows = {w.name: w for w in workflows}
        self.events = _events(events, self.workflows.values(), self.services)
        self.clock: WaitingClock = clock or SystemClock()
        self._given = {"store_url": store, "broker_url": broker, "styles": dict(styles or {})}
        self._provided = {type(x): x for x in provide}
        self._opened: _Opened | None = None
        _check_services(self.services, self.workflows.values())

    @property
    def given(self) -> dict[str, Any]:
        """What the code says of the settings, the weakest word but the defaults; for `load_settings(app=…)`."""
        return {name: value for name, value in self._given.items() if value}

    def plans(self, settings: Settings | None = None) -> dict[str, Plan]:
        """Compile the workflows, by name.

        Raises:
            WorkflowRefused: a part has a style in which it cannot be performed, or a deadline could cancel nothing.
        """
        settings = settings or load_settings(app=self.given)
        settings.check_styles(self.workflows)
        if findings := [f for w in self.workflows.values() for f in check(w.tree, settings.placement(w.name))]:
            raise WorkflowRefused(findings)
        return {name: make_plan(w.tree, settings.placement(name)) for name, w in self.workflows.items()}

    def warnings(self, settings: Settings | None = None) -> list[Finding]:
        """Give what can be performed, and had better be said otherwise; the log has it when the app is opened."""
        settings = settings or load_settings(app=self.given)
        return [f for w in self.workflows.values() for f in warnings(w.tree, settings.placement(w.name))]

    @property
    def control(self) -> LocalControl:
        """The plain verbs, for tools. Raises NotRunning unless the app is open."""
        return self._running.control

    @property
    def hosts(self) -> Hosts:
        """The participants, for tools and tests. Raises NotRunning unless the app is open."""
        return self._running.hosts

    @property
    def _running(self) -> _Opened:
        if self._opened is None:
            raise NotRunning(f"the app {self.name!r} is not open", remedy="Use it inside: async with app")
        return self._opened

    async def open(self, settings: Settings | None = None) -> None:
        """Open the store, take up what was going on, and be ready for more.

        Raises:
            WorkflowRefused: a part has a style in which it cannot be performed.
            AlreadyOpen: another process holds the store.
        """
        if self._opened is not None:
            raise Conflict(f"the app {self.name!r} is open already", remedy="Open it once")
        settings = settings or load_settings(app=self.given)
        plans = self.plans(settings)
        for finding in self.warnings(settings):
            log.warning("%s", finding)
        opened = _Opened(self, settings, plans)
        await opened.open()
        self._opened = opened

    async def stop(self, grace_ms: int = 25_000) -> None:
        """Begin nothing more, let what runs come to its end (at most this long), and close. Idempotent."""
        if self._opened is not None:
            opened, self._opened = self._opened, None
            await opened.close(grace_ms)

    async def __aenter__(self) -> Self:
        await self.open()
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        await self.stop()

    async def run(self, flow: Workflow[A, Any, R], input: A, *, key: str | None = None) -> R:
        """Start a run and wait for its result; raises as `start` and `Run.result`."""
        ended = await self.control.perform(flow, encode_input(flow, input), key)
        return decode_result(flow, ended) if isinstance(ended, bytes) else result_of(flow, ended)

    def publish_address(self, url: str) -> None:
        """Say beside the store where this process can be reached, for the command line."""
        publish: Callable[[str], None] | None = getattr(self.hosts.home.store, "publish_address", None)
        if publish is not None:
            publish(url)


class _Opened:
    """The parts of an open app."""

    def __init__(self, app: App, settings: Settings, plans: dict[str, Plan]) -> None:
        self._plans = plans
        self.hosts = Hosts(app.name, app.services, app.clock, settings, app._provided)  # noqa: SLF001 - one unit
        self.control = LocalControl(self.hosts, app.workflows, plans, app.events, app.services)

    async def open(self) -> None:
        await self.hosts.open(list(self._plans.values()))

    async def close(self, grace_ms: int) -> None:
        await self.hosts.close(grace_ms)


def _events(given: Iterable[type], workflows: Iterable[AnyWorkflow], services: Sequence[Service]) -> dict[str, type]:
    found: dict[str, type] = {}
    classes = [*given, *(c for w in workflows for c in w.events.values())]
    classes += [c for s in services for a in service_spec(type(s)).actions.values() for c in a.emits]
    classes += [c for r in reactions_of(services) for c in (r.event, *r.emits)]
    for cls in classes:
        spec = event_spec(cls)
        if spec is None:
            raise DeclarationError(f"{cls.__qualname__} is no event", remedy="Declare it: @event(…) above the class")
        if found.setdefault(spec.name, cls) is not cls:
            raise DeclarationError(
                f"two types are declared as the event {spec.name}: {found[spec.name].__qualname__}, {cls.__qualname__}",
                remedy="Give one of them another name",
            )
    return found


def _check_services(services: Sequence[Service], workflows: Iterable[AnyWorkflow]) -> None:
    """Refuse a program that lacks somebody, has somebody twice, or asks for what this release cannot do."""
    offered: dict[str, Service] = {}
    for s in services:
        spec = service_spec(type(s))
        if spec.name in offered:
            raise DeclarationError(f"there are two services named {spec.name!r}", remedy="Give one: name= on its class")
        offered[spec.name] = s
        for a in spec.actions.values():
            if a.outside is not None and a.outside.idempotency != "key":
                raise DeclarationError(
                    f"{spec.name}.{a.name} declares idempotency={a.outside.idempotency!r}, "
                    "which this release cannot keep yet: it would call again",
                    remedy='Declare idempotency="key", and send context.op_key with every call',
                )
    for w in workflows:
        w.check_startable()
        for parameter, cls in w.services.items():
            wanted = service_spec(cls)
            if wanted.name not in offered:
                raise DeclarationError(
                    f"{w.name} needs the service {wanted.name!r} (its parameter {parameter!r}), and the app has none",
                    remedy=f"Give an instance: App(…, services=[…, {cls.__name__}()])",
                )
            missing = wanted.actions.keys() - service_spec(type(offered[wanted.name])).actions.keys()
            if missing:
                raise DeclarationError(
                    f"{w.name} needs {wanted.name}.{', '.join(sorted(missing))}, "
                    f"which {type(offered[wanted.name]).__name__} does not offer",
                    remedy=f"Give an instance of {cls.__name__}, or of a class that implements it",
                )
