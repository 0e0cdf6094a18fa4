"""Which private values come to whom: by a fact that is heard, by what a fact carries, or as an argument.

Private is the result of an action that names its audience (`@action(private=…)`). What is calculated from it discloses
it, unless that is a yes or a no: who hears `score > 80` has not seen the score. Audiences are of services: whoever
orchestrates or observes a run (a conductor) belongs to the workflow, and is not asked.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass

from minuet.plans.dataflow import FactName, heard_for
from minuet.plans.plan import Plan
from minuet.plans.rule import Rule, Value
from minuet.plans.travel import Travel
from minuet.workflows import expression
from minuet.workflows.tree import Expression

Positions = frozenset[str]
NONE: Positions = frozenset()


@dataclass(frozen=True, slots=True, kw_only=True)
class Leak:
    """A service that comes to know a private value: `of` is the position that gave it, `at` where it is heard.

    `is_given`: it is handed to the service as an argument, so that no other placement changes it.
    """

    of: str
    service: str
    at: str
    is_given: bool = False

    @property
    def pair(self) -> tuple[str, str]:
        """What is known by whom."""
        return self.of, self.service


def leaks(plan: Plan) -> list[Leak]:
    """Give who sees what is private, outside of its audience: one leak for each value and service, in text order."""
    if not (private := _private(plan)):
        return []
    told = shown(plan)
    found = [*_given(plan, private, told), *_heard(plan, private, told)]
    return list({leak.pair: leak for leak in reversed(found)}.values())[::-1]


def asked(plan: Plan) -> dict[str, Positions]:
    """Give, for each choice that asks for private values, the positions that gave them."""
    read = _reach(plan, _private(plan), discloses_only=False)
    guards = [(s.position, s.guard) for s in plan.switches]
    guards += [(r.position, v) for r in plan.rules if r.kind == "decide" for _, v in r.arguments]
    return {position: read[v] for position, v in guards if read[v]}


def shown(plan: Plan) -> list[Positions]:
    """Give, for each value, the positions whose private results it discloses."""
    return _reach(plan, _private(plan), discloses_only=True)


def _private(plan: Plan) -> dict[str, Rule]:
    return {r.position: r for r in plan.steps() if "private" in r.about}


def _given(plan: Plan, private: Mapping[str, Rule], told: list[Positions]) -> list[Leak]:
    found = []
    for r in plan.rules:
        given = NONE
        if r.kind == "run":
            given = NONE.union(*(told[v] for _, v in r.arguments))
        elif r.kind == "compensate" and r.position in private:
            given = frozenset({r.position})  # another service may take it back, from the result
        service = r.about.get("service", "")
        found += [Leak(of=p, service=service, at=r.position, is_given=True) for p in _hidden(private, given, service)]
    return found


def _heard(plan: Plan, private: Mapping[str, Rule], told: list[Positions]) -> list[Leak]:
    travel, conductors = Travel(plan), plan.conductors()
    own = _own(plan, private, told)
    known: dict[FactName, Positions] = {}
    for fact in travel.flow.hears:
        itself = own.get(fact[0], NONE) if fact[1] == "ok" else NONE
        known[fact] = itself.union(*(told[v] for v in travel.carried(fact)))
    found = []
    for r in plan.rules:
        for who, facts in heard_for(plan, r).items():
            given = NONE.union(*(known[f] for f in facts)) if who not in conductors else NONE
            found += [Leak(of=p, service=who, at=r.position) for p in _hidden(private, given, who)]
    return found


def _hidden(private: Mapping[str, Rule], given: Positions, service: str) -> list[str]:
    """Give those of the values that a service may not see."""
    rules = ((p, private[p].about) for p in sorted(given))
    return [p for p, about in rules if service != about["service"] and service not in about["private"]]


def _own(plan: Plan, private: Mapping[str, Rule], told: list[Positions]) -> dict[str, Positions]:
    """Give what the fact of a position discloses by its own value."""
    own = {p: frozenset({p}) for p in private}
    for r in plan.rules:
        if r.kind == "verdict" and r.about["of"] in private:
            own[r.position] = frozenset({r.about["of"]})
        elif r.kind == "mark" and r.about["label"] == "ok":
            own[r.position] = NONE.union(*(told[v] for _, v in r.arguments))
    return own


def _reach(plan: Plan, private: Mapping[str, Rule], *, discloses_only: bool) -> list[Positions]:
    """Give, for each value, the private results that it discloses, or reads at all."""
    found = [NONE] * len(plan.values)
    results = {r.position: r.arguments[0][1] for r in plan.rules if r.kind == "mark" and r.about["label"] == "ok"}
    steps = {r.position: r.about["of"] for r in plan.rules if r.kind == "verdict"} | {p: p for p in private}

    def of(value: Value) -> Positions:
        match value.kind:
            case "out":
                position = value.of[0]
                if steps.get(position) in private:
                    return frozenset({steps[position]})
                return found[results[position]] if position in results else NONE
            case "expression" if discloses_only:
                return NONE.union(*(found[v] for v in disclosed(value.of[0])))
        return NONE.union(*(found[v] for v in value.below))

    grown = True
    while grown:
        new = [of(value) for value in plan.values]
        grown, found[:] = new != found, new
    return found


def disclosed(e: Expression) -> set[int]:
    """Give the variables of which the result of an expression tells more than a yes or a no."""
    match e:
        case ("compare" | "not", *_) | ("call", "any" | "all" | "bool", *_):
            return set()
        case ("if", _, then, otherwise):
            return _union([then, otherwise])
        case ("var", v):
            return {v}
    return _union(expression.parts_of(e))


def _union(parts: Iterable[Expression]) -> set[int]:
    return set().union(*(disclosed(part) for part in parts))
