"""Publish and subscribe in simulated worlds: nothing is lost, nothing is applied twice, order is kept."""

from __future__ import annotations

import pytest

from minuet.testing.simulation.faults import Faults
from minuet.testing.simulation.world import Verdict
from tests.simulation import reactions
from tests.simulation.reactions import ReactionWorkload, perform

SEEDS = 40


def told(verdict: Verdict) -> str:
    """Say what was wrong, and how it is repeated."""
    how = f"python -m tests.simulation.reactions --first {verdict.seed} --seeds 1 --story"
    return "\n".join([f"seed {verdict.seed} ({verdict.layout})", *verdict.violations[:8], f"again: {how}"])


def test_without_faults_every_event_comes_to_what_it_should() -> None:
    for seed in range(4):
        verdict, _ = perform(seed, Faults())
        assert verdict.violations == [], told(verdict)


@pytest.mark.parametrize("first", range(0, SEEDS, 10))
def test_whatever_goes_wrong_every_event_comes_to_what_it_should(first: int) -> None:
    for seed in range(first, first + 10):
        verdict, _ = perform(seed)
        assert verdict.violations == [], told(verdict)


def test_a_world_is_the_same_each_time() -> None:
    (first, _), (second, _) = perform(7), perform(7)
    assert first.trace == second.trace


def test_a_reaction_that_loses_events_is_seen(monkeypatch: pytest.MonkeyPatch) -> None:
    async def nothing(*_: object, **__: object) -> None: ...

    monkeypatch.setattr(ReactionWorkload, "write", nothing)
    verdict, _ = perform(0, Faults())
    assert any(v.startswith(("E1:", "E4:")) for v in verdict.violations)


def test_an_order_that_is_not_kept_is_seen(monkeypatch: pytest.MonkeyPatch) -> None:
    applied = reactions._applied
    monkeypatch.setattr(reactions, "_applied", lambda world: {k: v[::-1] for k, v in applied(world).items()})
    assert any(v.startswith("I10:") for seed in range(3) for v in perform(seed, Faults())[0].violations)
