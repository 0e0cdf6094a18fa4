"""What a run waits for, and who is to bring it: read from its plan and its facts, in no user's code.

`waiting` gives everything, `at` one short word for lists, `describe` what a recorded fact is.
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from typing import Any

from minuet.engine.decided import is_stuck
from minuet.engine.knowledge import COMPENSATION, MISSING, Action, Knowledge, Round
from minuet.engine.row import ENDED
from minuet.ids import parse_round, round_text
from minuet.plans.plan import Plan
from minuet.plans.rule import Rule
from minuet.workflows.expression import ExpressionFailed, to_json_bytes
from minuet.workflows.moment import span_ms

_UNITS = (("day", 86_400_000), ("hour", 3_600_000), ("minute", 60_000), ("second", 1_000), ("millisecond", 1))


@dataclass(frozen=True, slots=True, kw_only=True)
class Waiting:
    """Something that a run waits for: `owner` is to bring `needs`, since then, until then (None: no limit).

    `what`: `action` (it runs, or waits for its next attempt), `event`, `timer`, `person` (somebody has to act).
    """

    position: str
    round: str
    what: str
    needs: str
    owner: str
    since_ms: int
    until_ms: int | None = None
    detail: str = ""


def waiting(k: Knowledge) -> list[Waiting]:
    """Give what a run waits for, in the order of the text and of rounds; nothing once it has ended."""
    if k.state in ENDED:
        return []
    found = [_stall(k, position, round_, why) for (position, round_), (why, _) in k.halted.items()]
    found += [_action(k, action) for action in k.pending.values()]
    found += [_event(k, position, round_) for position, round_ in k.waits]
    found += [_timer(k, position, round_) for position, round_, purpose in k.timers if purpose == "sleep"]
    order = k.program.order
    return sorted(found, key=lambda w: (order.get(w.position, 0), parse_round(w.round)))


def at(k: Knowledge) -> str:
    """Give in a few words where a run is: what it waits for first, a person before anything else."""
    found = waiting(k)
    if not found:
        return ""
    first = next((w for w in found if w.what == "person"), found[0])
    if first.what != "person" and (block := _each_around(k, first)) is not None:
        return _counted(k, *block, found)
    where = first.position + (f" (round {first.round})" if first.round else "")
    match first.what:
        case "event":
            said = f"{where} waits for {first.needs}"
        case "timer":
            said = f"{where} sleeps {first.needs}"
        case _:
            tried = max((a.attempts for a in k.pending.values() if _is(a, first) and is_stuck(a)), default=0)
            said = f"{where} {first.needs}" + (f", {_many(tried, 'attempt')}" if tried else "")
    return said + (f", and {len(found) - 1} more" if len(found) > 1 else "")


def describe(plan: Plan, position: str, label: str) -> tuple[str, str]:
    """Say what a fact is (`orders.open`, `choice`, `wait carrier.picked-up`), and whose."""
    shown = position.removesuffix("!")
    rules = [r for r in plan.rules if r.position in (shown, position)]
    if label == "compensated":
        for r in rules:
            if r.kind == "compensate":
                return _name(r), r.about["service"]
            if r.kind == "run" and r.about["compensation"]:
                service, action = r.about["compensation"]
                return f"{service}.{action}", service
    for r in rules:
        if r.kind == "run":
            name = _name(r)
            return (f"{name}, the verdict", r.who) if shown != position else (name, r.about["service"])
        if (word := _WORDS.get(r.kind)) is not None:
            return (f"{word} {r.about['event']}" if r.kind == "wait" else word), r.who
    home = next((r.who for r in plan.rules if r.kind == "end"), "")
    if any(s.position == position for s in plan.switches):
        return "choice", home
    return ("rejection" if rules else position.removeprefix("$")), home


_WORDS = {
    "decide": "choice",
    "wait": "wait",
    "sleep": "sleep",
    "deadline": "deadline",
    "fork": "each",
    "mark": "each",
}


def span_text(span: int) -> str:
    """Give a duration in milliseconds as people say it: `14 days`, `1 hour 30 minutes`."""
    parts = []
    for unit, length in _UNITS:
        n, span = divmod(span, length)
        if n:
            parts.append(_many(n, unit))
        if len(parts) == 2:
            break
    return " ".join(parts) or "0 seconds"


def _action(k: Knowledge, action: Action) -> Waiting:
    rule, round_ = action.rule, action.round
    error = f": {action.error}" if action.error else ""
    match action.state:
        case "parked":
            detail = f"parked after {_many(action.attempts, 'attempt')}{error}"
        case "held":
            detail = f"held, the run is paused{error}"
        case _:
            detail = f"attempt {action.attempts + 1}{error}" if action.attempts else ""
            if action.progress is not None:
                fraction, note = action.progress
                detail = ", ".join(filter(None, (f"{fraction:.0%}", note, detail)))
    return Waiting(
        position=rule.position,
        round=round_text(round_),
        what="person" if action.state == "parked" else "action",
        needs=_name(rule),
        owner=rule.about["service"],
        since_ms=action.since_ms,
        until_ms=None if action.direction == COMPENSATION else _until(k, rule, round_, ("timeout", "abandon")),
        detail=detail,
    )


def _event(k: Knowledge, position: str, round_: Round) -> Waiting:
    rule = _rule(k, "wait", position)
    event, key, since = k.waits[position, round_]
    return Waiting(
        position=position,
        round=round_text(round_),
        what="event",
        needs=f"{event} {key}",
        owner=rule.who,
        since_ms=since,
        until_ms=_until(k, rule, round_, ("wait",)),
    )


def _timer(k: Knowledge, position: str, round_: Round) -> Waiting:
    rule = _rule(k, "sleep", position)
    due = k.timers[position, round_, "sleep"]
    name, v = rule.arguments[0]
    given = _read(k, v, round_)
    if name == "duration":
        span = span_ms(given)
        needs, since = span_text(span), due - span
    else:
        needs, since = f"until {to_json_bytes(given).decode().strip(chr(34))}", k.moved_at_ms
    return Waiting(
        position=position,
        round=round_text(round_),
        what="timer",
        needs=needs,
        owner=rule.who,
        since_ms=since,
        until_ms=_until(k, rule, round_, ("sleep",)),
    )


def _stall(k: Knowledge, position: str, round_: Round, why: str) -> Waiting:
    what, owner = describe(k.program.plan, position, "")
    return Waiting(
        position=position,
        round=round_text(round_),
        what="person",
        needs=what,
        owner=owner,
        since_ms=k.moved_at_ms,
        detail=why,
    )


def _until(k: Knowledge, rule: Rule, round_: Round, purposes: Iterable[str]) -> int | None:
    """Give when this ends at the latest: by its own timer, or by a deadline around it."""
    own = [k.timers.get((rule.position, round_, purpose)) for purpose in purposes]
    around = [
        k.timers.get((d, round_[: k.program.deadline_depth[d]], "deadline"))
        for d in rule.about["deadlines"]
        if f"deadline@{d}" in rule.about["codes"]
    ]
    return min((due for due in own + around if due is not None), default=None)


def _each_around(k: Knowledge, w: Waiting) -> tuple[int, Round] | None:
    """Give the innermost `each` around something, and its round."""
    rule = next(r for r in k.program.rules if r.position == w.position)
    round_ = parse_round(w.round)
    for depth in range(len(round_) - 1, -1, -1):
        block = rule.scope[depth]
        if (block, round_[:depth]) in k.fans:
            return block, round_[:depth]
    return None


def _counted(k: Knowledge, block: int, outer: Round, found: list[Waiting]) -> str:
    """Give the progress of an `each`: `step 2 each: 204 of 831 done, 8 running, 0 rejected`."""
    n = k.fans[block, outer][0]
    b = k.program.blocks[block]
    assert b.ended is not None
    elements = [(*outer, i) for i in range(n)]
    ended = sum(k.holds(b.ended, e) for e in elements)
    ends = [r.about["codes"] for r in k.program.rules if r.kind == "mark" and r.about.get("block") == block]
    codes: dict[str, int] = ends[0] if ends else {}
    rejected = sum(any(k.holds(c, e) for c in codes.values()) for e in elements)
    busy = {parse_round(w.round)[: len(outer) + 1] for w in found}
    running = len(busy.intersection(elements))
    return f"step {b.position} each: {ended - rejected} of {n} done, {running} running, {rejected} rejected"


def _is(action: Action, w: Waiting) -> bool:
    return action.rule.position == w.position and round_text(action.round) == w.round


def _rule(k: Knowledge, kind: str, position: str) -> Rule:
    return next(r for r in k.program.rules if r.kind == kind and r.position == position)


def _read(k: Knowledge, v: int, round_: Round) -> Any:
    try:
        got = k.read(v, round_)
    except ExpressionFailed:  # it had a value when the timer was set
        got = MISSING
    assert got is not MISSING
    return got


def _name(rule: Rule) -> str:
    return f"{rule.about['service']}.{rule.about['action']}"


def _many(n: int, thing: str) -> str:
    return f"{n} {thing}{'' if n == 1 else 's'}"
