"""The reading half of the port: each question as a method of `Reads`, performed wherever a store performs its reads."""

from __future__ import annotations

from collections.abc import Callable, Collection, Sequence
from typing import Concatenate, ParamSpec, TypeVar

from minuet.engine.port import LetterFilter, RunFilter, StoredDelivery, StoredRun, StreamedDelivery
from minuet.engine.row import (
    ActivationRow,
    AttemptRow,
    AuditRow,
    EarlyRow,
    EffectRow,
    EventRow,
    InboxRow,
    PassedRow,
    PlanRow,
    RunRow,
    SendingRow,
    SubscriptionRow,
    TimerRow,
    WaitRow,
)
from minuet.stores.sqlite.reads import Reads

P = ParamSpec("P")
R = TypeVar("R")


class ReadSide:
    """What can be read of a store; `_read` says where, and what it takes."""

    async def load_run(self, run: int) -> StoredRun | None:
        """Read one run with all its rows, as of the last commit."""
        return await self._read(Reads.load_run, run)

    async def load_runs(self, runs: Sequence[int]) -> list[StoredRun]:
        """Read several runs at once, in the order asked for; missing ones are left out."""
        return await self._read(Reads.load_runs, runs)

    async def find_run(self, workflow: str | None, key: str) -> RunRow | None:
        """Find the newest run of this key (of any workflow where None)."""
        return await self._read(Reads.find_run, workflow, key)

    async def list_runs(self, which: RunFilter) -> list[RunRow]:
        """List runs, newest first."""
        return await self._read(Reads.list_runs, which)

    async def count_runs(self) -> dict[tuple[str, str], int]:
        """Count unfinished runs by (workflow, state)."""
        return await self._read(Reads.count_runs)

    async def runs_to_load(self, after: int, limit: int, shards: Collection[int] | None = None) -> list[int]:
        """Give ids above `after`, ascending, of runs with `load` 1."""
        return await self._read(Reads.runs_to_load, after, limit, shards)

    async def unfinished_runs(self, after: int, limit: int, shards: Collection[int] | None = None) -> list[int]:
        """Give ids above `after`, ascending, of runs that have not ended, or have something left to do."""
        return await self._read(Reads.unfinished_runs, after, limit, shards)

    async def timers_due(self, until_ms: int, limit: int, shards: Collection[int] | None = None) -> list[TimerRow]:
        """Give timers due at or before this instant, earliest first."""
        return await self._read(Reads.timers_due, until_ms, limit, shards)

    async def attempts_due(self, until_ms: int, limit: int, shards: Collection[int] | None = None) -> list[AttemptRow]:
        """Give attempts in state `waiting` of runs with `load` 0 that are due, earliest first."""
        return await self._read(Reads.attempts_due, until_ms, limit, shards)

    async def waits_for(self, event: str, key: str, shards: Collection[int] | None = None) -> list[WaitRow]:
        """Give the armed waits for this event and key, oldest first."""
        return await self._read(Reads.waits_for, event, key, shards)

    async def kept_events(self, event: str, key: str) -> list[InboxRow]:
        """Give the events of this type and key that nobody has taken, in order of arrival."""
        return await self._read(Reads.kept_events, event, key)

    async def keys_that_meet(
        self, event: str, key: str, limit: int, shards: Collection[int] | None = None
    ) -> list[tuple[str, str]]:
        """Give (event, key), ascending and above these, for which an event is kept and a wait is armed."""
        return await self._read(Reads.keys_that_meet, event, key, limit, shards)

    async def which_meet(self, keys: Sequence[tuple[str, str]]) -> list[tuple[str, str]]:
        """Give those of these (event, key) for which an event is kept and a wait is armed."""
        return await self._read(Reads.which_meet, keys)

    async def find_event(self, source: str, message: str) -> InboxRow | None:
        """Find an event by its identity."""
        return await self._read(Reads.find_event, source, message)

    async def expired_events(self, until_ms: int, limit: int) -> list[InboxRow]:
        """Give kept events whose time is over."""
        return await self._read(Reads.expired_events, until_ms, limit)

    async def parked(self, limit: int) -> tuple[list[tuple[RunRow, AttemptRow]], list[RunRow], list[InboxRow]]:
        """Give what needs a person: parked attempts with their runs, quarantined runs, parked events."""
        return await self._read(Reads.parked, limit)

    async def subscriptions(self) -> list[SubscriptionRow]:
        """Give all subscriptions that were ever heard of."""
        return await self._read(Reads.subscriptions)

    async def events_after(self, event: str, after: int, limit: int) -> list[EventRow]:
        """Give published events of this type above this entry, in the order of their commits."""
        return await self._read(Reads.events_after, event, after, limit)

    async def events_unapplied(self, subscription: int, event: str, after: int, limit: int) -> list[EventRow]:
        """Give what this subscription has neither applied nor a delivery for."""
        return await self._read(Reads.events_unapplied, subscription, event, after, limit)

    async def events_between(self, event: str, first: int, last: int, limit: int) -> list[EventRow]:
        """Give published events of this type from one entry to another, both included."""
        return await self._read(Reads.events_between, event, first, last, limit)

    async def last_entry(self) -> int:
        """Give the entry of the newest event; 0 if there never was one."""
        return await self._read(Reads.last_entry)

    async def newest_of(self, event: str) -> int:
        """Give the entry of the newest event of this type; 0 if there is none."""
        return await self._read(Reads.newest_of, event)

    async def entry_before(self, at_ms: int) -> int:
        """Give the entry of the last event that came before this instant; 0 if there is none."""
        return await self._read(Reads.entry_before, at_ms)

    async def find_published(self, source: str | None, message: str) -> EventRow | None:
        """Find a published event by its identity; by the message alone where the source is None."""
        return await self._read(Reads.find_published, source, message)

    async def published_by(self, prefix: str) -> list[EventRow]:
        """Give published events whose ids begin so (at least one character), in the order of their commits."""
        return await self._read(Reads.published_by, prefix)

    async def previous_of(self, events: Sequence[EventRow]) -> list[int]:
        """Give the entry of the event before each of these, of its source, type and key; 0: there is none (left)."""
        return await self._read(Reads.previous_of, events)

    async def deliveries_of(self, subscription: int, entries: Sequence[int]) -> list[StoredDelivery]:
        """Give the deliveries of these entries, in any state; those that have none are left out."""
        return await self._read(Reads.deliveries_of, subscription, entries)

    async def deliveries_streamed(self, subscription: int) -> list[StreamedDelivery]:
        """Give what is recorded of events from elsewhere: those that have a `sequence`."""
        return await self._read(Reads.deliveries_streamed, subscription)

    async def seen(self, subscription: int, streams: Sequence[tuple[str, str]]) -> list[tuple[str, str, int]]:
        """Give (source, key, sequence) of those of these (source, key) of which something was applied, or left."""
        return await self._read(Reads.seen, subscription, streams)

    async def deliveries_due(self, subscription: int, until_ms: int, limit: int) -> list[StoredDelivery]:
        """Give deliveries in state `waiting` that are due, earliest first."""
        return await self._read(Reads.deliveries_due, subscription, until_ms, limit)

    async def next_delivery_due(self, subscription: int) -> int | None:
        """Give when the next waiting delivery is due."""
        return await self._read(Reads.next_delivery_due, subscription)

    async def deliveries_held(self, subscription: int, key: str, limit: int) -> list[StoredDelivery]:
        """Give deliveries of a key in state `held`, in the order of publication."""
        return await self._read(Reads.deliveries_held, subscription, key, limit)

    async def deliveries_open(self, subscription: int) -> list[tuple[str, int, str]]:
        """Give (key, entry, state) of what is not `held`, and of the first `held` one of each key."""
        return await self._read(Reads.deliveries_open, subscription)

    async def deliveries_running(self, subscription: int, limit: int) -> list[StoredDelivery]:
        """Give deliveries in state `running`."""
        return await self._read(Reads.deliveries_running, subscription, limit)

    async def dead_letters(self, which: LetterFilter) -> list[StoredDelivery]:
        """List deliveries that are `dead` or `skipped`, oldest first."""
        return await self._read(Reads.dead_letters, which)

    async def log_after(self, after: int, limit: int) -> list[EventRow]:
        """Give published events of any type above this entry, in the order of their commits."""
        return await self._read(Reads.log_after, after, limit)

    async def confirmed(self, until_ms: int, after: int, limit: int) -> list[SendingRow]:
        """Give messages above this entry that were confirmed at or before this instant, and are kept still."""
        return await self._read(Reads.confirmed, until_ms, after, limit)

    async def sending(self, after: int, limit: int) -> list[SendingRow]:
        """Give messages above this entry that the broker has not confirmed, in the order of their commits."""
        return await self._read(Reads.sending, after, limit)

    async def early(self, digest: str | None, limit: int) -> list[EarlyRow]:
        """Give messages that came before this plan (before any, where None), oldest first."""
        return await self._read(Reads.early, digest, limit)

    async def runs_of_others(self, after: int, limit: int) -> list[tuple[int, str]]:
        """Give (run, home), ascending above `after`, of unfinished runs that end elsewhere."""
        return await self._read(Reads.runs_of_others, after, limit)

    async def activations(self) -> list[ActivationRow]:
        """Give who is to know which plan, and who has said so."""
        return await self._read(Reads.activations)

    async def find_effect(self, action: str, key: str) -> EffectRow | None:
        """Find the effect of an action for a business key."""
        return await self._read(Reads.find_effect, action, key)

    async def plans(self) -> list[PlanRow]:
        """Give all plans."""
        return await self._read(Reads.plans)

    async def open_digests(self) -> dict[str, int]:
        """Count unfinished runs by the digest of their plan."""
        return await self._read(Reads.open_digests)

    async def passed(self, shards: Collection[int], limit: int) -> list[PassedRow]:
        """Give messages that were left for the owners of these shards and have no answer, oldest first."""
        return await self._read(Reads.passed, shards, limit)

    async def answer_of(self, message: str) -> str | None:
        """Give what the owner has said to a message that was left for it; None: nothing yet."""
        return await self._read(Reads.answer_of, message)

    async def audit(self, limit: int) -> list[AuditRow]:
        """Give the newest audit rows, newest first."""
        return await self._read(Reads.audit, limit)

    async def _read(self, method: Callable[Concatenate[Reads, P], R], /, *arguments: P.args, **named: P.kwargs) -> R:
        raise NotImplementedError
