"""Nothing is revived from data: no pickle and its kin, no evaluation of text, no import by a name from data.

Names are followed through imports, and text is searched too, so that a comment cannot smuggle in a recipe.
"""

from __future__ import annotations

import ast
import re

import pytest

from tests.architecture.source import PACKAGE, Module, modules, uses

FORBIDDEN = (
    "builtins.__import__",
    "builtins.eval",
    "builtins.exec",
    "cloudpickle",
    "code",
    "copyreg",
    "dill",
    "joblib",
    "jsonpickle",
    "marshal",
    "pickle",
    "runpy",
    "shelve",
    "yaml",
)
IMPORT_BY_NAME = ("importlib.import_module", "importlib.__import__", "pkgutil.resolve_name")
# An app is named on the command line as `module:app`, by a person who may run any code here anyway: one module does it.
MAY_IMPORT_BY_NAME = re.compile(r"tools/(cli/)?\w+\.py")
# Words that have no business in the source, in code or in comments.
WORDS = re.compile(r"\b(pickle|marshal|shelve|dill|yaml\.load)\b|(?<![\w.])(eval|exec|__import__)\(")


def revivals(module: Module) -> list[str]:
    return [
        f"src/minuet/{module.path}:{use.line} {use.name}"
        for use in uses(module.tree)
        if any(use.name == name or use.name.startswith(f"{name}.") for name in FORBIDDEN)
    ]


def test_no_source_revives_objects_from_data() -> None:
    assert [found for module in modules() for found in revivals(module)] == []


def test_no_source_speaks_of_it() -> None:
    found = [
        f"{path.relative_to(PACKAGE)}:{number} {line.strip()}"
        for path in sorted(PACKAGE.rglob("*"))
        if path.suffix in {".py", ".sql", ".html", ".js"}
        for number, line in enumerate(path.read_text(encoding="utf-8").splitlines(), start=1)
        if WORDS.search(line)
    ]
    assert found == []


def test_only_one_module_imports_by_name_and_the_command_line_gave_it() -> None:
    importers = {m.path for m in modules() if any(use.name in IMPORT_BY_NAME for use in uses(m.tree))}
    assert len(importers) <= 1
    assert all(MAY_IMPORT_BY_NAME.fullmatch(path) for path in importers)


@pytest.mark.parametrize(
    "text",
    [
        "import pickle",
        "from pickle import loads as read",
        "import marshal as m\nm.loads(b'')",
        "def f(x):\n    return eval(x)",
        "import builtins\nbuiltins.exec('')",
        "run = exec",
        "__import__('os')",
        "import yaml\nyaml.load('')",
    ],
)
def test_the_search_can_fail(text: str) -> None:
    assert revivals(Module(path="planted.py", tree=ast.parse(text)))


@pytest.mark.parametrize("text", ["import re\nre.compile('a')", "import ast\nast.literal_eval('1')", "db.exec('x')"])
def test_the_search_takes_only_what_it_means(text: str) -> None:
    assert not revivals(Module(path="planted.py", tree=ast.parse(text)))
