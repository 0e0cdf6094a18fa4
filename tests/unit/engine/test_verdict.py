import pytest

from minuet.engine import decide
from minuet.engine.answer import Done
from tests.unit.engine.made import (
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
    reject,
    seq,
    sleep,
    step,
    wait,
)

# Cancel


def test_a_cancelled_run_rejects_its_next_position_and_takes_back_what_was_done() -> None:
    run = Run(step("1"), step("2"), step("3")).ok("1")
    assert run.cancel() == "asked"
    assert run.running == ["2"], "what runs goes on to its end"
    run.ok("2")
    assert run.facts == ["1 ok", "$cancel requested", "2 ok", "3 rejected:cancelled"]
    run.ok("-2", "-1")
    assert (run.state, run.result["code"], run.result["position"]) == ("compensated", "cancelled", "3")


def test_a_run_that_waits_is_cancelled_at_once() -> None:
    run = Run(step("1"), wait("2", timeout=("lit", 1000))).ok("1")
    run.cancel()
    assert (run.rows.waits, run.timers, run.running) == ({}, {}, ["-1"])
    assert run.facts[-1] == "2 rejected:cancelled"


def test_a_run_that_sleeps_is_cancelled_at_once() -> None:
    run = Run(step("1"), sleep("2")).ok("1")
    run.cancel()
    assert (run.timers, run.running) == ({}, ["-1"])


def test_a_run_between_two_attempts_is_cancelled_at_once() -> None:
    run = Run(step("1"), step("2")).ok("1").fails("2")
    run.cancel()
    assert (run.running, run.rows.attempts) == (["-1"], {})


def test_a_parked_run_is_cancelled_at_once() -> None:
    run = Run(step("1"), step("2")).ok("1").fails("2", final=True)
    assert run.state == "stuck"
    run.cancel()
    assert (run.state, run.running, run.reason) == ("compensating", ["-1"], None)


def test_a_paused_run_is_cancelled_at_once() -> None:
    run = Run(step("1"), step("2")).pause().ok("1")
    run.cancel()
    assert run.running == ["-1"]


def test_an_attempt_that_fails_after_the_cancellation_is_not_made_again() -> None:
    run = Run(step("1"), step("2")).ok("1")
    run.cancel()
    run.fails("2")
    assert (run.facts[-1], run.running) == ("2 rejected:cancelled", ["-1"])


def test_a_cancellation_survives_a_crash() -> None:
    run = Run(step("1"), step("2"), step("3")).ok("1")
    run.cancel()
    run.crash(crashed=False)
    assert run.running == ["2"], "it had begun: whether it is done is to be found out"
    run.ok("2")
    assert (run.facts[-1], run.running) == ("3 rejected:cancelled", ["-2"])
    assert run.cancel() == "already-ending"


def test_no_attempt_catches_a_cancellation() -> None:
    run = Run(attempt("1", seq(step("1.1"), step("1.2"))), step("2")).ok("1.1")
    run.cancel()
    run.fails("1.2").ok("-1.1")
    assert (run.facts[-2], run.state) == ("1.2 rejected:cancelled", "compensated")


def test_parallel_branches_are_drained_and_taken_back() -> None:
    run = Run(step("1"), par("2", call("2a", seq(step("2a.1"), step("2a.2"))), wait("2b"), step("2c"))).ok("1")
    run.cancel()
    assert run.facts[-1] == "2b rejected:cancelled"
    run.ok("2a.1")
    assert run.facts[-1] == "2a.2 rejected:cancelled"
    run.ok("2c")
    assert run.running == ["-2a.1"], "a branch takes itself back first"
    run.ok("-2a.1", "-2c", "-1")
    assert (run.state, run.result["position"]) == ("compensated", "2a.2"), "the first branch in the order of the text"


def test_elements_that_have_not_begun_are_cancelled() -> None:
    run = Run(each("1", X, step("1.1"), at_once=1), x=[1, 2, 3])
    run.cancel()
    run.ok("1.1[0]")
    assert run.facts[-2:] == ["1.1[2] rejected:cancelled", "1 back"]
    run.ok("-1.1[0]")
    assert run.state == "compensated"


def test_a_pivot_that_has_not_begun_is_cancelled() -> None:
    run = Run(step("1"), pivot("2")).fails("1")
    run.cancel()
    assert run.state == "compensated"


def test_whoever_runs_the_pivot_decides_on_a_cancellation() -> None:
    done = Run(step("1"), pivot("2", "no"), step("3")).ok("1")
    assert done.cancel() == "pivot-in-flight"
    done.ok("2")
    assert done.running == ["3"]
    done.ok("3")
    assert done.state == "completed"
    rejected = Run(step("1"), pivot("2", "no"), step("3")).ok("1")
    rejected.cancel()
    rejected.rejects("2", "no").ok("-1")
    assert (rejected.state, rejected.result["code"]) == ("compensated", "no")
    failed = Run(step("1"), pivot("2", "no"), step("3")).ok("1")
    failed.cancel()
    failed.fails("2").ok("-1")
    assert (failed.state, failed.result["code"]) == ("compensated", "cancelled")


def test_after_the_pivot_a_cancellation_has_no_effect_and_is_not_recorded() -> None:
    run = Run(step("1"), pivot("2"), step("3"), wait("4")).ok("1", "2")
    assert run.cancel() == "past-pivot"
    run.ok("3").event("4")
    assert run.state == "completed"
    assert "$cancel requested" not in run.facts


def test_beside_a_pivot_nothing_is_cancelled() -> None:
    run = Run(par("1", call("1a", seq(step("1a.1"), pivot("1a.2"))), call("1b", seq(wait("1b.1"), step("1b.2")))))
    run.cancel()
    assert list(run.rows.waits) == [("1b.1", "")], "the pivot of the other branch may be done by then"
    run.ok("1a.1")
    assert run.facts[-1] == "1a.2 rejected:cancelled"
    run.ok("-1a.1").event("1b.1").ok("1b.2", "-1b.2")
    assert run.state == "compensated"
    assert "1b.1 rejected:cancelled" not in run.facts


def test_a_compensating_or_ended_run_is_already_ending() -> None:
    run = Run(step("1"), step("2", "no")).ok("1").rejects("2", "no")
    assert run.cancel() == "already-ending"
    run.ok("-1")
    assert run.cancel() == "already-ending"
    assert "$cancel requested" not in run.facts


def test_a_run_that_takes_back_an_attempt_can_be_cancelled() -> None:
    run = Run(attempt("1", seq(step("1.1"), step("1.2", "no")), "no"), step("2")).ok("1.1").rejects("1.2", "no")
    assert run.cancel() == "asked"
    run.ok("-1.1")
    assert (run.facts[-1], run.state) == ("2 rejected:cancelled", "compensated")


def test_what_was_kept_does_not_stand_in_the_way_of_a_cancellation() -> None:
    run = Run(pivot("1", keep=True), pivot("2", pure=True), step("3"), step("4")).ok("1", "2")
    assert run.cancel() == "asked"
    run.ok("3", "-3")
    assert run.state == "compensated"


def test_an_arm_that_is_not_taken_is_not_cancelled() -> None:
    run = Run(choice("1", ("lit", False), step("1.then.1"), wait("1.else.1")), step("2"))
    run.cancel()
    assert run.facts == ["$cancel requested", "1.else.1 rejected:cancelled"]


# Deadlines


def test_a_deadline_that_passes_while_a_step_runs_rejects_the_next_one() -> None:
    run = Run(step("1"), deadline("2", seq(step("2.1"), step("2.2")))).ok("1").after(5000)
    assert (run.facts[-1], run.running) == ("2 fired", ["2.1"])
    run.ok("2.1")
    assert run.facts[-1] == "2.2 rejected:deadline@2"
    run.ok("-2.1", "-1")
    assert (run.state, run.result["code"], run.result["position"]) == ("compensated", "deadline", "2.2")


def test_a_step_that_is_the_last_of_its_block_beats_the_deadline() -> None:
    run = Run(deadline("1", step("1.1")), step("2")).after(5000).ok("1.1")
    assert run.running == ["2"]


def test_a_deadline_ends_a_wait_and_a_sleep_at_once() -> None:
    body = par("1.1", wait("1.1a", timeout=("lit", 9000)), sleep("1.1b", duration=("lit", 9000)))
    run = Run(deadline("1", body)).after(5000)
    assert (run.rows.waits, run.timers, run.state) == ({}, {}, "compensated")
    assert sorted(run.facts) == ["1 fired", "1.1a rejected:deadline@1", "1.1b rejected:deadline@1"]


def test_a_deadline_ends_what_waits_for_its_next_attempt() -> None:
    run = Run(deadline("1", step("1.1"))).fails("1.1", retry_after_ms=9000).after(5000)
    assert (run.facts[-1], run.rows.attempts) == ("1.1 rejected:deadline@1", {})


def test_a_deadline_that_passes_between_two_attempts_ends_the_next_failure() -> None:
    run = Run(deadline("1", step("1.1"))).after(5000).fails("1.1")
    assert run.facts[-1] == "1.1 rejected:deadline@1"


@pytest.mark.parametrize("end", ["ok", "rejected"])
def test_a_block_that_has_ended_has_no_deadline_any_more(end: str) -> None:
    run = Run(attempt("1", deadline("2", step("2.1", "no"))), step("3"))
    assert run.timers == {"2 deadline": 5000}
    run.ok("2.1") if end == "ok" else run.rejects("2.1", "no")
    assert (run.timers, run.running) == ({}, ["3"])
    run.crash(crashed=False).after(9000)
    assert run.running == ["3"]


def test_a_deadline_inside_an_attempt_is_caught() -> None:
    for codes in ((), ("deadline",)):
        run = Run(attempt("1", deadline("2", wait("2.1")), *codes), step("3")).after(5000)
        assert run.running == ["3"]


def test_a_deadline_inside_an_attempt_that_lists_others_is_not_caught() -> None:
    run = Run(attempt("1", deadline("2", wait("2.1")), "no"), step("3")).after(5000)
    assert (run.state, run.result["code"]) == ("compensated", "deadline")


def test_a_deadline_around_an_attempt_is_not_caught_by_it() -> None:
    run = Run(deadline("1", seq(attempt("2", wait("2.1")), step("3")))).after(5000)
    assert (run.state, run.result["code"]) == ("compensated", "deadline")


def test_of_nested_deadlines_the_one_that_passes_rejects() -> None:
    body = attempt("2", deadline("3", wait("3.1"), ("lit", 1000)))
    run = Run(deadline("1", seq(body, wait("4"))))
    assert run.timers == {"1 deadline": 5000, "3 deadline": 1000}
    run.after(1000)
    assert (run.facts[-1], list(run.rows.waits)) == ("3.1 rejected:deadline@3", [("4", "")])
    run.after(4000)
    assert (run.facts[-1], run.state) == ("4 rejected:deadline@1", "compensated")


def test_when_both_deadlines_have_passed_the_outer_one_wins() -> None:
    body = attempt("2", deadline("3", seq(step("3.1"), step("3.2")), ("lit", 1000)))
    run = Run(deadline("1", body, ("lit", 2000))).after(2000).ok("3.1")
    assert run.facts[-1] == "3.2 rejected:deadline@1"
    run.ok("-3.1")
    assert run.state == "compensated"


def test_each_round_of_a_loop_has_its_own_deadline() -> None:
    run = Run(loop("1", 3, attempt("2", deadline("3", seq(step("3.1"), step("3.2"))))), step("4"))
    assert run.timers == {"3[0] deadline": 5000}
    run.after(5000).ok("3.1[0]", "-3.1[0]")
    assert run.timers == {"3[1] deadline": 10_000}
    run.after(1000).ok("3.1[1]", "3.2[1]")
    assert run.timers == {"3[2] deadline": 11_000}
    run.ok("3.1[2]", "3.2[2]")
    assert (run.timers, run.running) == ({}, ["4"])


def test_each_element_has_its_own_deadline() -> None:
    run = Run(
        each(
            "1", X, call("1.1", deadline("1.1.1", wait("1.1.1.1", key=("var", "item"))), (("item", ("var", "item")),))
        ),
        x=["a", "b"],
    )
    assert run.timers == {"1.1.1[0] deadline": 5000, "1.1.1[1] deadline": 5000}
    run.event("1.1.1.1", round_=(0,))
    assert run.timers == {"1.1.1[1] deadline": 5000}
    run.after(5000)
    assert (run.state, run.result["position"]) == ("compensated", "1.1.1.1")


def test_a_deadline_around_an_each_reaches_its_elements() -> None:
    run = Run(deadline("1", each("2", X, wait("2.1", key=("var", "item")))), x=["a", "b"]).after(5000)
    assert run.facts[1:3] == ["2.1[0] rejected:deadline@1", "2.1[1] rejected:deadline@1"]
    assert run.state == "compensated"


def test_after_a_pivot_a_deadline_has_no_effect() -> None:
    run = Run(deadline("1", seq(step("1.1"), pivot("1.2"), wait("1.3"), step("1.4")))).ok("1.1", "1.2").after(5000)
    assert (run.facts[-1], list(run.rows.waits)) == ("1 fired", [("1.3", "")])
    run.event("1.3").ok("1.4")
    assert run.state == "completed"


def test_a_deadline_while_paused_passes_when_the_run_goes_on() -> None:
    run = Run(deadline("1", wait("1.1"))).pause()
    run.now += 9000
    assert decide.timer_due(run.k, "1", (), "deadline", run.now) is None
    run.resume().after(0)
    assert run.state == "compensated"


def test_a_deadline_and_a_cancellation_are_one_rejection() -> None:
    run = Run(deadline("1", seq(step("1.1"), wait("1.2")))).after(5000)
    run.cancel()
    run.ok("1.1")
    assert run.facts[-1] == "1.2 rejected:cancelled"
    run.ok("-1.1")
    assert run.result["code"] == "cancelled"


def test_what_is_taken_back_has_no_deadline() -> None:
    run = Run(deadline("1", seq(step("1.1"), step("1.2"), reject("1.3", "no")))).ok("1.1", "1.2").after(5000)
    assert run.running == ["-1.2"]
    run.ok("-1.2", "-1.1")
    assert (run.state, run.result["code"]) == ("compensated", "no")


def test_a_deadline_of_nothing_passes_at_once() -> None:
    run = Run(deadline("1", wait("1.1"), ("lit", 0))).after(0)
    assert run.state == "compensated"


def test_a_deadline_passes_in_a_called_workflow_too() -> None:
    run = Run(deadline("1", call("2", seq(step("2.1"), step("2.2"))))).after(5000).ok("2.1")
    assert run.facts[-1] == "2.2 rejected:deadline@1"


def test_a_late_abandoned_step_is_not_called_off() -> None:
    run = Run(step("1"), step("2", timeout_ms=1000, timeout_then="abandon")).ok("1").after(1000)
    assert run.resolve("2", Done(None)) is False, "it runs"
    assert run.cancel() == "already-ending"
    run.ok("2", "-2", "-1")
    assert run.load is None
