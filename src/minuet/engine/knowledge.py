"""What a participant knows of one run: folded from its facts by the same function, live and at recovery.

It only grows, but for what is going on right now (`pending`, `timers`, `waits`), which follows from the facts
and the rows beside them. It is a cache of the rows: forgetting it and folding them again changes nothing.
"""

from __future__ import annotations

from typing import Any, Final

import msgspec

from minuet.engine.program import (
    E_ENTER,
    E_EXIT,
    E_FAN,
    E_FIRST,
    E_LAST,
    E_NEXT,
    E_PREV,
    E_SAME,
    Program,
)
from minuet.engine.row import RunState, Slot, slot_of
from minuet.plans.rule import Rule
from minuet.workflows.expression import ExpressionFailed, evaluate, to_json_bytes

Round = tuple[int, ...]

MISSING: Final[Any] = object()

FORWARD, COMPENSATION = "forward", "compensation"

_PLAIN = frozenset({str, int, float, bool, type(None)})

_decode = msgspec.json.Decoder().decode


class _Unknown(Exception):  # noqa: N818 - not an error: a value that has not come yet
    pass


class Action:
    """An action or compensation whose rule holds and which has no outcome yet.

    `state`: `running` (handed out), `waiting` (until `next_at_ms`), `parked` (a person is needed), `held` (paused).
    `ticket` changes with every attempt, so that a late answer of an earlier one is recognised.
    `attempts` counts failed attempts; `stored` says whether it has a row.
    """

    __slots__ = (
        "attempts",
        "direction",
        "error",
        "first_at_ms",
        "knowledge",
        "next_at_ms",
        "progress",
        "round",
        "rule",
        "since_ms",
        "state",
        "stored",
        "ticket",
    )

    def __init__(self, knowledge: Knowledge, rule: Rule, round_: Round, direction: str, now_ms: int) -> None:
        self.knowledge = knowledge
        self.rule = rule
        self.round = round_
        self.direction = direction
        self.state = "running"
        self.ticket = 0
        self.attempts = 0
        self.since_ms = now_ms
        self.first_at_ms = 0
        self.next_at_ms = 0
        self.error: str | None = None
        self.progress: tuple[float, str] | None = None
        self.stored = False


class Knowledge:
    """What is known of one run."""

    __slots__ = (
        "agenda",
        "cancelled",
        "counts",
        "dirty",
        "ended_at_ms",
        "exits",
        "fans",
        "halted",
        "input",
        "key",
        "load",
        "marks",
        "memo",
        "missing",
        "moved_at_ms",
        "outcomes",
        "owners",
        "paused",
        "pending",
        "program",
        "raised",
        "reason",
        "result",
        "run",
        "seq",
        "stalled",
        "started_at_ms",
        "state",
        "timers",
        "tombstones",
        "true",
        "uncommitted",
        "waiters",
        "waits",
    )

    def __init__(self, program: Program, run: int, key: str | None, input_: bytes | None, started_at_ms: int) -> None:
        self.program = program
        self.run = run
        self.key = key
        self.input = input_
        self.started_at_ms = started_at_ms
        self.moved_at_ms = started_at_ms  # when the last fact was recorded
        self.ended_at_ms: int | None = None
        self.state: str = RunState.RUNNING
        self.load: int | None = 1
        self.paused = 0
        self.dirty = 0
        self.reason: str | None = None
        self.result: str | None = None
        self.cancelled = False
        self.seq = 0
        self.owners = 0  # transactional handlers of this run that the store is performing
        self.uncommitted = 0  # decisions of this run that are not durable yet
        # facts
        self.outcomes: dict[tuple[str, Round], tuple[str, bytes | None]] = {}
        self.marks: set[tuple[str, Round, int]] = set()  # facts that are no outcomes
        # conditions
        self.true: set[Any] = set()
        self.missing: dict[Any, int] = {}
        self.waiters: dict[Any, list[tuple[int, Round]]] = {}
        self.exits: dict[tuple[int, Round], int] = {}
        self.counts: dict[tuple[int, Round], int] = {}
        self.fans: dict[tuple[int, Round], list[int]] = {}  # (block, round) -> [elements, released]
        self.stalled: list[tuple[str, int, Round]] = []
        self.memo: dict[tuple[int, Round], Any] = {}
        self.agenda: list[tuple[int, Round]] = []
        self.raised: list[tuple[str, Round, str, str]] = []
        self.halted: dict[tuple[str, Round], tuple[str, str, int]] = {}  # -> why, and what is to be looked at again
        # what is going on
        self.pending: dict[tuple[str, Round, str], Action] = {}
        self.timers: dict[tuple[str, Round, str], int] = {}
        self.waits: dict[tuple[str, Round], tuple[str, str, int]] = {}  # -> event, key, since
        self.tombstones: set[tuple[str, Round]] = set()

    # Facts

    def begin(self) -> None:
        """Learn that the run has begun."""
        self._hold([(1, ())])

    def learn(self, position: str, round_: Round, label: str, value: bytes | None) -> bool:
        """Learn a fact; rules that it makes true are put on the agenda. False if it is no news."""
        slot = slot_of(label)
        if slot == Slot.OUTCOME:
            if (position, round_) in self.outcomes:
                return False
            self.outcomes[position, round_] = (label, value)
        elif (position, round_, slot) in self.marks:
            return False
        else:
            self.marks.add((position, round_, slot))
        node = self.program.fact_node.get((position, label))
        if node is not None:
            self._hold([(node, round_)])
        while self.stalled:
            stalled, self.stalled = self.stalled, []
            for kind, i, r in stalled:
                self._switch(i, r) if kind == "switch" else self._fan(i, r)
            if len(self.stalled) == len(stalled):
                break
        return True

    def holds(self, condition: int, round_: Round) -> bool:
        """Say whether a condition is true in this round."""
        return ((condition, round_) if round_ else condition) in self.true

    # Conditions: a node becomes true when its inputs have, which is the least fixpoint

    def _hold(self, todo: list[tuple[int, Round]]) -> None:
        program, true = self.program, self.true
        edges, rules_of, is_and, is_count = program.edges, program.rules_of, program.is_and, program.is_count
        while todo:
            node, rnd = todo.pop()
            key = (node, rnd) if rnd else node
            if key in true:
                continue
            true.add(key)
            for rule in rules_of[node]:
                self.agenda.append((rule, rnd))
            if node in program.heads:
                for v in program.heads[node]:
                    self.read(v, rnd)
            for code, parent in edges[node]:
                r = rnd
                if code != E_SAME:
                    if code == E_ENTER:
                        r = (*rnd, 0)
                    elif code == E_NEXT:
                        if rnd[-1] + 1 >= program.limit[parent]:
                            continue
                        r = (*rnd[:-1], rnd[-1] + 1)
                    elif code == E_LAST:
                        if rnd[-1] + 1 != program.limit[parent]:
                            continue
                    elif code == E_PREV:
                        if rnd[-1] == 0:
                            continue
                        r = (*rnd[:-1], rnd[-1] - 1)
                    elif code == E_FIRST:
                        if rnd[-1] != 0:
                            continue
                        r = rnd[:-1]
                    elif code == E_EXIT:
                        r = rnd[:-1]
                        self.exits.setdefault((parent, r), rnd[-1])
                        if is_count[parent]:
                            done = self.counts[parent, r] = self.counts.get((parent, r), 0) + 1
                            fan = self.fans.get((program.counted[parent], r))
                            if fan is None or done != fan[0]:
                                continue
                    elif code == E_FAN:
                        self._fan(parent, rnd, todo)
                        continue
                if not is_and[parent]:
                    todo.append((parent, r))
                elif self._one_less(parent, r):
                    todo.append((parent, r))
            if self.waiters and key in self.waiters:
                for parent, r in self.waiters.pop(key):
                    k = (parent, r) if r else parent
                    self.missing[k] -= 1
                    if not self.missing[k]:
                        todo.append((parent, r))
            for s in program.switches_of[node]:
                self._switch(s, rnd, todo)
            if program.releases and node in program.releases:
                self._release(program.releases[node], rnd[:-1], todo)

    def _one_less(self, node: int, rnd: Round) -> bool:
        """Count an input of an `and`; its outer inputs are looked at when the first inner one comes."""
        key = (node, rnd) if rnd else node
        missing = self.missing.get(key)
        if missing is None:
            missing = self.program.need[node]
            for outer in self.program.outer[node]:
                r = rnd[: self.program.depth[outer]]
                k = (outer, r) if r else outer
                if k not in self.true:
                    missing += 1
                    self.waiters.setdefault(k, []).append((node, rnd))
        self.missing[key] = missing - 1
        return missing == 1

    def _switch(self, s: int, rnd: Round, todo: list[tuple[int, Round]] | None = None) -> None:
        switch = self.program.switches[s]
        then, otherwise, error = switch.arms
        try:
            got = self.read(switch.guard, rnd)
            arm = then if got else otherwise
        except ExpressionFailed:
            arm = error
            if arm == 0:
                self.reason = f"the guard at {switch.position} failed, and nothing before it can be taken back"
                return
        else:
            if got is MISSING:
                self.stalled.append(("switch", s, rnd))
                return
        if todo is None:
            self._hold([(arm, rnd)])
        else:
            todo.append((arm, rnd))

    def _fan(self, begin: int, rnd: Round, todo: list[tuple[int, Round]] | None = None) -> None:
        program = self.program
        block = program.block[begin]
        over = program.blocks[block].over
        assert over is not None
        try:
            items = self.read(over, rnd)
        except ExpressionFailed:
            return  # the joiner says so
        if items is MISSING:
            self.stalled.append(("fan", begin, rnd))
            return
        if not isinstance(items, list | tuple) or len(items) > program.blocks[block].limit:
            return  # likewise
        n = len(items)
        first = min(n, program.blocks[block].at_once or n)
        self.fans[block, rnd] = [n, first]
        begun = [(begin, (*rnd, i)) for i in range(first - 1, -1, -1)]
        begun += [(c, rnd) for c in program.counts_of.get(block, ()) if self.counts.get((c, rnd), 0) == n]
        if todo is None:
            self._hold(begun)
        else:
            todo.extend(begun)

    def _release(self, block: int, rnd: Round, todo: list[tuple[int, Round]]) -> None:
        """An element has ended: the next may begin."""
        fan = self.fans.get((block, rnd))
        if fan is not None and fan[1] < fan[0]:
            begin = next(p for p, b in enumerate(self.program.block) if b == block and self._begins(p))
            todo.append((begin, (*rnd, fan[1])))
            fan[1] += 1

    def _begins(self, node: int) -> bool:
        return any(e == "fan" for _, e in self.program.plan.conditions[node].inputs)

    # Values

    def read(self, v: int, rnd: Round) -> Any:
        """Give a value as plain JSON data; MISSING where what it needs is not known yet.

        Raises:
            ExpressionFailed: a pure expression has no answer here; it has none anywhere else either.
        """
        value = self.program.values[v]
        if len(value.scope) < len(rnd):
            rnd = rnd[: len(value.scope)]
        if (v, rnd) in self.memo:
            return self.memo[v, rnd]
        got: Any = MISSING
        match value.kind:
            case "input":
                got = _decode(self.input) if self.input is not None else None
            case "out":
                found = self.outcomes.get((value.of[0], rnd))
                if found is not None:
                    got = _decode(found[1]) if found[1] is not None else None
            case "expression":
                got = self._evaluate(value.of[0], rnd)
            case "phi":
                for condition, alternative in value.of:
                    if self.holds(condition, rnd[: self.program.depth[condition]]):
                        got = self.read(alternative, rnd)
                        break
            case "index":
                got = rnd[-1]
            case "item":
                items = self.read(value.of[0], rnd)
                got = items if items is MISSING else items[rnd[-1]]
            case "head":
                first, following = value.of
                got = self.read(first, rnd) if rnd[-1] == 0 else self.read(following, (*rnd[:-1], rnd[-1] - 1))
            case "left":
                condition, inner = value.of
                index = self.exits.get((condition, rnd))
                got = MISSING if index is None else self.read(inner, (*rnd, index))
            case "list":
                block, inner = value.of
                fan = self.fans.get((block, rnd))
                if fan is not None:
                    got = [self.read(inner, (*rnd, i)) for i in range(fan[0])]
                    if any(x is MISSING for x in got):
                        got = MISSING
        if got is not MISSING:
            self.memo[v, rnd] = got
        return got

    def _evaluate(self, e: Any, rnd: Round) -> Any:
        def read(v: int) -> Any:
            got = self.read(v, rnd)
            if got is MISSING:
                raise _Unknown
            if type(got) in _PLAIN or self.program.values[v].kind in ("out", "input"):
                return got
            return _decode(to_json_bytes(got))  # an expression reads raw values, also those of other expressions

        try:
            return evaluate(e, read)
        except _Unknown:
            return MISSING

    def raw(self, v: int, rnd: Round) -> bytes:
        """Give a value as JSON text; what came as text is handed on untouched.

        Raises:
            ExpressionFailed: as `read`.
        """
        value = self.program.values[v]
        depth = len(value.scope)
        if value.kind == "out":
            return self.outcomes[value.of[0], rnd[:depth]][1] or b"null"
        if value.kind == "input":
            return self.input or b"null"
        if value.kind == "phi":
            for condition, alternative in value.of:
                if self.holds(condition, rnd[: self.program.depth[condition]]):
                    return self.raw(alternative, rnd)
        if value.kind == "left":
            condition, inner = value.of
            return self.raw(inner, (*rnd[:depth], self.exits[condition, rnd[:depth]]))
        got = self.read(v, rnd)
        assert got is not MISSING, ("a rule holds whose value is not known", v, rnd)
        return to_json_bytes(got)
