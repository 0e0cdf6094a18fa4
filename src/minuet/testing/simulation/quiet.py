"""When nothing happens in a simulated world before time has passed, and when the next thing is due.

Such time is skipped: whoever looks every few seconds of a fortnight for what is due would find nothing.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from minuet.testing.simulation.settled import under_way

if TYPE_CHECKING:
    from minuet.testing.simulation.world import World

_DUE = """
    select min(due) from (
        select min(due_at_ms) as due from minuet_timer
        union all select min(next_at_ms) from minuet_attempt where state = 'waiting'
        union all select min(next_at_ms) from minuet_delivery where state = 'waiting'
    )
"""
_REPEATED = """
    select 1 from minuet_attempt a join minuet_run r on r.run = a.run
    where a.state in ('waiting', 'running') and r.state not in ('stuck', 'quarantined') limit 1
"""
_MEETING = """
    select 1 from minuet_inbox i join minuet_wait w on w.event = i.event and w.key = i.key
    where i.state = 'kept' limit 1
"""
_OVERDUE = "select 1 from minuet_timer where due_at_ms <= ? limit 1"


def is_quiet(world: World) -> bool:
    """Say whether nothing happens any more before somebody acts or a timer is due; nor is any attempt repeated."""
    if under_way(world):
        return False
    now_ms = world.wall_ms
    return not any(
        database.query(_REPEATED) or database.query(_MEETING) or database.query(_OVERDUE, now_ms)
        for database in world.databases.values()
    )


def next_due_ms(world: World) -> int | None:
    """Give the instant at which something becomes due by itself; None if nothing does."""
    found = [due for database in world.databases.values() for (due,) in database.query(_DUE) if due is not None]
    return min(found, default=None)
