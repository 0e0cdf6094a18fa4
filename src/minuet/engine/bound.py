"""Every bound of the engine in one table, with its unit and its reason."""

from __future__ import annotations

from typing import Final

from minuet.contracts.action import RetryPolicy

FACTS_PER_RUN: Final = 10_000
"""Facts of one run: it must fit in memory; larger work is several runs."""

RUNS_IN_MEMORY: Final = 10_000
"""Runs whose facts are held in memory; the others wait in the store."""

RETRY: Final = RetryPolicy()
"""Default of every step: 10 attempts in about 8½ minutes cover a restart and a failover."""

STUCK_AFTER: Final = 10
"""Failed attempts after which a compensation that is tried for ever is shown as stuck."""

ATTEMPT_TIMEOUT_MS: Final = 30_000
"""Run time of one attempt: an action is a local transaction; long work says so."""

KEEP_EARLY_EVENT_MS: Final = 24 * 3_600_000
"""How long an event is kept that nobody waits for yet; then it is parked, never dropped."""

RETENTION_MS: Final = 30 * 24 * 3_600_000
"""How long an ended run is kept: a month of questions."""

LEASE_MS: Final = 10_000
"""How long an owner of shards may be silent before others take them: long enough for a pause, short enough to wait."""

ERROR_CHARS: Final = 4_000
"""What is kept of the text of an error: enough for a person; the log has the rest."""

EVENT_RETENTION_MS: Final = 7 * 24 * 3_600_000
"""How long a published event is kept: longer than a weekend's outage; a new subscriber can begin that far back."""

HOPS: Final = 64
"""Reactions that have caused one another: as many in a row are a circle."""

DELIVERIES_IN_MEMORY: Final = 512
"""Events of one subscription in memory; the others wait in the store, so a slow subscriber costs no memory."""

KEYS_STALLED: Final = 10_000
"""Keys of one subscription that are held up at once: beyond that it reads no further, since something is wrong."""

ERRORS_KEPT: Final = 20
"""Failed attempts of an event that are kept with their errors, the last ones."""

INPUT_BYTES: Final = 1 << 20
"""An input, an event, a resolved result from outside."""

KEY_BYTES: Final = 256
"""A business key, and an event's key."""

POSITION_BYTES: Final = 96
"""A position, so that an operation key fits every broker's limit."""
