"""Cancellation and deadlines: whoever would run a position decides, once, by rejecting it instead.

A position is rejected when its rule becomes true, never before: a rejection recorded for an arm that is not taken
would fail a choice that is done. What waits already is rejected at once, what runs goes on to its end.
"""

from __future__ import annotations

from minuet.engine.decided import Decided, disarm, interrupt, record
from minuet.engine.knowledge import FORWARD, Knowledge, Round
from minuet.plans.rule import Rule


def called_off(k: Knowledge, rule: Rule, round_: Round) -> str | None:
    """Give the code with which a position is rejected instead of being run, if it has been called off."""
    codes = rule.about["codes"]
    if k.cancelled and "cancelled" in codes:
        return "cancelled"
    for position in rule.about["deadlines"]:
        at = k.outcomes.get((position, round_[: k.program.deadline_depth[position]]))
        if at is not None and at[0] == "fired" and f"deadline@{position}" in codes:
            return f"deadline@{position}"
    return None


def reject_idle(k: Knowledge, d: Decided, now_ms: int) -> None:
    """A cancellation or a deadline has come: what waits, and is not being run right now, rejects at once.

    What somebody else was commanded to run is theirs to reject, and an observer rejects nothing.
    """
    if k.program.only_watches:
        return
    for action in list(k.pending.values()):
        if action.direction != FORWARD or action.state in ("running", "away"):
            continue
        if code := called_off(k, action.rule, action.round):
            interrupt(k, d, action)
            record(k, d, action.rule.position, action.round, f"rejected:{code}", None, now_ms)
    armed = [(position, round_, "wait") for position, round_ in k.waits]
    armed += [timer for timer in k.timers if timer[2] == "sleep"]
    for position, round_, purpose in armed:
        if code := called_off(k, k.program.armed[position], round_):
            disarm(k, d, position, round_, purpose)
            record(k, d, position, round_, f"rejected:{code}", None, now_ms)
