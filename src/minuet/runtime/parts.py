"""Whom a participant works with, as far as it knows them."""

from __future__ import annotations

from collections.abc import Callable, Collection, Iterable
from typing import Protocol

from minuet.engine.answer import Answer
from minuet.engine.decided import Decided
from minuet.engine.knowledge import Action
from minuet.engine.row import Decision, EventRow, SendingRow, TimerRow


class Timekeeper(Protocol):
    """Who says when something is due."""

    def add_timer(self, timer: TimerRow) -> None:
        """Look at a timer when it is due."""
        ...

    def add_retry(self, action: Action) -> None:
        """Look at an action when its delay is over."""
        ...


class Matcher(Protocol):
    """Who brings events and waits together."""

    def look_at(self, event: str, key: str) -> None:
        """See whether an event of this key and a wait for it are both there."""
        ...


class Inward(Protocol):
    """Who brings published events to reactions."""

    def wake(self, published: Iterable[EventRow]) -> None:
        """Look for events of these types: they are durable."""
        ...

    def look(self) -> None:
        """Look for events of any type: it is not known which are durable."""
        ...

    @property
    def events(self) -> Collection[str]:
        """The types of events that reactions here hear."""
        ...

    def since_ms(self, event: str) -> int:
        """Give when the first reaction here began to hear events of this type; 0 where none does."""
        ...


class Outward(Protocol):
    """Who tells others what is recorded here, where they share no store."""

    def tell(self, d: Decided) -> None:
        """Add to a decision what is to be told of it."""
        ...

    def publish(self, decision: Decision, events: Iterable[EventRow]) -> None:
        """Have events sent to whoever hears them, once a decision is durable."""
        ...

    def send(self, rows: Iterable[SendingRow]) -> None:
        """Send messages that have become durable."""
        ...

    def look(self) -> None:
        """Send what may have become durable, though nobody was told."""
        ...


class Claim(Protocol):
    """That an attempt has the turn of an effect."""

    def until_durable(self, take: Callable[[], Decided | None]) -> Callable[[], Decided | None]:
        """Have the turn given back when what an answer decides is durable."""
        ...

    def bearing(self, worked: Callable[[Decision | None, Exception | None], None]) -> Receipt:
        """Be what a transactional handler bears; the turn is given back when that is settled."""
        ...

    def free(self) -> None:
        """Give the turn back."""
        ...


class Ledger(Protocol):
    """Who sees that an effect has one cause."""

    def claim_of(self, action: Action, ticket: int) -> Claim | None:
        """Give, once, the claim of an attempt that has its answer, or is handed to the store."""
        ...

    def by_hand(self, action: Action, answer: Answer) -> Answer:
        """Add to what a person records what the ledger is told of it."""
        ...


class Receipt(Protocol):
    """What a decision or work bears that belongs to no run."""

    def settled(self, decision: Decision | None, error: Exception | None) -> None:
        """Take what became of it."""
        ...


class Performer(Protocol):
    """Who runs actions."""

    def start(self, action: Action) -> None:
        """Have an action performed."""
        ...

    def interrupt(self, action: Action) -> None:
        """Cut off an attempt whose answer nobody waits for."""
        ...
