"""The heart: (knowledge, input, now) -> decision. Pure; whatever could be *wrong* about a run is decided here.

Each function takes one input of one run, learns what it says, evaluates the rules that became true, and gives a
`Decided`: the rows that must become durable together, and what is to be carried out *once they are*. The knowledge
has already moved on when a function returns: if the commit fails, it is dropped and folded anew from the store.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import msgspec

from minuet.contracts.action import RetryPolicy
from minuet.engine import bound, retry
from minuet.engine.answer import Answer, Done, Failed, Rejected
from minuet.engine.knowledge import COMPENSATION, FORWARD, MISSING, Action, Knowledge, Round
from minuet.engine.port import StoredRun
from minuet.engine.program import Program
from minuet.engine.row import (
    ENDED,
    AttemptKey,
    AttemptRow,
    Decision,
    FactRow,
    InboxRow,
    InboxTaken,
    RunChange,
    RunRow,
    RunState,
    Slot,
    TimerKey,
    TimerRow,
    WaitKey,
    WaitRow,
    slot_of,
)
from minuet.ids import op_key, parse_round, round_text
from minuet.plans.rule import Rule
from minuet.workflows.expression import ExpressionFailed, to_json_bytes
from minuet.workflows.moment import instant_ms, span_ms

CANCEL = "$cancel"
REQUESTED = "requested"


class Decided:
    """What a decision asks for, once it is durable.

    `actions` are to be run; `interrupted` are attempts whose answer nobody waits for any more; `retries` wait for
    their time; `timers` and `waits` were set; `ended` says that the run has just ended.
    """

    __slots__ = ("actions", "decision", "ended", "interrupted", "knowledge", "retries", "timers", "waits")

    def __init__(self, knowledge: Knowledge) -> None:
        self.knowledge = knowledge
        self.decision = Decision(knowledge.run, self)
        self.actions: list[Action] = []
        self.interrupted: list[Action] | tuple[()] = ()
        self.retries: list[Action] | tuple[()] = ()
        self.timers: list[TimerRow] | tuple[()] = ()
        self.waits: list[WaitRow] | tuple[()] = ()
        self.ended = False

    @property
    def is_empty(self) -> bool:
        """Say whether nothing has to be recorded."""
        d = self.decision
        return not (
            d.runs
            or d.facts
            or d.attempts
            or d.timers
            or d.waits
            or d.inbox_taken
            or d.changes
            or d.attempts_done
            or d.timers_done
            or d.waits_done
            or d.audit
        )


# Beginning, and beginning again


def begin(program: Program, run: int, key: str | None, input_: bytes | None, now_ms: int) -> Decided:
    """Begin a run; `input_` is JSON text."""
    k = Knowledge(program, run, key, input_, now_ms)
    d = Decided(k)
    k.begin()
    _act(k, d, now_ms)
    _settle(k, d, now_ms)
    plan = program.plan
    d.decision.runs = [
        RunRow(
            run,
            plan.workflow,
            plan.digest,
            key,
            input_.decode() if input_ is not None else None,
            k.state,
            k.load,
            0,
            k.dirty,
            k.reason,
            k.result,
            now_ms,
            k.ended_at_ms,
        )
    ]
    d.decision.changes = ()
    return d


def recall(program: Program, stored: StoredRun, now_ms: int, *, crashed: bool = False) -> Decided:
    """Fold a run from its rows. What has no outcome is due again.

    With `crashed`, actions that were running when the process died count as failed attempts: one that kills its
    process must not do so for ever.
    """
    row = stored.run
    k = Knowledge(program, row.run, row.key, row.input.encode() if row.input is not None else None, row.started_at_ms)
    k.state, k.load, k.paused, k.dirty = row.state, row.load, row.paused, row.dirty
    k.reason, k.result, k.ended_at_ms = row.reason, row.result, row.ended_at_ms
    k.begin()
    at = row.started_at_ms
    for f in stored.facts:
        k.seq = f.seq
        at = f.at_ms
        if f.position == CANCEL:
            k.cancelled = True
        k.learn(f.position, parse_round(f.round), f.label, f.value.encode() if f.value is not None else None)
    for t in stored.timers:
        k.timers[t.position, parse_round(t.round), t.purpose] = t.due_at_ms
    for w in stored.waits:
        k.waits[w.position, parse_round(w.round)] = (w.event, w.key, w.since_ms)
    attempts = {(a.position, parse_round(a.round), a.direction): a for a in stored.attempts}
    k.tombstones = {(a.position, parse_round(a.round)) for a in stored.attempts if a.state == "tombstone"}
    d = Decided(k)
    if row.state == RunState.TERMINATED:
        k.agenda.clear()
        return d
    _act(k, d, now_ms, since_ms=at)
    for action in d.actions:
        if (a := attempts.get(_place(action))) is not None:
            _restore(action, a)
    resumed, d.actions = d.actions, []
    for action in resumed:
        if action.state == "parked":
            continue
        if action.state == "waiting" and action.next_at_ms > now_ms:
            _append(d, "retries", action)
        elif crashed and action.state == "running":
            _crashed(k, d, action, now_ms)
        else:
            action.state = "running"
            d.actions.append(action)
    for action in k.pending.values():
        if action.state == "held" and (a := attempts.get(_place(action))) is not None:
            _restore(action, a)
    _settle(k, d, now_ms)
    return d


def _restore(action: Action, a: AttemptRow) -> None:
    action.attempts, action.error, action.stored = a.attempts, a.error, True
    action.first_at_ms, action.next_at_ms = a.first_at_ms, a.next_at_ms
    if action.state != "held" or a.state == "parked":
        action.state = a.state


def _crashed(k: Knowledge, d: Decided, action: Action, now_ms: int) -> None:
    """Count the attempt before it is made again."""
    action.attempts += 1
    if _exhausted(action):
        action.error = action.error or "the process stopped while this ran"
        _give_up(k, d, action, now_ms)
        return
    action.first_at_ms = action.first_at_ms or now_ms
    _append(d.decision, "attempts", _attempt_row(action, "running", now_ms))
    action.stored = True
    d.actions.append(action)


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
            _finish(k, d, action)
            _record(k, d, position, round_, label, None if label == "compensated" else value, now_ms)
        case Rejected(code, message, details) if action.direction == FORWARD and code in action.rule.about["codes"]:
            _finish(k, d, action)
            value = msgspec.json.encode({"message": message, "details": details})
            _record(k, d, position, round_, f"rejected:{code}", value, now_ms)
        case Rejected(code, message, _):
            what = "a compensation may not reject" if action.direction == COMPENSATION else "it does not declare that"
            _failed(k, d, action, Failed(f"rejected with {code!r} ({message}): {what}", final=True), now_ms)
        case Failed():
            _failed(k, d, action, answer, now_ms)
    _act(k, d, now_ms)
    _settle(k, d, now_ms)
    return d


def timer_due(k: Knowledge, position: str, round_: Round, purpose: str, now_ms: int) -> Decided | None:
    """Take that a timer is due. None if it is not there any more, is not due yet, or the run is paused."""
    due = k.timers.get((position, round_, purpose))
    if due is None or due > now_ms or k.paused:
        return None
    d = Decided(k)
    _clear_timer(k, d, position, round_, purpose)
    match purpose:
        case "sleep" | "wait":
            if (position, round_) in k.waits:
                _disarm_wait(k, d, position, round_)
            _record(k, d, position, round_, "fired", None, now_ms)
        case "deadline":
            _record(k, d, position, round_, "fired", None, now_ms)
            _reject_idle(k, d, now_ms)
        case "timeout":
            action = k.pending.get((position, round_, FORWARD))
            if action is not None:
                _interrupt(k, d, action)
                _record(k, d, position, round_, "rejected:timeout", None, now_ms)
        case "abandon":
            action = k.pending.get((position, round_, FORWARD))
            if action is not None and action.state != "running":
                _interrupt(k, d, action)
                _tombstone(k, d, action, now_ms)
            _record(k, d, position + "!", round_, "rejected:timeout", None, now_ms)
    _act(k, d, now_ms)
    _settle(k, d, now_ms)
    return d


def event_came(k: Knowledge, position: str, round_: Round, event: InboxRow, now_ms: int) -> Decided | None:
    """Give a kept event to an armed wait. None if nobody waits there any more."""
    if (position, round_) not in k.waits:
        return None
    d = Decided(k)
    _disarm_wait(k, d, position, round_)
    if (position, round_, "wait") in k.timers:
        _clear_timer(k, d, position, round_, "wait")
    taken = InboxTaken("taken", k.run, position, round_text(round_), event.source, event.message)
    d.decision.inbox_taken = [taken]
    _record(k, d, position, round_, "ok", event.body.encode(), now_ms)
    _act(k, d, now_ms)
    _settle(k, d, now_ms)
    return d


def retry_due(k: Knowledge, action: Action, now_ms: int) -> Decided | None:
    """Take that the delay of a failed attempt is over. None if it is not, or nobody waits for it."""
    if k.pending.get(_place(action)) is not action or action.state != "waiting" or action.next_at_ms > now_ms:
        return None
    d = Decided(k)
    action.state = "held" if k.paused and action.direction == FORWARD else "running"
    if action.state == "running":
        d.actions.append(action)
    _settle(k, d, now_ms)
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
    _record(k, d, CANCEL, (), REQUESTED, None, now_ms)
    _reject_idle(k, d, now_ms)
    _act(k, d, now_ms)
    _settle(k, d, now_ms)
    return ("pivot-in-flight" if in_flight else "asked"), d


def pause(k: Knowledge, now_ms: int) -> Decided:
    """Pause: what runs goes on to its end, nothing new begins; facts are still learnt, compensations go on."""
    d = Decided(k)
    if k.state not in ENDED and not k.paused:
        k.paused = 1
        _change(k, d)
    return d


def resume(k: Knowledge, now_ms: int) -> Decided:
    """Resume a paused run; what was held back begins now. Due timers are for the caller to look at again."""
    d = Decided(k)
    if k.paused:
        k.paused = 0
        for action in k.pending.values():
            if action.state == "held":
                action.state = "running"
                d.actions.append(action)
        _change(k, d)
        _settle(k, d, now_ms)
    return d


def terminate(k: Knowledge, now_ms: int) -> Decided:
    """End a run at once; nothing is compensated, and it is listed as dirty."""
    d = Decided(k)
    if k.state in ENDED:
        return d
    k.dirty = 1
    for action in list(k.pending.values()):
        _interrupt(k, d, action)
    k.agenda.clear()
    _end(k, d, RunState.TERMINATED, None, now_ms)
    return d


def retry_now(k: Knowledge, position: str | None, now_ms: int) -> Decided:
    """Take up parked and waiting actions again (of one position, or all), with their attempts counted anew."""
    d = Decided(k)
    for action in k.pending.values():
        if action.state in ("parked", "waiting") and position in (None, action.rule.position):
            action.attempts, action.state = 0, "running"
            _append(d.decision, "attempts", _attempt_row(action, "running", now_ms))
            d.actions.append(action)
    _unstick(k, d)
    _settle(k, d, now_ms)
    return d


def resolve(k: Knowledge, position: str, answer: Answer | None, now_ms: int) -> Decided | None:
    """Record by hand what an operator has done outside: a result, a rejection, or that it is compensated (None).

    None if nothing is pending at this position that is not running right now.
    """
    for action in list(k.pending.values()):
        if action.rule.position == position and action.state != "running":
            if (answer is None) != (action.direction == COMPENSATION):
                continue
            action.state = "running"
            return answered(k, action, action.ticket, answer or Done(None), now_ms)
    return None


def skip(k: Knowledge, position: str, now_ms: int) -> Decided | None:
    """Record a compensation as done although it is not; the run is listed as dirty."""
    before, k.dirty = k.dirty, 1
    d = resolve(k, position, None, now_ms)
    if d is None:
        k.dirty = before
    else:
        _change(k, d)
    return d


# Acting on rules


def _act(k: Knowledge, d: Decided, now_ms: int, since_ms: int | None = None) -> None:
    """Fire the rules that became true, each once; a rule that has its outcome already (at recovery) does nothing."""
    rules = k.program.rules
    agenda = k.agenda
    i = 0
    while i < len(agenda):
        r, round_ = agenda[i]
        i += 1
        rule = rules[r]
        kind = rule.kind
        if kind == "run":
            _run(k, d, rule, round_, since_ms or now_ms, now_ms)
        elif kind == "compensate":
            _compensate(k, d, rule, round_, now_ms)
        elif kind == "end":
            if k.state not in ENDED:
                _ended(k, d, rule, now_ms)
        else:
            _OTHERS[kind](k, d, rule, round_, now_ms)
    agenda.clear()


def _run(k: Knowledge, d: Decided, rule: Rule, round_: Round, since_ms: int, now_ms: int) -> None:
    position = rule.position
    if (position, round_) in k.outcomes or (k.tombstones and (position, round_) in k.tombstones):
        return
    if code := _called_off(k, rule, round_):
        _record(k, d, position, round_, f"rejected:{code}", None, now_ms)
        return
    if k.state == RunState.COMPENSATING and k.program.has_attempt:
        k.state = RunState.RUNNING  # what was compensated was an attempt's body
        _change(k, d)
    action = Action(k, rule, round_, FORWARD, since_ms)
    k.pending[position, round_, FORWARD] = action
    if k.seq >= bound.FACTS_PER_RUN:
        _park(k, d, action, f"the run has {k.seq} facts, and no more than {bound.FACTS_PER_RUN} fit", now_ms)
    elif k.paused:
        action.state = "held"
    else:
        d.actions.append(action)


def _compensate(k: Knowledge, d: Decided, rule: Rule, round_: Round, now_ms: int) -> None:
    position = rule.position
    if (position, round_, Slot.COMPENSATED) in k.marks or (position, round_, COMPENSATION) in k.pending:
        return
    action = Action(k, rule, round_, COMPENSATION, now_ms)
    k.pending[position, round_, COMPENSATION] = action
    d.actions.append(action)
    if k.state == RunState.RUNNING:
        k.state = RunState.COMPENSATING
        _change(k, d)


def _timeout(k: Knowledge, d: Decided, rule: Rule, round_: Round, now_ms: int) -> None:
    shown = rule.position if rule.kind == "timeout" else rule.position + "!"
    if (shown, round_) not in k.outcomes and (rule.position, round_) not in k.outcomes:
        _set_timer(k, d, rule.position, round_, rule.kind, now_ms + rule.about["timeout_ms"])


def _verdict(k: Knowledge, d: Decided, rule: Rule, round_: Round, now_ms: int) -> None:
    step = rule.about["of"]
    label, value = k.outcomes[step, round_]
    if (verdict := k.outcomes.get((rule.position, round_))) is None:
        _record(k, d, rule.position, round_, label, value, now_ms)
    elif verdict[0] == "rejected:timeout" and label == "ok":
        _compensate(k, d, k.program.compensations[step], round_, now_ms)  # it ran after all


def _decide(k: Knowledge, d: Decided, rule: Rule, round_: Round, now_ms: int) -> None:
    if (rule.position, round_) in k.outcomes:
        return
    try:
        got = k.read(rule.arguments[0][1], round_)
    except ExpressionFailed as e:
        _no_value(k, d, rule, round_, str(e), rule.about["may_reject"], now_ms)
        return
    assert got is not MISSING
    _record(k, d, rule.position, round_, "chosen:then" if got else "chosen:else", None, now_ms)


def _wait(k: Knowledge, d: Decided, rule: Rule, round_: Round, now_ms: int) -> None:
    position = rule.position
    if (position, round_) in k.outcomes or (position, round_) in k.waits:
        return
    if code := _called_off(k, rule, round_):
        _record(k, d, position, round_, f"rejected:{code}", None, now_ms)
        return
    try:
        given = {name: k.read(v, round_) for name, v in rule.arguments}
        key = _key(given["key"])
        timeout = span_ms(given["timeout"]) if "timeout" in given else None
    except ExpressionFailed as e:
        _no_value(k, d, rule, round_, str(e), "invalid-value" in rule.about["codes"], now_ms)
        return
    k.waits[position, round_] = (rule.about["event"], key, now_ms)
    row = WaitRow(rule.about["event"], key, k.run, position, round_text(round_), now_ms)
    _append(d.decision, "waits", row)
    _append(d, "waits", row)
    if timeout is not None:
        _set_timer(k, d, position, round_, "wait", now_ms + timeout)


def _sleep(k: Knowledge, d: Decided, rule: Rule, round_: Round, now_ms: int) -> None:
    position = rule.position
    if (position, round_) in k.outcomes or (position, round_, "sleep") in k.timers:
        return
    if code := _called_off(k, rule, round_):
        _record(k, d, position, round_, f"rejected:{code}", None, now_ms)
        return
    try:
        name, v = rule.arguments[0]
        given = k.read(v, round_)
        due = now_ms + span_ms(given) if name == "duration" else instant_ms(given)
    except ExpressionFailed as e:
        _no_value(k, d, rule, round_, str(e), "invalid-value" in rule.about["codes"], now_ms)
        return
    _set_timer(k, d, position, round_, "sleep", due)


def _deadline(k: Knowledge, d: Decided, rule: Rule, round_: Round, now_ms: int) -> None:
    if (rule.position, round_) in k.outcomes or (rule.position, round_, "deadline") in k.timers:
        return
    if (rule.position, round_, Slot.GONE) in k.marks:
        return
    try:
        span = span_ms(k.read(rule.arguments[0][1], round_))
    except ExpressionFailed as e:
        k.reason = f"the deadline at {rule.position} has no duration: {e}"
        return
    _set_timer(k, d, rule.position, round_, "deadline", now_ms + span)


def _disarm(k: Knowledge, d: Decided, rule: Rule, round_: Round, now_ms: int) -> None:
    k.marks.add((rule.position, round_, Slot.GONE))
    if (rule.position, round_, "deadline") in k.timers:
        _clear_timer(k, d, rule.position, round_, "deadline")


def _fork(k: Knowledge, d: Decided, rule: Rule, round_: Round, now_ms: int) -> None:
    """The joiner looks at the list: what is no list, or too long, is rejected before anything runs."""
    if (rule.position, round_) in k.outcomes:
        return
    limit = k.program.blocks[rule.about["block"]].limit
    try:
        items = k.read(rule.arguments[0][1], round_)
        if isinstance(items, list | tuple) and len(items) <= limit:
            return
        code, what = "too-many", f"{len(items)} elements, the limit is {limit}"
    except (ExpressionFailed, TypeError) as e:
        code, what = "invalid-value", str(e)
    if rule.about["may_reject"]:
        value = msgspec.json.encode({"message": what, "details": None})
        _record(k, d, rule.position, round_, f"failed:{code}", value, now_ms)
    else:
        _stuck(k, d, f"{rule.position}: {code}: {what}")


def _mark(k: Knowledge, d: Decided, rule: Rule, round_: Round, now_ms: int) -> None:
    label, value = rule.about["label"], None
    if label == "failed":
        codes = rule.about["codes"]
        n = k.fans[rule.about["block"], round_][0]
        label = next(f"failed:{c}" for i in range(n) for c, x in codes.items() if k.holds(x, (*round_, i)))
    elif label == "ok":
        value = k.raw(rule.arguments[0][1], round_)
    slot = slot_of(label)
    known = (rule.position, round_) in k.outcomes if slot == Slot.OUTCOME else (rule.position, round_, slot) in k.marks
    if not known:
        _record(k, d, rule.position, round_, label, value, now_ms)


def _reject(k: Knowledge, d: Decided, rule: Rule, round_: Round, now_ms: int) -> None:
    k.raised.append((rule.position, round_, rule.about["code"], rule.about["message"]))


def _ended(k: Knowledge, d: Decided, rule: Rule, now_ms: int) -> None:
    code = rule.about["code"]
    if not code:
        try:
            result = k.raw(rule.arguments[0][1], ()).decode()
        except ExpressionFailed as e:
            _stuck(k, d, f"the result cannot be computed: {e}")
            return
        _end(k, d, RunState.COMPLETED, result, now_ms)
        return
    position, message, details = _where_rejected(k, code)
    told = {"code": code.partition("@")[0], "position": position, "message": message, "details": details}
    _end(k, d, RunState.COMPENSATED, msgspec.json.encode(told).decode(), now_ms)


def _where_rejected(k: Knowledge, code: str) -> tuple[str, str, Any]:
    """Find the last rejection with this code: its position, message and details."""
    for (position, _), (label, value) in reversed(k.outcomes.items()):
        if label in (f"rejected:{code}", f"failed:{code}"):
            if label.startswith("failed:") and value is None:
                continue  # the joiner only repeats what an element said
            told = msgspec.json.decode(value) if value is not None else {"message": "", "details": None}
            return position.removesuffix("!"), told["message"], told["details"]
    for position, _, raised, message in reversed(k.raised):
        if raised == code:
            return position, message, None
    return "", "", None


_OTHERS: dict[str, Callable[[Knowledge, Decided, Rule, Round, int], None]] = {
    "timeout": _timeout,
    "abandon": _timeout,
    "verdict": _verdict,
    "decide": _decide,
    "wait": _wait,
    "sleep": _sleep,
    "deadline": _deadline,
    "disarm": _disarm,
    "fork": _fork,
    "mark": _mark,
    "reject": _reject,
}


# Parts of decisions


def _place(action: Action) -> tuple[str, Round, str]:
    return action.rule.position, action.round, action.direction


def _append(owner: Any, name: str, row: Any) -> None:
    """Add to a list that is not made before it is needed."""
    rows = getattr(owner, name)
    if rows:
        rows.append(row)
    else:
        setattr(owner, name, [row])


def _record(
    k: Knowledge, d: Decided, position: str, round_: Round, label: str, value: bytes | None, now_ms: int
) -> None:
    k.seq += 1
    row = FactRow(
        k.run,
        position,
        round_text(round_) if round_ else "",
        slot_of(label),
        label,
        value.decode() if value is not None else None,
        k.seq,
        now_ms,
    )
    facts = d.decision.facts
    if facts:
        facts.append(row)  # type: ignore[union-attr]
    else:
        d.decision.facts = [row]
    k.learn(position, round_, label, value)
    if k.timers:
        for purpose in ("timeout", "abandon"):
            if (position.removesuffix("!"), round_, purpose) in k.timers:
                _clear_timer(k, d, position.removesuffix("!"), round_, purpose)


def _finish(k: Knowledge, d: Decided, action: Action) -> None:
    """An action has its outcome."""
    place = (action.rule.position, action.round, action.direction)
    del k.pending[place]
    if action.stored:
        _append(d.decision, "attempts_done", AttemptKey(k.run, place[0], round_text(place[1]), place[2]))
        _unstick(k, d)


def _interrupt(k: Knowledge, d: Decided, action: Action) -> None:
    """Nobody waits for this action any more; if it runs, its answer will be refused."""
    if action.state == "running":
        _append(d, "interrupted", action)
    action.ticket += 1
    _finish(k, d, action)


def _tombstone(k: Knowledge, d: Decided, action: Action, now_ms: int) -> None:
    """It was given up before it ran: it must not run any more."""
    k.tombstones.add((action.rule.position, action.round))
    d.decision.attempts_done = [x for x in d.decision.attempts_done if x.position != action.rule.position]
    _append(d.decision, "attempts", _attempt_row(action, "tombstone", now_ms))


def _failed(k: Knowledge, d: Decided, action: Action, failure: Failed, now_ms: int) -> None:
    action.ticket += 1
    action.attempts += 1
    action.error = failure.error
    action.first_at_ms = action.first_at_ms or now_ms
    if action.direction == FORWARD:
        if code := _called_off(k, action.rule, action.round):
            _finish(k, d, action)
            _record(k, d, action.rule.position, action.round, f"rejected:{code}", None, now_ms)
            return
        verdict = k.outcomes.get((action.rule.position + "!", action.round))
        if verdict is not None:  # abandoned in the meantime, and nothing stands
            _finish(k, d, action)
            _tombstone(k, d, action, now_ms)
            return
    if failure.final or _exhausted(action):
        _give_up(k, d, action, now_ms)
        return
    policy = _policy(action)
    key = op_key(k.run, action.rule.position, action.round, action.direction)
    wait = (
        failure.retry_after_ms if failure.retry_after_ms is not None else retry.delay_ms(policy, action.attempts, key)
    )
    action.next_at_ms = now_ms + wait
    action.state = "waiting"
    action.stored = True
    _append(d.decision, "attempts", _attempt_row(action, "waiting", now_ms))
    _append(d, "retries", action)
    if action.attempts >= bound.STUCK_AFTER and _for_ever(action):
        _stuck(k, d, f"{action.rule.position}: {action.attempts} attempts, the last: {action.error}")


def _policy(action: Action) -> RetryPolicy:
    given = action.rule.about.get("retry")
    return RetryPolicy(**given) if given else action.knowledge.program.default_retry


def _for_ever(action: Action) -> bool:
    """Compensations, and steps from which there is no way but forward, are tried until they succeed."""
    return action.direction == COMPENSATION or bool(action.rule.about["forward_only"])


def _exhausted(action: Action) -> bool:
    attempts = _policy(action).attempts
    return not _for_ever(action) and 0 < attempts <= action.attempts


def _give_up(k: Knowledge, d: Decided, action: Action, now_ms: int) -> None:
    if _policy(action).then == "reject" and "exhausted" in action.rule.about["codes"]:
        _finish(k, d, action)
        value = msgspec.json.encode({"message": action.error, "details": None})
        _record(k, d, action.rule.position, action.round, "rejected:exhausted", value, now_ms)
        return
    _park(k, d, action, action.error or "", now_ms)


def _park(k: Knowledge, d: Decided, action: Action, error: str, now_ms: int) -> None:
    action.state, action.error, action.stored = "parked", error, True
    action.first_at_ms = action.first_at_ms or now_ms
    _append(d.decision, "attempts", _attempt_row(action, "parked", now_ms))
    tried = f" after {action.attempts} attempts" if action.attempts > 1 else ""
    _stuck(k, d, f"{action.rule.position} is parked{tried}: {error}")


def _attempt_row(action: Action, state: str, now_ms: int) -> AttemptRow:
    return AttemptRow(
        action.knowledge.run,
        action.rule.position,
        round_text(action.round),
        action.direction,
        state,
        action.attempts,
        action.next_at_ms,
        action.first_at_ms or now_ms,
        now_ms,
        action.error,
    )


def _no_value(k: Knowledge, d: Decided, rule: Rule, round_: Round, why: str, may_reject: bool, now_ms: int) -> None:
    """An expression has no answer here: a rejection where that can still be taken back, else a person is needed."""
    if may_reject:
        value = msgspec.json.encode({"message": why, "details": None})
        _record(k, d, rule.position, round_, "rejected:invalid-value", value, now_ms)
    else:
        _stuck(k, d, f"{rule.position}: {why}")


def _called_off(k: Knowledge, rule: Rule, round_: Round) -> str | None:
    """Give the code with which a position is rejected instead of being run: a cancellation, or a deadline."""
    codes = rule.about["codes"]
    if k.cancelled and "cancelled" in codes:
        return "cancelled"
    for position in rule.about["deadlines"]:
        at = k.outcomes.get((position, round_[: k.program.deadline_depth[position]]))
        if at is not None and f"deadline@{position}" in codes:
            return f"deadline@{position}"
    return None


def _reject_idle(k: Knowledge, d: Decided, now_ms: int) -> None:
    """A cancellation or a deadline has come: what waits, and is not being run right now, rejects at once."""
    for action in list(k.pending.values()):
        if action.direction == FORWARD and action.state != "running":
            if code := _called_off(k, action.rule, action.round):
                _interrupt(k, d, action)
                _record(k, d, action.rule.position, action.round, f"rejected:{code}", None, now_ms)
    for rule in k.program.rules:
        if rule.kind not in ("wait", "sleep"):
            continue
        armed = [r for p, r in k.waits if p == rule.position]
        armed += [r for p, r, purpose in k.timers if p == rule.position and purpose == "sleep"]
        for round_ in armed:
            if code := _called_off(k, rule, round_):
                if (rule.position, round_) in k.waits:
                    _disarm_wait(k, d, rule.position, round_)
                if (rule.position, round_, rule.kind) in k.timers:
                    _clear_timer(k, d, rule.position, round_, rule.kind)
                _record(k, d, rule.position, round_, f"rejected:{code}", None, now_ms)


def _set_timer(k: Knowledge, d: Decided, position: str, round_: Round, purpose: str, due_at_ms: int) -> None:
    if (position, round_, purpose) in k.timers:
        return
    k.timers[position, round_, purpose] = due_at_ms
    row = TimerRow(k.run, position, round_text(round_), purpose, due_at_ms)
    _append(d.decision, "timers", row)
    _append(d, "timers", row)


def _clear_timer(k: Knowledge, d: Decided, position: str, round_: Round, purpose: str) -> None:
    del k.timers[position, round_, purpose]
    _append(d.decision, "timers_done", TimerKey(k.run, position, round_text(round_), purpose))


def _disarm_wait(k: Knowledge, d: Decided, position: str, round_: Round) -> None:
    event, key, _ = k.waits.pop((position, round_))
    _append(d.decision, "waits_done", WaitKey(event, key, k.run, position, round_text(round_)))


def _stuck(k: Knowledge, d: Decided, reason: str) -> None:
    k.state, k.reason = RunState.STUCK, reason
    _change(k, d)


def _unstick(k: Knowledge, d: Decided) -> None:
    """A run is stuck as long as one of its actions is."""
    if k.state != RunState.STUCK:
        return
    if any(a.state == "parked" or (a.attempts >= bound.STUCK_AFTER and _for_ever(a)) for a in k.pending.values()):
        return
    back = any(a.direction == COMPENSATION for a in k.pending.values())
    k.state, k.reason = (RunState.COMPENSATING if back else RunState.RUNNING), None
    _change(k, d)


def _end(k: Knowledge, d: Decided, state: RunState, result: str | None, now_ms: int) -> None:
    for position, round_, purpose in list(k.timers):
        _clear_timer(k, d, position, round_, purpose)
    for position, round_ in list(k.waits):
        _disarm_wait(k, d, position, round_)
    k.state, k.reason, k.result, k.ended_at_ms = state, None, result, now_ms
    k.load = 1 if k.pending else None  # an abandoned step may still run, and will be compensated
    d.ended = True
    _change(k, d)


def _settle(k: Knowledge, d: Decided, now_ms: int) -> None:
    """Say whether the run has something to do by itself, or only waits."""
    busy = bool(k.pending) and any(a.state in ("running", "waiting", "held") for a in k.pending.values())
    load = 1 if busy else None if k.state in ENDED else 0
    if load != k.load:
        k.load = load
        _change(k, d)


def _change(k: Knowledge, d: Decided) -> None:
    """Have the run's row say what is so now; the last word of a decision counts."""
    d.decision.changes = [RunChange(k.state, k.load, k.paused, k.dirty, k.reason, k.result, k.ended_at_ms, k.run)]


def _key(value: Any) -> str:
    if isinstance(value, bool) or not isinstance(value, str | int):
        raw = to_json_bytes(value).decode() if value is not None else "null"
        value = raw.strip('"')
    text = str(value)
    if not text or len(text.encode()) > bound.KEY_BYTES:
        raise ExpressionFailed(f"a key has 1 to {bound.KEY_BYTES} bytes, this one is {text[:40]!r}")
    return text
