"""A run as messages between participants: the same picture, whoever evaluated its rules, from the same facts.

Nothing is known of the wire here. A fact goes from whoever recorded it to those whose rules need it, a command from
whoever evaluates a rule to the service that performs it; both follow from the plan. So a run that was performed in one
process, where nothing was sent at all, looks as it would have looked among several.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Final, Literal

from minuet.engine.knowledge import Round
from minuet.engine.program import CANCEL
from minuet.ids import parse_round
from minuet.observe.derivation import Derivation, Known, where
from minuet.observe.text import span
from minuet.observe.traced import TracedRun, TracedWait
from minuet.plans.dataflow import BEGIN, CANCELLATION, FactName, flow_of
from minuet.plans.placement import HOME
from minuet.plans.plan import Plan
from minuet.plans.rule import Rule

CLIENT: Final = "client"
"""Who started the run. Where nobody is in control it is home too, unless home has rules of its own to evaluate."""

Kind = Literal["start", "command", "event", "mark", "note", "end", "coming"]


@dataclass(frozen=True, slots=True, kw_only=True)
class Message:
    """A message, published once and heard by its receivers; without receivers: something that its sender noted.

    `coming`: it has not been sent yet. `detail` says more in a few words, `after_ms` when, since the run began.
    """

    kind: Kind
    sender: str
    receivers: tuple[str, ...]
    text: str
    after_ms: int
    detail: str = ""
    label: str = ""

    @property
    def is_message(self) -> bool:
        """Say whether anything was sent."""
        return bool(self.receivers)


@dataclass(frozen=True, slots=True, kw_only=True)
class Sequence:
    """The participants of a run, and their messages: first what has been, then what is still to come."""

    title: str
    participants: tuple[str, ...]
    messages: tuple[Message, ...]

    @property
    def published(self) -> int:
        """Give how many messages were published: one that several hear counts once."""
        return sum(m.is_message and m.kind != "coming" for m in self.messages)

    @property
    def delivered(self) -> int:
        """Give how many receipts there were."""
        return sum(len(m.receivers) for m in self.messages if m.kind != "coming")


def sequence_of(plan: Plan, run: TracedRun, now_ms: int) -> Sequence:
    """Give a run as messages; `now_ms` says how long something has been waited for."""
    return _Teller(plan, run, now_ms).sequence()


class _Teller:
    def __init__(self, plan: Plan, run: TracedRun, now_ms: int) -> None:
        self.plan, self.run, self.now_ms = plan, run, now_ms
        self.derived = Derivation(plan, run)
        self.hears = flow_of(plan).hears
        self.home = next((r.who for r in plan.rules if r.kind == "end"), HOME)
        # A home that only hears of the end is whoever started the run; one with rules of its own stands for itself.
        acts = any(r.who == HOME and r.kind not in ("end", "reject", "disarm") for r in plan.rules)
        self.merged = {} if acts else {HOME: CLIENT}
        self.participants = self._participants()
        self.places: list[tuple[tuple[int, int], Message]] = []  # (after which fact, commands behind facts)

    def sequence(self) -> Sequence:
        self._tell(0, 0, "start", CLIENT, self._hearers(BEGIN, CLIENT), "start", self.run.started_at_ms)
        for fact in self.derived.facts[1:]:
            self._fact(fact)
        self._end()
        for wait in self.run.waiting:
            self._coming(wait)
        messages = [m for _, m in sorted(self.places, key=lambda x: x[0])]
        return Sequence(
            title=f"Run {self.run.name}: {self.plan.name}, {self.plan.style}",
            participants=self.participants,
            messages=tuple(messages),
        )

    def _participants(self) -> tuple[str, ...]:
        """Give who takes part: whoever started it, who evaluates, who acts, in the order of the text."""
        rules = [r for r in self.plan.rules if r.kind not in ("end", "reject")]
        services = self.plan.services().keys()
        conductors = [r.who for r in rules if r.who not in services]
        acting = [name for r in rules for name in (r.who, r.about.get("service", r.who))]
        found = [self.merged.get(name, name) for name in (CLIENT, self.home, *conductors, *acting)]
        return tuple(dict.fromkeys(found))

    def _fact(self, fact: Known) -> None:
        rule = self.derived.recorder(fact.position, fact.label)
        became = self.derived.became(fact)
        if became is not None and became.rule.kind == "abandon":
            rule = became.rule
        what = f"{fact.where} {self.derived.what(fact.position, fact.label)}"
        name = (fact.position, fact.label)
        if fact.position == CANCEL or rule is None:
            asked = fact.position == CANCEL
            sender = CLIENT if asked else self._named(self.home)
            receivers = self._hearers(CANCELLATION if asked else name, sender)
            text = "cancel" if asked else f"{what} {fact.label}"
            self._tell(fact.seq, 0, "event" if receivers else "note", sender, receivers, text, fact.at_ms)
            return
        sender = self._named(rule.who)
        if rule.kind in ("run", "compensate") and rule.who != rule.about["service"] and not _called_off(fact.label):
            sender = self._named(rule.about["service"])
            after, at_ms = (became.after, became.at_ms) if became is not None else (fact.seq - 1, fact.at_ms)
            word = "compensate" if fact.label == "compensated" else "run"
            self._tell(min(after, fact.seq), 1, "command", self._named(rule.who), (sender,), f"{word} {what}", at_ms)
        receivers = self._hearers(name, sender)
        kind: Kind = "note" if not receivers else "mark" if rule.kind == "mark" else "event"
        self._tell(fact.seq, 0, kind, sender, receivers, f"{what} {fact.label}", fact.at_ms, label=fact.label)

    def _end(self) -> None:
        """Tell whoever started the run that it has ended; a home that is the client has heard it already."""
        if self.run.ended_at_ms is None:
            return
        last = len(self.derived.facts)
        sender = self._named(self.home)
        receivers = () if sender == CLIENT else (CLIENT,)
        text = self.run.state + (f": {self.run.code}" if self.run.code else "")
        self._tell(last, 2, "end", sender, receivers, text, self.run.ended_at_ms)

    def _coming(self, wait: TracedWait) -> None:
        """Tell what is still to come: from whom, to whom, since when; and the command that has asked for it."""
        rnd = parse_round(wait.round)
        at = where(wait.position, rnd)
        rule, labels = self._due(wait, rnd)
        owner = self._named(wait.owner)
        last = len(self.derived.facts)
        if rule is not None and rule.kind in ("run", "compensate") and rule.who != rule.about["service"]:
            became = self.derived.rule(rule, rnd)
            after = became.after if became is not None else last
            word = "compensate" if rule.kind == "compensate" else "run"
            at_ms = became.at_ms if became is not None else wait.since_ms
            command = f"{word} {at} {wait.needs}"
            self._tell(after, 1, "command", self._named(rule.who), (owner,), command, at_ms)
        heard = {name for label in labels for name in self._hearers((wait.position, label), owner)}
        detail = [f"{_WAITS.get(wait.what, wait.what)} since {span(self.now_ms - wait.since_ms)}, from {owner}"]
        if wait.until_ms is not None:
            detail.append(f"at the latest in {span(wait.until_ms - self.now_ms)}")
        receivers = tuple(p for p in self.participants if p in heard)
        self._tell(
            last,
            3,
            "coming",
            owner,
            receivers,
            f"{at} {wait.needs}",
            self.now_ms,
            detail=", ".join([*detail, *filter(None, [wait.detail])]),
        )

    def _due(self, wait: TracedWait, rnd: Round) -> tuple[Rule | None, tuple[str, ...]]:
        """Give the rule whose fact is waited for, and how that fact may be labelled if all goes well."""
        p = wait.position
        if self.derived.outcome(p, rnd):
            return self.derived.recorder(p, "compensated"), ("compensated",)
        return self.derived.recorder(p, "ok") or self.derived.recorder(p, "fired"), ("ok", "fired")

    def _hearers(self, name: FactName, sender: str) -> tuple[str, ...]:
        heard = {self._named(who) for who in self.hears.get(name, ())} - {sender}
        return tuple(p for p in self.participants if p in heard)

    def _named(self, who: str) -> str:
        return self.merged.get(who, who)

    def _tell(
        self,
        after: int,
        order: int,
        kind: Kind,
        sender: str,
        receivers: tuple[str, ...],
        text: str,
        at_ms: int,
        *,
        detail: str = "",
        label: str = "",
    ) -> None:
        message = Message(
            kind=kind,
            sender=sender,
            receivers=receivers,
            text=text,
            after_ms=max(0, at_ms - self.run.started_at_ms),
            detail=detail,
            label=label,
        )
        self.places.append(((after, order), message))


_WAITS: Final = {"action": "running", "event": "awaited", "timer": "sleeping", "person": "needs a person"}


def _called_off(label: str) -> bool:
    """Say whether a step was rejected by whoever evaluates its rule, instead of being run."""
    return label == "rejected:cancelled" or label.startswith("rejected:deadline@")
