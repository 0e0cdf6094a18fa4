"""One subscription at work: reads its events from the outbox, has its reaction perform them, records what follows.

Memory is bounded: it reads no further while `DELIVERIES_IN_MEMORY` of its events are being applied, or queue for it.
What failed, or waits behind another of its key, is a row in the store and not in memory. The position moves on behind
the oldest event that has neither been applied nor got a row, so nothing is passed over.

A reaction that takes part in the transaction runs in a slot until its first statement, then in the store's thread;
each event is in one place at a time.
"""

from __future__ import annotations

import asyncio
import logging
from collections import deque
from collections.abc import Callable, Sequence
from typing import Any

from minuet.contracts.handler import Context, collecting
from minuet.engine import bound, inbox
from minuet.engine.answer import Answer, Done, Failed
from minuet.engine.dead_letter import Reason
from minuet.engine.inbox import Delivery, Policy
from minuet.engine.lane import Lanes
from minuet.engine.port import LetterFilter, Statement, StoredDelivery
from minuet.engine.row import Decision, DeliveryKey, DeliveryRow, EventRow, Messages, SubscriptionRow
from minuet.errors import Conflict, InvalidPayload, MinuetError, StoreError
from minuet.runtime.handler import Handler
from minuet.runtime.outgoing import outgoing
from minuet.runtime.participant import Participant
from minuet.runtime.transaction import StatementTransaction, TransactionalCall, until_first_statement

log = logging.getLogger("minuet")

BATCH = 256
IN_A_ROW = 64  # events after which a slot lets the event loop see to other things
CUT_GRACE_MS = 1_000  # how long an attempt that was cut off may take to clean up
TRY_AGAIN_MS = 200  # after trouble with the store


class _Told:
    """What a decision about some deliveries bears: whom to tell that it is durable, or is not."""

    __slots__ = ("_take",)

    def __init__(self, take: Callable[[Decision | None, Exception | None], None]) -> None:
        self._take = take

    def settled(self, decision: Decision | None, error: Exception | None) -> None:
        self._take(decision, error)


class _Applying:
    """What the rows of one answer bear."""

    __slots__ = ("_delivery", "_subscriber")

    def __init__(self, subscriber: Subscriber, delivery: Delivery) -> None:
        self._subscriber, self._delivery = subscriber, delivery

    def settled(self, decision: Decision | None, error: Exception | None) -> None:
        self._subscriber.settled(self._delivery, decision, error)


class _Slot:
    """One task that performs the reaction, event after event."""

    def __init__(self) -> None:
        self.task: asyncio.Task[None] | None = None
        self.wake: asyncio.Future[None] | None = None
        self.delivery: Delivery | None = None
        self.began_ms = 0
        self.cut_ms = 0  # when it was told to stop; 0: it was not
        self.is_lost = False


class Subscriber:
    """A subscription of an open program; `limit` bounds how many of its events are performed at once."""

    def __init__(
        self,
        participant: Participant,
        handler: Handler,
        policy: Policy,
        row: SubscriptionRow,
        *,
        limit: int,
        wake_all: Callable[[Sequence[EventRow]], None],
    ) -> None:
        self.policy = policy
        self.handler = handler
        self._participant = participant
        self._store = participant.store
        self._clock = participant.clock
        self._row = row
        self._limit = limit
        self._wake_all = wake_all
        self._lanes = Lanes(is_ordered=policy.order_key is not None)
        self._taken = row.position
        self._until_recovered = row.position  # up to here the last process may have applied some
        self._suspects = bound.DELIVERIES_IN_MEMORY
        self._open: dict[int, None] = {}  # taken from the outbox, and neither applied nor recorded; ascending
        self._quiet: set[int] = set()  # applied once more: what it publishes waits have heard already
        self._again: set[int] = set()  # taken from the store's deliveries
        self._to_drain: dict[str, None] = {}
        self._to_hold: list[Delivery] = []
        self._ready: deque[Delivery] = deque()
        self._slots: set[_Slot] = set()
        self._idle: list[_Slot] = []
        self._waking = False
        self._more = True
        self._waiter: asyncio.Future[None] | None = None
        self._alarm_ms = inbox.NEVER_MS
        self._look_at_due = True
        self._is_starved = False
        self._stopping = False
        self._lost = 0
        self._all_idle: asyncio.Future[None] | None = None
        self._transaction = StatementTransaction()
        ((self._argument, self._decode),) = handler.decoders.items()
        self.applied = 0
        self.dead = 0

    @property
    def name(self) -> str:
        """Give `service.reaction`."""
        return self.policy.name

    @property
    def position(self) -> int:
        """Give the entry up to which everything is applied, or has a row of its own."""
        return next(iter(self._open)) - 1 if self._open else self._taken

    @property
    def in_memory(self) -> int:
        """Give how many events are in memory."""
        return len(self._open) + len(self._again)

    @property
    def running(self) -> int:
        """Give how many events are being performed."""
        return sum(1 for slot in self._slots if slot.delivery is not None)

    def is_in_flight(self, entry: int) -> bool:
        """Say whether an event is being applied, or queues for it."""
        return entry in self._open or entry in self._again

    # Reading

    def open(self, until_entry: int) -> None:
        """Begin; up to this entry the last process may have applied some."""
        self._until_recovered = until_entry
        self._participant.spawn(self._run())

    def wake(self) -> None:
        """Look for new events."""
        self._more = True
        if self._waiter is not None and not self._waiter.done():
            self._waiter.set_result(None)

    def wake_due(self) -> None:
        """Look for new events, and for those that are due again."""
        self._look_at_due = True
        self.wake()

    async def _run(self) -> None:
        recovered = False
        while not self._stopping:
            self._more = False
            try:
                if not recovered:
                    await self._recover()
                    recovered = True
                if self._look_at_due:
                    self._look_at_due = False
                    await self._read_due()
                if self._to_drain:
                    await self._drain()
                await self._read_new()
            except StoreError:
                self._look_at_due = True
                await self._clock.sleep_ms(TRY_AGAIN_MS)
                continue
            if not self._more:
                self._waiter = asyncio.get_running_loop().create_future()
                await self._waiter

    async def _recover(self) -> None:
        """Take over what the last process left."""
        while running := await self._store.deliveries_running(self.policy.subscription, BATCH):
            for stored in running:
                decision = inbox.crashed(self.policy, self._delivery(stored), self._now())
                await self._participant.record(decision)
        await self._revive()
        rows = await self._store.deliveries_open(self.policy.subscription)
        self._lanes.recall(rows, dead_block=self.policy.blocks)
        self._to_drain = dict.fromkeys(self._lanes.to_drain())

    async def _revive(self) -> None:
        """Take up what was too new for the last release, and is not for this one."""
        which = LetterFilter(subscription=self.name, reason=Reason.NEWER_VERSION, limit=BATCH)
        while letters := await self._store.dead_letters(which):
            known = [x for x in letters if x.event.version <= self.policy.version]
            if known:
                decision = Decision()
                decision.ensure_messages().deliveries = [inbox.make_due(x.delivery, self._now()) for x in known]
                await self._participant.record(decision)
            last = letters[-1].delivery
            which = LetterFilter(
                subscription=which.subscription,
                reason=which.reason,
                limit=which.limit,
                after=(last.last_at_ms, last.subscription, last.entry),
            )

    async def _read_new(self) -> None:
        while not self._stopping:
            room = bound.DELIVERIES_IN_MEMORY - self.in_memory
            self._is_starved = room <= 0 or self._lanes.stalled > bound.KEYS_STALLED
            if self._is_starved:
                return
            limit = min(room, BATCH)
            if self._taken < self._until_recovered:
                rows = await self._store.events_unapplied(
                    self.policy.subscription, self.policy.event, self._taken, limit
                )
                if len(rows) < limit:  # all that is left of the last process is read
                    self._taken = max(self._taken, self._until_recovered)
            else:
                rows = await self._store.events_after(self.policy.event, self._taken, limit)
            for row in rows:
                self._take(row)
            self._hold()
            if len(rows) < limit:
                return

    def _take(self, event: EventRow) -> None:
        entry = event.entry
        assert entry is not None, "a stored event has its entry"
        self._taken = max(self._taken, entry)
        self._open[entry] = None
        is_suspect = entry <= self._until_recovered and self._suspects > 0
        if is_suspect:
            self._suspects -= 1
        delivery = Delivery(event, entry, inbox.order_key_of(self.policy, event), None, is_suspect)
        todo = self._lanes.take(delivery)
        if todo == "run":
            self._start(delivery)
        elif todo == "hold":
            self._to_hold.append(delivery)

    async def _read_due(self) -> None:
        subscription = self.policy.subscription
        room = max(1, min(BATCH, bound.DELIVERIES_IN_MEMORY - self.in_memory))
        for stored in await self._store.deliveries_due(subscription, self._now(), room):
            if not self.is_in_flight(stored.delivery.entry):
                self._take_back(stored)
        due_ms = await self._store.next_delivery_due(subscription)
        if due_ms is not None:
            self._set_alarm(due_ms)

    def _take_back(self, stored: StoredDelivery) -> None:
        delivery = self._delivery(stored)
        self._again.add(delivery.entry)
        if self._lanes.take_back(delivery) == "run":
            self._start(delivery)

    async def _drain(self) -> None:
        """Take back what was held of keys that nothing holds up any more."""
        for key in list(self._to_drain):
            if self.in_memory >= bound.DELIVERIES_IN_MEMORY:
                self._is_starved = True
                return
            del self._to_drain[key]
            if not self._lanes.is_to_drain(key):
                continue
            mark = self._lanes.mark(key)
            held = await self._store.deliveries_held(self.policy.subscription, key, BATCH)
            held = [x for x in held if not self.is_in_flight(x.delivery.entry)]
            if not self._lanes.is_to_drain(key):
                continue  # it was blocked anew meanwhile, or something of it is about to be recorded
            for stored in held:
                self._take_back(stored)
            if not held and not self._lanes.drained(key, mark):
                self._to_drain[key] = None
                self._more = True

    def _delivery(self, stored: StoredDelivery) -> Delivery:
        return Delivery(stored.event, stored.delivery.entry, stored.delivery.key, stored.delivery)

    def _set_alarm(self, due_ms: int) -> None:
        """Look at what is due again, then; the poll sees to what is far away."""
        now = self._now()
        if due_ms < self._alarm_ms and due_ms - now < 2_000:
            self._alarm_ms = due_ms
            self._participant.spawn(self._ring(due_ms, due_ms - now))

    async def _ring(self, due_ms: int, delay_ms: int) -> None:
        if delay_ms > 0:
            await self._clock.sleep_ms(delay_ms)
        if self._alarm_ms == due_ms:
            self._alarm_ms = inbox.NEVER_MS
        self.wake_due()

    def _now(self) -> int:
        return self._clock.now_ms()

    # Performing

    def _start(self, delivery: Delivery) -> None:
        """Have an event performed; if it may be the death of the process, that is recorded before."""
        if (objection := inbox.objection(self.policy, delivery)) is not None:
            self._record(delivery, inbox.dead(self.policy, delivery, *objection, self._now()))
            return
        if delivery.row is None and not delivery.is_suspect:
            self._enqueue(delivery)
            return
        decision = inbox.begin_again(self.policy, delivery, self._now())
        decision.token = _Told(lambda decided, error: self._begun(delivery, decided, error))
        self._store.submit(decision)

    def _begun(self, delivery: Delivery, decision: Decision | None, error: Exception | None) -> None:
        if error is not None:
            self._participant.spawn(self._start_later(delivery))
            return
        assert decision is not None
        assert decision.messages is not None
        if delivery.row is None:  # it has a row of its own now
            self._open.pop(delivery.entry, None)
            self._again.add(delivery.entry)
        self._enqueue(inbox.with_row(delivery, next(iter(decision.messages.deliveries))))

    async def _start_later(self, delivery: Delivery) -> None:
        await self._clock.sleep_ms(TRY_AGAIN_MS)
        self._start(delivery)

    def _enqueue(self, delivery: Delivery) -> None:
        if self._stopping:
            return
        self._ready.append(delivery)
        if not self._waking:
            self._wake_slot()

    def _wake_slot(self) -> None:
        if self._idle:
            slot = self._idle.pop()
            assert slot.wake is not None
            self._waking = True
            slot.wake.set_result(None)
        elif len(self._slots) - self._lost < self._limit:
            slot = _Slot()
            self._slots.add(slot)
            self._waking = True
            slot.task = asyncio.get_running_loop().create_task(self._perform_all(slot), name=f"minuet-{self.name}")

    async def _perform_all(self, slot: _Slot) -> None:
        ready, in_a_row = self._ready, 0
        while not slot.is_lost:
            self._waking = False
            if not ready:
                if self._all_idle is not None and not self._all_idle.done() and not self.running:
                    self._all_idle.set_result(None)
                slot.wake = asyncio.get_running_loop().create_future()
                self._idle.append(slot)
                await slot.wake
                in_a_row = 0
                continue
            delivery = ready.popleft()
            if ready:
                self._wake_slot()  # should this one suspend, another slot goes on
            in_a_row += 1
            if in_a_row >= IN_A_ROW:
                in_a_row = 0
                await self._clock.sleep_ms(0)
            await self._perform(slot, delivery)
        self._slots.discard(slot)
        self._lost -= 1

    async def _perform(self, slot: _Slot, delivery: Delivery) -> None:
        slot.delivery = delivery
        slot.began_ms = self._clock.monotonic_ms()
        try:
            await self._call(slot, delivery)
        except Exception as e:  # a mistake of ours about one event must not cost the slot
            log.exception("%s could not be performed", self.name)
            self._answer(delivery, Failed(f"{type(e).__name__} inside the platform"), ())
        except asyncio.CancelledError:
            if not slot.cut_ms:
                raise
            task = asyncio.current_task()
            if task is not None:
                task.uncancel()
            if not slot.is_lost:
                self._answer(delivery, Failed(f"the attempt took longer than {self._timeout_ms / 1000:g} s"), ())
        finally:
            slot.delivery = None
            slot.cut_ms = 0

    async def _call(self, slot: _Slot, delivery: Delivery) -> None:
        handler = self.handler
        try:
            event = self._decode(delivery.body)
        except InvalidPayload as e:
            self._record(delivery, inbox.dead(self.policy, delivery, Reason.UNREADABLE, str(e), self._now()))
            return
        arguments = {self._argument: event, **handler.injected}
        if handler.wants_context is not None:
            arguments[handler.wants_context] = self._context(delivery)
        events: list[object] = []
        answer: Answer
        try:
            if handler.transactional is not None:
                arguments[handler.transactional] = self._transaction
                with collecting(handler.name, handler.emits) as events:
                    coroutine = handler.function(handler.service, **arguments)
                    first, result = await until_first_statement(coroutine)
                    if first is not None:
                        self._hand_over(delivery, coroutine, first, events)
                        return
            elif handler.emits:
                with collecting(handler.name, handler.emits) as events:
                    result = await handler.function(handler.service, **arguments)
            else:
                result = await handler.function(handler.service, **arguments)
        except asyncio.CancelledError as e:
            task = asyncio.current_task()
            if task is not None and task.cancelling():
                raise
            answer = handler.raised(e)  # the reaction itself was cancelled, by something that it called
        except BaseException as e:  # whatever a user's reaction raises is an answer: not even SystemExit ends others
            answer = handler.raised(e)
            log.debug("reaction failed: %s", self.name, exc_info=e)
        else:
            answer = handler.done(result)
        if not slot.is_lost:
            self._answer(delivery, answer, events)

    def _hand_over(self, delivery: Delivery, coroutine: Any, first: Statement, events: list[object]) -> None:
        """Hand a reaction over to the store at its first statement."""
        handler = self.handler

        def decide(answer: Answer) -> Decision:
            return self._decided(delivery, answer, events)

        self._store.submit_work(
            TransactionalCall(
                coroutine,
                first,
                classify=lambda result, error: handler.done(result) if error is None else handler.raised(error),
                is_awaited=lambda: True,
                decide=decide,
                token=_Applying(self, delivery),
            )
        )

    def _answer(self, delivery: Delivery, answer: Answer, events: Sequence[object]) -> None:
        self._record(delivery, self._decided(delivery, answer, events))

    def _decided(self, delivery: Delivery, answer: Answer, events: Sequence[object]) -> Decision:
        now, published = self._now(), list[EventRow]()
        if events:
            event = delivery.event
            try:
                published = outgoing(
                    events,
                    source=f"/{self.name.partition('.')[0]}",
                    message=f"{self.name}:{delivery.entry}",
                    key=event.key,
                    hops=event.hops + 1,
                    causes=event.message,
                    now_ms=now,
                )
            except MinuetError as e:
                answer = Failed(str(e), final=True)
        decision = inbox.answered(self.policy, delivery, answer, published, now)
        if published and isinstance(answer, Done) and delivery.entry not in self._quiet:
            decision.inbox = self._participant.kept_for_waits(published)
        return decision

    def _record(self, delivery: Delivery, decision: Decision) -> None:
        decision.token = _Applying(self, delivery)
        self._store.submit(decision)

    def _context(self, delivery: Delivery) -> Context:
        event = delivery.event
        return Context(
            run="",
            key=event.key,
            workflow="",
            position=self.name,
            attempt=delivery.attempts + 1,
            op_key=f"{self.name}:{delivery.entry}",
            input_bytes=b'{"%s":%s}' % (self._argument.encode(), delivery.body),
        )

    # What has become durable

    def settled(self, delivery: Delivery, decision: Decision | None, error: Exception | None) -> None:
        """Take what became of an answer."""
        if error is not None:
            self._not_recorded(delivery, error)
            return
        assert decision is not None
        messages = decision.messages
        assert messages is not None
        if messages.applied:
            self._settle_applied(delivery)
            if messages.outbox:
                self._wake_all(messages.outbox)
            for kept in decision.inbox:
                self._participant.matcher.look_at(kept.event, kept.key)
        else:
            self._settle_failed(delivery, next(iter(messages.deliveries)))
        if self._is_starved and self.in_memory <= bound.DELIVERIES_IN_MEMORY // 2:
            self.wake_due()

    def _settle_applied(self, delivery: Delivery) -> None:
        self.applied += 1
        self._forget(delivery.entry)
        if self.policy.order_key is None:
            return
        key = delivery.key
        if (following := self._lanes.next(key)) is not None:
            self._start(following)
        if self._lanes.unblock(key, delivery.entry) or self._lanes.is_to_drain(key):
            self._to_drain[key] = None
            self.wake()

    def _settle_failed(self, delivery: Delivery, row: DeliveryRow) -> None:
        self._forget(delivery.entry)
        if row.state == "dead":
            self.dead += 1
            log.warning("%s cannot apply event %s: %s", self.name, delivery.event.message, row.reason)
        else:
            self._set_alarm(row.next_at_ms)
        if row.state != "dead" or self.policy.blocks:
            fresh, stored = self._lanes.block(delivery)
            self._to_hold += fresh
            self._hold()
            self._again.difference_update(d.entry for d in stored)
        else:
            self._go_past(delivery.key, delivery.entry)

    def _go_past(self, key: str, entry: int) -> None:
        """Let a key go on behind an event that is not applied."""
        if (following := self._lanes.next(key)) is not None:
            self._start(following)
        if self._lanes.unblock(key, entry) or self._lanes.is_to_drain(key):
            self._to_drain[key] = None
            self.wake()

    def _forget(self, entry: int) -> None:
        self._open.pop(entry, None)
        self._again.discard(entry)
        self._quiet.discard(entry)

    def _not_recorded(self, delivery: Delivery, error: Exception) -> None:
        if isinstance(error, Conflict) and "applied" in error.subject:  # its row has no meaning any more
            decision = Decision()
            decision.ensure_messages().deliveries_done = [DeliveryKey(self.policy.subscription, delivery.entry)]
            decision.token = _Told(lambda *_: None)
            self._store.submit(decision)
            self._settle_applied(delivery)
        elif isinstance(error, StoreError):
            self._participant.spawn(self._start_later(delivery))
        elif isinstance(error, Conflict):  # a wait has taken what this published when it was applied before
            self._quiet.add(delivery.entry)
            self._participant.spawn(self._start_later(delivery))
        else:
            text = f"{type(error).__name__}: {error}"
            self._record(delivery, inbox.failed(self.policy, delivery, Failed(text), self._now()))

    def _hold(self) -> None:
        """Record what waits behind another of its key."""
        if not self._to_hold:
            return
        held, self._to_hold = self._to_hold, []
        decision = inbox.hold(self.policy, held, self._now())
        decision.token = _Told(lambda _, error: self._held(held, error))
        self._store.submit(decision)

    def _held(self, held: list[Delivery], error: Exception | None) -> None:
        if error is not None:
            self._participant.spawn(self._hold_later(held))
            return
        for delivery in held:
            self._forget(delivery.entry)
            if self._lanes.recorded(delivery.key):
                self._to_drain[delivery.key] = None
                self.wake()

    async def _hold_later(self, held: list[Delivery]) -> None:
        await self._clock.sleep_ms(TRY_AGAIN_MS)
        self._to_hold = [*held, *self._to_hold]
        self._hold()

    def progress(self) -> Messages | None:
        """Give the rows that move the position on; None if it has not moved."""
        position = self.position
        if position <= self._row.position:
            return None
        self._row = self._row._replace(position=position)
        messages = Messages()
        messages.subscriptions = [self._row]
        messages.applied_until = [DeliveryKey(self.policy.subscription, position)]
        return messages

    # What a person does

    def let_go(self, key: str, entry: int) -> None:
        """Take that a person lets a key go on: an event of it is skipped, or discarded."""
        if self._lanes.unblock(key, entry):
            self._to_drain[key] = None
            self.wake()

    def held_back(self, keys: Sequence[str]) -> None:
        """Take that a person has made events of these keys held, to be applied once more in their order."""
        for key in keys:
            self._lanes.hold_back(key)
            self._to_drain[key] = None
        self.wake()

    # Time

    @property
    def _timeout_ms(self) -> int:
        return self.handler.attempt_timeout_ms or bound.ATTEMPT_TIMEOUT_MS

    def watch(self) -> None:
        """Cut off attempts that take longer than they may."""
        now = self._clock.monotonic_ms()
        for slot in list(self._slots):
            if slot.delivery is None or slot.is_lost:
                continue
            if slot.cut_ms and now - slot.cut_ms > CUT_GRACE_MS:
                slot.is_lost = True
                self._lost += 1
                log.warning("%s was cut off and goes on all the same; its slot is given back", self.name)
                self._answer(slot.delivery, Failed("the attempt took too long, and does not stop"), ())
                if self._ready:
                    self._wake_slot()
            elif not slot.cut_ms and now - slot.began_ms > self._timeout_ms:
                assert slot.task is not None
                slot.cut_ms = now
                slot.task.cancel()

    async def stop(self, grace_ms: int) -> None:
        """Begin nothing more; wait for what is under way, at most this long, then cut it off."""
        self._stopping = True
        self._ready.clear()
        self.wake()
        if self.running:
            self._all_idle = asyncio.get_running_loop().create_future()
            await asyncio.wait([self._all_idle], timeout=grace_ms / 1000)
        tasks = [slot.task for slot in self._slots if slot.task is not None]
        for task in tasks:
            task.cancel()
        if tasks:
            await asyncio.wait(tasks, timeout=CUT_GRACE_MS / 1000)
