"""The same function as ordinary Python: what it gives, and what its trace says, against the table of the semantics."""

from __future__ import annotations

from dataclasses import dataclass
from datetime import datetime, timedelta
from decimal import Decimal
from typing import Annotated, Any

import msgspec
import pytest

from minuet import (
    Context,
    DeclarationError,
    Entry,
    InvalidPayload,
    MisplacedCall,
    NotFound,
    Rejection,
    Service,
    TimedOut,
    Transaction,
    action,
    at,
    attempt,
    choreography,
    compensation,
    deadline,
    dry_run,
    each,
    event,
    injected,
    orchestration,
    publish,
    sleep,
    together,
    wait_for,
    workflow,
)


class No(Rejection): ...


class Never(Rejection): ...


@event("work.told", version=1, key="about")
@dataclass(frozen=True)
class Told:
    about: str
    what: str = ""


class Work(Service):
    """Does nothing, and can be told to reject; what it did is kept in `log`."""

    def __init__(self) -> None:
        self.log: list[str] = []

    @action(rejects=(No, Never))
    async def do(self, what: str) -> str:
        if what.startswith("no"):
            raise No(f"not {what}", what=what)
        if what.startswith("never"):
            raise Never
        self.log.append(what)
        return what

    @compensation(do)
    async def undo(self, what: str) -> None:
        self.log.append(f"-{what}")

    @action
    async def undo_otherwise(self, what: str) -> None:
        self.log.append(f"~{what}")

    @action(pure=True)
    def count(self, upto: int) -> int:
        return upto

    @action(pure=True)
    def names(self, n: int) -> list[str]:
        return [f"x{i}" for i in range(n)]


class Books(Service):
    @action(emits=(Told,))
    async def write(self, text: str, amount: Decimal, *, tx: Transaction = injected(), c: Context = injected()) -> str:
        await tx.execute("insert into book values (?)", text)
        await tx.executemany("insert into line values (?)", [[1], [2]])
        publish(Told(text))
        return f"{c.op_key} {c.key} {c.workflow} {c.position} {c.attempt}"

    @compensation(write)
    async def erase(self, op_key: str, *, c: Context = injected()) -> None:
        assert c.input(Written) == Written("a")
        assert c.op_key.endswith(":compensation:0")

    @action
    async def read(self, *, tx: Transaction = injected()) -> int:
        return len(await tx.fetch("select * from book"))

    @action
    async def stray(self, text: str) -> datetime:
        if text == "naive":
            return datetime(2026, 1, 1)  # noqa: DTZ001
        if text == "undeclared":
            raise No
        raise ConnectionError(text)

    @action
    async def nested(self, work: str) -> str:
        return await Work().do(work)


@dataclass(frozen=True)
class Written:
    text: str


def positions(trace: list[Entry]) -> list[str]:
    """Give a trace as text: position, round if there is one, and label."""
    return [f"{e.position}{list(e.round) if e.round else ''} {e.label}" for e in trace]


@dataclass(frozen=True)
class Three:
    a: str
    b: str
    c: str


@workflow
async def in_order(text: Three, *, work: Work) -> str:
    one = await work.do(text.a)
    two = await work.do(one + text.b).compensate(work.undo_otherwise)
    await work.do("kept").keep()
    return await work.do(text.c + two)


FINE = Three("a", "b", "c")


@pytest.mark.asyncio
async def test_steps_are_done_in_order() -> None:
    done = await dry_run(in_order, FINE, work=Work())
    assert (done.result, done.rejection, done.raised) == ("cab", None, None)
    assert done.trace == [
        Entry("1", (), "ok", "a"),
        Entry("2", (), "ok", "ab"),
        Entry("3", (), "ok", "kept"),
        Entry("4", (), "ok", "cab"),
    ]


@pytest.mark.asyncio
async def test_a_rejection_compensates_what_was_done_last_first() -> None:
    work = Work()
    done = await dry_run(in_order, Three("a", "b", "no"), work=work)
    assert (done.result, done.rejection) == (None, "no")
    assert isinstance(done.raised, No)
    assert positions(done.trace) == ["1 ok", "2 ok", "3 ok", "4 rejected:no", "2 compensated", "1 compensated"]
    assert done.trace[3].value == {"message": "not noab", "details": {"what": "noab"}}
    assert work.log == ["a", "ab", "kept", "~ab", "-a"]


@workflow
async def side_by_side(text: Three, *, work: Work) -> list[str]:
    await work.do("before")
    a, b, c = await together(work.do(text.a), together(work.do("b1"), work.do(text.b)), work.do(text.c))
    return [a, b[0], b[1], c]


@pytest.mark.asyncio
async def test_branches_are_done_together() -> None:
    done = await dry_run(side_by_side, FINE, work=Work())
    assert done.result == ["a", "b1", "b", "c"]


@pytest.mark.asyncio
async def test_a_failed_branch_undoes_itself_and_the_others_when_all_have_ended() -> None:
    work = Work()
    done = await dry_run(side_by_side, Three("a", "no", "c"), work=work)
    assert done.rejection == "no"
    assert work.log == ["before", "a", "b1", "-b1", "c", "-a", "-c", "-before"]


@pytest.mark.asyncio
async def test_the_first_rejection_in_the_order_of_the_text_goes_on() -> None:
    assert (await dry_run(side_by_side, Three("a", "no", "never"), work=Work())).rejection == "no"
    assert (await dry_run(side_by_side, Three("a", "never", "no"), work=Work())).rejection == "never"
    assert (await dry_run(side_by_side, Three("no", "b", "never"), work=Work())).rejection == "no"


@workflow
async def for_all(n: int, *, work: Work) -> list[str]:
    names = await work.names(n)
    return await each(names, lambda name: work.do(name), limit=3)  # noqa: PLW0108 - the form that a reader reads


@pytest.mark.asyncio
async def test_each_counts_its_rounds_and_has_a_fact_of_its_own() -> None:
    done = await dry_run(for_all, 2, work=Work())
    assert done.result == ["x0", "x1"]
    assert positions(done.trace) == ["1 ok", "2.1[0] ok", "2.1[1] ok", "2 ok"]
    assert (await dry_run(for_all, 0, work=Work())).result == []


@pytest.mark.asyncio
async def test_each_with_too_many_elements_is_rejected_before_the_first() -> None:
    done = await dry_run(for_all, 4, work=Work())
    assert (done.rejection, positions(done.trace)) == ("too-many", ["1 ok"])


@pytest.mark.asyncio
async def test_each_undoes_the_others_when_one_is_rejected() -> None:
    done = await dry_run(for_all, 3, outcomes={"work.do": [..., No()]}, work=Work())
    assert positions(done.trace) == [
        "1 ok", "2.1[0] ok", "2.1[1] rejected:no", "2.1[2] ok", "2.1[0] compensated", "2.1[2] compensated",
    ]  # fmt: skip


@workflow
async def in_rounds(stop: int, *, work: Work) -> str:
    last = "none"
    for i in range(3):
        if i == 1:
            continue
        for _ in range(2):
            seen = await work.count(i)
            if seen == stop:
                break
            last = await work.do(f"{i}")
        else:
            await work.do("else")
    await work.do(f"no{last}")
    return last


@pytest.mark.asyncio
async def test_rounds_are_counted_through_loops_that_skip_and_break() -> None:
    done = await dry_run(in_rounds, 2, work=Work())
    assert positions(done.trace) == [
        "1.2.1[0, 0] ok", "1.2.3[0, 0] ok", "1.2.1[0, 1] ok", "1.2.3[0, 1] ok", "1.2.else.1[0] ok", "1.2.1[2, 0] ok",
        "2 rejected:no", "1.2.else.1[0] compensated", "1.2.3[0, 1] compensated", "1.2.3[0, 0] compensated",
    ]  # fmt: skip


@workflow
async def another_way(text: str, *, work: Work) -> str:
    await work.do("before")
    async with attempt(No) as tried:
        await work.do("inside")
        await work.do(text)
    if tried.rejected:
        return await work.do("instead")
    await work.do("after")
    return await work.do(f"no{text}")


@pytest.mark.asyncio
async def test_an_attempt_compensates_its_block_and_goes_on_after_it() -> None:
    work = Work()
    done = await dry_run(another_way, "no", work=work)
    assert (done.result, done.rejection) == ("instead", None)
    assert work.log == ["before", "inside", "-inside", "instead"]


@pytest.mark.asyncio
async def test_an_attempt_lets_other_rejections_pass() -> None:
    work = Work()
    assert (await dry_run(another_way, "never", work=work)).rejection == "never"
    assert work.log == ["before", "inside", "-inside", "-before"]


@pytest.mark.asyncio
async def test_a_rejection_after_an_attempt_compensates_what_it_did_and_does_not_go_the_other_way() -> None:
    work = Work()
    assert (await dry_run(another_way, "x", work=work)).rejection == "no"
    assert work.log == ["before", "inside", "x", "after", "-after", "-x", "-inside", "-before"]


@workflow
async def in_time(text: str, *, work: Work) -> str:
    async with attempt() as outer:  # noqa: SIM117 - as people write it
        async with deadline(60, by=work):
            async with attempt() as inner:
                await work.do("first")
                await work.do(text)
            if inner.rejected:
                await work.do("inner")
            await sleep(timedelta(days=1), by=work)
    if outer.rejected:
        return await work.do("outer")
    return "in time"


@pytest.mark.asyncio
async def test_deadlines_do_not_pass_by_themselves() -> None:
    assert (await dry_run(in_time, "x", work=Work())).result == "in time"


@pytest.mark.asyncio
async def test_a_deadline_that_passes_is_caught_by_the_attempt_around_it_and_not_by_one_inside() -> None:
    work = Work()
    done = await dry_run(in_time, "x", deadlines={"1.1"}, work=work)
    assert (done.result, work.log) == ("outer", ["outer"])
    assert positions(done.trace)[:2] == ["1.1 fired", "1.1.1.1 rejected:deadline"]


@workflow
async def told_in_time(key: str, *, work: Work) -> str:
    seen = await wait_for(Told, key=key, by=work, timeout=60)
    if seen is None:
        seen = await wait_for(Told, key=key, by=work)
    return seen.what


@pytest.mark.asyncio
async def test_waits_see_the_events_of_their_key() -> None:
    given = {"work.told": [Told("other", "x"), Told("k", "first"), Told("k", "second")]}
    done = await dry_run(told_in_time, "k", events=given, work=Work())
    assert (done.result, done.trace) == ("first", [Entry("1", (), "ok", Told("k", "first"))])


@pytest.mark.asyncio
async def test_a_wait_runs_out_when_it_is_told_so_or_nothing_is_there() -> None:
    done = await dry_run(told_in_time, "k", events={"work.told": [None, Told("k", "late")]}, work=Work())
    assert (done.result, positions(done.trace)) == ("late", ["1 fired", "2.then.1 ok"])
    with pytest.raises(NotFound, match="for ever"):
        await dry_run(told_in_time, "k", work=Work())


@workflow
async def decided(n: int, *, work: Work) -> str:
    if at(work, n > 1):
        return await work.do("many")
    return await work.do("few")


@pytest.mark.asyncio
async def test_a_decision_is_on_the_record() -> None:
    assert positions((await dry_run(decided, 2, work=Work())).trace)[0] == "1 chosen:then"
    assert positions((await dry_run(decided, 1, work=Work())).trace)[0] == "1 chosen:else"


@workflow
async def inner(text: str, *, work: Work) -> str:
    done = ""
    for _ in range(2):
        done = await work.do(text)
    return done


@workflow
async def outer(text: str, *, work: Work) -> str:
    async with orchestration(by="desk"):
        first = await inner(text, work=work)
        async with choreography():
            both = await each([first, "no"], lambda x: inner(x, work=work), limit=2)
    return both[0]


@pytest.mark.asyncio
async def test_a_called_workflow_has_the_positions_of_its_call() -> None:
    work = Work()
    done = await dry_run(outer, "a", work=work)
    assert done.rejection == "no"
    assert work.log == ["a", "a", "a", "a", "-a", "-a", "-a", "-a"]
    found = positions(done.trace)
    assert found[0] == found[-1].replace("compensated", "ok")
    assert [e.round for e in done.trace] == [(0,), (1,), (0, 0), (0, 1), (1, 0), (0, 1), (0, 0), (1,), (0,)]
    assert len({e.position for e in done.trace}) == 2


@workflow
async def kept_in_books(text: str, *, books: Books, work: Work) -> str:
    told = await books.write(text, Decimal(5))
    await work.do("more")
    return told


@pytest.mark.asyncio
async def test_a_handler_gets_what_it_asks_for() -> None:
    done = await dry_run(kept_in_books, "a", key="o-17", books=Books(), work=Work())
    assert done.result == "dry-run:1:0:forward:0 o-17 kept_in_books 1 1"
    assert done.published == [Told("a")]
    assert done.statements == [
        ("insert into book values (?)", ("a",)),
        ("insert into line values (?)", (1,)),
        ("insert into line values (?)", (2,)),
    ]


@pytest.mark.asyncio
async def test_a_compensation_can_see_the_arguments() -> None:
    done = await dry_run(kept_in_books, "a", outcomes={"work.do": [No()]}, books=Books(), work=Work())
    assert positions(done.trace)[-1] == "1 compensated"


@workflow
async def reads(n: int, *, books: Books) -> int:
    return await books.read()


class Fake:
    async def fetch(self, sql: str, *args: Any) -> list[Any]:
        return [1, 2]


@pytest.mark.asyncio
async def test_a_query_needs_a_transaction_that_can_answer() -> None:
    with pytest.raises(MisplacedCall, match="no store"):
        await dry_run(reads, 1, books=Books())
    assert (await dry_run(reads, 1, provide={Transaction: Fake()}, books=Books())).result == 2


@workflow
async def strays(text: str, *, books: Books) -> datetime:
    return await books.stray(text)


@pytest.mark.asyncio
async def test_what_an_action_may_not_do_reaches_the_caller() -> None:
    with pytest.raises(ConnectionError):
        await dry_run(strays, "down", books=Books())
    with pytest.raises(DeclarationError, match="does not declare"):
        await dry_run(strays, "undeclared", books=Books())
    with pytest.raises(InvalidPayload, match="no offset"):
        await dry_run(strays, "naive", books=Books())


@workflow
async def abandoning(text: str, *, work: Work) -> str:
    return await work.do(text).timeout(5, then="abandon")


@pytest.mark.asyncio
async def test_a_step_that_may_be_abandoned_has_a_verdict() -> None:
    assert positions((await dry_run(abandoning, "a", work=Work())).trace) == ["1 ok", "1! ok"]
    assert positions((await dry_run(abandoning, "no", work=Work())).trace) == ["1 rejected:no", "1! rejected:no"]
    late = await dry_run(abandoning, "a", outcomes={"work.do": [TimedOut()]}, work=Work())
    assert positions(late.trace) == ["1! rejected:timeout"]


class Careful(Work):
    @action
    async def small(self, n: Annotated[int, msgspec.Meta(le=100)]) -> int:
        return n


@workflow
async def guarded(n: int, *, work: Careful) -> int:
    await work.do("before")
    return await work.small(n)


@workflow
async def nests(text: str, *, books: Books) -> str:
    return await books.nested(text)


@pytest.mark.asyncio
async def test_an_action_is_no_workflow() -> None:
    with pytest.raises(MisplacedCall, match="ordinary Python"):
        await dry_run(nests, "a", books=Books())


@pytest.mark.asyncio
async def test_outcomes_replace_what_actions_answer() -> None:
    work = Work()
    script: dict[str, list[Any]] = {"2": ["scripted"], "work.do": [..., TimedOut()]}
    done = await dry_run(in_order, FINE, outcomes=script, work=work)
    assert [e.value for e in done.trace[:2]] == ["a", "scripted"]
    assert done.rejection == "timeout"
    assert work.log == ["a", "~scripted", "-a"]
    with pytest.raises(ConnectionError):
        await dry_run(in_order, FINE, outcomes={"1": [ConnectionError()]}, work=Work())
    with pytest.raises(InvalidPayload):
        await dry_run(in_order, FINE, outcomes={"1": [5]}, work=Work())


@pytest.mark.asyncio
async def test_a_name_that_nothing_has_is_refused() -> None:
    with pytest.raises(NotFound, match=r"work\.dont"):
        await dry_run(in_order, FINE, outcomes={"work.dont": [No()]}, work=Work())
    with pytest.raises(NotFound, match="deadlines"):
        await dry_run(in_order, FINE, deadlines={"9"}, work=Work())
    with pytest.raises(NotFound, match="events"):
        await dry_run(in_order, FINE, events={"work.told": []}, work=Work())


@pytest.mark.asyncio
async def test_arguments_that_do_not_fit_are_an_answer() -> None:
    done = await dry_run(guarded, 200, work=Careful())
    assert (done.rejection, positions(done.trace)) == (
        "invalid-value",
        ["1 ok", "2 rejected:invalid-value", "1 compensated"],
    )


@pytest.mark.asyncio
async def test_an_input_that_does_not_fit_is_refused() -> None:
    for wrong in (5, None, {"a": 1}):
        with pytest.raises(InvalidPayload):
            await dry_run(in_order, wrong, work=Work())  # type: ignore[misc]
