"""The port of a broker: it carries messages between participants, and decides nothing.

Delivery is at least once. Whoever receives records what it has learnt and only then acknowledges; what it knows
already it leaves out. So a broker may repeat and delay, and need not be asked whether it has.
"""

from __future__ import annotations

from collections.abc import Callable, Collection, Sequence
from enum import StrEnum
from typing import Any, Literal, NamedTuple, Protocol

from minuet.contracts.envelope import Envelope

EVERYTHING = "#"
"""The topic of those who hear all: the observer."""


class BrokerCapability(StrEnum):
    """What a broker may lack; the conformance suite skips what is lacking."""

    DURABLE = "durable"  # what was confirmed is there after closing, and after a crash
    SYNCED = "synced"  # a confirm means that it is on the disk: nothing is to be kept until it has been received
    ORDERED = "ordered"  # messages of one key reach a group in the order in which they were published
    REPLAY = "replay"  # a new group may begin earlier than now


class Received(NamedTuple):
    """A delivery. `tag` is the broker's, for acknowledging; `deliveries` counts from 1."""

    envelope: Envelope
    tag: Any
    deliveries: int


class Subscription(Protocol):
    """What one group hears. Its members are of one participant, in as many processes as it has."""

    def acknowledge(self, tags: Sequence[Any]) -> None:
        """Say that these are durably handled: they are not delivered again, as far as the broker can help it."""
        ...

    def release(self, tags: Sequence[Any], delay_ms: int) -> None:
        """Say that these could not be handled: they are delivered again after a while."""
        ...

    async def change(self, topics: Collection[str]) -> None:
        """Hear these topics from now on; returns once nothing published after this call is missed."""
        ...

    async def close(self) -> None:
        """Stop hearing; what comes meanwhile waits for the group. What was not acknowledged is delivered again."""
        ...


class Broker(Protocol):
    """How messages travel."""

    capabilities: frozenset[BrokerCapability]

    async def open(self) -> None:
        """Connect. Raises BrokerUnavailable, and SettingsError where it is set up such that it may lose messages."""
        ...

    async def close(self) -> None:
        """Let go. Idempotent."""
        ...

    def on_return(self, call: Callable[[], None] | None) -> None:
        """Have it called, in the caller's loop, whenever the broker could not be reached and is there again.

        Who speaks to one without `SYNCED` publishes again what it has confirmed lately: it may have forgotten it.
        """
        ...

    async def publish(self, batch: Sequence[Envelope]) -> None:
        """Publish messages in this order; returns when all are confirmed.

        Raises:
            BrokerUnavailable: unknown which of them were taken; the same again is safe.
        """
        ...

    async def subscribe(
        self,
        group: str,
        topics: Collection[str],
        deliver: Callable[[Sequence[Received]], None],
        *,
        start: Literal["now", "beginning"] | int = "now",
        prefetch: int = 512,
    ) -> Subscription:
        """Have messages of these topics delivered to a group, in the caller's event loop.

        `start` counts for a group that is new: an integer is an instant in milliseconds since 1970. At most
        `prefetch` messages are delivered and not acknowledged at a time. A second subscriber of a group shares it.
        """
        ...
