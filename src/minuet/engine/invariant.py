"""The invariants: what holds of every run in every store, whatever goes wrong; and who breaks them, in a sentence.

`History` is given each decision as it becomes durable, and in the end what is stored. What can be seen of one decision
is checked at once: I1, I3, I6, I9. The rest needs the whole run: its facts, in the order in which they were recorded
first, are compared with its `course`.

    I1   a (position, round) has one outcome; a fact has one value wherever it is told
    I2   it is compensated once
    I3   only what was done is compensated, and what was given up before it ran is never done
    I4   in a branch that has turned back, nothing goes forward
    I5   what cannot be taken back ends the way back: nothing is called off after it, nor compensated before it
    I6   what has ended stays ended, and so everywhere
    I7   `completed`: all on the taken path has its outcome; `compensated`: all is taken back, last first
    I8   whatever has not ended waits for something, or for somebody
    I9   facts only grow, and the epochs of a shard never fall
    I11  what was acknowledged has a row
    I12  the facts, their order and the result are those of the text, wherever its rules were evaluated

I10, the order of subscriptions, is for whoever publishes to see.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field

import msgspec

from minuet.engine.course import FAILED, NORMAL, RETURN, Fact, Leg, Trace, course, facts_of, raw_value, read_body
from minuet.engine.port import StoredRun
from minuet.engine.program import CANCEL, START_POSITION
from minuet.engine.row import ASKED, ASKED_BACK, ENDED, SETTLED, Decision, FactRow, RunChange, RunRow, RunState, Slot
from minuet.ids import parse_run, run_text
from minuet.plans.plan import Plan
from minuet.workflows.expression import ExpressionFailed
from minuet.workflows.tree import Node

_Place = tuple[str, str, int]  # position, round, slot

_decode = msgspec.json.Decoder().decode


@dataclass(slots=True)
class _Told:
    """A fact of a run. `at`: its number among all facts, by when it was recorded first; `where`: by which stores."""

    label: str
    value: str | None
    at: int
    where: set[str]


@dataclass(slots=True)
class _Heard:
    """What was recorded of one run, by all stores."""

    facts: dict[_Place, _Told] = field(default_factory=dict)
    tombstones: set[tuple[str, str]] = field(default_factory=set)
    states: dict[str, tuple[str, str | None]] = field(default_factory=dict)  # by store: state and result


class History:
    """What became durable in all stores of one world, from its beginning. Each check gives what is wrong."""

    def __init__(self) -> None:
        self._runs: dict[int, _Heard] = {}
        self._epochs: dict[tuple[str, int], int] = {}
        self._bodies: dict[str, Node] = {}
        self._facts = 0

    def take(self, where: str, decision: Decision) -> list[str]:
        """Take a decision that has become durable in the store `where`. They come in the order of their commits."""
        wrong: list[str] = []
        if (fence := decision.fence) is not None:
            held = self._epochs.setdefault((where, fence.shard), fence.epoch)
            if fence.epoch < held:
                wrong.append(f"I9: {where} took epoch {fence.epoch} of shard {fence.shard} after epoch {held}")
            elif fence.epoch > held:
                self._epochs[where, fence.shard] = fence.epoch
        for row in decision.runs:
            self._of(row.run).states.setdefault(where, (row.state, row.result))
        for f in decision.facts:
            if (known := self._of(f.run).facts.get((f.position, f.round, f.slot))) is None:
                self._facts += 1
                told = _Told(f.label, f.value, self._facts, {where})
                wrong += self._learn(self._runs[f.run], f, told)
            else:
                known.where.add(where)
                if (known.label, known.value) != (f.label, f.value):
                    wrong += _told_otherwise(where, f, known)
        for a in decision.attempts:
            if a.state == "tombstone":
                self._of(a.run).tombstones.add((a.position, a.round))
        for c in decision.changes:
            wrong += self._change(where, c)
        return wrong

    def _of(self, run: int) -> _Heard:
        if (heard := self._runs.get(run)) is None:
            heard = self._runs[run] = _Heard()
        return heard

    def _learn(self, heard: _Heard, f: FactRow, told: _Told) -> Iterator[str]:
        heard.facts[f.position, f.round, f.slot] = told
        if f.slot == Slot.COMPENSATED:
            done = heard.facts.get((f.position, f.round, Slot.OUTCOME))
            if done is None or done.label != "ok":
                became = "has no outcome" if done is None else f"is {done.label}"
                yield f"I3: {_in(f.run)} {_at(f.position, f.round)} was compensated, and {became}"
        elif f.label == "ok" and (f.position, f.round) in heard.tombstones:
            yield f"I3: {_in(f.run)} {_at(f.position, f.round)} was done after it had been given up for good"

    def _change(self, where: str, c: RunChange) -> Iterator[str]:
        states = self._of(c.run).states
        state, result = states.get(where, (c.state, c.result))
        if state in ENDED and (state, result) != (c.state, c.result):
            what = "got another result" if state == c.state else f"became {c.state}"
            yield f"I6: {_in(c.run)} it was {state} at {where}, and {what}"
        states[where] = (c.state, c.result)

    def at_the_end(self, stores: Mapping[int, Mapping[str, StoredRun]], plans: Mapping[str, Plan]) -> list[str]:
        """Check all runs, by run and store, when no message is under way any more; plans by their digests.

        A run that has ended may have been forgotten. Of one whose plan is not there the course is not checked.
        """
        wrong = []
        for run, heard in self._runs.items():
            if (kept := stores.get(run)) is None:
                if not all(state in ENDED for state, _ in heard.states.values()):
                    wrong.append(f"I9: {_in(run)} nothing of it is stored, and it had not ended")
                continue
            wrong += _not_as_recorded(run, heard, kept)
        for run, kept in stores.items():
            wrong += _apart(run, kept)
            wrong += _left_over(run, kept)
            home = next((s.run for s in kept.values() if s.run.home is None), None)
            if home is None:
                continue
            if not _is_waiting(home, kept):
                wrong.append(f"I8: {_in(run)} it is {home.state}, and nobody has anything to do, or waits")
            if (plan := plans.get(home.digest)) is not None:
                wrong += self._off_course(home, self._of(run), kept, plan)
        return wrong

    # The course

    def _off_course(self, home: RunRow, heard: _Heard, kept: Mapping[str, StoredRun], plan: Plan) -> Iterator[str]:
        if (body := self._bodies.get(plan.digest)) is None:
            body = self._bodies[plan.digest] = read_body(plan)
        known = {place: (told.label, told.value) for place, told in heard.facts.items()}
        leg = course(body, known, _decode(home.input) if home.input is not None else None)
        checked = _Course(home, plan, heard, leg)
        yield from checked.off_path()
        yield from checked.out_of_order()
        yield from checked.called_off_too_late()
        if home.state in (RunState.COMPLETED, RunState.COMPENSATED):
            yield from checked.incomplete(kept)
            yield from checked.ended_otherwise()


class _Course:
    """The facts of one run beside those that its course has."""

    def __init__(self, home: RunRow, plan: Plan, heard: _Heard, leg: Leg) -> None:
        self.home, self.plan, self.heard, self.leg = home, plan, heard, leg
        self.run = home.run
        deadlines = {r.position for r in plan.rules if r.kind == "deadline"}
        aside = deadlines | {START_POSITION, CANCEL}
        self.at = {  # when each fact was recorded
            Fact(position, round_, told.label): told.at
            for (position, round_, slot), told in heard.facts.items()
            if slot in (Slot.OUTCOME, Slot.COMPENSATED) and position not in aside
        }
        self.given_up = {
            (f.position.removesuffix("!"), f.round)
            for f in self.at
            if f.position.endswith("!") and f.label == "rejected:timeout"
        }
        final = {r.position for r in plan.rules if r.kind == "run" and r.about["irrevocable"]}
        self.pivots = {f: n for f, n in self.at.items() if f.label == "ok" and f.position in final}
        self.expected = facts_of(leg.trace)

    def off_path(self) -> Iterator[str]:
        """What was recorded, and has no place there."""
        expected = set(self.expected)
        for f in [f for f in self.at if f not in expected]:
            if (f.position, f.round) in self.given_up or f.label.startswith(("failed:", "done")):
                continue  # it came too late for everybody; or it stands for what lies inside
            if f.label == "compensated":
                yield self._compensated_for_nothing(f)
            elif back := [b for b, n in self.at.items() if b.label == "compensated" and n < self.at[f]]:
                yield f"I4: {_in(self.run)} {_said(f)}, after {_at(*back[0][:2])} had been compensated"
            else:
                yield f"I12: {_in(self.run)} {_said(f)}, and does not lie on its path"

    def _compensated_for_nothing(self, f: Fact) -> str:
        done = self.at.get(Fact(f.position, f.round, "ok"), 0)
        for pivot, n in self.pivots.items():
            if done < n < self.at[f]:
                return f"I5: {_in(self.run)} {_said(f)}, though {_at(*pivot[:2])} was done after it, for good"
        return f"I7: {_in(self.run)} {_said(f)}, and nothing behind it was rejected"

    def out_of_order(self) -> Iterator[str]:
        """What came before something that it follows."""
        wrong: list[str] = []
        self._span(self.leg.trace, wrong)
        yield from wrong

    def _span(self, trace: Trace, wrong: list[str]) -> tuple[Fact, Fact] | None:
        """Give the first and the last fact of a piece that are recorded, None where none is; add what is `wrong`."""
        if isinstance(trace, Fact):
            return (trace, trace) if trace in self.at else None
        first = last = None
        for part in trace.parts:
            if (span := self._span(part, wrong)) is None:
                continue
            a, b = span
            if first is None or last is None:
                first, last = a, b
                continue
            if trace.is_in_order and self.at[a] < self.at[last]:
                wrong.append(self._too_early(a, last))
            first = min(first, a, key=self.at.__getitem__)
            last = max(last, b, key=self.at.__getitem__)
        return None if first is None or last is None else (first, last)

    def _too_early(self, early: Fact, late: Fact) -> str:
        if early.label == "compensated" and late.label == "compensated":
            return (
                f"I7: {_in(self.run)} {_at(*early[:2])} was compensated before {_at(*late[:2])}, which was done later"
            )
        if early.label == "compensated":
            return f"I4: {_in(self.run)} {_said(late)}, after {_at(*early[:2])} had been compensated"
        return f"I12: {_in(self.run)} {_said(early)}, before {_said(late)}, which it follows"

    def called_off_too_late(self) -> Iterator[str]:
        """What the platform has rejected when something was done that cannot be taken back."""
        if not self.pivots:
            return
        pivot = min(self.pivots, key=self.pivots.__getitem__)
        for f, n in self.at.items():
            is_called_off = f.label == "rejected:cancelled" or f.label.startswith("rejected:deadline@")
            if is_called_off and n > self.pivots[pivot] and (f.position, f.round) not in self.given_up:
                yield f"I5: {_in(self.run)} {_said(f)}, after {_at(*pivot[:2])} was done, for good"

    def incomplete(self, kept: Mapping[str, StoredRun]) -> Iterator[str]:
        """What is missing where the run has ended."""
        said = f"{_in(self.run)} it is {self.home.state}, and"
        for position, round_ in self.leg.missing:
            yield f"I7: {said} {_at(position, round_)} has no outcome"
        for f in self.expected:
            if f not in self.at:
                yield f"I7: {said} {_at(f.position, f.round)} was not {f.label}"
        parked = {(a.position, a.round) for s in kept.values() for a in s.attempts if a.state != "tombstone"}
        for position, round_ in sorted(self.given_up - parked):
            is_done = Fact(position, round_, "ok") in self.at
            if is_done and Fact(position, round_, "compensated") not in self.at:
                yield f"I7: {said} {_at(position, round_)}, which was given up and done after all, was not compensated"

    def ended_otherwise(self) -> Iterator[str]:
        """How it has ended, where its facts say something else."""
        home, leg = self.home, self.leg
        if leg.missing:
            return
        if leg.end not in (NORMAL, RETURN, FAILED):
            raise AssertionError(leg.end)
        by_facts = RunState.COMPENSATED if leg.end == FAILED else RunState.COMPLETED
        if home.state != by_facts:
            yield f"I7: {_in(self.run)} it is {home.state}, and by its facts it is {by_facts}"
            return
        result = _decode(home.result) if home.result is not None else None
        if leg.end == FAILED:
            code = leg.code.partition("@")[0]
            if result is None or result["code"] != code:
                yield f"I12: {_in(self.run)} its result is {home.result}, and by its facts it was rejected with {code}"
            return
        try:
            value = raw_value(leg.value)
        except ExpressionFailed:
            return  # a person has given the result
        if result != value:
            yield f"I12: {_in(self.run)} its result is {home.result}, and by its facts {value!r}"


# What can be seen of the rows alone


def without_row(acknowledged: Mapping[str, str], stores: Mapping[int, Mapping[str, StoredRun]]) -> list[str]:
    """Say which starts were acknowledged, run id by key, of which there is no run."""
    return [
        f"I11: the start with the key {key} was acknowledged as run {run}, and there is no such run"
        for key, run in acknowledged.items()
        if not any(s.run.home is None for s in stores.get(parse_run(run) or 0, {}).values())
    ]


def _told_otherwise(where: str, f: FactRow, known: _Told) -> Iterator[str]:
    others = ", ".join(sorted(known.where - {where})) or where
    if known.label != f.label:
        yield f"I1: {_in(f.run)} {_at(f.position, f.round)} is {known.label} at {others}, and {f.label} at {where}"
    elif f.label not in (ASKED, ASKED_BACK):
        told = f"{known.value} at {others}, and {f.value} at {where}"
        yield f"I1: {_in(f.run)} {_at(f.position, f.round)} {f.label} has the value {told}"


def _not_as_recorded(run: int, heard: _Heard, kept: Mapping[str, StoredRun]) -> Iterator[str]:
    """Say which facts are not stored as they were recorded, or stored more often."""
    stored: dict[tuple[str, _Place], FactRow] = {}
    for name, s in kept.items():
        for f in s.facts:
            place = (f.position, f.round, f.slot)
            if (name, place) in stored:
                which = "I2" if f.slot == Slot.COMPENSATED else "I1"
                yield f"{which}: {_in(run)} {_at(f.position, f.round)} is {f.label} twice at {name}"
            stored[name, place] = f
            if place not in heard.facts or name not in heard.facts[place].where:
                yield f"I9: {_in(run)} {_at(f.position, f.round)} is {f.label} at {name}, and nobody has recorded it"
        if [f.seq for f in s.facts] != list(range(1, len(s.facts) + 1)):
            yield f"I9: {_in(run)} its facts are not counted one by one at {name}"
    for place, told in heard.facts.items():
        for name in told.where:
            found = stored.get((name, place))
            if found is None:
                yield f"I9: {_in(run)} {_at(*place[:2])} was {told.label} at {name}, and is gone"
            elif found.label != told.label:
                yield f"I9: {_in(run)} {_at(*place[:2])} was {told.label} at {name}, and is {found.label}"


def _apart(run: int, kept: Mapping[str, StoredRun]) -> Iterator[str]:
    """Say where stores have ended a run differently; whoever observes its end has the last word."""
    home = next((s.run.state for s in kept.values() if s.run.home is None), None)
    for name, s in kept.items():
        if home is not None and s.run.state in ENDED and s.run.state != home and home in ENDED:
            yield f"I6: {_in(run)} it is {s.run.state} at {name}, and {home} at home"


def _left_over(run: int, kept: Mapping[str, StoredRun]) -> Iterator[str]:
    """Say what an ended run still has; what a person has to see to may stay."""
    for name, s in kept.items():
        if s.run.state in ENDED and s.run.reason is None:
            attempts = [a for a in s.attempts if a.state != "tombstone"]
            found = [*(["something to do"] if s.run.load is not None else [])]
            found += [f"an attempt of {_at(a.position, a.round)}" for a in attempts]
            found += [f"a timer at {_at(t.position, t.round)}" for t in s.timers]
            found += [f"a wait at {_at(w.position, w.round)}" for w in s.waits]
            if found:
                yield f"left over: {_in(run)} it is {s.run.state}, and has {', '.join(found)} at {name}"


def _is_waiting(home: RunRow, kept: Mapping[str, StoredRun]) -> bool:
    """Say whether a run has ended, or something is to come of which it can go on."""
    return home.state in SETTLED or any(
        s.run.load == 1
        or s.run.paused
        or s.timers
        or s.waits
        or s.run.state in SETTLED - ENDED
        or any(a.state != "tombstone" for a in s.attempts)
        for s in kept.values()
    )


def _in(run: int) -> str:
    return f"run {run_text(run)}:"


def _at(position: str, round_: str) -> str:
    return f"{position}[{round_}]" if round_ else position


def _said(f: Fact) -> str:
    return f"{_at(f.position, f.round)} is {f.label}"
