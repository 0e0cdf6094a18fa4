"""Order of what comes from elsewhere: each stream as it was published, whatever the way; and nothing out of sight."""

from __future__ import annotations

from random import Random
from typing import Literal

import pytest
from hypothesis import given
from hypothesis import strategies as st

from minuet.engine.order import Early, GapPolicy, Order, StreamName, Verdict, early_of, numbered, stream_of
from minuet.engine.row import EventRow

NOW = 1_700_000_000_000
AGE_MS = 300_000
A = StreamName("/s", "a")


def early(sequence: int, previous: int, since_ms: int = NOW) -> Early:
    return Early(sequence, previous, 100 + sequence, since_ms)


def order(last: int = 0, **policy: object) -> Order:
    made = Order(GapPolicy(**policy))  # type: ignore[arg-type]
    made.learn(A, last)
    return made


def take(o: Order, sequence: int, previous: int, *, is_free: bool = True, since_ms: int = NOW) -> Verdict:
    return o.take(A, early(sequence, previous, since_ms), is_free=is_free)


def test_what_comes_in_order_is_next_and_nothing_waits() -> None:
    o = order()
    assert [take(o, *x) for x in ((3, 0), (7, 3), (8, 7))] == [Verdict.NEXT] * 3
    assert (o.stalled, o.early) == (0, 0)


def test_what_comes_early_waits_for_what_was_before_it() -> None:
    o = order()
    assert take(o, 7, 3) == Verdict.EARLY
    assert take(o, 9, 7) == Verdict.EARLY
    assert take(o, 3, 0) == Verdict.NEXT
    assert o.settled(A, 3)
    assert [e.sequence for e in o.release(A, 99)] == [7, 9]
    assert o.stalled == 0


def test_what_is_older_than_what_was_given_out_is_late() -> None:
    o = order(last=7)
    assert take(o, 3, 0) == take(o, 7, 3) == Verdict.LATE
    assert take(o, 8, 7) == Verdict.NEXT


def test_what_follows_something_that_fails_waits_and_is_no_gap() -> None:
    o = order()
    assert [take(o, *x) for x in ((3, 0), (7, 3), (8, 7))] == [Verdict.NEXT] * 3
    o.put_back(A, [early(7, 3), early(8, 7)])
    assert take(o, 9, 8, is_free=False) == Verdict.EARLY
    assert o.gaps(NOW + 99 * AGE_MS) == []
    assert o.settled(A, 3)
    assert [e.sequence for e in o.release(A, 2)] == [7, 8]
    assert [e.sequence for e in o.release(A, 2)] == [9]


def test_a_gap_is_one_when_it_is_old_enough() -> None:
    o = order(last=3)
    take(o, 9, 7, since_ms=NOW + 5)
    take(o, 8, 7, since_ms=NOW)  # of two that follow one, as after a restore at the source, the lower goes first
    assert o.due_ms() == NOW + AGE_MS
    assert o.gaps(NOW + AGE_MS - 1) == []
    (gap,) = o.gaps(NOW + AGE_MS)
    assert (gap.after, gap.until, gap.first.sequence, gap.waiting) == (3, 7, 8, 2)
    o.told(gap)
    assert (o.gaps(NOW + 2 * AGE_MS), o.due_ms(), o.gaps_open) == ([], None, 1)
    assert take(o, 7, 3) == Verdict.NEXT
    assert o.settled(A, 7)
    assert [e.sequence for e in o.release(A, 9)] == [8, 9]
    assert o.gaps_open == 0


def test_a_gap_is_one_when_too_many_wait_behind_it() -> None:
    o = order(buffer_messages=3)
    take(o, 5, 4)
    take(o, 6, 5)
    assert o.gaps(NOW) == []
    take(o, 7, 6)
    assert [g.waiting for g in o.gaps(NOW)] == [3]


def test_behind_a_gap_it_goes_on_or_keeps_only_the_newest() -> None:
    for go_on, expected in ((True, [5, 8]), (False, [8])):
        o = order(buffer_messages=2)
        take(o, 8, 5)
        take(o, 5, 4)
        (gap,) = o.gaps(NOW)
        if go_on:
            o.go_on(gap)
        else:
            assert [x.sequence for x in o.keep_newest(gap)] == [5]
        assert [e.sequence for e in o.release(A, 9)] == expected
        assert take(o, 4, 0) == Verdict.LATE


def test_a_person_may_have_something_applied_in_front_of_a_gap() -> None:
    o = order(last=3)
    take(o, 8, 7)
    take(o, 9, 8)
    o.forced(A, 8)
    assert o.settled(A, 8)
    assert [e.sequence for e in o.release(A, 9)] == [9]


def test_what_waits_in_the_store_is_recalled() -> None:
    o = Order(GapPolicy())
    for x in (early(8, 7), early(9, 8)):
        o.recall(A, x)
    o.learn(A, 3)
    o.pending(A, 7)
    assert o.gaps(NOW + AGE_MS) == [], "what it waits for is here, and failing"
    o.settled(A, 7)
    assert [e.sequence for e in o.release(A, 9)] == [8, 9]


def test_how_far_idle_streams_are_is_left_to_the_store() -> None:
    o = order()
    take(o, 3, 0)
    o.forget_idle()
    assert o.knows(A), "something is under way"
    o.settled(A, 3)
    o.forget_idle()
    assert not o.knows(A)


def test_an_event_is_numbered_by_its_entry_in_its_own_store() -> None:
    row = EventRow(7, "/s", "m", "x.y", 1, "a", "{}", 0, "", NOW, NOW)
    (sent,) = numbered([row], [3])
    assert (sent.sequence, sent.previous) == (7, 3)
    there = sent._replace(entry=101)
    assert (stream_of(there), early_of(there, 101, NOW)) == (A, Early(7, 3, 101, NOW))


class Subscription:
    """A subscription as the runtime keeps one: the store knows each identity once, a crash takes the memory."""

    def __init__(self, policy: GapPolicy, dice: Random) -> None:
        self.policy, self.dice = policy, dice
        self.seen: dict[StreamName, int] = {}
        self.known: dict[tuple[str, int], tuple[StreamName, Early]] = {}
        self.waiting: dict[tuple[str, int], None] = {}  # rows in the store
        self.parked: set[tuple[str, int]] = set()
        self.lanes: dict[StreamName, list[Early]] = {}
        self.applied: dict[StreamName, list[int]] = {}
        self.left: dict[StreamName, list[int]] = {}  # late, or made needless
        self.now = NOW
        self.order = Order(policy)

    def receive(self, name: StreamName, sequence: int, previous: int) -> None:
        identity = (name.key, sequence)
        if identity in self.known:
            return
        x = Early(sequence, previous, len(self.known), self.now)
        self.known[identity] = name, x
        self._take(name, x)

    def _take(self, name: StreamName, x: Early) -> None:
        if not self.order.knows(name):
            self.order.learn(name, self.seen.get(name, 0))
        verdict = self.order.take(name, x, is_free=True)
        if verdict == Verdict.NEXT:
            self.lanes.setdefault(name, []).append(x)
        elif verdict == Verdict.EARLY:
            self.waiting[name.key, x.sequence] = None
        elif self.policy.on_late == "drop":
            self.left.setdefault(name, []).append(x.sequence)

    def perform(self, *, fails: float) -> None:
        names = [name for name, lane in self.lanes.items() if lane]
        if not names:
            return
        name = self.dice.choice(names)
        first, *others = self.lanes[name]
        if self.dice.random() < fails:
            self.order.put_back(name, others)
            self.waiting.update(dict.fromkeys((name.key, x.sequence) for x in others))
            self.lanes[name] = [first]
            return
        self.lanes[name] = others
        self.waiting.pop((name.key, first.sequence), None)
        self.applied.setdefault(name, []).append(first.sequence)
        self._settle(name, first.sequence)

    def _settle(self, name: StreamName, sequence: int) -> None:
        self.seen[name] = max(self.seen.get(name, 0), sequence)
        if self.order.settled(name, sequence):
            self._release(name)

    def _release(self, name: StreamName) -> None:
        self.lanes.setdefault(name, []).extend(self.order.release(name, self.dice.choice([1, 2, 99])))

    def look(self, by_ms: int) -> None:
        self.now += by_ms
        for gap in self.order.gaps(self.now):
            assert gap.waiting >= self.policy.buffer_messages or self.now - NOW >= self.policy.buffer_age_ms
            if self.policy.on_gap == "latest":
                for x in self.order.keep_newest(gap):
                    self.left.setdefault(gap.stream, []).append(x.sequence)
                    self.waiting.pop((gap.stream.key, x.sequence), None)
                    self.seen[gap.stream] = max(self.seen.get(gap.stream, 0), x.sequence)
                self._release(gap.stream)
            elif self.policy.on_gap == "skip":
                self.order.go_on(gap)
                self._release(gap.stream)
            else:
                self.parked.add((gap.stream.key, gap.first.sequence))
                self.order.told(gap)

    def crash(self) -> None:
        """Begin with what the store says: what was applied, what waits; the rest is read from the log anew."""
        settled = {(n.key, s) for of in (self.applied, self.left) for n, xs in of.items() for s in xs}
        self.order, self.lanes = Order(self.policy), {}
        for identity in self.waiting:
            name, x = self.known[identity]
            self.order.learn(name, self.seen.get(name, 0))
            self.order.recall(name, x)
        for name in {self.known[i][0] for i in self.waiting}:
            self.order.learn(name, self.seen.get(name, 0))
            self._release(name)
        for identity, (name, x) in self.known.items():
            if identity not in settled and identity not in self.waiting:
                self._take(name, x)

    def come_to_the_end(self) -> None:
        for _ in range(len(self.known) * 4 + 4):
            self.perform(fails=0)
            for name in [n for n in self.seen if self.order.knows(n)]:
                self._release(name)
            if not any(self.lanes.values()):
                self.look(self.policy.buffer_age_ms)


def published(dice: Random, keys: int, events: int) -> list[tuple[StreamName, int, int]]:
    last: dict[str, int] = {}
    found, sequence = [], 0
    for _ in range(events):
        key = f"k{dice.randrange(keys)}"
        sequence += dice.choice([1, 1, 3])  # other types of the source lie between
        found.append((StreamName("/s", key), sequence, last.get(key, 0)))
        last[key] = sequence
    return found


@given(st.integers(), st.integers(1, 4), st.integers(1, 40), st.integers(1, 40))
def test_whatever_the_way_each_key_is_applied_as_it_was_published(seed: int, keys: int, events: int, far: int) -> None:
    """Nothing is lost here: random order, duplicates, failures and crashes."""
    dice = Random(seed)
    log = published(dice, keys, events)
    way = [x for x in log for _ in range(dice.choice([1, 1, 2, 3]))]
    way = [x for _, x in sorted((i + dice.uniform(0, far), x) for i, x in enumerate(way))]
    s = Subscription(GapPolicy(buffer_messages=10**6), dice)
    for x in way:
        s.receive(*x)
        for _ in range(dice.randrange(3)):
            s.perform(fails=0.2)
        if dice.random() < 0.03:
            s.crash()
    s.come_to_the_end()
    for name in {name for name, _, _ in log}:
        assert s.applied[name] == [sequence for n, sequence, _ in log if n == name]
    assert not s.waiting
    assert not s.left
    assert not s.parked


@pytest.mark.parametrize("on_gap", ["park", "wait", "skip", "latest"])
@given(st.integers(), st.integers(1, 3), st.integers(1, 40), st.integers(2, 12))
def test_whatever_is_lost_nothing_overtakes_and_nothing_is_out_of_sight(
    on_gap: Literal["park", "wait", "skip", "latest"], seed: int, keys: int, events: int, room: int
) -> None:
    dice = Random(seed)
    log = published(dice, keys, events)
    way = [x for x in log for _ in range(dice.choice([0, 1, 1, 1, 2]))]
    way = [x for _, x in sorted((i + dice.uniform(0, 10), x) for i, x in enumerate(way))]
    s = Subscription(GapPolicy(buffer_messages=room, on_gap=on_gap), dice)
    for x in way:
        s.receive(*x)
        s.perform(fails=0.1)
        s.look(dice.choice([0, 0, 10_000]))
        if dice.random() < 0.03:
            s.crash()
    s.come_to_the_end()
    came = {(name, sequence) for name, sequence, _ in way}
    for name in {name for name, _, _ in log}:
        applied, left = s.applied.get(name, []), s.left.get(name, [])
        waiting = [sequence for key, sequence in s.waiting if key == name.key]
        assert applied == sorted(set(applied)), "order"
        assert sorted([*applied, *left, *waiting]) == sorted(n for at, n in came if at == name), "out of sight"
        if waiting:
            assert on_gap in ("park", "wait")
            assert (name.key, min(waiting)) in s.parked, "a gap without an alarm"
        else:
            assert on_gap == "latest" or not left or max(applied) > min(left)


def test_a_notice_that_comes_first_makes_no_event_late() -> None:
    events = EventRow(7, "/s", "m", "x.y", 1, "a", "{}", 0, "", NOW, NOW, 7, 0)
    notices = events._replace(entry=9, event="x.y.taken-back", sequence=9)
    assert stream_of(events) == A
    o = Order(GapPolicy())
    for row in (notices, events):
        o.learn(stream_of(row), 0)
        assert o.take(stream_of(row), early_of(row, 100, NOW), is_free=True) == Verdict.NEXT


def test_the_first_that_waits_behind_a_gap_somebody_was_told_of_is_known() -> None:
    o = order(last=3)
    take(o, 8, 7)
    assert o.parked == set()
    (gap,) = o.gaps(NOW + AGE_MS)
    o.told(gap)
    assert o.parked == {108}
    o.settled(A, 8)
    assert o.parked == set()
