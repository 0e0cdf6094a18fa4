"""Which values are settled where a condition holds: certainly, or possibly.

A value is settled at a condition if the facts that lead to it tell the value. Whoever evaluates a rule there knows it
too, because what a later rule reads travels with the facts (`dataflow`). Two questions have the same equations: what is
settled on *every* way to a condition (an `or` keeps what all of its inputs agree on; greatest fixpoint), and what may
be on *some* way (it keeps all; least fixpoint). Values and conditions are bits of integers. Along an edge that changes
the round, what stands in the round itself is left behind.

Source: the available expressions of compilers, on conditions instead of a control flow graph.
"""

from __future__ import annotations

from collections.abc import Iterable
from functools import reduce
from operator import and_, or_

from minuet.plans.condition import ENTER, EXIT, FAN, FIRST, NEXT, PREV, START, Condition, Scope
from minuet.plans.dataflow import BEGIN, FactName
from minuet.plans.plan import Plan
from minuet.plans.rule import Rule, Value, labels

Known = tuple[int, int]  # bits of values, bits of conditions


def bits(numbers: Iterable[int]) -> int:
    """Give numbers from 0 as the bits of one."""
    found = 0
    for n in numbers:
        found |= 1 << n
    return found


class Settled:
    """What is settled at each condition of a plan; `is_certain` says which of the two questions is asked."""

    def __init__(self, plan: Plan, *, is_certain: bool) -> None:
        self.values, self.conditions = plan.values, plan.conditions
        self.is_certain = is_certain
        self.recorders = _recorders(plan)
        self.begun = {r.about["block"]: r.when for r in plan.rules if r.kind == "fork"}
        self.triggers = [s.trigger for s in plan.switches]
        scopes = [v.scope for v in plan.values] + [c.scope for c in plan.conditions]
        depth = 1 + max(map(len, scopes))
        self.up_to = [
            (bits(i for i, v in enumerate(plan.values) if len(v.scope) <= n),
             bits(i for i, c in enumerate(plan.conditions) if len(c.scope) <= n))
            for n in range(depth)
        ]  # fmt: skip
        self.outs: dict[str, int] = {v.of[0]: 1 << i for i, v in enumerate(plan.values) if v.kind == "out"}
        self.inputs = bits(i for i, v in enumerate(plan.values) if v.kind == "input")
        self.needs = [bits(v.below) for v in plan.values]
        self.by_kind: dict[str, list[int]] = {}
        for i, v in enumerate(plan.values):
            self.by_kind.setdefault(v.kind, []).append(i)
        self.derived = [i for i, v in enumerate(plan.values) if v.kind in ("expression", "phi", "item", "index")]
        everything: Known = (bits(range(len(plan.values))), bits(range(len(plan.conditions))))
        self.known: list[Known] = [everything if is_certain else (0, 0)] * len(plan.conditions)
        self._solve()

    def at(self, condition: int) -> int:
        """Give the values that are settled where a condition holds, as bits."""
        return self.known[condition][0]

    def after(self, fact: FactName) -> int:
        """Give the values that are settled once a fact is recorded, as bits."""
        return self._fact(fact, START)[0]

    def passed(self, fact: FactName) -> int:
        """Give the conditions that held before a fact was recorded, as bits."""
        return self._fact(fact, START)[1]

    def _solve(self) -> None:
        followers: list[set[int]] = [set() for _ in self.conditions]
        for i, c in enumerate(self.conditions):
            for source in self._sources(c):
                followers[source].add(i)
        todo, waiting = list(range(len(self.conditions) - 1, 0, -1)), set(range(1, len(self.conditions)))
        while todo:
            i = todo.pop()
            waiting.discard(i)
            found = self._condition(i)
            if found != self.known[i]:
                self.known[i] = found
                new = followers[i] - waiting
                waiting |= new
                todo += new

    def _sources(self, c: Condition) -> list[int]:
        found = [s for s, _ in c.inputs]
        match c.kind:
            case "fact":
                found += [r.when for r in self.recorders.get((c.of[0], c.of[1]), ())]
            case "arm":
                found.append(self.triggers[c.of[0]])
            case "count":
                found.append(self.begun[c.of[0]])
        return found

    def _condition(self, i: int) -> Known:
        c = self.conditions[i]
        match c.kind:
            case "start":
                found: Known = (self.inputs, 0)
            case "fact":
                found = self._fact((c.of[0], c.of[1]), i)
            case "arm":
                found = self.known[self.triggers[c.of[0]]]
            case "count":  # of no element there is nothing to be known but that the block was entered
                found = self.known[self.begun[c.of[0]]]
                lists = [v for v in self.by_kind.get("list", ()) if self.values[v].of[0] == c.of[0]]
                for source, _ in c.inputs:
                    given = self.known[source][0]
                    found = (found[0] | bits(v for v in lists if given >> self.values[v].of[1] & 1), found[1])
            case "and":
                found = self._all(self._along(s, edge, i) for s, edge in c.inputs)
            case _:
                ways = [self._along(s, edge, i) for s, edge in c.inputs]
                found = self._some(ways) if ways else (0, 0)
        return self._closed(found[0], found[1] | 1 << i, c.scope)

    def _fact(self, fact: FactName, node: int) -> Known:
        if fact == BEGIN:
            return (self.inputs, 1 << START)
        recorders = self.recorders.get(fact, ())
        if not recorders:
            return (0, 0)
        values, conditions = self._some([self.known[r.when] for r in recorders])
        if fact[1] in ("ok", "fired"):
            values |= self.outs.get(fact[0], 0)
        return self._closed(values, conditions | 1 << node, recorders[0].scope)

    def _all(self, ways: Iterable[Known]) -> Known:
        return reduce(lambda a, b: (a[0] | b[0], a[1] | b[1]), ways, (0, 0))

    def _some(self, ways: list[Known]) -> Known:
        join = and_ if self.is_certain else or_
        return reduce(lambda a, b: (join(a[0], b[0]), join(a[1], b[1])), ways)

    def _along(self, source: int, edge: str, node: int) -> Known:
        """Give what is left of a condition's knowledge behind an edge."""
        values, conditions = self.known[source]
        match edge:
            case "same" | "outer" | "last":
                return values, conditions
            case _ if edge == ENTER:
                return values | self._heads(values, 0, self.conditions[node].scope), conditions
            case _ if edge == FAN:
                return values, conditions
        inner = self.conditions[source].scope
        outer = self.up_to[len(inner) - 1]
        kept = values & outer[0]
        if edge == NEXT:
            kept |= self._heads(values, 1, inner)
        elif edge == EXIT:
            left = (v for v in self.by_kind.get("left", ()) if self.values[v].of[0] == node)
            kept |= bits(v for v in left if values >> self.values[v].of[1] & 1)
        else:
            assert edge in (PREV, FIRST), edge
        return kept, conditions & outer[1]

    def _heads(self, values: int, which: int, scope: Scope) -> int:
        """Give what a round begins with: 0, the first one; 1, a later one."""
        heads = (v for v in self.by_kind.get("head", ()) if self.values[v].scope == scope)
        return bits(v for v in heads if values >> self.values[v].of[which] & 1)

    def _closed(self, values: int, conditions: int, scope: Scope) -> Known:
        """Add what can be calculated."""
        grown = True
        while grown:
            grown = False
            for i in self.derived:
                v = self.values[i]
                if not values >> i & 1 and v.scope == scope[: len(v.scope)] and self._follows(v, i, values, conditions):
                    values |= 1 << i
                    grown = True
        return values, conditions

    def _follows(self, v: Value, i: int, values: int, conditions: int) -> bool:
        if v.kind == "phi":
            return any(conditions >> c & 1 and values >> x & 1 for c, x in v.of)
        return self.needs[i] & values == self.needs[i]


def _recorders(plan: Plan) -> dict[FactName, list[Rule]]:
    found: dict[FactName, list[Rule]] = {}
    for r in plan.rules:
        for label in labels(r, plan.rules):
            found.setdefault((r.position, label), []).append(r)
    return found
