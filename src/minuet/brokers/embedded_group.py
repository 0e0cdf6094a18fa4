"""A group of the embedded broker: what it has been given, what of it is acknowledged, and what is next."""

from __future__ import annotations

import asyncio
import heapq
from collections import deque
from collections.abc import Callable, Iterable, Mapping, Sequence
from operator import itemgetter
from typing import NamedTuple
from zlib import crc32

from minuet.contracts.envelope import Envelope
from minuet.engine.broker import EVERYTHING, Received
from minuet.engine.row import EventRow, SubscriptionRow
from minuet.errors import InvalidPayload


class Published(NamedTuple):
    """A message with its entry in the log."""

    entry: int
    envelope: Envelope


class Member:
    """One subscriber of a group; `held`: how many messages are delivered to it, and not acknowledged."""

    __slots__ = ("deliver", "held", "prefetch", "topics")

    def __init__(self, deliver: Callable[[Sequence[Received]], None], topics: frozenset[str], prefetch: int) -> None:
        self.deliver = deliver
        self.topics = topics
        self.prefetch = prefetch
        self.held = 0


class _Open:
    """A message that is not acknowledged; `member`: who has it, None while it waits to be delivered again."""

    __slots__ = ("deliveries", "envelope", "member")

    def __init__(self, envelope: Envelope) -> None:
        self.envelope = envelope
        self.deliveries = 0
        self.member: Member | None = None


class Group:
    """What one group is given, in the order of the log.

    A group that is caught up is offered what is published; one that is behind takes what the broker reads for it. It
    falls behind where its members have no room, or are all gone. Messages of one key go to one member, as long as
    there are the same members.
    """

    def __init__(self, row: SubscriptionRow) -> None:
        self.name = row.name
        self.is_behind = True
        self.awaits_commit = False  # it was read to its end while nobody knew whether there is more in the log
        self.cursor = row.position  # everything up to here has been looked at
        self.reading: asyncio.Task[None] | None = None
        self.is_woken = False
        self._members: list[Member] = []
        self._topics: frozenset[str] = frozenset()
        self._window = 0  # how many messages may be open: what was released counts, so that memory has a bound
        self._waiting: deque[Published] = deque()
        self._open: dict[int, _Open] = {}  # ascending, since entries are opened in their order
        self._again: list[int] = []  # a heap of open entries that are to be delivered again

    @property
    def position(self) -> int:
        """Give the entry up to which nothing is left to be delivered or acknowledged."""
        for entry in self._open:
            return entry - 1
        return self._waiting[0].entry - 1 if self._waiting else self.cursor

    @property
    def is_heard(self) -> bool:
        """Say whether it has members."""
        return bool(self._members)

    @property
    def is_to_be_read_for(self) -> bool:
        """Say whether something may be read for it now."""
        return self.is_behind and self.has_room and not self.awaits_commit

    @property
    def has_room(self) -> bool:
        """Say whether more may wait for its members."""
        return len(self._waiting) < self._window

    def join(self, member: Member) -> None:
        """Add a member."""
        self._members.append(member)
        self._count()

    def leave(self, member: Member) -> None:
        """Take a member out; what it has not acknowledged is delivered again, to others or when one comes."""
        if member not in self._members:
            return
        self._members.remove(member)
        self._count()
        for entry, message in self._open.items():
            if message.member is member:
                self._take_back(message)
                heapq.heappush(self._again, entry)
        if not self._members:
            self.is_behind = True  # who comes next may hear other topics

    def disband(self) -> None:
        """Have no members any more."""
        for member in list(self._members):
            self.leave(member)

    def change(self, member: Member, topics: frozenset[str]) -> None:
        """Hear other topics from now on."""
        member.topics = topics
        self._count()

    def offer(self, by_topic: Mapping[str, Sequence[Published]], last: int) -> None:
        """Take what was published, by topic (and all of it by `EVERYTHING`), up to the entry `last`."""
        if self.is_behind:
            return
        for published in self._heard(by_topic):
            if published.entry <= self.cursor:
                continue  # it was read already
            if not self.has_room:
                self.is_behind = True
                return
            self._waiting.append(published)
            self.cursor = published.entry
        self.cursor = max(self.cursor, last)

    def take(self, rows: Iterable[EventRow]) -> list[InvalidPayload]:
        """Take what was read of the log; gives errors about rows that are no messages, which are left out."""
        damaged = []
        for row in rows:
            assert row.entry is not None, "the log has entries"
            if row.event in self._topics or EVERYTHING in self._topics:
                try:
                    self._waiting.append(Published(row.entry, Envelope.from_json(row.event, row.body)))
                except InvalidPayload as error:
                    damaged.append(error)
            self.cursor = row.entry
        return damaged

    def acknowledge(self, entries: Iterable[int]) -> None:
        """Be done with messages; those that are not open are no news."""
        for entry in entries:
            message = self._open.pop(entry, None)
            if message is not None:
                self._take_back(message)

    def release(self, member: Member, entries: Iterable[int]) -> list[int]:
        """Take messages back from a member; gives those that it had, which are to be delivered again some time."""
        released = []
        for entry in entries:
            message = self._open.get(entry)
            if message is not None and message.member is member:
                self._take_back(message)
                released.append(entry)
        return released

    def repeat(self, entries: Iterable[int]) -> None:
        """Have messages delivered again that were released."""
        for entry in entries:
            if entry in self._open:
                heapq.heappush(self._again, entry)

    def next_batches(self) -> list[tuple[Member, list[Received]]]:
        """Give what is to be delivered now, to whom there is room for it."""
        batches: dict[Member, list[Received]] = {}
        if not self._members:
            return []
        while self._again:
            entry = self._again[0]
            message = self._open.get(entry)
            is_free = message is not None and message.member is None
            if message is not None and is_free and not self._hand(entry, message, batches):
                break
            heapq.heappop(self._again)
        while self._waiting and len(self._open) < self._window:
            entry, envelope = self._waiting[0]
            message = _Open(envelope)
            if not self._hand(entry, message, batches):
                break
            self._open[entry] = message
            self._waiting.popleft()
        return list(batches.items())

    def _hand(self, entry: int, message: _Open, batches: dict[Member, list[Received]]) -> bool:
        """Put a message into the batch of its member, if that has room."""
        number = len(self._members)
        member = self._members[crc32(message.envelope.key.encode()) % number if number > 1 else 0]
        if member.held >= member.prefetch:
            return False
        member.held += 1
        message.member = member
        message.deliveries += 1
        batches.setdefault(member, []).append(Received(message.envelope, entry, message.deliveries))
        return True

    def _heard(self, by_topic: Mapping[str, Sequence[Published]]) -> Sequence[Published]:
        if EVERYTHING in self._topics:
            return by_topic[EVERYTHING]
        heard = [by_topic[topic] for topic in by_topic if topic in self._topics]
        if len(heard) == 1:
            return heard[0]
        return sorted((published for of_topic in heard for published in of_topic), key=itemgetter(0))

    def _take_back(self, message: _Open) -> None:
        if message.member is not None:
            message.member.held -= 1
            message.member = None

    def _count(self) -> None:
        self._window = sum(member.prefetch for member in self._members)
        self._topics = frozenset[str]().union(*(member.topics for member in self._members))
