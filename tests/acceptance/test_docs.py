"""Whatever the docs show is run as they show it, page by page: files, Python, commands, and what they print."""

from __future__ import annotations

from pathlib import Path

import pytest

from tests.pages import ROOT, Example, begins_with, examples, fits, pages, performed_in


@pytest.mark.parametrize("page", [p for p in pages() if examples(p)], ids=lambda p: str(p.relative_to(ROOT)))
def test_a_page_does_what_it_says(page: Path, tmp_path: Path) -> None:
    with performed_in(tmp_path) as performer:
        for other in begins_with(page):
            performer.write_files(other)
        for example in examples(page):
            try:
                performer.perform(example)
            except BaseException as error:
                error.add_note(f"{page.relative_to(ROOT)}:{example.line}")
                raise


def test_a_page_that_says_something_wrong_is_found(tmp_path: Path) -> None:
    page = tmp_path / "wrong.md"
    page.write_text("```python\nprint(1 + 1)\n```\n\n```text\n3\n```\n\n```console\n$ echo a\nb\n```\n")
    python, console = examples(page)
    with performed_in(tmp_path) as performer:
        with pytest.raises(AssertionError, match="it is:\n2"):
            performer.perform(python)
        with pytest.raises(AssertionError, match="it is:\na"):
            performer.perform(console)


def test_what_varies_is_left_open_and_nothing_else() -> None:
    assert fits("run … is here\n…\nend", "run 17 is here\na\nb\nend\n")
    assert fits("run … is here\n…\nend", "run 17 is here\nend\n")
    assert not fits("run … is here", "run 17 is here\nand more\n")
    assert not fits("a\nb", "a\n")


def test_a_command_that_goes_on_can_be_killed(tmp_path: Path) -> None:
    block = Example("console", "$ bash -c 'echo begun; exec sleep 60' &\nbegun\n$ kill -9 %1\n$ echo gone\ngone\n", 1)
    with performed_in(tmp_path) as performer:
        performer.perform(block)
