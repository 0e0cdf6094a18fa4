"""The effect ledger, as values: which key an effect has, what answers a second cause, what is recorded beside what."""

from __future__ import annotations

from typing import Any

import msgspec
import pytest

from minuet.contracts.action import RetryPolicy
from minuet.engine import bound, decide, inbox
from minuet.engine.answer import Done, DoneWith, Failed, Rejected
from minuet.engine.dead_letter import Reason
from minuet.engine.effect import (
    circle,
    entry_of,
    is_settled_by,
    key_of,
    parked,
    reaction_path,
    second_cause,
    step_of,
    step_path,
    was_second,
)
from minuet.engine.inbox import Delivery, Policy
from minuet.engine.row import EffectKey, EffectRow, EventRow
from minuet.errors import InvalidPayload
from minuet.ids import op_key, run_text
from tests.unit.engine.made import NOW, Run, plan, seq, step

ROW = EffectRow("s.do", "o-1", "here", "a path", '{"order":"o-1","amount":"3.50"}', '"receipt"', NOW)
POLICY = Policy(subscription=1, name="s.hear", event="e.happened", version=1, retry=RetryPolicy(attempts=3))
EVENT = EventRow(7, "/s", "m-7", "e.happened", 1, "o-1", "{}", 0, "", NOW, NOW)


@pytest.mark.parametrize(
    ("arguments", "path", "key"),
    [
        ({"order": "o-1"}, "order", "o-1"),
        ({"order": 17}, "order", "17"),
        ({"order": True}, "order", "true"),
        ({"order": {"id": "o-1", "of": {"customer": 3}}}, "order.of.customer", "3"),
    ],
)
def test_the_key_of_an_effect_is_a_value_of_its_arguments_as_text(arguments: Any, path: str, key: str) -> None:
    assert key_of(msgspec.json.encode(arguments), path.split(".")) == key


@pytest.mark.parametrize(
    "order", [None, {}, {"id": None}, {"id": ["o-1"]}, {"id": {}}, {"id": ""}, {"id": "x" * (bound.KEY_BYTES + 1)}]
)
def test_what_is_no_single_value_is_no_key(order: Any) -> None:
    with pytest.raises(InvalidPayload, match=r"order\.id"):
        key_of(msgspec.json.encode({"order": order}), ["order", "id"])


def test_a_repetition_is_answered_by_what_is_recorded_whatever_it_says() -> None:
    assert is_settled_by(ROW, "here", b"{}", same=False)


def test_another_cause_is_answered_only_where_the_same_is_asked_for_and_declared_to_be_the_same() -> None:
    equal, other = b'{"amount":"3.50","order":"o-1"}', b'{"order":"o-1","amount":"3.51"}'
    assert not is_settled_by(ROW, "there", equal, same=False)
    assert is_settled_by(ROW, "there", equal, same=True)
    assert not is_settled_by(ROW, "there", other, same=True)


def test_the_path_of_a_step_names_plan_place_run_and_key() -> None:
    made = plan(step("1"), step("2"))
    run = 1_700_000_000_000 << 21
    text = step_path(made, "2", (3,), run, "o-1")
    assert text == f"step 2 round '3' of {made.name} (shop.py:1), run {run_text(run)!r}, key 'o-1'"
    assert step_path(made, "9", (), run, None) == f"step 9 of {made.name}, run {run_text(run)!r}"


def test_a_second_cause_tells_both_paths_and_is_known_by_its_error() -> None:
    text = second_cause("s.do", "o-1", "THE FIRST", reaction_path("s.hear", "shop.py:7", EVENT))
    assert "by THE FIRST;" in text
    assert "again by the reaction s.hear (shop.py:7) to e.happened, key 'o-1', event 'm-7'" in text
    assert was_second(parked(text).error)
    assert not was_second("TimeoutError: second-cause: of something")
    assert not was_second(None)


def test_operation_keys_tell_what_has_caused_an_effect() -> None:
    run = 1_700_000_000_000 << 21
    of_step = op_key(run, "3.then.1", (2, 0), "forward")
    assert (step_of(of_step), entry_of(of_step)) == ((run, "3.then.1", (2, 0)), None)
    assert step_of(f"{op_key(run, '1', (), 'forward')}:ok") == (run, "1", ())
    assert (step_of("s.hear:17"), entry_of("s.hear:17")) == (None, 17)
    assert (step_of("s.hear:17:1"), entry_of("s.hear:17:1")) == (None, 17)
    for foreign in ("", "17", "a:b", "a:b:c:d:e", "order:17:x:y:z"):
        assert step_of(foreign) is None
        assert entry_of(foreign) is None


def test_the_shortest_circle_that_a_way_ends_in_is_shown() -> None:
    assert circle(["root", "a", "r", "b", "s", "a", "r", "b", "s", "a"]) == ["a", "r", "b", "s", "a"]
    assert circle(["a", "r", "a", "r", "a"]) == ["a", "r", "a"]
    assert circle([str(n) for n in range(20)]) == [str(n) for n in range(12, 20)]


# What is recorded


def test_an_effect_is_recorded_beside_its_fact_and_freed_beside_the_fact_that_it_is_compensated() -> None:
    run = Run(seq(step("1"), step("2", "no")))
    first = run.action("1")
    d = decide.answered(run.k, first, first.ticket, DoneWith(b'"receipt"', (ROW,)), NOW)
    assert d is not None
    assert [f.label for f in d.decision.facts] == ["ok"]
    assert d.decision.messages is not None
    assert d.decision.messages.effects == [ROW]
    second = d.actions[0]
    d = decide.answered(run.k, second, second.ticket, Rejected("no"), NOW)
    assert d is not None
    assert d.decision.messages is None, "a rejection records no effect"
    back, freed = d.actions[0], EffectKey("s.do", "o-1", "here")
    d = decide.answered(run.k, back, back.ticket, DoneWith(None, (freed,)), NOW)
    assert d is not None
    assert [f.label for f in d.decision.facts] == ["compensated"]
    assert d.decision.messages is not None
    assert d.decision.messages.effects_done == [freed]


def test_an_action_that_declares_nothing_says_nothing_of_effects() -> None:
    run = Run(step("1"))
    action = run.action("1")
    d = decide.answered(run.k, action, action.ticket, Done(b"1"), NOW)
    assert d is not None
    assert d.decision.messages is None


def test_a_second_cause_is_parked_whatever_its_policy_says_and_a_person_may_try_again() -> None:
    run = Run(step("1", retry=RetryPolicy(attempts=1, then="reject")))
    action = run.action("1")
    d = decide.answered(run.k, action, action.ticket, parked("both paths"), NOW)
    assert d is not None
    (row,) = list(d.decision.attempts)
    assert (row.state, row.error) == ("parked", "second-cause: both paths")
    assert run.k.state == "stuck"
    d = decide.retry_now(run.k, "1", NOW)
    assert d.actions == [action]


def test_an_event_that_would_be_a_second_cause_is_a_dead_letter_of_that_name() -> None:
    decision = inbox.answered(POLICY, Delivery(EVENT, 7), parked("both paths"), (), NOW)
    assert decision.messages is not None
    (row,) = list(decision.messages.deliveries)
    assert (row.state, row.reason) == ("dead", Reason.SECOND_CAUSE)
    assert inbox.errors_of(row) == [(NOW, "both paths")]


@pytest.mark.parametrize(
    "answer",
    [DoneWith(None, (ROW,)), Failed("down", effects=(ROW,)), Rejected("no", effects=(ROW,))],
    ids=["done", "failed", "rejected"],
)
def test_what_a_reaction_has_done_is_recorded_however_it_ends(answer: Any) -> None:
    decision = inbox.answered(POLICY, Delivery(EVENT, 7), answer, (), NOW)
    assert decision.messages is not None
    assert decision.messages.effects == [ROW]


def test_what_a_person_records_by_hand_may_tell_the_ledger() -> None:
    run = Run(step("1")).fails("1", "down")
    action = run.action("1")
    d = decide.resolve(run.k, "1", Done(b"1"), NOW, lambda a, given: DoneWith(b"1", (ROW,)) if a is action else given)
    assert d is not None
    assert d.decision.messages is not None
    assert d.decision.messages.effects == [ROW]
