import dataclasses
from typing import Any

import pytest

from minuet.engine import bound, decide
from minuet.engine.answer import Done, Rejected
from minuet.engine.program import Program
from minuet.engine.row import RunState
from minuet.errors import InvalidPayload, StoreDamaged
from tests.unit.engine.made import (
    FAILS,
    NOW,
    Run,
    X,
    attempt,
    call,
    choice,
    deadline,
    each,
    loop,
    par,
    pivot,
    plan,
    ret,
    seq,
    sleep,
    step,
    stored,
    wait,
)

# Order


def test_steps_run_in_the_order_of_the_text_and_the_run_completes() -> None:
    run = Run(step("1"), step("2"))
    assert run.running == ["1"]
    assert run.load == 1
    run.ok("1")
    assert run.running == ["2"]
    run.ok("2", value=7)
    assert run.facts == ["1 ok", "2 ok"]
    assert (run.state, run.load, run.result) == ("completed", None, None)  # type: ignore[comparison-overlap]


def test_a_rejection_takes_back_what_was_done_last_first() -> None:
    run = Run(step("1"), step("2"), step("3", "no"))
    run.ok("1", "2").rejects("3", "no", "out of stock", {"left": 0})
    assert run.running == ["-2"]
    assert run.state == "compensating"
    run.ok("-2", "-1")
    assert run.facts == ["1 ok", "2 ok", "3 rejected:no", "2 compensated", "1 compensated"]
    assert run.state == "compensated"
    assert run.result == {"code": "no", "position": "3", "message": "out of stock", "details": {"left": 0}}


def test_a_branch_is_drained_before_its_sibling_is_taken_back() -> None:
    run = Run(par("1", step("1a", "no"), step("1b"), step("1c")))
    run.ok("1b").rejects("1a", "no")
    assert run.running == ["1c"]
    run.ok("1c")
    assert sorted(run.running) == ["-1b", "-1c"]


def test_a_run_that_only_waits_has_nothing_to_do_by_itself() -> None:
    assert Run(wait("1")).load == 0
    assert Run(sleep("1")).load == 0
    assert Run(step("1")).load == 1


# Answers that nobody waits for


def test_the_same_answer_again_is_ignored() -> None:
    run = Run(step("1"), step("2"))
    action = run.action("1")
    run.ok("1")
    assert decide.answered(run.k, action, action.ticket, Done(b"2"), run.now) is None


def test_a_late_answer_of_an_earlier_attempt_is_ignored() -> None:
    run = Run(step("1"))
    action, ticket = run.action("1"), 0
    run.fails("1").after(1000)
    assert run.running == ["1"]
    assert decide.answered(run.k, action, ticket, Done(b"1"), run.now) is None


def test_an_answer_while_the_next_attempt_has_not_begun_is_ignored() -> None:
    run = Run(step("1")).fails("1")
    action = run.action("1")
    assert decide.answered(run.k, action, action.ticket, Done(b"1"), run.now) is None


def test_a_late_answer_is_ignored_after_terminate() -> None:
    run = Run(step("1"))
    action = run.action("1")
    run.terminate()
    assert run.interrupted == ["1"]
    assert action.state == "over"
    assert decide.answered(run.k, action, 0, Done(b"1"), run.now) is None


def test_an_undeclared_rejection_is_parked_at_once() -> None:
    run = Run(step("1"), step("2", "no")).ok("1").rejects("2", "other", "hm")
    assert run.state == "stuck"
    assert run.reason is not None
    assert "'other'" in run.reason
    assert "does not declare" in run.reason
    assert run.running == []


def test_a_compensation_that_rejects_is_parked_at_once() -> None:
    run = Run(step("1"), step("2", "no")).ok("1").rejects("2", "no").rejects("-1", "no")
    assert (run.state, run.load) == ("stuck", 0)
    assert "may not reject" in (run.reason or "")


def test_an_event_that_nobody_waits_for_is_left_alone() -> None:
    run = Run(wait("1"), wait("2")).event("1", 5)
    assert run.value("1") == 5
    row = run.take(decide.Decided(run.k))
    assert row.is_empty
    assert decide.event_came(run.k, "1", (), None, run.now) is None  # type: ignore[arg-type]


def test_an_event_takes_the_timer_of_its_wait_away() -> None:
    run = Run(wait("1", timeout=("lit", 1000)), step("2"))
    assert run.timers == {"1 wait": 1000}
    run.event("1", {"a": 1})
    assert run.timers == {}
    assert run.running == ["2"]


def test_a_wait_that_ran_out_takes_no_event() -> None:
    run = Run(wait("1", timeout=("lit", 1000)), step("2")).after(1000)
    assert run.facts == ["1 fired"]
    assert not run.rows.waits
    assert decide.event_came(run.k, "1", (), None, run.now) is None  # type: ignore[arg-type]


def test_a_timer_is_not_due_before_its_time() -> None:
    run = Run(sleep("1"))
    assert decide.timer_due(run.k, "1", (), "sleep", run.now + 999) is None
    assert decide.timer_due(run.k, "2", (), "sleep", run.now + 9999) is None
    assert decide.timer_due(run.k, "1", (), "sleep", run.now + 1000) is not None


# Pause, resume, terminate


def test_a_paused_run_begins_nothing_and_learns_everything() -> None:
    run = Run(par("1", step("1a"), wait("1b")), step("2")).pause()
    run.ok("1a").event("1b")
    assert run.running == []
    assert run.load == 0, "what is held back waits for a person"
    run.resume()
    assert run.running == ["2"]
    assert run.load == 1


def test_a_timer_that_is_due_while_paused_waits_for_resume() -> None:
    run = Run(sleep("1"), step("2")).pause()
    run.now += 5000
    assert decide.timer_due(run.k, "1", (), "sleep", run.now) is None
    run.resume().after(0)
    assert run.facts == ["1 fired"]


def test_compensations_go_on_while_paused() -> None:
    run = Run(step("1"), step("2", "no")).ok("1").pause().rejects("2", "no")
    assert run.running == ["-1"]
    run.fails("-1").after(1000)
    assert run.running == ["-1"]
    run.ok("-1")
    assert run.state == "compensated"


def test_an_attempt_that_is_due_while_paused_is_held() -> None:
    run = Run(step("1")).fails("1").pause().after(1000)
    assert run.running == []
    assert run.action("1").state == "held"
    run.crash()
    assert run.action("1").state == "held"
    run.resume()
    assert run.running == ["1"]


def test_a_paused_run_stays_paused_when_it_is_read_anew() -> None:
    run = Run(step("1"), step("2")).pause().ok("1").crash().resume()
    assert run.running == ["2"]


def test_pausing_twice_and_resuming_what_runs_records_nothing() -> None:
    run = Run(step("1"))
    assert decide.resume(run.k, run.now).is_empty
    run.pause()
    assert decide.pause(run.k, run.now).is_empty


def test_a_run_that_has_ended_cannot_be_paused() -> None:
    run = Run(step("1")).ok("1")
    assert decide.pause(run.k, run.now).is_empty


def test_terminate_ends_at_once_and_compensates_nothing() -> None:
    run = Run(step("1"), par("2", step("2a"), wait("2b", timeout=("lit", 1000))), step("3")).ok("1").terminate()
    assert (run.state, run.load, run.rows.run.dirty if run.rows.run else 0) == ("terminated", None, 1)
    assert (run.running, run.timers, run.rows.waits) == ([], {}, {})
    assert run.interrupted == ["2a"]
    assert run.facts == ["1 ok"]


def test_terminate_ends_what_is_stuck_and_leaves_no_attempts() -> None:
    run = Run(step("1")).fails("1", final=True).terminate()
    assert (run.state, run.reason, run.rows.attempts) == ("terminated", None, {})
    assert decide.terminate(run.k, run.now).is_empty


# What persons do


def test_retry_counts_attempts_anew() -> None:
    run = Run(step("1"), step("2")).fails("1", "bug", final=True)
    assert run.state == "stuck"
    run.retry()
    assert (run.state, run.running, run.action("1").attempts) == ("running", ["1"], 0)
    run.ok("1", "2")
    assert (run.state, run.rows.attempts) == ("completed", {})


def test_retry_of_one_position_leaves_the_others() -> None:
    run = Run(par("1", step("1a"), step("1b"))).fails("1a", "x", final=True).fails("1b", "y", final=True)
    run.retry("1b")
    assert run.running == ["1b"]
    assert run.state == "stuck", "1a is parked still"
    assert run.reason is not None
    assert run.reason.startswith("1a")


def test_retry_takes_up_what_waits_for_its_next_attempt() -> None:
    run = Run(step("1")).fails("1").retry()
    assert run.running == ["1"]


def test_retry_of_a_paused_run_is_held() -> None:
    run = Run(step("1")).fails("1", final=True).pause().retry()
    assert run.running == []
    run.crash().resume()
    assert run.running == ["1"]


def test_resolve_records_what_was_done_by_hand() -> None:
    run = Run(step("1"), step("2")).fails("1", final=True)
    assert run.resolve("1", Done(b'"r-1"'))
    assert run.value("1") == "r-1"
    assert (run.state, run.running) == ("running", ["2"])


def test_resolve_may_reject_with_a_declared_code_only() -> None:
    run = Run(step("1"), step("2", "no")).ok("1").fails("2", final=True)
    with pytest.raises(InvalidPayload, match="does not reject"):
        run.resolve("2", Rejected("other"))
    assert run.resolve("2", Rejected("no"))
    assert run.running == ["-1"]


def test_resolve_leaves_what_runs_and_what_is_not_there() -> None:
    run = Run(step("1"))
    assert not run.resolve("1", Done(None))
    assert not run.resolve("9", Done(None))
    run.fails("1", final=True)
    assert not run.resolve("1", None), "it is a step, and no compensation"


def test_skip_records_a_compensation_and_marks_the_run_as_dirty() -> None:
    run = Run(step("1"), step("2", "no")).ok("1").rejects("2", "no")
    assert not run.skip("1"), "it runs"
    run.fails("-1", final=True)
    assert run.state == "stuck"
    assert run.skip("1")
    assert run.facts[-1] == "1 compensated"
    assert run.rows.run is not None
    assert (run.state, run.rows.run.dirty) == ("compensated", 1)


def test_resolve_of_a_compensation_leaves_the_run_clean() -> None:
    run = Run(step("1"), step("2", "no")).ok("1").rejects("2", "no").fails("-1", final=True)
    assert run.resolve("1", None)
    assert run.rows.run is not None
    assert (run.state, run.rows.run.dirty) == ("compensated", 0)


# Expressions that have no value where nothing can be taken back


def test_a_guard_without_a_value_after_a_pivot_stops_the_run_until_a_person_decides() -> None:
    run = Run(pivot("1"), choice("2", FAILS, step("2.then.1"), step("2.else.1"))).ok("1")
    assert (run.state, run.load, run.running) == ("stuck", 0, [])
    assert run.reason is not None
    assert run.reason.startswith("2: ")
    with pytest.raises(InvalidPayload, match="true or false"):
        run.resolve("2", Done(b"1"))
    assert run.resolve("2", Done(b"false"))
    assert (run.state, run.running, run.facts[-1]) == ("running", ["2.else.1"], "2 chosen:else")
    run.crash(crashed=False).ok("2.else.1")
    assert run.state == "completed"


def test_a_recorded_decision_without_a_value_after_a_pivot_stops_the_run_until_a_person_decides() -> None:
    run = Run(pivot("1"), choice("2", FAILS, step("2.then.1"), at="s")).ok("1")
    assert run.state == "stuck"
    assert run.resolve("2", Done(b"true"))
    assert run.running == ["2.then.1"]


def test_a_wait_without_a_key_after_a_pivot_stops_the_run_until_a_person_gives_the_event() -> None:
    run = Run(pivot("1"), wait("2", key=FAILS), step("3")).ok("1")
    assert run.state == "stuck"
    assert run.resolve("2", Done(b'{"a": 1}'))
    assert run.value("2") == {"a": 1}
    assert run.running == ["3"]


def test_a_sleep_without_a_duration_after_a_pivot_stops_the_run_until_a_person_lets_it_go_on() -> None:
    run = Run(pivot("1"), sleep("2", duration=FAILS), step("3")).ok("1")
    assert run.state == "stuck"
    assert run.resolve("2", Done(None))
    assert (run.facts[-1], run.running) == ("2 fired", ["3"])


def test_a_list_that_is_too_long_after_a_pivot_stops_the_run_until_a_person_gives_the_results() -> None:
    run = Run(pivot("1"), each("2", X, step("2.1"), limit=1), ret(("var", "v2")), x=[1, 2]).ok("1")
    assert run.state == "stuck"
    assert "too-many" in (run.reason or "")
    with pytest.raises(InvalidPayload, match="list"):
        run.resolve("2", Done(b"1"))
    assert run.resolve("2", Done(b"[5]"))
    assert (run.state, run.result) == ("completed", [5])


def test_a_deadline_that_is_no_duration_stops_the_run_visibly_and_its_block_goes_on() -> None:
    run = Run(deadline("1", seq(step("1.1"), step("1.2")), X), x="soon")
    assert (run.state, run.running) == ("stuck", ["1.1"])
    run.ok("1.1")
    assert run.resolve("1", Done(None))
    assert (run.state, run.facts) == ("running", ["1.1 ok", "1 gone"])
    run.ok("1.2")
    assert run.state == "completed"


def test_a_block_that_ends_by_itself_needs_no_deadline_any_more() -> None:
    run = Run(deadline("1", step("1.1"), X), step("2"), x="soon").ok("1.1")
    assert (run.state, run.running) == ("running", ["2"])


def test_a_result_without_a_value_stops_the_run_until_a_person_gives_it() -> None:
    run = Run(step("1"), ret(FAILS)).ok("1")
    assert (run.state, run.load) == ("stuck", 0)
    assert run.reason is not None
    assert run.reason.startswith("$result: ")
    assert run.resolve("$result", Done(b"42"))
    assert (run.state, run.result) == ("completed", 42)


def test_retry_does_not_help_where_an_expression_failed() -> None:
    run = Run(pivot("1"), choice("2", FAILS, step("2.then.1"))).ok("1")
    assert decide.retry_now(run.k, None, run.now).is_empty
    assert run.state == "stuck"


def test_a_mended_expression_is_found_when_the_run_is_read_anew(monkeypatch: pytest.MonkeyPatch) -> None:
    run = Run(pivot("1"), choice("2", FAILS, step("2.then.1"))).ok("1")
    monkeypatch.setattr("minuet.engine.knowledge.evaluate", lambda e, read: True)
    d = decide.recall(run.program, stored(run), run.now)
    assert d.knowledge.state == RunState.RUNNING
    assert [a.rule.position for a in d.actions] == ["2.then.1"]


# The same before anything final: an answer like any other


@pytest.mark.parametrize(
    ("part", "fact"),
    [
        (choice("2", FAILS, step("2.then.1")), None),
        (choice("2", FAILS, step("2.then.1"), at="s"), "2 rejected:invalid-value"),
        (wait("2", key=FAILS), "2 rejected:invalid-value"),
        (wait("2", timeout=FAILS), "2 rejected:invalid-value"),
        (sleep("2", duration=FAILS), "2 rejected:invalid-value"),
        (sleep("2", until=FAILS), "2 rejected:invalid-value"),
        (each("2", FAILS, step("2.1")), "2 failed:invalid-value"),
        (deadline("2", step("2.1"), FAILS), None),
    ],
)
def test_an_expression_without_a_value_rejects_where_everything_can_be_taken_back(part: Any, fact: str | None) -> None:
    run = Run(step("1"), part, step("3")).ok("1")
    assert run.running == ["-1"]
    run.ok("-1")
    assert run.facts == ["1 ok", *([fact] if fact else []), "1 compensated"]
    assert (run.state, run.result["code"], run.result["position"]) == ("compensated", "invalid-value", "2")


def test_an_invalid_value_can_be_caught() -> None:
    run = Run(attempt("1", seq(step("1.1"), choice("1.2", FAILS, step("1.2.then.1"))), "invalid-value"), step("2"))
    run.ok("1.1", "-1.1")
    assert run.running == ["2"]


@pytest.mark.parametrize("key", [None, [], {}, [1], "", "a\nb", "k" * 257, 1.5])
def test_only_short_printable_text_and_numbers_are_keys(key: Any) -> None:
    parts = (step("1"), choice("2", ("lit", True), seq()), wait("3", key=("if", ("lit", True), X, FAILS)))
    run = Run(*parts, x=key).ok("1")
    assert run.running == ([] if key == 1.5 else ["-1"])


def test_an_argument_without_a_value_is_rejected_by_whoever_runs_the_step() -> None:
    partial = step("2", arguments=(("a", FAILS),))
    run = Run(step("1"), partial).ok("1").rejects("2", "invalid-value")
    assert run.running == ["-1"]
    after = Run(pivot("1"), partial).ok("1").rejects("2", "invalid-value")
    assert after.state == "stuck"


# Bounds


def test_a_run_with_too_many_facts_begins_no_further_step(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(bound, "FACTS_PER_RUN", 2)
    run = Run(step("1"), step("2"), step("3", "no")).ok("1", "2")
    assert (run.state, run.running) == ("stuck", [])
    assert "2 facts" in (run.reason or "")
    assert run.resolve("3", Rejected("no")), "going back needs no room"
    run.ok("-2", "-1")
    assert run.state == "compensated"


# Recall


def test_rows_that_the_plan_does_not_know_are_damage() -> None:
    run = Run(step("1"), loop("2", 3, step("2.1"))).ok("1", "2.1[0]")
    sound = stored(run)
    first, second = sound.facts
    for facts in (
        [second],  # one is gone
        [first, second._replace(seq=3)],
        [first._replace(position="9"), second],
        [first._replace(label="chosen:then"), second],
        [first._replace(label="rejected:no"), second],
        [first, second._replace(round="")],
        [first, second._replace(round="0.0")],
        [first._replace(value="{"), second],
        [first._replace(value='"\ud800'), second],
    ):
        with pytest.raises((StoreDamaged, ValueError)):
            decide.recall(run.program, dataclasses.replace(sound, facts=facts), run.now)


def test_a_run_of_another_plan_is_damage() -> None:
    run = Run(step("1")).ok("1")
    with pytest.raises(StoreDamaged):
        decide.recall(Program(plan(step("7"))), stored(run), run.now)


def test_a_terminated_run_has_nothing_to_do_when_it_is_read_anew() -> None:
    run = Run(step("1"), step("2")).ok("1").terminate()
    d = decide.recall(run.program, stored(run), run.now, crashed=True)
    assert d.is_empty
    assert (d.actions, d.knowledge.pending, d.knowledge.agenda) == ([], {}, [])


def test_what_ended_stays_ended_when_it_is_read_anew() -> None:
    run = Run(step("1"), step("2", "no")).ok("1").rejects("2", "no").ok("-1").crash()
    assert run.state == "compensated"
    assert run.running == []


def test_since_when_something_is_waited_for_survives_a_restart() -> None:
    run = Run(par("1", step("1a"), step("1b")), step("2"))
    run.now += 500
    run.ok("1a").crash(crashed=False)
    assert run.action("1b").since_ms == NOW


# States


def test_a_run_whose_attempt_was_taken_back_is_running_again() -> None:
    run = Run(attempt("1", seq(step("1.1"), step("1.2", "no")), "no"), sleep("2"), step("3"))
    run.ok("1.1").rejects("1.2", "no")
    assert run.state == "compensating"
    run.ok("-1.1")
    assert run.state == "running", "nothing is taken back while it sleeps"


def test_a_run_that_cannot_be_saved_goes_on_compensating_while_branches_drain() -> None:
    run = Run(step("1"), par("2", call("2a", seq(step("2a.1"), step("2a.2", "no"))), step("2b")))
    run.ok("1", "2a.1").rejects("2a.2", "no").ok("-2a.1")
    assert run.state == "compensating"
    assert run.running == ["2b"]


def test_the_reason_of_a_stuck_run_is_that_of_whoever_still_is() -> None:
    run = Run(par("1", step("1a"), step("1b"))).fails("1a", "x", final=True).fails("1b", "y", final=True)
    assert (run.reason or "").startswith("1a")
    assert run.resolve("1a", Done(None))
    assert (run.reason or "").startswith("1b")
    assert run.resolve("1b", Done(None))
    assert (run.state, run.reason) == ("completed", None)


def test_a_stuck_run_takes_answers_of_what_still_runs() -> None:
    run = Run(par("1", step("1a"), step("1b")), step("2")).fails("1a", final=True).ok("1b")
    assert run.state == "stuck"
    assert run.load == 0
    assert run.resolve("1a", Done(None))
    assert run.running == ["2"]


def test_a_decision_is_empty_where_nothing_is_to_be_recorded() -> None:
    run = Run(step("1")).ok("1")
    _, d = decide.cancel(run.k, run.now)
    assert d.is_empty
