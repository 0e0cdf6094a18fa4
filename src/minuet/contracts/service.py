"""Services as classes: `Service`, and the decorators of its methods."""

from __future__ import annotations

import inspect
import re
from collections.abc import Callable, Coroutine
from datetime import datetime, timedelta
from typing import Any, ClassVar, Concatenate, Generic, Literal, Never, ParamSpec, TypeVar, overload

from minuet.contracts import signature
from minuet.contracts.action import Outside, ReactionSpec, Rejection, RetryPolicy, ServiceSpec, kebab
from minuet.contracts.duration import Duration, milliseconds, retry_policy
from minuet.contracts.handler import Transaction
from minuet.contracts.message import event_spec
from minuet.contracts.step import Action, ActionOptions
from minuet.errors import DeclarationError

P = ParamSpec("P")
Q = ParamSpec("Q")
R = TypeVar("R")
E = TypeVar("E")
S = TypeVar("S")

_NAME = re.compile(r"[a-z][a-z0-9]*(?:-[a-z0-9]+)*")


class Service:
    """A participant that owns actions and reactions, and its own data. Derive from it.

    `class Billing(Service, name="billing")`; without `name=` it is the class's name in kebab case. A class that
    performs a contract which is another class says `implements=`, and has its name.
    """

    __service_name__: ClassVar[str] = ""
    __service_implements__: ClassVar[type[Service] | None] = None

    def __init_subclass__(
        cls, *, name: str | None = None, implements: type[Service] | None = None, **more: Any
    ) -> None:
        super().__init_subclass__(**more)
        if implements is not None and not (isinstance(implements, type) and issubclass(implements, Service)):
            raise DeclarationError(
                f"{cls.__qualname__} implements {implements!r}, which is no service",
                remedy="Name the class that is the contract",
            )
        chosen = name or (implements.__service_name__ if implements else kebab(cls.__name__.strip("_")))
        if not _NAME.fullmatch(chosen):
            raise DeclarationError(
                f"{chosen!r} is no name for the service {cls.__qualname__}",
                remedy='Give name= in kebab case, as in "card-billing"',
            )
        cls.__service_name__ = chosen
        cls.__service_implements__ = implements

    async def setup(self, tx: Transaction) -> None:
        """Prepare what the service keeps in the store (`create table if not exists …`).

        Called whenever the app is opened, before anything runs, in a transaction of its own.
        """


def service_spec(cls: type[Service]) -> ServiceSpec:
    """Read a service class into data, once; everything that is declared wrongly is refused here."""
    if not (isinstance(cls, type) and issubclass(cls, Service)) or cls is Service:
        raise DeclarationError(f"{cls!r} is no service", remedy="Derive a class from minuet.Service")
    known = vars(cls).get("__service_spec__")
    if isinstance(known, ServiceSpec):
        return known
    spec = signature.read_service(cls, cls.__service_name__, cls.__service_implements__)
    if cls.__service_implements__ is not None:
        signature.check_implements(spec, service_spec(cls.__service_implements__))
    cls.__service_spec__ = spec  # type: ignore[attr-defined]
    return spec


class _Declared:
    """What `@action(…)` gives: it turns a method into an action, and keeps its types."""

    def __init__(self, options: ActionOptions) -> None:
        self.options = options

    @overload
    def __call__(self, function: Callable[Concatenate[Any, P], Coroutine[Any, Any, R]], /) -> Action[P, R]: ...
    @overload
    def __call__(self, function: Callable[Concatenate[Any, P], R], /) -> Action[P, R]: ...
    def __call__(self, function: Callable[..., Any], /) -> Action[..., Any]:
        return Action(_plain(function, "an action"), self.options)


class _Compensating(Generic[R]):
    """What `@compensation(charge)` gives: it takes a method whose first parameter is what `charge` returns."""

    def __init__(self, of: Action[..., R], options: ActionOptions) -> None:
        self.of = of
        self.options = options

    @overload
    def __call__(
        self, function: Callable[Concatenate[Any, R, Q], Coroutine[Any, Any, S]], /
    ) -> Action[Concatenate[R, Q], S]: ...
    @overload
    def __call__(self, function: Callable[Concatenate[Any, R, Q], S], /) -> Action[Concatenate[R, Q], S]: ...
    def __call__(self, function: Callable[..., Any], /) -> Action[..., Any]:
        return Action(_plain(function, "a compensation"), self.options, compensates=self.of)


@overload
def action(function: Callable[Concatenate[Any, P], Coroutine[Any, Any, R]], /) -> Action[P, R]: ...
@overload
def action(function: Callable[Concatenate[Any, P], R], /) -> Action[P, R]: ...
@overload
def action(
    *,
    rejects: tuple[type[Rejection], ...] = (),
    retry: int | RetryPolicy | None = None,
    timeout: Duration | None = None,
    attempt_timeout: Duration | None = None,
    emits: tuple[type, ...] = (),
    touches: str | tuple[str, ...] = (),
    effect_key: str | None = None,
    on_second_cause: Literal["park", "same"] = "park",
    pure: bool = False,
    event: type | None = None,
    outside: Outside | None = None,
    private: str | tuple[str, ...] | None = None,
) -> _Declared: ...
def action(
    function: Callable[..., Any] | None = None,
    /,
    *,
    rejects: tuple[type[Rejection], ...] = (),
    retry: int | RetryPolicy | None = None,
    timeout: Duration | None = None,
    attempt_timeout: Duration | None = None,
    emits: tuple[type, ...] = (),
    touches: str | tuple[str, ...] = (),
    effect_key: str | None = None,
    on_second_cause: Literal["park", "same"] = "park",
    pure: bool = False,
    event: type | None = None,
    outside: Outside | None = None,
    private: str | tuple[str, ...] | None = None,
) -> Action[..., Any] | _Declared:
    """Declare a method as an action: one local transaction, whose result is a fact.

    Args:
        function: the method, where the decorator is used without arguments.
        rejects: the rejections that it may raise; any other exception is technical, and is retried.
        retry: number of attempts, or a policy.
        timeout: seconds for the step as a whole, after which it is rejected with `timeout`.
        attempt_timeout: seconds for one attempt, after which it is cut off and tried again.
        emits: the types of events that it publishes, beside its own outcome.
        touches: names of resources that it reads or writes; checks compare them.
        effect_key: the parameter, or a dotted path into one, for whose value the action takes effect once: the same
            cause again is a repetition, another cause is not performed.
        on_second_cause: what follows for another cause of the same effect: it is parked, as `second-cause`; or `same`:
            it is answered with the first one's result, where the arguments are equal.
        pure: it changes nothing, so there is nothing to take back.
        event: the type of event under which its outcome is published, if not the result's own.
        outside: how its call to the outside world may be repeated.
        private: names of the services that may see its result, beside its own; an empty tuple: nobody else. Whoever
            orchestrates or started the run is no service, and is not asked.
    """
    declared = _Declared(
        ActionOptions(
            rejects=tuple(rejects),
            retry=_policy(retry),
            timeout_ms=None if timeout is None else milliseconds(timeout, "timeout"),
            attempt_timeout_ms=None if attempt_timeout is None else milliseconds(attempt_timeout, "attempt_timeout"),
            emits=tuple(emits),
            touches=_names(touches),
            effect_key=effect_key,
            on_second_cause=_one_of("on_second_cause", on_second_cause, "park", "same"),
            pure=pure,
            event=event,
            outside=outside,
            private=None if private is None else _names(private),
        )
    )
    return declared if function is None else declared(function)


def compensation(
    of: Action[..., R],
    /,
    *,
    retry: int | RetryPolicy | None = None,
    attempt_timeout: Duration | None = None,
    emits: tuple[type, ...] = (),
    touches: str | tuple[str, ...] = (),
    outside: Outside | None = None,
    **unknown: Never,
) -> _Compensating[R]:
    """Declare a method as the compensation of an action: its first parameter is what that action returns.

    It may not reject, and is retried for ever.
    """
    if unknown:
        raise DeclarationError(
            f"a compensation has no {', '.join(unknown)}",
            remedy="It is retried until it succeeds: it may neither reject nor time out",
        )
    if not isinstance(of, Action):
        raise DeclarationError(
            f"{of!r} is no action that could be compensated", remedy="Write @compensation(charge), below charge"
        )
    options = ActionOptions(
        retry=_policy(retry),
        attempt_timeout_ms=None if attempt_timeout is None else milliseconds(attempt_timeout, "attempt_timeout"),
        emits=tuple(emits),
        touches=_names(touches),
        outside=outside,
    )
    return _Compensating(of, options)


class Reaction(Generic[E, Q]):
    """A handler that a service subscribes to a type of event; on an instance, the method itself."""

    def __init__(self, function: Callable[..., Any], spec: ReactionSpec) -> None:
        self.function = function
        self.spec = spec
        self.name = function.__name__
        self.__doc__ = function.__doc__

    @overload
    def __get__(self, instance: None, owner: type | None = None) -> Reaction[E, Q]: ...
    @overload
    def __get__(
        self, instance: object, owner: type | None = None
    ) -> Callable[Concatenate[E, Q], Coroutine[Any, Any, None]]: ...
    def __get__(self, instance: object | None, owner: type | None = None) -> Any:
        return self if instance is None else self.function.__get__(instance, owner)


class _Reacting(Generic[E]):
    """What `@on(Placed)` gives: it takes a method whose first parameter is the event."""

    def __init__(self, event: type[E], policies: dict[str, Any]) -> None:
        self.event = event
        self.policies = policies

    def __call__(self, function: Callable[Concatenate[Any, E, Q], Coroutine[Any, Any, None]], /) -> Reaction[E, Q]:
        plain = _plain(function, "a reaction")
        spec = ReactionSpec(name=plain.__name__, event=self.event, parameter="", **self.policies)
        return Reaction(plain, spec)


def on(
    event: type[E],
    /,
    *,
    order_key: str | None = None,
    dedup_window: Duration = timedelta(days=7),
    buffer: int = 1_000,
    buffer_age: Duration = timedelta(minutes=5),
    on_gap: Literal["park", "wait", "skip", "latest"] = "park",
    on_late: Literal["drop", "park", "apply"] = "drop",
    on_compensated: Action[..., Any] | None = None,
    retry: int | RetryPolicy | None = None,
    attempt_timeout: Duration | None = None,
    poison: Literal["block", "skip"] | None = None,
    cardinality: Literal["one", "all"] = "one",
    newer: Literal["park", "accept"] = "park",
    trace: Literal["linked", "child"] = "linked",
    limit: int | None = None,
    start: Literal["now", "beginning"] | datetime = "now",
    emits: tuple[type, ...] = (),
    touches: str | tuple[str, ...] = (),
) -> _Reacting[E]:
    """Subscribe a method to a type of event, outside of any workflow.

    Args:
        event: the type; the method's first parameter takes it.
        order_key: the field within whose value events are applied in the order in which they were made.
        dedup_window: how long an event is recognised when it comes again; at least 7 days.
        buffer: how many events of a key, from elsewhere, wait for one that is missing before it is called a gap.
        buffer_age: how long they wait.
        on_gap: what follows: the key is parked (and goes on by itself should the missing one come), waits on with an
            alarm, skips what is missing, or goes on with its latest event only.
        on_late: what follows for an event that is older than what was applied: it is dropped and counted, parked,
            or applied all the same.
        on_compensated: the action to run when what was heard is taken back; it takes the event, and runs once if
            the event was applied, else never.
        retry: number of attempts, or a policy.
        attempt_timeout: seconds for one attempt.
        poison: whether an event that cannot be processed holds up its key; by default where there is an order.
        cardinality: whether one instance of the service gets an event, or each process: for caches, which begin
            anew with it. Then nothing is kept for a process that is gone.
        newer: what follows for a version that is newer than the one known.
        trace: whether the trace goes on as a child, or begins anew with a link.
        limit: how many may run at once.
        start: where a new subscription begins: with what comes from now on, with the oldest event that is still
            kept, or with what came at an instant or later. Once it has begun, this says nothing.
        emits: the types of events that it publishes.
        touches: names of resources that it reads or writes.
    """
    if event_spec(event) is None:
        raise DeclarationError(
            f"{getattr(event, '__qualname__', event)} is no event that one could react to",
            remedy="Declare it: @event(…) above the class",
        )
    window_ms = milliseconds(dedup_window, "dedup_window")
    if window_ms < 604_800_000:
        raise DeclarationError("dedup_window is below 7 days", remedy="Give 7 days or more")
    if cardinality == "all" and start != "now":
        raise DeclarationError(
            'a subscription of each process (cardinality="all") has a start',
            remedy="Leave it out: each hears what comes while it is there",
        )
    if order_key is None and (on_gap, on_late) != ("park", "drop"):
        raise DeclarationError(
            "on_gap and on_late say something about an order, and there is none",
            remedy="Give order_key=, or leave them out",
        )
    if buffer < 1 or (limit is not None and limit < 1):
        raise DeclarationError("buffer and limit count messages", remedy="Give 1 or more")
    return _Reacting(
        event,
        {
            "order_key": order_key,
            "dedup_window_ms": window_ms,
            "buffer_messages": buffer,
            "buffer_age_ms": milliseconds(buffer_age, "buffer_age"),
            "on_gap": _one_of("on_gap", on_gap, "park", "wait", "skip", "latest"),
            "on_late": _one_of("on_late", on_late, "drop", "park", "apply"),
            "on_compensated": None if on_compensated is None else on_compensated.name,
            "retry": _policy(retry),
            "attempt_timeout_ms": (
                None if attempt_timeout is None else milliseconds(attempt_timeout, "attempt_timeout")
            ),
            "poison": _one_of("poison", poison or ("block" if order_key else "skip"), "block", "skip"),
            "cardinality": _one_of("cardinality", cardinality, "one", "all"),
            "newer": _one_of("newer", newer, "park", "accept"),
            "trace": _one_of("trace", trace, "linked", "child"),
            "limit": limit,
            "start": _instant(start) if isinstance(start, datetime) else _one_of("start", start, "now", "beginning"),
            "emits": tuple(emits),
            "touches": _names(touches),
        },
    )


def outside(*, idempotency: Literal["key", "lookup", "none"], find: Callable[..., Any] | str | None = None) -> Outside:
    """Declare how an action's call to the outside world may be repeated.

    `key`: it may be sent again with the same `op_key`; `lookup`: the method `find` is asked first; `none`: it is
    sent at most once, and an unknown answer parks the run.
    """
    _one_of("idempotency", idempotency, "key", "lookup", "none")
    if (idempotency == "lookup") != (find is not None):
        raise DeclarationError(
            f'outside(idempotency="{idempotency}") and find= do not go together',
            remedy='Give find= with "lookup", and only there',
        )
    return Outside(idempotency=idempotency, find=find if isinstance(find, str) else getattr(find, "__name__", None))


def _instant(start: datetime) -> int:
    if start.tzinfo is None:
        raise DeclarationError(
            f"start is {start.isoformat()}, which says nothing about the time zone",
            remedy="Give it one, as in datetime(2026, 1, 31, tzinfo=UTC)",
        )
    return round(start.timestamp() * 1000)


def _plain(function: Any, what: str) -> Callable[..., Any]:
    if isinstance(function, (Action, Reaction)):
        raise DeclarationError(
            f"{function.name} is declared twice", remedy=f"Use one decorator: it cannot be {what} besides"
        )
    if not inspect.isfunction(function):
        raise DeclarationError(f"{function!r} cannot be {what}", remedy="Decorate a method: async def …(self, …)")
    if inspect.isasyncgenfunction(function) or inspect.isgeneratorfunction(function):
        raise DeclarationError(
            f"{function.__qualname__} yields, and cannot be {what}", remedy="Return one value instead"
        )
    return function


def _policy(retry: int | RetryPolicy | None) -> RetryPolicy | None:
    return retry if retry is None or isinstance(retry, RetryPolicy) else retry_policy(retry)


def _names(names: str | tuple[str, ...]) -> tuple[str, ...]:
    return (names,) if isinstance(names, str) else tuple(names)


def _one_of(what: str, value: str, *known: str) -> str:
    if value not in known:
        raise DeclarationError(f'{what}="{value}" is not known', remedy=f"Give one of: {', '.join(known)}")
    return value
