"""How long things usually take: from when a rule became true, of a bounded number of outcomes, and when it is late."""

from __future__ import annotations

import pytest

from minuet import Service, action, workflow
from minuet.observe.traced import TracedFact, TracedRun
from minuet.observe.usual import (
    FACTS,
    PLACES,
    RUN_SAMPLE,
    SAMPLE,
    Place,
    Took,
    Usual,
    Usuals,
    expected_ms,
    took,
    usual_of,
)
from minuet.plans.placement import Placement
from minuet.plans.plan import make_plan
from tests.unit.observe.classical import BEGUN, line, parallel

HOUR, MINUTE, SECOND = 3_600_000, 60_000, 1_000


class Counter(Service):
    @action
    async def count(self) -> int:
        return 1


@workflow
async def rounds(*, counter: Counter) -> None:
    for _ in range(1_000):
        await counter.count()


def run(*facts: tuple[str, str, int], state: str = "completed") -> TracedRun:
    """Give a run whose facts came so many milliseconds after it began."""
    return TracedRun(
        run="r",
        key="r",
        state=state,
        started_at_ms=BEGUN,
        facts=[TracedFact(position=p, label=label, at_ms=BEGUN + ms) for p, label, ms in facts],
    )


WELL = (("1", "ok", 5), ("2b", "ok", 25), ("2a", "ok", 105), ("3", "ok", 112))


def test_a_step_takes_from_its_last_cause_to_its_outcome_also_beside_others() -> None:
    found = {t.place.what: t.took_ms for t in took(make_plan(parallel.tree), run(*WELL))}
    assert found == {"orders.open": 5, "payments.charge": 100, "inventory.reserve": 20, "shipping.ship": 7}


def test_a_place_is_the_same_in_every_style_and_digest() -> None:
    orchestrated = make_plan(parallel.tree)
    choreographed = make_plan(parallel.tree, Placement(root="choreography"))
    assert orchestrated.digest != choreographed.digest
    assert took(orchestrated, run(*WELL)) == took(choreographed, run(*WELL))


def test_what_takes_a_step_back_is_a_place_of_its_own() -> None:
    facts = (("1", "ok", 5), ("2", "rejected:no", 45), ("1", "compensated", 48))
    found = {t.place.what: t.took_ms for t in took(make_plan(line.tree), run(*facts, state="compensated"))}
    assert found == {"orders.open": 5, "payments.charge": 40, "orders.cancel": 3}


@pytest.mark.parametrize("label", ["rejected:cancelled", "rejected:timeout", "rejected:deadline@1"])
def test_what_was_called_off_says_nothing_about_a_service(label: str) -> None:
    found = took(make_plan(line.tree), run(("1", "ok", 5), ("2", label, 45), state="running"))
    assert [t.place.what for t in found] == ["orders.open"]


def test_facts_that_were_learnt_from_are_not_counted_once_more() -> None:
    found = took(make_plan(parallel.tree), run(*WELL), after=2)
    assert [(t.place.what, t.took_ms) for t in found] == [("payments.charge", 100), ("shipping.ship", 7)]


def test_a_clock_that_was_put_back_gives_no_negative_time() -> None:
    found = took(make_plan(line.tree), run(("1", "ok", 50), ("2", "ok", 20)))
    assert [t.took_ms for t in found] == [50, 0]


def test_median_and_percentile_are_of_the_nearest_rank() -> None:
    assert usual_of([7]) == Usual(7, 7, 1)
    assert usual_of([3, 1]) == Usual(1, 3, 2)
    assert usual_of(range(1, 101)) == Usual(50, 95, 100)
    assert usual_of(range(1, 21)) == Usual(10, 19, 20)


def test_only_the_newest_outcomes_of_a_place_are_kept() -> None:
    usuals, place = Usuals(), Place("w", "1", "a.b")
    usuals.learn(Took(place, 1_000) for _ in range(SAMPLE))
    assert usuals.of(place) == Usual(1_000, 1_000, SAMPLE)
    usuals.learn(Took(place, 1) for _ in range(SAMPLE))
    assert usuals.of(place) == Usual(1, 1, SAMPLE)


def test_places_are_bounded_and_the_one_learnt_of_longest_ago_goes_first() -> None:
    usuals = Usuals()
    places = [Place("w", str(n), "a.b") for n in range(PLACES)]
    usuals.learn(Took(place, 1) for place in places)
    usuals.learn([Took(places[0], 1), Took(Place("w", "new", "a.b"), 1)])
    assert usuals.of(places[0]) is not None
    assert usuals.of(places[1]) is None


def test_one_run_of_many_rounds_is_not_all_that_is_known_and_is_read_in_part() -> None:
    plan = make_plan(rounds.tree)
    facts = [TracedFact(position="1.1", round=str(n), label="ok", at_ms=BEGUN + n) for n in range(FACTS * 2)]
    found = took(plan, TracedRun(run="r", key="r", state="running", started_at_ms=BEGUN, facts=facts))
    assert len(found) == RUN_SAMPLE


@pytest.mark.parametrize(
    ("usual", "until_ms", "expected"),
    [
        (None, None, HOUR),
        (None, 14 * 24 * HOUR, 14 * 24 * HOUR + 10 * SECOND),
        (Usual(40, 90, 200), None, 30 * SECOND),
        (Usual(40, 9 * SECOND, 200), None, 90 * SECOND),
        (Usual(40, 9 * SECOND, 200), MINUTE, 70 * SECOND),
        (Usual(40, 9 * SECOND, 200), HOUR, 90 * SECOND),
    ],
)
def test_something_is_late_beyond_what_is_usual_or_beyond_its_own_limit(
    usual: Usual | None, until_ms: int | None, expected: int
) -> None:
    assert expected_ms(usual, BEGUN, None if until_ms is None else BEGUN + until_ms) == BEGUN + expected


def test_a_timer_takes_as_long_as_it_says() -> None:
    assert expected_ms(Usual(1, 1, 200), BEGUN, BEGUN + HOUR, is_timer=True) == BEGUN + HOUR + 10 * SECOND
