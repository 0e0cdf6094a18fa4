"""An open participant with all that it works with: a store, slots, timers, waits, reactions, and messages.

In most programs there is one, which evaluates everything: it shares its facts with itself and sends no messages. With
a store for each service there is one for each, and one for home and the orchestrators; they share nothing but messages.
"""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Collection, Iterable, Mapping, Sequence
from contextlib import suppress
from typing import Any

from minuet.contracts.service import Service, service_spec
from minuet.engine.broker import Broker
from minuet.engine.port import RunFilter, Store
from minuet.engine.row import Decision, Lease, PlanRow
from minuet.errors import BrokerUnavailable, Conflict, PlanInvalid, StoreError
from minuet.ids import RunIds
from minuet.plans.plan import Plan
from minuet.runtime.acting import Acting
from minuet.runtime.activation import Activation
from minuet.runtime.clock import WaitingClock, new_owner
from minuet.runtime.exchange import Exchange
from minuet.runtime.handler import Handlers
from minuet.runtime.inlet import Inlet
from minuet.runtime.ledger import Ledger, guards_of
from minuet.runtime.library import Library
from minuet.runtime.matcher import EventMatcher
from minuet.runtime.ownership import Ownership
from minuet.runtime.participant import Participant
from minuet.runtime.passing import Passing
from minuet.runtime.recovery import Recovery
from minuet.runtime.remote import Remote
from minuet.runtime.retention import Retention
from minuet.runtime.settings import Settings
from minuet.runtime.store_clock import StoreClock
from minuet.runtime.threads import ThreadPool, Threads
from minuet.runtime.ticker import Ticker
from minuet.runtime.transaction import SetupCall, StatementTransaction, until_first_statement
from minuet.runtime.worker import Worker

log = logging.getLogger("minuet")

LEARN_EVERY_MS = 2_000  # plans, of those who share the store
_HEARD_BY_ALL = ("plan", "retire", "pause", "resume", "terminate")  # what an observer takes of what is asked of others


class Host:
    """A participant over one store. `broker`: None where everybody is here.

    `is_home`: ends are observed here, and orchestrators are; `only_listens`: it keeps the trace, and does nothing.
    `owner`: names this process as no other ever was, where several share the store; made anew by default.
    """

    def __init__(
        self,
        address: str,
        services: Sequence[Service],
        store: Store,
        clock: WaitingClock,
        settings: Settings,
        provided: Mapping[Any, Any],
        *,
        broker: Broker | None = None,
        is_home: bool = True,
        only_listens: bool = False,
        is_observed: bool = False,
        owner: str = "",
        threads: ThreadPool | None = None,
        library: Library | None = None,
    ) -> None:
        self.address = address
        self._library = library or Library()
        self.services = services
        self.names = frozenset(service_spec(type(s)).name for s in services)
        self.store = store
        self.is_home = is_home
        self._only_listens = only_listens
        self._settings = settings
        self._clock = clock = StoreClock(clock)
        self.participant = Participant(store, clock, runs_in_memory=settings.runs_in_memory, ids=RunIds())
        self.owner = owner or new_owner()
        self.threads: ThreadPool = threads or Threads(settings.threads, settings.abandoned_threads)
        self._handlers = Handlers(list(services), provided)
        self.worker = Worker(self.participant, self._handlers, clock, slots=settings.slots, threads=self.threads)
        self.ticker = Ticker(self.participant, clock)
        self.matcher = EventMatcher(self.participant, clock)
        ledger = Ledger(self.participant, guards) if (guards := guards_of(services)) else None
        self.participant.ledger = self.worker.ledger = ledger
        acting = Acting(self.participant, self._handlers, self.threads, ledger)
        self.inlet = Inlet(
            self.participant, services, provided, retry=settings.retry, slots=settings.slots, acting=acting
        )
        self.recovery = Recovery(self.participant, clock)
        self.retention = Retention(self.participant, clock, settings.retention_ms, settings.event_retention_ms)
        self.participant.worker = self.worker
        self.participant.ticker = self.ticker
        self.participant.matcher = self.matcher
        self.participant.inlet = self.inlet
        self.passing = Passing(self.participant, address, settings.lease_ms)
        self.exchange: Exchange | None = None
        if broker is not None:
            self.exchange = Exchange(
                self.participant, broker, address, self.names, is_observed=is_observed, only_listens=only_listens
            )
            self.activation = Activation(self.participant, self.exchange, self.accept, self._library.plan)
            self.remote = Remote(self.participant, self.exchange)
            self.participant.outward = self.exchange
            if only_listens:
                verbs = self.exchange.verbs
                self.exchange.verbs = {verb: verbs[verb] for verb in _HEARD_BY_ALL}

    def accept(self, plan: Plan) -> None:
        """Know a plan that somebody tells of. Raises Conflict where it needs what is not offered here."""
        for service, actions in plan.services().items():
            if service in self.names and (missing := [a for a in actions if not self._handlers.find(service, a)]):
                raise Conflict(
                    f"{service} does not offer {', '.join(sorted(missing))}, which plan {plan.name} needs",
                    remedy=f"Start {service} with a release that does",
                )
        self.adopt(plan)

    def adopt(self, plan: Plan) -> None:
        """Know a plan."""
        who = None
        if self.exchange is not None and not self._only_listens:
            who = self.names | plan.conductors() if self.is_home else self.names
        program = self._library.program(plan, self._settings.retry, who, only_watches=self._only_listens)
        self.participant.add_program(program)
        if self.exchange is not None:
            self.exchange.learn(program)

    async def open(self, plans: Iterable[Plan]) -> None:
        """Open the store, take up what was going on, and be ready for more. `plans`: those of this release."""
        opened = await self.store.open(self.participant.on_outcomes)
        ownership = None if opened.shards is None else self._share(opened.shards)
        try:
            if ownership is not None:
                await ownership.ask_the_time()
            for newest in await self.store.list_runs(RunFilter(limit=1)):
                self.participant.ids.follow(newest.run)
            await self._setup()
            await self._learn_plans(list(plans))
            await self.inlet.open()
        except BaseException:
            await self.store.close()
            raise
        self.matcher.open()
        self.ticker.open()
        self.recovery.open()
        self.retention.open()
        if self.exchange is not None:
            await self.exchange.open()
            if not self._only_listens:
                self.remote.open()
        if ownership is not None:
            self.passing.open()
            self.participant.spawn(self.participant.watch_ends())
            self.participant.spawn(self._learn_of_others())
            self.store.on_news(lambda _: self._look())
            await ownership.open()
            await self.inlet.entered()

    # Where several participants share the store

    def _share(self, shards: int) -> Ownership:
        """Own some shards of the store, and leave the others alone."""
        participant, settings = self.participant, self._settings
        ownership = Ownership(
            self.store, participant.clock, participant.ids, owner=self.owner, shards=shards, lease_ms=settings.lease_ms
        )
        ownership.on_time = self._clock.follow
        ownership.on_gained = self._gained
        ownership.on_lost = self._lost
        ownership.busy = participant.busy
        ownership.ask = self.passing.ask_for_share
        participant.ownership = ownership
        participant.look_for_plan = self._look_for_plan
        self.worker.may_begin = lambda action: ownership.is_held(action.knowledge.lease)
        if self.exchange is not None:
            self.exchange.passing = self.passing
            self.passing.hear = self.exchange.take_left
        return ownership

    def _gained(self, leases: Collection[Lease]) -> None:
        self.recovery.take_up(leases)
        self.inlet.gained()
        self.ticker.look()
        if self.exchange is not None:
            self.exchange.relay.look()
        self._look()

    def _lost(self, leases: Collection[Lease]) -> None:
        self.participant.lose(leases)
        self.inlet.lost(leases)

    def _look(self) -> None:
        """Look for what others have left."""
        self.passing.look()
        self.matcher.look()
        self.inlet.look()
        self.participant.ends.look()

    async def _look_for_plan(self, digest: str) -> None:
        for row in await self.store.plans():
            if row.digest == digest:
                self._learn_plan(row)
                if self.exchange is not None:
                    await self.exchange.listen()

    async def _learn_of_others(self) -> None:
        """Know the plans that whoever shares the store has learnt, and hear what they need: he may not come back."""
        participant = self.participant
        while True:
            await self._clock.sleep_ms(LEARN_EVERY_MS)
            with suppress(StoreError, BrokerUnavailable):  # the next round sees to it
                known = participant.programs.keys() | participant.broken.keys()
                new = [row for row in await self.store.plans() if row.digest not in known]
                for row in new:
                    self._learn_plan(row)
                if new and self.exchange is not None:
                    await self.exchange.listen()
                    for row in new:
                        await self.exchange.take_early_at_last(row.digest)

    # Opening and closing

    async def _setup(self) -> None:
        transaction = StatementTransaction()
        for service in self.services:
            if type(service).setup is Service.setup:
                continue
            coroutine = service.setup(transaction)
            first, _ = await until_first_statement(coroutine)
            if first is None:
                continue
            work = SetupCall(coroutine, first)
            await self.store.setup(work)
            if work.error is not None:
                raise work.error

    async def _learn_plans(self, plans: Sequence[Plan]) -> None:
        participant = self.participant
        known = set()
        for row in await self.store.plans():
            known.add(row.digest)
            self._learn_plan(row)
        new = Decision()
        now = participant.clock.now_ms()
        new.plans = [PlanRow(p.digest, p.workflow, p.to_json().decode(), now) for p in plans if p.digest not in known]
        if new.plans:
            await participant.record(new)
        for plan in plans:
            if plan.digest not in participant.programs:
                self.adopt(plan)

    def _learn_plan(self, row: PlanRow) -> None:
        try:
            self.adopt(self._library.plan(row.body.encode()))
        except PlanInvalid as e:
            log.error("%s", e)  # noqa: TRY400 - the message says it all
            self.participant.broken[row.digest] = str(e)

    async def close(self, grace_ms: int) -> None:
        """Begin nothing more, let what runs come to its end (at most this long), and close."""
        participant = self.participant
        participant.stopping = True
        self.passing.close()
        if self.exchange is not None:
            await self.exchange.close()
        await self.ticker.close()
        await asyncio.gather(self.worker.stop(grace_ms), self.inlet.stop(grace_ms))
        await participant.drain()
        if participant.ownership is not None:
            self.store.on_news(None)
            await participant.ownership.close()  # nobody is to wait until what was held here runs out
        await participant.close()
        await self.store.close()
        self.threads.close()
