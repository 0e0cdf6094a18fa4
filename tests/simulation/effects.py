"""What took effect in a simulated world: in the services' own tables, and at the bank."""

from __future__ import annotations

from collections import Counter

from minuet.testing.simulation.world import World


def written(world: World) -> Counter[str]:
    """Count what transactional actions have written, by operation key."""
    effects = Counter[str]()
    for database in world.databases.values():
        if database.query("select 1 from sqlite_schema where name = 'effect'"):
            effects.update(dict(database.query("select op_key, count(*) from effect group by op_key")))
    return effects


def done_twice(world: World) -> list[str]:
    """Say what took effect more than once."""
    wrong = [f"I1: {op} was written {n} times" for op, n in sorted(written(world).items()) if n > 1]
    calls = Counter(kind for kind, _ in {(e.kind, e.key) for e in world.outside("bank").effects})
    return wrong + [f"I1: {kind} took effect at the bank {n} times" for kind, n in sorted(calls.items()) if n > 1]
