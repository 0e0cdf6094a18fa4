"""Performs what a page of the docs shows, as a reader would: writes its files, runs its Python and its commands.

| block | what is done with it |
| --- | --- |
| `python`, whose first line is `# name.py` | it is written to the page's folder under that name |
| `python`, any other | it is executed, in one namespace a page; `await` may stand at the top |
| `console` | lines that begin with `$ ` are commands; one that ends with ` &` goes on, and is `%1` from then on |
| `text`, directly behind a `python` block | is what that block prints |
| any other, or behind `<!-- not run: why -->` | is left alone |

In expected output `…` stands for anything within a line, and a line that is only `…` for any lines. In what a command
prints, one run id is as good as another, and so are times, ages and digests; how wide a column is does not count.
A page that says `<!-- begins with the files of OTHER.md -->` finds the files that the other page has written.
"""

from __future__ import annotations

import ast
import asyncio
import contextlib
import inspect
import io
import os
import re
import socket
import subprocess
import sys
import threading
import time
import types
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

ROOT = Path(__file__).parent.parent
PORT = "8640"  # as it stands in the pages; what is run gets a free one, since tests run beside each other
COMMAND_S = 60
APPEARS_S = 60

_FENCE = re.compile(r"^(?P<indent> *)```(?P<language>[a-z]*)\n(?P<text>.*?)^(?P=indent)```$", re.DOTALL | re.MULTILINE)
_NOT_RUN = re.compile(r"<!-- not run: .+? -->\s*\Z")
_BEGINS = re.compile(r"<!-- begins with the files of (\S+) -->")
_FILE = re.compile(r"# ([\w/]+\.py)\n")
_VARYING = [
    (re.compile(r"\b3[0-9A-HJKMNP-TV-Z]{12}\b"), "RUN"),
    (re.compile(r"\b\d\d:\d\d:\d\d\.\d{3}\b"), "TIME"),
    (re.compile(r"\b\d+(\.\d)? (ms|s|min)\b"), "AGE"),
    (re.compile(r"\b(?=[a-f]*\d)[0-9a-f]{16}\b"), "DIGEST"),
    (re.compile(r"\b(?=[a-f]*\d)(?=\d*[a-f])[0-9a-f]{8}\b"), "DIGEST"),
    (re.compile(r"process \d+ on \S+"), "process PID on HOST"),
    (re.compile(r"(?<=\S) {2,}"), "  "),
]


@dataclass(frozen=True, slots=True)
class Example:
    """A block of a page that is performed; `expects` is what it must print, or None where nothing is said."""

    language: str
    text: str
    line: int
    expects: str | None = None


def pages() -> list[Path]:
    """Give all pages that hold examples."""
    return [*ROOT.glob("README.md"), *sorted((ROOT / "docs").rglob("*.md"))]


def examples(page: Path) -> list[Example]:
    """Give the examples of a page, in order."""
    text = page.read_text(encoding="utf-8")
    found: list[Example] = []
    end = 0
    for match in _FENCE.finditer(text):
        language, between, end = match["language"], text[end : match.start()], match.end()
        line = text.count("\n", 0, match.start()) + 2
        if language == "text" and found and found[-1].language == "python" and not between.strip():
            last = found.pop()
            found.append(Example(last.language, last.text, last.line, match["text"]))
        elif language in ("python", "console") and not _NOT_RUN.search(between):
            found.append(Example(language, match["text"], line))
        elif language in ("python", "console"):
            found.append(Example("", "", line))  # what follows it is not the output of anything
    return [e for e in found if e.language]


def begins_with(page: Path) -> list[Path]:
    """Give the pages whose files a page begins with, the earliest first."""
    match = _BEGINS.search(page.read_text(encoding="utf-8"))
    if match is None:
        return []
    other = page.parent / match[1]
    return [*begins_with(other), other]


@contextlib.contextmanager
def performed_in(folder: Path) -> Iterator[PagePerformer]:
    """Give a performer whose page lives in a folder; what it has started is ended with the block."""
    performer = PagePerformer(folder)
    before, path, environ = Path.cwd(), list(sys.path), dict(os.environ)
    os.chdir(folder)
    sys.path.insert(0, str(folder))
    for name in [n for n in os.environ if n.startswith("MINUET_")]:
        del os.environ[name]
    os.environ |= performer.environ
    sys.modules[performer.module.__name__] = performer.module
    try:
        yield performer
    finally:
        performer.close()
        os.chdir(before)
        sys.path[:] = path
        os.environ.clear()
        os.environ.update(environ)
        for name, module in list(sys.modules.items()):
            if str(getattr(module, "__file__", None) or "").startswith(str(folder)):
                del sys.modules[name]
        sys.modules.pop(performer.module.__name__, None)


class PagePerformer:
    """Performs the examples of one page, one after the other."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.port = _free_port()
        self.module = types.ModuleType("page")
        self.environ = {
            "MINUET_PORT": self.port,
            "PATH": f"{Path(sys.executable).parent}{os.pathsep}{os.environ['PATH']}",
            "PYTHONPATH": str(ROOT),  # as if it were done in a checkout, beside `examples`
            "PYTHONDONTWRITEBYTECODE": "1",  # a file of the same size, written in the same second, is another file
            "NO_COLOR": "1",
            "COLUMNS": "120",
        }
        self._runner: asyncio.Runner | None = None
        self._jobs: list[_Job] = []

    def write_files(self, page: Path) -> None:
        """Write the files of another page, and do nothing else that it says."""
        for example in examples(page):
            if example.language == "python" and (name := _FILE.match(example.text)):
                self._write(name[1], example.text)

    def perform(self, example: Example) -> None:
        """Perform one example; raises AssertionError where it prints something else than the page says."""
        if example.language == "console":
            self._commands(example)
        elif name := _FILE.match(example.text):
            self._write(name[1], example.text)
        else:
            printed = self._python(example)
            if example.expects is not None:
                _compare(example.expects, printed.replace(self.port, PORT))

    def close(self) -> None:
        """End what was started."""
        if self._runner is not None:
            self._runner.close()
        for job in self._jobs:
            job.end()

    def _write(self, name: str, text: str) -> None:
        path = self.folder / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(text.replace(PORT, self.port), encoding="utf-8")

    def _python(self, example: Example) -> str:
        path = self.folder / f"line_{example.line}.py"  # workflows are read from their source
        path.write_text(example.text.replace(PORT, self.port), encoding="utf-8")
        code = compile(path.read_text(), str(path), "exec", flags=ast.PyCF_ALLOW_TOP_LEVEL_AWAIT, dont_inherit=True)
        if self._runner is None:
            self._runner = asyncio.Runner()
        printed = io.StringIO()
        with contextlib.redirect_stdout(printed):
            if code.co_flags & inspect.CO_COROUTINE:
                self._runner.run(_awaited(code, vars(self.module)))
            else:
                exec(code, vars(self.module))
        return printed.getvalue()

    def _commands(self, example: Example) -> None:
        for command, expected in _split(example.text):
            if command.endswith(" &"):
                job = _Job(command.removesuffix(" &"), self.folder)
                self._jobs.append(job)
                job.wait_for(expected, self.port)
                continue
            for number, job in enumerate(self._jobs, 1):
                command = command.replace(f"%{number}", str(job.process.pid))
            done = subprocess.run(
                ["bash", "-c", command.replace(PORT, self.port)],
                cwd=self.folder,
                stdout=subprocess.PIPE,
                stderr=subprocess.STDOUT,
                stdin=subprocess.DEVNULL,
                text=True,
                timeout=COMMAND_S,
                check=False,
            )
            if command.startswith("kill "):
                for job in self._jobs:
                    if str(job.process.pid) in command:
                        job.process.wait(timeout=COMMAND_S)
            _compare(alike(expected), alike(done.stdout.replace(self.port, PORT)), command)


@dataclass
class _Job:
    """A command that goes on in the background, and what it has printed so far."""

    command: str
    folder: Path
    lines: list[str] = field(default_factory=list)

    def __post_init__(self) -> None:
        self.process = subprocess.Popen(
            ["bash", "-c", f"exec {self.command}"],
            cwd=self.folder,
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            stdin=subprocess.DEVNULL,
            text=True,
            env=os.environ | {"PYTHONUNBUFFERED": "1"},
        )
        self.reader = threading.Thread(target=self._read, daemon=True)
        self.reader.start()

    def _read(self) -> None:
        assert self.process.stdout is not None
        for line in self.process.stdout:
            self.lines.append(line)

    def wait_for(self, expected: str, port: str) -> None:
        """Wait until what is expected has been printed."""
        until = time.monotonic() + APPEARS_S
        while True:
            if fits(alike(expected), alike("".join(self.lines).replace(port, PORT))):
                return
            if time.monotonic() > until or self.process.poll() is not None:
                self.reader.join(timeout=1)
                _compare(alike(expected), alike("".join(self.lines).replace(port, PORT)), self.command)
                return
            time.sleep(0.02)

    def end(self) -> None:
        """End it, if it has not ended."""
        if self.process.poll() is None:
            self.process.kill()
        self.process.wait()
        self.reader.join(timeout=5)
        assert self.process.stdout is not None
        self.process.stdout.close()


async def _awaited(code: types.CodeType, namespace: dict[str, Any]) -> None:
    await eval(code, namespace)


def _split(text: str) -> Iterator[tuple[str, str]]:
    """Give each command of a console block with what follows it."""
    command, output = "", list[str]()
    for line in text.splitlines():
        if line.startswith("$ "):
            if command:
                yield command, "\n".join(output)
            command, output = line[2:], []
        elif command.endswith("\\"):
            command = command[:-1] + line.strip()
        else:
            output.append(line)
    if command:
        yield command, "\n".join(output)


def _compare(expected: str, printed: str, command: str = "") -> None:
    if not fits(expected, printed):
        what = f"$ {command}\n" if command else ""
        raise AssertionError(f"{what}the page says:\n{expected.rstrip()}\n\nit is:\n{printed.rstrip()}")


def alike(output: str) -> str:
    """Give a command's output with a placeholder for whatever differs from one time to the next."""
    for pattern, placeholder in _VARYING:
        output = pattern.sub(placeholder, output)
    return output


def fits(expected: str, printed: str) -> bool:
    """Tell whether printed text is what a page says; spaces at the ends of lines do not count."""
    lines = [line.rstrip() for line in expected.strip("\n").splitlines()]
    pattern = ""
    for line in lines:
        if line.strip() == "…":
            pattern += r"(?:.*\n)*?"
        else:
            pattern += ".*?".join(map(re.escape, line.split("…"))) + r" *\n"
    text = "".join(f"{line.rstrip()}\n" for line in printed.strip("\n").splitlines())
    return re.fullmatch(pattern, text) is not None


def _free_port() -> str:
    with socket.create_server(("127.0.0.1", 0)) as listening:
        return str(listening.getsockname()[1])
