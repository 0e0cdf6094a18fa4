"""What a service offers: actions with their signatures, rejections, and the policies of a step."""

from __future__ import annotations

import re
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any, ClassVar


def kebab(name: str) -> str:
    """Give `CardDeclined` as `card-declined`, `HTTPDown` as `http-down`."""
    return re.sub(r"(?<=[a-z0-9])(?=[A-Z])|(?<=[A-Z])(?=[A-Z][a-z])", "-", name).lower().replace("_", "-")


class Rejection(Exception):
    """A declared, definite "no" of an action: nothing stands. Subclass it, raise it in an action.

    `class CardDeclined(Rejection, code="card-declined")`; without `code=` it is the class's name in kebab case.
    The first argument is a message for people; keyword arguments are details, which must be JSON-able.
    """

    code: ClassVar[str] = "rejection"

    def __init_subclass__(cls, *, code: str | None = None, **more: Any) -> None:
        super().__init_subclass__(**more)
        cls.code = code or kebab(cls.__name__)

    def __init__(self, message: str = "", **details: Any) -> None:
        super().__init__(message)
        self.message = message
        self.details = details


class TimedOut(Rejection, code="timeout"):
    """The platform's answer for a step that was not done in time."""


class DeadlinePassed(Rejection, code="deadline"):
    """The platform's answer for a position that a deadline has cancelled."""


class Exhausted(Rejection, code="exhausted"):
    """The platform's answer for a step with `.retry(…, then="reject")` whose attempts are used up."""


class InvalidValue(Rejection, code="invalid-value"):
    """The platform's answer where an expression failed, or an action's types turned its input down."""


class TooMany(Rejection, code="too-many"):
    """The platform's answer for an `each` over more elements than its limit."""


PLATFORM_CODES: dict[str, type[Rejection]] = {
    c.code: c for c in (TimedOut, DeadlinePassed, Exhausted, InvalidValue, TooMany)
}


CANCELLED = "cancelled"
"""The platform's code for what a person has cancelled; no class, since no attempt catches it."""


@dataclass(frozen=True, slots=True, kw_only=True)
class RetryPolicy:
    """When a technical failure is tried again: `min(first × factorⁿ, at_most)`, with jitter.

    `attempts` counts the first one; 0 means for ever. `then` says what follows the last: the run is parked
    (`"park"`), or the step is rejected with `exhausted` (`"reject"`).
    """

    attempts: int = 10
    first_ms: int = 1_000
    factor: float = 2.0
    at_most_ms: int = 300_000
    then: str = "park"


@dataclass(frozen=True, slots=True, kw_only=True)
class Parameter:
    """A parameter of an action that a workflow passes (injected ones are not among them).

    `default` means something only where the parameter is not required.
    """

    name: str
    type: Any
    required: bool = True
    default: Any = None


@dataclass(frozen=True, slots=True, kw_only=True)
class Outside:
    """How a call to the outside world may be repeated: by a `key`, after a `lookup` with `find`, or not at all."""

    idempotency: str
    find: str | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class ActionSpec:
    """An action as its class declares it; the same for a compensation (`compensates` names its action).

    `injected` maps the names of parameters that the runtime fills in to their annotations. `is_async` is
    False for a plain `def`, which runs in a thread. `pure` means: nothing to take back. Times in ms.
    `function` is the plain function, called with the service first. `input` is the record of the parameters:
    what a command carries. `event` is the type under which the result is published, if it has one. `private` names
    the services that may see the result beside the acting one; None: any may. `effect_key`: the parameter, or a dotted
    path into one, for whose value the action takes effect once; `on_second_cause` (`park`, `same`) says what follows
    where something else causes it again.
    """

    name: str
    parameters: tuple[Parameter, ...]
    result: Any
    rejects: tuple[type[Rejection], ...] = ()
    compensation: str | None = None
    compensates: str | None = None
    injected: dict[str, Any] = field(default_factory=dict)
    is_async: bool = True
    pure: bool = False
    retry: RetryPolicy | None = None
    timeout_ms: int | None = None
    attempt_timeout_ms: int | None = None
    emits: tuple[type, ...] = ()
    touches: tuple[str, ...] = ()
    effect_key: str | None = None
    on_second_cause: str = "park"
    event: type | None = None
    outside: Outside | None = None
    private: tuple[str, ...] | None = None
    function: Callable[..., Any] | None = field(default=None, repr=False, compare=False)
    input: Any = field(default=None, repr=False, compare=False)


@dataclass(frozen=True, slots=True, kw_only=True)
class ReactionSpec:
    """A reaction as its class declares it: the event, the parameter that takes it, and the policies.

    The policies are those of a subscription: order and gaps of a key, repetition, poison, who gets a copy.
    `start` says where a new one begins: `now`, `beginning`, or at an instant. Times in ms.
    """

    name: str
    event: type
    parameter: str
    injected: dict[str, Any] = field(default_factory=dict)
    is_async: bool = True
    emits: tuple[type, ...] = ()
    touches: tuple[str, ...] = ()
    order_key: str | None = None
    dedup_window_ms: int = 604_800_000
    buffer_messages: int = 1_000
    buffer_age_ms: int = 300_000
    on_gap: str = "park"
    on_late: str = "drop"
    on_compensated: str | None = None
    retry: RetryPolicy | None = None
    attempt_timeout_ms: int | None = None
    poison: str | None = None
    cardinality: str = "one"
    newer: str = "park"
    trace: str = "linked"
    limit: int | None = None
    start: str | int = "now"
    function: Callable[..., Any] | None = field(default=None, repr=False, compare=False)


@dataclass(frozen=True, slots=True, kw_only=True)
class ServiceSpec:
    """A service as its class declares it: its name (kebab case), its actions and reactions by name.

    `implements` is the class that is its contract, where that is another one.
    """

    name: str
    actions: dict[str, ActionSpec]
    reactions: dict[str, ReactionSpec] = field(default_factory=dict)
    implements: type | None = None

    @property
    def emits(self) -> tuple[type, ...]:
        """Every event type that some action or reaction of the service may publish, each once."""
        found: dict[type, None] = {}
        for action in self.actions.values():
            found.update(dict.fromkeys(action.emits))
            if action.event is not None:
                found[action.event] = None
        for reaction in self.reactions.values():
            found.update(dict.fromkeys(reaction.emits))
        return tuple(found)
