import math

import pytest

from minuet.contracts.action import RetryPolicy
from minuet.engine import bound, decide
from minuet.engine.answer import Done, Failed
from minuet.engine.retry import delay_ms, total_ms
from tests.unit.engine.made import Run, attempt, par, pivot, seq, step

POLICY = RetryPolicy(attempts=5, first_ms=1000, factor=2, at_most_ms=5000)


def test_delays_double_up_to_the_longest_with_a_jitter_of_a_half_to_one() -> None:
    for attempts, longest in ((1, 1000), (2, 2000), (3, 4000), (4, 5000), (5, 5000), (1000, 5000)):
        delays = {delay_ms(POLICY, attempts, f"key-{i}") for i in range(300)}
        assert longest / 2 <= min(delays) < longest * 0.55
        assert longest * 0.95 < max(delays) <= longest


def test_the_delay_of_an_attempt_is_the_same_whenever_it_is_asked_for() -> None:
    assert delay_ms(POLICY, 3, "k") == delay_ms(POLICY, 3, "k")
    assert delay_ms(POLICY, 3, "k") != delay_ms(POLICY, 3, "l")


@pytest.mark.parametrize("factor", [1.0, 1e6, 1e300])
def test_no_factor_is_too_large(factor: float) -> None:
    policy = RetryPolicy(attempts=0, first_ms=1, factor=factor, at_most_ms=10_000)
    assert 1 <= delay_ms(policy, 10_000, "k") <= 10_000


def test_the_delays_of_a_policy_add_up() -> None:
    assert total_ms(POLICY) == 1000 + 2000 + 4000 + 5000
    assert math.isinf(total_ms(RetryPolicy(attempts=0)))
    assert 8 * 60_000 < total_ms(bound.RETRY) < 9 * 60_000, "a restart and a failover are covered"


def test_a_failed_attempt_is_tried_again_after_its_delay() -> None:
    run = Run(step("1")).fails("1", "ConnectionRefusedError")
    assert (run.running, run.load) == ([], 1)
    (row,) = run.rows.attempts.values()
    assert (row.state, row.attempts, row.error) == ("waiting", 1, "ConnectionRefusedError")
    assert 500 <= row.next_at_ms - run.now <= 1000
    assert decide.retry_due(run.k, run.action("1"), row.next_at_ms - 1) is None
    run.after(1000)
    assert run.running == ["1"]
    run.ok("1")
    assert (run.state, run.rows.attempts) == ("completed", {})


def test_the_errors_own_wish_wins_over_the_computed_delay() -> None:
    run = Run(step("1")).fails("1", retry_after_ms=60_000).after(59_999)
    assert run.running == []
    run.after(1)
    assert run.running == ["1"]


def test_an_attempt_is_recorded_before_it_is_repeated() -> None:
    run = Run(step("1")).fails("1").after(1000)
    (row,) = run.rows.attempts.values()
    assert (row.state, row.attempts) == ("running", 1)


def test_a_step_whose_attempts_are_used_up_is_parked() -> None:
    run = Run(step("1", "no"), retry=RetryPolicy(attempts=3))
    for _ in range(3):
        run.fails("1", "down").after(10_000)
    assert (run.state, run.load, run.running) == ("stuck", 0, [])
    assert run.reason == "1 is parked after 3 attempts: down"
    (row,) = run.rows.attempts.values()
    assert (row.state, row.attempts) == ("parked", 3)


def test_a_step_may_be_rejected_instead_when_its_attempts_are_used_up() -> None:
    policy = RetryPolicy(attempts=2, then="reject")
    run = Run(step("1"), step("2", "no", retry=policy)).ok("1").fails("2", "down").after(1000).fails("2", "down")
    assert (run.running, run.facts[-1], run.value("2")["message"]) == (["-1"], "2 rejected:exhausted", "down")
    run.ok("-1")
    assert (run.state, run.result["code"], run.rows.attempts) == ("compensated", "exhausted", {})


def test_a_policy_that_rejects_is_kept_also_after_a_pivot() -> None:
    run = Run(pivot("1"), step("2", retry=RetryPolicy(attempts=2, then="reject"))).ok("1")
    run.fails("2").after(1000).fails("2")
    assert run.facts[-1] == "2 rejected:exhausted"


def test_exhausted_can_be_caught() -> None:
    policy = RetryPolicy(attempts=1, then="reject")
    run = Run(attempt("1", seq(step("1.1"), step("1.2", retry=policy)), "exhausted"), step("2"))
    run.ok("1.1").fails("1.2").ok("-1.1")
    assert run.running == ["2"]


def test_a_final_failure_is_parked_at_once() -> None:
    run = Run(step("1")).fails("1", "InvalidPayload", final=True)
    assert (run.state, run.reason) == ("stuck", "1 is parked: InvalidPayload")


def test_after_a_pivot_a_step_is_tried_until_it_succeeds_and_shown_as_stuck() -> None:
    run = Run(pivot("1"), step("2"), retry=RetryPolicy(attempts=3)).ok("1")
    for n in range(1, 25):
        assert run.state == ("stuck" if n > bound.STUCK_AFTER else "running")
        run.fails("2", f"down {n}").after(300_000)
    assert run.reason == "2 is stuck after 24 attempts: down 24"
    assert (run.running, run.load) == (["2"], 1)
    run.ok("2")
    assert run.state == "completed"
    assert run.reason is None


def test_a_step_that_may_reject_is_parked_also_after_a_pivot() -> None:
    run = Run(pivot("1"), step("2", "no"), retry=RetryPolicy(attempts=1)).ok("1").fails("2")
    assert (run.state, run.load) == ("stuck", 0)


def test_a_compensation_is_tried_for_ever_and_shown_as_stuck_while_others_go_on() -> None:
    run = Run(par("1", step("1a"), step("1b")), step("2", "no"), retry=RetryPolicy(attempts=2))
    run.ok("1a", "1b").rejects("2", "no")
    for n in range(1, 15):
        run.fails("-1a", f"down {n}").after(300_000)
        assert run.state == ("stuck" if n >= bound.STUCK_AFTER else "compensating")
    run.ok("-1b")
    assert (run.state, run.running) == ("stuck", ["-1a"])
    run.crash(crashed=False)
    assert run.state == "stuck"
    run.ok("-1a")
    assert run.state == "compensated"
    assert run.reason is None


@pytest.mark.parametrize("way", ["retry", "resolve", "skip"])
def test_a_compensation_that_is_stuck_can_be_freed(way: str) -> None:
    run = Run(step("1"), step("2", "no")).ok("1").rejects("2", "no")
    for _ in range(12):
        run.fails("-1", "down").after(300_000)
    run.fails("-1", "down")
    assert run.state == "stuck"
    match way:
        case "retry":
            run.retry()
            assert (run.state, run.running, run.reason) == ("compensating", ["-1"], None)
            run.ok("-1")
        case "resolve":
            assert run.resolve("1", None)
        case "skip":
            assert run.skip("1")
    assert run.rows.run is not None
    assert (run.state, run.rows.run.dirty) == ("compensated", int(way == "skip"))


# Crashes


def test_what_ran_when_the_process_died_counts_as_a_failed_attempt() -> None:
    run = Run(step("1")).crash()
    assert (run.running, run.action("1").attempts) == (["1"], 1)
    (row,) = run.rows.attempts.values()
    assert (row.state, row.error) == ("running", "the process stopped while this ran")


def test_a_step_that_kills_its_process_is_parked_in_the_end() -> None:
    run = Run(step("1"), retry=RetryPolicy(attempts=3)).crash().crash().crash()
    assert (run.state, run.running, run.load) == ("stuck", [], 0)
    assert run.reason == "1 is parked after 3 attempts: the process stopped while this ran"


def test_a_step_that_kills_its_process_after_a_failure_is_parked_in_the_end() -> None:
    run = Run(step("1"), retry=RetryPolicy(attempts=3)).fails("1", "down").after(1000)
    run.crash().crash()
    assert (run.state, run.action("1").attempts) == ("stuck", 3)


def test_a_crash_while_an_attempt_waits_for_its_time_does_not_count() -> None:
    run = Run(step("1"), retry=RetryPolicy(attempts=2)).fails("1").crash()
    assert (run.running, run.action("1").attempts) == ([], 1)
    run.now += 1000
    run.crash()
    assert (run.running, run.action("1").attempts) == (["1"], 1)


def test_a_step_that_kills_its_process_may_be_rejected_in_the_end() -> None:
    policy = RetryPolicy(attempts=2, then="reject")
    run = Run(step("1"), step("2", retry=policy)).ok("1").crash().crash()
    assert (run.facts[-1], run.running) == ("2 rejected:exhausted", ["-1"])


def test_a_compensation_that_kills_its_process_is_tried_for_ever() -> None:
    run = Run(step("1"), step("2", "no")).ok("1").rejects("2", "no")
    for _ in range(bound.STUCK_AFTER):
        run.crash()
    assert (run.state, run.running) == ("stuck", ["-1"])
    run.ok("-1")
    assert run.state == "compensated"


def test_a_restart_without_a_crash_counts_nothing() -> None:
    run = Run(step("1")).crash(crashed=False)
    assert (run.running, run.action("1").attempts, run.rows.attempts) == (["1"], 0, {})


# Steps that may be abandoned


def abandoned(*before: object) -> Run:
    run = Run(step("1"), step("2", timeout_ms=1000, timeout_then="abandon"), step("3")).ok("1")
    assert run.timers == {"2 abandon": 1000}
    return run


def test_a_step_in_time_is_repeated_by_its_verdict() -> None:
    run = abandoned().ok("2", value=5)
    assert run.facts[1:] == ["2 ok", "2! ok"]
    assert (run.value("2!"), run.running, run.timers) == (5, ["3"], {})


def test_an_abandoned_step_is_taken_back_when_it_has_run_after_all() -> None:
    run = abandoned().after(1000)
    assert run.facts[-1] == "2! rejected:timeout"
    assert run.running == ["2", "-1"]
    run.ok("-1")
    assert (run.state, run.load) == ("compensated", 1), "somebody has still to see to it"
    run.crash(crashed=False).ok("2")
    assert run.running == ["-2"]
    run.ok("-2")
    assert (run.state, run.load, run.facts[-2:]) == ("compensated", None, ["2 ok", "2 compensated"])


def test_an_abandoned_step_that_fails_is_not_tried_again() -> None:
    run = abandoned().after(1000).fails("2")
    assert run.running == ["-1"]
    assert [a.state for a in run.rows.attempts.values()] == ["tombstone"]
    run.crash().ok("-1")
    assert (run.state, run.load, run.running) == ("compensated", None, [])


def test_an_abandoned_step_that_rejects_late_needs_no_compensation() -> None:
    run = Run(step("1", "no", timeout_ms=1000, timeout_then="abandon")).after(1000).rejects("1", "no")
    assert run.facts == ["1! rejected:timeout", "1 rejected:no"]
    assert (run.state, run.load, run.result["code"]) == ("compensated", None, "timeout")


def test_a_step_that_waits_for_its_next_attempt_is_abandoned_for_good() -> None:
    run = abandoned().fails("2", retry_after_ms=5000).after(1000)
    assert run.running == ["-1"]
    assert [a.state for a in run.rows.attempts.values()] == ["tombstone"]
    run.crash().after(9000)
    assert run.running == ["-1"]


def test_a_late_compensation_that_fails_does_not_wake_a_run_that_has_ended() -> None:
    run = abandoned().after(1000).ok("-1", "2")
    for _ in range(bound.STUCK_AFTER):
        run.fails("-2", "down").after(300_000)
    assert (run.state, run.load) == ("compensated", 1)
    assert run.reason == "2 is stuck after 10 attempts: down"
    run.crash(crashed=False)
    run.fails("-2", "down").retry()
    assert run.reason is None
    run.ok("-2")
    assert (run.state, run.load, run.rows.attempts) == ("compensated", None, {})


def test_a_late_step_that_cannot_be_taken_back_by_itself_is_skipped_by_a_person() -> None:
    run = abandoned().after(1000).ok("-1", "2").fails("-2", "gone", final=True)
    assert (run.state, run.load) == ("compensated", 0)
    assert run.skip("2")
    assert run.rows.run is not None
    assert (run.state, run.load, run.rows.run.dirty) == ("compensated", None, 1)


def test_a_crash_after_the_verdict_lets_the_step_run_to_its_end_so_that_it_can_be_taken_back() -> None:
    run = abandoned().after(1000).crash()
    assert "2" in run.running
    run.ok("2", "-2", "-1")
    assert run.load is None


# Steps whose timeout is exact


def test_a_step_that_is_not_done_in_time_is_rejected_and_its_late_answer_is_refused() -> None:
    run = Run(step("1"), step("2", timeout_ms=1000)).ok("1")
    action = run.action("2")
    run.after(1000)
    assert (run.interrupted, run.facts[-1], run.running) == (["2"], "2 rejected:timeout", ["-1"])
    assert decide.answered(run.k, action, action.ticket, Done(b"1"), run.now) is None
    assert decide.answered(run.k, action, 0, Failed("late"), run.now) is None
    run.ok("-1")
    assert (run.state, run.result["code"]) == ("compensated", "timeout")


def test_a_timeout_counts_from_the_first_attempt() -> None:
    run = Run(step("1"), step("2", timeout_ms=1000)).ok("1").fails("2", retry_after_ms=900).after(900)
    assert run.running == ["2"]
    run.after(100)
    assert run.facts[-1] == "2 rejected:timeout"


def test_a_step_that_is_done_in_time_needs_no_timer_any_more() -> None:
    run = Run(step("1", timeout_ms=1000), step("2")).ok("1")
    assert run.timers == {}


def test_a_timeout_survives_a_restart() -> None:
    run = Run(step("1", timeout_ms=1000), step("2"))
    run.now += 600
    run.crash(crashed=False)
    assert run.timers == {"1 timeout": 1000}
