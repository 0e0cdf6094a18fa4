"""What participants say to each other about runs: facts and commands as messages, and messages as what they say.

A fact is published once, under the name of what happened; whoever's rules need it hears that topic. A command goes to
one service. A participant tells only what it has recorded itself.
"""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any, NamedTuple

import msgspec

from minuet.contracts.envelope import Envelope
from minuet.engine.border import Border
from minuet.engine.carry import Carried, carried, read_carried, write_carried
from minuet.engine.decided import Decided
from minuet.engine.knowledge import COMPENSATION, FORWARD, Action, Knowledge
from minuet.engine.program import Program
from minuet.engine.row import ASKED, ASKED_BACK, FactRow
from minuet.errors import InvalidPayload
from minuet.ids import op_key, parse_round, parse_run, round_text, run_text
from minuet.plans.dataflow import FactName
from minuet.plans.placement import HOME
from minuet.plans.plan import Plan

_REMEDY = "It was written by something that is no participant of Minuet, or was altered on the way"


class Said(NamedTuple):
    """What a message says of a run: a fact, or a command (label `asked` or `asked-back`).

    `to`: the addresses of those who are to hear it. `home`: the address of whoever observes the run's end.
    """

    run: int
    key: str
    workflow: str
    digest: str
    home: str
    to: frozenset[str]
    position: str
    round: str
    label: str
    value: bytes | None
    carry: str


class Routes:
    """Who is told what of one plan. `here` is this participant's address: a service's name, or its home's."""

    def __init__(self, program: Program, here: str, *, is_observed: bool = False) -> None:
        self.program = program
        self.here = here
        self.is_observed = is_observed
        plan = program.plan
        self._flow = program.flow
        self._conductors = plan.conductors()
        self._topics = _Topics(plan)
        self._scopes = {r.position: r.scope for r in plan.rules}
        self._workflow = f"{plan.workflow}@{plan.digest}"
        who = program.who if program.who is not None else frozenset[str]()
        self._to: dict[FactName, tuple[str, ...]] = {
            fact: tuple(sorted(names - who)) for fact, names in self._flow.hears.items()
        }
        border = Border(plan)
        own = who | {HOME} if who & self._conductors else who
        self._heard = [fact for fact, names in self._flow.hears.items() if names & who and border.sayers(*fact) - own]

    def topics(self) -> set[str]:
        """Give the topics of all facts that this participant's rules need."""
        return {self._topics.of(*fact) for fact in self._heard}

    def participants(self) -> frozenset[str]:
        """Give the addresses of everybody that the plan names, `""` standing for its home."""
        plan = self.program.plan
        names = {r.who for r in plan.rules} | plan.services().keys()
        return frozenset("" if name in self._conductors else name for name in names)

    def envelopes(self, d: Decided) -> list[Envelope]:
        """Give what is to be told of a decision: the facts that were recorded here, and commands."""
        k = d.knowledge
        found = []
        for f in d.decision.facts[d.told :]:
            to = self._to.get((f.position, f.label), ())
            if to or self.is_observed:
                found.append(self._fact(k, f, to))
        found += [self._command(k, action) for action in d.commands]
        return found

    def begin(self, k: Knowledge) -> Envelope | None:
        """Give the message that a run has begun, if anybody else is to hear it."""
        to = self._to.get(("start", "ok"), ())
        if not to and not self.is_observed:
            return None
        value = k.input.decode() if k.input is not None else None
        return self._fact(k, FactRow(k.run, "start", "", 0, "ok", value, 0, k.started_at_ms), to)

    def _fact(self, k: Knowledge, f: FactRow, to: Iterable[str]) -> Envelope:
        round_ = parse_round(f.round)
        direction = COMPENSATION if f.label == "compensated" else FORWARD
        live = self._flow.live.get((f.position, f.label), frozenset())
        carry = carried(k, live, self._scopes.get(f.position, ()), round_) if to and live else {}
        topic = self._topics.of(f.position, f.label)
        attributes = self._attributes(k, f.position, round_, to)
        attributes["minuetkind"] = "event"
        attributes["minuetlabel"] = f.label
        if carry:
            attributes["minuetcarry"] = write_carried(carry)
        id_ = f"{op_key(k.run, f.position, round_, direction)}:{f.label}"
        data = f.value.encode() if f.value is not None else None
        return Envelope(topic, id_, f"/{self.here}", topic, _key(k), f.at_ms, attributes, data)

    def _command(self, k: Knowledge, action: Action) -> Envelope:
        rule, round_ = action.rule, action.round
        service = rule.about["service"]
        attributes = self._attributes(k, rule.position, round_, (service,))
        attributes["minuetkind"] = "command"
        attributes["minuetdirection"] = action.direction
        data: bytes | None = None
        if action.direction == FORWARD:
            data = msgspec.json.encode({name: msgspec.Raw(k.raw(v, round_)) for name, v in rule.arguments})
        elif k.program.runs[rule.position].about["service"] != service:  # it has no record of what it takes back
            data = k.outcomes[rule.position, round_][1]
        id_ = op_key(k.run, rule.position, round_, action.direction)
        type_ = f"{service}.{rule.about['action']}"
        return Envelope(f"{service}.commands", id_, f"/{self.here}", type_, _key(k), action.since_ms, attributes, data)

    def _attributes(
        self, k: Knowledge, position: str, round_: tuple[int, ...], to: Iterable[str]
    ) -> dict[str, str | int]:
        home = k.home or self.here
        attributes: dict[str, str | int] = {
            "minuetrun": run_text(k.run),
            "minuetworkflow": self._workflow,
            "minuetposition": position,
            "minuetround": round_text(round_) or "0",
            "minuethome": home,
        }
        if to:  # else only an observer hears it
            attributes["minuetto"] = ",".join(dict.fromkeys(home if name in self._conductors else name for name in to))
        return attributes


def said(envelope: Envelope) -> Said:
    """Read what a message says of a run.

    Raises:
        InvalidPayload: it lacks an attribute, or has a wrong one.
    """
    a = envelope.attributes
    try:
        run = parse_run(_text(a, "minuetrun"))
        workflow, _, digest = _text(a, "minuetworkflow").partition("@")
        if a["minuetkind"] == "command":
            label = {FORWARD: ASKED, COMPENSATION: ASKED_BACK}[_text(a, "minuetdirection")]
        else:
            label = _text(a, "minuetlabel")
        if run is None or not digest:
            raise ValueError("no run, or no plan")
        return Said(
            run,
            envelope.key,
            workflow,
            digest,
            _text(a, "minuethome"),
            frozenset(_text(a, "minuetto").split(",") if "minuetto" in a else ()),
            _text(a, "minuetposition"),
            _text(a, "minuetround"),
            label,
            envelope.data,
            _text(a, "minuetcarry") if "minuetcarry" in a else "",
        )
    except (KeyError, TypeError, ValueError) as e:
        raise InvalidPayload(f"message {envelope.id} on {envelope.topic} cannot be read: {e}", remedy=_REMEDY) from e


def understood(program: Program, s: Said) -> tuple[tuple[int, ...], bytes | None, Carried]:
    """Give the round, the value and the carried values of what was said, as this plan has them.

    Raises:
        InvalidPayload: the plan does not know such a fact or command.
    """
    depth, labels = program.expected.get(s.position, (-1, frozenset[str]()))
    try:
        round_ = () if depth == 0 else parse_round(s.round)
        if len(round_) != depth or s.label not in labels or min(round_, default=0) < 0:
            raise ValueError("the plan has no such fact")
        if s.label == ASKED:
            given = msgspec.json.decode(s.value or b"{}", type=dict[str, msgspec.Raw])
            rule = program.runs[s.position]
            carry = {(v, round_[: len(program.values[v].scope)]): bytes(given[name]) for name, v in rule.arguments}
            return round_, None, carry
        if s.value is not None:
            msgspec.json.decode(s.value, type=msgspec.Raw)
        return round_, s.value, read_carried(s.carry) if s.carry else {}
    except (KeyError, ValueError, msgspec.DecodeError) as e:
        raise InvalidPayload(
            f"{s.label} at {s.position} (round {s.round}) of {s.workflow}@{s.digest[:8]} cannot be taken: {e}",
            remedy=_REMEDY,
        ) from e


class _Topics:
    """The topics of a plan's facts: `service.action`, with `.rejected` and `.compensated`; else by position."""

    def __init__(self, plan: Plan) -> None:
        self._workflow = plan.workflow
        self._actions = {r.position: _action(r.about) for r in plan.rules if r.kind == "run"}

    def of(self, position: str, label: str) -> str:
        """Give the topic of a fact."""
        word = label.partition(":")[0]
        if position in self._actions:
            return self._actions[position] + ("" if word == "ok" else f".{word}")
        shown = position.strip("$").replace("!", ".verdict")
        return f"{self._workflow}.{shown}" + ("" if position == "start" else f".{word}")


def _action(about: dict[str, Any]) -> str:
    return f"{about['service']}.{about['action']}"


def _key(k: Knowledge) -> str:
    return k.key if k.key is not None else run_text(k.run)


def _text(attributes: Any, name: str) -> str:
    value = attributes[name]
    if not isinstance(value, str) or not value:
        raise TypeError(f"{name} is {value!r}")
    return value
