"""The participants of one program: one for everything, or one for each service with a store of its own."""

from __future__ import annotations

import asyncio
import re
from collections.abc import Callable, Mapping, Sequence
from typing import Any

from minuet.brokers.embedded import EmbeddedBroker
from minuet.contracts.service import Service, service_spec
from minuet.engine.broker import Broker
from minuet.errors import BrokerUnavailable, Conflict, DeclarationError, NotFound
from minuet.plans.plan import Plan
from minuet.runtime.clock import WaitingClock
from minuet.runtime.host import Host
from minuet.runtime.library import Library
from minuet.runtime.observer import Observer
from minuet.runtime.settings import Settings
from minuet.stores.opening import beside, open_store

FORGET_EVERY_MS = 60_000
FORGET_AFTER_MS = 3_600_000  # messages that everybody has handled: so long the same sent twice is recognised
FORGET_BATCH = 1_000


class Hosts:
    """The participants of an open program, and the broker between them.

    `home` observes the ends of runs, and is the one that whoever starts them asks. `observer` keeps the trace of all
    runs where no store has all of it; None where `home` has it, or it is stopped. `watch` looks at that trace, for what
    is late or stuck; None where it is stopped, or not wanted.
    """

    def __init__(
        self,
        name: str,
        services: Sequence[Service],
        clock: WaitingClock,
        settings: Settings,
        provided: Mapping[Any, Any],
        broker: Broker | None = None,
    ) -> None:
        self._settings = settings
        self._clock = clock
        self._provided = provided
        self._library = Library()
        self.broker = broker
        self.observer: Host | None = None
        self.watch: Observer | None = None
        self._apart: dict[str, Service] = {}
        self._running: dict[str, Host] = {}
        self._is_home_running = True
        self._forgetting: asyncio.Task[None] | None = None
        self.on_home: Callable[[], None] = lambda: None  # called when home was started again
        self._plans: list[Plan] = []
        self._home_address = f"{re.sub(r'[^a-z0-9]+', '-', name.lower()).strip('-') or 'app'}-home"
        if not settings.store_per_service:
            self.home = self._host(self._home_address, services, settings.store_url, None)
            return
        self.broker = broker or EmbeddedBroker(open_store(beside(settings.store_url, "broker")), clock)
        self.home = self._host(self._home_address, (), settings.store_url, self.broker)
        self._apart = {service_spec(type(s)).name: s for s in services}
        if clash := {self._home_address, "broker", "observer"} & self._apart.keys():
            raise DeclarationError(
                f"a service is named {min(clash)!r}, which is taken where each has a store of its own",
                remedy="Give it another name: name= on its class",
            )
        if settings.observer:
            self.observer = self._listener()

    def _listener(self) -> Host:
        url = beside(self._settings.store_url, "observer")
        return self._host(f"{self._home_address}-observer", (), url, self.broker, listens=True)

    def _watch(self) -> None:
        """Look at what is late or stuck, where somebody is to do so."""
        if self._settings.observer:
            self.watch = Observer(self.observer or self.home, self.all)
            self.watch.open()

    def _host(
        self, address: str, services: Sequence[Service], url: str, broker: Broker | None, *, listens: bool = False
    ) -> Host:
        return Host(
            address,
            services,
            open_store(url),
            self._clock,
            self._settings,
            self._provided,
            broker=broker,
            is_home=address == self._home_address,
            only_listens=listens,
            is_observed=self._settings.observer,
            library=self._library,
        )

    @property
    def services(self) -> list[Host]:
        """The participants that are services with a store of their own, and run."""
        return list(self._running.values())

    def all(self) -> list[Host]:
        """Give all participants that decide something and run, home first."""
        return [*([self.home] if self._is_home_running else []), *self._running.values()]

    def listening(self) -> list[Host]:
        """Give all participants that run, the observer last."""
        return [*self.all(), *([self.observer] if self.observer is not None else [])]

    async def open(self, plans: Sequence[Plan]) -> None:
        """Open all, and have them know the plans."""
        self._plans = list(plans)
        opened: list[Host] = []
        if self.broker is not None:
            await self.broker.open()
            if isinstance(self.broker, EmbeddedBroker):
                self._forgetting = asyncio.get_running_loop().create_task(self._forget(self.broker))
        try:
            if self.observer is not None:
                await self.observer.open(plans)
                opened.append(self.observer)
            await self.home.open(plans)
            opened.append(self.home)
            for name in self._apart:
                await self.start(name)
            if self.home.exchange is not None:
                await self.home.activation.open(plans)
                await self.home.activation.settled(frozenset(self._apart))
            self._watch()
        except BaseException:
            for host in [*self._running.values(), *opened]:
                await host.close(0)
            self._running.clear()
            await self._close_broker()
            raise

    async def start(self, service: str) -> Host:
        """Start the participant of a service that has a store of its own. Raises NotFound."""
        if service not in self._apart:
            raise NotFound(f"no service {service!r} has a store of its own here", remedy="Give its name")
        if service in self._running:
            raise Conflict(f"the participant {service!r} runs already", remedy="Stop it first")
        url = beside(self._settings.store_url, service)
        host = self._host(service, (self._apart[service],), url, self.broker)
        await host.open(())
        self._running[service] = host
        return host

    async def stop(self, service: str, grace_ms: int = 0) -> None:
        """Stop the participant of a service; what comes for it waits. Raises NotFound."""
        if service not in self._running:
            raise NotFound(f"no participant {service!r} is running here", remedy="See which there are")
        await self._running.pop(service).close(grace_ms)

    async def start_home(self, plans: Sequence[Plan] | None = None) -> None:
        """Start home again: it takes up its runs, and hears what it has missed. Raises NotFound.

        `plans`: those of another release; whoever does not know them yet delays their runs, and no others.
        """
        if self._is_home_running:
            raise NotFound("home was not stopped here", remedy="Stop it first")
        self._plans = self._plans if plans is None else list(plans)
        home = self._host(self._home_address, (), self._settings.store_url, self.broker)
        await home.open(self._plans)
        await home.activation.open(self._plans)
        self.home, self._is_home_running = home, True
        self.on_home()

    async def stop_home(self, grace_ms: int = 0) -> None:
        """Stop home: what is choreographed goes on, and its end waits to be heard. Raises NotFound."""
        if not self._is_home_running or not self._apart:
            raise NotFound("no home is running here on its own", remedy="Each service needs a store of its own")
        self._is_home_running = False
        await self.home.close(grace_ms)

    async def start_observer(self) -> None:
        """Start the observer again: it hears what it has missed. Raises NotFound."""
        if not (self._apart and self._settings.observer) or self.observer is not None:
            raise NotFound("no observer was stopped here", remedy="Stop it first")
        observer = self._listener()
        await observer.open(self._plans)
        self.observer = observer
        self._watch()

    async def stop_observer(self) -> None:
        """Stop the observer: everything else goes on, and what there is to hear waits. Raises NotFound."""
        if self.observer is None:
            raise NotFound("no observer is running here", remedy="It is there where services have stores of their own")
        observer, self.observer, self.watch = self.observer, None, None
        await observer.close(0)

    async def close(self, grace_ms: int) -> None:
        """Close all: those who act first, the observer last."""
        for host in reversed(self.all()):
            await host.close(grace_ms)
        self._running.clear()
        if self.observer is not None:
            await self.observer.close(0)
        await self._close_broker()

    async def _close_broker(self) -> None:
        if self._forgetting is not None:
            self._forgetting.cancel()
        if self.broker is not None:
            await self.broker.close()

    async def _forget(self, broker: EmbeddedBroker) -> None:
        """Have the broker forget what everybody has handled long ago."""
        while True:
            await self._clock.sleep_ms(FORGET_EVERY_MS)
            forgotten = FORGET_BATCH
            while forgotten == FORGET_BATCH:
                try:
                    forgotten = await broker.forget(self._clock.now_ms() - FORGET_AFTER_MS, FORGET_BATCH)
                except BrokerUnavailable:
                    break  # the next round sees to it
