"""What retention removes, within a transaction on the connection that writes."""

from __future__ import annotations

import json
import sqlite3
from collections.abc import Mapping, Sequence

# What a run's end removes, the run last.
_FORGOTTEN = (
    "forget_carried",
    "forget_facts",
    "forget_attempts",
    "forget_timers",
    "forget_waits",
    "forget_inbox",
    "forget_runs",
)


def forget_runs(connection: sqlite3.Connection, queries: Mapping[str, str], runs: Sequence[int]) -> int:
    """Remove runs that have ended, with all their rows; give how many there were.

    What has ended stays ended: nothing can have happened to them since they were listed.
    """
    ids = {"runs": json.dumps(list(runs))}
    return [connection.execute(queries[query], ids).rowcount for query in _FORGOTTEN][-1]


def forget_events(connection: sqlite3.Connection, queries: Mapping[str, str], until_entry: int, limit: int) -> int:
    """Remove events that every active subscription has passed and no delivery needs; give how many there were."""
    which = {"until": until_entry, "limit": limit}
    connection.execute(queries["forget_discarded"], which)
    return connection.execute(queries["forget_events"], which).rowcount
