"""What is told about runs, in process and over HTTP alike: plain data, JSON by msgspec.

Instants are milliseconds since 1970 UTC. `None` means: not there (not yet, or not any more).
"""

from __future__ import annotations

from typing import Any

import msgspec


class WaitingView(msgspec.Struct, frozen=True, kw_only=True, omit_defaults=False):
    """Something that a run waits for: `owner` is to bring `needs`, since then, until then (None: no limit).

    `what`: `action` (it runs, or waits for its next attempt), `event`, `timer`, `person` (it is parked).
    `usual_ms`: half of the recent outcomes took no longer (None: none is known). `expected_ms`: the instant until which
    it is usual (None: it waits for a person); afterwards it is `late`.
    """

    position: str
    round: str = ""
    what: str
    needs: str
    owner: str
    since_ms: int
    until_ms: int | None = None
    detail: str = ""
    usual_ms: int | None = None
    expected_ms: int | None = None
    late: bool = False


class FactView(msgspec.Struct, frozen=True, kw_only=True):
    """A recorded fact; `value` is JSON data, `place` `file:line`."""

    seq: int
    position: str
    round: str
    label: str
    what: str
    owner: str
    at_ms: int
    value: Any = None
    place: str = ""


class RunView(msgspec.Struct, frozen=True, kw_only=True):
    """A run. `at` is a short word on where it is. `result`: what it returned; `rejection`: why it was compensated."""

    run: str
    key: str
    workflow: str
    digest: str
    style: str
    state: str
    paused: bool
    dirty: bool
    started_at_ms: int
    ended_at_ms: int | None
    reason: str | None = None
    at: str = ""
    result: Any = None
    rejection: RejectionView | None = None
    waiting: list[WaitingView] = []
    facts: list[FactView] = []


class RejectionView(msgspec.Struct, frozen=True, kw_only=True):
    """Why a run was compensated: the code, where, and what the action said."""

    code: str
    position: str
    message: str = ""
    details: Any = None


class FailedView(msgspec.Struct, frozen=True, kw_only=True):
    """Something parked: a step or compensation, a quarantined run, an event that nobody took, a dead letter.

    A dead letter has an `id` of its own, and a `fingerprint` of its cause.
    """

    kind: str
    run: str | None
    key: str
    workflow: str
    position: str
    direction: str
    reason: str
    attempts: int
    first_at_ms: int
    last_at_ms: int
    id: str = ""
    fingerprint: str = ""


class FailedAttemptView(msgspec.Struct, frozen=True, kw_only=True):
    """An attempt that failed."""

    at_ms: int
    error: str


class DeadLetterView(msgspec.Struct, frozen=True, kw_only=True):
    """An event that a subscription cannot apply, with its envelope and every attempt.

    `state`: `dead`, or `skipped`: its key goes on. Those with one `fingerprint` have one cause. `causes`: what caused
    the event, the nearest first. `is_edited`: a person has corrected `data`.
    """

    id: str
    subscription: str
    event: str
    version: int
    key: str
    source: str
    message: str
    state: str
    reason: str
    error: str
    fingerprint: str
    attempts: list[FailedAttemptView]
    first_at_ms: int
    last_at_ms: int
    published_at_ms: int
    hops: int
    causes: list[str]
    data: Any = None
    is_edited: bool = False


class SubscriptionView(msgspec.Struct, frozen=True, kw_only=True):
    """A subscription: everything up to entry `position` is applied, or has a row of its own; `newest` of its type.

    Of events from elsewhere that keep an order: how many were `late`, and left out; how many are `early`, and wait; how
    many `gaps` an alarm was raised for, and are open (the last two of a process that is up).
    """

    name: str
    event: str
    position: int
    newest: int
    active: bool
    since_ms: int
    late: int = 0
    early: int = 0
    gaps: int = 0


class ActivationView(msgspec.Struct, frozen=True, kw_only=True):
    """That a participant is to know a plan; `acknowledged_at_ms` is None until it has said so, `refused`: why not."""

    participant: str
    asked_at_ms: int
    acknowledged_at_ms: int | None
    refused: str = ""


class PlanView(msgspec.Struct, frozen=True, kw_only=True):
    """A plan: `current` says whether new runs take it, `open_runs` how many unfinished runs it has.

    `participants`: who is to know it, where they share no store; runs may start when all have acknowledged it.
    """

    workflow: str
    digest: str
    style: str
    current: bool
    open_runs: int
    created_at_ms: int
    participants: list[ActivationView] = []


class EventReceipt(msgspec.Struct, frozen=True, kw_only=True):
    """What became of an event from outside: `accepted` (kept until a wait takes it) or `duplicate`."""

    id: str
    outcome: str
    waiting: int


class Acknowledged(msgspec.Struct, frozen=True, kw_only=True):
    """The answer to an operator's verb: `outcome` is a word, `message` a sentence."""

    outcome: str
    message: str


class Health(msgspec.Struct, frozen=True, kw_only=True):
    """How the process is: counts of what it holds and does."""

    ready: bool
    draining: bool
    runs_in_memory: int
    running_actions: int
    queued_actions: int
    abandoned_threads: int
    late_answers: int
    recovering: bool
    lag_ms: int
