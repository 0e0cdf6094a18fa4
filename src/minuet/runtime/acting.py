"""Actions that a reaction awaits: `await self.charge(order_id, amount)`, as in a workflow, within the reaction.

Such an action gets its arguments as they would arrive, and what it wants injected; its writes are in the reaction's
transaction, and what it publishes leaves with what the reaction does. Its `op_key` is the delivery's identity (from
the second action on with an ordinal), so it is the same at every attempt. One that declares an `effect_key` goes
through the ledger: what it has done is recorded in the decision that the event is applied; or failed, where that does
not undo it.

A second cause fails the reaction, whatever that makes of the error. Once a transaction has begun nothing can be asked
of the store, so then only turns are looked at, and what was refused before at the commit.
"""

from __future__ import annotations

import asyncio
import contextvars
import logging
import types
from collections.abc import Callable, Coroutine, Generator, Mapping
from dataclasses import replace
from typing import Any, Final

from minuet.contracts.action import ActionSpec, Rejection
from minuet.contracts.codec import codec_for
from minuet.contracts.handler import Context, collected, collecting
from minuet.contracts.service import Service, service_spec
from minuet.contracts.signature import bound_arguments
from minuet.contracts.step import CallSite, Promise, Step, perform_with
from minuet.engine import effect
from minuet.engine.answer import Answer, Done, DoneWith, Failed, Rejected
from minuet.engine.inbox import Delivery
from minuet.engine.port import Statement
from minuet.engine.row import EffectRow
from minuet.errors import Busy, DeclarationError, InvalidPayload, MisplacedCall, SecondCause
from minuet.runtime.handler import Handler, Handlers
from minuet.runtime.ledger import Guard, Ledger, Turn
from minuet.runtime.participant import Participant
from minuet.runtime.threads import ThreadPool
from minuet.runtime.transaction import StatementTransaction
from minuet.workflows.reader.source import file_label

log = logging.getLogger("minuet")

_HIDDEN: Final = "transaction of what is awaited"  # no name that a parameter could have

Known = Mapping[Turn, tuple[EffectRow, str]]
"""Effects that the store has refused to have again, each with the path by which it came about."""


class Acting:
    """What the reactions of one participant may await. `ledger`: None where nothing takes effect once for a key."""

    def __init__(
        self, participant: Participant, handlers: Handlers, threads: ThreadPool, ledger: Ledger | None
    ) -> None:
        self.participant = participant
        self.handlers = handlers
        self.threads = threads
        self.ledger = ledger
        self.transaction = StatementTransaction()

    def of(self, name: str, handler: Handler) -> ActingReaction | None:
        """Give what one reaction may await; None where its service has no actions."""
        spec = service_spec(type(handler.service))
        return ActingReaction(self, name, handler.service) if spec.actions else None


class ActingReaction:
    """The attempts of one reaction that are under way."""

    def __init__(self, acting: Acting, name: str, service: Service) -> None:
        self.acting = acting
        self.name = name
        self.service = service
        spec = service_spec(type(service))
        self.spec = spec
        self.emits = tuple({e: None for a in spec.actions.values() for e in a.emits})
        found = (acting.handlers.find(spec.name, a) for a in spec.actions)
        self.is_transactional = any(h is not None and h.transactional is not None for h in found)
        self._attempts: dict[int, Attempt] = {}
        self._known: dict[int, Known] = {}

    def begin(self, handler: Handler, delivery: Delivery) -> Handler:
        """Give the handler with which an attempt is made; `settled` ends it."""
        attempt = Attempt(self, delivery, self._known.pop(delivery.entry, {}))
        self._attempts[delivery.entry] = attempt
        return _Handler(handler, attempt)

    def settled(self, entry: int) -> None:
        """Take that it was recorded what became of an attempt, or that this could not be."""
        attempt = self._attempts.pop(entry, None)
        if attempt is not None:
            attempt.end()

    def abandon(self) -> None:
        """Take that nobody waits for any attempt any more."""
        for entry in list(self._attempts):
            self.settled(entry)

    async def refused(self, entry: int, error: SecondCause) -> None:
        """Learn by what an effect was caused that the store has refused; for the next attempt."""
        if self.acting.ledger is None:
            return
        turn = (str(error.subject["action"]), str(error.subject["key"]))
        row = await self.acting.participant.store.find_effect(*turn)
        if row is not None:
            self._known[entry] = {turn: (row, await self.acting.ledger.paths.of_effect(row))}


class _Performed:
    """What an attempt gives that has come to its end."""

    def __init__(self, effects: tuple[EffectRow, ...]) -> None:
        self.effects = effects


class _Interrupted(Exception):
    """That an attempt has failed after something took effect that stands."""

    def __init__(self, error: BaseException, effects: tuple[EffectRow, ...]) -> None:
        super().__init__()
        self.error = error
        self.effects = effects


class _Handler(Handler):
    """A reaction with what it awaits; for one attempt."""

    __slots__ = ()

    def __init__(self, handler: Handler, attempt: Attempt) -> None:
        for name in Handler.__slots__:
            setattr(self, name, getattr(handler, name))
        self.emits = (*handler.emits, *attempt.reaction.emits)
        self.function = attempt.around(handler)
        if self.transactional is None and attempt.reaction.is_transactional:
            self.transactional = _HIDDEN  # what it awaits may begin the transaction

    def done(self, result: Any) -> Answer:
        """Classify the end of an attempt."""
        if not isinstance(result, _Performed):
            return super().done(result)
        return DoneWith(None, result.effects) if result.effects else Done(None)

    def raised(self, error: BaseException) -> Answer:
        """Classify an exception."""
        if not isinstance(error, _Interrupted):
            return super().raised(error)
        answer = super().raised(error.error)
        return replace(answer, effects=error.effects) if isinstance(answer, Failed | Rejected) else answer


class Attempt:
    """One attempt of a reaction: the performer of what it awaits."""

    def __init__(self, reaction: ActingReaction, delivery: Delivery, known: Known) -> None:
        self.reaction = reaction
        self._delivery = delivery
        self._known = known
        self._place = ""
        self._events: list[Any] = []
        self._actions = 0
        self._turns: set[Turn] = set()
        self._under_way: dict[Turn, str] = {}  # with their paths
        self._done: dict[Turn, EffectRow] = {}
        self._refused: SecondCause | None = None
        self._in_transaction = False
        self._is_over = False

    def around(self, handler: Handler) -> Callable[..., Coroutine[Any, Any, Any]]:
        """Give the reaction's function, with this to perform what it awaits."""
        self._place = file_label(handler.function)
        declared = handler.emits

        async def function(service: Service, **arguments: Any) -> _Performed:
            arguments.pop(_HIDDEN, None)
            context = contextvars.copy_context()
            context.run(perform_with, self)
            self._events = collected()
            context.run(collecting(handler.name, declared, self._events).__enter__)
            try:
                await self._driven(handler.function(service, **arguments), context)
            except (GeneratorExit, asyncio.CancelledError):
                raise
            except BaseException as e:
                error = e if self._refused is None else self._refused
                effects = self._effects()
                if effects and not self._in_transaction:
                    raise _Interrupted(error, effects) from e
                raise error from None
            if self._refused is not None:  # it has caught what concerns a person
                effects = self._effects()
                raise _Interrupted(self._refused, effects) if effects and not self._in_transaction else self._refused
            return _Performed(self._effects())

        return function

    def _effects(self) -> tuple[EffectRow, ...]:
        return tuple(self._done.values())

    @types.coroutine
    def _driven(self, coroutine: Coroutine[Any, Any, Any], context: contextvars.Context) -> Generator[Any, Any, Any]:
        """Await a coroutine in a context of its own: it goes on in the store's thread, where tokens mean nothing."""
        value, error = None, None
        while True:
            try:
                asked = context.run(coroutine.send, value) if error is None else context.run(coroutine.throw, error)
            except StopIteration as end:
                return end.value
            self._in_transaction = self._in_transaction or isinstance(asked, Statement)
            try:
                value, error = (yield asked), None
            except BaseException as e:
                value, error = None, e

    def end(self) -> None:
        """Give the turns back; nothing is performed any more."""
        self._is_over = True
        ledger = self.reaction.acting.ledger
        if ledger is not None:
            for turn in self._turns:
                ledger.turns.free(turn, self)

    # What is awaited

    async def perform(self, promise: Promise[Any]) -> Any:
        """Do what is awaited, and give its value."""
        if not isinstance(promise, Step) or promise.bound.service is not self.reaction.service:
            raise MisplacedCall(
                f"{promise} was awaited in the reaction {self.reaction.name}, which awaits actions of its own service",
                remedy="Publish an event that the other service reacts to, or write a workflow",
            )
        if promise.compensation is not None or promise.kept or promise.retry_policy or promise.timeout_ms:
            raise MisplacedCall(
                f"{promise} says how a workflow is to do it, and was awaited in the reaction {self.reaction.name}",
                remedy="Leave that out; the reaction as a whole is tried again: @on(…, retry=…)",
            )
        if self._is_over:
            raise MisplacedCall(f"{promise} was awaited after its time was over", remedy="Let it be cut off")
        spec = self.reaction.spec.actions[promise.bound.action.name]
        where = f"{self.reaction.spec.name}.{spec.name}"
        codec = codec_for(spec.input)
        arguments = codec.encode(spec.input(**bound_arguments(where, spec, promise)))
        ordinal = f":{self._actions}" if self._actions else ""
        own = f"{self.reaction.name}:{self._delivery.entry}{ordinal}"
        self._actions += 1
        ledger = self.reaction.acting.ledger
        guard = None if ledger is None else ledger.guards.get((self.reaction.spec.name, spec.name))
        if ledger is None or guard is None:
            value, _ = await self._call(spec, own, arguments)
            return value
        path = effect.reaction_path(self.reaction.name, f"{self._place}:{promise.site.line}", self._delivery.event)
        return await self._once(ledger, guard, spec, own, arguments, path)

    async def enter(self, block: Any) -> None:
        """Refuse a block of a workflow."""
        raise _no_workflow(block)

    async def leave(self, block: Any, error: BaseException | None) -> bool:
        """Refuse a block of a workflow."""
        raise _no_workflow(block)

    def decide(self, service: object, condition: object, site: CallSite) -> bool:
        """Refuse a decision of a workflow."""
        raise _no_workflow("at(…)")

    async def _once(self, ledger: Ledger, guard: Guard, spec: ActionSpec, own: str, arguments: bytes, path: str) -> Any:
        """Perform an action that takes effect once for a key."""
        turn = guard.turn(arguments)
        if turn in self._under_way:  # the reaction does it twice at once
            raise self._second(turn, self._under_way[turn], path)
        self._under_way[turn] = path
        try:
            row, first = await self._first(ledger, turn)
            if row is None:
                value, result = await self._call(spec, own, arguments)
                self._done[turn] = ledger.row(turn, own, path, arguments, result)
                return value
            if effect.is_settled_by(row, own, arguments, same=guard.same):
                return codec_for(spec.result).decode(b"null" if row.result is None else row.result.encode())
            if _is_in_loop():
                path += await ledger.paths.before(self._delivery.event)
            raise self._second(turn, first, path)
        finally:
            del self._under_way[turn]

    async def _first(self, ledger: Ledger, turn: Turn) -> tuple[EffectRow | None, str]:
        """Take the turn of an effect; give what took effect already, and by which path."""
        if turn in self._done:
            return self._done[turn], self._done[turn].causes
        if not _is_in_loop():
            if not ledger.turns.take(turn, self):
                raise Busy(f"{turn[0]} is being done for {turn[1]!r} right now", remedy="It is tried again")
            self._turns.add(turn)
            return self._known.get(turn, (None, ""))
        await ledger.turns.taken(turn, self)
        self._turns.add(turn)
        row = await self.reaction.acting.participant.store.find_effect(*turn)
        return row, "" if row is None else await ledger.paths.of_effect(row)

    def _second(self, turn: Turn, first: str, second: str) -> SecondCause:
        """Give the error of a second cause, which is also what the whole attempt comes to."""
        told = effect.second_cause(*turn, first, second)
        log.warning("second cause: %s", told)
        self._refused = SecondCause(told, remedy="Drop one of the two causes, or give them different keys")
        return self._refused

    async def _call(self, spec: ActionSpec, own: str, arguments: bytes) -> tuple[Any, bytes | None]:
        """Call an action; gives what it returns, and that as JSON text."""
        acting = self.reaction.acting
        handler = acting.handlers.find(self.reaction.spec.name, spec.name)
        assert handler is not None, "a participant has the actions of its services"
        record = codec_for(spec.input).decode(arguments)
        given: dict[str, Any] = {p.name: getattr(record, p.name) for p in spec.parameters} | handler.injected
        if handler.transactional is not None:
            given[handler.transactional] = acting.transaction
        if handler.wants_context is not None:
            given[handler.wants_context] = Context(
                run="",
                key=self._delivery.event.key,
                workflow="",
                position=self.reaction.name,
                attempt=self._delivery.attempts + 1,
                op_key=own,
                input_bytes=arguments,
            )
        context = contextvars.copy_context()
        context.run(perform_with, None)
        context.run(collecting(handler.name, handler.emits, self._events).__enter__)
        try:
            if handler.is_async:
                value = await self._driven(handler.function(self.reaction.service, **given), context)
            else:
                plain = handler.function
                value = await acting.threads.call(lambda: context.run(plain, self.reaction.service, **given))
        except Rejection as rejection:
            if rejection.code not in {r.code for r in spec.rejects}:
                raise DeclarationError(
                    f'{handler.name} rejected with "{rejection.code}", which it does not declare',
                    remedy=f"Declare it: @action(rejects=({type(rejection).__name__},))",
                ) from rejection
            raise
        answer = handler.done(value)
        if not isinstance(answer, Done):
            raise InvalidPayload(str(getattr(answer, "error", answer)), remedy="Return what is declared")
        return value, answer.value


def _is_in_loop() -> bool:
    """Say whether the event loop is here; else this is the store's thread."""
    try:
        asyncio.get_running_loop()
    except RuntimeError:
        return False
    return True


def _no_workflow(what: object) -> MisplacedCall:
    return MisplacedCall(f"{what} was used in a reaction, which is no workflow", remedy="Write a workflow for it")
