"""What follows a failed attempt: another one after a while, or a person. The engine is the only retry owner."""

from __future__ import annotations

import hashlib
import math

import msgspec

from minuet.contracts.action import RetryPolicy
from minuet.engine.answer import Failed
from minuet.engine.decided import Decided, append, attempt_row, finish, is_for_ever, record, review, tombstone
from minuet.engine.knowledge import FORWARD, Action, Knowledge
from minuet.engine.verdict import called_off
from minuet.ids import op_key


def delay_ms(policy: RetryPolicy, attempts: int, key: str) -> int:
    """Give the delay after so many failed attempts: `min(first × factorⁿ, at_most)`, times a jitter in [½, 1].

    The jitter is a hash of the operation key and the attempt: spread out, and the same whenever it is asked for.
    """
    spread = hashlib.blake2b(f"{key}:{attempts}".encode(), digest_size=4).digest()
    return max(1, round(_longest_ms(policy, attempts - 1) * (0.5 + int.from_bytes(spread) / 0xFFFFFFFF / 2)))


def total_ms(policy: RetryPolicy) -> float:
    """Give the longest time that all delays of a policy take together; infinite where it tries for ever."""
    if policy.attempts == 0:
        return float("inf")
    return sum(_longest_ms(policy, n) for n in range(policy.attempts - 1))


def failed(k: Knowledge, d: Decided, action: Action, failure: Failed, now_ms: int) -> None:
    """Take that an attempt has failed: nothing of it stands."""
    action.ticket += 1
    action.attempts += 1
    action.error = failure.error
    action.first_at_ms = action.first_at_ms or now_ms
    position = action.rule.position
    if action.direction == FORWARD:
        place = (position, action.round)
        if (position + "!", action.round) in k.outcomes or place in k.abandoned:  # given up meanwhile: nothing stands
            tombstone(k, d, action, now_ms)
            return
        if code := called_off(k, action.rule, action.round):
            finish(k, d, action)
            record(k, d, position, action.round, f"rejected:{code}", None, now_ms)
            return
    if failure.reason is not None:
        park(k, d, action, failure.error, now_ms)
        return
    if failure.final or is_exhausted(action):
        give_up(k, d, action, now_ms)
        return
    wait = failure.retry_after_ms
    if wait is None:
        wait = delay_ms(_policy(action), action.attempts, op_key(k.run, position, action.round, action.direction))
    action.next_at_ms = now_ms + wait
    action.state = "waiting"
    action.stored = True
    append(d.decision, "attempts", attempt_row(action, "waiting", now_ms))
    append(d, "retries", action)
    review(k, d)


def again(d: Decided, action: Action, now_ms: int) -> None:
    """Begin an attempt after others have failed. It is recorded first, so that one that kills its process counts."""
    action.state, action.stored = "running", True
    append(d.decision, "attempts", attempt_row(action, "running", now_ms))
    d.actions.append(action)


def crashed(k: Knowledge, d: Decided, action: Action, now_ms: int) -> None:
    """Take that the process died while this ran: the attempt counts before it is made again."""
    action.attempts += 1
    action.error = action.error or "the process stopped while this ran"
    action.first_at_ms = action.first_at_ms or now_ms
    if is_exhausted(action):
        give_up(k, d, action, now_ms)
    else:
        again(d, action, now_ms)
        review(k, d)


def is_exhausted(action: Action) -> bool:
    """Say whether there is no further attempt."""
    attempts = _policy(action).attempts
    return not is_for_ever(action) and 0 < attempts <= action.attempts


def give_up(k: Knowledge, d: Decided, action: Action, now_ms: int) -> None:
    """Reject the step where its policy says so; else park it, since trouble with machines is no business failure."""
    if _policy(action).then == "reject" and "exhausted" in action.rule.about["codes"]:
        finish(k, d, action)
        value = msgspec.json.encode({"message": action.error, "details": None})
        record(k, d, action.rule.position, action.round, "rejected:exhausted", value, now_ms)
        return
    park(k, d, action, action.error or "", now_ms)


def park(k: Knowledge, d: Decided, action: Action, error: str, now_ms: int) -> None:
    """Set an action aside until a person sees to it."""
    action.state, action.error, action.stored = "parked", error, True
    action.first_at_ms = action.first_at_ms or now_ms
    append(d.decision, "attempts", attempt_row(action, "parked", now_ms))
    review(k, d)


def _longest_ms(policy: RetryPolicy, exponent: int) -> float:
    if exponent * math.log(policy.factor) >= math.log(policy.at_most_ms / policy.first_ms):
        return policy.at_most_ms  # the power itself may be beyond any float
    return policy.first_ms * policy.factor**exponent


def _policy(action: Action) -> RetryPolicy:
    given = action.rule.about.get("retry")
    return RetryPolicy(**given) if given else action.knowledge.program.default_retry
