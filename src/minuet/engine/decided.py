"""A decision in the making: the rows that it records, and what is to be carried out once they are durable."""

from __future__ import annotations

from typing import Any

from minuet.engine import bound
from minuet.engine.knowledge import COMPENSATION, Action, Knowledge, Round
from minuet.engine.row import (
    ENDED,
    AttemptKey,
    AttemptRow,
    Decision,
    FactRow,
    RunChange,
    RunState,
    TimerKey,
    TimerRow,
    WaitKey,
    slot_of,
)
from minuet.ids import round_text
from minuet.plans.rule import Rule


class Decided:
    """What a decision asks for, once it is durable.

    `actions` are to be run, `commands` by somebody else; `told` counts the facts at the beginning that were heard, and
    are nothing to tell; `interrupted` are attempts whose answer nobody waits for any more; `retries` wait for
    their time; `timers` and `waits` were set; `ended` says that the run has just ended.
    """

    __slots__ = (
        "actions",
        "commands",
        "decision",
        "ended",
        "interrupted",
        "knowledge",
        "retries",
        "timers",
        "told",
        "waits",
    )

    def __init__(self, knowledge: Knowledge) -> None:
        self.knowledge = knowledge
        self.decision = Decision(knowledge.run, self)
        self.decision.fence = knowledge.lease
        self.decision.basis = knowledge.basis
        self.actions: list[Action] = []
        self.commands: list[Action] | tuple[()] = ()
        self.told = 0
        self.interrupted: list[Action] | tuple[()] = ()
        self.retries: list[Action] | tuple[()] = ()
        self.timers: list[TimerRow] | tuple[()] = ()
        self.waits: list[Any] | tuple[()] = ()
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
            or d.messages
        )


def append(owner: Any, name: str, row: Any) -> None:
    """Add to a list that is not made before it is needed."""
    rows = getattr(owner, name)
    if rows:
        rows.append(row)
    else:
        setattr(owner, name, [row])


# Facts


def record(
    k: Knowledge, d: Decided, position: str, round_: Round, label: str, value: bytes | None, now_ms: int
) -> None:
    """Record a fact, and learn it. A timeout of its step has nothing left to do."""
    k.seq += 1
    k.moved_at_ms = now_ms
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
        facts.append(row)
    else:
        d.decision.facts = [row]
    k.learn(position, round_, label, value)
    if k.timers:
        for purpose in ("timeout", "abandon"):
            if (position.removesuffix("!"), round_, purpose) in k.timers:
                clear_timer(k, d, position.removesuffix("!"), round_, purpose)


# Actions


def finish(k: Knowledge, d: Decided, action: Action) -> None:
    """Take an action off what is pending: it has its outcome, or nobody waits for it any more."""
    del k.pending[action.rule.position, action.round, action.direction]
    if action.stored:
        append(d.decision, "attempts_done", _key(action))


def interrupt(k: Knowledge, d: Decided, action: Action) -> None:
    """Give up an action: if it runs its answer will be refused, if it waits for its turn it does not run any more."""
    if action.state == "running":
        append(d, "interrupted", action)
    action.state = "over"
    action.ticket += 1
    finish(k, d, action)


def tombstone(k: Knowledge, d: Decided, action: Action, now_ms: int) -> None:
    """Finish an action that was given up before it ran, and record that it must not run any more."""
    action.state, action.stored = "over", False  # its row becomes the tombstone
    action.ticket += 1
    finish(k, d, action)
    k.tombstones.add((action.rule.position, action.round))
    append(d.decision, "attempts", attempt_row(action, "tombstone", now_ms))


def attempt_row(action: Action, state: str, now_ms: int) -> AttemptRow:
    """Give the row that says how often an action was tried, and what is to become of it."""
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


def _key(action: Action) -> AttemptKey:
    return AttemptKey(action.knowledge.run, action.rule.position, round_text(action.round), action.direction)


# Timers and waits


def set_timer(k: Knowledge, d: Decided, position: str, round_: Round, purpose: str, due_at_ms: int) -> None:
    """Set a timer, unless it is set already."""
    if (position, round_, purpose) in k.timers:
        return
    k.timers[position, round_, purpose] = due_at_ms
    if k.program.only_watches:
        return
    row = TimerRow(k.run, position, round_text(round_), purpose, due_at_ms)
    append(d.decision, "timers", row)
    append(d, "timers", row)


def clear_timer(k: Knowledge, d: Decided, position: str, round_: Round, purpose: str) -> None:
    """Take a timer away."""
    del k.timers[position, round_, purpose]
    if k.program.only_watches:
        return
    append(d.decision, "timers_done", TimerKey(k.run, position, round_text(round_), purpose))


def disarm(k: Knowledge, d: Decided, position: str, round_: Round, purpose: str) -> None:
    """Take away a wait (`wait`) or a sleep (`sleep`), with its timer."""
    if purpose == "wait":
        event, key, _ = k.waits.pop((position, round_))
        if not k.program.only_watches:
            append(d.decision, "waits_done", WaitKey(event, key, k.run, position, round_text(round_)))
    if (position, round_, purpose) in k.timers:
        clear_timer(k, d, position, round_, purpose)


# The state of a run


def halt(k: Knowledge, d: Decided, position: str, round_: Round, why: str, rule: Rule) -> None:
    """Set a position aside where an expression failed and nothing can be taken back: a person is needed."""
    k.halted[position, round_] = (why, rule)
    review(k, d)


def is_stuck(action: Action) -> bool:
    """Say whether a person has to see to an action: it is parked, or has failed for long and is tried for ever."""
    return action.state == "parked" or (action.attempts >= bound.STUCK_AFTER and is_for_ever(action))


def is_for_ever(action: Action) -> bool:
    """Say whether it is tried until it succeeds: a compensation, or a step from which there is no way but forward."""
    return action.direction == COMPENSATION or bool(action.rule.about["forward_only"])


def review(k: Knowledge, d: Decided) -> None:
    """See whether a run is stuck: it is as long as a position or an action of it is, and says why.

    One that has ended stays ended: what is left of it (a step that was given up and is still to be taken back) only
    leaves its reason.
    """
    reason = next((f"{position}: {why}" for (position, _), (why, _) in k.halted.items()), None)
    if reason is None and k.pending:
        reason = next((_stuck_because(a) for a in k.pending.values() if is_stuck(a)), None)
    state = k.state
    if state not in ENDED:
        if reason is not None:
            state = RunState.STUCK
        elif state == RunState.STUCK:
            state = RunState.COMPENSATING if _goes_back(k) else RunState.RUNNING
    if (state, reason) != (k.state, k.reason):
        k.state, k.reason = state, reason
        change(k, d)


def _stuck_because(action: Action) -> str:
    tried = f" after {action.attempts} attempts" if action.attempts > 1 else ""
    return f"{action.rule.position} is {'parked' if action.state == 'parked' else 'stuck'}{tried}: {action.error}"


def _goes_back(k: Knowledge) -> bool:
    return any(a.direction == COMPENSATION for a in k.pending.values())


def end(k: Knowledge, d: Decided, state: RunState, result: str | None, now_ms: int) -> None:
    """End a run: nothing is waited for any more."""
    for position, round_, purpose in list(k.timers):
        clear_timer(k, d, position, round_, purpose)
    for position, round_ in list(k.waits):
        disarm(k, d, position, round_, "wait")
    k.halted.clear()
    k.state, k.reason, k.result, k.ended_at_ms = state, None, result, now_ms
    d.ended = True
    change(k, d)


def settle(k: Knowledge, d: Decided) -> None:
    """Conclude a decision: say whether the run goes back, and whether it has something to do by itself.

    What is held or parked waits for a person. A step that was given up may still run, or have to be taken back,
    when the run has ended.
    """
    if k.halted or k.reason is not None:
        review(k, d)
    if k.state == RunState.COMPENSATING and k.program.has_attempt and not _goes_back(k):
        k.state = RunState.RUNNING  # what was compensated was an attempt's body
        change(k, d)
    load: int | None = None if k.state in ENDED and not k.pending else 0
    for action in k.pending.values():
        if action.state in ("running", "waiting"):
            load = 1
            break
    if load != k.load:
        k.load = load
        change(k, d)


def change(k: Knowledge, d: Decided) -> None:
    """Have the run's row say what is so now; the last word of a decision counts."""
    d.decision.changes = [RunChange(k.state, k.load, k.paused, k.dirty, k.reason, k.result, k.ended_at_ms, k.run)]
