"""Performs a plan with the real engine, over rows held in a dictionary, in a random order.

Answers come in any order, some twice, some after a technical failure; timers and events as the oracle says;
and now and then everything in memory is forgotten and folded anew from the rows. A `Meddler` is a performer that
also cancels, pauses, resumes and retries, and lets deadlines pass, at any moment.
"""

from __future__ import annotations

import random
from collections.abc import Callable, Mapping
from typing import Any

import msgspec

from minuet.engine import decide
from minuet.engine.answer import Answer, Done, Failed, Rejected
from minuet.engine.decided import Decided
from minuet.engine.knowledge import COMPENSATION, Action, Knowledge
from minuet.engine.port import StoredRun
from minuet.engine.program import START_POSITION, Program
from minuet.engine.row import ASKED, ASKED_BACK, AttemptRow, FactRow, InboxRow, RunRow, TimerRow, WaitRow
from minuet.ids import parse_round
from minuet.workflows.tree import Deadline, Node, Step, Wait, WorkflowTree
from tests.property.interpreter import Fact, Oracle, Round

LONG_AGO = 1_000_000
FAR = 10**12
_MARKS = frozenset({"open", "back", "gone", ASKED, ASKED_BACK})


class Rows:
    """What is durable of one run."""

    def __init__(self) -> None:
        self.run: RunRow | None = None
        self.facts: dict[tuple[str, str, int], FactRow] = {}
        self.attempts: dict[tuple[str, str, str], AttemptRow] = {}
        self.timers: dict[tuple[str, str, str], TimerRow] = {}
        self.waits: dict[tuple[str, str], WaitRow] = {}

    def commit(self, d: Decided) -> None:
        """Record a decision as a store does."""
        for row in d.decision.runs:
            assert self.run is None
            self.run = row
        for f in d.decision.facts:
            assert (f.position, f.round, f.slot) not in self.facts, ("recorded twice", f)
            self.facts[f.position, f.round, f.slot] = f
        for a in d.decision.attempts:
            self.attempts[a.position, a.round, a.direction] = a
        for t in d.decision.timers:
            self.timers[t.position, t.round, t.purpose] = t
        for w in d.decision.waits:
            self.waits[w.position, w.round] = w
        for x in d.decision.attempts_done:
            del self.attempts[x.position, x.round, x.direction]
        for y in d.decision.timers_done:
            del self.timers[y.position, y.round, y.purpose]
        for z in d.decision.waits_done:
            del self.waits[z.position, z.round]
        for c in d.decision.changes:
            assert self.run is not None
            self.run = self.run._replace(
                state=c.state,
                load=c.load,
                paused=c.paused,
                dirty=c.dirty,
                reason=c.reason,
                result=c.result,
                ended_at_ms=c.ended_at_ms,
            )

    def stored(self) -> StoredRun:
        """Give the run as a store gives it."""
        assert self.run is not None
        return StoredRun(
            run=self.run,
            facts=sorted(self.facts.values(), key=lambda f: f.seq),
            attempts=list(self.attempts.values()),
            timers=list(self.timers.values()),
            waits=list(self.waits.values()),
        )


class Performer:
    """One performance of one plan."""

    def __init__(self, program: Program, tree: WorkflowTree, oracle: Oracle, input_: int, seed: int) -> None:
        self.r = random.Random(seed)
        self.oracle = oracle
        self.program = program
        self.nodes = self.nodes_of(tree)
        self.rows = Rows()
        self.now = LONG_AGO
        self.todo: list[Callable[[], None]] = []
        self.late: dict[tuple[str, Round], Action] = {}  # attempts that take longer than their timeout
        self.retries: list[Action] = []
        self.forgotten = 0
        self.k: Knowledge = self.take(decide.begin(self.program, 1, None, str(input_).encode(), self.now))

    @staticmethod
    def nodes_of(tree: WorkflowTree) -> dict[str, Any]:
        """Give the nodes of a tree by their positions."""
        return {n.position: n for n in _positions(tree.body)}

    def take(self, d: Decided | None) -> Knowledge:
        """Commit, and carry out what was asked for."""
        if d is None:
            return self.k
        self.rows.commit(d)
        for action in d.actions:
            self.start(action)
        self.retries.extend(d.retries)
        for w in d.waits:
            self.arm(w)
        return d.knowledge

    def start(self, action: Action) -> None:
        position, rnd = action.rule.position, action.round
        arguments = [msgspec.json.decode(action.knowledge.raw(v, rnd)) for _, v in action.rule.arguments]
        if self.r.random() < 0.05 and action.attempts == 0:
            self.later(action, Failed("down"))
        elif action.direction == COMPENSATION:
            self.later(action, Done(None))
        else:
            n = self.nodes[position]
            assert isinstance(n, Step)
            label = self.oracle.step(n, rnd)
            if label == "rejected:timeout":
                if n.timeout_then == "abandon" and (position + "!", rnd) in action.knowledge.outcomes:
                    self.later(action, Done(b"1"))  # given up before it was forgotten: it runs to its outcome
                elif n.timeout_then == "abandon":
                    self.late[position, rnd] = action  # it runs, and answers after it has been given up
                elif self.r.random() < 0.5:
                    self.later(action, Failed("down", retry_after_ms=FAR))
            elif label == "ok":
                self.later(action, Done(msgspec.json.encode(self.oracle.result(n, rnd, arguments))))
            else:
                self.later(action, Rejected(label.removeprefix("rejected:"), "no"))

    def later(self, action: Action, answer: Answer) -> None:
        ticket = action.ticket
        for _ in range(2 if self.r.random() < 0.3 else 1):
            self.todo.append(lambda: self.answer(action, ticket, answer))

    def answer(self, action: Action, ticket: int, answer: Answer) -> None:
        if action.knowledge is self.k:  # else: the memory that asked for it is gone, and has been folded anew
            self.take(decide.answered(self.k, action, ticket, answer, self.now))

    def arm(self, w: WaitRow) -> None:
        n = self.nodes[w.position]
        assert isinstance(n, Wait)
        when, said = self.oracle.event(n, parse_round(w.round))
        if when != "late":
            event = InboxRow("s", f"{w.position}{w.round}", "e", 1, w.key, str(said), "kept", None, None, None, 0, 0)
            self.todo.append(
                lambda: _ignore(self.take(decide.event_came(self.k, w.position, parse_round(w.round), event, self.now)))
            )

    def run(self) -> None:
        """Go on until nothing is left to do."""
        while True:
            self.meddle()
            if self.todo:
                self.todo.pop(self.r.randrange(len(self.todo)))()
            elif not self.pass_time() and not self.wake():
                break
            if self.r.random() < 0.03:
                self.forget()

    def meddle(self) -> None:
        """Do something that nobody has foreseen; here nothing."""

    def wake(self) -> bool:
        """Let go on what stands still because of somebody; False if there is no such thing."""
        return False

    def pass_time(self) -> bool:
        """Let a retry or a timer become due, whichever is first; timers first give up what hangs."""
        for action in list(self.retries):
            self.retries.remove(action)
            if action.state == "waiting" and action.next_at_ms < FAR:
                self.now = max(self.now, action.next_at_ms)
                self.take(decide.retry_due(self.k, action, self.now))
                return True
        if not self.k.timers or self.k.paused:
            return False
        (position, rnd, purpose), due = min(self.k.timers.items(), key=lambda t: (t[1], t[0]))
        self.now = max(self.now, due)
        self.take(decide.timer_due(self.k, position, rnd, purpose, self.now))
        if (late := self.late.pop((position, rnd), None)) is not None and late.knowledge is self.k:
            self.later(late, Done(b"1") if self.r.random() < 0.7 else Failed("too late"))
        return True

    def forget(self) -> None:
        """Lose the memory; fold it from the rows."""
        self.forgotten += 1
        self.todo.clear()
        self.late.clear()
        self.retries.clear()
        self.k = self.take(decide.recall(self.program, self.rows.stored(), self.now, crashed=self.r.random() < 0.5))
        for w in self.rows.waits.values():
            self.arm(w)

    def facts(self) -> dict[Fact, Any]:
        """Give the facts of the trace in the order in which they were recorded, without plumbing.

        An abandoned step may have run after all: then it has been compensated too, and both are left out.
        """
        recorded = {
            (f.position, parse_round(f.round), f.label): msgspec.json.decode(f.value) if f.value else None
            for f in self.rows.stored().facts
        }
        return without_plumbing(recorded, self.nodes)


def without_plumbing(recorded: Mapping[Fact, Any], nodes: Mapping[str, Any]) -> dict[Fact, Any]:
    """Give the facts that belong to the trace: not the marks, nor that somebody has cancelled, or a deadline passed.

    An abandoned step may have run after all: then it has been compensated too, and both are left out.
    """
    found = {
        (position, round_, label): None if label.startswith("rejected:") else value
        for (position, round_, label), value in recorded.items()
        if label not in _MARKS
        and not label.startswith(("failed:", "done"))
        and position not in (decide.CANCEL, START_POSITION)
        and not isinstance(nodes.get(position), Deadline)
    }
    for position, round_, label in list(found):
        if label == "ok" and (position + "!", round_, "rejected:timeout") in found:
            del found[position, round_, "ok"]
            assert found.pop((position, round_, "compensated"), 0) is None, ("a late effect was left", position)
    return found


class Meddler(Performer):
    """A performance that somebody meddles with."""

    def meddle(self) -> None:
        x, k = self.r.random(), self.k
        if x < 0.04:
            self.take(decide.cancel(k, self.now)[1])
        elif x < 0.12:
            deadlines = [t for t in k.timers if t[2] == "deadline"]
            if deadlines:
                position, rnd, purpose = self.r.choice(deadlines)
                passed = decide.timer_due(k, position, rnd, purpose, k.timers[position, rnd, purpose])
                assert (passed is None) == bool(k.paused)
                self.take(passed)
        elif x < 0.15:
            self.take(decide.pause(k, self.now))
        elif x < 0.20:
            self.take(decide.resume(k, self.now))
        elif x < 0.22 and not any(a.next_at_ms >= FAR for a in k.pending.values()):
            self.take(decide.retry_now(k, None, self.now))

    def wake(self) -> bool:
        if not self.k.paused:
            return False
        self.take(decide.resume(self.k, self.now))
        return True


def _ignore(_: object) -> None:
    return None


def _positions(node: object) -> list[Any]:
    found = []
    if isinstance(node, Node):
        if hasattr(node, "position"):
            found.append(node)
        for name in node.__dataclass_fields__:
            found += _positions(getattr(node, name))
    elif isinstance(node, tuple):
        for x in node:
            found += _positions(x)
    return found
