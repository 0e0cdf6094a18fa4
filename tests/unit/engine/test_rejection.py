from tests.unit.engine.made import FAILS, Run, X, attempt, call, choice, each, loop, par, reject, seq, step


def where(run: Run) -> tuple[str, str, str]:
    assert run.state == "compensated"
    return run.result["code"], run.result["position"], run.result["message"]


def test_of_parallel_rejections_the_first_in_the_order_of_the_text_is_told_whatever_came_first() -> None:
    for first, second in (("1a", "1b"), ("1b", "1a")):
        run = Run(par("1", step("1a", "no"), step("1b", "no")))
        run.rejects(first, "no", f"at {first}").rejects(second, "no", f"at {second}")
        assert where(run) == ("no", "1a", "at 1a")


def test_of_elements_the_first_in_the_order_of_the_list_is_told() -> None:
    run = Run(each("1", X, step("1.1", "no")), x=[0, 1, 2])
    run.rejects("1.1[2]", "no", "two").rejects("1.1[1]", "no", "one").ok("1.1[0]", "-1.1[0]")
    assert where(run) == ("no", "1.1", "one")


def test_a_rejection_that_was_caught_is_not_told() -> None:
    run = Run(attempt("1", step("1.1", "no"), "no"), step("2"), step("3", "no"))
    run.rejects("1.1", "no", "caught").ok("2").rejects("3", "no", "last").ok("-2")
    assert where(run) == ("no", "3", "last")


def test_a_rejection_that_another_branch_outdid_is_not_told() -> None:
    """The inner parallel fails with `b`, which is caught; the `a` beside it never reached the end."""
    inner = attempt("1", par("2", step("2a", "b"), step("2b", "a")), "b")
    run = Run(par("0", call("0a", inner), step("0b", "a")))
    run.rejects("2a", "b").rejects("2b", "a", "outdone").rejects("0b", "a", "told")
    assert where(run) == ("a", "0b", "told")


def test_the_last_round_is_told_where_earlier_ones_were_caught() -> None:
    body = seq(attempt("1.1", step("1.1.1", "no"), "no"), step("1.2", "no"))
    run = Run(loop("1", 3, body)).rejects("1.1.1[0]", "no", "x").ok("1.2[0]").ok("1.1.1[1]")
    run.rejects("1.2[1]", "no", "y").ok("-1.1.1[1]", "-1.2[0]")
    assert where(run) == ("no", "1.2", "y")


def test_the_text_itself_may_say_no() -> None:
    run = Run(step("1"), choice("2", X, reject("2.then.1", "sold-out", "try tomorrow")), x=True).ok("1", "-1")
    assert where(run) == ("sold-out", "2.then.1", "try tomorrow")


def test_a_guard_without_a_value_is_told_with_its_position() -> None:
    run = Run(step("1", "invalid-value"), choice("2", FAILS, step("2.then.1"))).ok("1", "-1")
    assert where(run) == ("invalid-value", "2", "the guard failed")


def test_the_verdict_on_an_abandoned_step_is_told_as_the_step() -> None:
    run = Run(step("1", timeout_ms=10, timeout_then="abandon")).after(10)
    assert where(run) == ("timeout", "1", "")


def test_a_list_that_is_too_long_is_told_with_its_length() -> None:
    run = Run(each("1", X, step("1.1"), limit=2), x=[1, 2, 3])
    assert where(run) == ("too-many", "1", "3 elements, the limit is 2")


def test_details_are_told() -> None:
    run = Run(step("1", "no")).rejects("1", "no", "m", {"left": [1]})
    assert run.result["details"] == {"left": [1]}
