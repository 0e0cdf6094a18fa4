"""What is read: each function takes a connection and gives rows. The same for a store, a reader, and a test."""

from __future__ import annotations

import json
import sqlite3
from collections.abc import Callable, Collection, Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from typing import Any, TypeVar

from minuet.engine.port import LetterFilter, RunFilter, StoredDelivery, StoredRun, StreamedDelivery
from minuet.engine.row import (
    ENDED,
    ActivationRow,
    AttemptRow,
    AuditRow,
    CarryRow,
    DeliveryRow,
    EarlyRow,
    EffectRow,
    EventRow,
    FactRow,
    InboxRow,
    PassedRow,
    PlanRow,
    RunRow,
    RunState,
    SendingRow,
    SubscriptionRow,
    TimerRow,
    WaitRow,
)
from minuet.ids import first_run

R = TypeVar("R")

_COMMON = frozenset({RunState.RUNNING, RunState.COMPLETED})
_RUN_MAX = (1 << 63) - 1


class Reads:
    """Reads through one connection; each method sees one state of the store."""

    def __init__(self, connection: sqlite3.Connection, queries: Mapping[str, str]) -> None:
        self.connection = connection
        self._queries = queries

    def load_run(self, run: int) -> StoredRun | None:
        """Read one run with all its rows."""
        with self._snapshot():
            row = self._first(RunRow._make, "load_run", run=run)
            if row is None:
                return None
            return StoredRun(
                run=row,
                facts=self._all(FactRow._make, "facts_of_run", run=run),
                attempts=self._all(AttemptRow._make, "attempts_of_run", run=run),
                timers=self._all(TimerRow._make, "timers_of_run", run=run),
                waits=self._all(WaitRow._make, "waits_of_run", run=run),
                carried=self._all(CarryRow._make, "carried_of_run", run=run),
            )

    def load_runs(self, runs: Sequence[int]) -> list[StoredRun]:
        """Read several runs, in the order asked for; missing ones are left out."""
        ids = json.dumps(list(runs))
        with self._snapshot():
            stored = {row.run: StoredRun(run=row, facts=[]) for row in self._all(RunRow._make, "load_runs", runs=ids)}
            for fact in self._all(FactRow._make, "facts_of_runs", runs=ids):
                stored[fact.run].facts.append(fact)
            for attempt in self._all(AttemptRow._make, "attempts_of_runs", runs=ids):
                stored[attempt.run].attempts.append(attempt)
            for timer in self._all(TimerRow._make, "timers_of_runs", runs=ids):
                stored[timer.run].timers.append(timer)
            for wait in self._all(WaitRow._make, "waits_of_runs", runs=ids):
                stored[wait.run].waits.append(wait)
            for carry in self._all(CarryRow._make, "carried_of_runs", runs=ids):
                stored[carry.run].carried.append(carry)
        return [stored[run] for run in dict.fromkeys(runs) if run in stored]

    def find_run(self, workflow: str | None, key: str) -> RunRow | None:
        """Find the newest run of a key."""
        if workflow is None:
            return self._first(RunRow._make, "find_run_of_any_workflow", key=key)
        return self._first(RunRow._make, "find_run", key=key, workflow=workflow)

    def list_runs(self, which: RunFilter) -> list[RunRow]:
        """List runs, newest first, by the index that leaves the fewest to be looked at."""
        states = frozenset(which.states)
        query = "list_runs"
        if which.key is not None:
            query = "list_runs_of_key"
        elif which.paused:
            query = "list_paused_runs"
        elif states and not states & _COMMON:
            query = "list_runs_of_rare_states"
        elif states and not states & ENDED:
            query = "list_open_runs"
        elif which.workflow is not None:
            query = "list_runs_of_workflow"
        return self._all(
            RunRow._make,
            query,
            states=json.dumps(sorted(states)) if states else None,
            workflow=which.workflow,
            key=which.key,
            paused=which.paused,
            since=0 if which.since_ms is None else first_run(which.since_ms),
            before=_RUN_MAX if which.before is None else which.before,
            limit=which.limit,
        )

    def count_runs(self) -> dict[tuple[str, str], int]:
        """Count unfinished runs by workflow and state."""
        return {(workflow, state): count for workflow, state, count in self._all(tuple, "count_runs")}

    def runs_to_load(self, after: int, limit: int, shards: Collection[int] | None = None) -> list[int]:
        """Give ids of runs with `load` 1."""
        return self._all_of(shards, _only, "runs_to_load", "runs_to_load_of_shards", after=after, limit=limit)

    def unfinished_runs(self, after: int, limit: int, shards: Collection[int] | None = None) -> list[int]:
        """Give ids of runs that have not ended, or have something left to do."""
        return self._all_of(shards, _only, "unfinished_runs", "unfinished_runs_of_shards", after=after, limit=limit)

    def timers_due(self, until_ms: int, limit: int, shards: Collection[int] | None = None) -> list[TimerRow]:
        """Give timers that are due, earliest first."""
        return self._all_of(
            shards, TimerRow._make, "timers_due", "timers_due_of_shards", until_ms=until_ms, limit=limit
        )

    def attempts_due(self, until_ms: int, limit: int, shards: Collection[int] | None = None) -> list[AttemptRow]:
        """Give waiting attempts that are due, of runs that are not loaded at start."""
        return self._all_of(
            shards, AttemptRow._make, "attempts_due", "attempts_due_of_shards", until_ms=until_ms, limit=limit
        )

    def waits_for(self, event: str, key: str, shards: Collection[int] | None = None) -> list[WaitRow]:
        """Give armed waits, oldest first."""
        return self._all_of(shards, WaitRow._make, "waits_for", "waits_for_of_shards", event=event, key=key)

    def kept_events(self, event: str, key: str) -> list[InboxRow]:
        """Give events that nobody has taken, in order of arrival."""
        return self._all(InboxRow._make, "kept_events", event=event, key=key)

    def keys_that_meet(
        self, event: str, key: str, limit: int, shards: Collection[int] | None = None
    ) -> list[tuple[str, str]]:
        """Give (event, key) for which an event is kept and a wait is armed."""
        return self._all_of(
            shards, tuple, "keys_that_meet", "keys_that_meet_of_shards", event=event, key=key, limit=limit
        )

    def which_meet(self, keys: Sequence[tuple[str, str]]) -> list[tuple[str, str]]:
        """Give those of these (event, key) for which an event is kept and a wait is armed."""
        return self._all(tuple, "which_meet", keys=json.dumps(keys))

    def find_event(self, source: str, message: str) -> InboxRow | None:
        """Find an event by its identity."""
        return self._first(InboxRow._make, "find_event", source=source, message=message)

    def expired_events(self, until_ms: int, limit: int) -> list[InboxRow]:
        """Give kept events whose time is over."""
        return self._all(InboxRow._make, "expired_events", until_ms=until_ms, limit=limit)

    def parked(self, limit: int) -> tuple[list[tuple[RunRow, AttemptRow]], list[RunRow], list[InboxRow]]:
        """Give what needs a person."""
        with self._snapshot():
            return (
                self._all(_run_and_attempt, "parked_attempts", limit=limit),
                self._all(RunRow._make, "parked_runs", limit=limit),
                self._all(InboxRow._make, "parked_events", limit=limit),
            )

    def subscriptions(self) -> list[SubscriptionRow]:
        """Give all subscriptions."""
        return self._all(SubscriptionRow._make, "subscriptions")

    def events_after(self, event: str, after: int, limit: int) -> list[EventRow]:
        """Give published events of a type above an entry."""
        return self._all(EventRow._make, "events_after", event=event, after=after, limit=limit)

    def events_unapplied(self, subscription: int, event: str, after: int, limit: int) -> list[EventRow]:
        """Give published events above an entry that a subscription has neither applied nor a delivery for."""
        return self._all(
            EventRow._make, "events_unapplied", subscription=subscription, event=event, after=after, limit=limit
        )

    def events_between(self, event: str, first: int, last: int, limit: int) -> list[EventRow]:
        """Give published events of a type within a range of entries."""
        return self._all(EventRow._make, "events_between", event=event, first=first, last=last, limit=limit)

    def last_entry(self) -> int:
        """Give the newest entry."""
        return int(self._first(_only, "last_entry") or 0)

    def newest_of(self, event: str) -> int:
        """Give the newest entry of a type."""
        return int(self._first(_only, "newest_of", event=event) or 0)

    def entry_before(self, at_ms: int) -> int:
        """Give the last entry that came before an instant: they came in their order, so halving finds it."""
        with self._snapshot():
            low, high = 0, self.last_entry()
            while low < high:
                middle = (low + high + 1) // 2
                found = self._first(tuple, "first_event_from", entry=middle)
                if found is None or found[1] >= at_ms:
                    high = middle - 1
                else:
                    low = found[0]
            return low

    def find_published(self, source: str | None, message: str) -> EventRow | None:
        """Find a published event."""
        if source is None:
            return self._first(EventRow._make, "find_published_of_any_source", message=message)
        return self._first(EventRow._make, "find_published", source=source, message=message)

    def published_by(self, prefix: str) -> list[EventRow]:
        """Give published events whose ids begin so, in the order of their commits."""
        beyond = prefix[:-1] + chr(ord(prefix[-1]) + 1)
        return self._all(EventRow._make, "published_by", first=prefix, beyond=beyond)

    def previous_of(self, events: Sequence[EventRow]) -> list[int]:
        """Give the entry before each event of its source, type and key."""
        return self._all(_only, "previous_of", entries=json.dumps([e.entry for e in events]))

    def deliveries_of(self, subscription: int, entries: Sequence[int]) -> list[StoredDelivery]:
        """Give the deliveries of these entries."""
        return self._all(_delivery, "deliveries_of", subscription=subscription, entries=json.dumps(list(entries)))

    def deliveries_streamed(self, subscription: int) -> list[StreamedDelivery]:
        """Give what is recorded of events from elsewhere."""
        return self._all(StreamedDelivery._make, "deliveries_streamed", subscription=subscription)

    def seen(self, subscription: int, streams: Sequence[tuple[str, str]]) -> list[tuple[str, str, int]]:
        """Give how far these streams are."""
        return self._all(tuple, "seen", subscription=subscription, streams=json.dumps(streams))

    def deliveries_due(self, subscription: int, until_ms: int, limit: int) -> list[StoredDelivery]:
        """Give waiting deliveries that are due."""
        return self._all(_delivery, "deliveries_due", subscription=subscription, until_ms=until_ms, limit=limit)

    def next_delivery_due(self, subscription: int) -> int | None:
        """Give when the next waiting delivery is due."""
        return self._first(_only, "next_delivery_due", subscription=subscription)

    def deliveries_held(self, subscription: int, key: str, limit: int) -> list[StoredDelivery]:
        """Give held deliveries of a key."""
        return self._all(_delivery, "deliveries_held", subscription=subscription, key=key, limit=limit)

    def deliveries_open(self, subscription: int) -> list[tuple[str, int, str]]:
        """Give what holds up keys, and what is held."""
        return self._all(tuple, "deliveries_open", subscription=subscription)

    def deliveries_running(self, subscription: int, limit: int) -> list[StoredDelivery]:
        """Give deliveries that are recorded as running."""
        return self._all(_delivery, "deliveries_running", subscription=subscription, limit=limit)

    def dead_letters(self, which: LetterFilter) -> list[StoredDelivery]:
        """List dead letters, oldest first."""
        after = which.after or (-1, -1, -1)
        return self._all(
            _delivery,
            "dead_letters",
            name=which.subscription,
            entry=which.entry,
            reason=which.reason,
            fingerprint=which.fingerprint,
            after_ms=after[0],
            after_subscription=after[1],
            after_entry=after[2],
            limit=which.limit,
        )

    def log_after(self, after: int, limit: int) -> list[EventRow]:
        """Give published events of any type above an entry."""
        return self._all(EventRow._make, "log_after", after=after, limit=limit)

    def confirmed(self, until_ms: int, after: int, limit: int) -> list[SendingRow]:
        """Give messages above this entry that were confirmed at or before this instant, and are kept still."""
        return self._all(SendingRow._make, "confirmed", until=until_ms, after=after, limit=limit)

    def sending(self, after: int, limit: int) -> list[SendingRow]:
        """Give messages above an entry that are not confirmed."""
        return self._all(SendingRow._make, "sending", after=after, limit=limit)

    def early(self, digest: str | None, limit: int) -> list[EarlyRow]:
        """Give messages that came before their plan, oldest first."""
        if digest is None:
            return self._all(EarlyRow._make, "early_of_any_plan", limit=limit)
        return self._all(EarlyRow._make, "early", digest=digest, limit=limit)

    def runs_of_others(self, after: int, limit: int) -> list[tuple[int, str]]:
        """Give unfinished runs that end elsewhere, with where."""
        return self._all(tuple, "runs_of_others", after=after, limit=limit)

    def activations(self) -> list[ActivationRow]:
        """Give all activations."""
        return self._all(ActivationRow._make, "activations")

    def find_effect(self, action: str, key: str) -> EffectRow | None:
        """Find the effect of an action for a business key."""
        return self._first(EffectRow._make, "find_effect", action=action, key=key)

    def plans(self) -> list[PlanRow]:
        """Give all plans."""
        return self._all(PlanRow._make, "plans")

    def open_digests(self) -> dict[str, int]:
        """Count unfinished runs by the digest of their plan."""
        return dict(self._all(tuple, "open_digests"))

    def passed(self, shards: Collection[int], limit: int) -> list[PassedRow]:
        """Give messages that were left for the owners of shards and have no answer, oldest first."""
        return self._all(PassedRow._make, "passed", shards=json.dumps(sorted(shards)), limit=limit)

    def answer_of(self, message: str) -> str | None:
        """Give what the owner has said to a message."""
        return self._first(_only, "answer_of", message=message)

    def time_ms(self) -> int:
        """Give the time of the machine that the database is on."""
        (now,) = self._all(_only, "time_ms")
        return int(now)

    def audit(self, limit: int) -> list[AuditRow]:
        """Give the newest audit rows."""
        return self._all(AuditRow._make, "audit", limit=limit)

    def runs_to_forget(self, ended_before_ms: int, limit: int) -> list[int]:
        """Give ids of runs that have ended before an instant, oldest first."""
        return self._all(_only, "runs_to_forget", ended_before_ms=ended_before_ms, limit=limit)

    @contextmanager
    def _snapshot(self) -> Iterator[None]:
        """Have all that is read in this block be of one commit."""
        self.connection.execute(self._queries["begin_reading"])
        try:
            yield
        finally:
            self.connection.execute(self._queries["commit"])

    def _all_of(
        self,
        shards: Collection[int] | None,
        make: Callable[[tuple[Any, ...]], R],
        unfiltered: str,
        filtered: str,
        **arguments: Any,
    ) -> list[R]:
        """Read what belongs to runs of these shards, by the filtered query; all of it where None."""
        if shards is None:
            return self._all(make, unfiltered, **arguments)
        return self._all(make, filtered, shards=json.dumps(sorted(shards)), **arguments)

    def _all(self, make: Callable[[tuple[Any, ...]], R], query: str, **arguments: Any) -> list[R]:
        rows: Iterable[tuple[Any, ...]] = self.connection.execute(self._queries[query], arguments)
        return [make(row) for row in rows]

    def _first(self, make: Callable[[tuple[Any, ...]], R], query: str, **arguments: Any) -> R | None:
        found = self._all(make, query, **arguments)
        return found[0] if found else None


def _only(row: tuple[Any, ...]) -> Any:
    return row[0]


def _run_and_attempt(row: tuple[Any, ...]) -> tuple[RunRow, AttemptRow]:
    width = len(RunRow._fields)
    return RunRow._make(row[:width]), AttemptRow._make(row[width:])


def _delivery(row: tuple[Any, ...]) -> StoredDelivery:
    width = len(DeliveryRow._fields)
    return StoredDelivery(DeliveryRow._make(row[:width]), EventRow._make(row[width:-1]), row[-1])
