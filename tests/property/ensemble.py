"""Performs a plan under any placement: participants that share nothing but messages, which come in any order.

Each participant evaluates only its own rules, over only the facts that it has heard. What is delivered may be
late, early and repeated. A service that is commanded answers from a table of its own, and does nothing twice.
"""

from __future__ import annotations

import random
from collections.abc import Callable
from typing import Any

import msgspec

from minuet.contracts.envelope import Envelope
from minuet.engine import decide
from minuet.engine.answer import Answer, Done, Failed, Rejected
from minuet.engine.decided import Decided
from minuet.engine.knowledge import COMPENSATION, Action, Knowledge
from minuet.engine.message import Routes, said, understood
from minuet.engine.program import Program
from minuet.engine.row import ASKED, ASKED_BACK, FactRow, InboxRow
from minuet.ids import parse_round
from minuet.plans.placement import ORCHESTRATOR
from minuet.plans.plan import load_plan
from minuet.workflows.tree import Step, Wait, WorkflowTree
from tests.property.interpreter import Fact, Oracle
from tests.property.performer import _positions

LONG_AGO = 1_000_000
HOME = "@home"


class Ensemble:
    """One performance of one plan by its participants."""

    def __init__(self, plan_json: bytes, tree: WorkflowTree, oracle: Oracle, input_: int, seed: int) -> None:
        self.r = random.Random(seed)
        self.oracle = oracle
        self.plan = load_plan(plan_json)
        self.nodes = {n.position: n for n in _positions(tree.body)}
        self.now = LONG_AGO
        self.home = next(r.who for r in self.plan.rules if r.kind == "end")
        names = {r.who for r in self.plan.rules} | self.plan.services().keys()
        conductors = self.plan.conductors()
        self.routes = {
            HOME if who == conductors else min(who): Routes(
                Program(self.plan, who=who), HOME if who == conductors else min(who)
            )
            for who in [conductors, *(frozenset({w}) for w in names - conductors)]
        }
        self.minds: dict[str, Knowledge] = {}
        self.todo: list[Callable[[], None]] = []
        self.log: dict[tuple[str, str, str], FactRow] = {}
        self.late: dict[tuple[str, Any], tuple[str, Action]] = {}
        self.published = 0
        begun = decide.begin(self.routes[HOME].program, 1, None, str(input_).encode(), self.now)
        k = self.minds[HOME] = begun.knowledge
        if (envelope := self.routes[HOME].begin(k)) is not None:
            self.publish(envelope)
        else:
            self.published += 1  # the request, which elsewhere is the message that the run has begun
        self.take(HOME, begun)

    # Messages

    def publish(self, envelope: Envelope) -> None:
        """Have a message delivered to all that it names, once or twice, whenever."""
        self.published += 1
        raw = envelope.to_json()
        for other in sorted(said(envelope).to):
            for _ in range(2 if self.r.random() < 0.3 else 1):
                self.todo.append(lambda o=other: self.hear(o, Envelope.from_json(envelope.topic, raw)))  # type: ignore[misc]

    def hear(self, who: str, envelope: Envelope) -> None:
        s, program = said(envelope), self.routes[who].program
        assert envelope.topic in self.routes[who].topics() or envelope.topic == f"{who}.commands", (who, envelope.topic)
        round_, value, carry = understood(program, s)
        k = self.minds.get(who)
        if k is None:
            k = self.minds[who] = decide.meet(program, s.run, s.key, s.home, self.now)
        self.take(who, decide.heard(k, s.position, round_, s.label, value, carry, self.now))

    def take(self, who: str, d: Decided | None) -> None:
        if d is None:
            return
        for f in d.decision.facts[: d.told]:
            assert f.label in (ASKED, ASKED_BACK) or f.position == "start" or (f.position, f.round, f.label) in self.log
        for f in d.decision.facts[d.told :]:
            assert (f.position, f.round, f.label) not in self.log, ("recorded twice", who, f)
            self.log[f.position, f.round, f.label] = f
        for envelope in self.routes[who].envelopes(d):
            self.publish(envelope)
        for action in d.actions:
            self.start(who, action)
        for w in d.waits:
            self.arm(who, w)
        if d.ended and (self.home.startswith(ORCHESTRATOR) or len(d.decision.facts) > d.told):
            self.published += 1  # the notice of the end, which elsewhere is a message that home hears

    # Work

    def start(self, who: str, action: Action) -> None:
        rule, rnd = action.rule, action.round
        arguments = [msgspec.json.decode(action.knowledge.raw(v, rnd)) for _, v in rule.arguments]
        if action.direction == COMPENSATION:
            self.later(who, action, Done(None))
            return
        n = self.nodes[rule.position]
        assert isinstance(n, Step)
        label = self.oracle.step(n, rnd)
        if label == "rejected:timeout":
            if n.timeout_then == "abandon":
                if any(  # given up before it began
                    (rule.position + "!", rnd) in m.outcomes for m in self.minds.values()
                ):
                    self.later(who, action, Done(b"1") if self.r.random() < 0.7 else Failed("late", final=True))
                else:
                    self.late[rule.position, rnd] = (who, action)
        elif label == "ok":
            self.later(who, action, Done(msgspec.json.encode(self.oracle.result(n, rnd, arguments))))
        else:
            self.later(who, action, Rejected(label.removeprefix("rejected:"), "no"))

    def later(self, who: str, action: Action, answer: Answer) -> None:
        ticket = action.ticket
        for _ in range(2 if self.r.random() < 0.3 else 1):
            self.todo.append(lambda: self.take(who, decide.answered(self.minds[who], action, ticket, answer, self.now)))

    def arm(self, who: str, w: Any) -> None:
        n = self.nodes[w.position]
        assert isinstance(n, Wait)
        when, said = self.oracle.event(n, parse_round(w.round))
        if when != "late":
            event = InboxRow("s", f"{w.position}{w.round}", "e", 1, w.key, str(said), "kept", None, None, None, 0, 0)
            self.todo.append(
                lambda: self.take(
                    who, decide.event_came(self.minds[who], w.position, parse_round(w.round), event, self.now)
                )
            )

    def run(self) -> None:
        """Go on until nothing is left to do; time passes only when nothing else can happen."""
        while True:
            if self.todo:
                self.todo.pop(self.r.randrange(len(self.todo)))()
                continue
            timers = [(due, who, key) for who, k in sorted(self.minds.items()) for key, due in sorted(k.timers.items())]
            if not timers:
                break
            due, who, (position, rnd, purpose) = min(timers, key=lambda t: (t[0], t[1], t[2]))
            self.now = max(self.now, due)
            self.take(who, decide.timer_due(self.minds[who], position, rnd, purpose, self.now))
            if purpose == "abandon" and (late := self.late.pop((position, rnd), None)) is not None:
                self.later(*late, Done(b"1") if self.r.random() < 0.7 else Failed("too late", final=True))

    def facts(self) -> dict[Fact, Any]:
        """Give the facts of the trace in the order in which they were recorded, without plumbing."""
        found: dict[Fact, Any] = {}
        for f in self.log.values():
            if f.label in ("open", "back", "gone") or f.label.startswith(("failed:", "done")):
                continue
            found[f.position, parse_round(f.round), f.label] = msgspec.json.decode(f.value) if f.value else None
        for position, rnd, label in list(found):
            if label == "ok" and (position + "!", rnd, "rejected:timeout") in found:
                del found[position, rnd, "ok"]
                assert found.pop((position, rnd, "compensated"), 0) is None, ("a late effect was left", position)
        return {f: None if f[2].startswith("rejected:") else v for f, v in found.items()}
