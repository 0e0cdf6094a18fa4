"""Order per key, under any order of answers, commits, duplicates and crashes: each event once, in its turn."""

from __future__ import annotations

from collections.abc import Callable

from hypothesis import settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, initialize, invariant, precondition, rule

from minuet.contracts.action import RetryPolicy
from minuet.engine import inbox
from minuet.engine.answer import Answer, Done, Failed
from minuet.engine.inbox import Delivery, Policy
from minuet.engine.lane import Lanes
from minuet.engine.row import Decision, DeliveryRow, EventRow

NOW = 1_700_000_000_000
KEYS = ["a", "b"]


def made(entry: int, key: str) -> EventRow:
    return EventRow(entry, "/s", f"m-{entry}", "x.y", 1, key, f'{{"k":"{key}"}}', 0, "", NOW, NOW)


def delivery(entry: int, key: str = "a") -> Delivery:
    return Delivery(made(entry, key), entry, key)


class Subscription:
    """The store of one subscription, and its memory, which a crash takes away. Commits come when a test says so."""

    def __init__(self, policy: Policy) -> None:
        self.policy = policy
        self.log: list[EventRow] = []
        self.applied: set[int] = set()
        self.rows: dict[int, DeliveryRow] = {}
        self.effects: list[int] = []  # what the reaction's own writes say
        self.refused = 0
        self.begin()

    def begin(self) -> None:
        """Take over what the store says."""
        self.lanes = Lanes(is_ordered=self.policy.order_key is not None)
        self.pending: list[tuple[Decision, list[int], Callable[[Decision], None]]] = []
        self.flight: set[int] = set()
        self.running: list[Delivery] = []
        for entry, row in list(self.rows.items()):
            if row.state == "running":
                self._write(inbox.crashed(self.policy, self._stored(entry), NOW), [])
        first_held: dict[str, int] = {}
        for entry, row in sorted(self.rows.items()):
            if row.state == "held":
                first_held.setdefault(row.key, entry)
        rows = [(r.key, e, r.state) for e, r in self.rows.items() if r.state in ("waiting", "dead")]
        rows += [(key, entry, "held") for key, entry in first_held.items()]
        self.lanes.recall(rows, dead_block=self.policy.blocks)
        self.taken = 0

    def _stored(self, entry: int) -> Delivery:
        event, row = self.log[entry - 1], self.rows[entry]
        return Delivery(event, entry, row.key, row)

    def read(self) -> None:
        for event in self.log[self.taken :]:
            entry = event.entry
            assert entry is not None
            self.taken = entry
            if entry in self.applied or entry in self.rows:
                continue
            self.flight.add(entry)
            fresh = Delivery(event, entry, inbox.order_key_of(self.policy, event))
            todo = self.lanes.take(fresh)
            if todo == "run":
                self.running.append(fresh)
            elif todo == "hold":
                self.hold([fresh])

    def hold(self, held: list[Delivery]) -> None:
        def durable(_: Decision) -> None:
            for d in held:
                self.flight.discard(d.entry)
                self.lanes.recorded(d.key)

        if held:
            self.pending.append((inbox.hold(self.policy, held, NOW), [], durable))

    def due(self) -> None:
        for entry, row in sorted(self.rows.items()):
            if row.state == "waiting" and entry not in self.flight:
                self.take_back(entry)

    def drain(self) -> None:
        for key in self.lanes.to_drain():
            mark = self.lanes.mark(key)
            held = [e for e, r in sorted(self.rows.items()) if (r.key, r.state) == (key, "held")]
            held = [e for e in held if e not in self.flight][:2]
            for entry in held:
                self.take_back(entry)
            if not held:
                self.lanes.drained(key, mark)

    def take_back(self, entry: int) -> None:
        stored = self._stored(entry)
        self.flight.add(entry)
        if self.lanes.take_back(stored) == "run":
            self.start_again(stored)

    def start_again(self, stored: Delivery) -> None:
        def durable(decision: Decision) -> None:
            assert decision.messages is not None
            self.running.append(inbox.with_row(stored, next(iter(decision.messages.deliveries))))

        self.pending.append((inbox.begin_again(self.policy, stored, NOW), [], durable))

    def answer(self, index: int, answer: Answer) -> None:
        d = self.running.pop(index % len(self.running))
        decision = inbox.answered(self.policy, d, answer, (), NOW)
        effects = [d.entry] if isinstance(answer, Done) else []
        self.pending.append((decision, effects, lambda decided: self.settled(d, decided)))

    def settled(self, d: Delivery, decision: Decision) -> None:
        assert decision.messages is not None
        self.flight.discard(d.entry)
        if decision.messages.applied or (
            next(iter(decision.messages.deliveries)).state == "dead" and not self.policy.blocks
        ):
            following = self.lanes.next(d.key)
            if following is not None:
                self.running.append(following) if following.row is None else self.start_again(following)
            self.lanes.unblock(d.key, d.entry)
        else:
            fresh, stored, _ = self.lanes.block(d)
            self.hold(fresh)
            self.flight -= {x.entry for x in stored}

    def _write(self, decision: Decision, effects: list[int]) -> bool:
        messages = decision.messages
        assert messages is not None
        if any(key.entry in self.applied for key in messages.applied):
            self.refused += 1
            return False
        self.applied |= {key.entry for key in messages.applied}
        self.effects += effects
        for row in messages.deliveries:
            self.rows[row.entry] = row
        for key in messages.deliveries_done:
            self.rows.pop(key.entry, None)
        return True

    def commit(self, count: int) -> None:
        for _ in range(min(count, len(self.pending))):
            decision, effects, durable = self.pending.pop(0)
            self._write(decision, effects)
            durable(decision)

    def crash(self, recorded: int) -> None:
        """Stop at any moment: some of what was submitted is recorded, and nobody was told."""
        for decision, effects, _ in self.pending[:recorded]:
            self._write(decision, effects)
        self.begin()


class AnyOrder(RuleBasedStateMachine):
    """Everything that can happen to one subscription."""

    @initialize(ordered=st.sampled_from([True, True, False]), blocks=st.booleans(), attempts=st.sampled_from([0, 2, 1]))
    def begin(self, ordered: bool, blocks: bool, attempts: int) -> None:
        self.s = Subscription(
            Policy(
                subscription=1,
                name="a.b",
                event="x.y",
                version=1,
                retry=RetryPolicy(attempts=attempts),
                order_key="k" if ordered else None,
                blocks=ordered and blocks,
            )
        )
        self.late: set[int] = set()  # what a person has taken up after its key went on

    @rule(keys=st.lists(st.sampled_from(KEYS), min_size=1, max_size=4))
    def publish(self, keys: list[str]) -> None:
        for key in keys:
            self.s.log.append(made(len(self.s.log) + 1, key))

    @rule()
    def read(self) -> None:
        self.s.read()

    @precondition(lambda self: self.s.running)
    @rule(
        which=st.integers(0, 10), answer=st.sampled_from([Done(None), Done(None), Failed("x"), Failed("y", None, True)])
    )
    def answer(self, which: int, answer: Answer) -> None:
        self.s.answer(which, answer)

    @rule(count=st.integers(1, 5))
    def commit(self, count: int) -> None:
        self.s.commit(count)

    @rule(answers=st.lists(st.tuples(st.integers(0, 3), st.booleans()), max_size=4), commits=st.booleans())
    def turn(self, answers: list[tuple[int, bool]], commits: bool) -> None:
        """Let everybody do something: most histories go on, few steps are rare."""
        self.s.commit(1_000)
        self.s.read()
        self.look()
        self.s.commit(1_000)
        for which, is_good in answers:
            if self.s.running:
                self.s.answer(which, Done(None) if is_good else Failed("z"))
        if commits:
            self.s.commit(1_000)

    @rule()
    def look(self) -> None:
        self.s.due()
        self.s.drain()

    @rule(recorded=st.integers(0, 4))
    def crash(self, recorded: int) -> None:
        self.s.crash(recorded)

    @rule()
    def take_up(self) -> None:
        """A person takes up a dead letter."""
        for entry, row in self.s.rows.items():
            if row.state == "dead" and entry not in self.s.flight:
                self.s.rows[entry] = inbox.make_due(row, NOW)
                if not self.s.policy.blocks:
                    self.late.add(entry)
                return

    @invariant()
    def each_event_is_applied_once_and_in_its_turn(self) -> None:
        if not hasattr(self, "s"):
            return
        effects = self.s.effects
        assert len(effects) == len(set(effects))
        if self.s.policy.order_key is not None:
            for key in KEYS:
                turn = [e for e in effects if self.s.log[e - 1].key == key and e not in self.late]
                assert turn == sorted(turn), (key, turn)

    def teardown(self) -> None:
        """In the end everything succeeds, and a person takes up what is dead: then all of it was applied."""
        if not hasattr(self, "s"):
            return
        for _ in range(20 * (len(self.s.log) + 5)):
            if len(self.s.effects) == len(self.s.log):
                break
            self.s.read()
            self.look()
            self.take_up()
            while self.s.running:
                self.s.answer(0, Done(None))
            self.s.commit(1_000)
        self.each_event_is_applied_once_and_in_its_turn()
        assert sorted(self.s.effects) == list(range(1, len(self.s.log) + 1))
        assert not self.s.rows
        assert not self.s.flight


TestAnyOrder = AnyOrder.TestCase
TestAnyOrder.settings = settings(max_examples=400, stateful_step_count=40, deadline=None)


def test_without_an_order_nothing_waits_for_anything() -> None:
    lanes = Lanes(is_ordered=False)
    assert [lanes.take(delivery(e)) for e in (1, 2)] == ["run", "run"]
    assert lanes.block(delivery(1)) == ([], [], [])
    assert lanes.take(delivery(3)) == "run"
    assert lanes.stalled == 0


def test_events_of_one_key_queue_and_those_of_others_do_not() -> None:
    lanes = Lanes(is_ordered=True)
    first, second, other = delivery(1), delivery(2), delivery(3, "b")
    assert [lanes.take(d) for d in (first, second, other)] == ["run", "queue", "run"]
    assert lanes.next("a") is second
    assert lanes.next("a") is None
    assert lanes.take(delivery(4)) == "run"


def test_a_blocker_holds_up_its_key_only() -> None:
    lanes = Lanes(is_ordered=True)
    first, second = delivery(1), delivery(2)
    for d in (first, second, delivery(3, "b")):
        lanes.take(d)
    assert lanes.block(first) == ([second], [], [])
    assert lanes.take(delivery(4)) == "hold"
    assert lanes.next("b") is None
    assert lanes.take(delivery(5, "b")) == "run"
    assert lanes.stalled > 0


def test_a_key_goes_on_once_all_that_was_held_is_durable_and_taken_back() -> None:
    lanes = Lanes(is_ordered=True)
    first = delivery(1)
    lanes.take(first)
    lanes.block(first)
    assert lanes.take(delivery(2)) == "hold"
    assert not lanes.unblock("a", 1), "what is held is not durable yet"
    assert lanes.recorded("a")
    mark = lanes.mark("a")
    assert lanes.take(delivery(3)) == "hold"
    assert not lanes.drained("a", mark), "another one was held meanwhile"
    assert lanes.recorded("a")
    assert lanes.drained("a", lanes.mark("a"))
    assert lanes.take(delivery(4)) == "run"
    assert lanes.stalled == 0
