"""The rules that became true: each fires once, and has its effect here. A new kind of rule is a new function here."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

import msgspec

from minuet.engine import bound
from minuet.engine.decided import Decided, append, change, clear_timer, end, halt, record, set_timer
from minuet.engine.knowledge import COMPENSATION, FORWARD, MISSING, Action, Knowledge, Round
from minuet.engine.program import RESULT
from minuet.engine.rejection import where_rejected
from minuet.engine.retry import park
from minuet.engine.row import ENDED, RunState, Slot, WaitRow, slot_of
from minuet.engine.verdict import called_off
from minuet.ids import round_text
from minuet.plans.rule import Rule
from minuet.workflows.expression import ExpressionFailed, to_json_bytes
from minuet.workflows.moment import instant_ms, span_ms


def act(k: Knowledge, d: Decided, now_ms: int, since: Sequence[int] = ()) -> None:
    """Fire the rules on the agenda; one that has its outcome already (when a run is recalled) does nothing.

    `since` tells, at recall, when each of the first became true: what they had decided then is recorded.
    """
    rules = k.program.rules
    agenda = k.agenda
    i = 0
    while i < len(agenda):
        r, round_ = agenda[i]
        rule = rules[r]
        at_ms = since[i] if i < len(since) else now_ms
        kind = rule.kind
        if k.program.only_watches and kind not in _WATCHED:
            pass
        elif kind == "run":
            _run(k, d, rule, round_, at_ms, is_new=i >= len(since))
        elif kind == "compensate":
            compensate(k, d, rule, round_, at_ms, is_new=i >= len(since))
        else:
            _OTHERS[kind](k, d, rule, round_, at_ms)
        i += 1
    agenda.clear()


def _run(k: Knowledge, d: Decided, rule: Rule, round_: Round, now_ms: int, *, is_new: bool) -> None:
    """Have a step run. One that is not new was begun before whatever has called off others: its outcome is to come."""
    position = rule.position
    if (position, round_) in k.outcomes or (k.tombstones and (position, round_) in k.tombstones):
        return
    is_here = k.program.performs(rule)
    if not is_here and (position + "!", round_) in k.outcomes:
        return  # given up: nobody here waits for it
    if is_new and not k.program.only_watches and (code := called_off(k, rule, round_)):
        record(k, d, position, round_, f"rejected:{code}", None, now_ms)
        return
    action = Action(k, rule, round_, FORWARD, now_ms)
    if not is_here and not _can_be_commanded(k, d, action, now_ms):
        return
    k.pending[position, round_, FORWARD] = action
    if k.seq >= bound.FACTS_PER_RUN:
        park(k, d, action, f"the run has {k.seq} facts, and no more than {bound.FACTS_PER_RUN} fit", now_ms)
    elif k.paused:
        action.state = "held"
    elif is_here:
        d.actions.append(action)
    else:
        command(d, action, is_new=is_new)


def command(d: Decided, action: Action, *, is_new: bool) -> None:
    """Have somebody else perform an action; where it was commanded before, its answer is to come."""
    action.state = "away"
    if is_new:
        append(d, "commands", action)


def _can_be_commanded(k: Knowledge, d: Decided, action: Action, now_ms: int) -> bool:
    """See that the arguments can be told; what has no value is rejected here, as where it runs."""
    rule, round_ = action.rule, action.round
    if k.program.only_watches:
        return True
    try:
        for _, v in rule.arguments:
            k.raw(v, round_)
    except ExpressionFailed as e:
        _no_value(k, d, rule, round_, str(e), now_ms, may_reject="invalid-value" in rule.about["codes"])
        return False
    return True


def compensate(k: Knowledge, d: Decided, rule: Rule, round_: Round, now_ms: int, *, is_new: bool = True) -> None:
    """Have a step taken back. A paused run goes on with that: half done is no place to rest."""
    position = rule.position
    if (position, round_, Slot.COMPENSATED) in k.marks or (position, round_, COMPENSATION) in k.pending:
        return
    action = Action(k, rule, round_, COMPENSATION, now_ms)
    k.pending[position, round_, COMPENSATION] = action
    if k.program.performs(rule):
        d.actions.append(action)
    else:
        command(d, action, is_new=is_new)
    if k.state == RunState.RUNNING:
        k.state = RunState.COMPENSATING
        change(k, d)


def _timeout(k: Knowledge, d: Decided, rule: Rule, round_: Round, now_ms: int) -> None:
    shown = rule.position if rule.kind == "timeout" else rule.position + "!"
    if (shown, round_) not in k.outcomes and (rule.position, round_) not in k.outcomes:
        set_timer(k, d, rule.position, round_, rule.kind, now_ms + rule.about["timeout_ms"])


def _verdict(k: Knowledge, d: Decided, rule: Rule, round_: Round, now_ms: int) -> None:
    step = rule.about["of"]
    label, value = k.outcomes[step, round_]
    if (verdict := k.outcomes.get((rule.position, round_))) is None:
        record(k, d, rule.position, round_, label, value, now_ms)
    elif verdict[0] == "rejected:timeout" and label == "ok" and k.program.performs(k.program.runs[step]):
        compensate(k, d, k.program.compensations[step], round_, now_ms)  # it ran after all


def _decide(k: Knowledge, d: Decided, rule: Rule, round_: Round, now_ms: int) -> None:
    if (rule.position, round_) in k.outcomes:
        return
    try:
        got = k.read(rule.arguments[0][1], round_)
    except ExpressionFailed as e:
        _no_value(k, d, rule, round_, str(e), now_ms, may_reject=rule.about["may_reject"])
        return
    assert got is not MISSING
    record(k, d, rule.position, round_, "chosen:then" if got else "chosen:else", None, now_ms)


def _wait(k: Knowledge, d: Decided, rule: Rule, round_: Round, now_ms: int) -> None:
    position = rule.position
    if (position, round_) in k.outcomes or (position, round_) in k.waits:
        return
    if not k.program.only_watches and (code := called_off(k, rule, round_)):
        record(k, d, position, round_, f"rejected:{code}", None, now_ms)
        return
    try:
        given = {name: k.read(v, round_) for name, v in rule.arguments}
        key = _key(given["key"])
        timeout = span_ms(given["timeout"]) if "timeout" in given else None
    except ExpressionFailed as e:
        _no_value(k, d, rule, round_, str(e), now_ms, may_reject="invalid-value" in rule.about["codes"])
        return
    k.waits[position, round_] = (rule.about["event"], key, now_ms)
    if k.program.only_watches:
        return
    row = WaitRow(rule.about["event"], key, k.run, position, round_text(round_), now_ms)
    append(d.decision, "waits", row)
    append(d, "waits", row)
    if timeout is not None:
        set_timer(k, d, position, round_, "wait", now_ms + timeout)


def _sleep(k: Knowledge, d: Decided, rule: Rule, round_: Round, now_ms: int) -> None:
    position = rule.position
    if (position, round_) in k.outcomes or (position, round_, "sleep") in k.timers:
        return
    if not k.program.only_watches and (code := called_off(k, rule, round_)):
        record(k, d, position, round_, f"rejected:{code}", None, now_ms)
        return
    try:
        name, v = rule.arguments[0]
        given = k.read(v, round_)
        due = now_ms + span_ms(given) if name == "duration" else instant_ms(given)
    except ExpressionFailed as e:
        _no_value(k, d, rule, round_, str(e), now_ms, may_reject="invalid-value" in rule.about["codes"])
        return
    set_timer(k, d, position, round_, "sleep", due)


def _deadline(k: Knowledge, d: Decided, rule: Rule, round_: Round, now_ms: int) -> None:
    position = rule.position
    if (position, round_) in k.outcomes or (position, round_, "deadline") in k.timers:
        return
    if k.holds(k.program.disarmed.get(position, 0), round_) or (position, round_, Slot.GONE) in k.marks:
        return
    try:
        span = span_ms(k.read(rule.arguments[0][1], round_))
    except ExpressionFailed as e:
        halt(k, d, position, round_, f"the deadline has no duration: {e}", rule)
        return
    set_timer(k, d, position, round_, "deadline", now_ms + span)


def _disarm(k: Knowledge, d: Decided, rule: Rule, round_: Round, _now_ms: int) -> None:
    k.halted.pop((rule.position, round_), None)
    if (rule.position, round_, "deadline") in k.timers:
        clear_timer(k, d, rule.position, round_, "deadline")


def _fork(k: Knowledge, d: Decided, rule: Rule, round_: Round, now_ms: int) -> None:
    """The joiner looks at the list: what is no list, or too long, is rejected before anything runs."""
    if (rule.position, round_) in k.outcomes:
        return
    limit = k.program.blocks[rule.about["block"]].limit
    try:
        items = k.read(rule.arguments[0][1], round_)
        if not isinstance(items, list | tuple):
            code, what = "invalid-value", "what it goes over is no list"
        elif len(items) > limit:
            code, what = "too-many", f"{len(items)} elements, the limit is {limit}"
        else:
            return
    except ExpressionFailed as e:
        code, what = "invalid-value", str(e)
    if rule.about["may_reject"]:
        value = msgspec.json.encode({"message": what, "details": None})
        record(k, d, rule.position, round_, f"failed:{code}", value, now_ms)
    else:
        halt(k, d, rule.position, round_, f"{code}: {what}", rule)


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
        record(k, d, rule.position, round_, label, value, now_ms)


def _reject(k: Knowledge, _d: Decided, rule: Rule, round_: Round, _now_ms: int) -> None:
    k.raised[rule.position, round_] = (rule.about["code"], rule.about["message"])


def _end(k: Knowledge, d: Decided, rule: Rule, _round: Round, now_ms: int) -> None:
    if k.state in ENDED:
        return
    code = rule.about["code"]
    if not code:
        try:
            result = k.raw(rule.arguments[0][1], ()).decode()
        except ExpressionFailed as e:
            halt(k, d, RESULT, (), f"it cannot be computed: {e}", rule)
            return
        end(k, d, RunState.COMPLETED, result, now_ms)
        return
    position, message, details = where_rejected(k, code)
    told = {"code": code.partition("@")[0], "position": position, "message": message, "details": details}
    end(k, d, RunState.COMPENSATED, msgspec.json.encode(told).decode(), now_ms)


_WATCHED = frozenset({"run", "compensate", "wait", "sleep", "reject", "end"})

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
    "end": _end,
}


def _no_value(k: Knowledge, d: Decided, rule: Rule, round_: Round, why: str, now_ms: int, *, may_reject: bool) -> None:
    """An expression has no answer here: a rejection where that can still be taken back, else a person is needed."""
    if k.program.only_watches:
        return  # whoever decides says so
    if may_reject:
        value = msgspec.json.encode({"message": why, "details": None})
        record(k, d, rule.position, round_, "rejected:invalid-value", value, now_ms)
    else:
        halt(k, d, rule.position, round_, why, rule)


def _key(value: Any) -> str:
    """Give the key of a wait as text, as `str` shows a number; what JSON writes as text is that text."""
    if isinstance(value, bool) or not isinstance(value, str | int):
        raw = to_json_bytes(value)
        if raw[:1] in b"[{n":
            raise ExpressionFailed(f"{raw.decode()[:40]} is no key")
        value = raw.decode().strip('"')
    text = str(value)
    if not 0 < len(text.encode(errors="replace")) <= bound.KEY_BYTES or not text.isprintable():
        raise ExpressionFailed(f"a key has 1 to {bound.KEY_BYTES} bytes, all printable; this one is {text[:40]!r}")
    return text
