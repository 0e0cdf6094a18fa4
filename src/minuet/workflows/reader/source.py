"""From a function to its source: the syntax tree of its definition, its places, and what its names mean."""

from __future__ import annotations

import ast
import builtins
import functools
import linecache
import re
import types
import typing
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import Any, Final

from minuet.workflows.refusal import Refusals
from minuet.workflows.tree import Place

Definition = ast.FunctionDef | ast.AsyncFunctionDef

_ALLOWANCE: Final = re.compile(r"#\s*minuet:\s*allow\s+(M\d{3})\b(.*)")


class _Missing:
    """What a name means that means nothing."""

    def __repr__(self) -> str:
        return "MISSING"


MISSING: Final = _Missing()


@dataclass(frozen=True, slots=True)
class Allowance:
    """A comment `# minuet: allow M701 because …`."""

    code: str
    line: int
    column: int


class Source:
    """The source of one function. `file` is its name as its module gives it: `shop.py`, `billing/flows.py`."""

    def __init__(self, function: types.FunctionType, node: Definition, file: str, lines: list[str]) -> None:
        self.function = function
        self.node = node
        self.file = file
        self.lines = lines
        self.local_names = frozenset(function.__code__.co_varnames + function.__code__.co_cellvars)
        self.closure = dict(_closure(function))

    def place(self, node: ast.AST) -> Place:
        """Give the place of a syntax node; columns count characters, not bytes."""
        line: int = getattr(node, "lineno", self.node.lineno)
        offset: int = getattr(node, "col_offset", 0)
        text = self.lines[line - 1] if line <= len(self.lines) else ""
        column = offset if text.isascii() else len(text.encode()[:offset].decode(errors="replace"))
        return Place(self.file, line, column + 1)

    def refuse(self, refusals: Refusals, code: str, node: ast.AST, message: str, remedy: str) -> None:
        """Put a finding about a syntax node on the list."""
        place = self.place(node)
        refusals.add(code, place.file, place.line, place.column, message, remedy)

    def meaning(self, name: str) -> Any:
        """Give what a name means that is not local to the function, or `MISSING`."""
        if name in self.closure:
            return self.closure[name]
        if name in self.function.__globals__:
            return self.function.__globals__[name]
        return getattr(builtins, name, MISSING)

    def resolve(self, node: ast.expr) -> Any:
        """Give what a name or a dotted name means (`asyncio.gather`, `Colour.RED`), or `MISSING`.

        Only modules and classes are looked into: reading an attribute of anything else might run code.
        """
        match node:
            case ast.Name(id=name) if name not in self.local_names or name in self.closure:
                return self.meaning(name)
            case ast.Attribute(value=value, attr=attribute):
                owner = self.resolve(value)
                if isinstance(owner, types.ModuleType | type):
                    return getattr(owner, attribute, MISSING)
        return MISSING

    def annotation(self, annotation: Any) -> Any:
        """Give the type that an annotation means, with strings resolved; `MISSING` where a name is unknown."""
        holder = types.SimpleNamespace(__annotations__={"it": annotation})
        try:
            return typing.get_type_hints(holder, self.function.__globals__, self.closure, include_extras=True)["it"]
        except (NameError, TypeError, AttributeError, SyntaxError, ValueError, LookupError):
            return MISSING

    def is_defined_below(self, name: str) -> bool:
        """Tell whether the file binds the name at its top level, but has not come so far yet."""
        pattern = re.compile(rf"(?:async\s+def|def|class)\s+{re.escape(name)}\b|{re.escape(name)}\s*(?::[^=]+)?=[^=]")
        return any(pattern.match(line) for line in self.lines)

    def definition_below(self, name: str) -> Definition | None:
        """Give the definition of a function of the same file by its name."""
        nodes = _definitions("".join(self.lines)).values()
        return next((node for node in nodes if node.name == name), None)

    def allowances(self) -> Iterator[Allowance]:
        """Give the comments inside the function that allow a finding."""
        end = self.node.end_lineno or self.node.lineno
        for number in range(first_line(self.node), end + 1):
            text = self.lines[number - 1]
            if "minuet:" in text and (found := _ALLOWANCE.search(text)):
                yield Allowance(found[1], number, found.start() + 1)


def source_of(function: types.FunctionType) -> Source | None:
    """Find the source of a function; None where there is none."""
    code = function.__code__
    linecache.checkcache(code.co_filename)
    lines = linecache.getlines(code.co_filename, function.__globals__)
    if not lines:
        return None
    try:
        definitions = _definitions("".join(lines))
    except SyntaxError:  # the file is not the one that was imported
        return None
    node = definitions.get(code.co_firstlineno)
    if node is None or node.name != code.co_name:
        return None
    return Source(function, node, file_label(function), lines)


def file_label(function: Callable[..., Any]) -> str:
    """Give the file of a function relative to where its package lies, the same on every machine."""
    path = function.__code__.co_filename.replace("\\", "/").split("/")
    names = str(function.__module__ or "").split(".")
    if path[-1] == "__init__.py":
        names.append("__init__")
    parts = [*path[:-1], path[-1].removesuffix(".py")]
    return "/".join(path[-len(names) :]) if parts[-len(names) :] == names else path[-1]


def first_line(node: Definition) -> int:
    """Give the line of a definition's first decorator, which is where its code object begins."""
    return min([node.lineno, *(decorator.lineno for decorator in node.decorator_list)])


@functools.lru_cache(maxsize=4)
def _definitions(text: str) -> dict[int, Definition]:
    """Parse a file once for all its workflows: its functions by their first line."""
    found: dict[int, Definition] = {}
    todo: list[ast.AST] = [ast.parse(text)]
    while todo:
        for child in ast.iter_child_nodes(todo.pop()):
            if isinstance(child, ast.FunctionDef | ast.AsyncFunctionDef):
                found[first_line(child)] = child
            if isinstance(child, ast.stmt | ast.excepthandler):
                todo.append(child)
    return found


def _closure(function: types.FunctionType) -> Iterator[tuple[str, Any]]:
    for name, cell in zip(function.__code__.co_freevars, function.__closure__ or (), strict=True):
        try:
            yield name, cell.cell_contents
        except ValueError:  # bound later
            continue
