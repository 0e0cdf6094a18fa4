"""Read the package's own source: its modules, what each imports, and which names of other modules it uses."""

from __future__ import annotations

import ast
import functools
import tomllib
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

ROOT = Path(__file__).resolve().parents[2]
PACKAGE = ROOT / "src" / "minuet"


@dataclass(frozen=True, slots=True, kw_only=True)
class Module:
    """A module of the package: its path below `src/minuet`, with slashes, and its syntax tree."""

    path: str
    tree: ast.Module


@dataclass(frozen=True, slots=True, kw_only=True)
class Use:
    """A dotted name as it is known where it comes from (`time.time`), and the line that uses it."""

    name: str
    line: int


@functools.cache
def modules() -> list[Module]:
    """Read every module of the package, in the order of their paths."""
    return [
        Module(path=path.relative_to(PACKAGE).as_posix(), tree=ast.parse(path.read_text(encoding="utf-8")))
        for path in sorted(PACKAGE.rglob("*.py"))
    ]


@functools.cache
def project() -> dict[str, Any]:
    """Read `pyproject.toml`."""
    return tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))


def imports(tree: ast.AST) -> Iterator[Use]:
    """Give what is imported anywhere in a tree, also inside functions: `a.b` for `import a.b` and `from a import b`."""
    for node in ast.walk(tree):
        if isinstance(node, ast.Import):
            yield from (Use(name=alias.name, line=node.lineno) for alias in node.names)
        elif isinstance(node, ast.ImportFrom) and node.module and not node.level:
            yield from (Use(name=f"{node.module}.{alias.name}", line=node.lineno) for alias in node.names)


def uses(tree: ast.AST) -> Iterator[Use]:
    """Give each dotted name in a tree whose first part was imported, however it was renamed.

    A name that is imported counts as used: `from time import time` gives `time.time`. Names of builtins are given
    as `builtins.…`.
    """
    yield from imports(tree)
    origins = dict(_origins(tree))
    for node in ast.walk(tree):
        if isinstance(node, ast.Name | ast.Attribute) and (name := _resolve(node, origins)):
            yield Use(name=name, line=node.lineno)


def _origins(tree: ast.AST) -> Iterator[tuple[str, str]]:
    for node in ast.walk(tree):
        if isinstance(node, ast.Import):
            for alias in node.names:
                first = alias.name.partition(".")[0]
                yield (alias.asname, alias.name) if alias.asname else (first, first)
        elif isinstance(node, ast.ImportFrom) and node.module and not node.level:
            for alias in node.names:
                yield alias.asname or alias.name, f"{node.module}.{alias.name}"


def _resolve(node: ast.expr, origins: dict[str, str]) -> str | None:
    match node:
        case ast.Name(id=name) if name in origins:
            return origins[name]
        case ast.Name(id="eval" | "exec" | "compile" | "__import__" as name):
            return f"builtins.{name}"
        case ast.Attribute(value=value, attr=attribute):
            owner = _resolve(value, origins)
            return f"{owner}.{attribute}" if owner else None
        case _:
            return None
