"""The embedded broker: messages are rows of a store of its own, and whoever listens is woken in this process.

Publishing is a decision of the store: grouped with others into one commit and one sync, and an identity is kept once.
After the commit those who are caught up are handed what was published from memory; nothing is read, nothing polls.
Who is behind is read for, batch by batch. How far a group has come is recorded at leisure, so that a crash repeats what
was acknowledged in the last second.
"""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Callable, Collection, Coroutine, Sequence
from typing import Any, Literal, NamedTuple, Protocol

from minuet.brokers.embedded_group import Group, Member, Published
from minuet.contracts.envelope import Envelope
from minuet.engine.broker import EVERYTHING, BrokerCapability, Received
from minuet.engine.port import Outcome, Store
from minuet.engine.row import Decision, EventRow, SubscriptionRow
from minuet.errors import BrokerUnavailable, StoreError

log = logging.getLogger("minuet")

READ_MAX = 128  # messages in one read for a group that is behind
RECORD_MS = 1_000  # how long a position may stay unrecorded: so much is repeated after a crash
RETRY_MS = 1_000  # until what failed is tried again: a read, or a subscriber that could not take what it was given


class BrokerClock(Protocol):
    """What a broker needs of a clock."""

    def now_ms(self) -> int:
        """Give milliseconds since 1970 UTC."""
        ...

    async def sleep_ms(self, duration_ms: float) -> None:
        """Wait that long."""
        ...


class _Submitted(NamedTuple):
    """What a decision was about: what it publishes, and who waits for it."""

    told: asyncio.Future[None]
    published: Sequence[Published]

    def tell(self, error: Exception | None) -> None:
        """Tell whoever waits for it what became of it."""
        if self.told.done():
            return  # nobody waits any more
        if error is None:
            self.told.set_result(None)
        else:
            self.told.set_exception(_unavailable(error))


class EmbeddedBroker:
    """A broker in this process, over a store that nobody else writes; it opens and closes the store.

    To be opened once. Its groups are in this process only: several processes need a broker of their own.
    """

    capabilities = frozenset(BrokerCapability)

    def __init__(self, store: Store, clock: BrokerClock) -> None:
        self._store = store
        self._clock = clock
        self._groups: dict[str, Group] = {}  # those that were subscribed to in this process
        self._recorded: dict[str, SubscriptionRow] = {}
        self._joining = asyncio.Lock()
        self._is_open = False
        self._closing: asyncio.Task[None] | None = None
        self._tasks: set[asyncio.Task[None]] = set()
        self._is_recording = False
        self._entry = 0  # the newest that was given out
        self._last = 0  # the newest that is known to be committed
        self._at_ms = 0  # instants never go back along the log
        self._is_unsure = False  # a commit failed: what was in it may be in the log, and was handed to nobody

    async def open(self) -> None:
        """Open the store, and see how far each group has come.

        Raises:
            BrokerUnavailable: the store cannot be opened.
            AlreadyOpen: another process holds it.
        """
        self._loop = asyncio.get_running_loop()
        try:
            await self._store.open(self._on_outcomes)
            rows = await self._store.subscriptions()
            last = await self._store.last_entry()
            newest = await self._store.log_after(last - 1, 1)
        except StoreError as error:
            await self._store.close()
            raise _unavailable(error) from error
        self._recorded = {row.name: row for row in rows}
        # A repetition is given an entry that is never in the log, and groups pass it.
        self._entry = self._last = max([last, *(row.position for row in rows)])
        self._at_ms = max((row.at_ms for row in newest), default=0)
        self._is_open = True

    async def close(self) -> None:
        """Record how far each group has come, and close the store. Idempotent."""
        if self._closing is None:
            self._closing = asyncio.ensure_future(self._close())
        await asyncio.shield(self._closing)

    def on_return(self, call: Callable[[], None] | None) -> None:
        """Do nothing: what was confirmed is on the disk."""

    async def publish(self, batch: Sequence[Envelope]) -> None:
        """Publish messages in this order; returns when all are committed and synced.

        Raises:
            BrokerUnavailable: unknown which of them were taken; the same again is safe.
        """
        if not batch:
            return
        self._require_open()
        decision = Decision()
        first = self._entry + 1
        published = [Published(entry, envelope) for entry, envelope in enumerate(batch, first)]
        self._at_ms = max(self._at_ms, self._clock.now_ms())
        decision.ensure_messages().outbox = [_row(entry, envelope, self._at_ms) for entry, envelope in published]
        told = self._submit(decision, published)
        self._entry += len(published)
        await told

    async def subscribe(
        self,
        group: str,
        topics: Collection[str],
        deliver: Callable[[Sequence[Received]], None],
        *,
        start: Literal["now", "beginning"] | int = "now",
        prefetch: int = 512,
    ) -> EmbeddedSubscription:
        """Have messages of these topics delivered to a group; a new one begins at `start`.

        Raises:
            BrokerUnavailable: a new group could not be recorded.
        """
        assert prefetch > 0, "a subscriber takes something"
        self._require_open()
        async with self._joining:
            known = self._groups.get(group) or await self._found(group, start)
        member = Member(deliver, frozenset(topics), prefetch)
        known.join(member)
        self.wake(known)
        return EmbeddedSubscription(self, known, member)

    async def leave(self, group: str) -> None:
        """Say that a group is no more: nothing is kept for it. Subscribed to again, it is new.

        Raises:
            BrokerUnavailable: unknown whether it is recorded; the same again is safe.
        """
        self._require_open()
        async with self._joining:
            row = self._recorded.get(group)
            if row is not None:
                left = self._groups.pop(group, None)
                if left is not None:
                    left.disband()
                await self._record([row._replace(active=0)])

    async def forget(self, before_ms: int, limit: int = 1_000) -> int:
        """Remove messages that came before an instant and that every group has passed; give how many, up to `limit`.

        Raises:
            BrokerUnavailable: the store does not answer.
        """
        self._require_open()
        positions = [row.position for name, row in self._recorded.items() if row.active and name not in self._groups]
        positions += [group.position for group in self._groups.values()]
        try:
            until = min([await self._store.entry_before(before_ms), *positions])
            return await self._store.forget_events(until, limit)
        except StoreError as error:
            raise _unavailable(error) from error

    def wake(self, group: Group) -> None:
        """See, in the next turn of the loop, what is to be delivered to a group, or read for it."""
        if not group.is_woken and self._is_open:
            group.is_woken = True
            self._loop.call_soon(self._serve, group)

    def acknowledge(self, group: Group, entries: Sequence[int]) -> None:
        """Be done with messages of a group."""
        group.acknowledge(entries)
        self.wake(group)
        self._record_soon()

    def repeat(self, group: Group, entries: Sequence[int], delay_ms: float) -> None:
        """Have released messages of a group delivered again after a while."""
        due_ms = self._clock.now_ms() + delay_ms

        async def wait() -> None:
            await self._clock.sleep_ms(due_ms - self._clock.now_ms())
            group.repeat(entries)
            self.wake(group)

        if entries and self._is_open:
            self._begin(wait())

    def _serve(self, group: Group) -> None:
        group.is_woken = False
        if not self._is_open:
            return
        for member, batch in group.next_batches():
            try:
                member.deliver(batch)
            except Exception:  # one subscriber's mistake is nobody else's
                log.exception("a subscriber of %s could not take what it was given", group.name)
                self.repeat(group, group.release(member, [received.tag for received in batch]), RETRY_MS)
        if group.is_to_be_read_for and group.reading is None:
            group.reading = self._begin(self._catch_up(group))

    async def _catch_up(self, group: Group) -> None:
        """Read for a group until it has no room, or has caught up."""
        try:
            while group.is_to_be_read_for:
                last = self._last
                try:
                    rows = await self._store.log_after(group.cursor, READ_MAX)
                except StoreError as error:
                    log.warning("messages wait for %s, since they cannot be read: %s", group.name, error)
                    await self._clock.sleep_ms(RETRY_MS)
                    continue
                if not group.is_heard:
                    return  # its last member left meanwhile, and who comes next may hear other topics
                for damaged in group.take(rows):
                    log.error("a message for %s is damaged, and left out: %s", group.name, damaged)
                if len(rows) < READ_MAX:
                    group.cursor = max(group.cursor, last)
                    group.awaits_commit = self._is_unsure
                    group.is_behind = self._is_unsure or group.cursor < self._last
                self.wake(group)
                self._record_soon()
        finally:
            group.reading = None

    def _on_outcomes(self, outcomes: Sequence[Outcome]) -> None:
        """Hand on what was committed, and tell who waits for it."""
        published: list[Published] = []
        has_failed = is_sure = False
        for outcome in outcomes:
            assert outcome.decision is not None, "nothing but decisions is submitted"
            submitted = outcome.decision.token
            assert isinstance(submitted, _Submitted), "nobody else submits here"
            if outcome.error is None:
                is_sure = True
                published += submitted.published
            else:
                has_failed = has_failed or bool(submitted.published)
            submitted.tell(outcome.error)
        if has_failed:
            self._doubt()
        if published:
            self._last = published[-1].entry
        if is_sure and (published or self._is_unsure):
            self._is_unsure = False
            by_topic = _by_topic(published)
            for group in self._groups.values():
                group.awaits_commit = False
                group.offer(by_topic, self._last)
                self.wake(group)
            self._record_soon()

    def _doubt(self) -> None:
        """Have every group read what it is given next, since nobody knows what is in the log now."""
        self._is_unsure = True
        for group in self._groups.values():
            group.is_behind = True

    async def _found(self, name: str, start: Literal["now", "beginning"] | int) -> Group:
        """Make a group as it was recorded, or a new one."""
        row = self._recorded.get(name)
        if row is None or not row.active:
            number = row.subscription if row else 1 + max((r.subscription for r in self._recorded.values()), default=0)
            position = await self._entry_before(start)
            row = SubscriptionRow(number, name, EVERYTHING, position, 1, self._clock.now_ms())
            await self._record([row])
        group = self._groups[name] = Group(row)
        return group

    async def _entry_before(self, start: Literal["now", "beginning"] | int) -> int:
        if start == "now":
            return self._last
        if start == "beginning":
            return 0
        try:
            return await self._store.entry_before(start)
        except StoreError as error:
            raise _unavailable(error) from error

    def _record_soon(self) -> None:
        if not self._is_recording and self._is_open:
            self._is_recording = True
            self._begin(self._record_later())

    async def _record_later(self) -> None:
        await self._clock.sleep_ms(RECORD_MS)
        self._is_recording = False
        try:
            await self._record(self._moved())
        except BrokerUnavailable:
            self._record_soon()

    def _moved(self) -> list[SubscriptionRow]:
        """Give how far groups have come, where that is not recorded."""
        recorded = [(group, self._recorded[name]) for name, group in self._groups.items()]
        return [row._replace(position=group.position) for group, row in recorded if group.position > row.position]

    async def _record(self, rows: Sequence[SubscriptionRow]) -> None:
        if rows:
            await self._submit_positions(rows)
            self._recorded.update({row.name: row for row in rows})

    def _submit_positions(self, rows: Sequence[SubscriptionRow]) -> asyncio.Future[None]:
        decision = Decision()
        decision.ensure_messages().subscriptions = list(rows)
        return self._submit(decision, ())

    def _submit(self, decision: Decision, published: Sequence[Published]) -> asyncio.Future[None]:
        told: asyncio.Future[None] = self._loop.create_future()
        decision.token = _Submitted(told, published)
        try:
            self._store.submit(decision)
        except StoreError as error:
            raise _unavailable(error) from error
        return told

    async def _close(self) -> None:
        was_open, self._is_open = self._is_open, False
        for task in self._tasks:
            task.cancel()
        left: list[asyncio.Future[None]] = [*self._tasks]
        moved = self._moved() if was_open else []
        if moved:
            left.append(self._submit_positions(moved))
        await self._store.close()
        await asyncio.gather(*left, return_exceptions=True)  # a position that is not recorded is repeated from

    def _begin(self, work: Coroutine[Any, Any, None]) -> asyncio.Task[None]:
        task = self._loop.create_task(work)
        self._tasks.add(task)
        task.add_done_callback(self._tasks.discard)
        return task

    def _require_open(self) -> None:
        if not self._is_open:
            raise BrokerUnavailable("the broker is not open; nothing was published", remedy="Open it first")


class EmbeddedSubscription:
    """What one member of a group hears."""

    def __init__(self, broker: EmbeddedBroker, group: Group, member: Member) -> None:
        self._broker = broker
        self._group = group
        self._member = member

    def acknowledge(self, tags: Sequence[int]) -> None:
        """Say that these are durably handled."""
        self._broker.acknowledge(self._group, tags)

    def release(self, tags: Sequence[int], delay_ms: int) -> None:
        """Say that these could not be handled: they are delivered again after a while, out of order."""
        self._broker.repeat(self._group, self._group.release(self._member, tags), delay_ms)

    async def change(self, topics: Collection[str]) -> None:
        """Hear these topics from now on."""
        self._group.change(self._member, frozenset(topics))

    async def close(self) -> None:
        """Stop hearing; what comes meanwhile waits for the group. What was not acknowledged is delivered again."""
        self._group.leave(self._member)
        self._broker.wake(self._group)


def _row(entry: int, envelope: Envelope, at_ms: int) -> EventRow:
    body = envelope.to_json().decode()
    return EventRow(
        entry,
        envelope.source,
        envelope.id,
        envelope.topic,
        1,
        envelope.key,
        body,
        0,
        "",
        envelope.time_ms,
        at_ms,
    )


def _by_topic(published: Sequence[Published]) -> dict[str, Sequence[Published]]:
    by_topic: dict[str, list[Published]] = {}
    for message in published:
        by_topic.setdefault(message.envelope.topic, []).append(message)
    return {**by_topic, EVERYTHING: published}


def _unavailable(error: Exception) -> BrokerUnavailable:
    unavailable = BrokerUnavailable(
        f"the store of the broker did not take it: {error}", remedy="Do the same again: what is there is kept once"
    )
    unavailable.__cause__ = error
    return unavailable
