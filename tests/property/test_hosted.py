"""Real participants over real stores come to what the interpreter says; and whoever breaks a guard is found out."""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Callable
from typing import Any

import pytest

from minuet.engine import decide, message
from minuet.engine.broker import Received
from minuet.engine.row import Decision, SentKey
from minuet.errors import BrokerUnavailable
from minuet.runtime import exchange, relay
from minuet.runtime.exchange import Exchange
from minuet.runtime.remote import Remote
from tests.property import batch
from tests.property.batch import How
from tests.property.hosted import check, perform, performances
from tests.property.mutant import mutant

WORKFLOWS = 3  # of one batch, each performed 20 times


@pytest.mark.parametrize("seed", range(10))
def test_random_workflows_come_to_the_same_by_real_participants_in_every_style(seed: int) -> None:
    counts, differences = perform(seed, WORKFLOWS)
    assert not differences
    assert counts["performances"] == WORKFLOWS * 20


# Guards. Each is broken once, and somebody has to notice.

Break = Callable[[pytest.MonkeyPatch], None]


def nothing_is_carried(patch: pytest.MonkeyPatch) -> None:
    patch.setattr(message, "carried", lambda *_: {})


def rounds_are_forgotten(patch: pytest.MonkeyPatch) -> None:
    def understood(*given: Any) -> Any:
        round_, value, carry = message.understood(*given)
        return tuple(0 for _ in round_), value, carry

    patch.setattr(exchange, "understood", understood)


def what_is_heard_twice_is_taken_twice(patch: pytest.MonkeyPatch) -> None:
    sound = "if slot != Slot.OUTCOME and (position, round_, slot) in k.marks:"
    patch.setattr(exchange, "decide", mutant(decide, sound, "if False:"))


def what_is_early_is_dropped(patch: pytest.MonkeyPatch) -> None:
    patch.setattr(Exchange, "_keep", lambda self, received, *_: self._acknowledge(received))


def messages_are_acknowledged_before_they_are_durable(patch: pytest.MonkeyPatch) -> None:
    deliver = Exchange._deliver

    def acknowledged(self: Exchange, received: list[Received]) -> None:
        assert self._subscription is not None
        self._subscription.acknowledge([r.tag for r in received])
        deliver(self, received)

    patch.setattr(Exchange, "_deliver", acknowledged)
    patch.setattr(batch, "CRASH_WITHIN", 60)


def what_was_given_up_runs_when_its_command_comes(patch: pytest.MonkeyPatch) -> None:
    sound = (
        "elif action is None and (position, round_) not in k.outcomes:\n        k.tombstones.add((position, round_))"
    )
    patch.setattr(
        exchange, "decide", mutant(decide, sound, sound.replace("k.tombstones.add((position, round_))", "pass"))
    )


def messages_are_forgotten_before_the_broker_has_them(patch: pytest.MonkeyPatch) -> None:
    publish = relay.Relay._publish

    async def forgotten(self: relay.Relay, rows: Any) -> None:
        try:
            await publish(self, rows)
        except BrokerUnavailable:
            decision = Decision()
            decision.ensure_messages().sent = [SentKey(row.message) for row in rows]
            self._participant.store.submit(decision)

    patch.setattr(relay.Relay, "_publish", forgotten)


def nobody_asks_whether_runs_are_over(patch: pytest.MonkeyPatch) -> None:
    patch.setattr(Remote, "open", lambda self: None)


GUARDS: list[tuple[Break, How]] = [
    (nothing_is_carried, How(seed=0)),
    (rounds_are_forgotten, How(seed=0)),
    (what_is_heard_twice_is_taken_twice, How(seed=0)),
    (what_is_early_is_dropped, How(seed=0, late_plans=True)),
    (messages_are_acknowledged_before_they_are_durable, How(seed=0, crashes=12)),
    (what_was_given_up_runs_when_its_command_comes, How(seed=0)),
    (messages_are_forgotten_before_the_broker_has_them, How(seed=0)),
    (nobody_asks_whether_runs_are_over, How(seed=0)),
]


@pytest.mark.parametrize(("guard", "how"), GUARDS, ids=[guard.__name__ for guard, _ in GUARDS])
def test_a_broken_guard_is_found(guard: Break, how: How, monkeypatch: pytest.MonkeyPatch) -> None:
    guard(monkeypatch)
    monkeypatch.setattr(logging.getLogger("minuet"), "disabled", True)
    for first in range(0, 40, 5):
        given = [p for seed in range(first, first + 5) for p in performances(seed)]
        _, differences = asyncio.run(check(how, given))
        if differences:
            return
    raise AssertionError("nobody has noticed")
