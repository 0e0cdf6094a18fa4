from __future__ import annotations

import io
import json
import logging
from collections.abc import Iterator

import pytest

from minuet.tools.log import configure_log


class Stream(io.StringIO):
    def __init__(self, *, is_terminal: bool) -> None:
        super().__init__()
        self.is_terminal = is_terminal

    def isatty(self) -> bool:
        return self.is_terminal


@pytest.fixture(autouse=True)
def log_as_it_was() -> Iterator[None]:
    root, uvicorn = logging.getLogger(), logging.getLogger("uvicorn")
    before = root.handlers[:], root.level, uvicorn.level
    yield
    root.handlers[:], root.level, uvicorn.level = before


def logged(monkeypatch: pytest.MonkeyPatch, level: str, *, is_terminal: bool) -> str:
    stream = Stream(is_terminal=is_terminal)
    monkeypatch.setattr("sys.stderr", stream)
    monkeypatch.setenv("NO_COLOR", "1")
    configure_log(level)
    log = logging.getLogger("minuet")
    log.info("run %s", "o-1\x1b[2J\nforged")
    try:
        raise ValueError("x")
    except ValueError:
        log.exception("it failed")
    return stream.getvalue()


def test_a_terminal_gets_lines_that_cannot_be_forged(monkeypatch: pytest.MonkeyPatch) -> None:
    first, second, *trace = logged(monkeypatch, "info", is_terminal=True).splitlines()
    assert first.endswith(" info     run o-1\\x1b[2J\\nforged")
    assert second.endswith(" error    it failed")
    assert trace[-1] == "ValueError: x"


def test_everything_else_gets_an_object_a_line(monkeypatch: pytest.MonkeyPatch) -> None:
    entries = [json.loads(line) for line in logged(monkeypatch, "info", is_terminal=False).splitlines()]
    assert [(e["level"], e["logger"], e["message"]) for e in entries] == [
        ("info", "minuet", "run o-1\x1b[2J\nforged"),
        ("error", "minuet", "it failed"),
    ]
    assert entries[1]["trace"].endswith("ValueError: x")
    assert entries[0]["at"].endswith("+00:00")


def test_what_is_below_the_level_is_left_out(monkeypatch: pytest.MonkeyPatch) -> None:
    assert "o-1" not in logged(monkeypatch, "warning", is_terminal=False)
