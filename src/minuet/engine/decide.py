"""The heart: (knowledge, input, now) -> decision. Pure; whatever could be *wrong* about a run is decided here.

Each function takes one input of one run, learns what it says, evaluates the rules that became true, and gives a
`Decided`: the rows that must become durable together, and what is to be carried out *once they are*. The knowledge
has already moved on when a function returns: if the commit fails, it is dropped and folded anew from the store.
"""

from __future__ import annotations

from collections.abc import Callable

import msgspec

from minuet.engine import damage, retry
from minuet.engine.answer import Answer, Done, Failed, Rejected
from minuet.engine.carry import Carried, read_carried, write_carried
from minuet.engine.decided import (
    Decided,
    append,
    attempt_row,
    change,
    clear_timer,
    disarm,
    end,
    finish,
    interrupt,
    record,
    review,
    settle,
    tombstone,
)
from minuet.engine.effect import record_effects
from minuet.engine.evaluate import act, command, compensate
from minuet.engine.knowledge import COMPENSATION, FORWARD, Action, Knowledge, Round
from minuet.engine.port import StoredRun
from minuet.engine.program import CANCEL, REQUESTED, START_POSITION, Program
from minuet.engine.row import (
    ENDED,
    AttemptRow,
    CarryRow,
    InboxRow,
    InboxTaken,
    Lease,
    RunRow,
    RunState,
    Slot,
    slot_of,
)
from minuet.engine.verdict import reject_idle
from minuet.errors import Contradiction, InvalidPayload
from minuet.ids import parse_round, round_text
from minuet.plans.rule import Switch

__all__ = [
    "CANCEL",
    "Decided",
    "answered",
    "begin",
    "cancel",
    "event_came",
    "heard",
    "meet",
    "over",
    "pause",
    "recall",
    "resolve",
    "resume",
    "retry_due",
    "retry_now",
    "skip",
    "soil",
    "terminate",
    "timer_due",
]


# Beginning, and beginning again


def begin(
    program: Program, run: int, key: str | None, input_: bytes | None, now_ms: int, lease: Lease | None = None
) -> Decided:
    """Begin a run; `input_` is JSON text. All that follows is decided under this lease, as in `recall` and `meet`."""
    k = Knowledge(program, run, key, input_, now_ms)
    k.lease = lease
    d = Decided(k)
    k.begin()
    act(k, d, now_ms)
    settle(k, d)
    d.decision.runs = [_row(k, now_ms)]
    d.decision.changes = ()
    return d


def _row(k: Knowledge, now_ms: int) -> RunRow:
    plan = k.program.plan
    return RunRow(
        k.run,
        plan.workflow,
        plan.digest,
        k.key,
        k.input.decode() if k.input is not None else None,
        k.state,
        k.load,
        0,
        k.dirty,
        k.reason,
        k.result,
        now_ms,
        k.ended_at_ms,
        k.home,
    )


def recall(
    program: Program, stored: StoredRun, now_ms: int, *, crashed: bool = False, lease: Lease | None = None
) -> Decided:
    """Fold a run from its rows. What has no outcome is due again.

    With `crashed`, actions that were running when the process died count as failed attempts: one that kills its
    process must not do so for ever.

    Raises:
        StoreDamaged: a row says something that the plan does not know.
    """
    damage.check(program, stored)
    row = stored.run
    k = Knowledge(program, row.run, row.key, row.input.encode() if row.input is not None else None, row.started_at_ms)
    k.state, k.load, k.paused, k.dirty = row.state, row.load, row.paused, row.dirty
    k.reason, k.result, k.ended_at_ms = row.reason, row.result, row.ended_at_ms
    k.home, k.lease = row.home, lease
    for c in stored.carried:
        k.take(read_carried(c.carried))
    if row.home is None:
        k.begin()
    since = [row.started_at_ms] * len(k.agenda)
    for f in stored.facts:
        k.seq, k.moved_at_ms = f.seq, f.at_ms
        k.cancelled = k.cancelled or f.position == CANCEL
        if f.position == START_POSITION:
            k.input = f.value.encode() if f.value is not None else None
        k.learn(f.position, parse_round(f.round), f.label, f.value.encode() if f.value is not None else None)
        since += [f.at_ms] * (len(k.agenda) - len(since))
    for t in stored.timers:
        k.timers[t.position, parse_round(t.round), t.purpose] = t.due_at_ms
    for w in stored.waits:
        k.waits[w.position, parse_round(w.round)] = (w.event, w.key, w.since_ms)
    attempts = {(a.position, parse_round(a.round), a.direction): a for a in stored.attempts}
    k.tombstones.update((a.position, parse_round(a.round)) for a in stored.attempts if a.state == "tombstone")
    d = Decided(k)
    if row.state == RunState.TERMINATED:
        k.agenda.clear()
        k.halted.clear()
        return d
    given_up_before = _given_up_elsewhere(k)
    k.abandoned.update(given_up_before)
    k.tombstones.update(place for place in given_up_before if place not in k.outcomes)
    act(k, d, now_ms, since)
    for position, round_ in given_up_before:
        _take_back(k, d, position, round_, now_ms)
    d.actions = []
    for action in list(k.pending.values()):
        if (a := attempts.get(_place(action))) is not None:
            _restore(action, a)
        if action.state == "running" and crashed:
            retry.crashed(k, d, action, now_ms)
        elif action.state == "running":
            d.actions.append(action)
        elif action.state == "waiting" and action.next_at_ms > now_ms:
            append(d, "retries", action)
        elif action.state == "waiting":
            retry.again(d, action, now_ms)
    act(k, d, now_ms)
    review(k, d)
    settle(k, d)
    return d


def _restore(action: Action, a: AttemptRow) -> None:
    action.attempts, action.error, action.stored = a.attempts, a.error, True
    action.first_at_ms, action.next_at_ms = a.first_at_ms, a.next_at_ms
    if action.state != "held" or a.state == "parked":
        action.state = a.state


# Inputs


def answered(k: Knowledge, action: Action, ticket: int, answer: Answer, now_ms: int) -> Decided | None:
    """Take the answer of an attempt; None if nobody waits for it any more (it came too late)."""
    if k.pending.get(_place(action)) is not action or action.ticket != ticket or action.state != "running":
        return None
    d = Decided(k)
    position, round_ = action.rule.position, action.round
    match answer:
        case Done(value):
            label = "compensated" if action.direction == COMPENSATION else "ok"
            finish(k, d, action)
            record(k, d, position, round_, label, None if label == "compensated" else value, now_ms)
            if label == "ok" and (position, round_) in k.abandoned:
                compensate(k, d, k.program.compensations[position], round_, now_ms)
            if answer.effects:
                record_effects(d.decision, answer.effects)
        case Rejected(code, message, details) if action.direction == FORWARD and code in action.rule.about["codes"]:
            finish(k, d, action)
            value = msgspec.json.encode({"message": message, "details": details})
            record(k, d, position, round_, f"rejected:{code}", value, now_ms)
        case Rejected(code, message, _):
            what = "a compensation may not reject" if action.direction == COMPENSATION else "it does not declare that"
            failure = Failed(f"rejected with {code!r} ({message}): {what}", final=True)
            retry.failed(k, d, action, failure, now_ms)
        case Failed():
            retry.failed(k, d, action, answer, now_ms)
    act(k, d, now_ms)
    settle(k, d)
    return d


def meet(program: Program, run: int, key: str, home: str, now_ms: int, lease: Lease | None = None) -> Knowledge:
    """Hear of a run for the first time, by a message about it; the next input records it with what that said."""
    k = Knowledge(program, run, key, None, now_ms)
    k.home, k.load, k.is_new, k.lease = home, 0, True, lease
    return k


def heard(
    k: Knowledge, position: str, round_: Round, label: str, value: bytes | None, carry: Carried, now_ms: int
) -> Decided | None:
    """Take a fact that another participant has recorded, with what it carries. None if it is no news.

    A command is heard likewise, as the fact `asked` (or `asked-back`) that carries the arguments.

    Raises:
        Contradiction: the position has another outcome here.
    """
    slot = slot_of(label)
    if slot == Slot.OUTCOME and (known := k.outcomes.get((position, round_))) is not None:
        if known[0] != label:
            raise Contradiction(
                f"{position} {round_text(round_)} is {known[0]} here, and {label} was heard",
                remedy="See both with minuet show --causes; one of the participants has lost what it had recorded",
            )
        return None
    if slot != Slot.OUTCOME and (position, round_, slot) in k.marks:
        return None
    d = _met(k, now_ms)
    k.take(carry)
    if position == START_POSITION:
        k.input = value
    k.cancelled = k.cancelled or position == CANCEL
    record(k, d, position, round_, label, value, now_ms)
    d.told = 1
    if carry:
        d.decision.ensure_messages().carried = [CarryRow(k.run, k.seq, write_carried(carry))]
    _no_longer_away(k, d, position, round_, COMPENSATION if slot == Slot.COMPENSATED else FORWARD)
    if k.cancelled or (label == "fired" and position in k.program.deadline_depth):
        reject_idle(k, d, now_ms)
    if k.state == RunState.TERMINATED:
        k.agenda.clear()  # it is known, and nothing follows
        return d
    if label == "rejected:timeout" and position.endswith("!"):
        _give_up(k, d, position.removesuffix("!"), round_, now_ms)
    act(k, d, now_ms)
    settle(k, d)
    return d


def _met(k: Knowledge, now_ms: int) -> Decided:
    """Begin a decision; the first about a run that was only heard of records it."""
    d = Decided(k)
    if k.is_new:
        k.is_new = False
        d.decision.runs = [_row(k, now_ms)]
    return d


def _no_longer_away(k: Knowledge, d: Decided, position: str, round_: Round, direction: str) -> None:
    """What somebody else was to do, or to wait for, is done."""
    action = k.pending.get((position, round_, direction))
    if action is not None and action.state == "away":
        finish(k, d, action)
    if k.program.only_watches:
        for purpose in ("sleep", "wait"):
            if (position, round_, purpose) in k.timers or (purpose == "wait" and (position, round_) in k.waits):
                disarm(k, d, position, round_, purpose)


def _give_up(k: Knowledge, d: Decided, position: str, round_: Round, now_ms: int) -> None:
    """The owner of a step has given it up: it does not run any more, or it is taken back once it has."""
    action = k.pending.get((position, round_, FORWARD))
    if not k.program.performs(k.program.runs[position]):
        if action is not None:
            finish(k, d, action)
        return
    k.abandoned.add((position, round_))
    if action is not None and action.state != "running":
        tombstone(k, d, action, now_ms)
    elif action is None and (position, round_) not in k.outcomes:
        k.tombstones.add((position, round_))
    elif action is None:
        _take_back(k, d, position, round_, now_ms)


def _given_up_elsewhere(k: Knowledge) -> list[tuple[str, Round]]:
    """Give the steps that are performed here, and that their owner has given up somewhere else."""
    if k.program.who is None or k.program.only_watches:
        return []
    given_up = [
        (position[:-1], round_)
        for (position, round_), (label, _) in k.outcomes.items()
        if label == "rejected:timeout" and position.endswith("!")
    ]
    return [
        (position, round_)
        for position, round_ in given_up
        if k.program.performs(k.program.runs[position]) and k.program.armed_by[position] not in k.program.who
    ]


def _take_back(k: Knowledge, d: Decided, position: str, round_: Round, now_ms: int) -> None:
    if k.outcomes.get((position, round_), ("",))[0] == "ok":
        compensate(k, d, k.program.compensations[position], round_, now_ms)


def over(k: Knowledge, state: str, now_ms: int) -> Decided | None:
    """Take from whoever observes the end that a run is over. None if that is no news."""
    if k.state in ENDED:
        return None
    d = Decided(k)
    end(k, d, RunState(state), None, now_ms)
    if state == RunState.TERMINATED:
        for action in list(k.pending.values()):
            interrupt(k, d, action)
    settle(k, d)
    return d


def timer_due(k: Knowledge, position: str, round_: Round, purpose: str, now_ms: int) -> Decided | None:
    """Take that a timer is due. None if it is not there any more, is not due yet, or the run is paused."""
    due = k.timers.get((position, round_, purpose))
    if due is None or due > now_ms or k.paused:
        return None
    d = Decided(k)
    clear_timer(k, d, position, round_, purpose)
    match purpose:
        case "sleep":
            record(k, d, position, round_, "fired", None, now_ms)
        case "wait":
            disarm(k, d, position, round_, "wait")
            record(k, d, position, round_, "fired", None, now_ms)
        case "deadline":
            record(k, d, position, round_, "fired", None, now_ms)
            reject_idle(k, d, now_ms)
        case "timeout":
            if (action := k.pending.get((position, round_, FORWARD))) is not None:
                interrupt(k, d, action)
                record(k, d, position, round_, "rejected:timeout", None, now_ms)
        case "abandon":
            action = k.pending.get((position, round_, FORWARD))
            if action is not None and action.state == "away":
                finish(k, d, action)
            elif action is not None and action.state != "running":
                tombstone(k, d, action, now_ms)
            record(k, d, position + "!", round_, "rejected:timeout", None, now_ms)
    act(k, d, now_ms)
    settle(k, d)
    return d


def event_came(k: Knowledge, position: str, round_: Round, event: InboxRow, now_ms: int) -> Decided | None:
    """Give a kept event to an armed wait. None if nobody waits there any more."""
    if (position, round_) not in k.waits:
        return None
    d = Decided(k)
    disarm(k, d, position, round_, "wait")
    taken = InboxTaken("taken", k.run, position, round_text(round_), event.source, event.message)
    d.decision.inbox_taken = [taken]
    record(k, d, position, round_, "ok", event.body.encode(), now_ms)
    act(k, d, now_ms)
    settle(k, d)
    return d


def retry_due(k: Knowledge, action: Action, now_ms: int) -> Decided | None:
    """Take that the delay of a failed attempt is over. None if it is not, or nobody waits for it."""
    if k.pending.get(_place(action)) is not action or action.state != "waiting" or action.next_at_ms > now_ms:
        return None
    d = Decided(k)
    if k.paused and action.direction == FORWARD:
        action.state = "held"
    else:
        retry.again(d, action, now_ms)
    settle(k, d)
    return d


# What operators ask


def cancel(k: Knowledge, now_ms: int) -> tuple[str, Decided]:
    """Ask for a cancellation; gives the answer and what follows.

    Answers: `asked` (what was done will be compensated), `pivot-in-flight` (whoever runs it decides), `past-pivot`,
    `already-ending`.
    """
    d = Decided(k)
    ending = k.state == RunState.COMPENSATING and not k.program.has_attempt
    if k.state in ENDED or ending or k.cancelled:
        return "already-ending", d
    final = {p for p, r in k.program.runs.items() if r.about["irrevocable"]}
    if any(label == "ok" and position in final for (position, _), (label, _) in k.outcomes.items()):
        return "past-pivot", d
    in_flight = any(p in final and a.state == "running" for (p, _, _), a in k.pending.items())
    k.cancelled = True
    record(k, d, CANCEL, (), REQUESTED, None, now_ms)
    reject_idle(k, d, now_ms)
    act(k, d, now_ms)
    settle(k, d)
    return ("pivot-in-flight" if in_flight else "asked"), d


def pause(k: Knowledge, now_ms: int) -> Decided:
    """Pause: what runs goes on to its end, nothing new begins; facts are still learnt, compensations go on."""
    d = _met(k, now_ms)
    if k.state not in ENDED and not k.paused:
        k.paused = 1
        change(k, d)
    return d


def resume(k: Knowledge, now_ms: int) -> Decided:
    """Resume a paused run; what was held back begins now. Due timers are for the caller to look at again."""
    d = _met(k, now_ms)
    if k.paused:
        k.paused = 0
        change(k, d)
        for action in k.pending.values():
            if action.state == "held" and action.stored:
                retry.again(d, action, now_ms)
            elif action.state == "held" and not k.program.performs(action.rule):
                command(d, action, is_new=True)
            elif action.state == "held":
                action.state = "running"
                d.actions.append(action)
        settle(k, d)
    return d


def terminate(k: Knowledge, now_ms: int) -> Decided:
    """End a run at once; nothing is compensated, and it is listed as dirty."""
    d = _met(k, now_ms)
    if k.state in ENDED:
        return d
    k.dirty = 1
    end(k, d, RunState.TERMINATED, None, now_ms)
    for action in list(k.pending.values()):
        interrupt(k, d, action)
    settle(k, d)
    return d


def soil(k: Knowledge) -> Decided:
    """List a run as dirty: somebody else leaves something of it as it is."""
    d = Decided(k)
    if not k.dirty:
        k.dirty = 1
        change(k, d)
    return d


def retry_now(k: Knowledge, position: str | None, now_ms: int) -> Decided:
    """Take up what is parked or waits (at one position, or anywhere), with its attempts counted anew.

    Where an expression failed nothing is to be tried again: it has the same answer whenever it is asked. A release
    that knows better finds it when it reads the run anew; else a person decides: `resolve`.
    """
    d = Decided(k)
    for action in k.pending.values():
        if action.state in ("parked", "waiting") and position in (None, action.rule.position):
            action.attempts = 0
            if k.paused and action.direction == FORWARD:
                action.state = "held"
                append(d.decision, "attempts", attempt_row(action, "running", now_ms))
            else:
                retry.again(d, action, now_ms)
    settle(k, d)
    return d


def resolve(
    k: Knowledge,
    position: str,
    answer: Answer | None,
    now_ms: int,
    effects: Callable[[Action, Answer], Answer] = lambda _, answer: answer,
) -> Decided | None:
    """Record by hand what was done outside: a result, a rejection, or that it is compensated (None).

    A position at which an expression failed takes a result too: true or false for a choice, an event's data for a
    wait, the list of results for an `each`, the run's result for `$result`; anything for a timer. `effects` adds what
    the ledger is told of it.

    None if nothing is pending at this position that is not running right now.

    Raises:
        InvalidPayload: this position does not take such an answer.
    """
    for action in list(k.pending.values()):
        if action.rule.position != position or action.state == "running":
            continue
        if (answer is None) != (action.direction == COMPENSATION):
            continue
        codes = action.rule.about["codes"]
        if isinstance(answer, Rejected) and answer.code not in codes:
            raise InvalidPayload(
                f"{position} does not reject with {answer.code!r}", remedy=f"It declares: {', '.join(codes) or 'none'}"
            )
        action.state = "running"
        return answered(k, action, action.ticket, effects(action, answer or Done(None)), now_ms)
    for (at, round_), (_, what) in k.halted.items():
        if at == position and isinstance(answer, Done):
            kind = "switch" if isinstance(what, Switch) else what.kind
            return _resolve_halted(k, position, round_, kind, answer.value or b"null", now_ms)
    return None


def _resolve_halted(k: Knowledge, position: str, round_: Round, kind: str, value: bytes, now_ms: int) -> Decided:
    d = Decided(k)
    given = msgspec.json.decode(value)
    kept: bytes | None = None
    match kind:
        case "switch" | "decide" if isinstance(given, bool):
            label = "chosen:then" if given else "chosen:else"
        case "wait":
            label, kept = "ok", value
        case "fork" if isinstance(given, list):
            label, kept = "ok", value
        case "sleep":
            label = "fired"
        case "deadline":
            label = "gone"
        case "end":
            label = ""
        case _:
            takes = "a list of results" if kind == "fork" else "true or false"
            raise InvalidPayload(f"{position} takes {takes}", remedy=f"Give {takes}")
    del k.halted[position, round_]
    if label:
        record(k, d, position, round_, label, kept, now_ms)
        act(k, d, now_ms)
    else:
        end(k, d, RunState.COMPLETED, value.decode(), now_ms)
    settle(k, d)
    return d


def skip(k: Knowledge, position: str, now_ms: int) -> Decided | None:
    """Record a compensation as done although it is not; the run is listed as dirty."""
    before, k.dirty = k.dirty, 1
    d = resolve(k, position, None, now_ms)
    if d is None:
        k.dirty = before
    else:
        change(k, d)
    return d


def _place(action: Action) -> tuple[str, Round, str]:
    return action.rule.position, action.round, action.direction
