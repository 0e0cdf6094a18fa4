"""One subscription at work: reads its events from the outbox, has its reaction perform them, sees to what failed.

Memory is bounded: it reads no further while `DELIVERIES_IN_MEMORY` of its events are being applied, or queue for it.
What failed, or waits behind another of its key, is a row in the store and not in memory. The position moves on behind
the oldest event that has neither been applied nor got a row, so nothing is passed over.
"""

from __future__ import annotations

import asyncio
import contextlib
import logging
from collections.abc import Callable, Sequence

from minuet.engine import bound, inbox
from minuet.engine.answer import Failed
from minuet.engine.basis import Basis
from minuet.engine.dead_letter import Reason
from minuet.engine.inbox import Delivery, Policy
from minuet.engine.lane import Lanes
from minuet.engine.port import StoredDelivery
from minuet.engine.row import Decision, DeliveryKey, DeliveryRow, EventRow, Messages, SubscriptionRow
from minuet.errors import Conflict, SecondCause, StaleOwner, StoreError
from minuet.runtime.acting import ActingReaction
from minuet.runtime.buffer import Buffer
from minuet.runtime.event_log import EventLog
from minuet.runtime.handler import Handler
from minuet.runtime.participant import Participant
from minuet.runtime.paths import Paths
from minuet.runtime.reaction import Reaction
from minuet.runtime.slots import Slots
from minuet.runtime.taking_back import Later, TakingBack
from minuet.runtime.taking_over import begin_anew, take_over

log = logging.getLogger("minuet")

BATCH = 256
TRY_AGAIN_MS = 200  # after trouble with the store


class _Told:
    """What a decision about some deliveries bears: whom to tell that it is durable, or is not."""

    __slots__ = ("_take",)

    def __init__(self, take: Callable[[Decision | None, Exception | None], None]) -> None:
        self._take = take

    def settled(self, decision: Decision | None, error: Exception | None) -> None:
        self._take(decision, error)


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
        undo: Handler | None = None,
        acting: ActingReaction | None = None,
    ) -> None:
        self.policy = policy
        self._acting = acting
        self._participant = participant
        self._store = participant.store
        self._clock = participant.clock
        self._row = row
        self._late_before = row.late
        self._wake_all = wake_all
        self._reaction = Reaction(participant, policy, handler, undo, self, acting)
        self.slots: Slots[Delivery] = Slots(
            self._reaction, participant.clock, limit=limit, name=f"minuet-{policy.name}"
        )
        self._lanes = Lanes(is_ordered=policy.order_key is not None)
        self.buffer = (
            Buffer(participant, policy, self._lanes, self, self._room) if policy.order_key is not None else None
        )
        self._taking_back = TakingBack(participant.store, policy, self) if policy.also is not None else None
        self._withdrawing: dict[int, Delivery] = {}  # what is taken back before it was applied, by its notice's entry
        self.taken = row.position
        self.log = EventLog(participant.store, policy, row.position)
        self._suspects = bound.DELIVERIES_IN_MEMORY
        self._open: dict[int, None] = {}  # taken from the outbox, and neither applied nor recorded; ascending
        self._again: set[int] = set()  # taken from the store's deliveries
        self._left: set[int] = set()  # what has left memory since the store was asked for what waits in it
        self._to_drain: dict[str, None] = {}
        self._to_hold: list[Delivery] = []
        self._holding = Basis()
        self._holds = 0  # decisions that are under way
        self._to_keep: list[Delivery] = []  # early ones
        self._more = True
        self._waiter: asyncio.Future[None] | None = None
        self._alarm_ms = inbox.NEVER_MS
        self._look_at_due = True
        self._is_starved = False
        self._stopping = False
        self.applied = 0
        self.dead = 0

    @property
    def name(self) -> str:
        """Give `service.reaction`."""
        return self.policy.name

    @property
    def row(self) -> SubscriptionRow:
        """Give its row as it was recorded, or submitted, last."""
        return self._row

    @property
    def since_ms(self) -> int:
        """Give when it began, ever."""
        return self._row.since_ms

    @property
    def position(self) -> int:
        """Give the entry up to which everything is applied, or has a row of its own."""
        return next(iter(self._open)) - 1 if self._open else self.taken

    @property
    def in_memory(self) -> int:
        """Give how many events are in memory."""
        return len(self._open) + len(self._again)

    @property
    def running(self) -> int:
        """Give how many events are being performed."""
        return self.slots.running

    @property
    def late(self) -> int:
        """Give how many events were left out, ever, because a newer one of their key had been applied."""
        return self._late_before + (self.buffer.left if self.buffer is not None else 0)

    def _room(self) -> int:
        return bound.DELIVERIES_IN_MEMORY - self.in_memory

    def is_in_flight(self, entry: int) -> bool:
        """Say whether an event is being applied, or queues for it."""
        return entry in self._open or entry in self._again

    # Reading

    def open(self, until_entry: int) -> None:
        """Begin; up to this entry the last process may have applied some."""
        self.log.until_recovered = until_entry
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
                if self.buffer is not None and self.buffer.has_work:
                    await self.buffer.release()
                    self._is_starved = self._is_starved or self.buffer.has_work
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
        if self.policy.instance:
            await begin_anew(self._participant, self.policy)
            return
        await take_over(self._participant, self.policy)
        rows = await self._store.deliveries_open(self.policy.subscription)
        if self.buffer is not None:
            early = await self.buffer.recover()
            rows = [row for row in rows if row[1] not in early]
        self._lanes.recall(rows, dead_block=self.policy.blocks)
        self._to_drain = dict.fromkeys(self._lanes.to_drain())

    async def _read_new(self) -> None:
        while not self._stopping:
            room = self._room()
            stalled = self._lanes.stalled + (0 if self.buffer is None else self.buffer.stalled)
            self._is_starved = room <= 0 or stalled > bound.KEYS_STALLED
            if self._is_starved:
                return
            limit = min(room, BATCH)
            rows, is_all = await self.log.next(self.taken, limit)
            if self.buffer is not None:
                await self.buffer.learn(rows)
            for row in rows:
                self._take(row)
            self._hold()
            self._keep()
            if is_all:
                self.taken = max(self.taken, self.log.until_recovered)
                return

    def _take(self, event: EventRow) -> None:
        entry = event.entry
        assert entry is not None, "a stored event has its entry"
        self.taken = max(self.taken, entry)
        self._open[entry] = None
        is_suspect = entry <= self.log.until_recovered and self._suspects > 0
        if is_suspect:
            self._suspects -= 1
        delivery = Delivery(event, entry, inbox.order_key_of(self.policy, event), None, is_suspect)
        if event.sequence is not None and self.buffer is not None:
            taken = self.buffer.take(delivery, self._now())
            if not isinstance(taken, Delivery):
                if taken is not None:
                    self._leave_out(delivery, taken)
                return
            delivery = taken
        todo = self._lanes.take(delivery)
        if todo == "run":
            self.start(delivery)
        elif todo == "hold":
            self._to_hold.append(delivery)

    def _leave_out(self, delivery: Delivery, decision: Decision) -> None:
        """Have it recorded that an event is not applied; it takes no turn in its lane."""
        decision.token = _Told(lambda _, error: self._is_left_out(delivery, decision, error))
        self._store.submit(decision)

    def _is_left_out(self, delivery: Delivery, decision: Decision, error: Exception | None) -> None:
        if isinstance(error, StaleOwner):
            self.abandon()
        elif isinstance(error, StoreError):
            self._participant.spawn(self._leave_out_later(delivery, decision))
        else:  # also if it had been recorded before, and nobody was told
            assert decision.messages is not None
            if decision.messages.applied:
                self.applied += 1
            else:
                self._count_dead(delivery, next(iter(decision.messages.deliveries)))
            self._forget(delivery.entry)
            self._read_on()

    async def _leave_out_later(self, delivery: Delivery, decision: Decision) -> None:
        await self._clock.sleep_ms(TRY_AGAIN_MS)
        if not self._stopping:
            self._leave_out(delivery, decision)

    async def _read_due(self) -> None:
        subscription = self.policy.subscription
        room = max(1, min(BATCH, self._room()))
        self._left.clear()
        for stored in self._at_rest(await self._store.deliveries_due(subscription, self._now(), room)):
            self.take_back(stored)
        due_ms = await self._store.next_delivery_due(subscription)
        if due_ms is not None:
            self._set_alarm(due_ms)
        if self.buffer is not None and (due_ms := await self.buffer.look(self._now())) is not None:
            self._set_alarm(due_ms)
        if self.policy.fence is not None:
            await self._look_at_blockers()

    async def _look_at_blockers(self) -> None:
        """Let keys go on that a person has let go on at somebody who shares the store."""
        blockers = self._lanes.blockers | (self.buffer.parked if self.buffer is not None else set())
        blockers = {entry for entry in blockers if not self.is_in_flight(entry)}  # else its row is still to come
        if not blockers:
            return
        found = await self._store.deliveries_of(self.policy.subscription, sorted(blockers))
        left = {x.delivery.entry for x in found if x.delivery.state in ("waiting", "running", "dead", "early")}
        for entry in sorted(blockers - left):
            for event in await self.log.between(entry, entry, 1):
                if not self.is_in_flight(entry):
                    self.let_go(event, inbox.order_key_of(self.policy, event), entry)

    def _at_rest(self, read: Sequence[StoredDelivery]) -> list[StoredDelivery]:
        """Leave out what is in flight, or was until a moment ago: its row has become another meanwhile."""
        return [x for x in read if not self.is_in_flight(x.delivery.entry) and x.delivery.entry not in self._left]

    def take_back(self, stored: StoredDelivery, *, is_streamed: bool = False) -> None:
        """Take an event into memory that waits in the store, to be applied."""
        row, event, _ = stored
        delivery = Delivery(event, row.entry, row.key, row, is_streamed=is_streamed)
        if self.buffer is not None and not is_streamed:
            self.buffer.forced(event)
        self._again.add(delivery.entry)
        if self._lanes.take_back(delivery) == "run":
            self.start(delivery)

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
            self._left.clear()
            try:
                held = self._at_rest(await self._store.deliveries_held(self.policy.subscription, key, BATCH))
            except StoreError:
                self._to_drain[key] = None
                raise
            if not self._lanes.is_to_drain(key):
                continue  # it was blocked anew meanwhile, or something of it is about to be recorded
            for stored in held:
                self.take_back(stored)
            if held:
                continue
            if self._lanes.drained(key, mark):
                self._freed(key)
            else:
                self._to_drain[key] = None
                self._more = True

    def _freed(self, key: str) -> None:
        """Take that a key may go on: those of a stream may that wait for it."""
        if self.buffer is not None:
            self.buffer.freed(key)
            self._more = self._more or self.buffer.has_work

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

    # Applying

    def start(self, delivery: Delivery) -> None:
        """Have an event applied whose turn has come, unless something speaks against it."""
        if self._stopping:
            return
        if (objection := inbox.objection(self.policy, delivery)) is not None:
            if objection[0] == Reason.HOP_LIMIT:
                self._participant.spawn(self._dead_in_circle(delivery, objection[1]))
                return
            self._reaction.record(delivery, inbox.dead(self.policy, delivery, *objection, self._now()))
        elif self._taking_back is not None and self._taking_back.is_concerned(delivery.event):
            self._participant.spawn(self._see(delivery, self._taking_back))
        else:
            self._begin(delivery)

    async def _see(self, delivery: Delivery, taking_back: TakingBack) -> None:
        try:
            leave = await taking_back.look(delivery)
        except Later:
            return
        except StoreError:
            await self._start_later(delivery)
            return
        if leave is None:
            self._begin(delivery)
        elif leave.original is None:
            self._reaction.record(delivery, inbox.applied(self.policy, delivery, ()))
        else:
            self._again.add(leave.original.entry)  # so that nobody begins it meanwhile
            self._withdrawing[delivery.entry] = leave.original
            self._reaction.record(delivery, inbox.withdrawn(self.policy, delivery, leave.original, self._now()))

    def _begin(self, delivery: Delivery) -> None:
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

    async def _start_knowing(self, delivery: Delivery, error: SecondCause, acting: ActingReaction) -> None:
        with contextlib.suppress(StoreError):  # else it is refused once more
            await acting.refused(delivery.entry, error)
        await self._start_later(delivery)

    async def _dead_in_circle(self, delivery: Delivery, error: str) -> None:
        circle = await Paths(self._participant).circle_of(delivery.event)
        dead = inbox.dead(self.policy, delivery, Reason.HOP_LIMIT, f"{error}: {circle}", self._now())
        self._reaction.record(delivery, dead)

    async def _start_later(self, delivery: Delivery) -> None:
        await self._clock.sleep_ms(TRY_AGAIN_MS)
        self.start(delivery)

    def _enqueue(self, delivery: Delivery) -> None:
        if not self._stopping:
            self.slots.put(delivery)

    # What has become durable

    def settled(self, delivery: Delivery, decision: Decision | None, error: Exception | None) -> None:
        """Take what became of an answer."""
        if self._acting is not None:
            self._acting.settled(delivery.entry)
        original = self._withdrawing.get(delivery.entry) if self._withdrawing else None
        if original is not None:
            self._forget(original.entry)
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
            if self._participant.outward is not None:
                self._participant.outward.send(messages.sending)
            for kept in decision.inbox:
                self._participant.matcher.look_at(kept.event, kept.key)
        else:
            self._settle_failed(delivery, next(iter(messages.deliveries)))
        self._read_on()

    def _read_on(self) -> None:
        if self._is_starved and self.in_memory <= bound.DELIVERIES_IN_MEMORY // 2:
            self.wake_due()

    def _settle_applied(self, delivery: Delivery) -> None:
        self.applied += 1
        self._forget(delivery.entry)
        if self.policy.order_key is not None:
            self._go_past(delivery)
        if self._withdrawing and (original := self._withdrawing.pop(delivery.entry, None)) is not None:
            self.let_go(original.event, original.key, original.entry)

    def _settle_failed(self, delivery: Delivery, row: DeliveryRow) -> None:
        self._forget(delivery.entry)
        if row.state == "dead":
            self._count_dead(delivery, row)
        else:
            self._set_alarm(row.next_at_ms)
        if row.state == "dead" and not self.policy.blocks:
            self._go_past(delivery)
            return
        fresh, stored, streamed = self._lanes.block(delivery)
        self._to_hold += fresh
        self._hold()
        self._again.difference_update(d.entry for d in stored)
        if streamed and self.buffer is not None:
            self._again.difference_update(d.entry for d in streamed)
            self.buffer.put_back(streamed, self._now())
            self._keep()

    def _count_dead(self, delivery: Delivery, row: DeliveryRow) -> None:
        self.dead += 1
        log.warning("%s cannot apply event %s: %s", self.name, delivery.event.message, row.reason)

    def _go_past(self, delivery: Delivery) -> None:
        """Let a key go on behind an event that was in its lane."""
        key = delivery.key
        if (following := self._lanes.next(key)) is not None:
            self.start(following)
        self.let_go(delivery.event, key, delivery.entry)

    def _forget(self, entry: int) -> None:
        self._open.pop(entry, None)
        if entry in self._again:
            self._again.discard(entry)
            self._left.add(entry)
        self._reaction.quiet.discard(entry)
        if self._taking_back is not None:
            self._taking_back.forgotten(entry)

    def _not_recorded(self, delivery: Delivery, error: Exception) -> None:
        if isinstance(error, StaleOwner):
            self.abandon()
        elif isinstance(error, Conflict) and "applied" in error.subject:
            self._clear(delivery)
        elif isinstance(error, StoreError):
            self._participant.spawn(self._find_out(delivery))
        elif isinstance(error, SecondCause) and self._acting is not None:
            self._participant.spawn(self._start_knowing(delivery, error, self._acting))
        elif isinstance(error, Conflict):  # a wait has taken what this published when it was applied before
            self._reaction.quiet.add(delivery.entry)
            self._participant.spawn(self._start_later(delivery))
        else:
            text = f"{type(error).__name__}: {error}"
            self._reaction.record(delivery, inbox.failed(self.policy, delivery, Failed(text), self._now()))

    async def _find_out(self, delivery: Delivery) -> None:
        """Learn what became of an answer that may have been recorded, and go on from there.

        To begin the event once more instead would be to record a failure, say, of what has been applied.
        """
        subscription, event, entry = self.policy.subscription, delivery.event.event, delivery.entry
        while True:
            await self._clock.sleep_ms(TRY_AGAIN_MS)
            try:
                unapplied = await self._store.events_unapplied(subscription, event, entry - 1, 1)
                found = await self._store.deliveries_of(subscription, [entry])
                break
            except StoreError:
                continue
        if self._stopping:
            return
        if found and found[0].delivery.state in ("waiting", "dead", "skipped"):
            self._settle_failed(delivery, found[0].delivery)
        elif found or (unapplied and unapplied[0].entry == entry):
            self.start(delivery)
        else:
            self._settle_applied(delivery)
        self._read_on()

    def _clear(self, delivery: Delivery) -> None:
        """Remove the row of an event that was applied before: by it, it would be applied once more some day."""
        decision = self.policy.decision()
        decision.ensure_messages().deliveries_done = [DeliveryKey(self.policy.subscription, delivery.entry)]
        decision.token = _Told(lambda _, error: self._is_clear(delivery, error))
        self._store.submit(decision)

    def _is_clear(self, delivery: Delivery, error: Exception | None) -> None:
        if error is None:
            self._settle_applied(delivery)
            self._read_on()
        elif isinstance(error, StaleOwner):
            self.abandon()
        else:
            self._participant.spawn(self._clear_later(delivery))

    async def _clear_later(self, delivery: Delivery) -> None:
        await self._clock.sleep_ms(TRY_AGAIN_MS)
        if not self._stopping:
            self._clear(delivery)

    # What waits in the store

    def keep(self, deliveries: Sequence[Delivery]) -> None:
        """Have it recorded, with the next ones, that these are early."""
        self._to_keep += deliveries

    def _hold(self) -> None:
        """Record what waits behind another of its key.

        Where that fails, nothing newer is recorded before it: the next process would take it for all there is.
        """
        if not self._to_hold or self._holding.is_lost or self._stopping:
            return
        held, self._to_hold = self._to_hold, []
        decision = inbox.hold(self.policy, held, self._now(), state="held")
        decision.basis = self._holding
        decision.token = _Told(lambda _, error: self._is_held(held, error))
        self._holds += 1
        self._store.submit(decision)

    def _is_held(self, held: list[Delivery], error: Exception | None) -> None:
        self._holds -= 1
        if error is None:
            for delivery in held:
                self._forget(delivery.entry)
                if self._lanes.recorded(delivery.key):
                    self._to_drain[delivery.key] = None
                    self.wake()
            return
        self._to_hold = sorted([*held, *self._to_hold], key=lambda delivery: delivery.entry)
        if not self._holds:
            self._participant.spawn(self._hold_again())

    async def _hold_again(self) -> None:
        await self._clock.sleep_ms(TRY_AGAIN_MS)
        self._holding = Basis()
        self._hold()

    def _keep(self) -> None:
        """Record what waits for another of its stream."""
        if not self._to_keep or self._stopping:
            return
        kept, self._to_keep = self._to_keep, []
        decision = inbox.hold(self.policy, kept, self._now(), state="early")
        decision.token = _Told(lambda _, error: self._is_kept(kept, error))
        self._store.submit(decision)

    def _is_kept(self, kept: list[Delivery], error: Exception | None) -> None:
        if error is not None:
            self._participant.spawn(self._keep_later(kept))
            return
        for delivery in kept:
            self._forget(delivery.entry)
        if self.buffer is not None:
            self._look_at_due = self.buffer.recorded(kept) or self._look_at_due
            self.wake()

    async def _keep_later(self, kept: list[Delivery]) -> None:
        await self._clock.sleep_ms(TRY_AGAIN_MS)
        self._to_keep += kept
        self._keep()

    def progress(self) -> Messages | None:
        """Give the rows that move the position on; None if it has not moved."""
        row = self._row._replace(position=max(self.position, self._row.position), late=self.late)
        if row == self._row:
            return None
        self._row = row
        messages = Messages()
        messages.subscriptions = [row]
        # Of those in memory it may be unknown whether they were applied: then that they were must not be forgotten.
        until = min([row.position, *(entry - 1 for entry in self._again)])
        messages.applied_until = [DeliveryKey(self.policy.subscription, until)]
        return messages

    # What a person does

    def let_go(self, event: EventRow, key: str, entry: int) -> None:
        """Take that a key goes on: an event of it is applied, or a person has skipped or discarded it."""
        if self.buffer is not None:
            self.buffer.settled(event)
        if self._lanes.unblock(key, entry) or self._lanes.is_to_drain(key):
            self._to_drain[key] = None
            self.wake()
        elif self.buffer is not None:
            self.buffer.freed(key)
            if self.buffer.has_work:
                self.wake()

    def held_back(self, keys: Sequence[str]) -> None:
        """Take that a person has made events of these keys held, to be applied once more in their order."""
        for key in keys:
            self._lanes.hold_back(key)
            self._to_drain[key] = None
        self.wake()

    def abandon(self) -> None:
        """End at once: somebody else performs it by now, and goes on from what is recorded."""
        if self._stopping:
            return
        self._stopping = True
        self.wake()
        if self._acting is not None:
            self._acting.abandon()
        self._participant.spawn(self.slots.stop(0))

    async def stop(self, grace_ms: int) -> None:
        """Begin nothing more; wait for what is under way, at most this long, then cut it off."""
        self._stopping = True
        self.wake()
        await self.slots.stop(grace_ms)
