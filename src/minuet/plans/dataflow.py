"""Who hears what, and which values travel with it.

A rule hears the facts below its condition, and reads its arguments and the guards on the way to it. A value is *live*
at a fact if a rule that waits for the fact reads it, or a rule after that one does: defined on rules and not on the
text, this covers rejection and compensation as well. A fact carries the live values that its publisher knows; what can
be evaluated travels as its result.

Source: the liveness of compilers, on the design's rules instead of a control flow graph.
"""

from __future__ import annotations

from dataclasses import dataclass

from minuet.plans.condition import FAN, START
from minuet.plans.plan import Plan
from minuet.plans.rule import Rule, labels

FactName = tuple[str, str]  # position, label

BEGIN: FactName = ("start", "ok")
"""The fact that a run has begun; its value is the input."""

CANCELLATION: FactName = ("$cancel", "requested")
"""The fact that somebody has asked for a cancellation."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Flow:
    """`hears`: who is to be told of a fact, beside whoever records it; `live`: the values that it carries."""

    hears: dict[FactName, frozenset[str]]
    live: dict[FactName, frozenset[int]]


@dataclass(slots=True)
class _Use:
    """What a rule hears, reads and may record, and who evaluates it."""

    hears: set[FactName]
    reads: frozenset[int]
    records: list[FactName]
    who: str


def flow_of(plan: Plan) -> Flow:
    """Compute who hears what, and what travels, from the rules of a plan."""
    uses = [u for r in plan.rules for u in _uses(plan, r)]
    hears: dict[FactName, set[str]] = {}
    for use in uses:
        for fact in use.hears:
            hears.setdefault(fact, set()).add(use.who)
    live: dict[FactName, frozenset[int]] = {fact: frozenset() for fact in hears}
    grown = True
    while grown:
        grown = False
        for use in reversed(uses):
            wanted = use.reads.union(*(live.get(f, ()) for f in use.records))
            for fact in use.hears:
                if not wanted <= live[fact]:
                    live[fact] |= wanted
                    grown = True
    return Flow(hears={f: frozenset(w) for f, w in hears.items()}, live=live)


def heard_for(plan: Plan, rule: Rule) -> dict[str, set[FactName]]:
    """Give the facts that are heard because of a rule, by who hears them."""
    found: dict[str, set[FactName]] = {}
    for use in _uses(plan, rule):
        found.setdefault(use.who, set()).update(use.hears)
    return found


def _uses(plan: Plan, rule: Rule) -> list[_Use]:
    hears, reads = _below(
        plan, [rule.when, *rule.about.get("codes", {}).values()] if rule.kind == "mark" else [rule.when]
    )
    reads |= {v for _, v in rule.arguments}
    if (block := rule.about.get("block")) is not None and (over := plan.blocks[block].over) is not None:
        reads.add(over)
    records = [(rule.position, label) for label in labels(rule, plan.rules)]
    uses = [_Use(hears, frozenset(reads), records, rule.who)]
    calls_off = {(d, "fired") for d in rule.about.get("deadlines", ())}
    if "cancelled" in rule.about.get("codes", ()):
        calls_off.add(CANCELLATION)
    if calls_off:  # heard by whoever would run it, where that is somebody else too
        uses += [_Use(calls_off, frozenset(), [], who) for who in {rule.who, rule.about.get("service", rule.who)}]
    if rule.kind in ("run", "compensate") and rule.who != rule.about["service"]:
        uses.append(_Use(set(records), frozenset(), [], rule.who))  # whoever commands hears the reply
    if rule.kind == "abandon":  # whoever runs it is told that it has been given up
        service = next(r.about["service"] for r in plan.rules if r.kind == "run" and r.position == rule.position)
        told = {(rule.position + "!", "rejected:timeout"), (rule.position, "compensated")}  # another may take it back
        uses.append(_Use(told, frozenset(), [], service))
    return uses


def _below(plan: Plan, conditions: list[int]) -> tuple[set[FactName], set[int]]:
    """Give the facts below conditions, and the values of the guards and lists on the way."""
    facts, values = set[FactName](), set[int]()
    seen, todo = set(conditions), list(conditions)
    while todo:
        i = todo.pop()
        node = plan.conditions[i]
        below = [s for s, _ in node.inputs]
        if i == START:
            facts.add(BEGIN)
        elif node.kind == "fact":
            facts.add((node.of[0], node.of[1]))
        elif node.kind == "arm":
            switch = plan.switches[node.of[0]]
            values.add(switch.guard)
            below.append(switch.trigger)
        if any(edge == FAN for _, edge in node.inputs):
            block = plan.blocks[node.scope[-1]]
            assert block.over is not None
            values.add(block.over)
            if block.at_once and block.ended is not None:
                below.append(block.ended)  # the next element begins when another has ended
        if node.kind == "count" and (over := plan.blocks[node.of[0]].over) is not None:
            values.add(over)
        new = [s for s in below if s not in seen]
        seen.update(new)
        todo += new
    return facts, values
