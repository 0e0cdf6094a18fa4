"""The ports: what a store and a clock promise, in semantics. Rules live in the engine; a store keeps rows."""

from __future__ import annotations

from collections.abc import Callable, Collection, Sequence
from dataclasses import dataclass, field
from enum import StrEnum
from typing import Any, NamedTuple, Protocol

from minuet.engine.basis import Basis
from minuet.engine.row import (
    ActivationRow,
    AttemptRow,
    AuditRow,
    CarryRow,
    Decision,
    DeliveryRow,
    EarlyRow,
    EffectRow,
    EventRow,
    FactRow,
    InboxRow,
    Lease,
    PassedRow,
    PlanRow,
    RunRow,
    SendingRow,
    SubscriptionRow,
    TimerRow,
    WaitRow,
)


class Capability(StrEnum):
    """What a store may lack; the conformance suite skips what is lacking."""

    DURABLE = "durable"  # what was recorded is there after closing, and after a crash
    EXCLUSIVE = "exclusive"  # a second opening is refused while it is open
    TRANSACTIONS = "transactions"  # handlers may keep rows of their own in it
    SHARED = "shared"  # several participants may have it open, each owning some shards


class Clock(Protocol):
    """The time of this participant."""

    def now_ms(self) -> int:
        """Give milliseconds since 1970 UTC."""
        ...

    def monotonic_ms(self) -> int:
        """Give milliseconds that never go back; only differences mean something."""
        ...


class Statement(NamedTuple):
    """A statement of a user's transaction; `kind`: `execute`, `fetch`, `fetch_one`, `executemany`."""

    kind: str
    sql: str
    arguments: tuple[Any, ...]


class Work(Protocol):
    """A transactional handler, driven statement by statement by the store that owns the connection.

    The store opens a savepoint, asks for `next(None)`, executes the statement that it gives, answers with
    `next(answer)`, and so on. None means that it has ended: then `decision` holds the rows that go with its
    writes, or None if everything it wrote is to be undone. A statement that fails is given back with
    `fail(error)`, which answers like `next`. Whatever either raises undoes the savepoint. `basis`: as of a decision.
    """

    first: Statement
    basis: Basis | None

    def next(self, answer: Any) -> Statement | None:
        """Take the answer of the last statement; give the next one, or None at the end."""
        ...

    def fail(self, error: Exception) -> Statement | None:
        """Take the error of the last statement; give the next one, or None at the end."""
        ...

    def finish(self, *, undo: bool) -> Decision | None:
        """Say what is recorded: called once, after the end; `undo` tells that the writes were rolled back.

        Answers are one of: a decision to be recorded together with the writes (or without them when `undo`).
        """
        ...

    def keeps_writes(self) -> bool:
        """Say, after the end, whether the handler's writes stand; if not they are rolled back before `finish`."""
        ...


class Outcome(NamedTuple):
    """What became of a submitted decision or work: `error` is None when it is durable.

    `decision` is what was recorded (for a work: what its `finish` gave; None where there is an error).
    Errors: `Contradiction`, `KeyConflict`, `Conflict` (an event that was received before, or is no longer kept),
    `StaleOwner` (the lease that it was made under is lost): refused, for good; what is in memory is out of date.
    `StoreUnavailable`: unknown what was recorded, and `StoreFull`: nothing was; the same again is safe, a work
    being performed anew (it may not have begun, or stopped anywhere). `StatementFailed`: a work broke a constraint
    that is checked only at the commit; all of it is undone. Any other error is a mistake in Minuet or in `finish`.
    """

    decision: Decision | None
    work: Work | None
    error: Exception | None


@dataclass(frozen=True, slots=True, kw_only=True)
class Opened:
    """What opening a store told: its epoch (raised by every opening) and incarnation (changed by a restore).

    `shards`: over how many its runs are spread, where several participants may have it open; None where one holds it,
    who then owns everything, and takes no leases.
    """

    epoch: int
    incarnation: str
    shards: int | None = None


@dataclass(slots=True, kw_only=True)
class StoredRun:
    """All rows of one run; facts in the order of `seq`."""

    run: RunRow
    facts: list[FactRow]
    attempts: list[AttemptRow] = field(default_factory=list)
    timers: list[TimerRow] = field(default_factory=list)
    waits: list[WaitRow] = field(default_factory=list)
    carried: list[CarryRow] = field(default_factory=list)


@dataclass(frozen=True, slots=True, kw_only=True)
class RunFilter:
    """Which runs to list, newest first. `before`: only run ids below it (a cursor). Empty means any."""

    states: tuple[str, ...] = ()
    workflow: str | None = None
    key: str | None = None
    since_ms: int | None = None
    paused: bool | None = None
    before: int | None = None
    limit: int = 50


@dataclass(frozen=True, slots=True, kw_only=True)
class LetterFilter:
    """Which dead letters to list, oldest first. `after`: only those beyond this (last_at, subscription, entry)."""

    subscription: str | None = None
    entry: int | None = None
    reason: str | None = None
    fingerprint: str | None = None
    after: tuple[int, int, int] | None = None
    limit: int = 100


class StoredDelivery(NamedTuple):
    """A delivery with its event, and the name of its subscription."""

    delivery: DeliveryRow
    event: EventRow
    name: str


class StreamedDelivery(NamedTuple):
    """A delivery of an event from elsewhere, without the event: as much as is kept in memory of it."""

    entry: int
    key: str
    state: str
    reason: str | None
    first_at_ms: int
    source: str
    event: str
    event_key: str
    sequence: int
    previous: int | None


class StoreReads(Protocol):
    """What can be read of a store, also of one that no process holds. Everything is as of the last commit.

    `shards`: only what belongs to runs of these; None means all.
    """

    async def load_run(self, run: int) -> StoredRun | None:
        """Read one run with all its rows, as of the last commit."""
        ...

    async def load_runs(self, runs: Sequence[int]) -> list[StoredRun]:
        """Read several runs at once; missing ones are left out."""
        ...

    async def find_run(self, workflow: str | None, key: str) -> RunRow | None:
        """Find the newest run of this key (of any workflow where None)."""
        ...

    async def list_runs(self, which: RunFilter) -> list[RunRow]:
        """List runs, newest first."""
        ...

    async def count_runs(self) -> dict[tuple[str, str], int]:
        """Count unfinished runs by (workflow, state). Costs time in proportion to them, never to ended ones."""
        ...

    async def runs_to_load(self, after: int, limit: int, shards: Collection[int] | None = None) -> list[int]:
        """Give ids above `after`, ascending, of runs with `load` 1."""
        ...

    async def unfinished_runs(self, after: int, limit: int, shards: Collection[int] | None = None) -> list[int]:
        """Give ids above `after`, ascending, of runs that have not ended, or have something left to do.

        Costs time in proportion to the ids that it gives: nothing else of the runs is read.
        """
        ...

    async def timers_due(self, until_ms: int, limit: int, shards: Collection[int] | None = None) -> list[TimerRow]:
        """Give timers due at or before this instant, earliest first."""
        ...

    async def attempts_due(self, until_ms: int, limit: int, shards: Collection[int] | None = None) -> list[AttemptRow]:
        """Give attempts in state `waiting` of runs with `load` 0 that are due, earliest first."""
        ...

    async def waits_for(self, event: str, key: str, shards: Collection[int] | None = None) -> list[WaitRow]:
        """Give the armed waits for this event and key, oldest first."""
        ...

    async def kept_events(self, event: str, key: str) -> list[InboxRow]:
        """Give the events of this type and key that nobody has taken, in order of arrival."""
        ...

    async def which_meet(self, keys: Sequence[tuple[str, str]]) -> list[tuple[str, str]]:
        """Give those of these (event, key) for which an event is kept and a wait is armed."""
        ...

    async def find_event(self, source: str, message: str) -> InboxRow | None:
        """Find an event by its identity."""
        ...

    async def expired_events(self, until_ms: int, limit: int) -> list[InboxRow]:
        """Give kept events whose time is over."""
        ...

    async def parked(self, limit: int) -> tuple[list[tuple[RunRow, AttemptRow]], list[RunRow], list[InboxRow]]:
        """Give what needs a person: parked attempts with their runs, other parked runs, parked events.

        A run is parked for another reason where it is quarantined, or stuck without a parked attempt.
        """
        ...

    async def subscriptions(self) -> list[SubscriptionRow]:
        """Give all subscriptions that were ever heard of."""
        ...

    async def events_after(self, event: str, after: int, limit: int) -> list[EventRow]:
        """Give published events of this type above this entry, in the order of their commits."""
        ...

    async def events_unapplied(self, subscription: int, event: str, after: int, limit: int) -> list[EventRow]:
        """Give what `events_after` gives, without what this subscription has applied or has a delivery for."""
        ...

    async def events_between(self, event: str, first: int, last: int, limit: int) -> list[EventRow]:
        """Give published events of this type from one entry to another, both included."""
        ...

    async def last_entry(self) -> int:
        """Give the entry of the newest event; 0 if there never was one."""
        ...

    async def newest_of(self, event: str) -> int:
        """Give the entry of the newest event of this type; 0 if there is none."""
        ...

    async def entry_before(self, at_ms: int) -> int:
        """Give the entry of the last event that came before this instant; 0 if there is none."""
        ...

    async def find_published(self, source: str | None, message: str) -> EventRow | None:
        """Find a published event by its identity; by the message alone where the source is None."""
        ...

    async def published_by(self, prefix: str) -> list[EventRow]:
        """Give published events whose ids begin so (at least one character), in the order of their commits."""
        ...

    async def previous_of(self, events: Sequence[EventRow]) -> list[int]:
        """Give the entry of the event before each of these, of its source, type and key; 0: there is none (left)."""
        ...

    async def deliveries_of(self, subscription: int, entries: Sequence[int]) -> list[StoredDelivery]:
        """Give the deliveries of these entries, in any state; those that have none are left out."""
        ...

    async def deliveries_streamed(self, subscription: int) -> list[StreamedDelivery]:
        """Give what is recorded of events from elsewhere: those that have a `sequence`."""
        ...

    async def seen(self, subscription: int, streams: Sequence[tuple[str, str]]) -> list[tuple[str, str, int]]:
        """Give (source, key, sequence) of those of these (source, key) of which something was applied, or left."""
        ...

    async def deliveries_due(self, subscription: int, until_ms: int, limit: int) -> list[StoredDelivery]:
        """Give deliveries in state `waiting` that are due, earliest first."""
        ...

    async def next_delivery_due(self, subscription: int) -> int | None:
        """Give when the next waiting delivery is due."""
        ...

    async def deliveries_held(self, subscription: int, key: str, limit: int) -> list[StoredDelivery]:
        """Give deliveries of a key in state `held`, in the order of publication."""
        ...

    async def deliveries_open(self, subscription: int) -> list[tuple[str, int, str]]:
        """Give (key, entry, state) of all deliveries that are not `held`, and of the first `held` one of each key."""
        ...

    async def deliveries_running(self, subscription: int, limit: int) -> list[StoredDelivery]:
        """Give deliveries in state `running`: at the start, those that the last process left."""
        ...

    async def dead_letters(self, which: LetterFilter) -> list[StoredDelivery]:
        """List deliveries that are `dead` or `skipped`, oldest first."""
        ...

    async def log_after(self, after: int, limit: int) -> list[EventRow]:
        """Give published events of any type above this entry, in the order of their commits."""
        ...

    async def confirmed(self, until_ms: int, after: int, limit: int) -> list[SendingRow]:
        """Give messages above this entry that were confirmed at or before this instant, and are kept still.

        They are those of a broker that may forget what it has confirmed (`Messages.confirmed`).
        """
        ...

    async def sending(self, after: int, limit: int) -> list[SendingRow]:
        """Give messages above this entry that the broker has not confirmed, in the order of their commits."""
        ...

    async def early(self, digest: str | None, limit: int) -> list[EarlyRow]:
        """Give messages that came before this plan (before any, where None), oldest first."""
        ...

    async def runs_of_others(self, after: int, limit: int) -> list[tuple[int, str]]:
        """Give (run, home), ascending above `after`, of runs that end elsewhere, and are not known to have ended."""
        ...

    async def activations(self) -> list[ActivationRow]:
        """Give who is to know which plan, and who has said so."""
        ...

    async def find_effect(self, action: str, key: str) -> EffectRow | None:
        """Find the effect of an action for a business key."""
        ...

    async def plans(self) -> list[PlanRow]:
        """Give all plans."""
        ...

    async def open_digests(self) -> dict[str, int]:
        """Count unfinished runs by the digest of their plan."""
        ...

    async def passed(self, shards: Collection[int], limit: int) -> list[PassedRow]:
        """Give messages that were left for the owners of these shards and have no answer, oldest first."""
        ...

    async def answer_of(self, message: str) -> str | None:
        """Give what the owner has said to a message that was left for it; None: nothing yet."""
        ...

    async def audit(self, limit: int) -> list[AuditRow]:
        """Give the newest audit rows, newest first."""
        ...


class Store(StoreReads, Protocol):
    """Where facts are kept. Each run has one owner, who writes; anybody may read.

    Writing is by groups: whatever has been submitted when a commit begins shares one transaction and one sync.
    A decision that cannot be recorded (a contradiction) gets its error and does not sink its group.
    When the commit itself fails, every outcome of the group is `StoreUnavailable`, and the store is reopened.
    What was made on something that is not recorded (`Decision.basis`) is not recorded either: `StoreUnavailable`.
    """

    async def open(self, on_outcomes: Callable[[Sequence[Outcome]], None]) -> Opened:
        """Open for writing; outcomes of each group arrive in the opener's event loop, in order of submission.

        Raises:
            AlreadyOpen: another process holds it; names that process.
            StoreDamaged: this is not a store of Minuet, or one of a later release.
        """
        ...

    async def close(self) -> None:
        """Commit what was submitted, then close. Idempotent."""
        ...

    def submit(self, decision: Decision) -> None:
        """Have a decision recorded with the next group. Returns at once; to be called in the opener's loop."""
        ...

    def submit_work(self, work: Work) -> None:
        """Have a transactional handler performed, and what it decides recorded, with the next group."""
        ...

    @property
    def backlog(self) -> int:
        """Give how many decisions and works wait for the next group."""
        ...

    # Owners, where several participants have it open (`Opened.shards`)

    async def claim(self, owner: str, wanted: int, ttl_ms: int) -> list[Lease]:
        """Take up to so many shards that nobody owns (any more), each under a new epoch, for this long.

        Time is the store's. An owner's lease that has run out is free for all, its own holder included.
        """
        ...

    async def renew(self, owner: str, held: Sequence[Lease], ttl_ms: int) -> list[Lease]:
        """Keep shards for this long from now; gives those that were still held, under these epochs."""
        ...

    async def give_back(self, owner: str, held: Sequence[Lease]) -> None:
        """Let others have shards at once."""
        ...

    async def time_ms(self) -> int:
        """Give what the store's clock says, by which leases run out: milliseconds since 1970 UTC."""
        ...

    async def owners(self) -> dict[str, int]:
        """Count the shards of each owner whose lease has not run out."""
        ...

    def on_news(self, call: Callable[[Collection[int]], None] | None) -> None:
        """Have it called, in the opener's loop, when another participant left something for these shards.

        It is a hint, and may be missing: who relies on it polls, too.
        """
        ...

    async def keys_that_meet(
        self, event: str, key: str, limit: int, shards: Collection[int] | None = None
    ) -> list[tuple[str, str]]:
        """Give (event, key), ascending and above these, for which an event is kept and a wait is armed."""
        ...

    async def forget_events(self, until_entry: int, limit: int) -> int:
        """Remove events up to an entry that every active subscription has passed and no delivery needs."""
        ...

    async def forget(self, ended_before_ms: int, limit: int) -> int:
        """Remove ended runs with all their rows, oldest first, in one transaction; give how many."""
        ...

    async def setup(self, work: Work) -> None:
        """Perform a work of its own group, for services that create their tables."""
        ...
