"""What comes to a participant and is for the owner of another shard: left in the store they share, and found there.

A message is left as a row and only then acknowledged; the owner takes it as if it had just been delivered, and removes
it afterwards. Whatever was taken and not removed is taken once more, which is no news. What somebody is to be told of
(an operator's verb) gets its answer in the same row.
"""

from __future__ import annotations

import asyncio
import logging
from collections import deque
from collections.abc import Awaitable, Callable, Mapping
from contextlib import suppress
from contextvars import ContextVar
from typing import Any

import msgspec

from minuet.contracts.envelope import Envelope
from minuet.engine.row import Decision, Lease, PassedKey, PassedRow
from minuet.errors import InvalidPayload, MinuetError, StoreError, StoreUnavailable
from minuet.ids import run_text
from minuet.runtime.ownership import Ownership
from minuet.runtime.participant import Participant
from minuet.runtime.view import Acknowledged

log = logging.getLogger("minuet")

LOOK_EVERY_MS = 1_000
PAGE = 200
ANSWER_LOOK_MS, ANSWER_LOOK_AT_MOST_MS = 20, 500
ANSWER_WITHIN_MS = 30_000
ANSWER_KEPT_MS = 300_000  # for somebody who is slow to fetch it; who has died never does
TOPIC, ASKED, WANTS = "minuettopic", "minuetask", "minuetwants"

Perform = Callable[[str, str, Mapping[str, Any]], Awaitable[Acknowledged]]
"""Performs a verb (first) about a run, by its public id, with these arguments."""

_answering: ContextVar[bool] = ContextVar("minuet-answering", default=False)


def is_answering() -> bool:
    """Say whether what goes on here was asked by another participant: it is not to be passed on once more."""
    return _answering.get()


class Passing:
    """One for each participant that shares its store.

    `hear`: takes a message that was delivered to another participant; its future gives None when it is done with, else
    why it cannot be. `perform`: performs what a person has asked elsewhere. None: nobody here does.
    """

    def __init__(self, participant: Participant, address: str, lease_ms: int) -> None:
        self.hear: Callable[[Envelope], asyncio.Future[str | None]] | None = None
        self.perform: Perform | None = None
        self._participant = participant
        self._source = f"/{address}"
        self._within_ms = max(ANSWER_WITHIN_MS, 3 * lease_ms)
        self._under_way: set[str] = set()
        self._answers: deque[tuple[int, str]] = deque()
        self._news: asyncio.Future[None] | None = None
        self._is_closed = False
        self.left = 0
        self.taken = 0

    def open(self) -> None:
        """Begin to look for what was left for us."""
        self._participant.spawn(self._run())

    def close(self) -> None:
        """Take nothing more; it is for whoever owns the shards next."""
        self._is_closed = True

    def look(self) -> None:
        """Look now: somebody has left something, or more is owned."""
        if self._news is not None and not self._news.done():
            self._news.set_result(None)

    # Leaving

    async def leave(self, envelope: Envelope, run: int) -> None:
        """Leave a message for the owner of a run; it is durable when this returns."""
        await self._leave(f"{envelope.source} {envelope.id}", envelope, self._owners().shard(run))

    async def ask_for_share(self) -> None:
        """Leave word for an owner, another one each time, that nothing is owned here and something is wanted."""
        owners, now = self._owners(), self._participant.clock.now_ms()
        shard = (now // LOOK_EVERY_MS) % owners.shards
        envelope = self._envelope(f"share:{owners.owner}:{shard}", "share", {WANTS: owners.owner}, {})
        await self._leave(envelope.id, envelope, shard)

    async def ask(self, verb: str, run: int, given: Mapping[str, Any]) -> Acknowledged:
        """Have the owner of a run do something about it, and give what he says; raises what he raises.

        Raises:
            StoreUnavailable: he has said nothing in time; it is unknown whether it was done, and may still be.
        """
        participant, clock = self._participant, self._participant.clock
        text = run_text(run)
        envelope = self._envelope(
            f"{verb}:{text}:{participant.new_id()}", verb, {ASKED: verb, "minuetrun": text}, given
        )
        await self._leave(envelope.id, envelope, self._owners().shard(run))
        until_ms, delay_ms = clock.monotonic_ms() + self._within_ms, ANSWER_LOOK_MS
        while (answer := await participant.store.answer_of(envelope.id)) is None:
            if clock.monotonic_ms() >= until_ms or participant.stopping:
                raise StoreUnavailable(
                    f"whoever owns run {text} has not answered {verb!r} yet; it is unknown whether it was done",
                    remedy="See how the run is, and ask again: minuet show",
                    run=text,
                )
            await clock.sleep_ms(delay_ms)
            delay_ms = min(2 * delay_ms, ANSWER_LOOK_AT_MOST_MS)
        self._remove(envelope.id)
        return _read(answer)

    def _envelope(self, id_: str, verb: str, attributes: Mapping[str, str | int], given: Mapping[str, Any]) -> Envelope:
        now = self._participant.clock.now_ms()
        return Envelope("", id_, self._source, f"minuet.{verb}", "", now, attributes, msgspec.json.encode(given))

    async def _leave(self, message: str, envelope: Envelope, shard: int) -> None:
        kept = envelope._replace(attributes={**envelope.attributes, TOPIC: envelope.topic})
        decision = Decision()
        now = self._participant.clock.now_ms()
        decision.ensure_messages().passed = [PassedRow(message, shard, kept.to_json().decode(), now)]
        await self._participant.record(decision)
        self.left += 1

    # Taking

    async def _run(self) -> None:
        clock = self._participant.clock
        while not self._is_closed:
            self._news = asyncio.get_running_loop().create_future()
            with suppress(StoreError):
                await self._take_all()
            self._forget_answers()
            sleeping = asyncio.ensure_future(clock.sleep_ms(LOOK_EVERY_MS))
            try:
                await asyncio.wait([sleeping, self._news], return_when=asyncio.FIRST_COMPLETED)
            finally:
                sleeping.cancel()

    async def _take_all(self) -> None:
        owners = self._owners()
        if not owners.owns_some:
            return
        for row in await self._participant.store.passed([lease.shard for lease in owners.held], PAGE):
            lease = owners.lease_of_shard(row.shard)
            if row.message not in self._under_way and lease is not None and not self._is_closed:
                self._under_way.add(row.message)
                self._begin(row, lease)

    def _begin(self, row: PassedRow, lease: Lease) -> None:
        """Take a message; those about one run are heard in the order in which they were left."""
        try:
            attributes = (envelope := _envelope_of(row)).attributes
        except InvalidPayload as e:
            log.error("what was left as %s cannot be read: %s", row.message, e)  # noqa: TRY400 - it says it all
            return
        if WANTS in attributes:
            self._owners().wanted_by(str(attributes[WANTS]))
            self._done(row)
        elif ASKED in attributes:
            self._participant.spawn(self._answer(row, envelope, lease))
        elif self.hear is not None:
            self._participant.spawn(self._heard(row, self.hear(envelope)))

    async def _heard(self, row: PassedRow, heard: asyncio.Future[str | None]) -> None:
        if await heard is None:
            self._done(row)
        else:
            self._under_way.discard(row.message)  # the next look finds it, or its owner does

    async def _answer(self, row: PassedRow, envelope: Envelope, lease: Lease) -> None:
        try:
            if (answer := await self._answered(envelope)) is not None:
                decision = Decision()
                decision.fence = lease
                decision.ensure_messages().passed = [row._replace(answer=answer)]
                await self._participant.record(decision)
                self.taken += 1
                self._answers.append((self._participant.clock.monotonic_ms(), row.message))
        except StoreError as e:
            log.debug("%s could not be answered, and is tried again: %s", row.message, e)
        finally:
            self._under_way.discard(row.message)

    async def _answered(self, envelope: Envelope) -> str | None:
        """Do what was asked; None where nobody here does it."""
        if self.perform is None:
            return None
        _answering.set(True)  # this task does nothing else
        verb, run = str(envelope.attributes[ASKED]), str(envelope.attributes["minuetrun"])
        given: dict[str, Any] = msgspec.json.decode(envelope.data or b"{}")
        try:
            done = await self.perform(verb, run, given)
        except StoreError:
            raise
        except MinuetError as e:
            said: dict[str, Any] = {"code": e.code, "message": e.message, "remedy": e.remedy}
        except Exception as e:  # whoever asked is told, and not left to wait
            log.exception("%s of run %s failed", verb, run)
            said = {"code": MinuetError.code, "message": f"{type(e).__name__}: {e}", "remedy": ""}
        else:
            said = {"outcome": done.outcome, "message": done.message}
        return msgspec.json.encode(said).decode()

    def _done(self, row: PassedRow) -> None:
        self.taken += 1
        decision = Decision()
        decision.ensure_messages().passed_done = [PassedKey(row.message)]
        decision.token = _Removed(self._under_way, row.message)
        self._participant.store.submit(decision)

    def _remove(self, message: str) -> None:
        decision = Decision()
        decision.ensure_messages().passed_done = [PassedKey(message)]
        self._participant.store.submit(decision)

    def _forget_answers(self) -> None:
        """Remove answers that nobody has fetched."""
        now = self._participant.clock.monotonic_ms()
        while self._answers and now - self._answers[0][0] > ANSWER_KEPT_MS:
            self._remove(self._answers.popleft()[1])

    def _owners(self) -> Ownership:
        assert self._participant.ownership is not None, "only who shares a store leaves anything in it"
        return self._participant.ownership


class _Removed:
    """What the removal of a row bears: from then on the same would be another one."""

    def __init__(self, under_way: set[str], message: str) -> None:
        self._under_way, self._message = under_way, message

    def settled(self, _decision: Decision | None, _error: Exception | None) -> None:
        self._under_way.discard(self._message)


def _envelope_of(row: PassedRow) -> Envelope:
    """Give a message as it came here. Raises InvalidPayload."""
    envelope = Envelope.from_json("", row.envelope)
    attributes = dict(envelope.attributes)
    topic = str(attributes.pop(TOPIC, ""))
    return envelope._replace(topic=topic, attributes=attributes)


def _read(answer: str) -> Acknowledged:
    """Give what an owner has said, or raise it."""
    said: dict[str, Any] = msgspec.json.decode(answer)
    if "code" not in said:
        return Acknowledged(**said)
    kind = _kinds(MinuetError).get(said["code"], MinuetError)
    raise kind(said["message"], remedy=said["remedy"])


def _kinds(of: type[MinuetError]) -> dict[str, type[MinuetError]]:
    """Give the errors that need nothing but a message, by code."""
    found = {of.code: of} if "__init__" not in vars(of) or of is MinuetError else {}
    for kind in of.__subclasses__():
        found |= _kinds(kind)
    return found
