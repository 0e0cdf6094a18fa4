"""Each guard is broken, and the simulated worlds have to see it; in the same worlds the whole product passes."""

from __future__ import annotations

from contextlib import nullcontext, suppress
from dataclasses import replace
from functools import cache

import pytest

from minuet.stores.sqlite.leases import Fence
from tests.simulation import broken
from tests.simulation.sabotage import SEEDS_MAX, SWITCHES, Found, Switch, find, perform

each_switch = pytest.mark.parametrize("switch", SWITCHES, ids=lambda switch: switch.name)
second_line = [switch for switch in SWITCHES if switch.first]


@cache
def found(switch: Switch) -> Found | None:
    return find(switch)


@each_switch
def test_a_broken_guard_is_seen_within_its_number_of_seeds(switch: Switch) -> None:
    assert found(switch) is not None, (
        f"{switch.name} was not seen in {switch.within} worlds: the suite has become weaker"
    )


@each_switch
def test_in_the_same_worlds_the_whole_product_passes(switch: Switch) -> None:
    there = found(switch)
    assert there is not None
    assert {seed: v for seed in there.seeds if (v := perform(switch, seed, ()).violations)} == {}


@pytest.mark.parametrize("switch", second_line, ids=lambda switch: switch.name)
def test_a_second_guard_still_holds_where_only_the_first_is_broken(switch: Switch) -> None:
    there = found(switch)
    assert there is not None
    first_alone = replace(switch, break_=nullcontext)
    assert find(first_alone, there.seeds.start, len(there.seeds)) is None


def test_nothing_is_found_where_nothing_is_broken() -> None:
    nothing = replace(SWITCHES[0], break_=nullcontext, seen="")
    assert find(nothing, most=3) is None


def test_a_guard_is_whole_again_afterwards_whatever_happened() -> None:
    whole = Fence._is_lost
    with suppress(ZeroDivisionError), broken.no_fence():
        assert Fence._is_lost is not whole
        _ = 1 / 0
    assert Fence._is_lost is whole


def test_every_guard_that_can_be_broken_is_tried() -> None:
    assert set(broken.ALL) == {guard for switch in SWITCHES for guard in (switch.break_, *switch.first)}


def test_no_switch_may_take_more_seeds_than_the_build_looks_at() -> None:
    assert all(switch.within <= SEEDS_MAX for switch in SWITCHES)
