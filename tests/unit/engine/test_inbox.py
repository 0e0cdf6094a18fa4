"""What follows an attempt to apply an event: values in, rows out."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import pytest

from minuet.contracts.action import RetryPolicy
from minuet.engine import bound, inbox
from minuet.engine.answer import Done, Failed, Rejected
from minuet.engine.dead_letter import Reason, fingerprint, letter_id, parse_letter
from minuet.engine.inbox import Delivery, Policy
from minuet.engine.row import Decision, DeliveryKey, DeliveryRow, EventRow

NOW = 1_700_000_000_000
POLICY = Policy(
    subscription=3, name="mail.tell", event="page.made", version=2, retry=RetryPolicy(attempts=3, first_ms=1_000)
)


def event(entry: int | None = 7, **other: Any) -> EventRow:
    row = EventRow(entry, "/catalogue", f"m-{entry}", "page.made", 2, "k", '{"k":"k","n":1}', 0, "", NOW, NOW)
    return row._replace(**other)


def delivery(**other: Any) -> Delivery:
    return Delivery(event(**other), 7)


def row_of(decision: Decision) -> DeliveryRow:
    assert decision.messages is not None
    (row,) = list(decision.messages.deliveries)
    return row


def test_an_applied_event_is_recorded_with_what_was_published_and_nothing_else() -> None:
    published = [event(None, message="next")]
    decision = inbox.answered(POLICY, delivery(), Done(None), published, NOW)
    messages = decision.messages
    assert messages is not None
    assert messages.applied == [DeliveryKey(3, 7)]
    assert messages.outbox == published
    assert not messages.deliveries
    assert not messages.deliveries_done


def test_a_failed_attempt_is_made_again_after_a_growing_while() -> None:
    first = row_of(inbox.answered(POLICY, delivery(), Failed("down"), (), NOW))
    assert (first.state, first.attempts) == ("waiting", 1)
    assert 500 <= first.next_at_ms - NOW <= 1_000
    second = row_of(inbox.answered(POLICY, Delivery(event(), 7, "", first), Failed("down"), (), NOW + 5_000))
    assert (second.state, second.attempts) == ("waiting", 2)
    assert 1_000 <= second.next_at_ms - NOW - 5_000 <= 2_000
    assert inbox.errors_of(second) == [(NOW, "down"), (NOW + 5_000, "down")]
    assert second.first_at_ms == NOW


def test_an_errors_own_delay_wins() -> None:
    row = row_of(inbox.answered(POLICY, delivery(), Failed("busy", retry_after_ms=42), (), NOW))
    assert row.next_at_ms == NOW + 42


def test_the_last_attempt_makes_a_dead_letter_with_all_attempts() -> None:
    row = None
    for attempt in range(3):
        tried = Delivery(event(), 7, "", row)
        row = row_of(inbox.answered(POLICY, tried, Failed(f"no {attempt}"), (), NOW + attempt))
    assert row is not None
    assert (row.state, row.reason, row.attempts) == ("dead", Reason.EXHAUSTED, 3)
    assert [text for _, text in inbox.errors_of(row)] == ["no 0", "no 1", "no 2"]
    assert row.next_at_ms == inbox.NEVER_MS


def test_what_no_repetition_mends_is_a_dead_letter_at_once() -> None:
    final = row_of(inbox.answered(POLICY, delivery(), Failed("declared wrongly", final=True), (), NOW))
    assert (final.state, final.reason) == ("dead", Reason.REFUSED)
    rejected = row_of(inbox.answered(POLICY, delivery(), Rejected("sold-out", "none left"), (), NOW))
    assert (rejected.state, rejected.reason) == ("dead", Reason.REFUSED)
    assert "sold-out: none left" in rejected.errors


def test_who_tries_for_ever_never_makes_a_dead_letter() -> None:
    forever = Policy(subscription=3, name="x.y", event="page.made", version=2, retry=RetryPolicy(attempts=0))
    row = None
    for _ in range(100):
        row = row_of(inbox.answered(forever, Delivery(event(), 7, "", row), Failed("down"), (), NOW))
    assert row is not None
    assert row.state == "waiting"
    assert len(inbox.errors_of(row)) == bound.ERRORS_KEPT


@pytest.mark.parametrize(
    ("other", "reason"),
    [
        ({"hops": bound.HOPS + 1}, Reason.HOP_LIMIT),
        ({"version": 3}, Reason.NEWER_VERSION),
        ({"time_ms": NOW - 8 * 86_400_000}, Reason.TOO_OLD),
    ],
)
def test_what_must_not_be_applied_is_known_before_anybody_looks_at_it(other: dict[str, Any], reason: Reason) -> None:
    found = inbox.objection(POLICY, delivery(**other))
    assert found is not None
    assert found[0] == reason


def test_what_is_at_the_limit_is_applied() -> None:
    assert inbox.objection(POLICY, delivery(hops=bound.HOPS)) is None
    assert inbox.objection(POLICY, delivery(version=1)) is None
    assert inbox.objection(POLICY, delivery(time_ms=NOW - 7 * 86_400_000)) is None


def test_what_waited_long_in_the_outbox_is_not_too_old() -> None:
    """The outbox knows what was applied: only what was old when it came cannot be recognised."""
    old = NOW - 30 * 86_400_000
    assert inbox.objection(POLICY, delivery(time_ms=old, at_ms=old)) is None


def test_a_person_may_have_applied_what_the_platform_would_not() -> None:
    dead = row_of(inbox.dead(POLICY, delivery(hops=99), Reason.HOP_LIMIT, "a circle", NOW))
    again = inbox.make_due(dead, NOW)
    assert inbox.objection(POLICY, Delivery(event(hops=99), 7, "", again)) is None
    newer = inbox.make_due(dead, NOW)
    assert inbox.objection(POLICY, Delivery(event(version=3), 7, "", newer)) is not None
    corrected = inbox.make_due(dead, NOW, body="{}")
    assert inbox.objection(POLICY, Delivery(event(version=3), 7, "", corrected)) is None


def test_what_is_taken_up_again_begins_to_count_anew_and_keeps_its_past() -> None:
    dead = row_of(inbox.dead(POLICY, delivery(), Reason.UNREADABLE, "no such field", NOW))
    again = inbox.make_due(dead, NOW + 5, body='{"k":"k","n":2}')
    assert (again.state, again.attempts, again.next_at_ms) == ("waiting", 0, NOW + 5)
    assert inbox.errors_of(again) == [(NOW, "no such field")]
    assert Delivery(event(), 7, "", again).body == b'{"k":"k","n":2}'


def test_an_order_key_is_read_from_the_data() -> None:
    ordered = Policy(subscription=1, name="a.b", event="x.y", version=1, retry=RetryPolicy(), order_key="n")
    assert inbox.order_key_of(ordered, event()) == "1"
    assert inbox.order_key_of(ordered, event(body='{"n":"text"}')) == "text"
    assert inbox.order_key_of(ordered, event(body="no json")) == ""
    assert inbox.order_key_of(POLICY, event()) == ""


def test_what_is_left_out_is_known_as_never_applied_where_it_may_be_taken_back() -> None:
    ordered = replace(POLICY, order_key="k")
    out = inbox.left_out(ordered, [delivery(sequence=5)], NOW).messages
    assert out is not None
    assert out.applied == [DeliveryKey(3, 7)]
    assert not out.deliveries
    assert [row.sequence for row in out.seen] == [5]
    undone = inbox.left_out(replace(ordered, also="page.made.taken-back"), [delivery(sequence=5)], NOW)
    assert row_of(undone).state == "discarded"


def test_letters_of_one_cause_have_one_fingerprint() -> None:
    one = fingerprint("a.b", "exhausted", "KeyError: 'o-17' at line 3")
    assert fingerprint("a.b", "exhausted", "KeyError: 'o-18' at line 3") == one
    assert fingerprint("a.b", "exhausted", "KeyError: 'o-18' at line 4") == one
    assert fingerprint("a.b", "exhausted", "ValueError: 'o-17'") != one
    assert fingerprint("a.c", "exhausted", "KeyError: 'o-17' at line 3") != one


def test_the_id_of_a_letter_is_read_as_it_is_written() -> None:
    assert parse_letter(letter_id("mail.tell", 17)) == ("mail.tell", 17)
    for wrong in ("", "17", "mail.tell", "mail.tell:", "mail.tell:x", ":3", "a.b:" + "9" * 19):
        assert parse_letter(wrong) is None
