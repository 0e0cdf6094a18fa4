"""An event at a subscription: whether it may be applied, and what follows the attempt to apply it.

Everything here is a value in and rows out. The rows of a success are one decision: that it was applied (the key of
that table lets it be applied once), what the reaction published, and the end of its delivery row, if it had one; the
reaction's own writes are committed with them.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field, replace
from typing import Any

import msgspec

from minuet.contracts.action import RetryPolicy
from minuet.engine import bound
from minuet.engine.answer import Answer, Done, Failed, Rejected
from minuet.engine.dead_letter import Reason, fingerprint, letter_id
from minuet.engine.effect import record_effects
from minuet.engine.order import GapPolicy, stream_of
from minuet.engine.retry import delay_ms
from minuet.engine.row import AuditRow, Decision, DeliveryKey, DeliveryRow, EventRow, Lease, SeenRow

NEVER_MS = (1 << 63) - 1
"""When something is due that waits for a person, or for another of its key."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Policy:
    """What a subscription declares, as far as it decides what follows.

    `also`: the type of the notices that it hears beside its events. `began`: it hears what lies beyond this entry.
    `instance`: which process it is the subscription of, where each has its own.
    `fence`: the lease under which it is performed and everything is decided, where several participants share a store.
    """

    subscription: int
    name: str
    event: str
    version: int
    retry: RetryPolicy
    order_key: str | None = None
    blocks: bool = False  # whether a dead letter holds up its key
    accepts_newer: bool = False
    dedup_window_ms: int = 604_800_000
    gaps: GapPolicy = field(default_factory=GapPolicy)
    also: str | None = None
    began: int = 0
    instance: str = ""
    fence: Lease | None = None

    def decision(self) -> Decision:
        """Begin a decision."""
        decision = Decision()
        decision.fence = self.fence
        return decision


@dataclass(frozen=True, slots=True)
class Delivery:
    """One event at one subscription. `row` is what is recorded of it; None before anything went wrong.

    `is_streamed`: it was given out in the order of its stream, so others of it may wait behind it.
    """

    event: EventRow
    entry: int
    key: str = ""  # the value of the order key, where one is declared
    row: DeliveryRow | None = None
    is_suspect: bool = False  # the last process may have died of it
    is_streamed: bool = False

    @property
    def attempts(self) -> int:
        """Give how many attempts have failed."""
        return self.row.attempts if self.row is not None else 0

    @property
    def body(self) -> bytes:
        """Give its data, as a person has corrected it or as it was published."""
        corrected = self.row.body if self.row is not None else None
        return (self.event.body if corrected is None else corrected).encode()


def order_key_of(policy: Policy, event: EventRow, body: str | None = None) -> str:
    """Give the value within which a subscription keeps the order; empty where it keeps none, or cannot tell."""
    if policy.order_key is None:
        return ""
    try:
        value = msgspec.json.decode(body or event.body)[policy.order_key]
    except (msgspec.DecodeError, KeyError, TypeError):
        return ""
    return value if isinstance(value, str) else msgspec.json.encode(value).decode()


def objection(policy: Policy, delivery: Delivery) -> tuple[Reason, str] | None:
    """Say why an event must not be applied, before anybody looks at its data; None if it may.

    What a person has taken up again is applied whatever its age and its hops, and if it was corrected, whatever its
    version.
    """
    event, row = delivery.event, delivery.row
    if event.event not in (policy.event, policy.also):
        return Reason.UNKNOWN_TYPE, f"it is a {event.event}, and {policy.name} hears {policy.event}"
    if event.version > policy.version and not policy.accepts_newer and (row is None or row.body is None):
        return Reason.NEWER_VERSION, f"it has version {event.version}, and {policy.version} is the newest known here"
    if row is not None and row.state not in ("held", "early"):
        return None
    if event.hops > bound.HOPS:
        return Reason.HOP_LIMIT, f"{event.hops} reactions have caused one another; more than {bound.HOPS} is a circle"
    if event.at_ms - event.time_ms > policy.dedup_window_ms:
        return Reason.TOO_OLD, "it came later than events are recognised, so it may have been applied before"
    return None


def answered(
    policy: Policy, delivery: Delivery, answer: Answer, published: Sequence[EventRow], now_ms: int
) -> Decision:
    """Give what is recorded when a reaction has answered."""
    if isinstance(answer, Done):
        decision = applied(policy, delivery, published)
    elif isinstance(answer, Rejected):
        text = f"{answer.code}: {answer.message}" if answer.message else answer.code
        why = f"a reaction has nobody to say no to, and said {text}"
        decision = dead(policy, delivery, Reason.REFUSED, why, now_ms)
    else:
        decision = failed(policy, delivery, answer, now_ms)
    if answer.effects:
        record_effects(decision, answer.effects)
    return decision


def applied(policy: Policy, delivery: Delivery, published: Sequence[EventRow]) -> Decision:
    """Record that an event was applied, with what the reaction has published."""
    decision = policy.decision()
    messages = decision.ensure_messages()
    messages.applied = [DeliveryKey(policy.subscription, delivery.entry)]
    if delivery.event.sequence is not None:
        messages.seen = seen(policy, delivery.event)
    if published:
        messages.outbox = list(published)
    if delivery.row is not None:
        messages.deliveries_done = messages.applied
    return decision


def failed(policy: Policy, delivery: Delivery, failure: Failed, now_ms: int) -> Decision:
    """Record that an attempt failed: another one follows after a while, or it is a dead letter."""
    if failure.final:
        reason = Reason.REFUSED if failure.reason is None else Reason(failure.reason)
        return dead(policy, delivery, reason, failure.error.removeprefix(f"{failure.reason}: "), now_ms)
    attempts = delivery.attempts + 1
    if 0 < policy.retry.attempts <= attempts:
        return dead(policy, delivery, Reason.EXHAUSTED, failure.error, now_ms)
    wait_ms = failure.retry_after_ms
    if wait_ms is None:
        wait_ms = delay_ms(policy.retry, attempts, f"{policy.name}:{delivery.entry}")
    row = _row(policy, delivery, "waiting", now_ms, error=failure.error)
    return _record(policy, row._replace(next_at_ms=now_ms + wait_ms))


def dead(policy: Policy, delivery: Delivery, reason: Reason, error: str, now_ms: int) -> Decision:
    """Record that an event is a dead letter: a person is needed."""
    state = "skipped" if reason == Reason.LATE else "dead"  # what is late holds up nobody
    row = _row(policy, delivery, state, now_ms, error=error)
    decision = _record(policy, row._replace(reason=reason, fingerprint=fingerprint(policy.name, reason, error)))
    if not policy.blocks and reason != Reason.GAP:
        decision.ensure_messages().seen = seen(policy, delivery.event)
    return decision


def left_out(policy: Policy, deliveries: Sequence[Delivery], now_ms: int) -> Decision:
    """Record that events are done with and were not applied, since something newer of their key was, or is to be."""
    decision = policy.decision()
    messages = decision.ensure_messages()
    messages.applied = [DeliveryKey(policy.subscription, d.entry) for d in deliveries]
    if policy.also is not None:  # it has to be known that they were never applied, should they be taken back
        messages.deliveries = [_row(policy, d, "discarded", now_ms) for d in deliveries]
    else:
        messages.deliveries_done = [DeliveryKey(policy.subscription, d.entry) for d in deliveries if d.row is not None]
    messages.seen = [row for d in deliveries for row in seen(policy, d.event)]
    return decision


def withdrawn(policy: Policy, notice: Delivery, original: Delivery, now_ms: int) -> Decision:
    """Record that an event is taken back which has not been applied: it is not to be, any more."""
    decision = applied(policy, notice, ())
    messages = decision.ensure_messages()
    keys = [DeliveryKey(policy.subscription, original.entry)]
    messages.applied = [*messages.applied, *keys]
    messages.deliveries_done = [*messages.deliveries_done, *keys]
    messages.seen = [*messages.seen, *seen(policy, original.event)]
    event, row = original.event, original.row
    state = "waiting" if row is None else row.state
    subject = letter_id(policy.name, original.entry)
    outcome = f"{event.event} {event.source} {event.message}"
    decision.audit = [AuditRow(now_ms, "", "taken-back", subject, outcome, f"it was {state}, and had not been applied")]
    return decision


def hold(policy: Policy, deliveries: Sequence[Delivery], now_ms: int, *, state: str = "held") -> Decision:
    """Record that events wait until another of their key has been applied, or (`early`) has come."""
    decision = policy.decision()
    decision.ensure_messages().deliveries = [_row(policy, d, state, now_ms) for d in deliveries]
    return decision


def seen(policy: Policy, event: EventRow) -> list[SeenRow]:
    """Give the row that says how far a stream is once an event is applied, or left; none where nobody keeps order."""
    if event.sequence is None or policy.order_key is None:
        return []
    name = stream_of(event)
    return [SeenRow(policy.subscription, name.source, name.key, event.sequence)]


def begin_again(policy: Policy, delivery: Delivery, now_ms: int) -> Decision:
    """Record an attempt before it is made, so that one which kills its process counts."""
    return _record(policy, _row(policy, delivery, "running", now_ms))


def crashed(policy: Policy, delivery: Delivery, now_ms: int) -> Decision:
    """Take that the process died while an event was being applied: nothing of it stands, and the attempt counts."""
    return failed(policy, delivery, Failed("the process stopped while this ran", retry_after_ms=0), now_ms)


def make_due(delivery: DeliveryRow, now_ms: int, *, body: str | None = None) -> DeliveryRow:
    """Take a dead letter up again, with all its attempts before it; as a person has corrected it, if so."""
    return delivery._replace(
        state="waiting",
        attempts=0,
        next_at_ms=now_ms,
        reason=None,
        fingerprint=None,
        body=delivery.body if body is None else body,
    )


def errors_of(row: DeliveryRow) -> list[tuple[int, str]]:
    """Give the attempts that failed: when, and why."""
    return [(at_ms, error) for at_ms, error in msgspec.json.decode(row.errors)]


def with_row(delivery: Delivery, row: DeliveryRow) -> Delivery:
    """Give a delivery as it is once this row is recorded."""
    return replace(delivery, row=row, is_suspect=False)


def _row(policy: Policy, delivery: Delivery, state: str, now_ms: int, *, error: str | None = None) -> DeliveryRow:
    row = delivery.row or DeliveryRow(
        policy.subscription, delivery.entry, delivery.key, state, 0, NEVER_MS, now_ms, now_ms, "[]", None, None, None
    )
    errors, attempts = row.errors, row.attempts
    if error is not None:
        error = f"on {policy.instance}: {error}" if policy.instance else error
        kept: list[Any] = msgspec.json.decode(row.errors)
        kept = [*kept, [now_ms, error[: bound.ERROR_CHARS]]][-bound.ERRORS_KEPT :]
        errors, attempts = msgspec.json.encode(kept).decode(), row.attempts + 1
    return row._replace(
        state=state, attempts=attempts, next_at_ms=NEVER_MS, last_at_ms=now_ms, errors=errors, reason=None
    )


def _record(policy: Policy, row: DeliveryRow) -> Decision:
    decision = policy.decision()
    decision.ensure_messages().deliveries = [row]
    return decision
