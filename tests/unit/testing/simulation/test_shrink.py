"""Failures in simulated worlds are made as small as what they need."""

from __future__ import annotations

import pytest

from minuet.testing.simulation.shrink import shrink
from minuet.testing.simulation.trial import kind_of, only_text, parse_only
from minuet.testing.simulation.world import World
from tests.unit.testing.simulation.small import Striking, trial


def names(scenario: Striking, *wanted: tuple[str, int]) -> tuple[str, ...]:
    """Give the names of the n-th faults of these kinds that strike in the world that is not shrunk."""
    struck = trial(Striking(needed=("nothing",))).perform().struck
    found = tuple([name for name in struck if name.startswith(kind)][n] for kind, n in wanted)
    scenario.needed = found
    return found


@pytest.mark.parametrize("wanted", [(("red", 2),), (("red", 1), ("blue", 4)), (("red", 0), ("red", 5), ("green", 3))])
def test_what_is_left_is_what_the_failure_needs(wanted: tuple[tuple[str, int], ...]) -> None:
    scenario = Striking(needed=())
    needed = names(scenario, *wanted)
    first = trial(scenario).perform()
    small = shrink(lambda: trial(scenario), first)
    assert len(first.struck) > 15
    assert set(small.only) == set(needed) == set(small.verdict.struck)
    assert small.tried < 60
    assert trial(scenario).perform(small.only).violations


def test_a_failure_that_needs_no_fault_is_left_with_none() -> None:
    scenario = Striking(needed=())
    small = shrink(lambda: trial(scenario), trial(scenario).perform())
    assert small.only == ()
    assert not small.verdict.struck


def test_the_order_of_processes_stays_where_the_failure_needs_it() -> None:
    scenario = Striking(needed=(), with_order=True)
    names(scenario, ("green", 2))
    small = shrink(lambda: trial(scenario), trial(scenario).perform())
    assert set(small.only) == {"order", *scenario.needed}


def test_the_budget_of_worlds_and_of_steps_is_kept() -> None:
    scenario = Striking(needed=())
    names(scenario, ("red", 1), ("blue", 4))
    first = trial(scenario).perform()
    few = shrink(lambda: trial(scenario), first, worlds_max=3)
    assert few.tried == 3
    assert few.verdict.violations
    assert shrink(lambda: trial(scenario), first, steps_max=0).tried == 0


def test_another_failure_is_not_taken_for_this_one() -> None:
    class Other(Striking):
        async def __call__(self, world: World) -> None:
            await super().__call__(world)
            if self.needed[0] not in world.chance.struck:
                world.violations.append("I7: another one")

    scenario = Other(needed=())
    needed = names(scenario, ("red", 3))
    small = shrink(lambda: trial(scenario), trial(scenario).perform())
    assert small.only == needed
    assert small.verdict.violations[0].startswith("I4: ")


def test_violations_are_of_one_kind_by_their_invariant_or_their_text_without_numbers() -> None:
    assert kind_of("I4: run 36VPVAN7P0000: 3 is ok") == kind_of("I4: something else") == "I4"
    one = kind_of("does not end: home: run 36VPVAN7P0000 is running, at 3.5 s")
    assert one == kind_of("does not end: home: run 36VPZ6KFY0G02 is running, at 17 s")
    assert one != kind_of("does not end: home: run 36VPZ6KFY0G02 is compensating, at 17 s")


def test_what_has_to_go_wrong_can_be_written_and_read() -> None:
    for only in ((), ("order",), ("crash#2", "pause#1")):
        assert parse_only(only_text(only)) == only
    assert parse_only("") is None
