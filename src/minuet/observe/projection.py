"""The projection of a plan to one participant: the rules that it evaluates, what it hears for them, what it tells whom.

Who acts on command has no rules for that: what it is commanded to do is listed with whoever commands it.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass
from typing import Any, Final

from minuet.engine.program import Program
from minuet.observe.derivation import recorders
from minuet.observe.planview import children
from minuet.observe.text import columns, escaped
from minuet.plans.condition import FAN
from minuet.plans.dataflow import BEGIN, FactName
from minuet.plans.plan import Plan
from minuet.plans.rule import Rule, Value, labels
from minuet.plans.travel import Travel
from minuet.workflows import expression

_DEEP: Final = 4  # how far the parts of a value are written out


@dataclass(frozen=True, slots=True, kw_only=True)
class Heard:
    """A fact that a rule needs, who brings it (the participant itself too), and the values that come with it."""

    position: str
    label: str
    sender: str
    values: tuple[str, ...] = ()


@dataclass(frozen=True, slots=True, kw_only=True)
class Told:
    """A fact that a rule may record, who else hears it, and the values that go with it."""

    position: str
    label: str
    receivers: tuple[str, ...]
    values: tuple[str, ...] = ()


@dataclass(frozen=True, slots=True, kw_only=True)
class ProjectedRule:
    """A rule as its participant has it. `commanded_by`: who evaluates it, where the participant only acts."""

    position: str
    kind: str
    does: str
    commanded_by: str = ""
    hears: tuple[Heard, ...] = ()
    tells: tuple[Told, ...] = ()


@dataclass(frozen=True, slots=True, kw_only=True)
class Projection:
    """What one participant has to do with a plan, in the order of the text."""

    plan: str
    participant: str
    rules: tuple[ProjectedRule, ...]


def participants(plan: Plan) -> list[str]:
    """Give all who take part in runs of a plan: those who evaluate rules, and those who act."""
    named = [name for r in plan.rules for name in (r.who, r.about.get("service", r.who))]
    return list(dict.fromkeys(named))


def projection_of(plan: Plan, participant: str) -> Projection:
    """Give the projection to one of a plan's `participants`."""
    teller = _Teller(plan, participant)
    return Projection(plan=plan.name, participant=participant, rules=tuple(teller.rules()))


class _Teller:
    def __init__(self, plan: Plan, participant: str) -> None:
        self.plan, self.participant = plan, participant
        self.travel = Travel(plan)
        self.recorders = recorders(plan, Program(plan))
        self.names = dict(_names(plan.body))
        self.order = {r.position: n for n, r in reversed(list(enumerate(plan.rules)))}

    def rules(self) -> Iterator[ProjectedRule]:
        for rule in self.plan.rules:
            acts = rule.about.get("service", rule.who)
            if rule.who == self.participant and rule.kind != "reject":
                yield ProjectedRule(
                    position=rule.position,
                    kind=rule.kind,
                    does=self._does(rule),
                    hears=tuple(self._hears(rule)),
                    tells=tuple(self._tells(rule)) if acts == self.participant else (),
                )
            elif acts == self.participant:
                yield ProjectedRule(
                    position=rule.position,
                    kind=rule.kind,
                    does=self._does(rule),
                    commanded_by=rule.who,
                    tells=tuple(self._tells(rule)),
                )

    def _hears(self, rule: Rule) -> Iterator[Heard]:
        heard = self._needed(rule) | {(d, "fired") for d in rule.about.get("deadlines", ())}
        for fact in sorted(heard, key=lambda f: (self.order.get(f[0], -1), f)):
            senders = dict.fromkeys(self._recorder(r, fact) for r in self.recorders.get(fact, ()))
            sender = " or ".join(senders) or "client"
            yield Heard(position=fact[0], label=fact[1], sender=sender, values=self._values(fact))

    def _needed(self, rule: Rule) -> set[FactName]:
        """Give the facts below a rule's condition: each may be one of those that make it true."""
        conditions = self.plan.conditions
        todo = [rule.when, *(rule.about.get("codes", {}).values() if rule.kind == "mark" else ())]
        seen, found = set(todo), set[FactName]()
        while todo:
            i = todo.pop()
            c = conditions[i]
            below = [s for s, _ in c.inputs]
            if c.kind == "start":
                found.add(BEGIN)
            elif c.kind == "fact":
                found.add((c.of[0], c.of[1]))
            elif c.kind == "arm":
                below.append(self.plan.switches[c.of[0]].trigger)
            if any(edge == FAN for _, edge in c.inputs) and (block := self.plan.blocks[c.scope[-1]]).at_once:
                below += [block.ended] if block.ended is not None else []  # an element begins when another has ended
            new = [s for s in below if s not in seen]
            seen.update(new)
            todo += new
        return found

    def _tells(self, rule: Rule) -> Iterator[Told]:
        for label in labels(rule, self.plan.rules):
            fact = (rule.position, label)
            if (recorder := self._recorder(rule, fact)) != self.participant:
                continue  # whoever commands it says itself that it was called off
            receivers = sorted(self.travel.flow.hears.get(fact, frozenset()) - {recorder})
            yield Told(position=rule.position, label=label, receivers=tuple(receivers), values=self._values(fact))

    def _recorder(self, rule: Rule, fact: FactName) -> str:
        if rule.kind in ("run", "compensate") and not fact[1].startswith(("rejected:cancelled", "rejected:deadline@")):
            return str(rule.about["service"])
        return rule.who

    def _values(self, fact: FactName) -> tuple[str, ...]:
        if fact == BEGIN:
            return ("input",)
        values = self.plan.values
        told = [v for v in sorted(self.travel.carried(fact)) if values[v].kind != "expression" or values[v].below]
        if all(r.who != r.about.get("service", r.who) for r in self.recorders.get(fact, ())):
            told = []  # who is commanded knows nothing but its arguments, and answers with its own value
        own = [v for v, value in enumerate(values) if value.kind == "out" and value.of[0] == fact[0]]
        if fact[1] == "ok" and self._is_read(own, fact):
            told = [*own, *told]
        return tuple(dict.fromkeys(self.value(v) for v in told))  # a constant is part of the plan, and goes nowhere

    def _is_read(self, own: list[int], fact: FactName) -> bool:
        """Say whether anybody who hears a fact, or hears of it through others, reads its own value."""
        todo = list(self.travel.flow.live.get(fact, ()))
        seen = set(todo)
        while todo:
            new = [x for x in self.plan.values[todo.pop()].below if x not in seen]
            seen.update(new)
            todo += new
        return not seen.isdisjoint(own)

    def _does(self, rule: Rule) -> str:
        about = rule.about
        given = ", ".join(f"{name}={self.value(v)}" for name, v in rule.arguments)
        match rule.kind:
            case "run" | "compensate":
                service, word = about["service"], rule.kind
                said = "runs" if word == "run" else "compensates with"
                if rule.who == self.participant != service:
                    said = f"commands {service} to run" if word == "run" else f"commands {service} to compensate with"
                return f"{said} {service}.{about['action']}({given if word == 'run' else 'its own result'})"
            case "decide":
                return f"decides {self.value(rule.arguments[0][1])}"
            case "wait":
                return f"waits for {about['event']} v{about['version']} ({given})"
            case "sleep":
                return f"sleeps ({given})"
            case "timeout" | "abandon":
                return f"sets a timer of {about['timeout_ms']} ms, and gives up" + (
                    " itself" if rule.kind == "abandon" else ""
                )
            case "verdict":
                return f"repeats the outcome of {about['of']}, if it came in time"
            case "deadline":
                return f"sets a timer that cancels the block ({given})"
            case "disarm":
                return "clears the timer of the block"
            case "fork":
                return f"begins the elements of {self.value(rule.arguments[0][1])}"
            case "mark":
                return (
                    f"joins: {about['label']}" if "block" in about or given else f"marks the border: {about['label']}"
                )
            case "end":
                return (
                    f"ends the run: compensated, {about['code']}"
                    if about["code"]
                    else f"ends the run: completed, {given}"
                )
        return rule.kind

    def value(self, v: int, depth: int = 0) -> str:
        """Say which value this is: by the name that it has in the text, as far as it has one."""
        value: Value = self.plan.values[v]
        if depth > _DEEP:
            return "…"
        match value.kind:
            case "input":
                return "input"
            case "out":
                position = str(value.of[0]).removesuffix("!")
                name = self.names.get(position, "")
                return name if name and not name.startswith("$") else f"result of {position}"
            case "expression":
                below = {x: ("var", self.value(x, depth + 1)) for x in value.below}
                return expression.show(expression.substitute(value.of[0], below))
            case "phi":
                return " or ".join(dict.fromkeys(self.value(x, depth + 1) for _, x in value.of))
            case "index":
                return "round"
            case "item":
                return f"element of {self.value(value.of[0], depth + 1)}"
            case "list":
                return f"all {self.value(value.of[1], depth + 1)}"
            case "head":
                return f"{self.value(value.of[0], depth + 1)}, as of the round before"
        return self.value(value.of[1], depth + 1)


def projection_text(projection: Projection) -> str:
    """Give a projection as text: a line for each rule, below it what it hears from whom, and what it tells whom."""
    wide = max((columns(r.position) for r in projection.rules), default=0)
    many = "1 rule" if len(projection.rules) == 1 else f"{len(projection.rules)} rules"
    lines = [f"{projection.plan} as {projection.participant} performs it: {many}"]
    for r in projection.rules:
        by = f", when {r.commanded_by} commands it" if r.commanded_by else ""
        lines.append(f"{r.position}{' ' * (wide - columns(r.position))}  {r.does}{by}")
        heard: dict[tuple[str, tuple[str, ...]], list[FactName]] = {}
        for h in r.hears:
            heard.setdefault((h.sender, h.values), []).append((h.position, h.label))
        told: dict[tuple[tuple[str, ...], tuple[str, ...]], list[FactName]] = {}
        for t in r.tells:
            told.setdefault((t.receivers, t.values), []).append((t.position, t.label))
        said = [
            f"hears  {_summary(facts)} from {'itself' if sender == projection.participant else sender}{_with(values)}"
            for (sender, values), facts in heard.items()
        ]
        said += [
            f"tells  {_summary(facts)} to {', '.join(receivers) or 'nobody'}{_with(values) if receivers else ''}"
            for (receivers, values), facts in told.items()
        ]
        lines += [f"{'':{wide}}    {line}" for line in said]
    return "".join(f"{escaped(line)}\n" for line in lines)


def _with(values: tuple[str, ...]) -> str:
    return f", with {', '.join(values)}" if values else ""


def _summary(facts: Iterable[FactName]) -> str:
    """Give facts in a few words, those of one position together: `1 ok, 2a rejected:no|timeout`."""
    found: dict[str, dict[str, list[str]]] = {}
    for position, label in facts:
        kind, _, code = label.partition(":")
        found.setdefault(position, {}).setdefault(kind, []).extend([code] if code else [])
    said = []
    for position, kinds in found.items():
        those = [f"{kind}:{'|'.join(codes)}" if codes else kind for kind, codes in kinds.items()]
        said.append(f"{position} {', '.join(those)}")
    return "; ".join(said)


def _names(node: Mapping[str, Any]) -> Iterator[tuple[str, str]]:
    """Give the name to which each position's result is bound in the text."""
    if "position" in node and node.get("out"):
        yield node["position"], node["out"]
    for _, part in children(node):
        yield from _names(part)
