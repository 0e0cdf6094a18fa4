"""What a participant knows of one run: folded from its facts by the same function, live and at recovery.

It only grows, but for what is going on right now (`pending`, `timers`, `waits`), which follows from the facts
and the rows beside them. It is a cache of the rows: forgetting it and folding them again changes nothing.
"""

from __future__ import annotations

from collections.abc import Mapping
from contextlib import suppress
from typing import Any, Final

import msgspec

from minuet.engine.basis import Basis
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
from minuet.engine.row import Lease, RunState, Slot, slot_of
from minuet.plans.condition import FALSE, START
from minuet.plans.rule import Rule, Switch, Value
from minuet.workflows.expression import ExpressionFailed, evaluate, to_json_bytes

Round = tuple[int, ...]

MISSING: Final[Any] = object()

FORWARD, COMPENSATION = "forward", "compensation"

_PLAIN = frozenset({str, int, float, bool, type(None)})

_decode = msgspec.json.Decoder().decode


class _Unknown(Exception):
    """A value that has not come yet."""


class Action:
    """An action or compensation whose rule holds and which has no outcome yet.

    `state`: `running` (handed out), `waiting` (until `next_at_ms`), `parked` (a person is needed), `held` (paused),
    `away` (somebody else performs it), `over` (nobody waits for it any more).
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
        "abandoned",
        "agenda",
        "basis",
        "cancelled",
        "carried",
        "counts",
        "dirty",
        "ended_at_ms",
        "exits",
        "fans",
        "halted",
        "home",
        "input",
        "is_new",
        "key",
        "lease",
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
        "unknown",
        "waiters",
        "waits",
    )

    def __init__(self, program: Program, run: int, key: str | None, input_: bytes | None, started_at_ms: int) -> None:
        self.basis = Basis()
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
        self.home: str | None = None  # who observes the end, where that is somebody else
        self.is_new = False  # it was heard of, and has no row yet
        self.lease: Lease | None = None  # under which it was read or begun, where several participants share a store
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
        self.carried: dict[tuple[int, Round], bytes] = {}  # values that came with facts, as JSON text
        self.memo: dict[tuple[int, Round], Any] = {}
        self.agenda: list[tuple[int, Round]] = []
        self.unknown: set[tuple[int, Round]] | None = None  # while values are read from the ground up
        self.raised: dict[tuple[str, Round], tuple[str, str]] = {}  # rejections of the text -> code, message
        self.halted: dict[tuple[str, Round], tuple[str, Rule | Switch]] = {}  # where an expression failed -> why
        # what is going on
        self.pending: dict[tuple[str, Round, str], Action] = {}
        self.timers: dict[tuple[str, Round, str], int] = {}
        self.waits: dict[tuple[str, Round], tuple[str, str, int]] = {}  # -> event, key, since
        self.abandoned: set[tuple[str, Round]] = set()
        self.tombstones: set[tuple[str, Round]] = set()

    # Facts

    def begin(self) -> None:
        """Learn that the run has begun."""
        self._hold([(START, ())])

    def take(self, carry: Mapping[tuple[int, Round], bytes]) -> None:
        """Take values that came with a fact."""
        for key, raw in carry.items():
            if key not in self.carried:
                self.carried[key] = raw
                self.memo.setdefault(key, _decode(raw))

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
            if slot == Slot.ASKED_BACK and value is not None:  # of a step that another service has run
                self.outcomes.setdefault((position, round_), ("ok", value))
        if self.halted and slot == Slot.OUTCOME:
            self.halted.pop((position, round_), None)  # somebody has decided
        node = self.program.fact_node.get((position, label))
        if node is not None:
            self._hold([(node, round_)])
        while self.stalled:
            stalled, self.stalled = self.stalled, []
            for kind, i, r in stalled:
                self.switch(i, r) if kind == "switch" else self.fan(i, r)
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
            for v in program.heads.get(node, ()):
                with suppress(ExpressionFailed):  # whoever needs it is told
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
                        self.fan(parent, rnd, todo)
                        continue
                if not is_and[parent] or self._one_less(parent, r):
                    todo.append((parent, r))
            if self.waiters and key in self.waiters:
                for parent, r in self.waiters.pop(key):
                    k = (parent, r) if r else parent
                    self.missing[k] -= 1
                    if not self.missing[k]:
                        del self.missing[k]
                        todo.append((parent, r))
            for s in program.switches_of[node]:
                self.switch(s, rnd, todo)
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
        if missing == 1:
            self.missing.pop(key, None)
            return True
        self.missing[key] = missing - 1
        return False

    def switch(self, s: int, rnd: Round, todo: list[tuple[int, Round]] | None = None) -> None:
        """Evaluate a guard whose trigger holds."""
        switch = self.program.switches[s]
        then, otherwise, error = switch.arms
        try:
            got = self.read(switch.guard, rnd)
            arm = then if got else otherwise
        except ExpressionFailed as e:
            arm = error
            if arm == FALSE:
                why = f"the guard failed, and what was done before it cannot be taken back: {e}"
                self.halted[switch.position, rnd] = (why, switch)
                return
        else:
            if got is MISSING:
                self.stalled.append(("switch", s, rnd))
                return
        if todo is None:
            self._hold([(arm, rnd)])
        else:
            todo.append((arm, rnd))

    def fan(self, begin: int, rnd: Round, todo: list[tuple[int, Round]] | None = None) -> None:
        """Begin the elements of an `each`: all, or as many as may go at once."""
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
            todo.append((self.program.begins[block], (*rnd, fan[1])))
            fan[1] += 1

    # Values

    def read(self, v: int, rnd: Round) -> Any:
        """Give a value as plain data; MISSING where what it needs is not known yet.

        Raises:
            ExpressionFailed: a pure expression has no answer here; it has none anywhere else either.
        """
        depth = len(self.program.values[v].scope)
        if depth < len(rnd):
            rnd = rnd[:depth]
        key = (v, rnd)
        if key in self.memo:
            got = self.memo[key]
            if type(got) is ExpressionFailed:
                raise got.with_traceback(None)
            return got
        if v in self.program.deep:
            if self.unknown is None:
                self._read_from_the_ground(key)
            if self.unknown is not None and key in self.unknown:
                return MISSING
        try:
            got = self._value(v, rnd)
        except ExpressionFailed as e:
            self.memo[key] = e
            raise
        if got is not MISSING:
            self.memo[key] = got
        return got

    def _read_from_the_ground(self, key: tuple[int, Round]) -> None:
        """Read what a value stands on, lowest first: the length of a text is not to become the depth of our stack."""
        self.unknown = unknown = set[tuple[int, Round]]()
        todo = [key]
        while todo:
            if todo[-1] in self.memo or todo[-1] in unknown:
                todo.pop()
            elif below := [x for x in self._below(*todo[-1]) if x not in self.memo and x not in unknown]:
                todo += below
            else:
                with suppress(ExpressionFailed):
                    if self.read(*todo[-1]) is MISSING:
                        unknown.add(todo[-1])
                todo.pop()
        self.unknown = None

    def _below(self, v: int, rnd: Round) -> list[tuple[int, Round]]:
        """Give the values that a value would read now, in their rounds."""
        values, value = self.program.values, self.program.values[v]
        match value.kind:
            case "phi":
                found = [(x, rnd) for x in (self._chosen(value, rnd),) if x is not None]
            case "head":
                first, following = value.of
                found = [(first, rnd) if rnd[-1] == 0 else (following, (*rnd[:-1], rnd[-1] - 1))]
            case "left":
                index = self.exits.get((value.of[0], rnd))
                found = [] if index is None else [(value.of[1], (*rnd, index))]
            case "list":
                n = self.fans.get((value.of[0], rnd), (0,))[0]
                found = [(value.of[1], (*rnd, i)) for i in range(n)]
            case _:
                found = [(x, rnd) for x in value.below]
        return [(x, r[: len(values[x].scope)]) for x, r in found]

    def _chosen(self, phi: Value, rnd: Round) -> int | None:
        """Give the alternative that facts tell; None as long as they do not."""
        for condition, alternative in phi.of:
            if self.holds(condition, rnd[: self.program.depth[condition]]):
                return int(alternative)
        return None

    def _value(self, v: int, rnd: Round) -> Any:
        value = self.program.values[v]
        match value.kind:
            case "input":
                if not self.holds(START, ()):
                    return MISSING  # whoever was not told of the beginning has it only as far as it was carried
                return _decode(self.input) if self.input is not None else None
            case "out":
                found = self.outcomes.get((value.of[0], rnd))
                if found is None:
                    return MISSING
                return _decode(found[1]) if found[1] is not None else None
            case "expression":
                return self._evaluate(value.of[0], rnd)
            case "phi":
                chosen = self._chosen(value, rnd)
                return MISSING if chosen is None else self.read(chosen, rnd)
            case "index":
                return rnd[-1]
            case "item":
                items = self.read(value.of[0], rnd)
                return items if items is MISSING else items[rnd[-1]]
            case "head":
                first, following = value.of
                return self.read(first, rnd) if rnd[-1] == 0 else self.read(following, (*rnd[:-1], rnd[-1] - 1))
            case "left":
                condition, inner = value.of
                index = self.exits.get((condition, rnd))
                return MISSING if index is None else self.read(inner, (*rnd, index))
            case "list":
                block, inner = value.of
                fan = self.fans.get((block, rnd))
                if fan is None:
                    return MISSING
                got = [self.read(inner, (*rnd, i)) for i in range(fan[0])]
                return MISSING if any(x is MISSING for x in got) else got
        raise ValueError(value.kind)

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
        values = self.program.values
        while True:
            value = values[v]
            rnd = rnd[: len(value.scope)]
            match value.kind:
                case _ if self.carried and (v, rnd) in self.carried:
                    return self.carried[v, rnd]
                case "out" if (value.of[0], rnd) in self.outcomes:
                    return self.outcomes[value.of[0], rnd][1] or b"null"
                case "input":
                    return self.input or b"null"
                case "phi" if (chosen := self._chosen(value, rnd)) is not None:
                    v = chosen
                case "left" if (index := self.exits.get((value.of[0], rnd))) is not None:
                    v, rnd = value.of[1], (*rnd, index)
                case _:
                    got = self.read(v, rnd)
                    assert got is not MISSING, ("a rule holds whose value is not known", v, rnd)
                    return to_json_bytes(got)
