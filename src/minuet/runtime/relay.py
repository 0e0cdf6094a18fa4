"""Hands what a participant has to say to the broker, once it is durable here, and forgets it once it is there.

The rows are the truth: what was committed and not confirmed is sent when the program is back. Sent twice is no harm,
since whoever hears it leaves out what is known. A broker that may forget what it has confirmed is told once more when
it was away: so long is what it has confirmed kept here.
"""

from __future__ import annotations

import asyncio
import contextlib
import logging
from collections import deque
from collections.abc import Iterable

from minuet.contracts.envelope import Envelope, time_text
from minuet.engine.broker import Broker, BrokerCapability
from minuet.engine.row import ConfirmedRow, Decision, SendingRow, SentKey
from minuet.errors import BrokerUnavailable, InvalidPayload, StoreError
from minuet.runtime.participant import Participant

log = logging.getLogger("minuet")

BATCH = 256
IN_MEMORY = 10_000  # beyond that what is committed is read again when its turn comes
TRY_AGAIN_MS = 200
TRY_AGAIN_AT_MOST_MS = 5_000
KEPT_MS = 600_000  # what a broker that may forget has confirmed; twice what any of those that we know may lose
FORGET_EVERY_MS = 60_000
ALWAYS_MS = 1 << 62  # later than whatever any clock has said
LOOK_EVERY_MS = 30_000  # what a process has left that owned nothing; sent by several it is heard once


class Relay:
    """One for each participant that speaks to others."""

    def __init__(self, participant: Participant, broker: Broker) -> None:
        self._participant = participant
        self._store = participant.store
        self._broker = broker
        self._ready: deque[SendingRow] = deque()
        self._is_behind = True  # there may be rows that are not in memory
        self._is_lossy = BrokerCapability.SYNCED not in broker.capabilities
        self._is_doubted = self._is_lossy  # what the broker has confirmed may be lost
        self._waiter: asyncio.Future[None] | None = None
        self.is_cut_off = False  # the broker, or the store, did not answer when it was last asked
        self.sent = 0

    @property
    def backlog(self) -> int:
        """Give how many messages wait in memory; what is beyond that is in the store."""
        return len(self._ready)

    def open(self) -> None:
        """Begin with what was not confirmed before."""
        self._participant.spawn(self._run())
        if self._is_lossy:
            self._broker.on_return(self._doubt)
            self._participant.spawn(self._forget())

    def send(self, rows: Iterable[SendingRow]) -> None:
        """Send what has just become durable, in this order."""
        if len(self._ready) > IN_MEMORY:
            self._is_behind = True
        elif not self._is_behind:
            self._ready.extend(rows)
        if self._waiter is not None and not self._waiter.done():
            self._waiter.set_result(None)

    def look(self) -> None:
        """Send what is only in the store: of somebody who shares it, or of a commit that nobody was told of."""
        self._is_behind = True
        if self._waiter is not None and not self._waiter.done():
            self._waiter.set_result(None)

    def settled(self, _: Decision | None, error: Exception | None) -> None:
        """Take what became of what was recorded here: where it is not, the same is sent once more."""
        if error is not None:
            self.look()

    def _doubt(self) -> None:
        """Send again what the broker has confirmed, and may have forgotten since."""
        self._is_doubted = True
        self.look()

    async def watch(self) -> None:
        """Look now and then, where somebody shares the store."""
        while True:
            await self._participant.clock.sleep_ms(LOOK_EVERY_MS)
            self.look()

    async def _run(self) -> None:
        delay_ms = TRY_AGAIN_MS
        while True:
            sent = self.sent
            try:
                if self._is_behind:
                    await self._catch_up()
                while self._ready:
                    batch = [self._ready[i] for i in range(min(BATCH, len(self._ready)))]
                    await self._publish(batch)
                    for _ in batch:
                        self._ready.popleft()
            except (BrokerUnavailable, StoreError) as e:
                if not self.is_cut_off:  # said once, not at each attempt
                    log.warning("messages wait, and are sent when this is over: %s", e)
                self.is_cut_off = self._is_behind = True
                self._ready.clear()
                if self.sent > sent:  # it was there in between
                    delay_ms = TRY_AGAIN_MS
                await self._participant.clock.sleep_ms(delay_ms)
                delay_ms = min(2 * delay_ms, TRY_AGAIN_AT_MOST_MS)
                continue
            if self.is_cut_off:
                self.is_cut_off = False
                log.warning("messages are sent again")
            delay_ms = TRY_AGAIN_MS
            self._waiter = asyncio.get_running_loop().create_future()
            if not self._ready and not self._is_behind:
                await self._waiter

    async def _catch_up(self) -> None:
        """Send what is only in the store; what is committed meanwhile may be sent twice, but is not passed over."""
        self._is_behind = False
        self._ready.clear()
        if self._is_doubted:
            await self._again()
        after = 0
        while rows := await self._store.sending(after, BATCH):
            await self._publish(rows)
            after = rows[-1].entry or 0

    async def _again(self) -> None:
        self._is_doubted, is_done, after = False, False, 0
        try:
            while rows := await self._store.confirmed(ALWAYS_MS, after, BATCH):
                await self._publish(rows)
                after = rows[-1].entry or 0
            is_done = True
        finally:
            self._is_doubted |= not is_done

    async def _forget(self) -> None:
        """Forget what was confirmed long ago."""
        while True:
            await self._participant.clock.sleep_ms(FORGET_EVERY_MS)
            with contextlib.suppress(StoreError):  # the next round sees to it
                while rows := await self._store.confirmed(self._participant.clock.now_ms() - KEPT_MS, 0, BATCH):
                    decision = Decision()
                    decision.ensure_messages().sent = [SentKey(row.message) for row in rows]
                    await self._participant.record(decision)

    async def _publish(self, rows: list[SendingRow]) -> None:
        readable = [(row, e) for row in rows if (e := _read(row)) is not None]
        await self._broker.publish(await self._numbered([envelope for _, envelope in readable]))
        self.sent += len(readable)
        decision = Decision(token=self)
        if self._is_lossy:
            now = self._participant.clock.now_ms()
            decision.ensure_messages().confirmed = [ConfirmedRow(now, row.message) for row, _ in readable]
        else:
            decision.ensure_messages().sent = [SentKey(row.message) for row, _ in readable]
        self._store.submit(decision)

    async def _numbered(self, envelopes: list[Envelope]) -> list[Envelope]:
        """Number plain events: each says which one of its type and key it comes after, and when that was."""
        plain = [i for i, e in enumerate(envelopes) if e.attributes.get("minuetkind") == "event" and not _is_of_run(e)]
        found = [(i, await self._store.find_published(envelopes[i].source, envelopes[i].id)) for i in plain]
        events = [(i, row) for i, row in found if row is not None and row.entry is not None]
        previous = await self._store.previous_of([row for _, row in events]) if events else []
        for (i, row), before in zip(events, previous, strict=True):
            numbers = {"sequence": str(row.entry), "minuetprevious": str(before)}
            if before and (earlier := await self._store.log_after(before - 1, 1)):
                numbers["minuetprevioustime"] = time_text(earlier[0].at_ms)
            envelopes[i] = envelopes[i]._replace(attributes={**envelopes[i].attributes, **numbers})
        return envelopes


def _is_of_run(envelope: Envelope) -> bool:
    return "minuetrun" in envelope.attributes


def _read(row: SendingRow) -> Envelope | None:
    """Give a message; None where its row is damaged: it stays, and must not hold up the others."""
    try:
        return Envelope.from_json(row.topic, row.envelope)
    except InvalidPayload as e:
        log.error("message %s cannot be sent: %s", row.message, e)  # noqa: TRY400 - the message says it all
        return None


def sending(envelopes: Iterable[Envelope]) -> list[SendingRow]:
    """Give messages as rows."""
    return [SendingRow(None, f"{e.source} {e.id}", e.topic, e.to_json().decode()) for e in envelopes]
