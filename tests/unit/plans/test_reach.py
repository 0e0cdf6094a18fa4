from minuet.plans.reach import cancellable, irrevocable, sections
from tests.unit.engine.made import (
    X,
    attempt,
    call,
    choice,
    deadline,
    each,
    loop,
    par,
    pivot,
    section,
    seq,
    step,
    wait,
)


def test_a_step_that_is_neither_undone_nor_kept_nor_pure_is_irrevocable() -> None:
    assert irrevocable(pivot("1"))
    assert not irrevocable(step("1"))
    assert not irrevocable(pivot("1", keep=True))
    assert not irrevocable(pivot("1", pure=True))


def test_everything_up_to_the_first_irrevocable_step_is_cancellable() -> None:
    assert cancellable(seq(step("1"), wait("2"), pivot("3"), step("4"), wait("5"))) == {"1", "2", "3"}


def test_an_irrevocable_step_in_one_arm_ends_what_follows_both() -> None:
    tree = seq(choice("1", X, pivot("1.then.1"), step("1.else.1")), step("2"))
    assert cancellable(tree) == {"1", "1.then.1", "1.else.1"}


def test_beside_an_irrevocable_step_nothing_is_cancellable() -> None:
    tree = par("1", call("1a", seq(step("1a.1"), pivot("1a.2"), step("1a.3"))), step("1b"))
    assert cancellable(tree) == {"1", "1a", "1a.1", "1a.2"}


def test_two_irrevocable_branches_leave_none_cancellable() -> None:
    assert cancellable(par("1", pivot("1a"), pivot("1b"))) == {"1"}


def test_a_round_may_follow_an_irrevocable_one() -> None:
    assert cancellable(loop("1", 2, seq(step("1.1"), pivot("1.2")), step("1.else.1"))) == {"1"}
    assert cancellable(loop("1", 1, seq(step("1.1"), pivot("1.2")))) == {"1", "1.1", "1.2"}


def test_elements_run_beside_each_other() -> None:
    assert cancellable(each("1", X, call("1.1", seq(step("1.1.1"), pivot("1.1.2"))))) == {"1"}
    assert cancellable(each("1", X, step("1.1"))) == {"1", "1.1"}


def test_blocks_pass_on_what_is_inside() -> None:
    tree = seq(attempt("1", deadline("2", section("3", pivot("3.1")))), step("4"))
    assert cancellable(tree) == {"1", "2", "3", "3.1"}


def test_sections_are_found_wherever_they_stand() -> None:
    tree = seq(
        par("1", call("1a", section("1a.1", step("1a.1.1"))), step("1b")),
        choice("2", X, section("2.then.1", section("2.then.1.1", step("x")))),
        loop("3", 2, attempt("3.1", deadline("3.2", section("3.2.1", step("y"))))),
        each("4", X, call("4.1", section("4.1.1", step("z")))),
    )
    assert [s.position for s in sections(tree)] == ["1a.1", "2.then.1", "2.then.1.1", "3.2.1", "4.1.1"]
