"""A broker for tests: it keeps every promise of the port, and none beyond.

What is published comes in any order, late, often twice, and now and then long after it was acknowledged. A publication
fails now and then after some of it was taken. Nothing goes on by itself: `turn` delivers what has come by then.
"""

from __future__ import annotations

import heapq
import itertools
import random
from collections.abc import Callable, Collection, Sequence
from typing import Any, Literal

from minuet.contracts.envelope import Envelope
from minuet.engine.broker import EVERYTHING, BrokerCapability, Received
from minuet.errors import BrokerUnavailable
from minuet.runtime.clock import WaitingClock

TURNS_LATE = 25  # at most, of the driver's loop
LATE_MS = 90_000  # at most, for what comes again

Deliver = Callable[[Sequence[Received]], None]


class LooseBroker:
    """`duplicates`, `failures`: shares, 0 to 1. `tells_all`: every group hears every topic, whatever it asked for.

    `delay_ms` may hold a first delivery back in the clock's time.
    """

    capabilities = frozenset({BrokerCapability.DURABLE, BrokerCapability.SYNCED})

    def __init__(
        self,
        clock: WaitingClock,
        seed: int,
        *,
        duplicates: float = 0.3,
        failures: float = 0.01,
        tells_all: bool = False,
        delay_ms: Callable[[Envelope], int] = lambda _: 0,
    ) -> None:
        self.clock = clock
        self.r = random.Random(f"broker {seed}")
        self.duplicates, self.failures, self.tells_all, self.delay_ms = duplicates, failures, tells_all, delay_ms
        self.groups: dict[str, _Group] = {}
        self.tags = itertools.count()
        self.published = 0
        self.delivered = 0
        self._turn = 0
        self._ready: list[tuple[int, float, int, _Group, Envelope]] = []
        self._later: list[tuple[int, int, _Group, Envelope]] = []

    async def open(self) -> None:
        """Nothing is to be opened."""

    async def close(self) -> None:
        """Nothing is to be closed."""

    def on_return(self, call: Callable[[], None] | None) -> None:
        """Do nothing: nothing that was confirmed is forgotten."""

    async def publish(self, batch: Sequence[Envelope]) -> None:
        """Take messages for every group that hears them; see `Broker.publish`."""
        fails = self.r.random() < self.failures
        for envelope in batch[: self.r.randrange(len(batch) + 1)] if fails else batch:
            self.published += 1
            for group in self.groups.values():
                if self.tells_all or envelope.topic in group.topics or EVERYTHING in group.topics:
                    self._address(group, envelope)
        if fails:
            raise BrokerUnavailable("the broker is not there", remedy="Try again")

    def _address(self, group: _Group, envelope: Envelope) -> None:
        delay_ms = self.delay_ms(envelope)
        if delay_ms:
            self.later(group, envelope, delay_ms)
        else:
            self.soon(group, envelope)
        if self.r.random() < self.duplicates:
            if self.r.random() < 0.5:
                self.soon(group, envelope) if not delay_ms else self.later(group, envelope, delay_ms + 1)
            else:
                self.later(group, envelope, delay_ms + self.r.randrange(1, LATE_MS))

    def soon(self, group: _Group, envelope: Envelope) -> None:
        """Have a message delivered in one of the next turns."""
        late = self.r.randrange(TURNS_LATE) if self.r.random() < 0.3 else 0
        heapq.heappush(self._ready, (self._turn + late, self.r.random(), next(self.tags), group, envelope))

    def later(self, group: _Group, envelope: Envelope, delay_ms: int) -> None:
        """Have a message delivered when the clock has moved on."""
        heapq.heappush(self._later, (self.clock.now_ms() + delay_ms, next(self.tags), group, envelope))

    async def subscribe(
        self,
        group: str,
        topics: Collection[str],
        deliver: Deliver,
        *,
        start: Literal["now", "beginning"] | int = "now",
        prefetch: int = 512,
    ) -> _Group:
        """Have messages delivered; see `Broker.subscribe`. A group that is known goes on where it was."""
        assert start == "now"
        found = self.groups.setdefault(group, _Group(self))
        assert found.deliver is None, f"{group} is subscribed twice"
        found.topics, found.deliver, found.prefetch = set(topics), deliver, prefetch
        return found

    @property
    def is_busy(self) -> bool:
        """Whether something can be delivered now."""
        return any(group.deliver is not None for *_, group, _ in self._ready)

    def turn(self) -> None:
        """Deliver what has come by now."""
        while self._later and self._later[0][0] <= self.clock.now_ms():
            _, _, group, envelope = heapq.heappop(self._later)
            self.soon(group, envelope)
        if not self._ready:
            return
        self._turn = max(self._turn + 1, self._ready[0][0])
        batches: dict[_Group, list[Received]] = {}
        kept = []
        while self._ready and self._ready[0][0] <= self._turn:
            entry = heapq.heappop(self._ready)
            *_, tag, group, envelope = entry
            if group.deliver is None or len(group.open) >= group.prefetch:
                kept.append((self._turn + 1, *entry[1:]))
                continue
            group.open[tag] = envelope
            batches.setdefault(group, []).append(Received(envelope, tag, 1))
        for entry in kept:
            heapq.heappush(self._ready, entry)
        for group, batch in batches.items():
            self.delivered += len(batch)
            assert group.deliver is not None
            group.deliver(batch)


class _Group:
    """What one group hears, and what it has not acknowledged; it is its own subscription."""

    def __init__(self, broker: LooseBroker) -> None:
        self.broker = broker
        self.topics = set[str]()
        self.deliver: Deliver | None = None
        self.prefetch = 0
        self.open: dict[int, Envelope] = {}

    def acknowledge(self, tags: Sequence[Any]) -> None:
        """Forget deliveries; those of a subscription that was closed are forgotten by nobody."""
        for tag in tags:
            self.open.pop(tag, None)

    def release(self, tags: Sequence[Any], delay_ms: int) -> None:
        """Deliver again after a while."""
        for tag in tags:
            if (envelope := self.open.pop(tag, None)) is not None:
                self.broker.later(self, envelope, delay_ms)

    async def change(self, topics: Collection[str]) -> None:
        """Hear other topics."""
        self.topics = set(topics)

    async def close(self) -> None:
        """Deliver again what was not acknowledged, to whoever comes next."""
        self.deliver = None
        for envelope in self.open.values():
            self.broker.soon(self, envelope)
        self.open.clear()
