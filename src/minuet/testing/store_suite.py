"""What every store must do: one class of tests, for our stores and for those of others.

Whoever has written a store subclasses `StoreSuite` in a test module, and gives it a fixture `store`: a function without
arguments whose every call gives a store, still closed, over one and the same place, which is new for each test.
Where a store lacks something on purpose it leaves the `Capability` out, and the tests of it are skipped.
"""

# ruff: noqa: D102 - the name of a test is a sentence already

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable, Coroutine
from typing import Any, ClassVar, TypeVar
from unittest import SkipTest

from minuet.engine.port import Capability, RunFilter, Statement, Store
from minuet.engine.row import (
    AttemptKey,
    AuditRow,
    Decision,
    InboxTaken,
    PlanRow,
    RunRow,
    TimerKey,
    WaitKey,
)
from minuet.errors import (
    AlreadyOpen,
    Conflict,
    Contradiction,
    KeyConflict,
    StatementError,
    StatementFailed,
    StatementRefused,
    StoreError,
    StoreUnavailable,
)
from minuet.ids import first_run
from minuet.testing.store_desk import (
    NOW_MS,
    Desk,
    Script,
    ScriptedWork,
    attempt_row,
    decision,
    desk_of,
    execute,
    fact_row,
    fetch,
    inbox_row,
    one_statement,
    run_change,
    run_row,
    start,
    statements,
    timer_row,
    wait_row,
)

MakeStore = Callable[[], Store]
T = TypeVar("T")


def _run(test: Coroutine[Any, Any, T]) -> T:
    return asyncio.run(asyncio.wait_for(test, 60))


def _at_a_desk(store: MakeStore, test: Callable[[Desk], Awaitable[None]]) -> None:
    """Perform a test with an open store."""

    async def perform() -> None:
        async with desk_of(store()) as desk:
            await test(desk)

    _run(perform())


class StoreSuite:
    """The tests. `capabilities`: what the store can; all of it, unless said otherwise."""

    capabilities: ClassVar[frozenset[Capability]] = frozenset(Capability)

    def need(self, capability: Capability) -> None:
        """Skip the test where the store cannot do this."""
        if capability not in self.capabilities:
            raise SkipTest(f"this store has no {capability}")

    # Opening and closing

    def test_every_opening_raises_the_epoch_and_keeps_the_incarnation(self, store: MakeStore) -> None:
        self.need(Capability.DURABLE)

        async def test() -> None:
            seen = []
            for _ in range(3):
                desk = Desk(store())
                seen.append(await desk.open())
                await desk.store.close()
            first, second, third = seen
            assert first.epoch < second.epoch < third.epoch
            assert first.incarnation == second.incarnation == third.incarnation != ""

        _run(test())

    def test_who_opens_a_store_that_is_open_is_told_by_whom(self, store: MakeStore) -> None:
        self.need(Capability.EXCLUSIVE)

        async def test() -> None:
            async with desk_of(store()):
                other = store()
                try:
                    await other.open(lambda _: None)
                except AlreadyOpen as error:
                    told = error
                else:
                    raise AssertionError("it was opened twice")
                finally:
                    await other.close()
                assert {"pid", "host", "started_at_ms"} <= set(told.subject)
                assert str(told.subject["pid"]) in str(told)

        _run(test())

    def test_what_was_submitted_before_closing_is_there_after_opening(self, store: MakeStore) -> None:
        self.need(Capability.DURABLE)

        async def test() -> None:
            desk = Desk(store())
            await desk.open()
            outcomes = [desk.hand_in(start(run)) for run in range(1, 51)]
            await desk.store.close()
            assert all(outcome.done() for outcome in outcomes), "close came back before the outcomes"
            async with desk_of(store()) as again:
                assert await again.store.runs_to_load(0, 100) == list(range(1, 51))

        _run(test())

    def test_closing_twice_is_no_news_and_a_closed_store_takes_nothing(self, store: MakeStore) -> None:
        async def test() -> None:
            desk = Desk(store())
            await desk.open()
            await asyncio.gather(desk.store.close(), desk.store.close())
            await desk.store.close()
            try:
                desk.store.submit(start(1))
            except StoreUnavailable:
                pass
            else:
                raise AssertionError("a closed store took a decision")

        _run(test())

    # Rows

    def test_a_run_comes_back_with_all_its_rows(self, store: MakeStore) -> None:
        async def test(desk: Desk) -> None:
            run = run_row(7, key="o-7", reason="by hand", result="null", paused=1, dirty=1)
            attempt, timer, wait = attempt_row(7), timer_row(7), wait_row(7, "p-7")
            facts = [fact_row(7, "2", seq=2), fact_row(7, "1", value=None), fact_row(7, "3", round="0.1", seq=3)]
            await desk.record(decision(7, runs=[run], facts=facts, attempts=[attempt], timers=[timer], waits=[wait]))
            stored = await desk.store.load_run(7)
            assert stored is not None
            assert stored.run == run
            assert stored.facts == sorted(facts, key=lambda fact: fact.seq)
            assert (stored.attempts, stored.timers, stored.waits) == ([attempt], [timer], [wait])

        _at_a_desk(store, test)

    def test_a_run_that_is_not_there_is_none(self, store: MakeStore) -> None:
        async def test(desk: Desk) -> None:
            assert await desk.store.load_run(1) is None
            assert await desk.store.find_run(None, "o-1") is None
            assert await desk.store.find_event("carrier", "m-1") is None

        _at_a_desk(store, test)

    def test_several_runs_are_loaded_at_once_without_those_that_are_not_there(self, store: MakeStore) -> None:
        async def test(desk: Desk) -> None:
            for run in (1, 2, 3):
                rows = decision(run, runs=[run_row(run)], facts=[fact_row(run, str(n), seq=n) for n in (2, 1)])
                rows.timers, rows.waits, rows.attempts = [timer_row(run)], [wait_row(run, "k")], [attempt_row(run)]
                await desk.record(rows)
            loaded = await desk.store.load_runs([3, 99, 1])
            assert [stored.run.run for stored in loaded] == [3, 1]
            for stored in loaded:
                assert stored == await desk.store.load_run(stored.run.run)
                assert [fact.seq for fact in stored.facts] == [1, 2]

        _at_a_desk(store, test)

    def test_text_comes_back_as_it_was(self, store: MakeStore) -> None:
        async def test(desk: Desk) -> None:
            values = [
                '{"a" : 1.0,"b":[1e400, 12345678901234567890]}',
                "äöü 🎼 \u202e",
                'it\'s "quoted" ;--',
                "x" * 300_000,
            ]
            await desk.record(
                decision(
                    1, runs=[run_row(1)], facts=[fact_row(1, str(n), value=v, seq=n) for n, v in enumerate(values)]
                )
            )
            stored = await desk.store.load_run(1)
            assert stored is not None
            assert [fact.value for fact in stored.facts] == values

        _at_a_desk(store, test)

    def test_the_last_change_of_a_run_stands_also_within_a_group(self, store: MakeStore) -> None:
        async def test(desk: Desk) -> None:
            await desk.record(
                start(1),
                decision(1, changes=[run_change(1, state="compensating", load=1, ended_at_ms=None)]),
                start(2),
                decision(1, changes=[run_change(1)]),
            )
            stored = await desk.store.load_run(1)
            assert stored is not None
            assert stored.run == run_row(1)._replace(**run_change(1)._asdict())
            other = await desk.store.load_run(2)
            assert other is not None
            assert other.run.state == "running"

        _at_a_desk(store, test)

    def test_an_attempt_is_written_over_and_removed(self, store: MakeStore) -> None:
        async def test(desk: Desk) -> None:
            await desk.record(decision(1, runs=[run_row(1)], attempts=[attempt_row(1, "2a"), attempt_row(1, "2b")]))
            later = attempt_row(1, "2a", attempts=2, state="parked", error="again", next_at_ms=5, last_at_ms=6)
            await desk.record(decision(1, attempts=[later]))
            await desk.record(decision(1, attempts_done=[AttemptKey(1, "2b", "", "forward")]))
            stored = await desk.store.load_run(1)
            assert stored is not None
            assert stored.attempts == [later]

        _at_a_desk(store, test)

    def test_many_rows_of_all_nouns_are_written_and_removed_in_one_group(self, store: MakeStore) -> None:
        async def test(desk: Desk) -> None:
            runs = range(1, 301)
            await desk.record(
                *(
                    decision(
                        run,
                        runs=[run_row(run)],
                        facts=[fact_row(run, "1"), fact_row(run, "2")],
                        attempts=[attempt_row(run)],
                        timers=[timer_row(run)],
                        waits=[wait_row(run, f"k-{run}")],
                        inbox=[inbox_row(f"m-{run}")],
                        audit=[AuditRow(NOW_MS, "ada", "start", str(run), "done", None)],
                    )
                    for run in runs
                )
            )
            assert len(await desk.store.kept_events("carrier.picked-up", "p-1")) == 300
            assert len(await desk.store.audit(1000)) == 300
            await desk.record(
                *(
                    decision(
                        run,
                        changes=[run_change(run)],
                        attempts_done=[AttemptKey(run, "2a", "", "forward")],
                        timers_done=[TimerKey(run, "4", "", "sleep")],
                        waits_done=[WaitKey("carrier.picked-up", f"k-{run}", run, "5", "")],
                        inbox_taken=[InboxTaken("taken", run, "5", "", "carrier", f"m-{run}")],
                    )
                    for run in runs
                    if run != 150
                )
            )
            assert await desk.store.kept_events("carrier.picked-up", "p-1") == [inbox_row("m-150")]
            assert await desk.store.timers_due(NOW_MS * 2, 1000) == [timer_row(150)]
            for stored in await desk.store.load_runs(list(runs)):
                left = 1 if stored.run.run == 150 else 0
                assert (len(stored.attempts), len(stored.timers), len(stored.waits)) == (left, left, left)
                assert (stored.run.state == "running") == (stored.run.run == 150)
                assert len(stored.facts) == 2

        _at_a_desk(store, test)

    def test_plans_are_kept_once(self, store: MakeStore) -> None:
        async def test(desk: Desk) -> None:
            plans = [PlanRow("b", "place_order", "{}", NOW_MS), PlanRow("a", "renew", "{}", NOW_MS + 1)]
            await desk.record(decision(plans=plans))
            await desk.record(decision(plans=[plans[0]._replace(created_at_ms=NOW_MS + 9)]))
            assert await desk.store.plans() == plans

        _at_a_desk(store, test)

    def test_audit_rows_are_given_newest_first(self, store: MakeStore) -> None:
        async def test(desk: Desk) -> None:
            rows = [AuditRow(NOW_MS, "ada", "cancel", f"run {n}", "done", None) for n in range(5)]
            for row in rows:
                await desk.record(decision(audit=[row]))
            assert await desk.store.audit(3) == rows[:1:-1]

        _at_a_desk(store, test)

    # What is due, and who waits

    def test_timers_are_given_when_due_earliest_first(self, store: MakeStore) -> None:
        async def test(desk: Desk) -> None:
            timers = [timer_row(1, str(n), due_at_ms=NOW_MS + n) for n in (5, 3, 4, 1, 2)]
            await desk.record(decision(1, runs=[run_row(1)], timers=timers))
            due = [timer.due_at_ms - NOW_MS for timer in await desk.store.timers_due(NOW_MS + 4, 3)]
            assert due == [1, 2, 3]
            assert len(await desk.store.timers_due(NOW_MS + 4, 10)) == 4
            assert await desk.store.timers_due(NOW_MS, 10) == []

        _at_a_desk(store, test)

    def test_attempts_are_given_when_due_of_runs_that_nobody_loads(self, store: MakeStore) -> None:
        async def test(desk: Desk) -> None:
            due = [attempt_row(1, "1", next_at_ms=20), attempt_row(1, "2", next_at_ms=10), attempt_row(1, "3")]
            parked = attempt_row(1, "4", state="parked", next_at_ms=0)
            await desk.record(decision(1, runs=[run_row(1, load=0)], attempts=[*due, parked]))
            await desk.record(decision(2, runs=[run_row(2, load=1)], attempts=[attempt_row(2, next_at_ms=0)]))
            assert await desk.store.attempts_due(100, 10) == [due[1], due[0]]
            assert await desk.store.attempts_due(100, 1) == [due[1]]

        _at_a_desk(store, test)

    def test_waits_of_an_event_and_key_are_given_oldest_first(self, store: MakeStore) -> None:
        async def test(desk: Desk) -> None:
            waits = [wait_row(run, "p-1", since_ms=since) for run, since in ((1, 30), (2, 10), (3, 20))]
            other = [wait_row(4, "p-2"), wait_row(4, "p-1", event="carrier.lost")]
            await desk.record(decision(1, runs=[run_row(1)], waits=[*waits, *other]))
            assert await desk.store.waits_for("carrier.picked-up", "p-1") == [waits[1], waits[2], waits[0]]
            await desk.record(decision(2, waits_done=[WaitKey("carrier.picked-up", "p-1", 2, "5", "")]))
            assert await desk.store.waits_for("carrier.picked-up", "p-1") == [waits[2], waits[0]]

        _at_a_desk(store, test)

    def test_keys_are_given_for_which_an_event_is_kept_and_a_wait_is_armed(self, store: MakeStore) -> None:
        async def test(desk: Desk) -> None:
            keys = ("k-1", "k-2", "k-3", "k-4")
            waits = [wait_row(run, key) for run, key in enumerate((*keys, "k-2"), 1)]
            kept = [inbox_row(f"m-{key}-{n}", key=key) for key in keys[1:] for n in range(2)]
            taken = inbox_row("m-taken", key="k-1", state="taken", run=9, position="5", round="")
            other = inbox_row("m-other", key="k-1", event="carrier.lost")
            await desk.record(decision(1, runs=[run_row(1)], waits=waits, inbox=[*kept, taken, other]))
            event = "carrier.picked-up"
            assert await desk.store.keys_that_meet("", "", 2) == [(event, "k-2"), (event, "k-3")]
            assert await desk.store.keys_that_meet(event, "k-3", 2) == [(event, "k-4")]
            asked = [(event, "k-4"), (event, "k-1"), (event, "k-2"), ("carrier.lost", "k-1"), (event, '"')]
            assert sorted(await desk.store.which_meet(asked)) == [(event, "k-2"), (event, "k-4")]
            assert await desk.store.which_meet([]) == []

        _at_a_desk(store, test)

    def test_events_are_kept_in_order_of_arrival_until_they_are_taken(self, store: MakeStore) -> None:
        async def test(desk: Desk) -> None:
            # the time says otherwise: clocks step back, arrival does not
            events = [inbox_row(f"m-{n}", received_at_ms=NOW_MS - n) for n in range(3)]
            for event in events:
                await desk.record(decision(inbox=[event]))
            await desk.record(decision(inbox=[inbox_row("m-9", key="p-9")]))
            assert await desk.store.kept_events("carrier.picked-up", "p-1") == events
            await desk.record(decision(1, inbox_taken=[InboxTaken("taken", 1, "5", "", "carrier", "m-0")]))
            assert await desk.store.kept_events("carrier.picked-up", "p-1") == events[1:]
            taken = events[0]._replace(state="taken", run=1, position="5", round="")
            assert await desk.store.find_event("carrier", "m-0") == taken

        _at_a_desk(store, test)

    def test_kept_events_expire_and_are_parked(self, store: MakeStore) -> None:
        async def test(desk: Desk) -> None:
            events = [inbox_row(f"m-{n}", expires_at_ms=NOW_MS + n) for n in (3, 1, 2)]
            await desk.record(decision(inbox=events))
            assert await desk.store.expired_events(NOW_MS + 2, 10) == [events[1], events[2]]
            assert await desk.store.expired_events(NOW_MS + 2, 1) == [events[1]]
            await desk.record(decision(inbox_taken=[InboxTaken("parked", None, None, None, "carrier", "m-1")]))
            assert await desk.store.expired_events(NOW_MS + 2, 10) == [events[2]]
            assert (await desk.store.parked(10))[2] == [events[1]._replace(state="parked")]

        _at_a_desk(store, test)

    def test_an_event_is_taken_once_and_who_comes_too_late_is_refused(self, store: MakeStore) -> None:
        async def test(desk: Desk) -> None:
            await desk.record(decision(inbox=[inbox_row("m-1"), inbox_row("m-2")]))
            first, second = [decision(run, facts=[fact_row(run, "5")], inbox_taken=[_taken(run)]) for run in (7, 8)]
            beside = decision(9, inbox_taken=[_taken(9, "m-2")])
            outcomes = await desk.outcomes(first, second, beside)
            assert [type(outcome.error) for outcome in outcomes] == [type(None), Conflict, type(None)]
            event = await desk.store.find_event("carrier", "m-1")
            assert event is not None
            assert (event.state, event.run) == ("taken", 7)
            await desk.record(first)  # unknown whether it was recorded: the same again is no news
            assert isinstance(await desk.refused(second), Conflict)

        _at_a_desk(store, test)

    def test_an_event_that_was_parked_or_never_came_is_not_taken(self, store: MakeStore) -> None:
        async def test(desk: Desk) -> None:
            await desk.record(decision(inbox=[inbox_row("m-1"), inbox_row("m-2")]))
            parked = InboxTaken("parked", None, None, None, "carrier", "m-1")
            await desk.record(decision(inbox_taken=[parked]))
            await desk.record(decision(inbox_taken=[parked]))  # two may find at once that its time is over
            await desk.record(decision(inbox_taken=[_taken(7, "m-2")]))
            for late in (_taken(7), _taken(7, "m-never"), parked._replace(message="m-2")):
                assert isinstance(await desk.refused(decision(inbox_taken=[late])), Conflict)

        _at_a_desk(store, test)

    def test_what_needs_a_person_is_given_in_one_view(self, store: MakeStore) -> None:
        async def test(desk: Desk) -> None:
            stuck = run_row(1, state="stuck", load=0)
            parked = attempt_row(1, state="parked", attempts=10)
            quarantined = run_row(2, state="quarantined", load=0, reason="contradiction")
            await desk.record(decision(1, runs=[stuck], attempts=[parked, attempt_row(1, "9")]))
            trying = run_row(4, state="stuck", load=1, reason="10 attempts")
            await desk.record(decision(2, runs=[quarantined]), start(3))
            await desk.record(decision(4, runs=[trying], attempts=[attempt_row(4, attempts=10)]))
            await desk.record(decision(inbox=[inbox_row("m-1", state="parked"), inbox_row("m-2")]))
            assert await desk.store.parked(10) == (
                [(stuck, parked)],
                [quarantined, trying],
                [inbox_row("m-1", state="parked")],
            )
            assert await desk.store.parked(0) == ([], [], [])

        _at_a_desk(store, test)

    # Runs

    def test_the_newest_run_of_a_key_is_found(self, store: MakeStore) -> None:
        async def test(desk: Desk) -> None:
            ended = {"state": "completed", "load": None, "ended_at_ms": NOW_MS}
            await desk.record(start(1, key="k", **ended), start(2, key="k", **ended), start(3, key="other"))
            await desk.record(start(4, key="k", workflow="renew"))
            for workflow, run in (("place_order", 2), ("renew", 4), (None, 4)):
                found = await desk.store.find_run(workflow, "k")
                assert found is not None
                assert found.run == run
            assert await desk.store.find_run("unheard-of", "k") is None

        _at_a_desk(store, test)

    def test_runs_are_listed_newest_first_by_each_filter(self, store: MakeStore) -> None:
        def run_at(n: int) -> int:
            return first_run(NOW_MS + n)

        ended: dict[str, Any] = {"load": None, "ended_at_ms": NOW_MS}
        rows = [
            run_row(run_at(0), state="completed", key="a", **ended),
            run_row(run_at(1), state="running", key="b"),
            run_row(run_at(2), state="running", load=0, workflow="renew"),
            run_row(run_at(3), state="stuck", load=0, paused=1),
            run_row(run_at(4), state="compensated", workflow="renew", key="a", **ended),
            run_row(run_at(5), state="compensating", paused=1),
            run_row(run_at(6), state="quarantined", load=0),
            run_row(run_at(7), state="terminated", key="c", **ended),
        ]
        filters: list[tuple[dict[str, Any], Callable[[RunRow], bool]]] = [
            ({}, lambda _: True),
            ({"states": ("running",)}, lambda row: row.state == "running"),
            ({"states": ("running", "stuck")}, lambda row: row.state in ("running", "stuck")),
            ({"states": ("stuck", "terminated")}, lambda row: row.state in ("stuck", "terminated")),
            ({"states": ("completed",)}, lambda row: row.state == "completed"),
            ({"states": ("completed", "running")}, lambda row: row.state in ("completed", "running")),
            ({"states": ("compensating", "compensated")}, lambda row: row.state.startswith("compensat")),
            ({"workflow": "renew"}, lambda row: row.workflow == "renew"),
            ({"workflow": "renew", "states": ("running",)}, lambda row: row.run == run_at(2)),
            ({"workflow": "renew", "states": ("compensated",)}, lambda row: row.run == run_at(4)),
            ({"key": "a"}, lambda row: row.key == "a"),
            ({"key": "a", "workflow": "renew"}, lambda row: row.run == run_at(4)),
            ({"key": "a", "states": ("completed",)}, lambda row: row.run == run_at(0)),
            ({"key": "a", "paused": True}, lambda _: False),
            ({"paused": True}, lambda row: row.paused == 1),
            ({"paused": True, "states": ("stuck",)}, lambda row: row.run == run_at(3)),
            ({"paused": False}, lambda row: row.paused == 0),
            ({"paused": False, "states": ("stuck", "compensating")}, lambda _: False),
            ({"paused": False, "workflow": "renew"}, lambda row: row.workflow == "renew"),
            ({"since_ms": NOW_MS + 5}, lambda row: row.run >= run_at(5)),
            ({"before": run_at(2)}, lambda row: row.run < run_at(2)),
            ({"before": run_at(5), "states": ("running",)}, lambda row: row.state == "running"),
            ({"since_ms": NOW_MS + 2, "states": ("running",)}, lambda row: row.run == run_at(2)),
        ]

        async def test(desk: Desk) -> None:
            await desk.record(*(decision(row.run, runs=[row]) for row in rows))
            for which, belongs in filters:
                expected = [row for row in reversed(rows) if belongs(row)]
                assert await desk.store.list_runs(RunFilter(**which)) == expected, which
                assert await desk.store.list_runs(RunFilter(**which, limit=1)) == expected[:1], which

        _at_a_desk(store, test)

    def test_unfinished_runs_are_counted_by_workflow_and_state_and_by_plan(self, store: MakeStore) -> None:
        async def test(desk: Desk) -> None:
            await desk.record(start(1), start(2), start(3, state="stuck", load=0, digest="other"))
            await desk.record(start(4, workflow="renew"), start(5, state="completed", load=None, ended_at_ms=NOW_MS))
            assert await desk.store.count_runs() == {
                ("place_order", "running"): 2,
                ("place_order", "stuck"): 1,
                ("renew", "running"): 1,
            }
            assert await desk.store.open_digests() == {"7c1e03d5": 3, "other": 1}

        _at_a_desk(store, test)

    def test_runs_to_load_are_given_in_pages(self, store: MakeStore) -> None:
        async def test(desk: Desk) -> None:
            await desk.record(*(start(run, load=run % 2) for run in range(1, 12)))
            assert await desk.store.runs_to_load(0, 3) == [1, 3, 5]
            assert await desk.store.runs_to_load(5, 3) == [7, 9, 11]
            assert await desk.store.runs_to_load(11, 3) == []

        _at_a_desk(store, test)

    def test_unfinished_runs_are_given_in_pages_whatever_they_wait_for(self, store: MakeStore) -> None:
        async def test(desk: Desk) -> None:
            loads = {1: 1, 2: 0, 3: None, 4: 0, 5: 1, 6: None, 7: 0}
            states = {3: "completed", 6: "terminated"}
            await desk.record(*(start(run, load=load, state=states.get(run, "running")) for run, load in loads.items()))
            assert await desk.store.unfinished_runs(0, 3) == [1, 2, 4]
            assert await desk.store.unfinished_runs(4, 3) == [5, 7]
            assert await desk.store.unfinished_runs(7, 3) == []

        _at_a_desk(store, test)

    def test_forgetting_removes_ended_runs_with_all_their_rows_and_nothing_else(self, store: MakeStore) -> None:
        async def test(desk: Desk) -> None:
            for run, ended in ((1, 10), (2, 20), (3, 30), (4, None)):
                load = None if ended else 0
                rows = decision(run, runs=[run_row(run, key=f"k-{run}", load=load, ended_at_ms=ended)])
                rows.facts, rows.attempts, rows.timers = [fact_row(run, "1")], [attempt_row(run)], [timer_row(run)]
                rows.waits = [wait_row(run, "k")]
                rows.inbox = [inbox_row(f"m-{run}", state="taken", run=run, position="5", round="")]
                await desk.record(rows)
            await desk.record(decision(inbox=[inbox_row("m-0")]))
            assert await desk.store.forget(25, 1) == 1
            assert await desk.store.forget(25, 10) == 1
            assert await desk.store.forget(25, 10) == 0
            assert [stored.run.run for stored in await desk.store.load_runs([1, 2, 3, 4])] == [3, 4]
            assert [timer.run for timer in await desk.store.timers_due(NOW_MS * 2, 10)] == [3, 4]
            assert [wait.run for wait in await desk.store.waits_for("carrier.picked-up", "k")] == [3, 4]
            assert await desk.store.find_event("carrier", "m-1") is None
            assert await desk.store.find_event("carrier", "m-3") is not None
            assert await desk.store.find_event("carrier", "m-0") is not None
            # The key is free again, and the new run has nothing of the old one.
            await desk.record(start(5, key="k-1"))
            stored = await desk.store.load_run(5)
            assert stored is not None
            assert stored.facts == []

        _at_a_desk(store, test)

    # Groups

    def test_outcomes_come_in_the_order_of_submission_with_what_they_are_about(self, store: MakeStore) -> None:
        self.need(Capability.TRANSACTIONS)

        async def test(desk: Desk) -> None:
            await desk.store.setup(one_statement(execute("create table t (n integer)")))
            items: list[Decision | ScriptedWork] = []
            for run in range(1, 2_500):
                work = one_statement(execute("insert into t values (?)", run), start(run))
                items.append(work if run % 50 == 0 else start(run))
            await desk.record(*items)
            told = [outcome.work or outcome.decision for group in desk.groups for outcome in group]
            assert [id(item) for item in told] == [id(item) for item in items]
            assert desk.store.backlog == 0
            assert len(await desk.store.runs_to_load(0, 10_000)) == 2_499

        _at_a_desk(store, test)

    def test_a_second_outcome_is_a_contradiction_and_hits_its_decision_only(self, store: MakeStore) -> None:
        async def test(desk: Desk) -> None:
            await desk.record(decision(1, runs=[run_row(1)], facts=[fact_row(1, "2a")]))
            denial = decision(1, facts=[fact_row(1, "3"), fact_row(1, "2a", "rejected:card-declined")])
            neighbours = [start(run) for run in (2, 3)]
            first, refused, last = await desk.outcomes(neighbours[0], denial, neighbours[1])
            assert first.error is None
            assert last.error is None
            assert isinstance(refused.error, Contradiction)
            assert refused.decision is denial
            assert refused.error.subject["run"] == 1
            assert refused.error.subject["position"] == "2a"
            assert refused.error.subject["recorded"]["label"] == "ok"
            assert refused.error.subject["refused"]["label"] == "rejected:card-declined"
            stored = await desk.store.load_run(1)
            assert stored is not None
            assert stored.facts == [fact_row(1, "2a")], "a decision is recorded whole or not at all"
            assert len(await desk.store.load_runs([2, 3])) == 2

        _at_a_desk(store, test)

    def test_another_value_is_a_contradiction_also_within_a_group(self, store: MakeStore) -> None:
        async def test(desk: Desk) -> None:
            await desk.record(start(1))
            first, second = await desk.outcomes(
                decision(1, facts=[fact_row(1, "1", value="1")]), decision(1, facts=[fact_row(1, "1", value="2")])
            )
            assert first.error is None
            assert isinstance(second.error, Contradiction)
            assert isinstance(await desk.refused(decision(1, facts=[fact_row(1, "1", value=None)])), Contradiction)

        _at_a_desk(store, test)

    def test_the_same_fact_again_is_no_news(self, store: MakeStore) -> None:
        async def test(desk: Desk) -> None:
            await desk.record(decision(1, runs=[run_row(1)], facts=[fact_row(1, "1"), fact_row(1, "2", value=None)]))
            again = [fact_row(1, "1", seq=8, at_ms=9), fact_row(1, "2", value=None, seq=9), fact_row(1, "3", seq=3)]
            await desk.record(decision(1, facts=again))
            stored = await desk.store.load_run(1)
            assert stored is not None
            assert [(fact.position, fact.seq) for fact in stored.facts] == [("1", 1), ("2", 1), ("3", 3)]

        _at_a_desk(store, test)

    def test_a_position_has_one_outcome_and_one_compensation_a_round(self, store: MakeStore) -> None:
        async def test(desk: Desk) -> None:
            rows = [
                fact_row(1, "1", label, seq=n) for n, label in enumerate(("ok", "compensated", "open", "back", "gone"))
            ]
            rows += [fact_row(1, "1", round="1", seq=9)]
            await desk.record(decision(1, runs=[run_row(1)], facts=rows))
            for row in (fact_row(1, "1", "chosen:x"), fact_row(1, "1", "fired"), fact_row(1, "1", "compensated", "9")):
                assert isinstance(await desk.refused(decision(1, facts=[row])), Contradiction)

        _at_a_desk(store, test)

    def test_a_decision_that_was_recorded_may_be_recorded_again(self, store: MakeStore) -> None:
        """After an unknown commit everything in it is submitted once more."""

        async def test(desk: Desk) -> None:
            def made() -> Decision:
                return decision(
                    1,
                    plans=[PlanRow("d", "place_order", "{}", NOW_MS)],
                    runs=[run_row(1, key="k")],
                    facts=[fact_row(1, "1")],
                    attempts=[attempt_row(1)],
                    timers=[timer_row(1)],
                    waits=[wait_row(1, "k")],
                    inbox=[inbox_row("m-1", state="taken", run=1, position="5", round="")],
                    changes=[run_change(1)],
                    timers_done=[TimerKey(1, "9", "", "sleep")],
                )

            await desk.record(made())
            before = await desk.store.load_run(1)
            await desk.record(made(), made())
            assert await desk.store.load_run(1) == before

        _at_a_desk(store, test)

    def test_a_key_names_one_unfinished_run_of_a_workflow(self, store: MakeStore) -> None:
        async def test(desk: Desk) -> None:
            first, second, other = await desk.outcomes(
                start(1, key="k"), start(2, key="k"), start(3, key="k", workflow="renew")
            )
            assert first.error is None
            assert other.error is None
            assert isinstance(second.error, KeyConflict)
            assert second.error.subject["run"] == 1
            await desk.record(decision(1, changes=[run_change(1)]))
            await desk.record(start(4, key="k"), start(5), start(6))
            found = await desk.store.find_run("place_order", "k")
            assert found is not None
            assert found.run == 4

        _at_a_desk(store, test)

    def test_a_run_id_stands_for_one_run(self, store: MakeStore) -> None:
        async def test(desk: Desk) -> None:
            await desk.record(start(1))
            assert isinstance(await desk.refused(start(1, workflow="renew")), Contradiction)

        _at_a_desk(store, test)

    def test_an_event_is_received_once(self, store: MakeStore) -> None:
        async def test(desk: Desk) -> None:
            taken = inbox_row("m-1", state="taken", run=1, position="5", round="")
            first, again, other = await desk.outcomes(
                decision(1, inbox=[taken], facts=[fact_row(1, "5")]),
                decision(2, inbox=[taken._replace(run=2)], facts=[fact_row(2, "5")]),
                decision(inbox=[inbox_row("m-1", source="another carrier")]),
            )
            assert first.error is None
            assert other.error is None
            assert isinstance(again.error, Conflict)
            assert await desk.store.find_event("carrier", "m-1") == taken

        _at_a_desk(store, test)

    def test_a_row_that_cannot_be_stored_hits_its_decision_only(self, store: MakeStore) -> None:
        wrong: list[Any] = [1 << 70, "\ud800", object(), "not a number"]

        async def test(desk: Desk) -> None:
            for n, value in enumerate(wrong):
                bad = decision(1, facts=[fact_row(1, "1", seq=value)])
                first, refused, last = await desk.outcomes(start(2 * n + 1), bad, start(2 * n + 2))
                assert first.error is None
                assert last.error is None
                assert isinstance(refused.error, StoreError)
            assert isinstance(await desk.refused(decision(1, runs=[run_row(99, workflow=None)])), StoreError)
            assert len(await desk.store.runs_to_load(0, 100)) == 2 * len(wrong)

        _at_a_desk(store, test)

    def test_reads_beside_writes_see_whole_commits(self, store: MakeStore) -> None:
        async def test(desk: Desk) -> None:
            await desk.record(start(1))
            written = 0

            async def write() -> None:
                nonlocal written
                for n in range(100):
                    rows = decision(1, facts=[fact_row(1, f"{n}.{m}", seq=10 * n + m) for m in range(10)])
                    rows.timers = [timer_row(1, str(n))]
                    await desk.record(rows)
                    written = n + 1

            async def read() -> None:
                while written < 100:
                    known = written
                    stored = await desk.store.load_run(1)
                    assert stored is not None
                    assert len(stored.facts) == 10 * len(stored.timers)
                    assert len(stored.timers) >= known, "a read began after an outcome and did not see it"

            await asyncio.gather(write(), read(), read())

        _at_a_desk(store, test)

    # Works: handlers that take part in the transaction

    def test_what_a_handler_writes_is_committed_with_its_decision(self, store: MakeStore) -> None:
        self.need(Capability.TRANSACTIONS)
        seen: list[Any] = []

        def script() -> Script:
            seen.append((yield execute("insert into orders (id, total) values (?, ?)", "o-1", "9.90")))
            seen.append(
                (
                    yield Statement(
                        "executemany", "insert into orders (id, total) values (?, ?)", (("o-2", "1"), ("o-3", "2"))
                    )
                )
            )
            seen.append((yield execute("update orders set total = ? where id <> ?", "0", "o-1")))
            rows = yield fetch("select id, total from orders order by id")
            seen.append([(row["id"], row[1], list(row.keys())) for row in rows])
            row = yield Statement("fetch_one", "select total from orders where id = ?", ("o-1",))
            seen.append(row["total"])
            seen.append((yield Statement("fetch_one", "select total from orders where id = ?", ("o-9",))))
            seen.append((yield execute("delete from orders where id = ?", "o-9")))
            return decision(1, runs=[run_row(1)], facts=[fact_row(1, "1")])

        async def test(desk: Desk) -> None:
            await _make_orders(desk)
            work = ScriptedWork(script)
            (outcome,) = await desk.outcomes(work)
            assert (work.error, outcome.error) == (None, None)
            assert outcome.work is work
            assert outcome.decision is not None
            assert outcome.decision.facts == [fact_row(1, "1")]
            assert work.was_undone is False
            columns = ["id", "total"]
            assert seen == [
                1,
                2,
                2,
                [("o-1", "9.90", columns), ("o-2", "0", columns), ("o-3", "0", columns)],
                "9.90",
                None,
                0,
            ]
            assert await _orders(desk) == ["o-1", "o-2", "o-3"]
            assert await desk.store.load_run(1) is not None

        _at_a_desk(store, test)

    def test_what_a_failed_handler_wrote_is_undone_and_its_failure_recorded(self, store: MakeStore) -> None:
        self.need(Capability.TRANSACTIONS)

        def script() -> Script:
            yield execute("insert into orders (id) values ('o-1')")
            raise ConnectionRefusedError

        async def test(desk: Desk) -> None:
            await _make_orders(desk)
            await desk.record(start(1))
            work = ScriptedWork(script, otherwise=decision(1, attempts=[attempt_row(1)]))
            neighbour = one_statement(execute("insert into orders (id) values ('o-2')"), start(2))
            await desk.record(work, neighbour)
            assert work.was_undone is True
            assert await _orders(desk) == ["o-2"]
            stored = await desk.store.load_run(1)
            assert stored is not None
            assert stored.attempts == [attempt_row(1)]

        _at_a_desk(store, test)

    def test_a_handler_is_told_of_a_failed_statement_and_may_go_on(self, store: MakeStore) -> None:
        self.need(Capability.TRANSACTIONS)
        errors: list[StatementError] = []

        def script() -> Script:
            yield execute("insert into orders (id) values ('o-1')")
            for statement in (
                execute("insert into orders (id) values ('o-1')"),
                execute("insert into orders (id) values (null)"),
                execute("insert into orders (id, total) values ('o-9', 'minus')"),
                execute("insert into lines (order_id) values ('unheard-of')"),
                execute("selec 1"),
                execute("insert into orders (id) values (?)"),
                execute("insert into orders (id) values ('a'); delete from orders"),
                fetch("select * from nowhere"),
            ):
                try:
                    yield statement
                except StatementError as error:
                    errors.append(error)
            yield execute("insert into orders (id) values ('o-2')")
            return start(1)

        async def test(desk: Desk) -> None:
            await _make_orders(desk)
            await desk.record(ScriptedWork(script))
            assert [error.constraint for error in errors if isinstance(error, StatementFailed)] == [
                "unique",
                "not-null",
                "check",
                "foreign-key",
                None,
                None,
                None,
                None,
            ]
            assert await _orders(desk) == ["o-1", "o-2"]

        _at_a_desk(store, test)

    def test_a_handler_that_does_not_mind_its_failed_statement_is_undone(self, store: MakeStore) -> None:
        self.need(Capability.TRANSACTIONS)

        async def test(desk: Desk) -> None:
            await _make_orders(desk)
            work = statements(
                execute("insert into orders (id) values ('o-1')"), execute("insert into nowhere values (1)")
            )
            await desk.record(work)
            assert isinstance(work.error, StatementFailed)
            assert work.was_undone is True
            assert await _orders(desk) == []

        _at_a_desk(store, test)

    def test_a_handler_that_is_performed_again_does_not_write_twice(self, store: MakeStore) -> None:
        """Its outcome is there already, from a commit that nobody was told of: the second writes go, the first stay."""
        self.need(Capability.TRANSACTIONS)

        async def test(desk: Desk) -> None:
            await _make_orders(desk)
            await desk.record(start(1))
            for n in range(2):
                work = one_statement(
                    execute("insert into orders (id) values (?)", f"o-{n}"), decision(1, facts=[fact_row(1, "1")])
                )
                await desk.record(work)
            assert await _orders(desk) == ["o-0"]

        _at_a_desk(store, test)

    def test_a_handler_whose_outcome_is_denied_keeps_nothing(self, store: MakeStore) -> None:
        self.need(Capability.TRANSACTIONS)

        async def test(desk: Desk) -> None:
            await _make_orders(desk)
            await desk.record(decision(1, runs=[run_row(1)], facts=[fact_row(1, "1", "rejected:timeout")]))
            work = one_statement(
                execute("insert into orders (id) values ('o-1')"), decision(1, facts=[fact_row(1, "1")])
            )
            neighbour = one_statement(execute("insert into orders (id) values ('o-2')"), start(2))
            refused, kept = await desk.outcomes(work, neighbour)
            assert isinstance(refused.error, Contradiction)
            assert refused.work is work
            assert kept.error is None
            assert await _orders(desk) == ["o-2"]

        _at_a_desk(store, test)

    def test_handlers_of_a_group_see_what_those_before_them_wrote(self, store: MakeStore) -> None:
        self.need(Capability.TRANSACTIONS)
        counts: list[int] = []

        def script() -> Script:
            row = yield Statement("fetch_one", "select count(*) from orders", ())
            counts.append(row[0])
            yield execute("insert into orders (id) values (?)", f"o-{row[0]:02}")
            return None

        async def test(desk: Desk) -> None:
            await _make_orders(desk)
            await desk.record(*(ScriptedWork(script) for _ in range(70)))
            assert counts == list(range(70))

        _at_a_desk(store, test)

    def test_a_mistake_in_what_a_handler_decides_undoes_it_and_is_told(self, store: MakeStore) -> None:
        self.need(Capability.TRANSACTIONS)

        class Broken(ScriptedWork):
            def finish(self, *, undo: bool) -> Decision | None:
                raise ZeroDivisionError

        def script() -> Script:
            yield execute("insert into orders (id) values ('o-1')")
            return None

        async def test(desk: Desk) -> None:
            await _make_orders(desk)
            broken, fine = await desk.outcomes(Broken(script), start(1))
            assert isinstance(broken.error, ZeroDivisionError)
            assert fine.error is None
            assert await _orders(desk) == []

        _at_a_desk(store, test)

    def test_the_transaction_is_not_the_handlers_to_end(self, store: MakeStore) -> None:
        self.need(Capability.TRANSACTIONS)
        forbidden = (
            "commit",
            "COMMIT;",
            "rollback",
            "begin",
            "begin immediate",
            "end",
            "savepoint s",
            "rollback to minuet_part",
        )

        async def test(desk: Desk) -> None:
            await _make_orders(desk)
            for sql in forbidden:
                work = statements(execute("insert into orders (id) values ('o-1')"), execute(sql))
                await desk.record(work, start(1))
                assert isinstance(work.error, StatementRefused), sql
                assert await _orders(desk) == [], sql

        _at_a_desk(store, test)

    def test_the_tables_of_minuet_are_not_the_handlers_to_touch(self, store: MakeStore) -> None:
        self.need(Capability.TRANSACTIONS)
        forbidden = (
            "select * from minuet_run",
            'select state from "MINUET_RUN"',
            "delete from minuet_fact",
            "update minuet_run set state = 'completed'",
            "insert into orders (id) select workflow from minuet_run",
            "with r as (select run from minuet_run) select * from r",
            "drop table minuet_run",
            "create table minuet_mine (id text)",
            "alter table minuet_run add column mine text",
            "create trigger mine after insert on minuet_run begin delete from orders; end",
            "create temp table minuet_run (run integer)",
            "create index mine on minuet_run (state)",
        )

        async def test(desk: Desk) -> None:
            await _make_orders(desk)
            await desk.record(start(1))
            for sql in forbidden:
                work = one_statement(execute(sql))
                await desk.record(work)
                assert isinstance(work.error, StatementRefused), sql
            assert await desk.store.load_run(1) is not None

        _at_a_desk(store, test)

    def test_a_service_makes_its_tables_in_a_group_of_its_own(self, store: MakeStore) -> None:
        self.need(Capability.TRANSACTIONS)

        async def test(desk: Desk) -> None:
            await desk.store.setup(
                statements(execute("create table a (n integer)"), execute("create table b (n integer)"))
            )
            failed = statements(execute("create table c (n integer)"), execute("create table a (n integer)"))
            await desk.store.setup(failed)
            assert isinstance(failed.error, StatementFailed)
            work = one_statement(execute("insert into c values (1)"))
            await desk.record(work)
            assert isinstance(work.error, StatementFailed), "half of a setup was kept"
            await desk.record(one_statement(execute("insert into b values (1)")))

        _at_a_desk(store, test)


async def _make_orders(desk: Desk) -> None:
    await desk.store.setup(
        statements(
            execute("create table orders (id text not null primary key, total text check (total <> 'minus'))"),
            execute("create table lines (order_id text references orders (id))"),
        )
    )


async def _orders(desk: Desk) -> list[str]:
    ids: list[str] = []

    def script() -> Script:
        rows = yield fetch("select id from orders order by id")
        ids.extend(row["id"] for row in rows)
        return None

    await desk.record(ScriptedWork(script))
    return ids


def _taken(run: int, message: str = "m-1") -> InboxTaken:
    return InboxTaken("taken", run, "5", "", "carrier", message)
