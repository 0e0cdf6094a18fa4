"""What may travel with each fact of a plan: the values that it carries, and who is told.

A participant knows more than what led to the fact that it records: also what it has heard, or done, beside it. How much
of that is there already when it speaks depends on timing; so all of it may travel, but what comes after that fact.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping
from typing import Final

from minuet.plans.dataflow import BEGIN, FactName, flow_of
from minuet.plans.plan import Plan
from minuet.plans.rule import Rule, labels
from minuet.plans.settled import Settled, bits

_HOME: Final = ""  # all conductors are one participant


class Travel:
    """What travels in one plan. As `engine.carry`: what can be evaluated travels as its result, else its parts do."""

    def __init__(self, plan: Plan) -> None:
        self.plan = plan
        self.flow = flow_of(plan)
        self._certain = Settled(plan, is_certain=True)
        self._recorders: dict[FactName, Rule] = {}
        for r in plan.rules:
            for label in labels(r, plan.rules):
                self._recorders.setdefault((r.position, label), r)
        self._nodes = {(c.of[0], c.of[1]): i for i, c in enumerate(plan.conditions) if c.kind == "fact"}
        given = ((i, (v.of[0], "ok")) for i, v in enumerate(plan.values) if v.kind == "out")
        self._given = [(i, fact, self._certain.passed(fact)) for i, fact in given]
        self._conductors = plan.conductors()
        self._possible = self._spread(Settled(plan, is_certain=False))

    def told(self, fact: FactName) -> frozenset[str]:
        """Give who is told of a fact by somebody else."""
        heard = self.flow.hears.get(fact, frozenset())
        by = self._by(fact)
        return frozenset(w for w in heard if self._participant(w) != by)

    def carried(self, fact: FactName) -> frozenset[int]:
        """Give the values that may travel with a fact, beside its own."""
        if fact == BEGIN:
            return frozenset()
        certain, possible = self._certain.after(fact), self._possible.get(fact, 0)
        found, seen = set[int](), set[int]()
        todo = list(self.flow.live.get(fact, ()))
        while todo:
            v = todo.pop()
            if v in seen:
                continue
            seen.add(v)
            value = self.plan.values[v]
            is_own = value.kind == "out" and value.of[0] == fact[0]
            if possible >> v & 1 and not is_own:
                found.add(v)
            if not certain >> v & 1 or value.kind == "head":
                todo += value.below
        return frozenset(found)

    def _participant(self, name: str) -> str:
        return _HOME if name in self._conductors else name

    def _by(self, fact: FactName) -> str | None:
        rule = self._recorders.get(fact)
        return self._participant(rule.who) if rule is not None else _HOME if fact == BEGIN else None

    def _spread(self, led_to: Settled) -> dict[FactName, int]:
        """Give what may be known to whoever records a fact, until nobody learns more."""
        facts = {f for f in (*self.flow.hears, *self._recorders) if f == BEGIN or f in self._recorders}
        found = {f: led_to.after(f) for f in facts}
        later = {f: self._later(f) for f in facts}
        audience = {f: {self._participant(w) for w in self.flow.hears.get(f, ())} for f in facts}
        grown = True
        while grown:
            grown = False
            known: dict[str | None, int] = {}
            for f, values in found.items():
                for who in (*audience[f], self._by(f)):
                    known[who] = known.get(who, 0) | values
            known = {who: self._with_results(values) for who, values in known.items()}
            for f in facts - {BEGIN}:  # the first thing that is said; nothing is known beside it
                more = found[f] | known[self._by(f)] & ~later[f]
                if more != found[f]:
                    found[f], grown = more, True
        return found

    def _later(self, fact: FactName) -> int:
        """Give the values that are there only after a fact, or in other rounds."""
        plan, node = self.plan, self._nodes.get(fact)
        rule = self._recorders.get(fact)
        scope = rule.scope if rule is not None else ()
        found = bits(i for i, v in enumerate(plan.values) if v.scope != scope[: len(v.scope)])
        if node is None:
            return found
        found |= bits(i for i, given, passed in self._given if passed >> node & 1 and given != fact)
        return self._grown(found, {"expression": any, "item": any, "phi": all, "left": any, "list": any})

    def _with_results(self, values: int) -> int:
        return self._grown(values, {"expression": all, "item": all, "phi": any, "left": all, "list": all, "index": all})

    def _grown(self, values: int, follows: Mapping[str, Callable[[Iterable[bool]], bool]]) -> int:
        """Add the values that follow from those below them, from all or from any, as their kind says."""
        grown = True
        while grown:
            grown = False
            for i, v in enumerate(self.plan.values):
                if (
                    values >> i & 1 == 0
                    and v.kind in follows
                    and follows[v.kind](values >> x & 1 == 1 for x in v.below)
                ):
                    values |= 1 << i
                    grown = True
        return values
