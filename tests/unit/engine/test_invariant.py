"""Histories that are as they should be, and each of the invariants broken by hand."""

from __future__ import annotations

from typing import Any

import msgspec
import pytest

from minuet.engine.invariant import History, without_row
from minuet.engine.port import StoredRun
from minuet.engine.row import (
    AttemptRow,
    Decision,
    FactRow,
    Lease,
    RunChange,
    RunRow,
    TimerRow,
    WaitRow,
    slot_of,
)
from minuet.ids import run_text
from minuet.workflows.tree import Node
from tests.unit.engine import made
from tests.unit.engine.made import attempt, choice, deadline, each, loop, par, pivot, reject, ret, step, wait

RUN = 7
COMPLETED, COMPENSATED = "completed", "compensated"


class Told:
    """A run whose history is told fact by fact: `1 ok`, `2[0] compensated`; and its rows, as stores would keep them."""

    def __init__(self, *parts: Node, x: Any = 0) -> None:
        self.plan = made.plan(*parts)
        self.history = History()
        self.wrong: list[str] = []
        self.stores: dict[str, StoredRun] = {}
        self.x = msgspec.json.encode(x).decode()

    def facts(self, *facts: str, at: str = "home", value: str | None = None) -> Told:
        for fact in facts:
            place, label = fact.split()
            position, _, round_ = place.partition("[")
            stored = self._at(at)
            row = FactRow(RUN, position, round_.rstrip("]"), slot_of(label), label, value, len(stored.facts) + 1, 0)
            stored.facts.append(row)
            decision = Decision(RUN)
            decision.facts = [row]
            self.take(decision, at)
        return self

    def take(self, decision: Decision, at: str = "home") -> Told:
        self.wrong += self.history.take(at, decision)
        return self

    def _at(self, at: str) -> StoredRun:
        if at not in self.stores:
            home = None if at == "home" else "home"
            row = RunRow(
                RUN, "made", self.plan.digest, "k", self.x, "running", 1, 0, 0, None, None, 0, None, home
            )  # fmt: skip
            self.stores[at] = StoredRun(run=row, facts=[])
            decision = Decision(RUN)
            decision.runs = [row]
            self.take(decision, at)
        return self.stores[at]

    def becomes(self, state: str, result: Any = None, at: str = "home", load: int | None = None) -> Told:
        text = msgspec.json.encode(result).decode() if state in (COMPLETED, COMPENSATED) else None
        stored = self._at(at)
        stored.run = stored.run._replace(state=state, result=text, load=load)
        decision = Decision(RUN)
        decision.changes = [RunChange(state, load, 0, 0, None, text, None, RUN)]
        return self.take(decision, at)

    def rejected(self, code: str) -> Told:
        return self.becomes(COMPENSATED, {"code": code})

    @property
    def violations(self) -> list[str]:
        """All, without the run that they are about."""
        found = self.wrong + self.history.at_the_end({RUN: self.stores}, {self.plan.digest: self.plan})
        return [what.replace(f"run {run_text(RUN)}: ", "") for what in found]


# As it should be


def test_runs_that_are_as_they_should_be_break_nothing() -> None:
    x = ("var", "x")
    good = [
        Told(step("1"), step("2")).facts("1 ok", "2 ok").becomes(COMPLETED),
        Told(step("1"), step("2", "a")).facts("1 ok", "2 rejected:a", "1 compensated").rejected("a"),
        Told(par("1", step("1a"), step("1b", "a")))
        .facts("1b rejected:a", "1a ok", "1a compensated")
        .rejected("a"),
        Told(attempt("1", made.seq(step("2"), step("3", "a"))), step("4"))
        .facts("2 ok", "3 rejected:a", "2 compensated", "4 ok")
        .becomes(COMPLETED),
        Told(choice("1", x, step("2"), step("3")), ret(x), x=5).facts("2 ok").becomes(COMPLETED, 5),
        Told(loop("1", 2, step("1.1")), reject("2", "no"))
        .facts("1.1[0] ok", "1.1[1] ok", "1.1[1] compensated", "1.1[0] compensated")
        .rejected("no"),
        Told(each("1", x, step("1.1")), x=[4, 5]).facts("1.1[1] ok", "1.1[0] ok").facts("1 ok").becomes(COMPLETED),
        Told(step("1"), pivot("2"), step("3", "a"))
        .facts("1 ok", "2 ok", "3 rejected:a", "1 compensated")
        .rejected("a"),
        Told(step("1"), wait("2")).facts("1 ok").becomes("stuck", load=0),
    ]  # fmt: skip
    for told in good:
        assert not told.violations


def given_up() -> Told:
    """Tell of a step that its owner has given up."""
    told = Told(step("1", timeout_ms=10, timeout_then="abandon"), step("2"))
    return told.facts("1! rejected:timeout").rejected("timeout")


def test_a_step_that_was_given_up_may_be_done_late_and_is_taken_back() -> None:
    assert not given_up().violations
    assert not given_up().facts("1 ok", "1 compensated").violations


def test_whatever_is_told_to_others_is_no_second_fact() -> None:
    told = Told(step("1"), step("2")).facts("1 ok", at="s", value="1").facts("1 ok", value="1").facts("2 ok")
    assert not told.becomes(COMPLETED).violations


def test_a_decision_that_is_recorded_once_more_changes_nothing() -> None:
    told = Told(step("1")).facts("1 ok")
    again = Decision(RUN)
    again.facts = list(told.stores["home"].facts)
    again.runs = [told.stores["home"].run]
    assert not told.becomes(COMPLETED).take(again).violations


# Each broken by hand


def test_a_position_with_two_outcomes_is_found() -> None:
    told = Told(step("1", "a")).facts("1 ok").facts("1 rejected:a", at="s").becomes(COMPLETED)
    assert told.violations[0] == "I1: 1 is ok at home, and rejected:a at s"


def test_a_fact_that_is_told_with_another_value_is_found() -> None:
    told = Told(step("1")).facts("1 ok", value="1").facts("1 ok", value="2", at="s").becomes(COMPLETED)
    assert told.violations == ["I1: 1 ok has the value 1 at home, and 2 at s"]


def test_an_outcome_that_is_stored_twice_is_found() -> None:
    told = Told(step("1")).facts("1 ok", "1 ok").becomes(COMPLETED)
    assert told.violations == ["I1: 1 is ok twice at home"]


def test_a_compensation_that_is_stored_twice_is_found() -> None:
    told = Told(step("1"), reject("2", "no")).facts("1 ok", "1 compensated", "1 compensated").rejected("no")
    assert told.violations == ["I2: 1 is compensated twice at home"]


def test_a_compensation_of_what_was_not_done_is_found() -> None:
    assert Told(step("1", "a")).facts("1 compensated").wrong[0].startswith("I3: ")
    told = Told(step("1", "a")).facts("1 rejected:a", "1 compensated").rejected("a")
    assert told.violations[0] == "I3: 1 was compensated, and is rejected:a"


def test_a_step_that_is_done_after_its_tombstone_is_found() -> None:
    told = given_up()
    buried = Decision(RUN)
    buried.attempts = [AttemptRow(RUN, "1", "", "forward", "tombstone", 0, 0, 0, 0, None)]
    told.take(buried).facts("1 ok", "1 compensated")
    assert told.violations == ["I3: 1 was done after it had been given up for good"]


def test_a_step_forward_in_a_branch_that_has_turned_back_is_found() -> None:
    told = Told(step("1"), step("2", "a"), step("3")).facts("1 ok", "2 rejected:a", "1 compensated", "3 ok")
    assert told.rejected("a").violations == ["I4: 3 is ok, after 1 had been compensated"]
    told = Told(step("1"), step("2", "a")).facts("1 ok", "1 compensated", "2 rejected:a")
    assert told.rejected("a").violations == ["I4: 2 is rejected:a, after 1 had been compensated"]


def test_siblings_may_go_on_to_their_end() -> None:
    branch = made.call("1b", made.seq(step("1b.1"), step("1b.2", "a")))
    told = Told(par("1", step("1a"), branch, step("1c")), step("2"))
    told.facts("1b.1 ok", "1b.2 rejected:a", "1b.1 compensated", "1c ok", "1a ok", "1a compensated", "1c compensated")
    assert not told.rejected("a").violations


def test_what_is_taken_back_while_a_sibling_still_runs_is_found() -> None:
    told = Told(par("1", step("1a"), step("1b", "a"))).facts("1a ok", "1a compensated", "1b rejected:a").rejected("a")
    assert told.violations == ["I4: 1b is rejected:a, after 1a had been compensated"]


@pytest.mark.parametrize("why", ["cancelled", "deadline@3"])
def test_what_is_called_off_after_a_pivot_is_found(why: str) -> None:
    told = Told(step("1"), pivot("2"), deadline("3", wait("4")))
    told.facts("1 ok", "2 ok", f"4 rejected:{why}", "1 compensated").rejected(why.partition("@")[0])
    assert told.violations == [f"I5: 4 is rejected:{why}, after 2 was done, for good"]


def test_what_is_taken_back_before_a_pivot_is_found() -> None:
    told = Told(step("1"), pivot("2")).facts("1 ok", "2 ok", "1 compensated").becomes(COMPLETED)
    assert told.violations == ["I5: 1 is compensated, though 2 was done after it, for good"]


def test_an_ended_run_that_goes_on_is_found() -> None:
    told = Told(step("1")).facts("1 ok").becomes(COMPLETED).becomes("running", load=1)
    assert told.wrong == [f"I6: run {run_text(RUN)}: it was completed at home, and became running"]
    told = Told(step("1")).facts("1 ok").becomes(COMPLETED).becomes(COMPLETED, 5)
    assert told.wrong == [f"I6: run {run_text(RUN)}: it was completed at home, and got another result"]


def test_a_run_that_has_ended_otherwise_elsewhere_is_found() -> None:
    told = Told(step("1")).facts("1 ok").becomes(COMPLETED).becomes("terminated", at="s")
    assert told.violations == ["I6: it is terminated at s, and completed at home"]


def test_an_end_that_comes_too_early_is_found() -> None:
    told = Told(step("1"), step("2")).facts("1 ok").becomes(COMPLETED)
    assert told.violations == ["I7: it is completed, and 2 has no outcome"]
    told = Told(par("1", step("1a"), step("1b"))).becomes(COMPLETED)
    assert [v.partition(":")[0] for v in told.violations] == ["I7", "I7"]


def test_an_effect_that_is_left_is_found() -> None:
    told = Told(step("1"), step("2"), step("3", "a")).facts("1 ok", "2 ok", "3 rejected:a", "2 compensated")
    assert told.rejected("a").violations == ["I7: it is compensated, and 1 was not compensated"]


def test_a_late_effect_that_is_left_is_found() -> None:
    told = given_up().facts("1 ok")
    assert told.violations == [
        "I7: it is compensated, and 1, which was given up and done after all, was not compensated"
    ]


def test_compensation_in_the_order_of_the_steps_is_found() -> None:
    told = Told(step("1"), step("2"), step("3", "a")).facts("1 ok", "2 ok", "3 rejected:a")
    told.facts("1 compensated", "2 compensated").rejected("a")
    assert told.violations == ["I7: 1 was compensated before 2, which was done later"]


def test_compensation_for_no_reason_is_found() -> None:
    told = Told(step("1"), step("2")).facts("1 ok", "2 ok", "1 compensated").becomes(COMPLETED)
    assert told.violations == ["I7: 1 is compensated, and nothing behind it was rejected"]


def test_an_end_that_is_not_that_of_the_facts_is_found() -> None:
    told = Told(step("1", "a")).facts("1 rejected:a").becomes(COMPLETED)
    assert told.violations == ["I7: it is completed, and by its facts it is compensated"]


def test_a_run_that_nobody_goes_on_with_is_found() -> None:
    told = Told(step("1"), step("2")).facts("1 ok").becomes("running", load=0)
    assert told.violations == ["I8: it is running, and nobody has anything to do, or waits"]


def test_a_run_that_waits_is_no_orphan() -> None:
    told = Told(step("1"), wait("2")).facts("1 ok").becomes("running", load=0)
    told.stores["home"].waits.append(WaitRow("e", "k", RUN, "2", "", 0))
    assert not told.violations
    told = Told(step("1"), step("2")).facts("1 ok").becomes("running", load=0)
    assert told.becomes("running", at="s", load=1).violations == []


def test_facts_that_are_gone_or_changed_are_found() -> None:
    told = Told(step("1", "a")).facts("1 ok").becomes(COMPLETED)
    (fact,) = told.stores["home"].facts
    told.stores["home"].facts[0] = fact._replace(label="rejected:a")
    assert told.violations == ["I9: 1 was ok at home, and is rejected:a"]
    told.stores["home"].facts.clear()
    assert told.violations == ["I9: 1 was ok at home, and is gone"]
    told.stores["home"].facts[:] = [fact, fact._replace(position="2", seq=2)]
    assert told.violations == ["I9: 2 is ok at home, and nobody has recorded it"]
    told.stores["home"].facts[:] = [fact._replace(seq=2)]
    assert told.violations == ["I9: its facts are not counted one by one at home"]


def test_a_run_that_is_gone_before_its_end_is_found() -> None:
    told = Told(step("1"), step("2")).facts("1 ok")
    lost = told.history.at_the_end({}, {})
    assert lost == [f"I9: run {run_text(RUN)}: nothing of it is stored, and it had not ended"]
    told.facts("2 ok").becomes(COMPLETED)
    assert not told.history.at_the_end({}, {})


def test_an_epoch_that_falls_is_found() -> None:
    history, wrong = History(), []
    for where, shard, epoch in (("home", 1, 4), ("home", 2, 1), ("s", 1, 1), ("home", 1, 5), ("home", 1, 4)):
        decision = Decision()
        decision.fence = Lease(shard, epoch)
        wrong += history.take(where, decision)
    assert wrong == ["I9: home took epoch 4 of shard 1 after epoch 5"]


def test_an_acknowledged_start_without_a_run_is_found() -> None:
    told = Told(step("1")).facts("1 ok")
    stores = {RUN: told.stores}
    assert not without_row({"a": run_text(RUN)}, stores)
    assert [what[:4] for what in without_row({"a": run_text(RUN), "b": run_text(8)}, stores)] == ["I11:"]
    told.stores["s"] = told.stores.pop("home")
    told.stores["s"].run = told.stores["s"].run._replace(home="home")
    assert without_row({"a": run_text(RUN)}, stores)


def test_facts_off_the_path_are_found() -> None:
    told = Told(choice("1", ("var", "x"), step("2"), step("3")), x=1).facts("2 ok", "3 ok").becomes(COMPLETED)
    assert told.violations == ["I12: 3 is ok, and does not lie on its path"]


def test_facts_in_another_order_are_found() -> None:
    told = Told(step("1"), step("2")).facts("2 ok", "1 ok").becomes(COMPLETED)
    assert told.violations == ["I12: 2 is ok, before 1 is ok, which it follows"]


def test_another_result_is_found() -> None:
    told = Told(step("1"), ret(("var", "v1"))).facts("1 ok", value="5").becomes(COMPLETED, 6)
    assert told.violations == ["I12: its result is 6, and by its facts 5"]
    told = Told(step("1", "a", "b")).facts("1 rejected:a").rejected("b")
    assert told.violations == ['I12: its result is {"code":"b"}, and by its facts it was rejected with a']


def test_what_is_left_of_an_ended_run_is_found() -> None:
    told = Told(step("1")).facts("1 ok").becomes(COMPLETED)
    home = told.stores["home"]
    home.attempts.append(AttemptRow(RUN, "1", "", "forward", "tombstone", 0, 0, 0, 0, None))
    assert not told.violations
    home.attempts.append(AttemptRow(RUN, "1", "", "compensation", "waiting", 0, 0, 0, 0, None))
    home.timers.append(TimerRow(RUN, "1", "0", "sleep", 0))
    home.waits.append(WaitRow("e", "k", RUN, "1", "", 0))
    home.run = home.run._replace(load=1)
    assert told.violations == [
        "left over: it is completed, and has something to do, an attempt of 1, a timer at 1[0], a wait at 1 at home"
    ]


def test_a_terminated_run_may_be_anywhere_on_its_course() -> None:
    assert not Told(step("1"), step("2")).facts("1 ok").becomes("terminated").violations
