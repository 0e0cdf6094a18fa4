import sys
from typing import Any

import pytest

from minuet.engine import decide, knowledge
from minuet.engine.answer import Done, Rejected
from minuet.engine.knowledge import Knowledge
from minuet.workflows.tree import Expression, Node
from tests.unit.engine.made import (
    FAILS,
    NOW,
    Run,
    X,
    call,
    choice,
    each,
    leave,
    let,
    loop,
    par,
    program,
    ret,
    seq,
    sleep,
    step,
    wait,
)

TOTAL: Expression = ("var", "total")


def more(by: Expression = ("lit", 1)) -> Node:
    return let("total", ("add", TOTAL, by))


# Values


def test_a_step_sees_what_was_known_where_it_stands() -> None:
    run = Run(step("1"), let("a", ("var", "v1")), step("2", arguments=(("p", ("add", ("var", "a"), X)),)), x=2)
    run.ok("1", value=40)
    action = run.action("2")
    ((name, v),) = action.rule.arguments
    assert (name, run.k.raw(v, ())) == ("p", b"42")


def test_a_result_is_handed_on_as_the_text_that_it_came_as() -> None:
    run = Run(step("1"), ret(("var", "v1")))
    action = run.action("1")
    d = decide.answered(run.k, action, 0, Done(b'{"b":1,  "a":1.50}'), NOW)
    assert d is not None
    assert d.knowledge.result == '{"b":1,  "a":1.50}'


def test_a_loop_hands_on_from_round_to_round() -> None:
    run = Run(let("total", ("lit", 0)), loop("1", 4, seq(step("1.1"), more(("var", "v1.1")))), ret(TOTAL))
    for i in range(4):
        run.ok(f"1.1[{i}]", value=i + 1)
    assert run.result == 10


def test_what_follows_a_break_sees_the_round_that_was_left() -> None:
    body = seq(step("1.1"), more(("var", "v1.1")), choice("1.2", ("compare", TOTAL, "gt", ("lit", 2)), leave()))
    run = Run(let("total", ("lit", 0)), loop("1", 9, body), ret(TOTAL)).ok("1.1[0]", "1.1[1]", "1.1[2]", value=1)
    assert run.result == 3


def test_the_results_of_elements_come_in_the_order_of_the_list() -> None:
    run = Run(each("1", X, step("1.1", arguments=(("i", ("var", "item")),))), ret(("var", "v1")), x=[3, 1, 2])
    for i in (2, 0, 1):
        run.ok(f"1.1[{i}]", value=i * 10)
    assert run.result == [0, 10, 20]


def test_an_empty_list_is_done_at_once() -> None:
    run = Run(each("1", X, step("1.1")), ret(("var", "v1")), x=[])
    assert (run.state, run.result, run.facts) == ("completed", [], ["1 ok"])


@pytest.mark.parametrize("x", [None, 5, "text", {"a": 1}, True])
def test_only_lists_are_gone_over(x: Any) -> None:
    run = Run(step("1"), each("2", X, step("2.1")), x=x).ok("1")
    assert run.facts[-1] == "2 failed:invalid-value"


def test_a_value_that_fails_is_told_only_to_whoever_reads_it() -> None:
    run = Run(let("a", FAILS), step("1"), choice("2", ("var", "a"), step("2.then.1"))).ok("1")
    assert run.running == ["-1"]
    assert Run(let("a", FAILS), step("1")).ok("1").state == "completed"


def test_a_value_that_fails_in_a_round_of_a_loop_does_not_stop_the_loop() -> None:
    body = seq(step("1.1"), let("total", ("div", ("lit", 1), ("sub", TOTAL, TOTAL))))
    run = Run(let("total", ("lit", 1)), loop("1", 3, body), step("2"), choice("3", TOTAL, seq()))
    run.ok("1.1[0]", "1.1[1]", "1.1[2]", "2")
    assert run.running == ["-2"]


def test_a_value_that_fails_in_one_round_fails_in_five_thousand_later_ones_without_climbing_back() -> None:
    body = let("total", ("div", ("lit", 1), ("sub", TOTAL, TOTAL)))
    run = Run(let("total", ("lit", 1)), step("1"), loop("2", 5000, body), choice("3", TOTAL, seq()))
    run.ok("1", "-1")
    assert run.state == "compensated"


# As long as they may be


@pytest.mark.parametrize("kind", ["let", "if", "call", "loop"])
def test_the_length_of_a_text_is_not_the_depth_of_a_stack(kind: str) -> None:
    n = 1500 if kind == "let" else 400
    parts = list[Node]()
    for i in range(n):
        match kind:
            case "let":
                parts.append(more())
            case "if":
                parts.append(choice(f"{i}", ("compare", X, "eq", ("lit", 1)), more()))
            case "call":
                parts += [
                    call(f"{i}", ret(("add", ("var", "p"), ("lit", 1))), (("p", TOTAL),)),
                    let("total", ("var", f"v{i}")),
                ]
            case "loop":
                parts.append(loop(f"{i}", 1, more()))
    run = Run(let("total", ("lit", 0)), step("a"), *parts, step("b"), ret(TOTAL), x=1).ok("a", "b")
    assert run.result == n


def test_a_long_chain_in_each_of_many_rounds() -> None:
    body = seq(*(more() for _ in range(60)), step("1.1"))
    run = Run(let("total", ("lit", 0)), loop("1", 20, body), ret(TOTAL))
    for i in range(20):
        run.ok(f"1.1[{i}]")
    assert run.result == 1200


class Counted(Knowledge):
    """Counts what is done to learn."""

    __slots__ = ()
    reads = 0
    holds_ = 0

    def _value(self, v: int, rnd: tuple[int, ...]) -> Any:
        Counted.reads += 1
        return super()._value(v, rnd)

    def _hold(self, todo: list[tuple[int, tuple[int, ...]]]) -> None:
        Counted.holds_ += len(todo)
        super()._hold(todo)


def test_five_thousand_rounds_cost_the_same_each(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(decide, "Knowledge", Counted)
    plan = program(
        let("total", ("lit", 0)),
        loop("1", 5000, seq(step("1.1", arguments=(("p", TOTAL),)), more(("var", "v1.1"))), index="i"),
        ret(TOTAL),
    )
    d = decide.begin(plan, 1, None, b"null", NOW)
    k, costs, sizes = d.knowledge, list[int](), list[int]()
    for _ in range(5000):
        ((action,),) = [d.actions]
        before = len(k.true) + len(k.memo) + len(k.missing) + len(k.outcomes)
        Counted.reads = Counted.holds_ = 0
        k.raw(action.rule.arguments[0][1], action.round)
        after = decide.answered(k, action, action.ticket, Done(b"1"), NOW)
        assert after is not None
        d = after
        costs.append(Counted.reads + Counted.holds_)
        sizes.append(len(k.true) + len(k.memo) + len(k.missing) + len(k.outcomes) - before)
    assert k.result == "5000"
    assert len(set(costs[1:-1])) == 1
    assert len(set(sizes[1:-1])) == 1
    assert len(k.pending) == 0


def test_a_loop_with_nothing_to_wait_for_needs_no_stack() -> None:
    run = Run(let("total", ("lit", 0)), loop("1", 5000, more()), ret(TOTAL))
    assert run.result == 5000


def test_five_thousand_rounds_are_taken_back_last_first() -> None:
    plan = program(loop("1", 1000, step("1.1")), step("2", "no"))
    d = decide.begin(plan, 1, None, b"null", NOW)
    k = d.knowledge
    for _ in range(1000):
        d = _next(k, d, Done(b"1"))
    d = _next(k, d, Rejected("no"))
    for i in range(999, -1, -1):
        ((action,),) = [d.actions]
        assert (action.direction, action.round) == ("compensation", (i,))
        d = _next(k, d, Done(None))
    assert k.state == "compensated"


def _next(k: Knowledge, d: decide.Decided, answer: Any) -> decide.Decided:
    ((action,),) = [d.actions]
    after = decide.answered(k, action, action.ticket, answer, NOW)
    assert after is not None
    return after


def test_what_one_run_that_waits_takes_of_the_memory_is_bounded() -> None:
    parts = [
        step("1"),
        step("2"),
        par("3", step("3a", "no"), step("3b", "no")),
        choice("4", X, step("4.then.1")),
        wait("5"),
        sleep("6"),
        step("7"),
    ]
    run = Run(*parts, x=False).ok("1", "2", "3a", "3b")
    assert list(run.rows.waits) == [("5", "")]
    k = run.k
    shallow = sum(
        sys.getsizeof(getattr(k, name)) for name in Knowledge.__slots__ if hasattr(k, name) and name != "program"
    )
    assert shallow < 12_000


# Each, a few at once


def test_elements_begin_as_others_end() -> None:
    run = Run(each("1", X, step("1.1", "no"), at_once=2), x=[1, 2, 3, 4])
    assert run.running == ["1.1[0]", "1.1[1]"]
    run.ok("1.1[1]")
    assert run.running == ["1.1[0]", "1.1[2]"]
    run.crash(crashed=False).ok("1.1[2]", "1.1[0]")
    assert run.running == ["1.1[3]"]
    run.ok("1.1[3]")
    assert run.state == "completed"


def test_elements_go_on_when_one_is_rejected_and_all_are_taken_back() -> None:
    run = Run(each("1", X, step("1.1", "no"), at_once=1), x=[1, 2, 3])
    run.rejects("1.1[0]", "no", "first").ok("1.1[1]").rejects("1.1[2]", "no", "last")
    assert run.running == ["-1.1[1]"]
    run.ok("-1.1[1]")
    assert (run.state, run.result["message"]) == ("compensated", "first")


def test_each_in_each_keeps_its_own_count() -> None:
    inner = each("1.1", ("var", "item"), step("1.1.1"), at_once=1)
    run = Run(each("1", X, inner, at_once=1), ret(("var", "v1")), x=[[1, 2], [], [3]])
    run.ok("1.1.1[0.0]", "1.1.1[0.1]", "1.1.1[2.0]", value=0)
    assert run.result == [[0, 0], [], [0]]


def test_a_value_is_never_read_before_it_is_known() -> None:
    run = Run(step("1"), step("2", arguments=(("p", ("var", "v1")),)))
    (v,) = [v for v, value in enumerate(run.program.values) if value.kind == "out"]
    assert run.k.read(v, ()) is knowledge.MISSING
