"""The public names are a list, compared with reality: each is there, each is explained, and nothing else is offered."""

from __future__ import annotations

import importlib
import inspect
from dataclasses import is_dataclass
from types import ModuleType
from typing import Any

import pytest

import minuet
from tests.architecture.source import modules

FOLDERS = sorted({m.path.removesuffix("/__init__.py").replace("/", ".") for m in modules() if "/__init__" in m.path})


def test_each_public_name_is_there() -> None:
    assert [name for name in minuet.__all__ if not hasattr(minuet, name)] == []


def test_no_public_name_is_listed_twice() -> None:
    assert len(minuet.__all__) == len(set(minuet.__all__))


def test_nothing_is_offered_that_is_not_listed() -> None:
    offered = {name for name, value in vars(minuet).items() if not name.startswith("_") and not is_module(value)}
    assert offered - {"annotations", *minuet.__all__} == set()


def test_each_public_name_is_explained() -> None:
    assert [name for name in minuet.__all__ if not is_explained(getattr(minuet, name))] == []


def test_the_package_is_a_map() -> None:
    assert minuet.__doc__


@pytest.mark.parametrize("folder", FOLDERS)
def test_each_folder_says_its_question_and_what_others_may_use(folder: str) -> None:
    module = importlib.import_module(f"minuet.{folder}")
    assert module.__doc__
    assert [name for name in getattr(module, "__all__", []) if not hasattr(module, name)] == []


def is_module(value: Any) -> bool:
    return isinstance(value, ModuleType)


def is_explained(value: Any) -> bool:
    """Tell whether a docstring was written for a value: not inherited, and not the one that a dataclass makes."""
    if not (inspect.isclass(value) or inspect.isroutine(value)):
        return True  # a type alias or a version has no docstring of its own
    text = (value.__dict__.get("__doc__") if inspect.isclass(value) else value.__doc__) or ""
    return text != "" and not (is_dataclass(value) and text.startswith(f"{getattr(value, '__name__', '')}("))
