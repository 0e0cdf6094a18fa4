"""Rows that a run cannot have are refused, whatever they say."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import pytest

from minuet.engine.damage import check
from minuet.engine.port import StoredRun
from minuet.engine.row import AttemptRow, FactRow, RunRow, TimerRow, WaitRow
from minuet.errors import StoreDamaged
from tests.unit.engine.made import deadline, loop, program, sleep, step, wait

PROGRAM = program(
    step("1", timeout_ms=1_000), loop("2", 3, step("2.1")), wait("3"), deadline("4", step("4.1")), sleep("5")
)
RUN = RunRow(7, "made", "d", None, '{"x": 1}', "running", 0, 0, 0, None, None, 0, None)
FACTS = [
    FactRow(7, "1", "", 0, "ok", "1", 1, 0),
    FactRow(7, "2.1", "0", 0, "ok", None, 2, 0),
    FactRow(7, "2.1", "1", 0, "ok", None, 3, 0),
]
ATTEMPT = AttemptRow(7, "2.1", "2", "forward", "waiting", 1, 0, 0, 0, "down")
TIMER = TimerRow(7, "4", "", "deadline", 5)
WAIT = WaitRow("e", "k", 7, "3", "", 0)
GOOD = StoredRun(run=RUN, facts=FACTS, attempts=[ATTEMPT], timers=[TIMER], waits=[WAIT])


def test_rows_of_every_kind_at_their_places_are_fine() -> None:
    check(PROGRAM, GOOD)
    undone = ATTEMPT._replace(position="1", round="", direction="compensation", state="parked")
    timers = [TIMER._replace(position=p, purpose=what) for p, what in (("1", "timeout"), ("5", "sleep"), ("3", "wait"))]
    check(PROGRAM, replace(GOOD, attempts=[undone], timers=timers))


@pytest.mark.parametrize(
    "fact",
    [
        {"position": "9"},
        {"label": "perhaps"},
        {"label": "rejected:nobody-said-so"},
        {"round": ""},
        {"round": "0.0"},
        {"round": "x"},
        {"round": "-1"},
        {"round": "01"},
        {"round": " 1"},
        {"seq": 4},
        {"seq": 2},
        {"value": "{"},
        {"value": "NaN"},
    ],
)
def test_a_fact_that_this_run_cannot_have_recorded_is_refused(fact: dict[str, Any]) -> None:
    with pytest.raises(StoreDamaged, match=r"fact \d"):
        check(PROGRAM, replace(GOOD, facts=[*FACTS[:2], FACTS[2]._replace(**fact)]))


@pytest.mark.parametrize(
    "attempt", [{"position": "3"}, {"round": ""}, {"round": "x"}, {"direction": "back"}, {"state": "dancing"}]
)
def test_an_attempt_at_no_place_of_the_plan_is_refused(attempt: dict[str, Any]) -> None:
    with pytest.raises(StoreDamaged, match="an attempt at a place"):
        check(PROGRAM, replace(GOOD, attempts=[ATTEMPT._replace(**attempt)]))


@pytest.mark.parametrize("timer", [{"position": "1"}, {"purpose": "fun"}, {"round": "0"}, {"round": "x"}])
def test_a_timer_at_no_place_of_the_plan_is_refused(timer: dict[str, Any]) -> None:
    with pytest.raises(StoreDamaged, match="a timer at a place"):
        check(PROGRAM, replace(GOOD, timers=[TIMER._replace(**timer)]))


@pytest.mark.parametrize("wait_", [{"position": "1"}, {"event": "bell.rung"}, {"round": "0"}, {"round": "x"}])
def test_a_wait_at_no_place_of_the_plan_is_refused(wait_: dict[str, Any]) -> None:
    with pytest.raises(StoreDamaged, match="a wait at a place"):
        check(PROGRAM, replace(GOOD, waits=[WAIT._replace(**wait_)]))


@pytest.mark.parametrize("run", [{"state": "dancing"}, {"state": ""}, {"input": '{"x":'}])
def test_a_run_in_no_state_or_with_an_input_that_is_no_json_is_refused(run: dict[str, Any]) -> None:
    with pytest.raises(StoreDamaged, match=r"state|input"):
        check(PROGRAM, replace(GOOD, run=RUN._replace(**run)))
