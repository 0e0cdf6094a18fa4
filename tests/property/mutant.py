"""A module with one mistake in it: a check that cannot fail is shown to fail."""

from __future__ import annotations

import inspect
from types import ModuleType


def mutant(module: ModuleType, sound: str, wrong: str) -> ModuleType:
    """Give a copy of a module in which a piece of its text, which occurs once, is replaced."""
    source = inspect.getsource(module)
    assert source.count(sound) == 1, f"{sound!r} occurs {source.count(sound)} times in {module.__name__}"
    copy = ModuleType(module.__name__)
    copy.__file__ = module.__file__
    exec(compile(source.replace(sound, wrong), module.__file__ or "", "exec"), copy.__dict__)
    return copy
