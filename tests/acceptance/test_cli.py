"""The command line as a user has it: a real process, its verbs from another one, its file when it is stopped."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import sysconfig
import textwrap
import time
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest

MINUET = Path(sysconfig.get_path("scripts")) / "minuet"
PATIENCE_S = 60.0

DESK = """
import asyncio
import time
from datetime import timedelta
from dataclasses import dataclass
from pathlib import Path
from minuet import App, Rejection, Service, action, compensation, event, wait_for, workflow

@event("answers.given", version=1, key="question")
@dataclass(frozen=True)
class Given:
    question: str
    text: str

class Refused(Rejection): ...

class Desk(Service):
    @action(rejects=(Refused,))
    async def take(self, question: str) -> str:
        if question == "no":
            raise Refused("we do not say")
        return question
    @compensation(take)
    async def drop(self, question: str) -> None: ...
    @action
    async def file(self, text: str) -> str:
        if not Path("mended").exists():
            raise RuntimeError("the drawer is jammed")
        return text
    @action
    async def slow(self, question: str) -> str:
        Path("slow-has-begun").touch()
        while not Path("slow-may-end").exists():
            await asyncio.sleep(0.01)
        Path("slow-has-ended").touch()
        return question

@workflow
async def answer(question: str, *, desk: Desk) -> str:
    taken = await desk.take(question)
    given = await wait_for(Given, key=taken, by=desk, timeout=timedelta(days=7))
    if given is None:
        return "nobody knows"
    return await desk.file(given.text).retry(1)

@workflow
async def think(question: str, *, desk: Desk) -> str:
    return await desk.slow(question)

app = App("desk", services=[Desk()], workflows=[answer, think], store="sqlite:///desk.db")

if __name__ == "__main__":
    app.main()
"""


@dataclass
class Said:
    code: int
    out: str
    err: str

    @property
    def json(self) -> Any:
        return json.loads(self.out)


class Folder:
    """A folder with a program in it, and the verbs as they are typed there."""

    def __init__(self, path: Path) -> None:
        self.path = path
        self.running: subprocess.Popen[str] | None = None
        self.url = ""
        self.environment = {k: v for k, v in os.environ.items() if not k.startswith("MINUET_")}

    def __call__(self, *words: str, stdin: str = "", **environment: str) -> Said:
        done = subprocess.run(
            [sys.executable, str(MINUET), *words],
            cwd=self.path,
            env={**self.environment, **environment},
            input=stdin,
            capture_output=True,
            text=True,
            timeout=PATIENCE_S,
            check=False,
        )
        assert "Traceback" not in done.stderr, done.stderr
        return Said(done.returncode, done.stdout, done.stderr)

    def run(self, *words: str) -> str:
        """Start the program, and give the line that says where it listens."""
        assert self.running is None
        self.running = subprocess.Popen(
            [sys.executable, str(MINUET), "run", *words, "--port", "0"],
            cwd=self.path,
            env=self.environment,
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            text=True,
        )
        assert self.running.stdout is not None
        line = self.running.stdout.readline().rstrip()
        assert " · " in line, self.stop()
        self.url = line.rpartition(" · ")[2]
        return line

    def until_there(self, name: str) -> None:
        """Wait until a file is there."""
        until = time.monotonic() + PATIENCE_S
        while not (self.path / name).exists():
            assert time.monotonic() < until, f"{name} is not there"
            time.sleep(0.01)

    def stop(self, number: signal.Signals = signal.SIGTERM, *, then: str | None = None) -> Said:
        """Tell the program to stop, and make a file once it says that it does; give what it said from then on."""
        assert self.running is not None
        running, self.running = self.running, None
        running.send_signal(number)
        before = ""
        if then is not None:
            assert running.stderr is not None
            before = next(line for line in running.stderr if line.startswith("stopping"))
            (self.path / then).touch()
        out, err = running.communicate(timeout=PATIENCE_S)
        return Said(running.returncode, out, before + err)

    def close(self) -> None:
        if self.running is not None:
            self.running.kill()
            self.running.communicate()


@pytest.fixture
def desk(tmp_path: Path) -> Iterator[Folder]:
    (tmp_path / "desk.py").write_text(DESK)
    folder = Folder(tmp_path)
    yield folder
    folder.close()


def test_the_life_of_a_run_from_another_terminal(desk: Folder) -> None:
    assert desk.run("desk:app").startswith(
        "desk: 2 workflows, 1 service · sqlite desk.db · embedded · http://127.0.0.1:"
    )

    started = desk("start", "answer", "--key", "q-1", "--input", '"why"', "--json").json
    run = started["run"]["run"]
    assert started["is_new"] is True
    assert desk("start", "answer", "--key", "q-1", "--input", "-", stdin='"why"', MINUET_API_URL=desk.url).code == 0
    assert desk("start", "answer", "--key", "q-1", "--input", '"what"').code == 4

    waiting = desk("show", "--key", "q-1")
    assert waiting.out.splitlines()[0].startswith(f"{run}  key q-1  answer@")
    assert "1  desk.take" in waiting.out
    last = waiting.out.splitlines()[-1]
    assert last.startswith("2  answers.given why  waits for event  since ")
    assert "until 20" in last

    # The answer comes, and what is done with it fails: it is parked after its only attempt.
    sent = desk("events", "send", "answers.given", "--key", "why", "--data", '{"question": "why", "text": "so"}')
    assert "accepted, 1 waiting" in sent.out
    assert desk("start", "answer", "--key", "q-1", "--input", '"why"', "--wait", "--timeout", "60s").code == 1
    assert "stuck" in desk("runs", "--stuck").out
    parked = desk("failed", "list", "--json").json["failed"]
    assert [(f["run"], f["attempts"], "jammed" in f["reason"]) for f in parked] == [(run, 1, True)]

    # Somebody mends it.
    (desk.path / "mended").touch()
    assert "due now" in desk("retry", run).out
    done = desk("start", "answer", "--key", "q-1", "--input", '"why"', "--wait", "--timeout", "60s")
    assert (done.code, '"so"' in done.out) == (0, True)
    assert desk("failed").err == "nothing is parked\n"
    assert desk("cancel", run).code == 0
    assert "already-ending" in desk("cancel", run).out

    no = desk("start", "answer", "--key", "q-2", "--input", '"no"', "--wait")
    assert (no.code, "refused at 1: we do not say" in no.out) == (1, True)
    assert desk.stop().code == 0


def test_an_operator_pauses_resumes_cancels_terminates_and_resolves(desk: Folder) -> None:
    desk.run("desk:app")
    for key in ("a", "b", "c"):
        desk("start", "answer", "--key", key, "--input", f'"{key}"')
    assert desk("pause", "--key", "a").code == 0
    assert "running paused" in desk("runs", "--key", "a").out
    assert desk("resume", "--key", "a").code == 0
    assert desk("cancel", "--key", "a").code == 0
    assert "compensated" in desk("start", "answer", "--key", "a", "--input", '"a"', "--wait").out

    asked = desk("terminate", "--key", "b", stdin="n\n")
    assert (asked.code, "Nothing of it will be compensated" in asked.err) == (1, True)
    assert desk("terminate", "--key", "b", "--yes", "--note", "by phone").code == 0
    assert "terminated dirty" in desk("runs", "--key", "b").out

    desk("events", "send", "answers.given", "--key", "c", "--data", '{"question": "c", "text": "x"}')
    assert "stuck" in desk("start", "answer", "--key", "c", "--input", '"c"', "--wait", "--timeout", "60s").out
    position = desk("failed", "list", "--json").json["failed"][0]["position"]
    wrong = desk("resolve", position, "--key", "c", "--note", "by hand", "--result", "7")
    assert (wrong.code, wrong.err.startswith("error: ")) == (2, True)
    assert desk("resolve", position, "--key", "c", "--note", "by hand", "--result", '"done"').code == 0
    assert '"done"' in desk("start", "answer", "--key", "c", "--input", '"c"', "--wait", "--timeout", "60s").out


def test_a_stopped_program_is_read_from_its_file_and_not_changed(desk: Folder) -> None:
    desk.run("desk:app")
    run = desk("start", "answer", "--key", "q-1", "--input", '"why"', "--json").json["run"]["run"]
    was = desk("show", run, "--json").json["run"]
    plan = desk("plan", "show", "answer", "--json").out
    desk.stop()

    now = desk("show", run, "--json").json["run"]
    assert now == was
    assert desk("runs", "--json").json["runs"][0]["at"] == was["at"]
    assert desk("plan", "show", "answer", "--json").out == plan
    assert desk("plan", "list").code == desk("failed").code == 0
    for words in (["cancel", run], ["start", "answer", "--input", '"x"'], ["retry", run]):
        refused = desk(*words)
        assert refused.code == 3
        assert refused.err == (
            "error: no process has desk.db open, and this needs one\n-> Start it with: minuet run MODULE:APP\n"
        )
    assert desk("show", "--key", "nobody").code == 3

    # Started again, it goes on.
    desk.run("desk:app")
    (desk.path / "mended").touch()
    desk("events", "send", "answers.given", "--key", "why", "--data", '{"question": "why", "text": "so"}')
    assert desk("start", "answer", "--key", "q-1", "--input", '"why"', "--wait", "--timeout", "60s").code == 0


def test_sigterm_lets_what_runs_come_to_its_end(desk: Folder) -> None:
    desk.run("desk:app", "--grace", "20s")
    desk("start", "think", "--key", "t", "--input", '"x"')
    desk.until_there("slow-has-begun")
    left = desk.stop(then="slow-may-end")
    assert left.code == 0
    assert "stopping; what runs has 20 s" in left.err
    assert (desk.path / "slow-has-ended").exists()


def test_sigint_stops_it_too_and_a_short_grace_leaves_work_for_the_next(desk: Folder) -> None:
    desk.run("desk:app", "--grace", "1ms")
    desk("start", "think", "--key", "t", "--input", '"x"')
    desk.until_there("slow-has-begun")
    assert desk.stop(signal.SIGINT).code == 0
    assert desk("runs", "--key", "t", "--json").json["runs"][0]["state"] == "running"
    (desk.path / "slow-may-end").touch()
    desk.run("desk:app")
    assert desk("start", "think", "--key", "t", "--input", '"x"', "--wait", "--timeout", "60s").code == 0


def test_a_second_process_is_told_who_holds_the_store(desk: Folder) -> None:
    desk.run("desk:app")
    assert desk.running is not None
    second = desk("run", "desk:app", "--port", "0")
    assert (second.code, f"process {desk.running.pid}" in second.err) == (4, True)
    assert desk.url in second.err


def test_a_taken_port_is_a_conflict_and_leaves_the_store_free(
    desk: Folder, tmp_path_factory: pytest.TempPathFactory
) -> None:
    desk.run("desk:app")
    other = Folder(tmp_path_factory.mktemp("other"))
    (other.path / "desk.py").write_text(DESK)
    refused = other("run", "desk:app", "--port", desk.url.rpartition(":")[2])
    assert (refused.code, "--port 0" in refused.err) == (4, True)
    assert "free: no process" in other("doctor").out


def test_it_listens_on_loopback_only(desk: Folder) -> None:
    refused = desk("run", "desk:app", "--host", "0.0.0.0")
    assert refused.code == 2
    assert "no tokens" in refused.err


def test_a_program_has_the_verbs_of_its_own(desk: Folder) -> None:
    done = subprocess.run(
        [sys.executable, "desk.py", "plan", "show", "desk:app:answer"],
        cwd=desk.path,
        env=desk.environment,
        capture_output=True,
        text=True,
        check=True,
    )
    assert "desk.take(question)" in done.stdout


def test_plans_are_shown_and_compared_before_anything_runs(desk: Folder) -> None:
    shown = desk("plan", "show", "desk:app:answer")
    assert "wait for answers.given v1, key taken, at most 7 d" in shown.out
    assert desk("plan", "show", "desk:app:answer", "--format", "svg").out.startswith("<svg ")
    assert desk("plan", "show", "desk:app:answer", "--format", "mermaid").out.startswith("---\ntitle: ")
    (desk.path / "kept.json").write_text(desk("plan", "show", "desk:app:answer", "--json").out)
    (desk.path / "later.py").write_text(DESK.replace("days=7", "days=8"))
    found = desk("plan", "diff", "kept.json", "later:app:answer")
    assert "~ 2  wait for answers.given\n      timeout: " in found.out
    assert "stay on it to their end" in found.out
    same = desk("plan", "diff", "kept.json", "desk:app:answer", "--json").json
    assert (same["same"], same["differences"]) == (True, [])
    (desk.path / "kept.json").write_text("{}")
    assert desk("plan", "show", "kept.json").code == 1


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ("import nothing_of_the_kind", "ModuleNotFoundError at broken.py:1"),
        ("x = 1\ny = x / 0", "ZeroDivisionError at broken.py:2"),
        ("x = ", "SyntaxError at broken.py:1"),
        ("x = 1", "there is no app at broken:app"),
    ],
)
def test_a_program_that_cannot_be_imported_is_named_with_its_line(desk: Folder, text: str, said: str) -> None:
    (desk.path / "broken.py").write_text(text)
    refused = desk("run", "broken:app")
    assert (refused.code, said in refused.err) == (2, True), refused.err


def test_a_refused_workflow_is_named_with_its_place(desk: Folder) -> None:
    (desk.path / "desk.py").write_text(DESK.replace("    taken = await", "    print(question)\n    taken = await"))
    refused = desk("run", "desk:app")
    assert refused.code == 2
    assert "M004 error" in refused.err
    assert refused.err.rstrip().endswith("-> minuet explain M004")


def test_the_doctor_says_what_is_there(desk: Folder) -> None:
    assert "desk.db" not in desk("doctor").out
    desk.run("desk:app")
    told = desk("doctor", "--json", MINUET_SLOTS="7").json
    assert told["well"] is True
    assert {c["name"]: c["verdict"] for c in told["checks"]} == dict.fromkeys(
        ("python", "sqlite", "disk", "store", "lock", "process"), "ok"
    )
    slots = next(s for s in told["settings"] if s["name"] == "slots")
    assert (slots["value"], slots["source"]) == (7, "MINUET_SLOTS")
    desk.stop()
    assert "free: no process has the store open" in desk("doctor").out
    (desk.path / "desk.db").write_bytes(b"no database at all" * 100)
    ill = desk("doctor")
    assert (ill.code, "is not a SQLite database" in ill.out) == (1, True)


def test_several_stores_in_a_folder_are_not_confused(desk: Folder) -> None:
    for name in ("one", "two"):
        desk.run("desk:app", "--store", f"{name}.db")
        desk("start", "answer", "--key", name, "--input", '"x"', "--store", f"{name}.db")
        desk.stop()
    unclear = desk("runs")
    assert (unclear.code, "one.db, two.db" in unclear.err) == (4, True)
    assert " one " in desk("runs", "--store", "one.db").out
    assert " two " in desk("runs", MINUET_STORE_URL="sqlite:///two.db").out


def test_a_misspelt_setting_stops_every_verb_that_would_use_it(desk: Folder) -> None:
    said = desk("runs", MINUET_STORE_ULR="sqlite:///x.db")
    assert (said.code, "Did you mean MINUET_STORE_URL?" in said.err) == (2, True)


def test_a_pipe_that_is_closed_early_is_no_error(desk: Folder) -> None:
    shell = f"{sys.executable} {MINUET} explain | head -1"
    done = subprocess.run(shell, shell=True, cwd=desk.path, capture_output=True, text=True, check=False)
    assert (done.returncode, done.stderr) == (0, "")


def test_a_new_project_runs_and_its_own_tests_pass(tmp_path: Path) -> None:
    made = Folder(tmp_path)("new", "hello")
    assert made.out.startswith("created hello/ (5 files: ")
    assert made.out.endswith("Next: cd hello && minuet run\n")
    hello = Folder(tmp_path / "hello")
    tests = subprocess.run(
        [sys.executable, "-m", "pytest", "-q", "-p", "no:cacheprovider"],
        cwd=hello.path,
        env=hello.environment,
        capture_output=True,
        text=True,
        check=False,
    )
    assert tests.returncode == 0, tests.stdout
    try:
        assert hello.run().startswith("hello: 1 workflow, 2 services · sqlite hello.db")
        for line in (hello.path / "README.md").read_text().splitlines():
            words = line.partition("#")[0].strip()
            if not words.startswith("minuet ") or words == "minuet run":
                continue
            done = subprocess.run(
                f"{sys.executable} {MINUET} {words.removeprefix('minuet ')}",
                shell=True,
                cwd=hello.path,
                env=hello.environment,
                capture_output=True,
                text=True,
                check=False,
            )
            assert done.returncode == (1 if "nowhere" in words else 0), textwrap.indent(done.stderr, words)
        assert '"Hello, Ada!"' in hello("show", "--key", "ada").out
        assert "address-unknown at 2: there is no @ in it" in hello("show", "--key", "bob").out
        assert "guestbook.remove" in hello("show", "--key", "bob").out
    finally:
        hello.close()
    refused = Folder(tmp_path)("new", "hello")
    assert (refused.code, "is there already" in refused.err) == (4, True)
    assert Folder(tmp_path)("new", "not-a-name").code == 2
