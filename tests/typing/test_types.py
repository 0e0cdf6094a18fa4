"""The type checker accepts the examples, and finds exactly the mistakes that are marked."""

from __future__ import annotations

import re
import subprocess
import sys
from pathlib import Path

import pytest

HERE = Path(__file__).parent
ROOT = HERE.parents[1]
RIGHT = sorted(p.name for p in HERE.glob("*.py") if p.name != Path(__file__).name)
WRONG = sorted(p.name for p in (HERE / "wrong").glob("*.py"))

_MARK = re.compile(r"#.*\berror: ([a-z-]+)")
_REPORT = re.compile(r"(?P<file>[^:]+):(?P<line>\d+): error: .*\[(?P<code>[a-z-]+)\]$")


@pytest.fixture(scope="module")
def reported(tmp_path_factory: pytest.TempPathFactory) -> dict[str, set[tuple[int, str]]]:
    """Give what mypy finds, as (line, code) by the name of the file; it runs once over all files."""
    files = [*(HERE / name for name in RIGHT), *(HERE / "wrong" / name for name in WRONG)]
    cache = tmp_path_factory.mktemp("mypy")
    command = [
        sys.executable,
        "-m",
        "mypy",
        "--strict",
        "--no-error-summary",
        "--cache-dir",
        str(cache),
        *map(str, files),
    ]
    ran = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, check=False)
    assert ran.stderr == ""
    found: dict[str, set[tuple[int, str]]] = {}
    for line in ran.stdout.splitlines():
        if " note: " in line:
            continue
        match = _REPORT.fullmatch(line)
        assert match is not None, line
        found.setdefault(Path(match["file"]).name, set()).add((int(match["line"]), match["code"]))
    return found


@pytest.mark.parametrize("name", RIGHT)
def test_the_examples_are_typed(name: str, reported: dict[str, set[tuple[int, str]]]) -> None:
    assert reported.get(name, set()) == set()


@pytest.mark.parametrize("name", WRONG)
def test_each_marked_mistake_is_found_and_nothing_else(name: str, reported: dict[str, set[tuple[int, str]]]) -> None:
    text = (HERE / "wrong" / name).read_text(encoding="utf-8")
    marked = {(n, m[1]) for n, line in enumerate(text.splitlines(), start=1) if (m := _MARK.search(line))}
    found = reported.get(name, set())
    assert len(marked) >= 4
    assert {line for line, _ in found} == {line for line, _ in marked}
    assert marked <= found
