"""What is still going on in a simulated world: when the list is empty, everything has come to its end."""

from __future__ import annotations

from typing import TYPE_CHECKING

from minuet.ids import run_text

if TYPE_CHECKING:
    from minuet.testing.simulation.world import World

# Each shows a few of what it finds.
_UNENDED = "select run, state from minuet_run where state in ('running', 'compensating') order by run limit 20"
_PARKED = "select run from minuet_run where state in ('stuck', 'quarantined')"
_BUSY = """
    select run, state from minuet_run where load = 1 and paused = 0 and state not in ('stuck', 'quarantined')
    order by run limit 5
"""
_UNSENT = "select message from minuet_sending where confirmed_at_ms is null order by entry limit 5"
_PASSED = "select message from minuet_passed where answer is null order by message limit 5"
_EARLY = "select message from minuet_early where digest in (select digest from minuet_plan) order by arrival limit 5"
_DELIVERIES = """
    select subscription, entry, state from minuet_delivery where state in ('waiting', 'running')
    order by subscription, entry limit 5
"""
_UNHEARD = """
    select s.name, min(e.entry) from minuet_subscription s join minuet_outbox e on e.event in (s.event, s.also)
    where s.active = 1 and e.entry > s.position and e.entry > s.began
      and not exists (select 1 from minuet_applied a where a.subscription = s.subscription and a.entry = e.entry)
      and not exists (select 1 from minuet_delivery d where d.subscription = s.subscription and d.entry = e.entry)
    group by s.name
"""


def unsettled(world: World) -> list[str]:
    """Say what is not at its end yet: a run, a message, an event that a reaction has not heard, a process that is down.

    A run that is parked, wherever it is, waits for a person, and is at its end as far as this goes.
    """
    parked = {run for database in world.databases.values() for (run,) in database.query(_PARKED)}
    found = world.databases["home"].query(_UNENDED)
    unended = [f"home: run {run_text(run)} is {state}" for run, state in found if run not in parked]
    return list(dict.fromkeys([*unended, *under_way(world)]))


def under_way(world: World) -> list[str]:
    """Say what goes on by itself: as `unsettled`, without the runs that wait for time to pass, or for an event."""
    left = [f"{m.name} is not up" for m in world.members if not m.is_up]
    for name, database in world.databases.items():
        left += [f"{name}: run {run_text(run)} is {state}" for run, state in database.query(_BUSY)]
        left += [f"{name}: {message} is not sent" for (message,) in database.query(_UNSENT)]
        left += [f"{name}: {message} is not taken by its owner" for (message,) in database.query(_PASSED)]
        left += [f"{name}: {message} is still kept as early" for (message,) in database.query(_EARLY)]
        left += [f"{name}: delivery {s}/{e} is {state}" for s, e, state in database.query(_DELIVERIES)]
        left += [f"{name}: {subscription} has not heard {e}" for subscription, e in database.query(_UNHEARD)]
    if world.broker is not None and world.broker.is_busy:
        left.append("messages are under way")
    return left
