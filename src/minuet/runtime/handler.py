"""An action as the runtime calls it: arguments decoded, what it asks for filled in, its answer classified."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from datetime import timedelta
from typing import Any, Final

import msgspec

from minuet.contracts.action import ActionSpec, Parameter, ReactionSpec, Rejection
from minuet.contracts.codec import codec_for
from minuet.contracts.handler import Context, Transaction
from minuet.contracts.service import Service, service_spec
from minuet.engine import bound
from minuet.engine.answer import Answer, Done, Failed, Rejected
from minuet.engine.effect import parked
from minuet.engine.knowledge import COMPENSATION, MISSING, Action
from minuet.errors import DeclarationError, InvalidPayload, MinuetError, SecondCause
from minuet.ids import op_key, run_text
from minuet.workflows.expression import ExpressionFailed

_YEAR_S: Final = 365 * 86_400


class Refused(Exception):
    """The action cannot be called with what it is to be given; `answer` says what follows."""

    def __init__(self, answer: Answer) -> None:
        super().__init__()
        self.answer = answer


class Handler:
    """One action of one service instance."""

    __slots__ = (
        "attempt_timeout_ms",
        "decoders",
        "emits",
        "encode",
        "function",
        "injected",
        "is_async",
        "name",
        "returns_nothing",
        "service",
        "takes_back",
        "transactional",
        "wants_context",
    )

    def __init__(self, service: Service, spec: ActionSpec, provided: Mapping[Any, Any]) -> None:
        assert spec.function is not None
        self.service = service
        self.name = f"{service_spec(type(service)).name}.{spec.name}"
        self.function = spec.function
        self.is_async = spec.is_async
        self.attempt_timeout_ms = spec.attempt_timeout_ms
        self.emits = spec.emits
        self.decoders: dict[str, Callable[[bytes], Any]] = {p.name: codec_for(p.type).decode for p in spec.parameters}
        self.returns_nothing = spec.result in (None, type(None))
        self.encode = codec_for(spec.result).encode_checked
        self.takes_back = False  # whether it undoes an action that publishes
        self.transactional: str | None = None
        self.wants_context: str | None = None
        self.injected: dict[str, Any] = {}
        for name, wanted in spec.injected.items():
            if wanted is Transaction:
                self.transactional = name
            elif wanted is Context:
                self.wants_context = name
            elif wanted in provided:
                self.injected[name] = provided[wanted]
            else:
                raise DeclarationError(
                    f"{self.name} asks for a {getattr(wanted, '__name__', wanted)}, and nobody provides one",
                    remedy="Give it to the app: App(…, provide=[…])",
                )

    def arguments(self, action: Action) -> dict[str, Any]:
        """Give the keyword arguments of a call, decoded into the types of the signature.

        Raises:
            Refused: an expression failed, or a value does not fit the type.
        """
        k, round_, rule = action.knowledge, action.round, action.rule
        try:
            if action.direction == COMPENSATION:
                name, decode = next(iter(self.decoders.items()))
                done = k.outcomes.get((rule.position, round_)) or k.outcomes[rule.position + "!", round_]  # its verdict
                found = {name: decode(done[1] or b"null")}
            else:
                decoders = self.decoders
                found = {name: decoders[name](k.raw(v, round_)) for name, v in rule.arguments if name in decoders}
        except Exception as e:  # a type's own code may raise anything
            why = _told(e) if isinstance(e, ExpressionFailed | InvalidPayload) else f"{type(e).__name__}: {_told(e)}"
            if action.direction != COMPENSATION and "invalid-value" in rule.about["codes"]:
                raise Refused(Rejected("invalid-value", why)) from e
            raise Refused(Failed(f"invalid-value: {why}", final=True)) from e
        if self.injected:
            found.update(self.injected)
        return found

    def context(self, action: Action, workflow: str, report: Callable[[float, str], None]) -> Context:
        """Give what an action may know of the work that it is doing."""
        k, rule = action.knowledge, action.rule
        run_rule = k.program.runs[rule.position]
        inputs = {
            name: msgspec.Raw(k.raw(v, action.round))
            for name, v in run_rule.arguments
            if k.read(v, action.round) is not MISSING  # who compensates another's step has not heard all of it
        }
        return Context(
            run=run_text(k.run),
            key=k.key if k.key is not None else run_text(k.run),
            workflow=workflow,
            position=rule.position,
            round=action.round,
            attempt=action.attempts + 1,
            op_key=op_key(k.run, rule.position, action.round, action.direction),
            input_bytes=msgspec.json.encode(inputs),
            report=report,
        )

    def done(self, result: Any) -> Answer:
        """Classify a returned value."""
        if result is None and self.returns_nothing:
            return Done(None)
        try:
            return Done(self.encode(result))
        except Exception as e:  # a type's own code may raise anything; a list that holds itself has no end
            return Failed(f"{self.name} returned what it does not declare: {_told(e)}", final=True)

    def raised(self, error: BaseException) -> Answer:
        """Classify an exception: a rejection is an answer, everything else is a technical failure."""
        if isinstance(error, Rejection):
            try:
                details = msgspec.json.decode(msgspec.json.encode(error.details)) if error.details else None
            except Exception as e:
                return Failed(f"{self.name} rejected with details that are no JSON: {_told(e)}", final=True)
            return Rejected(type(error).code, _told(error), details)
        if isinstance(error, SecondCause):
            return parked(error.message)
        final = isinstance(error, DeclarationError) or (
            isinstance(error, MinuetError) and error.code == "foreign-await"
        )
        text = _told(error)
        return Failed(
            f"{type(error).__name__}: {text}" if text else type(error).__name__, _retry_after_ms(error), final
        )


def _retry_after_ms(error: BaseException) -> int | None:
    """Give when an error says that one may come back; at most a year."""
    try:
        wait = getattr(error, "retry_after", None)
        seconds = wait.total_seconds() if isinstance(wait, timedelta) else wait
        return round(min(seconds, _YEAR_S) * 1_000) if isinstance(seconds, int | float) and seconds >= 0 else None
    except Exception:
        return None  # it cannot say


def _told(error: BaseException) -> str:
    """Give the text of an error, if it can be told, such that it can be stored."""
    try:
        text = str(error.message if isinstance(error, Rejection) else error).strip()
    except Exception:
        return ""
    if len(text) > bound.ERROR_CHARS:
        text = f"{text[: bound.ERROR_CHARS]}… ({len(text):,} characters)"
    return text.encode(errors="replace").decode()


def reaction_handler(service: Service, spec: ReactionSpec, provided: Mapping[Any, Any]) -> Handler:
    """Give a reaction as it is called: an action with one argument, the event, and no result."""
    return Handler(
        service,
        ActionSpec(
            name=spec.name,
            parameters=(Parameter(name=spec.parameter, type=spec.event),),
            result=None,
            injected=spec.injected,
            is_async=spec.is_async,
            attempt_timeout_ms=spec.attempt_timeout_ms,
            emits=spec.emits,
            function=spec.function,
        ),
        provided,
    )


class Handlers:
    """The actions of all services of a program, by service and action."""

    def __init__(self, services: list[Service], provided: Mapping[Any, Any]) -> None:
        self._by_name: dict[tuple[str, str], Handler] = {}
        for service in services:
            spec = service_spec(type(service))
            for a in spec.actions.values():
                handler = self._by_name[spec.name, a.name] = Handler(service, a, provided)
                handler.takes_back = a.compensates is not None and bool(spec.actions[a.compensates].emits)

    def find(self, service: str, action: str) -> Handler | None:
        """Give the handler of an action, if this program has it."""
        return self._by_name.get((service, action))
