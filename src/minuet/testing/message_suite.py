"""What every store must do for participants of other stores: messages on their way, plans to be known, effects.

Used like `StoreSuite`, and beside it, with the same fixture.
"""

# ruff: noqa: D102 - the name of a test is a sentence already

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable
from typing import Any

from minuet.engine.port import Store
from minuet.engine.row import (
    ActivationRow,
    CarryRow,
    ConfirmedRow,
    EarlyKey,
    EarlyRow,
    EffectKey,
    EffectRow,
    PlanKey,
    PlanRow,
    SendingRow,
    SentKey,
)
from minuet.errors import Contradiction, KeyConflict, SecondCause
from minuet.testing.outbox_suite import about, event_row
from minuet.testing.store_desk import (
    NOW_MS,
    Desk,
    Script,
    ScriptedWork,
    decision,
    desk_of,
    execute,
    fact_row,
    fetch,
    inbox_row,
    run_change,
    run_row,
    start,
)

MakeStore = Callable[[], Store]


def sending_row(message: str, **other: Any) -> SendingRow:
    """Make a message that is on its way."""
    return SendingRow(None, message, "place_order", '{"id":"é"}')._replace(**other)


def early_row(message: str, digest: str = "7c1e03d5", **other: Any) -> EarlyRow:
    """Make a message that came before its plan."""
    return EarlyRow(message, digest, "place_order", '{"id":"é"}', NOW_MS)._replace(**other)


def effect_row(op_key: str, key: str = "o-1", **other: Any) -> EffectRow:
    """Make an effect."""
    return EffectRow("payment.charge", key, op_key, "c-1,c-2", '{"order":"o-1"}', '"p-1"', NOW_MS)._replace(**other)


def _at_a_desk(store: MakeStore, test: Callable[[Desk], Awaitable[None]]) -> None:
    async def perform() -> None:
        async with desk_of(store()) as desk:
            await test(desk)

    asyncio.run(asyncio.wait_for(perform(), 60))


class MessageSuite:
    """The tests."""

    # Runs of others

    def test_a_run_of_another_home_is_read_with_it(self, store: MakeStore) -> None:
        async def test(desk: Desk) -> None:
            await desk.record(start(1, home="shop"), start(2))
            homes = [stored.run.home for stored in await desk.store.load_runs([1, 2])]
            assert homes == ["shop", None]
            stored = await desk.store.load_run(1)
            assert stored is not None
            assert stored.run.home == "shop"
            await desk.record(start(1, home="shop"))
            assert isinstance(await desk.refused(start(1, home="bank")), Contradiction)

        _at_a_desk(store, test)

    def test_the_key_of_a_run_is_unique_at_its_home_only(self, store: MakeStore) -> None:
        async def test(desk: Desk) -> None:
            await desk.record(start(1, key="k"), start(2, key="k", home="shop"), start(3, key="k", home="shop"))
            assert isinstance(await desk.refused(start(4, key="k")), KeyConflict)
            await desk.record(start(5, key="k", home="shop"))
            again = start(6, key="k", home="shop")  # looked at alone, as it repeats what is there
            again.inbox = [inbox_row("m-1")]
            await desk.record(decision(inbox=[inbox_row("m-1")]), again)
            await desk.record(start(9, key="l", home="shop"))
            await desk.record(start(7, key="l"))
            assert isinstance(await desk.refused(start(8, key="l")), KeyConflict)

        _at_a_desk(store, test)

    def test_runs_that_end_elsewhere_are_listed_until_they_are_known_to_have_ended(self, store: MakeStore) -> None:
        async def test(desk: Desk) -> None:
            await desk.record(
                *(start(run, home=None if run % 2 else f"home-{run}", load=run % 3 % 2) for run in range(9))
            )
            found = await desk.store.runs_of_others(0, 9)
            assert found == [(2, "home-2"), (4, "home-4"), (6, "home-6"), (8, "home-8")]
            assert await desk.store.runs_of_others(2, 2) == found[1:3]
            await desk.record(decision(4, changes=[run_change(4, ended_at_ms=10)]))
            assert [run for run, _ in await desk.store.runs_of_others(0, 9)] == [2, 6, 8]
            assert await desk.store.forget(11, 9) == 1, "it is ended like others"

        _at_a_desk(store, test)

    # Values that came with facts

    def test_what_a_fact_carried_is_read_with_its_run(self, store: MakeStore) -> None:
        async def test(desk: Desk) -> None:
            rows = start(1)
            rows.facts = [fact_row(1, "1", seq=1), fact_row(1, "2", seq=2), fact_row(1, "3", seq=3)]
            carried = [CarryRow(1, 1, '[[0,"","é"]]'), CarryRow(1, 3, '[[1,"2.0",null]]')]
            rows.ensure_messages().carried = carried
            await desk.record(rows, start(2))
            stored = await desk.store.load_run(1)
            assert stored is not None
            assert stored.carried == carried
            assert [stored.carried for stored in await desk.store.load_runs([2, 1])] == [[], carried]

        _at_a_desk(store, test)

    def test_a_fact_that_was_known_carries_nothing_the_second_time(self, store: MakeStore) -> None:
        async def test(desk: Desk) -> None:
            def heard(position: str, seq: int, carried: str) -> Any:
                rows = decision(1, facts=[fact_row(1, position, seq=seq)])
                rows.ensure_messages().carried = [CarryRow(1, seq, carried)]
                return rows

            await desk.record(start(1), heard("1", 1, "[1]"))
            await desk.record(heard("1", 1, "[1]"))
            await desk.record(heard("1", 2, "[1]"))  # counted anew by who did not know that it was recorded
            await desk.record(heard("2", 2, "[2]"))
            stored = await desk.store.load_run(1)
            assert stored is not None
            assert stored.carried == [CarryRow(1, 1, "[1]"), CarryRow(1, 2, "[2]")]

        _at_a_desk(store, test)

    def test_forgetting_a_run_forgets_what_its_facts_carried_and_leaves_effects(self, store: MakeStore) -> None:
        async def test(desk: Desk) -> None:
            for run in (1, 2):
                rows = decision(run, runs=[run_row(run, load=None, ended_at_ms=10 * run)], facts=[fact_row(run, "1")])
                rows.ensure_messages().carried = [CarryRow(run, 1, "[]")]
                rows.ensure_messages().effects = [effect_row(f"{run}/1", key=f"k-{run}")]
                await desk.record(rows)
            assert await desk.store.forget(15, 9) == 1
            again = start(1)
            again.facts = [fact_row(1, "1")]
            await desk.record(again)
            one, two = await desk.store.load_runs([1, 2])
            assert one.carried == []
            assert two.carried == [CarryRow(2, 1, "[]")]
            assert await desk.store.find_effect("payment.charge", "k-1") is not None

        _at_a_desk(store, test)

    # Messages on their way

    def test_what_a_broker_may_forget_is_kept_when_it_is_confirmed_and_not_sent_without_need(
        self, store: MakeStore
    ) -> None:
        async def test(desk: Desk) -> None:
            await desk.record(*(about(sending=[sending_row(f"m-{n}")]) for n in range(3)))
            await desk.record(
                about(confirmed=[ConfirmedRow(20, "m-1"), ConfirmedRow(10, "m-0"), ConfirmedRow(9, "m-x")])
            )
            assert [row.message for row in await desk.store.sending(0, 9)] == ["m-2"]
            kept = await desk.store.confirmed(20, 0, 9)
            assert [row._replace(entry=None) for row in kept] == [sending_row("m-0"), sending_row("m-1")]
            assert await desk.store.confirmed(20, kept[0].entry or 0, 9) == kept[1:]
            assert [row.message for row in await desk.store.confirmed(19, 0, 9)] == ["m-0"]
            await desk.record(about(sent=[SentKey("m-0")]))
            assert await desk.store.confirmed(99, 0, 9) == kept[1:]

        _at_a_desk(store, test)

    def test_messages_are_sent_in_the_order_of_their_commits_until_they_are_confirmed(self, store: MakeStore) -> None:
        async def test(desk: Desk) -> None:
            await desk.record(*(about(sending=[sending_row(f"m-{n}")]) for n in range(300)))
            found = await desk.store.sending(0, 1_000)
            assert [row.message for row in found] == [f"m-{n}" for n in range(300)]
            assert found[7]._replace(entry=None) == sending_row("m-7")
            entries = [row.entry or 0 for row in found]
            assert entries == sorted(set(entries))
            assert await desk.store.sending(entries[3], 2) == found[4:6]
            await desk.record(about(sent=[SentKey(f"m-{n}") for n in range(298)]), about(sent=[SentKey("m-x")]))
            assert await desk.store.sending(0, 9) == found[298:]

        _at_a_desk(store, test)

    def test_a_message_is_on_its_way_once(self, store: MakeStore) -> None:
        async def test(desk: Desk) -> None:
            await desk.record(about(sending=[sending_row("m-1")]), about(sending=[sending_row("m-1", envelope="{}")]))
            await desk.record(about(sending=[sending_row("m-2"), sending_row("m-1", envelope="{}")]))
            found = await desk.store.sending(0, 9)
            assert [(row.message, row.envelope) for row in found] == [("m-1", '{"id":"é"}'), ("m-2", '{"id":"é"}')]

        _at_a_desk(store, test)

    def test_who_reads_on_misses_no_message_after_all_were_confirmed(self, store: MakeStore) -> None:
        async def test(desk: Desk) -> None:
            await desk.record(about(sending=[sending_row("m-1"), sending_row("m-2")]))
            last = (await desk.store.sending(0, 9))[-1].entry
            assert last is not None
            await desk.record(about(sent=[SentKey("m-1"), SentKey("m-2")]))
            await desk.record(about(sending=[sending_row("m-3")]))
            assert [row.message for row in await desk.store.sending(last, 9)] == ["m-3"]

        _at_a_desk(store, test)

    # Early messages

    def test_early_messages_are_given_by_plan_oldest_first_and_once(self, store: MakeStore) -> None:
        async def test(desk: Desk) -> None:
            rows = [early_row("m-1"), early_row("m-2", "d-2"), early_row("m-3"), early_row("m-4")]
            await desk.record(*(about(early=[row]) for row in rows))
            await desk.record(about(early=[early_row("m-1", at_ms=0), early_row("m-0", at_ms=0)]))
            assert [row.message for row in await desk.store.early("7c1e03d5", 9)] == ["m-1", "m-3", "m-4", "m-0"]
            assert await desk.store.early("7c1e03d5", 2) == [rows[0], rows[2]]
            await desk.record(about(early=[early_row("m-3", "", reason="nobody can read it")]))
            assert await desk.store.early("", 2) == [rows[2]._replace(digest="", reason="nobody can read it")]
            await desk.record(about(early=[rows[2]]))
            assert await desk.store.early(None, 2) == rows[:2]
            assert await desk.store.early("unheard-of", 9) == []
            await desk.record(about(early_done=[EarlyKey("m-1"), EarlyKey("m-3"), EarlyKey("m-unknown")]))
            assert [row.message for row in await desk.store.early(None, 9)] == ["m-2", "m-4", "m-0"]

        _at_a_desk(store, test)

    # The log

    def test_the_log_gives_events_of_all_types(self, store: MakeStore) -> None:
        async def test(desk: Desk) -> None:
            await desk.record(*(about(outbox=[event_row(f"m-{n}", f"type-{n % 3}")]) for n in range(7)))
            found = await desk.store.log_after(0, 99)
            assert [row.message for row in found] == [f"m-{n}" for n in range(7)]
            assert await desk.store.log_after(found[1].entry or 0, 3) == found[2:5]
            assert await desk.store.log_after(await desk.store.last_entry(), 3) == []

        _at_a_desk(store, test)

    def test_an_event_that_comes_with_its_entry_keeps_it(self, store: MakeStore) -> None:
        async def test(desk: Desk) -> None:
            await desk.record(about(outbox=[event_row("m-1", entry=5), event_row("m-2", entry=6)]))
            await desk.record(about(outbox=[event_row("m-1", entry=7), event_row("m-3", entry=8)]))
            found = [(row.entry, row.message) for row in await desk.store.log_after(0, 9)]
            assert found == [(5, "m-1"), (6, "m-2"), (8, "m-3")]
            assert await desk.store.last_entry() == 8
            await desk.record(about(outbox=[event_row("m-4")]))
            assert await desk.store.last_entry() == 9

        _at_a_desk(store, test)

    # Plans and who is to know them

    def test_an_activation_that_is_said_again_takes_the_place_of_the_former(self, store: MakeStore) -> None:
        async def test(desk: Desk) -> None:
            asked = [ActivationRow("d-1", who, NOW_MS, None) for who in ("bank", "shop", "stock")]
            await desk.record(decision(activations=asked))
            assert sorted(await desk.store.activations()) == asked
            known = ActivationRow("d-1", "shop", NOW_MS, NOW_MS + 5)
            await desk.record(
                decision(activations=[known._replace(acknowledged_at_ms=1)]), decision(activations=[asked[1], known])
            )
            assert [row for row in await desk.store.activations() if row.participant == "shop"] == [known]
            assert len(await desk.store.activations()) == 3

        _at_a_desk(store, test)

    def test_a_plan_is_removed_with_its_activations(self, store: MakeStore) -> None:
        async def test(desk: Desk) -> None:
            plans = [PlanRow(f"d-{n}", "place_order", "{}", NOW_MS) for n in range(3)]
            await desk.record(
                decision(plans=plans, activations=[ActivationRow(p.digest, "shop", NOW_MS, None) for p in plans])
            )
            await desk.record(decision(plans_done=[PlanKey("d-0"), PlanKey("d-2"), PlanKey("d-unknown")]))
            assert await desk.store.plans() == [plans[1]]
            assert [row.digest for row in await desk.store.activations()] == ["d-1"]

        _at_a_desk(store, test)

    def test_a_plan_that_goes_and_comes_again_in_one_group_is_there(self, store: MakeStore) -> None:
        async def test(desk: Desk) -> None:
            plan, activation = PlanRow("d-1", "place_order", "{}", NOW_MS), ActivationRow("d-1", "shop", NOW_MS, None)
            await desk.record(decision(plans=[plan], activations=[activation]))
            known = activation._replace(acknowledged_at_ms=NOW_MS)
            await desk.record(
                decision(plans_done=[PlanKey("d-1")]), start(1), decision(plans=[plan], activations=[known])
            )
            assert await desk.store.plans() == [plan]
            assert await desk.store.activations() == [known]

        _at_a_desk(store, test)

    # Effects

    def test_an_effect_is_found_by_its_action_and_key(self, store: MakeStore) -> None:
        async def test(desk: Desk) -> None:
            rows = [effect_row("1/2"), effect_row("2/2", key="é", result=None), effect_row("1/2", action="bank.pay")]
            await desk.record(about(effects=rows))
            assert await desk.store.find_effect("payment.charge", "o-1") == rows[0]
            assert await desk.store.find_effect("payment.charge", "é") == rows[1]
            assert await desk.store.find_effect("bank.pay", "o-1") == rows[2]
            assert await desk.store.find_effect("bank.pay", "é") is None

        _at_a_desk(store, test)

    def test_a_second_cause_of_an_effect_is_refused_with_what_goes_with_it_and_harms_nobody_else(
        self, store: MakeStore
    ) -> None:
        async def test(desk: Desk) -> None:
            await desk.record(about(effects=[effect_row("1/2")]))
            second = start(3)
            second.ensure_messages().effects = [effect_row("3/2", causes="c-9")]
            outcomes = await desk.outcomes(start(2), second, start(4))
            errors = [outcome.error for outcome in outcomes]
            assert errors[0] is errors[2] is None
            assert isinstance(errors[1], SecondCause)
            assert errors[1].subject["recorded"] == {"op_key": "1/2", "causes": "c-1,c-2"}
            assert errors[1].subject["refused"] == {"op_key": "3/2", "causes": "c-9"}
            assert [stored.run.run for stored in await desk.store.load_runs([2, 3, 4])] == [2, 4]
            assert await desk.store.find_effect("payment.charge", "o-1") == effect_row("1/2")
            both = about(effects=[effect_row("5/2", key="new"), effect_row("6/2", key="new")])
            assert isinstance(await desk.refused(both), SecondCause)

        _at_a_desk(store, test)

    def test_the_same_cause_of_an_effect_again_is_no_news(self, store: MakeStore) -> None:
        async def test(desk: Desk) -> None:
            await desk.record(about(effects=[effect_row("1/2")]))
            again = start(1)
            again.ensure_messages().effects = [effect_row("1/2", at_ms=NOW_MS + 1), effect_row("1/3", key="other")]
            await desk.record(again)
            assert await desk.store.find_effect("payment.charge", "o-1") == effect_row("1/2")
            assert await desk.store.find_effect("payment.charge", "other") is not None
            assert await desk.store.load_run(1) is not None

        _at_a_desk(store, test)

    def test_an_effect_that_was_taken_back_frees_its_key(self, store: MakeStore) -> None:
        async def test(desk: Desk) -> None:
            await desk.record(about(effects=[effect_row("1/2")]))
            await desk.record(about(effects_done=[EffectKey("payment.charge", "o-1", "9/9")]))  # another's: not this
            assert await desk.store.find_effect("payment.charge", "o-1") is not None
            # In one group, in the order of submission.
            await desk.record(
                about(effects_done=[EffectKey("payment.charge", "o-1", "1/2")]), about(effects=[effect_row("3/2")])
            )
            assert await desk.store.find_effect("payment.charge", "o-1") == effect_row("3/2")

        _at_a_desk(store, test)

    def test_a_handler_that_causes_an_effect_the_second_time_keeps_nothing(self, store: MakeStore) -> None:
        def script(op_key: str) -> Callable[[], Script]:
            def pay() -> Script:
                yield execute("insert into payment values (1)")
                return about(effects=[effect_row(op_key)])

            return pay

        seen: list[int] = []

        def count() -> Script:
            rows = yield fetch("select * from payment")
            seen.append(len(rows))
            return None

        async def test(desk: Desk) -> None:
            def setup() -> Script:
                yield execute("create table payment (n integer)")
                return None

            await desk.store.setup(ScriptedWork(setup))
            await desk.record(ScriptedWork(script("1/2")))
            assert isinstance(await desk.refused(ScriptedWork(script("3/2"))), SecondCause)
            await desk.record(ScriptedWork(script("1/2")))
            await desk.record(ScriptedWork(count))
            assert seen == [1]

        _at_a_desk(store, test)
