"""What is kept: the rows of each noun, as plain tuples, and a decision: rows that become durable together.

Rows are `NamedTuple`s in the order of the columns, so that a store binds them as they are.
Times are milliseconds since 1970 UTC. A round is text: `""`, `"2"`, `"2.0"`. Values are JSON text.
"""

from __future__ import annotations

from enum import StrEnum
from typing import NamedTuple

from minuet.engine.basis import Basis


class RunState(StrEnum):
    """The states of a run. The last three are ended; `stuck` and `quarantined` are parked: a person is needed."""

    RUNNING = "running"
    COMPENSATING = "compensating"
    STUCK = "stuck"
    QUARANTINED = "quarantined"
    COMPLETED = "completed"
    COMPENSATED = "compensated"
    TERMINATED = "terminated"


ENDED = frozenset({RunState.COMPLETED, RunState.COMPENSATED, RunState.TERMINATED})
SETTLED = ENDED | {RunState.STUCK, RunState.QUARANTINED}
"""States in which nothing more happens by itself: a run has ended, or waits for a person."""


class Slot:
    """What a fact answers at its position and round; a slot is filled once. All outcomes share one."""

    OUTCOME, COMPENSATED, OPEN, BACK, GONE, ASKED, ASKED_BACK = range(7)


ASKED, ASKED_BACK = "asked", "asked-back"
"""Labels of what a commanded service keeps of the commands to run a step, and to compensate it."""

_SLOTS = {
    "compensated": Slot.COMPENSATED,
    "open": Slot.OPEN,
    "back": Slot.BACK,
    "gone": Slot.GONE,
    ASKED: Slot.ASKED,
    ASKED_BACK: Slot.ASKED_BACK,
}


def slot_of(label: str) -> int:
    """Give the slot of a label: every label but `compensated` and the marks is an outcome."""
    return _SLOTS.get(label, Slot.OUTCOME)


class RunRow(NamedTuple):
    """A run. `key` is None where the run id is the key. `input` is the value of the start fact.

    `load`: 1 where there may be something to do without being asked (loaded at start), 0 where the run waits
    for a timer, an event or a person (left in the store), None when it has ended.
    `result`: JSON of what was returned, or of the rejection (`{"code", "position", "message", "details"}`).
    `home`: who observes its end, where that is not the participant of this store; its key is unique there only.
    """

    run: int
    workflow: str
    digest: str
    key: str | None
    input: str | None
    state: str
    load: int | None
    paused: int
    dirty: int
    reason: str | None
    result: str | None
    started_at_ms: int
    ended_at_ms: int | None
    home: str | None = None


class RunChange(NamedTuple):
    """What may change of a run."""

    state: str
    load: int | None
    paused: int
    dirty: int
    reason: str | None
    result: str | None
    ended_at_ms: int | None
    run: int


class FactRow(NamedTuple):
    """A fact. `seq` counts the facts of a run in the order in which they were recorded, from 1."""

    run: int
    position: str
    round: str
    slot: int
    label: str
    value: str | None
    seq: int
    at_ms: int


class AttemptRow(NamedTuple):
    """That an action was tried and has no outcome yet. Written from the first technical failure on.

    `direction`: `forward` or `compensation`. `state`: `waiting` (until `next_at_ms`), `running` (counted before it
    runs again, after a crash), `parked` (a person is needed), `tombstone` (given up before it ran: it must not run).
    """

    run: int
    position: str
    round: str
    direction: str
    state: str
    attempts: int
    next_at_ms: int
    first_at_ms: int
    last_at_ms: int
    error: str | None


class AttemptKey(NamedTuple):
    """Names an attempt row."""

    run: int
    position: str
    round: str
    direction: str


class TimerRow(NamedTuple):
    """A timer; `purpose`: `sleep`, `wait`, `timeout`, `abandon`, `deadline`."""

    run: int
    position: str
    round: str
    purpose: str
    due_at_ms: int


class TimerKey(NamedTuple):
    """Names a timer row."""

    run: int
    position: str
    round: str
    purpose: str


class WaitRow(NamedTuple):
    """An armed wait: the first event of this type and key that nobody has taken fills it."""

    event: str
    key: str
    run: int
    position: str
    round: str
    since_ms: int


class WaitKey(NamedTuple):
    """Names a wait row."""

    event: str
    key: str
    run: int
    position: str
    round: str


class InboxRow(NamedTuple):
    """An event from outside; (source, message) is its identity.

    `state`: `kept` (nobody has waited for it yet), `taken` (by run, position, round), `parked` (kept too long).
    """

    source: str
    message: str
    event: str
    version: int
    key: str
    body: str
    state: str
    run: int | None
    position: str | None
    round: str | None
    received_at_ms: int
    expires_at_ms: int


class InboxTaken(NamedTuple):
    """That a kept event has been taken by a wait, or parked (`state`); a `Conflict` if it is not kept any more."""

    state: str
    run: int | None
    position: str | None
    round: str | None
    source: str
    message: str


class EventRow(NamedTuple):
    """A published event, as it stands in the outbox; (source, message) is its identity.

    `entry` counts in the order of commits; None until the store has given it (a broker, who alone publishes in its
    store, gives them itself). `hops`: messages since the root that reactions caused. `causes`: ids of what caused it,
    with commas. `time_ms`: when it happened, `at_ms`: when it came here. Of an event from elsewhere, `sequence` is its
    number among those of its source, and `previous` that of the one before it of its type and key (0: none); an event
    of this store keeps the order of commits, and has none.
    """

    entry: int | None
    source: str
    message: str
    event: str
    version: int
    key: str
    body: str
    hops: int
    causes: str
    time_ms: int
    at_ms: int
    sequence: int | None = None
    previous: int | None = None


class SubscriptionRow(NamedTuple):
    """A reaction that has been heard of: `service.reaction`. Up to `position` all is applied, or has a delivery.

    It hears what lies beyond `began`: events of type `event`, and of type `also` where it asks what is taken back.
    `late`: how many events were left out because a newer one of their key had been applied.
    """

    subscription: int
    name: str
    event: str
    position: int
    active: int
    since_ms: int
    began: int = 0
    also: str | None = None
    late: int = 0


class SeenRow(NamedTuple):
    """Up to which `sequence` a subscription has applied, or left, what a source says of a key; it only grows."""

    subscription: int
    source: str
    key: str
    sequence: int


class DeliveryKey(NamedTuple):
    """Names what one subscription does with one event."""

    subscription: int
    entry: int


class DeliveryRow(NamedTuple):
    """An event that a subscription could not apply at once.

    `state`: `waiting` (until `next_at_ms`), `running` (counted before it runs again), `held` (another of its key goes
    first), `early` (another of its stream is missing), `dead` (a person is needed), `skipped` (dead, but its key goes
    on), `discarded` (given up; kept where it may be taken back). `errors`: JSON, `[[at_ms, text], …]`. `reason`: why
    it is dead. `body`: what a person has corrected, else None.
    """

    subscription: int
    entry: int
    key: str
    state: str
    attempts: int
    next_at_ms: int
    first_at_ms: int
    last_at_ms: int
    errors: str
    reason: str | None
    fingerprint: str | None
    body: str | None


class SendingRow(NamedTuple):
    """A message that the broker has not confirmed yet; `message` is its identity. `envelope`: its structured form.

    `entry` counts in the order of commits; None until the store has given it.
    """

    entry: int | None
    message: str
    topic: str
    envelope: str


class SentKey(NamedTuple):
    """Names a message that the broker has confirmed."""

    message: str


class ConfirmedRow(NamedTuple):
    """That a broker has confirmed a message which it may still forget: it is kept, and not sent without need."""

    at_ms: int
    message: str


class CarryRow(NamedTuple):
    """The values that came with the fact of this `seq`: JSON, `[[value index, round, value], …]`."""

    run: int
    seq: int
    carried: str


class EarlyRow(NamedTuple):
    """A message that cannot be taken (yet), and why: kept until its plan comes, or a person sees to it; never guessed.

    `digest`: the plan that it is about; empty where it would not be taken even if that came.
    """

    message: str
    digest: str
    topic: str
    envelope: str
    at_ms: int
    reason: str = ""


class EarlyKey(NamedTuple):
    """Names a message that was early, and has been taken."""

    message: str


class Lease(NamedTuple):
    """That a participant owns a shard: its runs, and what they hear. Each taking of a shard raises its `epoch`."""

    shard: int
    epoch: int


class PassedRow(NamedTuple):
    """A message for the owner of a shard, left by a participant that shares the store; `message` is its identity.

    `envelope`: its structured form. `answer`: JSON of what the owner said, where somebody waits for that; else None.
    """

    message: str
    shard: int
    envelope: str
    at_ms: int
    answer: str | None = None


class PassedKey(NamedTuple):
    """Names a message that its owner has taken, or whose answer was read."""

    message: str


class ActivationRow(NamedTuple):
    """That a participant is to know a plan. `acknowledged_at_ms`: None until it has said that it does."""

    digest: str
    participant: str
    asked_at_ms: int
    acknowledged_at_ms: int | None


class EffectRow(NamedTuple):
    """That an action took effect for a business key: `service.action` and the value of its `effect_key`.

    `op_key` names what did it, `causes` its causes with commas; `arguments` and `result` are JSON.
    """

    action: str
    key: str
    op_key: str
    causes: str
    arguments: str
    result: str | None
    at_ms: int


class EffectKey(NamedTuple):
    """Names an effect that was taken back: its key is free again."""

    action: str
    key: str
    op_key: str


class PlanKey(NamedTuple):
    """Names a plan."""

    digest: str


class PlanRow(NamedTuple):
    """A plan as JSON text, under its digest."""

    digest: str
    workflow: str
    body: str
    created_at_ms: int


class AuditRow(NamedTuple):
    """That somebody changed something; written also when it failed."""

    at_ms: int
    who: str
    verb: str
    subject: str
    outcome: str
    note: str | None


class Messages:
    """What a decision says of events and messages, and of effects.

    `outbox`: events published, or heard from elsewhere; one whose identity is known is left out. `applied` recorded
    once more is a `Conflict`: whatever goes with it is there already. `applied_until` removes what lies at or below a
    subscription's position. `seen`: the largest number stands. `sending`, `early`: one whose identity is known is left
    out, but for what is said of its plan and why; removing what is not there is no mistake. `effects`: a second one of
    an action and key, under another `op_key`, is a `SecondCause`. `passed`: one whose identity is known is left out,
    but for its answer.
    """

    __slots__ = (
        "applied",
        "applied_until",
        "carried",
        "confirmed",
        "deliveries",
        "deliveries_done",
        "early",
        "early_done",
        "effects",
        "effects_done",
        "outbox",
        "passed",
        "passed_done",
        "seen",
        "sending",
        "sent",
        "subscriptions",
    )

    def __init__(self) -> None:
        self.outbox: list[EventRow] | tuple[()] = ()
        self.subscriptions: list[SubscriptionRow] | tuple[()] = ()
        self.applied: list[DeliveryKey] | tuple[()] = ()
        self.applied_until: list[DeliveryKey] | tuple[()] = ()
        self.deliveries: list[DeliveryRow] | tuple[()] = ()
        self.deliveries_done: list[DeliveryKey] | tuple[()] = ()
        self.seen: list[SeenRow] | tuple[()] = ()
        self.sending: list[SendingRow] | tuple[()] = ()
        self.sent: list[SentKey] | tuple[()] = ()
        self.confirmed: list[ConfirmedRow] | tuple[()] = ()
        self.carried: list[CarryRow] | tuple[()] = ()
        self.early: list[EarlyRow] | tuple[()] = ()
        self.early_done: list[EarlyKey] | tuple[()] = ()
        self.effects: list[EffectRow] | tuple[()] = ()
        self.effects_done: list[EffectKey] | tuple[()] = ()
        self.passed: list[PassedRow] | tuple[()] = ()
        self.passed_done: list[PassedKey] | tuple[()] = ()


class Decision:
    """Rows that become durable together, whole or not at all.

    A decision belongs to one run, or to none (`run` 0). With a `fence` it is recorded only while that lease is held, in
    a store that several participants share; else it is refused as `StaleOwner`. Within one group a store writes noun by
    noun, in the order of the attributes below, with inserts before deletes; this is safe because a timer, wait or
    attempt of one key is never deleted and made again.
    """

    __slots__ = (
        "activations",
        "after",
        "attempts",
        "attempts_done",
        "audit",
        "basis",
        "changes",
        "facts",
        "fence",
        "inbox",
        "inbox_taken",
        "messages",
        "plans",
        "plans_done",
        "run",
        "runs",
        "timers",
        "timers_done",
        "token",
        "waits",
        "waits_done",
    )

    def __init__(self, run: int = 0, token: object = None) -> None:
        self.run = run
        self.token = token  # whatever the caller wants to see again with the outcome
        self.fence: Lease | None = None
        self.after: int | None = None  # with it, a run begins only if this is the newest of its key (0: there is none)
        self.basis: Basis | None = None  # with it, it is recorded only if all that were made on it before are
        self.plans: list[PlanRow] | tuple[()] = ()
        self.runs: list[RunRow] | tuple[()] = ()
        self.facts: list[FactRow] | tuple[()] = ()
        self.attempts: list[AttemptRow] | tuple[()] = ()
        self.timers: list[TimerRow] | tuple[()] = ()
        self.waits: list[WaitRow] | tuple[()] = ()
        self.inbox: list[InboxRow] | tuple[()] = ()
        self.inbox_taken: list[InboxTaken] | tuple[()] = ()
        self.audit: list[AuditRow] | tuple[()] = ()
        self.changes: list[RunChange] | tuple[()] = ()
        self.attempts_done: list[AttemptKey] | tuple[()] = ()
        self.timers_done: list[TimerKey] | tuple[()] = ()
        self.waits_done: list[WaitKey] | tuple[()] = ()
        self.activations: list[ActivationRow] | tuple[()] = ()  # one said again takes the place of the former
        self.plans_done: list[PlanKey] | tuple[()] = ()  # with their activations
        self.messages: Messages | None = None  # most decisions say nothing of events, and pay nothing for them

    def ensure_messages(self) -> Messages:
        """Give what this decision says of events, to be added to."""
        if self.messages is None:
            self.messages = Messages()
        return self.messages
