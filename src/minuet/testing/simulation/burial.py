"""Let go of coroutines that have crashed: without executing anything of them, no `except`, no `finally`, no `__exit__`.

Whatever becomes of a suspended coroutine, CPython closes it in the end: it throws `GeneratorExit` into it, and the code
that cleans up runs. Unless no frame can be entered any more: at the recursion limit the throw fails before the first
instruction of the coroutine, and CPython drops its frame as it is, with all that this holds. So that is where they are
closed. This asks for nothing but Python itself; `tests/unit/testing/simulation/test_loop.py` would see it change.
"""

from __future__ import annotations

import sys
from collections.abc import Sequence
from types import CoroutineType
from typing import Any

_HEADROOM = 50  # frames


def bury(coroutines: Sequence[Any]) -> None:
    """Close coroutines of `async def` without executing anything of them; whatever else is among them is left alone."""
    suspended = [c for c in coroutines if isinstance(c, CoroutineType) and c.cr_frame is not None]
    if not suspended:
        return
    limit, tracing, unraisable, stderr = sys.getrecursionlimit(), sys.gettrace(), sys.unraisablehook, sys.stderr
    sys.settrace(None)  # whatever traces could not be called there
    sys.unraisablehook, sys.stderr = None, None  # type: ignore[assignment] # nor could anybody be told
    try:
        _lower_limit()
        _at_the_limit(suspended)
    finally:
        sys.setrecursionlimit(limit)
        sys.unraisablehook, sys.stderr = unraisable, stderr
        sys.settrace(tracing)


def _lower_limit() -> None:
    """Have the limit near, wherever it was."""
    limit = _HEADROOM
    while True:
        try:
            sys.setrecursionlimit(limit)
        except RecursionError:  # this is deeper already
            limit += _HEADROOM
        else:
            return


def _at_the_limit(coroutines: Sequence[Any]) -> int:
    """Close them where no frame can be entered; gives how many frames below this one that is."""
    try:
        below = _at_the_limit(coroutines) + 1
    except RecursionError:
        below = 0
    # In Python 3.11 calling a function of C takes a place too: there it is done one frame above the last. `map`, since
    # that costs the same each time; a call that stands here would cost less once the interpreter has specialised it.
    if below < 2:
        closing = map(CoroutineType.close, coroutines)
        is_done = False
        while not is_done:
            try:
                for _ in closing:
                    pass
                is_done = True
            except RecursionError:
                pass  # this one is closed; the next
    return below
