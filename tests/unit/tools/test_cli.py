"""The verbs over a `Control` in memory: what they ask, print and answer with. Processes are in `tests/acceptance`."""

from __future__ import annotations

import contextlib
import json
from collections.abc import AsyncIterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any
from xml.etree import ElementTree as ET

import pytest

from minuet.plans.placement import Placement
from minuet.plans.plan import make_plan
from minuet.runtime.letters import EVERYTHING
from minuet.runtime.view import FactView, FailedView, RejectionView, WaitingView
from minuet.tools.cli import reach as reaching
from minuet.tools.cli.main import VERBS, main
from tests.fake_control import FakeControl, make_letter
from tests.unit.observe.classical import parallel

MODULES = ("event", "failed", "operate", "plan", "runs")


@dataclass
class Said:
    code: int
    out: str
    err: str

    @property
    def json(self) -> Any:
        found = json.loads(self.out)
        assert found["format"] == 1
        return found


class Shell:
    def __init__(self, capsys: pytest.CaptureFixture[str]) -> None:
        self.control = FakeControl()
        self.changing: list[bool] = []
        self._capsys = capsys

    def __call__(self, *words: str) -> Said:
        with pytest.raises(SystemExit) as left:
            main(words)
        assert isinstance(left.value.code, int)
        return Said(int(left.value.code), *self._capsys.readouterr())

    @contextlib.asynccontextmanager
    async def reach(self, _place: reaching.Place, *, changing: bool = False) -> AsyncIterator[FakeControl]:
        self.changing.append(changing)
        yield self.control

    def started(self, key: str = "o-1") -> str:
        return str(self("start", "greet", "--key", key, "--input", '"you"', "--json").json["run"]["run"])


@pytest.fixture
def minuet(
    capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch, tmp_path: Path, without_settings: None
) -> Shell:
    monkeypatch.chdir(tmp_path)
    shell = Shell(capsys)
    for name in MODULES:
        monkeypatch.setattr(f"minuet.tools.cli.{name}.reach", shell.reach)
    return shell


@pytest.fixture
def without_settings(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("NO_COLOR", "1")
    monkeypatch.setattr("getpass.getuser", lambda: "ada")


# start, runs, show


def test_start_prints_the_run_in_one_line(minuet: Shell) -> None:
    said = minuet("start", "greet", "--key", "o-1", "--input", '"you"')
    run = minuet.control.known.popitem()[0]
    assert (said.code, said.out, said.err) == (0, f"run {run}  greet@7c1e03d5  orchestration  running\n", "")
    assert minuet.changing == [True]


def test_start_again_says_that_it_was_there(minuet: Shell) -> None:
    run = minuet.started()
    again = minuet("start", "greet", "--key", "o-1", "--input", '"you"')
    assert run in again.out
    assert again.out.endswith("(was there already)\n")
    assert minuet("start", "greet", "--key", "o-1", "--input", '"me"').code == 4


def test_start_reads_its_input_from_a_file_or_stdin(
    minuet: Shell, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "o.json").write_bytes(b' "you" ')
    minuet("start", "greet", "--input", "@o.json")
    assert minuet.control.asked[-1][2] == b' "you" '
    stdin = (tmp_path / "o.json").open()
    monkeypatch.setattr("sys.stdin", stdin)
    minuet("start", "greet", "--input", "-")
    stdin.close()
    assert minuet.control.asked[-1][2] == b' "you" '
    assert minuet("start", "greet", "--input", "@nothing.json").code == 2


@pytest.mark.parametrize("wrong", ["{", "NaN", '{"a":1,"a":2}', '"\\ud800"', "[" * 100, "\udce9"])
def test_start_refuses_what_is_no_json_before_anybody_is_asked(minuet: Shell, wrong: str) -> None:
    said = minuet("start", "greet", "--input", wrong)
    assert (said.code, said.out, minuet.control.asked) == (2, "", [])
    assert said.err.startswith("error: ")


def test_start_with_wait_fails_where_the_run_did_not_complete(minuet: Shell) -> None:
    run = minuet.started()
    minuet.control.change(run, state="stuck", reason="10 attempts")
    said = minuet("start", "greet", "--key", "o-1", "--input", '"you"', "--wait", "--timeout", "3s")
    assert said.code == 1
    assert "stuck  10 attempts" in said.out
    assert minuet.control.asked[-1] == ("wait", run, 3)
    minuet.control.change(run, state="completed", result={"id": 1}, ended_at_ms=1_750_000_000_041, reason=None)
    done = minuet("start", "greet", "--key", "o-1", "--input", '"you"', "--wait")
    assert (done.code, done.out.strip().endswith('completed in 41 ms  {"id": 1}  (was there already)')) == (0, True)


def test_runs_are_listed_in_columns(minuet: Shell) -> None:
    assert (minuet("runs").out, minuet("runs").err) == ("", "no runs yet\n")
    run = minuet.started("o-\x1b[31m")
    minuet.control.change(run, state="stuck", at="2a payments.refund, 10 attempts")
    head, row = minuet("runs").out.splitlines()
    assert head.split() == ["RUN", "KEY", "WORKFLOW", "STYLE", "STATE", "AT", "AGE"]
    assert row.startswith(f"{run}  o-\\x1b[31m  greet@7c1e03d5  orchestration  stuck  2a payments.refund, 10 attempts")


def test_runs_hands_its_filters_on(minuet: Shell) -> None:
    minuet(
        "runs", "--state", "running", "--stuck", "--workflow", "greet", "--key", "k", "--limit", "7", "--before", "R"
    )
    assert minuet.control.asked[-1] == ("runs", ("running", "stuck", "quarantined"), "greet", "k", None, "R", 7)
    minuet("runs", "--since", "1h")
    assert minuet.control.asked[-1][4] > 1_700_000_000_000
    assert minuet.changing == [False, False]


def test_late_runs_are_marked_and_listed_alone_where_that_is_asked(minuet: Shell) -> None:
    first, second = minuet.started("a"), minuet.started("b")
    late = WaitingView(position="1", what="action", needs="a.b", owner="a", since_ms=1, expected_ms=2, late=True)
    minuet.control.change(first, waiting=[late])
    assert [line.split()[4:6] for line in minuet("runs").out.splitlines()[1:]][1] == ["running", "late"]
    assert [view["run"] for view in minuet("runs", "--late", "--json").json["runs"]] == [first]
    minuet.control.change(first, waiting=[])
    assert minuet("runs", "--late").err == "no runs that fit\n"
    assert second in minuet("runs").out


@pytest.mark.parametrize("words", [["--state", "odd"], ["--since", "yesterday"], ["--limit", "0"], ["--limit", "x"]])
def test_runs_refuses_a_filter_that_means_nothing(minuet: Shell, words: list[str]) -> None:
    said = minuet("runs", *words)
    assert said.code == 2
    assert words[0] in said.err


def test_more_runs_than_fit_are_said_to_be_there(minuet: Shell) -> None:
    first, second = minuet.started("a"), minuet.started("b")
    assert minuet("runs", "--limit", "1").err == f"there may be more: --before {second}\n"
    page = minuet("runs", "--limit", "1", "--before", second, "--json").json
    assert [view["run"] for view in page["runs"]] == [first]


def test_show_tells_the_story_of_a_run_by_id_or_by_key(minuet: Shell) -> None:
    run = minuet.started()
    by_id, by_key = minuet("show", run).out, minuet("show", "greet", "--key", "o-1").out
    assert by_id.splitlines()[0] == by_key.splitlines()[0] == f"{run}  key o-1  greet@7c1e03d5  orchestration  running"
    assert by_id.splitlines()[2].startswith("1  greeter.greet  ok  ")
    assert by_id.splitlines()[2].endswith("greeter  hello.py:12")
    assert minuet("show", run, "--facts").out.rstrip().endswith('"hello"')
    assert minuet("show", run, "--json").json["run"]["facts"][0]["value"] == "hello"


def test_show_follows_until_nothing_more_happens(minuet: Shell, monkeypatch: pytest.MonkeyPatch) -> None:
    run = minuet.started()

    async def passing(_: float) -> None:
        minuet.control.change(run, state="completed", ended_at_ms=1_750_000_000_041)

    monkeypatch.setattr("minuet.tools.cli.runs.asyncio.sleep", passing)
    said = minuet("show", run, "--follow").out
    assert said.count("greeter.greet") == 1
    assert said.rstrip().endswith("completed in 41 ms")


@pytest.mark.parametrize("words", [[], ["a", "b"], ["a", "b", "--key", "k"]])
def test_show_names_one_run(minuet: Shell, words: list[str]) -> None:
    assert minuet("show", *words).code == 2


def test_what_is_not_there_is_not_found(minuet: Shell) -> None:
    said = minuet("show", "NOBODY")
    assert (said.code, said.out) == (3, "")
    assert said.err == "error: there is no run 'NOBODY'\n-> See: minuet runs\n"
    assert minuet("show", "NOBODY", "--json").json["error"]["code"] == "not-found"


# what an operator does


@pytest.mark.parametrize("verb", ["cancel", "pause", "retry"])
def test_a_verb_is_acknowledged_and_says_who_asked(minuet: Shell, verb: str) -> None:
    run = minuet.started()
    assert minuet(verb, run, "--note", "by phone").out == f"run {run}  accepted: {verb} is recorded\n"
    assert minuet.control.asked[-1][-2:] == ("cli:ada", "by phone")
    assert minuet(verb, "--key", "o-1", "--json").json["run"] == run


def test_terminate_asks_unless_it_is_told_not_to(minuet: Shell, monkeypatch: pytest.MonkeyPatch) -> None:
    run = minuet.started()
    asked: list[str] = []

    def no(text: str, **_: Any) -> None:
        asked.append(text)
        raise __import__("click").Abort

    monkeypatch.setattr("minuet.tools.cli.operate.click.confirm", no)
    assert minuet("terminate", run).code == 1
    assert run in asked[0]
    assert minuet.control.asked[-1][0] == "start"
    assert minuet("terminate", run, "--yes").code == 0
    assert minuet.control.asked[-1][:2] == ("terminate", run)


def test_positions_are_named_behind_the_run_or_beside_its_key(minuet: Shell) -> None:
    run = minuet.started()
    for words in ([run, "2a"], ["2a", "--key", "o-1"]):
        minuet("retry", *words)
        assert minuet.control.asked.pop() == ("retry", run, "2a", "cli:ada", None)
        minuet("skip", *words, "--note", "n")
        assert minuet.control.asked.pop() == ("skip", run, "2a", "cli:ada", "n")
        minuet("resolve", *words, "--note", "n", "--result", "[1]")
        assert minuet.control.asked.pop() == ("resolve", run, "2a", b"[1]", None, "cli:ada", "n")


@pytest.mark.parametrize(
    "words",
    [
        ["cancel"],
        ["cancel", "R", "--key", "k"],
        ["cancel", "R", "--workflow", "w"],
        ["skip", "R", "2a"],
        ["skip", "--note", "n"],
        ["resolve", "R", "2a", "--note", "n", "--result", "1", "--reject", "no"],
        ["retry", "R", "2a", "3"],
        ["frobnicate"],
        ["runs", "--frobnicate"],
    ],
)
def test_a_wrong_use_is_said_in_a_line_and_nobody_is_asked(minuet: Shell, words: list[str]) -> None:
    said = minuet(*words)
    assert said.code == 2
    assert "Traceback" not in said.err
    assert minuet.control.asked == []


def test_a_conflict_has_its_own_exit_code(minuet: Shell) -> None:
    assert minuet("resume", minuet.started()).code == 4


# events, failed, plans


def test_an_event_is_sent_and_its_fate_told(minuet: Shell) -> None:
    words = ["events", "send", "greetings.returned", "--key", "k", "--data", "{}", "--id", "e-1"]
    assert minuet(*words).out == "event e-1  accepted, kept (nobody waits yet)\n"
    assert minuet(*words).out == "event e-1  was there already; nothing is done twice\n"
    assert minuet(*words, "--json").json["event"]["outcome"] == "duplicate"


def test_what_is_parked_is_listed(minuet: Shell) -> None:
    assert minuet("failed").err == "nothing is parked\n"
    minuet.control.parked.append(
        FailedView(
            kind="step",
            run="R",
            key="o-1",
            workflow="greet",
            position="2a",
            direction="forward",
            reason="ConnectionError: \x1b[2J",
            attempts=10,
            first_at_ms=1,
            last_at_ms=2,
        )
    )
    row = minuet("failed", "list").out.splitlines()[1]
    assert row.startswith("R    o-1  step  greet 2a  ConnectionError: \\x1b[2J  10 ")
    assert minuet("failed", "list", "--json").json["failed"][0]["attempts"] == 10


def test_plans_are_listed(minuet: Shell) -> None:
    assert minuet("plan", "list").err == "no plans yet\n"
    minuet.control.plan_texts["7c1e03d591ab77c0"] = b"{}"
    assert minuet("plan", "list").out.splitlines()[1].split()[:5] == [
        "greet",
        "7c1e03d591ab77c0",
        "orchestration",
        "take",
        "it",
    ]
    damaged = minuet("plan", "show", "greet")
    assert (damaged.code, damaged.err.startswith("error: the plan cannot be read")) == (1, True)


# the rest


def test_each_verb_has_one_line_of_help_and_none_is_cut(minuet: Shell) -> None:
    listed = minuet("--help").out
    for verb in VERBS:
        assert f"  {verb.name} " in listed
        assert minuet(str(verb.name), "--help").code == 0
    assert not [line for line in listed.splitlines() if line.endswith("...") and "Usage" not in line]
    assert len(listed.splitlines()) <= 30


def test_an_explanation_is_printed_for_a_code(minuet: Shell) -> None:
    assert minuet("explain", "key-conflict").out.startswith("key-conflict: ")
    assert minuet("explain", "M999").code == 3
    assert "M006" in minuet("explain").out


def test_versions_are_printed(minuet: Shell) -> None:
    assert minuet("version").out.startswith("minuet ")
    assert minuet("version", "--json").json["plan_format"] == 1


def broken(*_: Any, **__: Any) -> Any:
    raise RuntimeError("secret \x1b[2J")


def test_nobody_sees_a_traceback_who_did_not_ask(minuet: Shell, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("minuet.tools.cli.runs.reach", broken)
    said = minuet("runs")
    assert (said.code, "Traceback" in said.err, "\x1b" in said.err) == (1, False, False)
    assert "MINUET_DEBUG=1" in said.err
    monkeypatch.setenv("MINUET_DEBUG", "1")
    assert "Traceback" in minuet("runs").err


def test_an_interruption_is_no_error(minuet: Shell, monkeypatch: pytest.MonkeyPatch) -> None:
    def interrupted(*_: Any, **__: Any) -> Any:
        raise KeyboardInterrupt

    monkeypatch.setattr("minuet.tools.cli.runs.reach", interrupted)
    assert minuet("runs").code == 130


# dead letters


def with_letters(minuet: Shell) -> None:
    for n in (1, 2):
        minuet.control.letters.known[f"mail.tell:{n}"] = make_letter(f"mail.tell:{n}")
    minuet.control.parked = [
        FailedView(
            kind="dead-letter",
            run=None,
            key="978",
            workflow="",
            position="mail.tell",
            direction="",
            reason="exhausted: no post today",
            attempts=10,
            first_at_ms=1,
            last_at_ms=2,
            id=f"mail.tell:{n}",
            fingerprint="2bafded7",
        )
        for n in (1, 2)
    ]


def test_dead_letters_are_listed_beside_steps_and_grouped_by_cause(minuet: Shell) -> None:
    with_letters(minuet)
    assert "mail.tell:2" in minuet("failed").out
    _, line, *_ = minuet("failed", "list", "--group").out.splitlines()
    assert line.split()[:4] == ["2", "2bafded7", "dead-letter", "mail.tell"]


def test_a_dead_letter_is_shown_with_its_attempts_and_causes(minuet: Shell) -> None:
    with_letters(minuet)
    said = minuet("failed", "show", "mail.tell:1").out
    for text in ("dead: exhausted", "library.page-made v1", "ConnectionError: no post today", "library.book-added 978"):
        assert text in said
    assert minuet("failed", "show", "mail.tell:1", "--json").json["dead_letter"]["id"] == "mail.tell:1"
    assert minuet("failed", "show", "mail.tell:9").code == 3


def test_dead_letters_are_mended_by_name_or_by_cause(minuet: Shell) -> None:
    with_letters(minuet)
    assert minuet("failed", "retry", "mail.tell:1").out == "1 dead letter\n"
    assert minuet("failed", "skip", "--fingerprint", "2bafded7").code == 0
    assert minuet("failed", "discard", "--all", "--note", "spam", "--yes").code == 0
    assert minuet("failed", "edit", "mail.tell:1", "--data", "{}", "--note", "wrong").code == 0
    assert [asked[0] for asked in minuet.control.letters.asked] == ["retry", "skip", "discard", "edit"]
    assert minuet.control.letters.asked[2][1:] == (EVERYTHING, "cli:ada", "spam")


def test_which_dead_letters_are_meant_has_to_be_said_and_why_they_go(minuet: Shell) -> None:
    assert minuet("failed", "retry").code == 2
    assert minuet("failed", "retry", "a.b:1", "--all").code == 2
    assert minuet("failed", "discard", "a.b:1", "--yes").code == 2
    assert minuet("failed", "edit", "a.b:1", "--data", "{}").code == 2


def test_events_are_told_once_more_from_a_time_on(minuet: Shell) -> None:
    assert "mail.tell" in minuet("events", "subscriptions").out
    assert minuet("events", "replay", "mail.tell", "--since", "1970-01-01T00:00:01+00:00").code == 0
    assert minuet.control.letters.asked == [("replay", "mail.tell", 1_000, None, "cli:ada", None)]
    assert minuet("events", "replay", "mail.tell", "--since", "1970-01-01T00:00:01").code == 2
    assert minuet("events", "replay", "mail.tell", "--since", "yesterday").code == 2


# pictures, and the part of one participant


FACTS = [("1", "ok"), ("2a", "ok"), ("2b", "rejected:no"), ("2a", "compensated"), ("1", "compensated")]


def with_a_rejected_order(minuet: Shell) -> str:
    run = minuet.started()
    plan = make_plan(parallel.tree, Placement(root="choreography"))
    minuet.control.plan_texts[plan.digest] = plan.to_json()
    facts = [
        FactView(
            seq=n,
            position=position,
            round="",
            label=label,
            what="",
            owner="",
            at_ms=1_750_000_000_000 + 10 * n,
            value="<secret>",
        )
        for n, (position, label) in enumerate(FACTS, 1)
    ]
    minuet.control.change(
        run,
        digest=plan.digest,
        state="compensated",
        ended_at_ms=1_750_000_000_050,
        rejection=RejectionView(code="no", position="2b"),
        facts=facts,
    )
    return run


@pytest.mark.parametrize(
    ("picture", "text"),
    [
        ("--sequence", "✗ 2b inventory.reserve rejected:no"),
        ("--timeline", "ok 10 ms, payments.refund 10 ms"),
        ("--causes", "└─✗ 2b inventory.reserve rejected:no"),
    ],
)
def test_a_run_is_drawn_in_each_form(minuet: Shell, picture: str, text: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("COLUMNS", "120")
    run = with_a_rejected_order(minuet)
    said = minuet("show", run, picture)
    assert said.code == 0
    assert said.out.startswith(run)
    assert text in said.out
    assert minuet("show", "--key", "o-1", picture, "--format", "mermaid").out.startswith('---\ntitle: "')
    svg = minuet("show", run, picture, "--format", "svg").out
    assert ET.fromstring(svg).tag.endswith("svg")
    assert "secret" not in said.out + svg


@pytest.mark.parametrize(
    "words",
    [
        ["--sequence", "--timeline"],
        ["--sequence", "--json"],
        ["--causes", "--follow"],
        ["--timeline", "--facts"],
        ["--format", "svg"],
        ["--format", "png", "--sequence"],
    ],
)
def test_what_does_not_go_together_is_said_before_anybody_is_asked(minuet: Shell, words: list[str]) -> None:
    said = minuet("show", "R", *words)
    assert (said.code, said.out, minuet.changing) == (2, "", [])
    assert words[0] in said.err


def test_a_run_whose_plan_is_gone_is_not_drawn(minuet: Shell) -> None:
    said = minuet("show", minuet.started(), "--sequence")
    assert (said.code, said.out) == (3, "")


def test_a_plan_is_shown_as_one_participant_performs_it(minuet: Shell) -> None:
    with_a_rejected_order(minuet)
    said = minuet("plan", "show", "greet", "--for", "shipping").out
    assert "3  runs shipping.ship(order=held)" in said
    assert "hears  2a ok from payments" in said
    found = minuet("plan", "show", "greet", "--for", "shipping", "--json").json["projection"]
    assert found["participant"] == "shipping"
    assert found["rules"][0]["tells"][0] == {
        "position": "3",
        "label": "ok",
        "receivers": ["home"],
        "values": ["result of 3"],
    }
    nobody = minuet("plan", "show", "greet", "--for", "nobody")
    assert (nobody.code, nobody.out) == (3, "")
    assert "orders, payments, inventory, shipping, home" in nobody.err
    assert minuet("plan", "show", "greet", "--for", "shipping", "--format", "svg").code == 2
