"""A run as messages: what is published, delivered and noted, in every style; the classical order as counted."""

from __future__ import annotations

from dataclasses import replace

import pytest

from minuet.observe.sequence import Message, Sequence, sequence_of
from minuet.observe.traced import TracedFact, TracedWait

from .classical import (
    BEGUN,
    choreography_inside,
    ends_in_choreography,
    ends_in_orchestration,
    line,
    parallel,
    performed,
    planned,
)

O, C = "orchestration", "choreography"  # noqa: E741 - as in the table
NO = "rejected:no"

# What was recorded; then the messages as `sender: what [receivers]`, then how many are published and delivered.
CASES = [
    ("line, orchestrated", line, O, ["1 ok", "2 ok", "3 ok", "4 ok"], 10, 10),
    ("line, orchestrated, stock rejects", line, O, ["1 ok", "2 ok", "3 no", "2 back", "1 back"], 12, 12),
    ("line, choreographed", line, C, ["1 ok", "2 ok", "3 ok", "4 ok"], 5, 5),
    ("line, choreographed, stock rejects", line, C, ["1 ok", "2 ok", "3 no", "2 back", "1 back"], 6, 9),
    ("C at the end", ends_in_choreography, O, ["1 ok", "2 ok", "3 open", "3.1 ok", "3.2 ok"], 9, 10),
    (
        "C at the end, rejects",
        ends_in_choreography,
        O,
        ["1 ok", "2 ok", "3 open", "3.1 no", "2 back", "1 back"],
        12,
        12,
    ),
    ("O at the end", ends_in_orchestration, C, ["1 ok", "2 ok", "3.1 ok", "3.2 ok", "3 done:return"], 8, 8),
    (
        "O at the end, rejects",
        ends_in_orchestration,
        C,
        ["1 ok", "2 ok", "3.1 no", "3 failed", "2 back", "1 back"],
        8,
        11,
    ),
    ("parallel, orchestrated", parallel, O, ["1 ok", "2a ok", "2b ok", "3 ok"], 10, 10),
    ("parallel, orchestrated, rejects", parallel, O, ["1 ok", "2a ok", "2b no", "2a back", "1 back"], 12, 12),
    ("parallel, choreographed", parallel, C, ["1 ok", "2a ok", "2b ok", "3 ok"], 5, 8),
    ("parallel, choreographed, rejects", parallel, C, ["1 ok", "2a ok", "2b no", "2a back", "1 back"], 6, 11),
    ("C inside", choreography_inside, O, ["1 ok", "2 open", "2.1a ok", "2.1b ok", "3 ok"], 9, 12),
    (
        "C inside, rejects",
        choreography_inside,
        O,
        ["1 ok", "2 open", "2.1a ok", "2.1b no", "2.1a back", "1 back"],
        10,
        13,
    ),
]
LABELS = {"no": NO, "back": "compensated", "failed": "failed:no"}


def told(flow: object, style: str, recorded: list[str]) -> Sequence:
    facts = [(p, LABELS.get(x, x)) for p, _, x in (r.partition(" ") for r in recorded)]
    is_well = not any(label == NO for _, label in facts)
    run = performed(*facts, state="completed" if is_well else "compensated", code="" if is_well else "no")
    return sequence_of(planned(flow, style), run, BEGUN + 4_000)


def shown(messages: tuple[Message, ...]) -> list[str]:
    return [f"{m.sender}: {m.text} [{', '.join(m.receivers)}]" for m in messages]


@pytest.mark.parametrize(
    ("name", "flow", "style", "recorded", "published", "delivered"), CASES, ids=lambda x: str(x)[:40]
)
def test_the_classical_order_takes_as_many_messages_as_the_table_says(
    name: str, flow: object, style: str, recorded: list[str], published: int, delivered: int
) -> None:
    sequence = told(flow, style, recorded)
    assert (sequence.published, sequence.delivered) == (published, delivered), name


def test_an_orchestrator_commands_and_hears_each_answer() -> None:
    assert shown(told(parallel, O, ["1 ok", "2a ok", "2b no", "2a back", "1 back"]).messages) == [
        "client: start [orchestrator]",
        "orchestrator: run 1 orders.open [orders]",
        "orders: 1 orders.open ok [orchestrator]",
        "orchestrator: run 2a payments.charge [payments]",
        "orchestrator: run 2b inventory.reserve [inventory]",
        "payments: 2a payments.charge ok [orchestrator]",
        "inventory: 2b inventory.reserve rejected:no [orchestrator]",
        "orchestrator: compensate 2a payments.refund [payments]",
        "payments: 2a payments.refund compensated [orchestrator]",
        "orchestrator: compensate 1 orders.cancel [orders]",
        "orders: 1 orders.cancel compensated [orchestrator]",
        "orchestrator: compensated: no [client]",
    ]


def test_choreographed_services_tell_those_who_need_it_and_the_last_one_the_client() -> None:
    assert shown(told(parallel, C, ["1 ok", "2a ok", "2b ok", "3 ok"]).messages) == [
        "client: start [orders]",
        "orders: 1 orders.open ok [payments, inventory]",
        "payments: 2a payments.charge ok [inventory, shipping]",
        "inventory: 2b inventory.reserve ok [payments, shipping]",
        "shipping: 3 shipping.ship ok [client]",
        "client: completed []",
    ]
    assert shown(told(parallel, C, ["1 ok", "2a ok", "2b no", "2a back", "1 back"]).messages)[3:] == [
        "inventory: 2b inventory.reserve rejected:no [client, orders, payments]",
        "payments: 2a payments.refund compensated [client, orders]",
        "orders: 1 orders.cancel compensated [client]",
        "client: compensated: no []",
    ]


def test_a_section_is_opened_by_its_border_and_heard_at_its_end() -> None:
    messages = told(ends_in_choreography, O, ["1 ok", "2 ok", "3 open", "3.1 ok", "3.2 ok"]).messages
    assert shown(messages)[5:] == [
        "orchestrator: 3 section open [inventory]",
        "inventory: 3.1 inventory.reserve ok [shipping]",
        "shipping: 3.2 shipping.ship ok [orchestrator, inventory]",
        "orchestrator: completed [client]",
    ]
    assert messages[5].kind == "mark"
    messages = told(ends_in_orchestration, C, ["1 ok", "2 ok", "3.1 no", "3 failed", "2 back", "1 back"]).messages
    assert shown(messages)[2:] == [
        "payments: 2 payments.charge ok [orchestrator/3]",
        "orchestrator/3: run 3.1 inventory.reserve [inventory]",
        "inventory: 3.1 inventory.reserve rejected:no [orchestrator/3]",
        "orchestrator/3: 3 section failed:no [client, orders, payments]",
        "payments: 2 payments.refund compensated [client, orders]",
        "orders: 1 orders.cancel compensated [client]",
        "client: compensated: no []",
    ]


def test_what_is_still_to_come_stands_last_with_whom_it_is_waited_for_from() -> None:
    wait = TracedWait(
        position="2b",
        what="action",
        needs="inventory.reserve",
        owner="inventory",
        since_ms=BEGUN + 10,
        until_ms=BEGUN + 34_000,
        detail="attempt 2: refused",
    )
    run = performed(("1", "ok"), ("2a", "ok"), waiting=[wait])
    *_, coming = sequence_of(planned(parallel, C), run, BEGUN + 4_000).messages
    assert (coming.kind, coming.sender, coming.receivers) == ("coming", "inventory", ("payments", "shipping"))
    assert coming.detail == "running since 3.9 s, from inventory, at the latest in 30 s, attempt 2: refused"
    sequence = sequence_of(planned(parallel, O), run, BEGUN + 4_000)
    assert shown(sequence.messages)[4:] == [
        "orchestrator: run 2b inventory.reserve [inventory]",
        "payments: 2a payments.charge ok [orchestrator]",
        "inventory: 2b inventory.reserve [orchestrator]",
    ]
    assert sequence.published == 6  # what is to come is not counted


def test_a_compensation_that_is_going_on_is_one_that_is_to_come() -> None:
    wait = TracedWait(position="2a", what="person", needs="payments.refund", owner="payments", since_ms=BEGUN + 30)
    facts = [("1", "ok"), ("2a", "ok"), ("2b", NO)]
    messages = sequence_of(planned(parallel, O), performed(*facts, waiting=[wait]), BEGUN + 40).messages
    assert shown(messages)[-2:] == [
        "orchestrator: compensate 2a payments.refund [payments]",
        "payments: 2a payments.refund [orchestrator]",
    ]
    assert messages[-1].detail == "needs a person since 10 ms, from payments"


def test_only_what_passes_between_two_is_an_arrow() -> None:
    for style in (O, C):
        for m in told(line, style, ["1 ok", "2 ok", "3 ok", "4 ok"]).messages:
            assert m.sender not in m.receivers


def test_a_step_that_was_called_off_was_never_commanded() -> None:
    run = performed(("1", "ok"), ("$cancel", "requested"), ("2a", "rejected:cancelled"), ("2b", "ok"))
    messages = shown(sequence_of(planned(parallel, O), run, BEGUN).messages)
    assert not [m for m in messages if "run 2a" in m]
    assert "orchestrator: 2a payments.charge rejected:cancelled []" in messages
    assert any(m.startswith("client: cancel [orchestrator") for m in messages)


def test_a_clock_that_went_back_does_not_give_a_negative_time() -> None:
    run = performed(("1", "ok"))
    early = replace(run, facts=[TracedFact(position="1", label="ok", at_ms=BEGUN - 500)])
    assert min(m.after_ms for m in sequence_of(planned(line, C), early, BEGUN).messages) == 0
