"""What one participant evaluates, hears and tells: from the plan alone."""

from __future__ import annotations

import re

from minuet.observe.projection import participants, projection_of, projection_text

from .classical import ends_in_choreography, parallel, planned
from .everything import everything


def test_a_choreographed_service_hears_what_wakes_it_and_tells_who_needs_it() -> None:
    text = projection_text(projection_of(planned(parallel, "choreography"), "payments"))
    without_values = [re.sub(", with .*", "", row) for row in text.splitlines()]
    assert list(dict.fromkeys(without_values)) == [
        "parallel@01234567 as payments performs it: 2 rules",
        "2a  runs payments.charge(order=opened)",
        "      hears  1 ok from orders",
        "      tells  2a ok to inventory, shipping",
        "      tells  2a rejected:no|cancelled to home, inventory, orders",
        "2a  compensates with payments.refund(its own result)",
        "      hears  2a ok from itself",
        "      hears  2b ok from inventory",
        "      hears  2b rejected:cancelled|no from inventory",
        "      hears  3 rejected:cancelled|no from shipping",
        "      tells  2a compensated to home, orders",
    ]
    assert "hears  1 ok from orders, with opened\n" in text


def test_a_commanded_service_evaluates_nothing_and_answers_whoever_commands() -> None:
    projection = projection_of(planned(parallel, "orchestration"), "payments")
    assert {r.commanded_by for r in projection.rules} == {"orchestrator"}
    assert all(not r.hears for r in projection.rules)
    assert "held" not in projection_text(projection)  # it knows its arguments, and nothing else
    assert "cancelled" not in projection_text(projection)  # whoever commands it says that itself
    assert {t.receivers for r in projection.rules for t in r.tells if t.label == "ok"} == {("orchestrator",)}


def test_an_orchestrator_commands_each_step_and_hears_each_answer() -> None:
    text = projection_text(projection_of(planned(parallel, "orchestration"), "orchestrator"))
    assert "commands payments to run payments.charge(order=opened)" in text
    assert "hears  2a ok from payments" in text
    assert "ends the run: completed, result=result of 3" in text


def test_each_participant_of_a_hybrid_has_its_part() -> None:
    plan = planned(ends_in_choreography, "orchestration")
    assert participants(plan) == ["orchestrator", "orders", "payments", "inventory", "shipping"]
    text = projection_text(projection_of(plan, "inventory"))
    assert "hears  3 open from orchestrator" in text
    assert projection_of(plan, "orders").rules[0].commanded_by == "orchestrator"


def test_values_that_travel_are_named_as_in_the_text() -> None:
    plan = planned(everything, "choreography")
    told = projection_of(plan, "payments").rules[0].tells[0].values
    assert {"order_id", "input.total"} <= set(told)
    for who in participants(plan):
        assert projection_text(projection_of(plan, who)).startswith("everything@01234567 as ")
