"""What the body of an action or reaction may ask for and say: `Transaction`, `Context`, `publish`."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from contextlib import AbstractContextManager
from contextvars import ContextVar
from dataclasses import dataclass, field
from typing import Any, Protocol, TypeVar, runtime_checkable

from minuet.contracts.codec import codec_for
from minuet.contracts.message import event_spec
from minuet.errors import DeclarationError, MisplacedCall

T = TypeVar("T")


class Row(Protocol):
    """A row of a result: its columns by name, or by index from 0."""

    def __getitem__(self, column: Any, /) -> Any: ...

    def keys(self) -> Iterable[str]:
        """Give the names of the columns."""
        ...


@runtime_checkable
class Transaction(Protocol):
    """The transaction in which an action's effect and its fact are committed together.

    Parameters are bound, never put into the text; their marks are those of the store's own dialect.
    """

    async def execute(self, sql: str, *args: Any) -> int:
        """Run one statement, and give the number of rows that it changed."""
        ...

    async def executemany(self, sql: str, rows: Iterable[Sequence[Any]]) -> int:
        """Run one statement for each of many rows of arguments, and give the number of rows changed."""
        ...

    async def fetch(self, sql: str, *args: Any) -> list[Row]:
        """Run one query, and give all its rows."""
        ...

    async def fetch_one(self, sql: str, *args: Any) -> Row | None:
        """Run one query, and give its first row, if there is one."""
        ...


def _nobody_listens(fraction: float, note: str) -> None:
    """Take a report of progress that nobody asked for."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Context:
    """Which piece of work an action is doing: of which run, where in it, and which attempt it is.

    `op_key` is the same at every attempt, and at no other piece of work: the key to give to the outside world.
    `round` has one index for each enclosing loop or `each`, outermost first. `attempt` counts from 1.
    """

    run: str
    key: str
    workflow: str
    position: str
    round: tuple[int, ...] = ()
    attempt: int = 1
    op_key: str
    input_bytes: bytes = field(default=b"{}", repr=False)
    report: Callable[[float, str], None] = field(default=_nobody_listens, repr=False, compare=False)

    def input(self, record: type[T]) -> T:
        """Give the action's arguments as a record whose fields are (some of) its parameters.

        In a compensation these are the arguments of the action that it undoes.
        """
        return codec_for(record).decode(self.input_bytes)

    def progress(self, fraction: float, note: str = "") -> None:
        """Report how much is done, from 0 to 1; it is kept with the attempt, and says "still alive"."""
        self.report(min(1.0, max(0.0, float(fraction))), note)


class Injected:
    """Stands for a parameter that the platform fills in; using it before that is a mistake."""

    def __getattr__(self, name: str) -> Any:
        if name.startswith("__"):
            raise AttributeError(name)  # what Python and its tools ask of any object
        raise MisplacedCall(
            f"{name} was asked of a parameter that nobody has filled in",
            remedy="Let the platform call the action, or pass the parameter when you call its function yourself",
        )

    def __repr__(self) -> str:
        return "injected()"


_INJECTED = Injected()


def injected() -> Any:
    """Mark a parameter that the platform fills in, by its annotation; a workflow does not pass it."""
    return _INJECTED


class _Outlet:
    """Where `publish` puts the events of one call of a handler, and which ones it declared: around the call."""

    __slots__ = ("_token", "emits", "events", "handler")

    def __init__(self, handler: str, emits: Sequence[type], into: list[Any] | None) -> None:
        self.handler = handler
        self.emits = emits
        self.events: list[Any] = [] if into is None else into

    def __enter__(self) -> list[Any]:
        self._token = _outlet.set(self)
        return self.events

    def __exit__(self, *_: object) -> None:
        _outlet.reset(self._token)


_outlet: ContextVar[_Outlet] = ContextVar("minuet_outlet")


def collecting(handler: str, emits: Sequence[type], into: list[Any] | None = None) -> AbstractContextManager[list[Any]]:
    """Collect what a handler publishes inside the block, in order; `emits` are the types it declares.

    `into`: the list that it is added to; None: a new one.
    """
    return _Outlet(handler, emits, into)


def collected() -> list[Any]:
    """Give what is collected here, to be added to; a list that nobody sees where nothing is."""
    outlet = _outlet.get(None)
    return [] if outlet is None else outlet.events


def publish(event: object) -> None:
    """Send an event from inside a handler: it leaves if, and only if, the handler's transaction is committed."""
    try:
        outlet = _outlet.get()
    except LookupError:
        raise MisplacedCall(
            "publish was called outside of an action or reaction", remedy="From outside, use client.send(…)"
        ) from None
    cls = type(event)
    if cls not in outlet.emits:
        name = cls.__qualname__
        if event_spec(cls) is None:
            raise DeclarationError(
                f"{outlet.handler} publishes {name}, which is no event", remedy=f"Declare it: @event(…) above {name}"
            )
        raise DeclarationError(
            f"{outlet.handler} publishes {name}, and does not say so", remedy=f"Declare it: emits=({name},)"
        )
    outlet.events.append(event)
