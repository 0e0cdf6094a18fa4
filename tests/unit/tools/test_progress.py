from __future__ import annotations

import asyncio
import io

import pytest

from minuet.tools.progress import Bar, waiting_line
from tests.fake_control import FakeControl


class Terminal(io.StringIO):
    def isatty(self) -> bool:
        return True


def test_a_bar_is_drawn_on_a_terminal_and_taken_away(monkeypatch: pytest.MonkeyPatch) -> None:
    terminal = Terminal()
    monkeypatch.setattr("sys.stderr", terminal)
    bar = Bar("runs", 4_000)
    bar.show(1_000, "250 runs/s")
    assert terminal.getvalue().endswith("runs [#######---------------------] 1,000 of 4,000  250 runs/s")
    bar.show(5_000)
    assert "[############################]" in terminal.getvalue()
    bar.close()
    assert terminal.getvalue().endswith("\r\x1b[2K")


def test_nothing_is_drawn_where_nobody_looks(monkeypatch: pytest.MonkeyPatch) -> None:
    stream = io.StringIO()
    monkeypatch.setattr("sys.stderr", stream)
    bar = Bar("runs", 0)
    bar.show(1)
    bar.close()

    async def waiting() -> None:
        async with waiting_line(FakeControl(), "R"):
            pass

    asyncio.run(waiting())
    assert stream.getvalue() == ""


def test_whoever_waits_sees_where_the_run_is(monkeypatch: pytest.MonkeyPatch) -> None:
    terminal = Terminal()
    monkeypatch.setattr("sys.stderr", terminal)
    control = FakeControl()
    told = asyncio.Event()

    async def show(run: str, *, facts: bool = True) -> object:
        told.set()
        return control.known[run]

    monkeypatch.setattr("minuet.tools.progress._EACH_S", 0)
    monkeypatch.setattr(control, "show", show)

    async def waiting() -> None:
        view, _ = await control.start("greet", b'"x"')
        control.change(view.run, at="2b inventory.reserve\x1b[2J")
        async with waiting_line(control, view.run):
            await told.wait()
            await asyncio.sleep(0)

    asyncio.run(waiting())
    assert "2b inventory.reserve\\x1b[2J" in terminal.getvalue()
    assert terminal.getvalue().endswith("\r\x1b[2K")
