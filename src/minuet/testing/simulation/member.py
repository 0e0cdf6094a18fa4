"""One process of a participant in a simulated world: it is started, crashes, stands still, and comes back."""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Sequence
from typing import TYPE_CHECKING, Any, cast

from minuet.contracts.service import Service, service_spec
from minuet.errors import MinuetError
from minuet.plans.plan import Plan
from minuet.runtime.host import Host
from minuet.runtime.local import LocalControl
from minuet.testing.simulation.clock import ProcessClock
from minuet.testing.simulation.loop import Process

if TYPE_CHECKING:
    from minuet.runtime.app import App
    from minuet.runtime.hosts import Hosts
    from minuet.testing.simulation.database import SimulatedDatabase
    from minuet.testing.simulation.store import SimulatedStore
    from minuet.testing.simulation.world import World

log = logging.getLogger("minuet")

OPEN_AGAIN_S = 0.5


class Member:
    """One of the processes of the participant `address`; each start makes a new one, with new instances of services.

    `offers`: the names of the services that it performs; `is_home`: ends are observed there, and runs are started.
    """

    def __init__(
        self,
        world: World,
        address: str,
        number: int,
        database: SimulatedDatabase,
        offers: frozenset[str],
        *,
        is_home: bool,
    ) -> None:
        self.name = f"{address}/{number}"
        self.address = address
        self.database = database
        self.offers = offers
        self.is_home = is_home
        self.process: Process | None = None
        self.clock: ProcessClock | None = None
        self.control: LocalControl | None = None  # None: it is not up (yet)
        self.host: Host | None = None
        self.store: SimulatedStore | None = None
        self.starts = 0
        self._world = world

    @property
    def is_up(self) -> bool:
        """Whether it takes requests."""
        return self.control is not None

    def start(self) -> None:
        """Begin to start; `is_up` says when it is."""
        world = self._world
        self.starts += 1
        self.process = Process(world.loop, f"{self.name}.{self.starts}")
        self.clock = world.new_clock(self)
        self.process.spawn(self._open(self.process), name=f"{self.name} opens")

    def start_if_down(self) -> None:
        """Begin to start, if nothing of it runs."""
        if self.process is None or not self.process.is_alive:
            self.start()

    async def _open(self, process: Process) -> None:
        world, clock = self._world, self.clock
        assert clock is not None
        try:
            app = world.build(world)
            services = [s for s in app.services if service_spec(type(s)).name in self.offers]
            host = self._host(app, services, process, clock)
            plans = list(world.plans(app).values()) if self.is_home else []
            await host.open(plans)
            if self.is_home and host.exchange is not None:
                await host.activation.open(plans)
        except MinuetError as e:  # the store or the broker is not there: whoever watches processes starts it anew
            world.note(process.name, f"could not start: {e.code}")
            world.loop.call_outside(OPEN_AGAIN_S, self._start_again, process)
            return
        self.host = host
        self.control = self._control(app, world.plans(app), host)
        world.note(process.name, "is up")

    def _host(self, app: App, services: Sequence[Service], process: Process, clock: ProcessClock) -> Host:
        world = self._world
        self.store = self.database.store(process)
        return Host(
            self.address,
            services,
            self.store,
            clock,
            world.settings,
            app._provided,  # noqa: SLF001 - one unit
            broker=None if world.broker is None else world.broker.connect(process),
            is_home=self.is_home,
            owner=process.name,
            threads=world.new_threads(process),
            library=world.library(app),
        )

    def _control(self, app: App, plans: dict[str, Plan], host: Host) -> LocalControl:
        return LocalControl(
            cast("Hosts", _Here(host, self._world.broker)), app.workflows, plans, app.events, app.services
        )

    def _start_again(self, process: Process) -> None:
        if self.process is process and process.is_alive:
            self.crash()
            self.start()

    def crash(self) -> None:
        """End at once, as at a kill -9 or a power cut."""
        if self.process is not None and self.process.is_alive:
            self.process.crash()
        self.control = self.host = self.store = None

    async def stop(self, grace_ms: int = 5_000) -> None:
        """End as a program does that is asked to."""
        host, process = self.host, self.process
        self.control = self.host = None
        if host is not None and process is not None and process.is_alive:
            closing = process.spawn(host.close(grace_ms), name=f"{self.name} closes")
            await asyncio.wait([closing], timeout=60)
            process.crash()


class _Here:
    """The participants of one simulated process, as `LocalControl` asks for them."""

    def __init__(self, host: Host, broker: object) -> None:
        self.home = host
        self.broker = broker
        self.observer = None
        self.watch = None
        self.services: list[Host] = []
        self.on_home: Any = None

    def all(self) -> list[Host]:
        """Give those that decide something."""
        return [self.home]

    def listening(self) -> list[Host]:
        """Give all."""
        return [self.home]
