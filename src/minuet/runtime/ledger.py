"""The effect ledger at work: what takes effect once for a business key has its turn alone, and has one cause.

Before an action with an `effect_key` runs, it gets the turn of its key: others that would cause the same effect wait
until its end is durable, without a slot. Then the store is asked. So a second cause is found before it has done
anything; the unique key in the store has the last word all the same, and what it refuses is folded anew and asked
again. Turns are for this process only: a crash leaves none behind.
"""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass
from typing import Any

from minuet.contracts.codec import codec_for
from minuet.contracts.service import Service, service_spec
from minuet.engine import effect
from minuet.engine.answer import Answer, Done, DoneWith, Failed
from minuet.engine.decided import Decided
from minuet.engine.knowledge import COMPENSATION, FORWARD, MISSING, Action, Knowledge
from minuet.engine.row import Decision, EffectKey, EffectRow
from minuet.errors import InvalidPayload, StoreError
from minuet.ids import op_key
from minuet.runtime.handler import Handler
from minuet.runtime.participant import Participant
from minuet.runtime.paths import Paths
from minuet.workflows.expression import ExpressionFailed

log = logging.getLogger("minuet")

Turn = tuple[str, str]
"""`service.action`, and the business key."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Guard:
    """An action that takes effect once for a key."""

    name: str
    path: tuple[str, ...]
    same: bool
    record: Any
    decoders: Mapping[str, Callable[[bytes], Any]]

    def arguments(self, given: Mapping[str, Any]) -> bytes:
        """Give arguments as JSON in one form, whoever passes them; what is injected is left out."""
        record = self.record(**{name: given[name] for name in self.decoders if name in given})
        return codec_for(self.record).encode(record)

    def turn(self, arguments: bytes) -> Turn:
        """Give the turn that this needs. Raises InvalidPayload where there is no key."""
        return self.name, effect.key_of(arguments, self.path)


def guards_of(services: Iterable[Service]) -> dict[tuple[str, str], Guard]:
    """Give the actions of services that declare an `effect_key`, by service and action."""
    found = {}
    for service in services:
        spec = service_spec(type(service))
        for action in spec.actions.values():
            if action.effect_key is not None:
                found[spec.name, action.name] = Guard(
                    name=f"{spec.name}.{action.name}",
                    path=tuple(action.effect_key.split(".")),
                    same=action.on_second_cause == "same",
                    record=action.input,
                    decoders={p.name: codec_for(p.type).decode for p in action.parameters},
                )
    return found


class Turns:
    """Who is causing which effect right now, and who waits for that."""

    def __init__(self) -> None:
        self._held: dict[Turn, object] = {}
        self._waiting: dict[Turn, list[Callable[[], object]]] = {}

    def take(self, turn: Turn, holder: object) -> bool:
        """Take a turn unless somebody else has it; also from the store's thread."""
        return self._held.setdefault(turn, holder) is holder

    def wait(self, turn: Turn, wake: Callable[[], object]) -> None:
        """Be woken when it is free, to try again."""
        self._waiting.setdefault(turn, []).append(wake)

    async def taken(self, turn: Turn, holder: object) -> None:
        """Wait until a turn is taken."""
        while not self.take(turn, holder):
            free: asyncio.Future[None] = asyncio.get_running_loop().create_future()
            self.wait(turn, lambda free=free: free.done() or free.set_result(None))  # type: ignore[misc]
            await free

    def free(self, turn: Turn, holder: object) -> None:
        """Give a turn back, and wake whoever waits for it."""
        if self._held.get(turn) is holder:
            del self._held[turn]
            for wake in self._waiting.pop(turn, ()):
                wake()


class Guarded(Handler):
    """A handler whose success tells the ledger; for one attempt."""

    __slots__ = ("_effects",)

    def __init__(self, handler: Handler, effects: Callable[[bytes | None], tuple[EffectRow | EffectKey, ...]]) -> None:
        for name in Handler.__slots__:
            setattr(self, name, getattr(handler, name))
        self._effects = effects

    def done(self, result: Any) -> Answer:
        """Classify a returned value."""
        answer = super().done(result)
        return DoneWith(answer.value, self._effects(answer.value)) if isinstance(answer, Done) else answer


class Claim:
    """That an attempt has the turn of its effect, until its end is durable."""

    __slots__ = ("_participant", "_turn", "_turns", "_worked")

    def __init__(self, participant: Participant, turns: Turns, turn: Turn) -> None:
        self._participant = participant
        self._turns = turns
        self._turn = turn
        self._worked: Callable[[Decision | None, Exception | None], None] | None = None

    def free(self, _: object = None) -> None:
        """Give the turn back."""
        self._turns.free(self._turn, self)

    def until_durable(self, take: Callable[[], Decided | None]) -> Callable[[], Decided | None]:
        """Have the turn given back when what an answer decides is durable; at once where it decides nothing."""

        def taking() -> Decided | None:
            d = None
            try:
                d = take()
            finally:
                if d is None or d.decision.messages is None:
                    self.free()
                else:
                    self._participant.acknowledge(d).add_done_callback(self._committed)
            return d

        return taking

    def _committed(self, done: asyncio.Future[None]) -> None:
        if not done.cancelled():
            done.exception()  # the participant has seen to it
        self.free()

    def bearing(self, worked: Callable[[Decision | None, Exception | None], None]) -> Claim:
        """Be what a transactional handler bears: `worked` takes what became of it, then the turn is given back."""
        self._worked = worked
        return self

    def settled(self, decision: Decision | None, error: Exception | None) -> None:
        """Take what became of the handler."""
        assert self._worked is not None
        try:
            self._worked(decision, error)
        finally:
            self.free()


class Ledger:
    """The effects of the actions that one participant performs."""

    def __init__(self, participant: Participant, guards: Mapping[tuple[str, str], Guard]) -> None:
        self.guards = guards
        self.turns = Turns()
        self.paths = Paths(participant)
        self._participant = participant
        self._claims: dict[tuple[Action, int], Claim] = {}

    def claim_of(self, action: Action, ticket: int) -> Claim | None:
        """Give, once, the claim of an attempt that has its answer, or is handed to the store."""
        return self._claims.pop((action, ticket), None)

    async def admit(
        self, action: Action, handler: Handler, arguments: Mapping[str, Any], ticket: int
    ) -> Handler | None:
        """Say with which handler an attempt goes on; None: it is answered already, or comes again when it may.

        A compensation whose effect is somebody else's by now has nothing of its own to take back, and is done.
        """
        guard = self._guard(action)
        if guard is None:
            return handler
        k, participant, is_forward = action.knowledge, self._participant, action.direction == FORWARD
        try:
            sent = guard.arguments(arguments if is_forward else self._taken_back(action, guard))
            turn = guard.turn(sent)
        except _NotHere:
            return handler
        except (InvalidPayload, ExpressionFailed) as e:
            if not is_forward:
                return handler  # so it has not taken effect under any key
            participant.answered(action, ticket, Failed(str(e), final=True), [])
            return None
        claim = Claim(participant, self.turns, turn)
        if not self.turns.take(turn, claim):
            self.turns.wait(turn, lambda: self._come_again(action))
            return None
        self._claims[action, ticket] = claim
        own = op_key(k.run, action.rule.position, action.round, FORWARD)
        try:
            row = await participant.store.find_effect(*turn)
        except StoreError as e:
            participant.answered(action, ticket, Failed(f"the ledger of effects cannot be read: {e}"), [])
            return None
        if not is_forward:
            if row is not None and row.op_key != own:
                log.info("%s of %r is left as it is: it was caused by %s", *turn, row.causes)
                participant.answered(action, ticket, Done(None), [])
                return None
            freed = (EffectKey(*turn, own),) if row is not None else ()
            return Guarded(handler, lambda _: freed)
        if row is not None:
            participant.answered(action, ticket, await self._known(guard, turn, row, action, sent), [])
            return None
        path = self._path(action)
        return Guarded(handler, lambda result: (self.row(turn, own, path, sent, result),))

    def row(self, turn: Turn, own: str, path: str, arguments: bytes, result: bytes | None) -> EffectRow:
        """Give the row of an effect."""
        told = result.decode() if result is not None else None
        return EffectRow(*turn, own, path, arguments.decode(), told, self._participant.clock.now_ms())

    def by_hand(self, action: Action, answer: Answer) -> Answer:
        """Give what a person records, with what the ledger is told: that it took effect, or was taken back.

        What was parked as a second cause took effect by the first one: nothing is added.
        """
        guard = self._guard(action)
        if guard is None or not isinstance(answer, Done) or effect.was_second(action.error):
            return answer
        k = action.knowledge
        own = op_key(k.run, action.rule.position, action.round, FORWARD)
        try:
            sent = guard.arguments(self._taken_back(action, guard))
            turn = guard.turn(sent)
        except (_NotHere, InvalidPayload, ExpressionFailed):
            return answer
        if action.direction == COMPENSATION:
            return DoneWith(answer.value, (EffectKey(*turn, own),))
        return DoneWith(answer.value, (self.row(turn, own, f"{self._path(action)}, by hand", sent, answer.value),))

    async def _known(self, guard: Guard, turn: Turn, row: EffectRow, action: Action, sent: bytes) -> Answer:
        k = action.knowledge
        own = op_key(k.run, action.rule.position, action.round, FORWARD)
        if effect.is_settled_by(row, own, sent, same=guard.same):
            return Done(row.result.encode() if row.result is not None else None)
        first = await self.paths.of_effect(row)
        told = effect.second_cause(*turn, first, self._path(action))
        log.warning("second cause: %s", told)
        return effect.parked(told)

    def _guard(self, action: Action) -> Guard | None:
        about = action.knowledge.program.runs[action.rule.position].about
        return self.guards.get((about["service"], about["action"]))

    def _path(self, action: Action) -> str:
        k = action.knowledge
        return effect.step_path(k.program.plan, action.rule.position, action.round, k.run, k.key)

    def _taken_back(self, action: Action, guard: Guard) -> dict[str, Any]:
        """Give the arguments of the step that is at an action's position, decoded."""
        k, round_ = action.knowledge, action.round
        return {
            name: guard.decoders[name](_raw(k, v, round_))
            for name, v in k.program.runs[action.rule.position].arguments
            if name in guard.decoders
        }

    def _come_again(self, action: Action) -> None:
        if self._participant.runs.get(action.knowledge.run) is action.knowledge:
            self._participant.worker.start(action)


class _NotHere(Exception):
    """The arguments of a step are not known here: another participant has performed it."""


def _raw(k: Knowledge, value: int, round_: tuple[int, ...]) -> bytes:
    if k.read(value, round_) is MISSING:
        raise _NotHere
    return k.raw(value, round_)
