"""Writes the parts of the docs that are made from the code, in place; with `--check`, only says which are stale.

A generated part stands between `<!-- generated: NAME -->` and `<!-- end -->`. Whoever edits a page leaves it alone, and
whoever changes what it is made from runs `make docs`. A test runs `--check`.
"""

from __future__ import annotations

import ast
import dataclasses
import inspect
import itertools
import re
import sys
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any, get_overloads

import click

import minuet
from minuet import errors, testing
from minuet.engine import bound
from minuet.plans import rule
from minuet.runtime import settings as settings_module
from minuet.runtime import view
from minuet.runtime.local import LocalControl
from minuet.runtime.settings import TABLE, Settings
from minuet.server.app import make_server
from minuet.server.problem import CODES, STATUS
from minuet.tools.cli.main import cli
from minuet.tools.output import exit_code
from minuet.workflows.refusal import EXPLANATIONS

ROOT = Path(__file__).parent.parent
SOURCE = ROOT / "src" / "minuet"
PAGES = [ROOT / "README.md", ROOT / "ARCHITECTURE.md", *sorted((ROOT / "docs").rglob("*.md"))]

LINE_LENGTH = 90  # of a signature

_PART = re.compile(r"(<!-- generated: (?P<name>.+?) -->\n).*?(<!-- end -->)", re.DOTALL)


def main() -> int:
    """Write all parts, or check them."""
    stale: list[str] = []
    for page in PAGES:
        if not page.is_file():
            continue
        old = page.read_text(encoding="utf-8")
        new = _renewed(old, page)
        if new == old:
            continue
        stale.append(str(page.relative_to(ROOT)))
        if "--check" not in sys.argv:
            page.write_text(new, encoding="utf-8")
    if "--check" in sys.argv:
        for name in stale:
            print(f"{name}: a generated part is not what the code says; run: make docs", file=sys.stderr)
        return 1 if stale else 0
    print(f"{len(stale)} pages changed{': ' if stale else ''}{', '.join(stale)}")
    return 0


def _renewed(text: str, page: Path) -> str:
    return _PART.sub(lambda m: m[1] + "\n" + _made(m["name"], page).strip("\n") + "\n\n" + m[3], text)


def _made(name: str, page: Path) -> str:
    what, _, argument = name.partition(" ")
    if what not in _PARTS:
        raise SystemExit(f"{page.relative_to(ROOT)}: there is no generated part {what!r}; known: {', '.join(_PARTS)}")
    return _PARTS[what](argument)


# --- tables -------------------------------------------------------------------------------------------------------


def _table(heads: list[str], rows: list[list[str]]) -> str:
    lines = ["| " + " | ".join(heads) + " |", "| " + " | ".join("---" for _ in heads) + " |"]
    lines += ["| " + " | ".join(cell.replace("|", "\\|").replace("\n", " ") for cell in row) + " |" for row in rows]
    return "\n".join(lines)


def _refusals(_: str) -> str:
    return _table(["code", "what it says"], [[f"`{code}`", text] for code, text in EXPLANATIONS.items()])


def _settings(_: str) -> str:
    defaults = Settings()
    rows = []
    for s in TABLE:
        value = getattr(defaults, s.field)
        shown = "" if value is None else f"`{_duration(value) if s.unit == 'duration' else value}`"
        rows.append([f"`{s.name}`", f"`{s.variable}`", shown, s.unit, s.meaning])
    return _table(["name in files", "in the environment", "default", "unit", "meaning"], rows)


def _retry_settings(_: str) -> str:
    policy = Settings().retry
    values = {
        "attempts": str(policy.attempts),
        "first": _duration(policy.first_ms),
        "factor": f"{policy.factor:g}",
        "at_most": _duration(policy.at_most_ms),
    }
    known = list(settings_module._RETRY_READERS)
    return _table(
        ["name in files", "in the environment", "default"],
        [[f"`retry.{n}`", f"`MINUET_RETRY__{n.upper()}`", f"`{values[n]}`"] for n in known],
    )


def _duration(ms: int) -> str:
    for unit, length in (("d", 86_400_000), ("h", 3_600_000), ("m", 60_000), ("s", 1_000)):
        if ms and ms % length == 0:
            return f"{ms // length}{unit}"
    return f"{ms}ms"


def _limits(_: str) -> str:
    rows = []
    for name, text in _documented_constants(SOURCE / "engine" / "bound.py"):
        value = getattr(bound, name)
        shown = f"{value:,}" if isinstance(value, int) else "see [settings](settings.md)"
        rows.append([f"`{name}`", shown if not name.endswith("_MS") else _duration(value), text])
    return _table(["bound", "value", "what, and why"], rows)


def _json_limits(_: str) -> str:
    path = SOURCE / "contracts" / "strict_json.py"
    module = __import__("minuet.contracts.strict_json", fromlist=["_"])
    rows = [[f"`{name}`", f"{getattr(module, name):,}", text] for name, text in _documented_constants(path)]
    return _table(["bound", "value", "what, and why"], rows)


def _documented_constants(path: Path) -> Iterator[tuple[str, str]]:
    body = ast.parse(path.read_text(encoding="utf-8")).body
    for node, after in itertools.pairwise(body):
        match node, after:
            case (
                ast.AnnAssign(target=ast.Name(id=name)) | ast.Assign(targets=[ast.Name(id=name)]),
                ast.Expr(value=ast.Constant(value=str(text))),
            ):
                yield name, " ".join(text.split())


# --- errors -------------------------------------------------------------------------------------------------------


def _errors(_: str) -> str:
    rows = []
    for cls in _tree(errors.MinuetError):
        depth = len(cls.__mro__) - len(errors.MinuetError.__mro__)
        status = next(STATUS[kind] for kind in cls.__mro__ if kind in STATUS)
        leaves = exit_code(cls.__new__(cls)).value
        public = f"`{cls.__name__}`" if hasattr(minuet, cls.__name__) else f"`minuet.errors.{cls.__name__}`"
        rows.append(["— " * depth + public, f"`{cls.code}`", str(status), str(leaves), _first(cls)])
    return _table(["class", "code", "HTTP", "exit", "meaning"], rows)


def _http_codes(_: str) -> str:
    return _table(["code", "HTTP"], [[f"`{code}`", str(status)] for code, status in CODES.items()])


def _tree(cls: type[errors.MinuetError]) -> Iterator[type[errors.MinuetError]]:
    yield cls
    for child in cls.__subclasses__():
        if child.__module__ == errors.__name__:
            yield from _tree(child)


# --- Python ----------------------------------------------------------------------------------------------------------


def _api(names: str) -> str:
    """Give signature and docstring of names of `minuet` or `minuet.testing`: `App`, and members as `App.start`."""
    return "\n\n".join(_described(name) for name in names.split())


def _described(name: str) -> str:
    owner, _, member = name.partition(".")
    thing: Any = getattr(minuet, owner, None) or getattr(testing, owner)
    if member:
        value = inspect.getattr_static(thing, member)
        if isinstance(value, property):
            return f"#### `{name}`\n\n{_doc(value)}"
        awaited = "await " if inspect.iscoroutinefunction(value) else ""
        return f"#### `{name}`\n\n{_code(f'{awaited}{member}{_signature(value)}')}\n\n{_doc(value)}"
    return f"### `{name}`\n\n{_code(_shape(name, thing))}\n\n{_doc(thing)}"


def _shape(name: str, thing: Any) -> str:
    """Give what is typed: the signature of a function or class, or the fields of what one is given."""
    if not inspect.isclass(thing):
        overloads = get_overloads(thing)
        few = overloads if 0 < len(overloads) <= 3 else [thing]
        return "\n".join(f"{name}{_signature(one)}" for one in few)
    if dataclasses.is_dataclass(thing):
        return "\n".join(_field(f) for f in dataclasses.fields(thing) if f.repr)
    if issubclass(thing, tuple):
        return "\n".join(f"{n}: {_annotation(t)}" for n, t in thing.__annotations__.items())
    if thing.__init__ is object.__init__ or getattr(thing, "_is_protocol", False):
        return f"class {name}"
    return f"{name}{_signature(thing.__init__)}"


def _field(f: dataclasses.Field[Any]) -> str:
    return f"{f.name}: {_annotation(f.type)}" + ("" if f.default is dataclasses.MISSING else f" = {f.default!r}")


def _signature(function: Any) -> str:
    """Give a signature on one line, or, where that is too long, with a line for each parameter."""
    signature = inspect.signature(function)
    text: list[str] = []
    kind = None
    for p in signature.parameters.values():
        if p.name == "self":
            continue
        if kind is p.POSITIONAL_ONLY and p.kind is not p.POSITIONAL_ONLY:
            text.append("/")
        if p.kind is p.KEYWORD_ONLY and kind not in (p.KEYWORD_ONLY, p.VAR_POSITIONAL):
            text.append("*")
        star = "*" if p.kind is p.VAR_POSITIONAL else "**" if p.kind is p.VAR_KEYWORD else ""
        default = "" if p.default is p.empty else f" = {p.default!r}"
        text.append(f"{star}{p.name}: {_annotation(p.annotation)}{default}")
        kind = p.kind
    if kind is inspect.Parameter.POSITIONAL_ONLY:
        text.append("/")
    result = _annotation(signature.return_annotation)
    gives = "" if result == "None" else f" -> {result}"
    one = f"({', '.join(text)}){gives}"
    return one if len(one) <= LINE_LENGTH else "(\n" + "".join(f"    {t},\n" for t in text) + f"){gives}"


def _annotation(annotation: Any) -> str:
    text = annotation if isinstance(annotation, str) else getattr(annotation, "__name__", str(annotation))
    return re.sub(r"\b(typing|collections\.abc)\.", "", text)


def _code(text: str) -> str:
    return f"```text\n{text}\n```"


def _doc(thing: Any) -> str:
    """Give a docstring as Markdown: the sections of arguments and errors become lists."""
    lines: list[str] = []
    if thing is minuet.App:
        thing = thing.__mro__[1]  # the runtime's, which says what its arguments mean
    for line in inspect.cleandoc(thing.__doc__ or "").splitlines():
        match = re.fullmatch(r"(Args|Raises):", line)
        if match:
            lines.append({"Args": "Arguments:", "Raises": "Raises:"}[match[1]])
            lines.append("")
        elif item := re.fullmatch(r"    (\*{0,2}[A-Za-z][\w, ]*): (.*)", line):
            lines.append(f"- `{item[1]}`: {item[2]}")
        elif line.startswith("    "):
            lines.append(f"  {line.strip()}")
        else:
            lines.append(line)
    return "\n".join(lines)


def _joined(text: str | None) -> str:
    return " ".join((text or "").split())


def _first(thing: Any) -> str:
    return _joined((inspect.cleandoc(thing.__doc__ or "")).split("\n\n")[0])


def _views(names: str) -> str:
    """Give the fields of what is told about runs."""
    parts = []
    for name in names.split():
        cls: Any = getattr(view, name)
        fields = [f"{n}: {_annotation(t)}" for n, t in cls.__annotations__.items()]
        parts.append(f"### `{name}`\n\n{_doc(cls)}\n\n{_code(chr(10).join(fields))}")
    return "\n\n".join(parts)


# --- files --------------------------------------------------------------------------------------------------------


def _file(name: str) -> str:
    return f"```python\n# {name}\n{(ROOT / name).read_text(encoding='utf-8').strip()}\n```"


def _layout(_: str) -> str:
    """Give every file of the package with the first sentence of its docstring."""
    lines = ["```text", "src/minuet/"]
    for path in _listed(SOURCE):
        inside = path.relative_to(SOURCE)
        indent = "  " * len(inside.parts)
        if path.is_dir():
            about = _about(path / "__init__.py")
            lines.append(f"{indent}{inside.name}/".ljust(28) + (f" {about}" if about else ""))
        else:
            lines.append(f"{indent}{inside.name}".ljust(28) + f" {_about(path)}".rstrip())
    return "\n".join([line.rstrip() for line in lines] + ["```"])


def _listed(folder: Path) -> Iterator[Path]:
    order = [
        "contracts",
        "workflows",
        "plans",
        "engine",
        "stores",
        "brokers",
        "observe",
        "runtime",
        "testing",
        "server",
        "tools",
    ]
    files = sorted(p for p in folder.iterdir() if p.is_file() and p.name != "py.typed")
    folders = [p for p in folder.iterdir() if p.is_dir() and p.name != "__pycache__" and any(_sources(p))]
    yield from (p for p in files if p.name != "__init__.py" or folder == SOURCE)
    for inner in sorted(folders, key=lambda p: (order.index(p.name) if p.name in order else 99, p.name)):
        yield inner
        yield from _listed(inner)


def _sources(folder: Path) -> Iterator[Path]:
    return (
        p for p in folder.rglob("*") if p.suffix in (".py", ".sql", ".html", ".toml") and "__pycache__" not in p.parts
    )


def _about(path: Path) -> str:
    if path.suffix == ".sql":
        text = path.read_text(encoding="utf-8")
        first = re.match(r"-- (?!name:)(.+)", text)
        return _sentence(first[1]) if first else ""
    if path.suffix != ".py" or not path.is_file():
        return ""
    return _sentence(_joined(ast.get_docstring(ast.parse(path.read_text(encoding="utf-8"))) or ""))


def _sentence(text: str) -> str:
    return re.split(r"(?<=[.])\s", text, maxsplit=1)[0]


def _store(_: str) -> str:
    paths = sorted((SOURCE / "stores" / "sqlite" / "migrations").glob("*.sql"))
    return "```sql\n" + "\n\n".join(path.read_text(encoding="utf-8").strip() for path in paths) + "\n```"


def _rules(_: str) -> str:
    """Give the table of rule kinds from the docstring of `plans/rule.py`."""
    return "\n".join(line for line in (rule.__doc__ or "").splitlines() if line.startswith("|"))


def _values(_: str) -> str:
    return "\n".join(line.strip() for line in (rule.Value.__doc__ or "").splitlines() if line.strip().startswith("|"))


def _routes(_: str) -> str:
    server: Any = make_server(LocalControl.__new__(LocalControl))  # nothing is asked of it
    rows = [[" ".join(sorted(r.methods - {"HEAD"})), f"`{r.path}`"] for r in server._app.routes]
    return _table(["method", "route"], rows)


def _commands(_: str) -> str:
    """Give each command with its help, from the tree of click."""
    parts: list[str] = []

    def walk(command: click.Command, path: list[str]) -> None:
        context = click.Context(
            command,
            info_name=" ".join(path),
            max_content_width=100,
            terminal_width=100,
            help_option_names=["-h", "--help"],
        )
        if len(path) > 1 and not command.hidden:
            parts.append(f"### `{' '.join(path)}`\n\n```text\n{command.get_help(context).rstrip()}\n```")
        if isinstance(command, click.Group):
            for name in command.list_commands(context):
                inner = command.get_command(context, name)
                assert inner is not None
                walk(inner, [*path, name])

    walk(cli, ["minuet"])
    return "\n\n".join(parts)


_PARTS: dict[str, Callable[[str], str]] = {
    "refusals": _refusals,
    "settings": _settings,
    "retry-settings": _retry_settings,
    "limits": _limits,
    "json-limits": _json_limits,
    "errors": _errors,
    "http-codes": _http_codes,
    "api": _api,
    "views": _views,
    "file": _file,
    "layout": _layout,
    "store": _store,
    "rules": _rules,
    "values": _values,
    "routes": _routes,
    "commands": _commands,
}

if __name__ == "__main__":
    raise SystemExit(main())
