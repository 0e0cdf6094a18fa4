from __future__ import annotations

import io
from collections.abc import Iterator

import pytest

from minuet import errors
from minuet.errors import (
    Busy,
    InvalidPayload,
    KeyConflict,
    MinuetError,
    NotFound,
    NotRunning,
    StoreFull,
    WorkflowRefused,
)
from minuet.finding import Finding
from minuet.runtime.view import FactView, WaitingView
from minuet.tools.output import (
    Exit,
    age_text,
    exit_code,
    paint,
    print_error,
    print_json,
    print_line,
    print_table,
    time_text,
    value_text,
)
from minuet.tools.story import fact_rows, header, waiting_rows
from tests.fake_control import make_run


class Terminal(io.StringIO):
    def isatty(self) -> bool:
        return True


@pytest.fixture
def terminal(monkeypatch: pytest.MonkeyPatch) -> Terminal:
    monkeypatch.delenv("NO_COLOR", raising=False)
    monkeypatch.setenv("TERM", "xterm")
    return Terminal()


def test_each_error_has_an_exit_code_that_says_what_kind_it_is() -> None:
    assert exit_code(InvalidPayload("x")) == Exit.USAGE
    assert exit_code(NotFound("x")) == exit_code(NotRunning("x")) == Exit.NOT_FOUND
    assert exit_code(KeyConflict("x")) == Exit.CONFLICT
    assert exit_code(Busy("x")) == exit_code(StoreFull("x")) == Exit.FAILED

    def kinds(root: type[MinuetError]) -> Iterator[type[MinuetError]]:
        yield root
        for kind in root.__subclasses__():
            yield from kinds(kind)

    assert all(exit_code(kind.__new__(kind)) != Exit.DONE for kind in kinds(errors.MinuetError))


def test_an_error_says_what_happened_and_what_to_do(capsys: pytest.CaptureFixture[str]) -> None:
    print_error(NotFound("there is no run \x1b[2J", remedy="Look"), as_json=False)
    assert capsys.readouterr() == ("", "error: there is no run \\x1b[2J\n-> Look\n")


def test_an_error_for_programs_is_one_object_on_stdout(capsys: pytest.CaptureFixture[str]) -> None:
    print_error(NotFound("gone", remedy="Look"), as_json=True)
    expected = '{"format": 1, "error": {"code": "not-found", "message": "gone", "remedy": "Look"}}\n'
    assert capsys.readouterr() == (expected, "")


def test_a_refused_workflow_lists_its_findings_and_where_they_are_explained(capsys: pytest.CaptureFixture[str]) -> None:
    found = Finding(code="M004", file="shop.py", line=14, column=5, message="print(…)", remedy="make it an action")
    print_error(WorkflowRefused([found, found]), as_json=False)
    said = capsys.readouterr().err
    assert "shop.py:14:5  M004 error  print(…)" in said
    assert said.endswith("-> minuet explain M004\n")


def test_colours_are_for_terminals_that_want_them(terminal: Terminal, monkeypatch: pytest.MonkeyPatch) -> None:
    assert paint("x", "bad", terminal) == "\x1b[31mx\x1b[0m"
    assert paint("x", "", terminal) == "x"
    assert paint("x", "bad", io.StringIO()) == "x"
    monkeypatch.setenv("TERM", "dumb")
    assert paint("x", "bad", terminal) == "x"
    monkeypatch.setenv("TERM", "xterm")
    monkeypatch.setenv("NO_COLOR", "1")
    assert paint("x", "bad", terminal) == "x"


def test_what_an_encoding_cannot_say_is_written_out() -> None:
    raw = io.BytesIO()
    stream = io.TextIOWrapper(raw, encoding="ascii", write_through=True)
    print_line("grün 🎵", to=stream)
    assert raw.getvalue() == b"gr\\xfcn \\U0001f3b5\n"


def test_a_table_is_aligned_by_what_is_seen_and_escapes_its_cells(capsys: pytest.CaptureFixture[str]) -> None:
    print_table(("KEY", "STATE"), [("日本", "ok"), ("a\x1b[31m", "stuck"), ("", "")], stated=1)
    assert capsys.readouterr().out == "KEY        STATE\n日本       ok\na\\x1b[31m  stuck\n\n"


def test_a_table_without_rows_and_headers_is_nothing(capsys: pytest.CaptureFixture[str]) -> None:
    print_table((), [])
    assert capsys.readouterr().out == ""


def test_json_has_the_version_of_its_form_and_is_plain_ascii(capsys: pytest.CaptureFixture[str]) -> None:
    print_json({"run": make_run("R", key="ü\x1b"), "code": Exit.DONE})
    said = capsys.readouterr().out
    assert said.startswith('{"format": 1, "run": {"run": "R", "key": "\\u00fc\\u001b"')
    assert said.isascii()


def test_values_are_one_line_and_can_be_cut() -> None:
    assert value_text({"a": "x\ny\x1b"}) == '{"a": "x\\ny\\u001b"}'
    assert value_text("x" * 20, longest=6) == '"xxxx…'


@pytest.mark.parametrize(
    ("span_ms", "expected"),
    [(-5, "0 ms"), (41, "41 ms"), (4_999, "4 s"), (120_000, "2 min"), (3_600_000, "1 h"), (86_400_000 * 3, "3 d")],
)
def test_an_age_is_told_in_its_largest_unit(span_ms: int, expected: str) -> None:
    assert age_text(span_ms) == expected


def test_an_instant_of_another_day_has_its_date() -> None:
    at_ms = 1_750_000_000_120
    assert time_text(at_ms, at_ms + 1_000).endswith(".120")
    assert len(time_text(at_ms, at_ms)) == len("09:14:03.120")
    assert len(time_text(at_ms, at_ms + 90_000_000)) == len("2025-06-15 09:14:03.120")


NOW_MS = 1_750_000_005_000


def test_the_head_of_a_run_says_how_it_is_and_why() -> None:
    run = make_run("38G61GMYY0000", key="o-1", state="stuck", reason="10 attempts", paused=True, dirty=True)
    said = header(run, NOW_MS)
    assert said[0] == "38G61GMYY0000  key o-1  greet@7c1e03d5  orchestration  stuck paused dirty"
    assert said[1].endswith("5 s ago")
    assert said[2] == "reason: 10 attempts"


def test_the_head_of_a_run_whose_id_is_its_key_says_it_once() -> None:
    run = make_run("R", key="R", state="completed", ended_at_ms=1_750_000_000_041, result={"id": "p-1"})
    assert header(run, NOW_MS)[0].startswith("R  greet@")
    assert header(run, NOW_MS)[1].endswith("ended after 41 ms")
    assert header(run, NOW_MS)[2] == 'result: {"id": "p-1"}'


def fact(label: str, **more: object) -> FactView:
    given = {"seq": 1, "position": "2b", "round": "", "what": "a.b", "owner": "a", "at_ms": NOW_MS, "place": "s.py:3"}
    return FactView(label=label, **{**given, **more})  # type: ignore[arg-type]


def test_facts_are_told_without_the_marks_that_only_rules_read() -> None:
    facts = [fact("ok", round="3", value=[1]), fact("back"), fact("gone")]
    assert [row[:3] for row in fact_rows(facts, NOW_MS)] == [("2b[3]", "a.b", "ok")]
    assert [(row[2], row[-1]) for row in fact_rows(facts, NOW_MS, with_values=True)] == [
        ("ok", "[1]"),
        ("back", ""),
        ("gone", ""),
    ]


def test_what_a_run_waits_for_is_told_with_since_and_until_and_from_whom() -> None:
    waiting = WaitingView(
        position="4", what="event", needs="picked-up p-1", owner="shipping", since_ms=NOW_MS - 4_000, until_ms=NOW_MS
    )
    (row,) = waiting_rows([waiting], NOW_MS)
    assert row[:5] == ("4", "picked-up p-1", "waits for event", "since 4 s", "shipping")
    assert row[5].startswith("until ")


def test_what_is_waited_for_is_told_with_how_long_it_usually_takes_and_whether_it_is_late() -> None:
    def waits(**more: object) -> WaitingView:
        given = {"position": "1", "what": "action", "needs": "a.b", "owner": "a", "since_ms": NOW_MS - 4_000, **more}
        return WaitingView(**given)  # type: ignore[arg-type]

    rows = waiting_rows([waits(), waits(usual_ms=40), waits(late=True), waits(usual_ms=40, late=True)], NOW_MS)
    assert [row[3] for row in rows] == [
        "since 4 s",
        "since 4 s, usually 40 ms",
        "since 4 s, late",
        "since 4 s, usually 40 ms, late",
    ]
