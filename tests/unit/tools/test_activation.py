"""Who knows a plan, as the command line shows it."""

from __future__ import annotations

from minuet.runtime.view import ActivationView, PlanView
from minuet.tools.cli.activation import known_by


def plan(*participants: ActivationView) -> PlanView:
    return PlanView(
        workflow="w", digest="d", style="", current=True, open_runs=0, created_at_ms=0, participants=list(participants)
    )


def asked(name: str, acknowledged_at_ms: int | None, refused: str = "") -> ActivationView:
    return ActivationView(participant=name, asked_at_ms=1, acknowledged_at_ms=acknowledged_at_ms, refused=refused)


def test_a_plan_of_one_store_is_known_by_whoever_has_it() -> None:
    assert known_by(plan()) == "-"


def test_who_has_not_acknowledged_a_plan_is_named_with_what_they_say() -> None:
    assert known_by(plan(asked("bell", 2), asked("choir", 3))) == "2 of 2"
    shown = known_by(plan(asked("bell", 2), asked("choir", None), asked("organ", None, "no hum")))
    assert shown == "1 of 3, not choir; organ refuses: no hum"
