"""What a subscription hears, read from the outbox: events of its type, and of the notices about them if it asks so."""

from __future__ import annotations

from collections.abc import Sequence

from minuet.engine.inbox import Policy
from minuet.engine.port import StoreReads
from minuet.engine.row import EventRow


class EventLog:
    """The part of the outbox that one subscription hears.

    `until_recovered`: up to here the last process may have applied some, and these are left out.
    """

    def __init__(self, store: StoreReads, policy: Policy, until_recovered: int) -> None:
        self.until_recovered = until_recovered
        self._store = store
        self._policy = policy

    async def next(self, after: int, limit: int) -> tuple[list[EventRow], bool]:
        """Read on; gives events in the order of their commits, and whether that was all there is."""
        policy = self._policy

        async def read(event: str) -> list[EventRow]:
            if after < self.until_recovered:
                return await self._store.events_unapplied(policy.subscription, event, after, limit)
            return await self._store.events_after(event, after, limit)

        if policy.also is None:
            rows = await read(policy.event)
            return rows, len(rows) < limit
        last = await self._store.last_entry()  # what is committed between two reads is for the next ones
        return _merged([await read(policy.event), await read(policy.also)], last, limit)

    async def between(self, first: int, last: int, limit: int) -> list[EventRow]:
        """Give events from one entry to another, both included, in the order of their commits."""
        policy = self._policy
        rows = await self._store.events_between(policy.event, first, last, limit)
        if policy.also is None:
            return rows
        return _merged([rows, await self._store.events_between(policy.also, first, last, limit)], last, limit)[0]


def _merged(read: Sequence[list[EventRow]], until: int, limit: int) -> tuple[list[EventRow], bool]:
    """Put together what was read of several types, each at most `limit`: no further than is known of all of them."""
    full = [rows[-1].entry or 0 for rows in read if len(rows) == limit]
    known = min([until, *full])
    rows = sorted((row for of in read for row in of if (row.entry or 0) <= known), key=lambda row: row.entry or 0)
    return rows[:limit], not full and len(rows) == sum(map(len, read)) <= limit
