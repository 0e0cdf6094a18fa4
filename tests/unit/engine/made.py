"""Trees made by hand, and runs of them that are driven input by input.

A `Run` keeps its rows as a store would. After every input it is folded anew from them, and both must be the same:
so whatever a test reaches, recall is tested for that too.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import msgspec

from minuet.contracts.action import RetryPolicy
from minuet.engine import decide
from minuet.engine.answer import Answer, Done, Failed, Rejected
from minuet.engine.decide import Decided
from minuet.engine.knowledge import COMPENSATION, FORWARD, Action, Knowledge, Round
from minuet.engine.port import StoredRun
from minuet.engine.program import Program
from minuet.engine.row import InboxRow
from minuet.ids import parse_round
from minuet.plans.plan import Plan, load_plan, make_plan
from minuet.workflows.tree import (
    Attempt,
    Break,
    Call,
    Choice,
    Deadline,
    Each,
    Expression,
    Let,
    Loop,
    Node,
    Par,
    Place,
    Reject,
    Return,
    Section,
    Seq,
    Sleep,
    Step,
    Wait,
    WorkflowTree,
)
from tests.property.performer import Rows

HERE = Place("shop.py", 1, 1)
NOW = 1_000_000
X: Expression = ("var", "x")
FAILS: Expression = ("div", ("lit", 1), ("lit", 0))


# Trees


def step(position: str, *rejects: str, undo: bool = True, service: str = "s", **more: Any) -> Step:
    """Make a step `s.do` that is compensated by `s.undo`."""
    more.setdefault("arguments", ())
    more.setdefault("out", f"v{position}")
    return Step(
        place=HERE,
        position=position,
        service=service,
        action="do",
        rejects=rejects,
        compensation=(service, "undo") if undo else None,
        **more,
    )


def pivot(position: str, *rejects: str, **more: Any) -> Step:
    """Make a step that cannot be taken back."""
    return step(position, *rejects, undo=False, **more)


def seq(*parts: Node) -> Seq:
    return Seq(place=HERE, parts=parts)


def par(position: str, *branches: Any) -> Par:
    return Par(
        place=HERE, position=position, branches=branches, results=tuple(b.out for b in branches), out=f"v{position}"
    )


def choice(
    position: str, condition: Expression, then: Node, otherwise: Node | None = None, at: str | None = None
) -> Choice:
    return Choice(place=HERE, position=position, condition=condition, then=then, otherwise=otherwise or seq(), at=at)


def attempt(position: str, body: Node, *codes: str) -> Attempt:
    return Attempt(place=HERE, position=position, body=body, codes=codes or None, out=f"v{position}")


def loop(position: str, limit: int, body: Node, otherwise: Node | None = None, index: str | None = None) -> Loop:
    return Loop(place=HERE, position=position, index=index, limit=limit, body=body, otherwise=otherwise or seq())


def each(position: str, over: Expression, body: Any, limit: int = 100, at_once: int | None = None) -> Each:
    return Each(
        place=HERE,
        position=position,
        over=over,
        item="item",
        body=body,
        result=body.out,
        out=f"v{position}",
        limit=limit,
        at_once=at_once,
    )


def wait(position: str, key: Expression = ("lit", "k"), timeout: Expression | None = None) -> Wait:
    return Wait(place=HERE, position=position, event="e", version=1, key=key, out=f"v{position}", timeout=timeout)


def sleep(position: str, duration: Expression | None = None, until: Expression | None = None) -> Sleep:
    if duration is None and until is None:
        duration = ("lit", 1000)
    return Sleep(place=HERE, position=position, duration=duration, until=until)


def deadline(position: str, body: Node, duration: Expression = ("lit", 5000)) -> Deadline:
    return Deadline(place=HERE, position=position, duration=duration, body=body)


def call(position: str, body: Node, arguments: Sequence[tuple[str, Expression]] = ()) -> Call:
    return Call(
        place=HERE, position=position, workflow="other", arguments=tuple(arguments), body=body, out=f"v{position}"
    )


def section(position: str, body: Node, style: str = "orchestration", by: str | None = None) -> Section:
    return Section(place=HERE, position=position, style=style, body=body, by=by)


def let(name: str, value: Expression) -> Let:
    return Let(place=HERE, name=name, value=value)


def ret(value: Expression) -> Return:
    return Return(place=HERE, value=value)


def leave() -> Break:
    return Break(place=HERE)


def reject(position: str, code: str, message: str = "") -> Reject:
    return Reject(place=HERE, position=position, code=code, message=message)


def workflow(*parts: Node, name: str = "made") -> WorkflowTree:
    """Make a workflow over the input `x`."""
    return WorkflowTree(
        name=name, file="shop.py", input=("x", "any"), result_shape="any", services={}, body=seq(*parts)
    )


def plan(*parts: Node) -> Plan:
    """Compile, and load what was written."""
    return load_plan(make_plan(workflow(*parts)).to_json())


def program(*parts: Node, retry: RetryPolicy | None = None) -> Program:
    return Program(plan(*parts), retry) if retry is not None else Program(plan(*parts))


# Runs


class Run:
    """A run, its rows, and the time. `running` names what is under way: `2`, `-2` for its compensation, `2[0.1]`."""

    def __init__(self, *parts: Node, x: Any = None, retry: RetryPolicy | None = None, now: int = NOW) -> None:
        self.program = program(*parts, retry=retry)
        self.rows = Rows()
        self.now = now
        self.started: list[str] = []
        self.interrupted: list[str] = []
        self.k: Knowledge = self.take(decide.begin(self.program, 1, None, msgspec.json.encode(x), now)).knowledge

    def take(self, d: Decided) -> Decided:
        self.rows.commit(d)
        self.k = d.knowledge
        self.started += [_named(a) for a in d.actions]
        self.interrupted += [_named(a) for a in d.interrupted]
        self.check_recall()
        return d

    # What is so

    @property
    def facts(self) -> list[str]:
        return [_fact(f.position, f.round, f.label) for f in self.rows.stored().facts]

    def value(self, position: str, round_: str = "") -> Any:
        (raw,) = [f.value for f in self.rows.stored().facts if (f.position, f.round, f.slot) == (position, round_, 0)]
        return msgspec.json.decode(raw) if raw is not None else None

    @property
    def state(self) -> str:
        assert self.rows.run is not None
        return self.rows.run.state

    @property
    def reason(self) -> str | None:
        assert self.rows.run is not None
        return self.rows.run.reason

    @property
    def load(self) -> int | None:
        assert self.rows.run is not None
        return self.rows.run.load

    @property
    def result(self) -> Any:
        assert self.rows.run is not None
        return msgspec.json.decode(self.rows.run.result) if self.rows.run.result is not None else None

    @property
    def running(self) -> list[str]:
        return [_named(a) for a in self.k.pending.values() if a.state == "running"]

    @property
    def timers(self) -> dict[str, int]:
        """Due times from the beginning, by place and purpose."""
        return {_fact(t.position, t.round, t.purpose): t.due_at_ms - NOW for t in self.rows.timers.values()}

    def action(self, name: str) -> Action:
        return next(a for a in self.k.pending.values() if _named(a) == name)

    # Inputs

    def answer(self, name: str, answer: Answer) -> Decided:
        action = self.action(name)
        d = decide.answered(self.k, action, action.ticket, answer, self.now)
        assert d is not None, f"nobody waits for an answer at {name}"
        return self.take(d)

    def ok(self, *names: str, value: Any = None) -> Run:
        for name in names:
            self.answer(name, Done(msgspec.json.encode(value)))
        return self

    def rejects(self, name: str, code: str, message: str = "", details: Any = None) -> Run:
        self.answer(name, Rejected(code, message, details))
        return self

    def fails(self, name: str, error: str = "down", *, final: bool = False, retry_after_ms: int | None = None) -> Run:
        self.answer(name, Failed(error, retry_after_ms, final))
        return self

    def after(self, ms: int) -> Run:
        """Let time pass; what becomes due is given to the run in its order."""
        until = self.now + ms
        while True:
            due = [(at, 0, t) for t, at in self.k.timers.items() if at <= until] if not self.k.paused else []
            retries = [(a.next_at_ms, 1, p) for p, a in self.k.pending.items() if a.state == "waiting"]
            found = sorted(due + [r for r in retries if r[0] <= until])
            if not found:
                break
            at, is_retry, place = found[0]
            self.now = max(self.now, at)
            if is_retry:
                d = decide.retry_due(self.k, self.k.pending[place], self.now)
            else:
                d = decide.timer_due(self.k, *place, self.now)
            assert d is not None
            self.take(d)
        self.now = until
        return self

    def event(self, position: str, data: Any = None, round_: Round = ()) -> Run:
        body = msgspec.json.encode(data).decode()
        row = InboxRow("src", "m1", "e", 1, "k", body, "kept", None, None, None, self.now, self.now)
        d = decide.event_came(self.k, position, round_, row, self.now)
        assert d is not None, f"nobody waits at {position}"
        self.take(d)
        return self

    def cancel(self) -> str:
        said, d = decide.cancel(self.k, self.now)
        self.take(d)
        return said

    def pause(self) -> Run:
        self.take(decide.pause(self.k, self.now))
        return self

    def resume(self) -> Run:
        self.take(decide.resume(self.k, self.now))
        return self

    def terminate(self) -> Run:
        self.take(decide.terminate(self.k, self.now))
        return self

    def retry(self, position: str | None = None) -> Run:
        self.take(decide.retry_now(self.k, position, self.now))
        return self

    def resolve(self, position: str, answer: Answer | None) -> bool:
        d = decide.resolve(self.k, position, answer, self.now)
        if d is not None:
            self.take(d)
        return d is not None

    def skip(self, position: str) -> bool:
        d = decide.skip(self.k, position, self.now)
        if d is not None:
            self.take(d)
        return d is not None

    def crash(self, *, crashed: bool = True) -> Run:
        """Forget what is in memory, and fold it anew."""
        self.take(decide.recall(self.program, self.rows.stored(), self.now, crashed=crashed))
        return self

    # Recall

    def check_recall(self) -> None:
        live = self.k
        folded = decide.recall(self.program, self.rows.stored(), self.now)
        d, k = folded.decision, folded.knowledge
        recorded = [d.facts, d.timers, d.waits, d.timers_done, d.waits_done, d.attempts_done]
        assert not any(recorded), recorded
        if not live.paused:  # what a paused run was doing is held back until it is resumed
            assert not d.changes, d.changes
            assert (k.load, k.state) == (live.load, live.state)
        assert _told(k) == _told(live)
        assert {p: _due(a, self.now) for p, a in k.pending.items()} == {
            p: _due(a, self.now) for p, a in live.pending.items()
        }
        for name in ("timers", "waits", "tombstones", "true", "exits", "fans", "outcomes", "marks", "raised"):
            assert getattr(k, name) == getattr(live, name), name
        assert set(k.halted) == set(live.halted)


def stored(run: Run) -> StoredRun:
    return run.rows.stored()


def _told(k: Knowledge) -> tuple[Any, ...]:
    return (
        k.paused, k.dirty, k.reason, k.result, k.cancelled, k.seq, k.moved_at_ms, k.ended_at_ms,
    )  # fmt: skip


def _due(a: Action, now: int) -> tuple[Any, ...]:
    state = "running" if a.state == "waiting" and a.next_at_ms <= now else a.state
    if a.knowledge.paused and a.direction == FORWARD and state != "parked":
        state = "held"
    return state, a.attempts, a.error, a.since_ms, a.next_at_ms if state == "waiting" else 0


def _named(a: Action) -> str:
    sign = "-" if a.direction == COMPENSATION else ""
    return sign + _placed(a.rule.position, ".".join(map(str, a.round)))


def _placed(position: str, round_: str) -> str:
    return f"{position}[{round_}]" if round_ else position


def _fact(position: str, round_: str, label: str) -> str:
    assert parse_round(round_) is not None
    return f"{_placed(position, round_)} {label}"
