"""What is said about a call that no plan can keep: foreign code, clocks, asyncio, words that are not there yet."""

from __future__ import annotations

import ast
from typing import Any, Final

from minuet.workflows.refusal import shown

Refusal = tuple[str, str, str]
"""Code, message, remedy."""

MUTATORS: Final = frozenset(
    (
        "append", "extend", "insert", "remove", "pop", "clear", "sort", "reverse",
        "add", "discard", "update", "setdefault", "popitem",
    )
)  # fmt: skip

NOT_YET: Final = frozenset(("child", "first", "continue_as", "reset"))

_PLACES: Final = frozenset(("os", "posix", "nt", "sys", "platform", "socket", "getpass", "locale"))
_CHANCE: Final = frozenset(("random", "secrets"))
_CLOCK_METHODS: Final = frozenset(("now", "utcnow", "today", "fromtimestamp"))
_LOOPS: Final = frozenset(("asyncio", "anyio", "trio", "threading", "concurrent", "multiprocessing"))
_INSTEAD: Final = {
    "gather": "use together(…)",
    "create_task": "use together(…)",
    "ensure_future": "use together(…)",
    "wait": "use together(…)",
    "as_completed": "use each(…, limit=)",
    "TaskGroup": "use together(…)",
    "sleep": "use sleep(…)",
    "timeout": "use async with deadline(…)",
    "timeout_at": "use async with deadline(…)",
    "wait_for": "use async with deadline(…), or .timeout(…) on a step",
    "to_thread": "move it into an action",
    "shield": "leave it out: a step is not interrupted",
}


def refusal_of(call: ast.expr, meaning: Any) -> Refusal:
    """Say why a call is refused; `meaning` is what its function resolves to."""
    what = shown(call)
    name = _last_name(call)
    roots = _roots(meaning)
    if _LOOPS & roots:
        return "M016", f"{what} lives in one process only", _INSTEAD.get(name, "use the words of minuet, or an action")
    if _is_of_place_or_time(name, roots):
        return (
            "M005",
            f"{what} differs from place to place",
            "make it an action, or use sleep(…)" if name in ("sleep", *_CLOCK_METHODS) else "make it an action",
        )
    if name in NOT_YET and (not roots or "minuet" in roots):
        return "M004", f"{name}(…) is not yet part of Minuet", _until_then(name)
    return "M004", f"{what} would be executed by nobody", "move it into an action"


def _until_then(name: str) -> str:
    return {
        "child": "call the workflow with await: it becomes a part of this run",
        "first": "wait with timeout=, or decide in an action",
        "continue_as": "end this run, and let an action start the next one",
        "reset": "start a new run",
    }[name]


def _is_of_place_or_time(name: str, roots: set[str]) -> bool:
    if roots & (_PLACES | _CHANCE) or "time" in roots:
        return True
    if "datetime" in roots:
        return name in _CLOCK_METHODS
    return "uuid" in roots and name in ("uuid1", "uuid4")


def _roots(meaning: Any) -> set[str]:
    """Give the first parts of the names of the modules that an object comes from."""
    modules = [
        getattr(meaning, "__module__", None),
        getattr(type(getattr(meaning, "__self__", None)), "__module__", None),
        getattr(getattr(meaning, "__self__", None), "__module__", None),
        getattr(meaning, "__name__", None) if type(meaning).__name__ == "module" else None,
    ]
    if type(meaning).__module__ in ("os", "random", "time"):
        modules.append(type(meaning).__module__)
    return {module.split(".")[0] for module in modules if isinstance(module, str)} - {"builtins"}


def _last_name(call: ast.expr) -> str:
    function = call.func if isinstance(call, ast.Call) else call
    match function:
        case ast.Name(id=name) | ast.Attribute(attr=name):
            return name
    return ""
