"""What may be said inside a workflow, beside steps: `together`, `each`, `attempt`, waits, deadlines, sections.

A participant never executes these: it performs the plan that was made from the workflow's text. They exist for the
type checker, and for a dry run, in which the same function is executed as ordinary Python: then each of them asks
the performer at hand (`contracts.step`). Used anywhere else they raise `MisplacedCall`.
"""

# ruff: noqa: ARG001 - what only the plan needs is read from the text, never from the call
from __future__ import annotations

from collections.abc import Callable, Iterable
from datetime import datetime
from types import TracebackType
from typing import Any, Generic, TypeVar, cast, overload

from minuet.contracts.action import Rejection
from minuet.contracts.duration import Duration, milliseconds
from minuet.contracts.message import event_spec
from minuet.contracts.step import CallSite, Promise, call_site, performer
from minuet.errors import DeclarationError

E = TypeVar("E")
R = TypeVar("R")
X = TypeVar("X")
T1 = TypeVar("T1")
T2 = TypeVar("T2")
T3 = TypeVar("T3")
T4 = TypeVar("T4")
T5 = TypeVar("T5")
T6 = TypeVar("T6")
T7 = TypeVar("T7")
T8 = TypeVar("T8")


class Together(Promise[R]):
    """What `together(…)` gives: all branches run, and all end."""

    __slots__ = ("branches",)

    def __init__(self, branches: tuple[Promise[Any], ...], site: CallSite) -> None:
        super().__init__(site)
        self.branches = branches

    def __str__(self) -> str:
        return "together(…)"


@overload
def together(a: Promise[T1], b: Promise[T2], /) -> Together[tuple[T1, T2]]: ...
@overload
def together(a: Promise[T1], b: Promise[T2], c: Promise[T3], /) -> Together[tuple[T1, T2, T3]]: ...
@overload
def together(a: Promise[T1], b: Promise[T2], c: Promise[T3], d: Promise[T4], /) -> Together[tuple[T1, T2, T3, T4]]: ...
@overload
def together(
    a: Promise[T1], b: Promise[T2], c: Promise[T3], d: Promise[T4], e: Promise[T5], /
) -> Together[tuple[T1, T2, T3, T4, T5]]: ...
@overload
def together(
    a: Promise[T1], b: Promise[T2], c: Promise[T3], d: Promise[T4], e: Promise[T5], f: Promise[T6], /
) -> Together[tuple[T1, T2, T3, T4, T5, T6]]: ...
@overload
def together(
    a: Promise[T1], b: Promise[T2], c: Promise[T3], d: Promise[T4], e: Promise[T5], f: Promise[T6], g: Promise[T7], /
) -> Together[tuple[T1, T2, T3, T4, T5, T6, T7]]: ...
@overload
def together(
    a: Promise[T1],
    b: Promise[T2],
    c: Promise[T3],
    d: Promise[T4],
    e: Promise[T5],
    f: Promise[T6],
    g: Promise[T7],
    h: Promise[T8],
    /,
) -> Together[tuple[T1, T2, T3, T4, T5, T6, T7, T8]]: ...
@overload
def together(*branches: Promise[R]) -> Together[tuple[R, ...]]: ...
def together(*branches: Promise[Any]) -> Together[Any]:
    """Do several things in parallel, and give all their values.

    If one rejects, the others run to their end and are then compensated; then the first rejection, in the order
    of the text, goes on.
    """
    return Together(branches, call_site())


class ForEach(Promise[list[R]]):
    """What `each(…)` gives: the same for every element of a list."""

    __slots__ = ("body", "items", "limit")

    def __init__(self, items: list[Any], body: Callable[[Any], Promise[R]], limit: int, site: CallSite) -> None:
        super().__init__(site)
        self.items = items
        self.body = body
        self.limit = limit

    def __str__(self) -> str:
        return "each(…)"


def each(
    items: Iterable[X],
    body: Callable[[X], Promise[R]],
    *,
    limit: int,
    at_once: int | None = None,
    by: object = None,
) -> ForEach[R]:
    """Do the same for every element, in parallel, and give the values in the order of the list.

    `limit` bounds their number: more are rejected with `too-many`. `at_once` bounds how many run at a time, and
    `by` names the service that counts them.
    """
    return ForEach(list(items), body, limit, call_site())


class WaitFor(Promise[R]):
    """What `wait_for(…)` gives: an event from outside the run."""

    __slots__ = ("event", "key", "timeout_ms")

    def __init__(self, event: type[Any], key: str, timeout_ms: int | None, site: CallSite) -> None:
        super().__init__(site)
        self.event = event
        self.key = key
        self.timeout_ms = timeout_ms

    def __str__(self) -> str:
        return f"wait_for({self.event.__name__})"


@overload
def wait_for(event: type[E], *, key: str, by: object = None) -> WaitFor[E]: ...
@overload
def wait_for(event: type[E], *, key: str, by: object = None, timeout: Duration) -> WaitFor[E | None]: ...
def wait_for(event: type[E], *, key: str, by: object = None, timeout: Duration | None = None) -> WaitFor[Any]:
    """Wait for an event by its key; one that came before is found too.

    With a timeout the value is None when it ran out. `by` names the service that waits.
    """
    if event_spec(event) is None:
        raise DeclarationError(
            f"{event.__qualname__} is no event that one could wait for", remedy="Declare it: @event(…) above the class"
        )
    timeout_ms = None if timeout is None else milliseconds(timeout, "the timeout of a wait")
    return WaitFor(event, key, timeout_ms, call_site())


class Sleeping(Promise[None]):
    """What `sleep(…)` gives: a timer."""

    __slots__ = ("duration", "until")

    def __init__(self, duration: Duration | None, until: datetime | None, site: CallSite) -> None:
        super().__init__(site)
        self.duration = duration
        self.until = until

    def __str__(self) -> str:
        return "sleep(…)"


@overload
def sleep(duration: Duration, /, *, by: object = None) -> Sleeping: ...
@overload
def sleep(*, until: datetime, by: object = None) -> Sleeping: ...
def sleep(duration: Duration | None = None, /, *, until: datetime | None = None, by: object = None) -> Sleeping:
    """Go on after a duration, or at an instant; `by` names the service that keeps the timer."""
    return Sleeping(duration, until, call_site())


def at(service: object, condition: object) -> bool:
    """Let one service decide a condition, once and on the record.

    As in `if at(orders, receipt.risk > 80): …`.
    """
    return performer("at(…)").decide(service, condition, call_site())


class Called(Promise[R]):
    """What calling a workflow gives (`Workflow.__call__` makes it): its steps belong to the caller's run."""

    __slots__ = ("arguments", "keywords", "workflow")

    def __init__(self, workflow: Any, arguments: tuple[Any, ...], keywords: dict[str, Any], site: CallSite) -> None:
        super().__init__(site)
        self.workflow = workflow
        self.arguments = arguments
        self.keywords = keywords

    def __str__(self) -> str:
        return f"the workflow {self.workflow.name}"


class Tried:
    """What became of an `attempt`: `rejected` is the rejection that ended it, or None."""

    def __init__(self) -> None:
        self.rejected: Rejection | None = None


B = TypeVar("B")


class Block(Generic[B]):
    """A part of a workflow between `async with` and its end; entering it gives a `B`.

    It is declared not to swallow exceptions, although an attempt does: so a type checker knows that after
    `if tried.rejected: … return` whatever the block bound is bound.
    """

    word = "a block"

    def __init__(self, given: B, site: CallSite) -> None:
        self.given = given
        self.site = site

    async def __aenter__(self) -> B:
        await performer(self.word).enter(self)
        return self.given

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None:
        swallowed = await performer(self.word).leave(self, error)
        return cast("None", swallowed)


class AttemptBlock(Block[Tried]):
    """What `attempt(…)` gives; `codes` None means any declared rejection."""

    word = "attempt(…)"

    def __init__(self, codes: frozenset[str] | None, site: CallSite) -> None:
        super().__init__(Tried(), site)
        self.codes = codes


def attempt(*rejections: type[Rejection]) -> AttemptBlock:
    """Try another way: a listed rejection compensates the block, and goes on after it.

    Without any listed it is every declared one. Afterwards ask `tried.rejected`.
    """
    codes = frozenset(r.code for r in rejections) if rejections else None
    return AttemptBlock(codes, call_site())


class DeadlineBlock(Block[None]):
    """What `deadline(…)` gives."""

    word = "deadline(…)"


def deadline(duration: Duration, *, by: object = None) -> DeadlineBlock:
    """Cancel the block with the code `deadline` when it takes longer; `by` names the service that decides."""
    milliseconds(duration, "the deadline")
    return DeadlineBlock(None, call_site())


class SectionBlock(Block[None]):
    """What `orchestration(…)` and `choreography()` give."""

    word = "a section"


def orchestration(*, by: str | None = None) -> SectionBlock:
    """Perform the block by a central orchestrator, named `by`."""
    return SectionBlock(None, call_site())


def choreography() -> SectionBlock:
    """Perform the block without anybody in control: each service follows the others' events."""
    return SectionBlock(None, call_site())
