from minuet.engine.progress import at, describe, span_text, waiting
from minuet.workflows.tree import Expression
from tests.unit.engine.made import (
    FAILS,
    NOW,
    Run,
    X,
    call,
    choice,
    deadline,
    each,
    loop,
    par,
    pivot,
    plan,
    seq,
    sleep,
    step,
    wait,
)

KEY: Expression = ("lit", "p-1")


def test_a_step_that_runs_is_brought_by_its_service() -> None:
    run = Run(step("1", timeout_ms=2000))
    (w,) = waiting(run.k)
    assert (w.position, w.what, w.needs, w.owner) == ("1", "action", "s.do", "s")
    assert (w.since_ms, w.until_ms, w.detail) == (NOW, NOW + 2000, "")
    assert at(run.k) == "1 s.do"


def test_a_step_that_has_failed_says_how_often_and_why() -> None:
    run = Run(step("1")).fails("1", "down")
    (w,) = waiting(run.k)
    assert (w.what, w.detail) == ("action", "attempt 2: down")
    assert at(run.k) == "1 s.do"


def test_a_parked_step_waits_for_a_person() -> None:
    run = Run(step("1")).fails("1", "bug", final=True)
    (w,) = waiting(run.k)
    assert (w.what, w.needs, w.detail) == ("person", "s.do", "parked after 1 attempt: bug")
    assert at(run.k) == "1 s.do, 1 attempt"


def test_a_compensation_that_is_stuck_says_its_attempts() -> None:
    run = Run(step("1"), step("2", "no")).ok("1").rejects("2", "no")
    for _ in range(10):
        run.fails("-1", "down").after(300_000)
    assert at(run.k) == "1 s.undo, 10 attempts"
    (w,) = waiting(run.k)
    assert (w.what, w.needs, w.until_ms) == ("action", "s.undo", None)


def test_a_paused_step_says_so() -> None:
    run = Run(step("1"), step("2")).pause().ok("1")
    (w,) = waiting(run.k)
    assert (w.what, w.detail) == ("action", "held, the run is paused")


def test_a_wait_says_which_event_and_until_when() -> None:
    run = Run(step("1"), wait("2", key=KEY, timeout=("lit", 5000)))
    run.now += 300
    run.ok("1")
    (w,) = waiting(run.k)
    assert (w.what, w.needs, w.owner, w.since_ms, w.until_ms) == (
        "event",
        "e p-1",
        "orchestrator",
        NOW + 300,
        NOW + 5300,
    )
    assert at(run.k) == "2 waits for e p-1"


def test_a_sleep_says_how_long_and_since_when() -> None:
    run = Run(step("1"), sleep("2", duration=("lit", 14 * 86_400_000)))
    run.now += 300
    run.ok("1").crash()
    (w,) = waiting(run.k)
    assert (w.what, w.needs, w.since_ms, w.until_ms) == ("timer", "14 days", NOW + 300, NOW + 300 + 14 * 86_400_000)
    assert at(run.k) == "2 sleeps 14 days"


def test_a_sleep_until_an_instant_says_which() -> None:
    run = Run(sleep("1", until=("as", "datetime", ("lit", "2030-01-01T00:00:00Z"))))
    (w,) = waiting(run.k)
    assert (w.needs, w.until_ms) == ("until 2030-01-01T00:00:00Z", 1_893_456_000_000)


def test_a_deadline_around_bounds_what_is_inside_it() -> None:
    run = Run(deadline("1", par("2", step("2a"), wait("2b"))), step("3"))
    assert [w.until_ms for w in waiting(run.k)] == [NOW + 5000, NOW + 5000]
    late = Run(deadline("1", seq(pivot("2"), step("3")))).ok("2")
    assert [w.until_ms for w in waiting(late.k)] == [None], "it cannot be called off any more"


def test_what_is_waited_for_comes_in_the_order_of_the_text_and_a_person_first() -> None:
    run = Run(par("1", wait("1a"), step("1b"), step("1c"))).fails("1c", "bug", final=True)
    assert [w.position for w in waiting(run.k)] == ["1a", "1b", "1c"]
    assert at(run.k) == "1c s.do, 1 attempt, and 2 more"


def test_an_expression_without_a_value_waits_for_a_person() -> None:
    run = Run(pivot("1"), choice("2", FAILS, step("2.then.1"))).ok("1")
    (w,) = waiting(run.k)
    assert (w.position, w.what, w.needs) == ("2", "person", "choice")
    assert "division by zero" in w.detail
    assert at(run.k) == "2 choice"


def test_each_tells_its_counts() -> None:
    run = Run(each("2", X, call("2.1", seq(step("2.1.1", "no"))), at_once=3), x=list(range(10)))
    assert at(run.k) == "step 2 each: 0 of 10 done, 3 running, 0 rejected"
    run.ok("2.1.1[0]", "2.1.1[1]").rejects("2.1.1[2]", "no")
    assert at(run.k) == "step 2 each: 2 of 10 done, 3 running, 1 rejected"


def test_a_loop_tells_its_round() -> None:
    run = Run(loop("1", 3, step("1.1"))).ok("1.1[0]")
    (w,) = waiting(run.k)
    assert w.round == "1"
    assert at(run.k) == "1.1 (round 1) s.do"


def test_a_run_that_has_ended_waits_for_nothing() -> None:
    run = Run(step("1")).ok("1")
    assert (waiting(run.k), at(run.k)) == ([], "")


def test_facts_are_told_in_words() -> None:
    p = plan(
        step("1", "no", service="orders"),
        choice("2", X, step("2.then.1"), at="s"),
        choice("3", X, step("3.then.1")),
        wait("4"),
        sleep("5"),
        each("6", X, step("6.1")),
        deadline("7", step("7.1", timeout_ms=1, timeout_then="abandon")),
    )
    assert describe(p, "1", "ok") == ("orders.do", "orders")
    assert describe(p, "1", "rejected:no") == ("orders.do", "orders")
    assert describe(p, "1", "compensated") == ("orders.undo", "orders")
    assert describe(p, "2", "chosen:then") == ("choice", "orchestrator")
    assert describe(p, "3", "chosen:then") == ("choice", "orchestrator")
    assert describe(p, "4", "ok") == ("wait e", "orchestrator")
    assert describe(p, "5", "fired") == ("sleep", "orchestrator")
    assert describe(p, "6", "ok") == ("each", "orchestrator")
    assert describe(p, "7", "fired") == ("deadline", "orchestrator")
    assert describe(p, "7.1!", "ok") == ("s.do, the verdict", "orchestrator")
    assert describe(p, "7.1", "compensated") == ("s.undo", "s")
    assert describe(p, "$cancel", "requested") == ("cancel", "orchestrator")


def test_spans_are_told_in_two_units_at_most() -> None:
    assert span_text(0) == "0 seconds"
    assert span_text(1) == "1 millisecond"
    assert span_text(1500) == "1 second 500 milliseconds"
    assert span_text(90 * 60_000) == "1 hour 30 minutes"
    assert span_text(86_400_000 + 1) == "1 day 1 millisecond"
