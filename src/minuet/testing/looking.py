"""Looking into a simulated world from outside of it, at once: its runs and its events."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import replace

import msgspec

from minuet.engine.port import StoredRun
from minuet.engine.program import Program
from minuet.engine.row import ENDED, FactRow, RunRow, RunState
from minuet.runtime import describe
from minuet.runtime.observer_order import in_order
from minuet.runtime.view import RunView
from minuet.testing.simulation.world import World

PARKED = frozenset({RunState.STUCK, RunState.QUARANTINED})

_PUBLISHED = """
    select source, message, event, version, key, body from minuet_outbox order by at_ms, entry
"""


class Published(msgspec.Struct, frozen=True, kw_only=True):
    """A published event: its type's name and version, its key, and its data as JSON gives them."""

    event: str
    version: int
    key: str
    data: object


def stored_run(world: World, run: int) -> StoredRun | None:
    """Give a run as it is stored, with the facts of all stores, each once, in the order in which they came about."""
    found = {
        name: stored
        for name, database in world.databases.items()
        for stored in database.all_runs()
        if stored.run.run == run
    }
    if "home" not in found:
        return None
    home = found["home"]
    if len(found) == 1:
        return home
    return replace(
        home,
        run=_state(home.run, [s.run for s in found.values()]),
        facts=_told_once(world, home.run.digest, [f for s in found.values() for f in s.facts]),
        attempts=[a for s in found.values() for a in s.attempts],
    )


def view_of(world: World, run: int, now_ms: int) -> RunView | None:
    """Give all that there is to be told of a run, wherever it is recorded."""
    stored = stored_run(world, run)
    if stored is None:
        return None
    return describe.stored(stored, _program(world, stored.run.digest), None, now_ms, facts=True)


def published(world: World) -> list[Published]:
    """Give all events of a world in their order, each once, however many stores have it."""
    found: dict[tuple[str, str], Published] = {}
    for database in world.databases.values():
        for source, message, event, version, key, body in database.query(_PUBLISHED):
            found.setdefault(
                (source, message), Published(event=event, version=version, key=key, data=msgspec.json.decode(body))
            )
    return list(found.values())


def _state(home: RunRow, rows: Iterable[RunRow]) -> RunRow:
    """Give the run's row with the state of whoever has parked it, where it has not ended at home."""
    if home.state in ENDED:
        return home
    parked = next((row for row in rows if row.state in PARKED), None)
    return home._replace(home=None) if parked is None else parked._replace(home=None, key=home.key)


def _told_once(world: World, digest: str, facts: Iterable[FactRow]) -> list[FactRow]:
    found: dict[tuple[str, str, str], FactRow] = {}
    for f in sorted(facts, key=lambda f: f.at_ms):
        found.setdefault((f.position, f.round, f.label), f)
    program = _program(world, digest)
    return in_order(program, found.values()) if program is not None else list(found.values())


def _program(world: World, digest: str) -> Program | None:
    plan = next((p for p in world.plans(world.app).values() if p.digest == digest), None)
    return Program(plan) if plan is not None else None
