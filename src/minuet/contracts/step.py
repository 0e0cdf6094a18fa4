"""An action as a workflow calls it: `Action` on the class, `Bound` on a service, `Step` when called.

These three carry the types: `Action[P, R]` is a descriptor that gives `Bound[P, R]`; calling it gives `Step[R]`,
so that a wrong argument, a wrong use of the result and a wrong compensation are found by the type checker.
A participant never executes a workflow's text. Where it *is* executed, as ordinary Python, somebody must say what
awaiting a step means: the `Performer` at hand (`performing`), which is a dry run.
"""

from __future__ import annotations

import linecache
import sys
from collections.abc import Callable, Generator, Iterator
from contextlib import contextmanager
from contextvars import ContextVar
from dataclasses import dataclass
from itertools import islice
from typing import Any, Generic, Literal, NamedTuple, ParamSpec, Protocol, TypeVar, cast, overload

from minuet.contracts.action import Outside, Rejection, RetryPolicy
from minuet.contracts.duration import Duration, milliseconds, retry_policy
from minuet.errors import MisplacedCall

P = ParamSpec("P")
R = TypeVar("R")


class CallSite(NamedTuple):
    """Where a call stands in the user's source: line and column count from 1; column 0 is unknown."""

    line: int
    column: int


class Performer(Protocol):
    """Whoever gives the words of a workflow a meaning while it is executed as ordinary Python."""

    async def perform(self, promise: Promise[Any]) -> Any:
        """Do what is awaited, and give its value."""
        ...

    async def enter(self, block: Any) -> None:
        """Begin an `async with` block."""
        ...

    async def leave(self, block: Any, error: BaseException | None) -> bool:
        """End an `async with` block; True swallows the error."""
        ...

    def decide(self, service: object, condition: object, site: CallSite) -> bool:
        """Record a decision of a service."""
        ...


_performer: ContextVar[Performer | None] = ContextVar("minuet_performer", default=None)


def performer(word: str) -> Performer:
    """Give the performer at hand; `word` names what was used, should there be none."""
    found = _performer.get()
    if found is None:
        raise MisplacedCall(
            f"{word} was used as ordinary Python, outside of a workflow that somebody performs",
            remedy="Use await dry_run(workflow, input, …), or start the workflow on an App",
        )
    return found


@contextmanager
def performing(by: Performer | None) -> Iterator[None]:
    """Let `by` perform the words of workflows inside the block; None: nobody does."""
    token = _performer.set(by)
    try:
        yield
    finally:
        _performer.reset(token)


def perform_with(by: Performer | None) -> None:
    """Let `by` perform the words of workflows from here on, in a context that ends with what is called in it."""
    _performer.set(by)


def call_site(depth: int = 2) -> CallSite:
    """Find the call that is being executed `depth` frames up, by the place of its instruction."""
    frame = sys._getframe(depth)  # noqa: SLF001 - the one way to one frame; inspect.stack() reads files
    code = frame.f_code
    line, _, offset, _ = next(islice(code.co_positions(), frame.f_lasti // 2, None), (None,) * 4)
    if line is None or offset is None:
        return CallSite(frame.f_lineno, 0)
    text = linecache.getline(code.co_filename, line)
    # Python counts the bytes of UTF-8, a reader the characters.
    column = offset if text.isascii() else len(text.encode()[:offset].decode(errors="replace"))
    return CallSite(line, column + 1)


class Promise(Generic[R]):
    """Something that a workflow awaits: a step, a wait, a group of them, another workflow."""

    __slots__ = ("site",)

    def __init__(self, site: CallSite) -> None:
        self.site = site

    def __await__(self) -> Generator[Any, Any, R]:
        return cast("Generator[Any, Any, R]", performer(str(self)).perform(self).__await__())


@dataclass(frozen=True, slots=True, kw_only=True)
class ActionOptions:
    """What is declared about an action beside its signature; times in ms."""

    rejects: tuple[type[Rejection], ...] = ()
    retry: RetryPolicy | None = None
    timeout_ms: int | None = None
    attempt_timeout_ms: int | None = None
    emits: tuple[type, ...] = ()
    touches: tuple[str, ...] = ()
    effect_key: str | None = None
    on_second_cause: str = "park"
    pure: bool = False
    event: type | None = None
    outside: Outside | None = None
    private: tuple[str, ...] | None = None


class Action(Generic[P, R]):
    """An action on its class; on an instance it is a `Bound`, which a workflow calls.

    `function` is the plain function: a unit test of the action alone awaits `Orders.open.function(orders, order)`.
    """

    def __init__(
        self, function: Callable[..., Any], options: ActionOptions, compensates: Action[..., Any] | None = None
    ) -> None:
        self.function = function
        self.options = options
        self.compensates = compensates
        self.name: str = function.__name__
        self.__doc__ = function.__doc__

    @overload
    def __get__(self, instance: None, owner: type | None = None) -> Action[P, R]: ...
    @overload
    def __get__(self, instance: object, owner: type | None = None) -> Bound[P, R]: ...
    def __get__(self, instance: object | None, owner: type | None = None) -> Action[P, R] | Bound[P, R]:
        return self if instance is None else Bound(instance, self)

    def __repr__(self) -> str:
        return f"<action {self.function.__qualname__}>"


class Bound(Generic[P, R]):
    """An action of one service: calling it gives a step."""

    __slots__ = ("action", "service")

    def __init__(self, service: object, action: Action[P, R]) -> None:
        self.service = service
        self.action = action

    def __call__(self, *args: P.args, **kwargs: P.kwargs) -> Step[R]:
        """Make a step of the action with these arguments."""
        return Step(self, args, kwargs, call_site())

    def __repr__(self) -> str:
        return f"<action {type(self.service).__name__}.{self.action.name}>"


class Step(Promise[R]):
    """One use of an action in a workflow: await it. Its methods say how it is to be done, in any order."""

    __slots__ = ("arguments", "bound", "compensation", "kept", "keywords", "retry_policy", "timeout_ms", "timeout_then")

    def __init__(
        self, bound: Bound[..., R], arguments: tuple[Any, ...], keywords: dict[str, Any], site: CallSite
    ) -> None:
        super().__init__(site)
        self.bound = bound
        self.arguments = arguments
        self.keywords = keywords
        self.compensation: Bound[..., Any] | None = None
        self.kept = False
        self.retry_policy: RetryPolicy | None = None
        self.timeout_ms: int | None = None
        self.timeout_then = "ask"

    def compensate(self, by: Bound[[R], Any]) -> Step[R]:
        """Undo the step with another action, which takes its result; it wins over the contract's."""
        self.compensation = by
        return self

    def keep(self) -> Step[R]:
        """Let the effect stand whatever comes after."""
        self.kept = True
        return self

    def retry(
        self,
        attempts: int,
        *,
        first: Duration = 1,
        factor: float = 2,
        at_most: Duration = 300,
        then: Literal["park", "reject"] = "park",
    ) -> Step[R]:
        """Try technical failures again: after `first`, then `factor` times as long, never above `at_most`."""
        self.retry_policy = retry_policy(attempts, first=first, factor=factor, at_most=at_most, then=then)
        return self

    def timeout(self, seconds: Duration, *, then: Literal["ask", "abandon"] = "ask") -> Step[R]:
        """Reject the step with `timeout` when it is not done in time; `then` says who decides that."""
        self.timeout_ms = milliseconds(seconds, "the timeout of a step")
        self.timeout_then = then
        return self

    def __str__(self) -> str:
        return f"the step {type(self.bound.service).__name__}.{self.bound.action.name}"
