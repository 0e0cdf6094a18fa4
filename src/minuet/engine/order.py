"""Order of events from elsewhere: what is next, what came too early or too late, and when a gap is one.

Events that are published here are heard in the order of their commits. Those of another store may overtake one
another on their way; so each says its number among the events of its source (`sequence`), and the number of the event
before it of the same type and key (`previous`, 0: there is none that anybody need wait for). The events of one source
and key are a *stream*; notices that some are taken back are of another type, and a stream of their own. One is next
when what came before it has been given out; one that is *early* waits in the store for what is missing; one that is
*late* is older than what was given out. Where something stays away (for longer than an age, or while more wait than a
buffer holds) that is a *gap*, and the subscription's policy says what follows.

Each early event is a tuple here and a row in the store, so a gap costs little memory, and nothing at a crash.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from enum import StrEnum
from typing import NamedTuple

from minuet.engine.row import EventRow
from minuet.engine.taken_back import is_notice


class Verdict(StrEnum):
    """What is to be done with an event that comes."""

    NEXT = "next"  # it is given out
    EARLY = "early"  # it waits
    LATE = "late"  # something newer was given out


class StreamName(NamedTuple):
    """Whose events keep an order among themselves, as far as one subscription goes.

    `source`: of notices, it is followed by their type.
    """

    source: str
    key: str


class Early(NamedTuple):
    """An event that waits for what came before it, since `since_ms`."""

    sequence: int
    previous: int
    entry: int
    since_ms: int


class Gap(NamedTuple):
    """Something stays away: what came after `after` and not after `until`. `waiting` wait for it; `first` does."""

    stream: StreamName
    after: int
    until: int
    first: Early
    waiting: int


@dataclass(frozen=True, slots=True, kw_only=True)
class GapPolicy:
    """When a gap is one, and what follows; `on_gap`: `park`, `wait`, `skip`, `latest`."""

    buffer_messages: int = 1_000
    buffer_age_ms: int = 300_000
    on_gap: str = "park"
    on_late: str = "drop"


class _Stream:
    """`released`: up to here all was given out; `settled`: up to here nothing is under way any more."""

    __slots__ = ("early", "released", "settled", "told")

    def __init__(self, last: int) -> None:
        self.released = last
        self.settled = last
        self.early: dict[int, Early] = {}
        self.told = 0  # the first that waits, when the alarm was raised

    def first(self) -> Early:
        return self.early[min(self.early)]


class Order:
    """The streams of one subscription."""

    def __init__(self, policy: GapPolicy) -> None:
        self._policy = policy
        self._streams: dict[StreamName, _Stream] = {}
        self._waiting: dict[StreamName, None] = {}  # those of which something is early
        self.gaps_open = 0

    @property
    def stalled(self) -> int:
        """Give how many streams wait for something."""
        return len(self._waiting)

    @property
    def early(self) -> int:
        """Give how many events wait."""
        return sum(len(self._streams[name].early) for name in self._waiting)

    @property
    def parked(self) -> set[int]:
        """Give the entries that wait behind gaps that somebody was told of, the first of each."""
        streams = (self._streams[name] for name in self._waiting)
        return {s.early[s.told].entry for s in streams if s.told in s.early}

    def __len__(self) -> int:
        return len(self._streams)

    def knows(self, name: StreamName) -> bool:
        """Say whether it is known how far a stream is."""
        return name in self._streams

    def learn(self, name: StreamName, last: int) -> None:
        """Learn how far a stream is: 0 where nothing of it was applied."""
        if (stream := self._streams.get(name)) is None:
            self._streams[name] = _Stream(last)
        elif last > stream.released:
            stream.released = stream.settled = last

    def recall(self, name: StreamName, early: Early) -> None:
        """Learn, at the start, that an event waits in the store."""
        stream = self._streams.setdefault(name, _Stream(0))
        stream.early[early.sequence] = early
        self._waiting[name] = None

    def pending(self, name: StreamName, sequence: int) -> None:
        """Learn, at the start, that an event was given out and is not applied: it is here, and not missing."""
        stream = self._streams.setdefault(name, _Stream(0))
        stream.released = max(stream.released, sequence)

    def forget_idle(self) -> None:
        """Forget streams of which nothing is under way: how far they are stands in the store."""
        idle = [n for n, s in self._streams.items() if not s.early and s.settled == s.released]
        for name in idle:
            del self._streams[name]

    def take(self, name: StreamName, early: Early, *, is_free: bool) -> Verdict:
        """Take an event that comes; `is_free`: its key is not held up by something else."""
        stream = self._streams[name]
        if early.sequence <= stream.released:
            return Verdict.LATE
        if is_free and early.previous <= stream.released:
            stream.released = early.sequence
            return Verdict.NEXT
        stream.early[early.sequence] = early
        self._waiting[name] = None
        return Verdict.EARLY

    def is_full(self, name: StreamName) -> bool:
        """Say whether as many wait as may, before something has to be done about it."""
        stream = self._streams.get(name)
        return stream is not None and not stream.told and len(stream.early) >= self._policy.buffer_messages

    def put_back(self, name: StreamName, events: Iterable[Early]) -> None:
        """Take that these were given out and are not to be applied yet: one before them has failed."""
        stream = self._streams[name]
        for early in events:
            stream.early[early.sequence] = early
        if stream.early:
            self._waiting[name] = None
            # Nothing of the stream lies between an event and the one before it.
            stream.released = min(stream.released, min(stream.early) - 1)

    def settled(self, name: StreamName, sequence: int) -> bool:
        """Take that an event is applied, or that its key goes on without it; True if something early may be next."""
        stream = self._streams.get(name)
        if stream is None:
            return False
        if stream.early.pop(sequence, None) is not None:
            self._relieved(name, stream)
        stream.settled = max(stream.settled, sequence)
        stream.released = max(stream.released, sequence)
        return bool(stream.early)

    def forced(self, name: StreamName, sequence: int) -> None:
        """Take that an event is given out whatever came before it: a person wants it so."""
        stream = self._streams.get(name)
        if stream is None:
            return
        if stream.early.pop(sequence, None) is not None:
            self._relieved(name, stream)
        stream.released = max(stream.released, sequence)

    def peek(self, name: StreamName, limit: int) -> list[Early]:
        """Give those that are next by now, in their order; `release` gives them out."""
        stream = self._streams[name]
        released, found = stream.released, list[Early]()
        for early in sorted(stream.early.values()):
            if early.previous > released or len(found) == limit:
                break
            found.append(early)
            released = max(released, early.sequence)
        return found

    def release(self, name: StreamName, limit: int) -> list[Early]:
        """Give out those that are next by now, in their order."""
        stream, found = self._streams[name], self.peek(name, limit)
        for early in found:
            del stream.early[early.sequence]
            stream.released = max(stream.released, early.sequence)
        if found:
            self._relieved(name, stream)
        return found

    def gaps(self, now_ms: int) -> list[Gap]:
        """Give the gaps that are old enough, or behind which too many wait, and that nobody was told of."""
        found = []
        for name in self._waiting:
            stream = self._streams[name]
            first = stream.first()
            if first.previous <= stream.released or stream.told == first.sequence:
                continue
            is_full = len(stream.early) >= self._policy.buffer_messages
            since = min(e.since_ms for e in stream.early.values())
            if is_full or now_ms - since >= self._policy.buffer_age_ms:
                found.append(Gap(name, stream.released, first.previous, first, len(stream.early)))
        return found

    def due_ms(self) -> int | None:
        """Give when the next gap is old enough to be one."""
        sinces = [
            min(e.since_ms for e in s.early.values())
            for s in (self._streams[name] for name in self._waiting)
            if (first := s.first()).previous > s.released and s.told != first.sequence
        ]
        return min(sinces) + self._policy.buffer_age_ms if sinces else None

    def told(self, gap: Gap) -> None:
        """Take that somebody was told of a gap: it goes on waiting, and is counted as long as it does."""
        stream = self._streams[gap.stream]
        self.gaps_open += not stream.told
        stream.told = gap.first.sequence

    def go_on(self, gap: Gap) -> None:
        """Go on behind a gap: `release` gives what follows it."""
        stream = self._streams[gap.stream]
        stream.released = max(stream.released, gap.until)

    def keep_newest(self, gap: Gap) -> list[Early]:
        """Go on with the newest of those that wait behind a gap; give the others, which it makes needless."""
        stream = self._streams[gap.stream]
        *others, newest = sorted(stream.early.values())
        for early in others:
            del stream.early[early.sequence]
        stream.released = max(stream.released, newest.previous)
        self._relieved(gap.stream, stream)
        return others

    def _relieved(self, name: StreamName, stream: _Stream) -> None:
        """Take that something early is not any more: a gap in front of it is closed."""
        if not stream.early:
            del self._waiting[name]
        if stream.told and (not stream.early or stream.first().sequence != stream.told):
            stream.told = 0
            self.gaps_open -= 1


def stream_of(event: EventRow) -> StreamName:
    """Give the stream of an event from elsewhere."""
    return stream_named(event.source, event.event, event.key)


def stream_named(source: str, event: str, key: str) -> StreamName:
    """Give the stream of events of a source, type and key, as one subscription hears them."""
    return StreamName(f"{source} {event}" if is_notice(event) else source, key)


def early_of(event: EventRow, entry: int, now_ms: int) -> Early:
    """Give what is kept in memory of an event that may have to wait."""
    assert event.sequence is not None, "an event that was published here keeps its order by itself"
    return Early(event.sequence, event.previous or 0, entry, now_ms)


def numbered(events: Sequence[EventRow], previous: Sequence[int]) -> list[EventRow]:
    """Give events as they are sent elsewhere: each with its number and that of the one before it of its stream."""
    return [e._replace(sequence=e.entry, previous=p) for e, p in zip(events, previous, strict=True)]
