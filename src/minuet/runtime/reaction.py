"""A reaction as it is performed in slots, one event after the other: called, its answer classified and recorded.

One that takes part in the transaction runs in a slot until its first statement, then in the store's thread; each event
is in one place at a time.
"""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Sequence
from dataclasses import replace
from typing import Any, Protocol

from minuet.contracts.handler import Context, collecting
from minuet.engine import bound, inbox
from minuet.engine.answer import Answer, Done, Failed
from minuet.engine.dead_letter import Reason
from minuet.engine.inbox import Delivery, Policy
from minuet.engine.port import Statement
from minuet.engine.row import Decision, EventRow
from minuet.errors import InvalidPayload, MinuetError
from minuet.runtime.acting import ActingReaction
from minuet.runtime.handler import Handler
from minuet.runtime.outgoing import outgoing
from minuet.runtime.participant import Participant
from minuet.runtime.slots import Slot
from minuet.runtime.transaction import StatementTransaction, TransactionalCall, until_first_statement

log = logging.getLogger("minuet")


class Recipient(Protocol):
    """Who is told what became of an answer."""

    def settled(self, delivery: Delivery, decision: Decision | None, error: Exception | None) -> None:
        """Take that the rows of an answer are durable, or are not."""
        ...


class Applying:
    """What the rows of one answer bear."""

    __slots__ = ("_delivery", "_recipient")

    def __init__(self, recipient: Recipient, delivery: Delivery) -> None:
        self._recipient, self._delivery = recipient, delivery

    def settled(self, decision: Decision | None, error: Exception | None) -> None:
        """Pass it on."""
        self._recipient.settled(self._delivery, decision, error)


class _Call:
    """A method that takes the data of an event."""

    def __init__(self, handler: Handler) -> None:
        self.handler = handler
        self.timeout_ms = handler.attempt_timeout_ms or bound.ATTEMPT_TIMEOUT_MS
        self.argument, self.decode = next(iter(handler.decoders.items()))


class Reaction:
    """The reaction of a subscription, and the action that is called when what it has heard is taken back."""

    def __init__(
        self,
        participant: Participant,
        policy: Policy,
        handler: Handler,
        undo: Handler | None,
        recipient: Recipient,
        acting: ActingReaction | None = None,
    ) -> None:
        self._participant = participant
        self._store = participant.store
        self._clock = participant.clock
        self._policy = policy
        self._recipient = recipient
        self._acting = acting
        self._react = _Call(handler)
        self._undo = _Call(undo) if undo is not None else None
        self._source = f"/{policy.name.partition('.')[0]}"
        self._transaction = StatementTransaction()
        self.quiet: set[int] = set()  # applied once more: what it publishes waits have heard already

    def begin(self, slot: Slot, delivery: Delivery) -> bool:
        """Say which method is called, and how long it may take."""
        call = self._react
        if self._undo is not None and delivery.event.event == self._policy.also:
            call = self._undo
        slot.about = call
        slot.name = call.handler.name
        slot.timeout_ms = call.timeout_ms
        return True

    async def perform(self, slot: Slot, delivery: Delivery) -> None:
        """Call it with an event, and have its answer recorded."""
        call: _Call = slot.about
        handler = call.handler
        if self._acting is not None and call is self._react:
            handler = self._acting.begin(handler, delivery)
        try:
            event = call.decode(delivery.body)
        except InvalidPayload as e:
            now = self._clock.now_ms()
            self.record(delivery, inbox.dead(self._policy, delivery, Reason.UNREADABLE, str(e), now))
            return
        arguments = {call.argument: event, **handler.injected}
        if handler.wants_context is not None:
            arguments[handler.wants_context] = self._context(call, delivery)
        events: list[object] = []
        answer: Answer
        try:
            if handler.transactional is not None:
                arguments[handler.transactional] = self._transaction
                with collecting(handler.name, handler.emits) as events:
                    coroutine = handler.function(handler.service, **arguments)
                    first, result = await until_first_statement(coroutine)
                    if first is not None:
                        self._hand_over(handler, delivery, coroutine, first, events)
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
            log.debug("reaction failed: %s", handler.name, exc_info=e)
        else:
            answer = handler.done(result)
        if not slot.is_lost:
            self.record(delivery, self._decided(delivery, answer, events))

    def failed(self, slot: Slot, delivery: Delivery, failure: Failed) -> None:
        """Take that an attempt was cut off: another one follows."""
        self.record(delivery, self._decided(delivery, replace(failure, final=False), ()))

    def record(self, delivery: Delivery, decision: Decision) -> None:
        """Have what became of an event recorded."""
        decision.token = Applying(self._recipient, delivery)
        self._store.submit(decision)

    def _hand_over(
        self, handler: Handler, delivery: Delivery, coroutine: Any, first: Statement, events: list[object]
    ) -> None:
        """Hand a reaction over to the store at its first statement."""

        def decide(answer: Answer) -> Decision:
            return self._decided(delivery, answer, events)

        self._store.submit_work(
            TransactionalCall(
                coroutine,
                first,
                classify=lambda result, error: handler.done(result) if error is None else handler.raised(error),
                is_awaited=lambda: True,
                decide=decide,
                token=Applying(self._recipient, delivery),
            )
        )

    def _decided(self, delivery: Delivery, answer: Answer, events: Sequence[object]) -> Decision:
        now, published = self._clock.now_ms(), list[EventRow]()
        if events:
            event = delivery.event
            try:
                published = outgoing(
                    events,
                    source=self._source,
                    message=f"{self._policy.name}:{delivery.entry}",
                    key=event.key,
                    hops=event.hops + 1,
                    causes=event.message,
                    now_ms=now,
                )
            except MinuetError as e:
                answer = Failed(str(e), final=True)
        decision = inbox.answered(self._policy, delivery, answer, published, now)
        if published and isinstance(answer, Done) and delivery.entry not in self.quiet:
            decision.inbox = self._participant.kept_for_waits(published)
        if self._participant.outward is not None and decision.messages is not None:
            self._participant.outward.publish(decision, decision.messages.outbox)
        return decision

    def _context(self, call: _Call, delivery: Delivery) -> Context:
        event = delivery.event
        return Context(
            run="",
            key=event.key,
            workflow="",
            position=self._policy.name,
            attempt=delivery.attempts + 1,
            op_key=f"{self._policy.name}:{delivery.entry}",
            input_bytes=b'{"%s":%s}' % (call.argument.encode(), delivery.body),
        )
