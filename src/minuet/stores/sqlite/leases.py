"""Leases of shards: claimed, renewed and given back by participants that share a store; and the fence that they are.

Time decides who may take a shard, and the epoch decides who wins: each taking raises it, and what is recorded under
an epoch that is not the current one is refused. So an owner whose time has run out may go on until somebody else
takes the shard; from then on nothing of what it has in hand is recorded.
"""

from __future__ import annotations

import json
import sqlite3
from collections.abc import Iterable, Mapping, Sequence
from typing import Any

from minuet.engine.row import Decision, Lease
from minuet.errors import StaleOwner


class Leases:
    """The leases of one store, through a connection that writes; each method is called within a transaction.

    `now_ms` is the store's clock, in milliseconds: the same for everybody who shares it.
    """

    def __init__(self, connection: sqlite3.Connection, queries: Mapping[str, str]) -> None:
        self._connection = connection
        self._queries = queries

    def claim(self, owner: str, wanted: int, ttl_ms: int, now_ms: int, shards: int) -> list[Lease]:
        """Take up to `wanted` of the store's shards (1 to 256, counted from 0) for `ttl_ms` from now.

        Only what nobody owns, or whose time has run out, is taken: first what was never owned, then what has been
        free for the longest, and of those that are alike the lowest. Each gets a new epoch.
        """
        self._execute("create_leases", shards=json.dumps(list(range(shards))))
        free = [shard for (shard,) in self._execute("free_shards", now_ms=now_ms, wanted=max(wanted, 0))]
        claimed = []
        for shard in free:
            taken = self._execute("claim_shard", shard=shard, owner=owner, until_ms=now_ms + ttl_ms, now_ms=now_ms)
            claimed += [Lease(shard, epoch) for (epoch,) in taken]
        return claimed

    def renew(self, owner: str, held: Sequence[Lease], ttl_ms: int, now_ms: int) -> list[Lease]:
        """Keep leases for `ttl_ms` from now; give those that nobody has taken meanwhile."""
        until_ms = now_ms + ttl_ms
        return [lease for lease in held if self._change("renew_lease", owner, lease, until_ms=until_ms)]

    def give_back(self, owner: str, held: Sequence[Lease], now_ms: int) -> None:
        """Let others have leases at once; what was taken meanwhile stays with whoever took it."""
        for lease in held:
            self._change("give_back_lease", owner, lease, now_ms=now_ms)

    def owners(self, now_ms: int) -> dict[str, int]:
        """Count the shards of each owner whose lease has not run out."""
        return dict(self._execute("owners", now_ms=now_ms))

    def _change(self, query: str, owner: str, lease: Lease, **arguments: Any) -> bool:
        cursor = self._connection.execute(self._queries[query], {"owner": owner, **lease._asdict(), **arguments})
        return cursor.rowcount == 1

    def _execute(self, query: str, **arguments: Any) -> list[tuple[Any, ...]]:
        return self._connection.execute(self._queries[query], arguments).fetchall()


class Fence:
    """Tells which leases are lost. Each shard is asked about once in a transaction."""

    def __init__(self, connection: sqlite3.Connection, queries: Mapping[str, str]) -> None:
        self._connection = connection
        self._queries = queries
        self._epochs: dict[int, int] = {}

    def forget(self) -> None:
        """Forget what was read: to be called whenever a transaction begins, since others may write in between."""
        self._epochs.clear()

    def stale(self, decisions: Iterable[Decision]) -> dict[Lease | None, StaleOwner]:
        """Give the leases of these decisions that are lost, each with the error of what was decided under it."""
        leases = {decision.fence for decision in decisions} - {None}
        return {lease: self._error(lease) for lease in leases if lease is not None and self._is_lost(lease)}

    def check(self, decision: Decision) -> None:
        """See that a decision may be recorded.

        Raises:
            StaleOwner: the lease that it was made under is lost.
        """
        if decision.fence is not None and self._is_lost(decision.fence):
            raise self._error(decision.fence)

    def _is_lost(self, lease: Lease) -> bool:
        return self._epoch(lease.shard) != lease.epoch

    def _epoch(self, shard: int) -> int:
        """Give the current epoch of a shard; 0 if it was never owned."""
        epoch = self._epochs.get(shard)
        if epoch is None:
            found = self._connection.execute(self._queries["epoch_of_shard"], {"shard": shard}).fetchone()
            epoch = self._epochs[shard] = found[0] if found else 0
        return epoch

    def _error(self, lease: Lease) -> StaleOwner:
        return StaleOwner(
            f"epoch {lease.epoch} of shard {lease.shard} is over, the shard is at {self._epoch(lease.shard)}; "
            "nothing was recorded",
            remedy="Nothing is to be done: whoever owns the shard goes on from what is recorded",
            shard=lease.shard,
            epoch=lease.epoch,
            current=self._epoch(lease.shard),
        )
