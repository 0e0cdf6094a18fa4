"""What a person sees: colour and a moving bar on a terminal, plain lines elsewhere."""

from __future__ import annotations

import os
import sys
from time import monotonic

COLOURS = {"good": "32", "bad": "31", "odd": "33", "strong": "1", "faint": "2"}
WIDTH = 24
LINE_EVERY_S = 3.0


def paint(text: str, tone: str) -> str:
    """Give text in a colour, where there are colours."""
    if os.environ.get("NO_COLOR") or os.environ.get("TERM") == "dumb" or not sys.stdout.isatty():
        return text
    return f"\x1b[{COLOURS[tone]}m{text}\x1b[0m"


class Progress:
    """How far it is: moving on a terminal, a line every few seconds elsewhere. On stderr: stdout is for results."""

    def __init__(self, total: int) -> None:
        self._total = total
        self._last_s = monotonic()
        self._moves = sys.stderr.isatty()

    def show(self, done: int, more: str) -> None:
        """Say how many are done."""
        text = f"{done:>6,} of {self._total:,} orders settled · {more}"
        if self._moves:
            filled = min(WIDTH, WIDTH * done // max(1, self._total))
            sys.stderr.write(f"\r\x1b[2K[{'#' * filled}{'-' * (WIDTH - filled)}] {text}")
            sys.stderr.flush()
        elif monotonic() - self._last_s >= LINE_EVERY_S:
            self._last_s = monotonic()
            print(text, file=sys.stderr, flush=True)

    def note(self, text: str) -> None:
        """Say something that stays."""
        sys.stderr.write(f"{chr(13)}\x1b[2K{text}\n" if self._moves else f"{text}\n")
        sys.stderr.flush()
