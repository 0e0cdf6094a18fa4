"""The log of a program that `minuet run` opened: lines for people on a terminal, JSON for everything else."""

from __future__ import annotations

import json
import logging
import sys
import traceback
from datetime import UTC, datetime

from minuet.tools.output import escaped, paint

_TONES = {"WARNING": "odd", "ERROR": "bad", "CRITICAL": "bad"}


def configure_log(level: str) -> None:
    """Send the log of everything in this process to stderr."""
    handler = logging.StreamHandler(sys.stderr)
    handler.setFormatter(_Lines() if sys.stderr.isatty() else _Objects())
    root = logging.getLogger()
    root.handlers[:] = [handler]
    root.setLevel(level.upper())
    logging.getLogger("uvicorn").setLevel(max(logging.WARNING, root.level))  # its start and end are said by us


class _Lines(logging.Formatter):
    """One line an entry, escaped; a traceback below it."""

    def format(self, record: logging.LogRecord) -> str:
        at = datetime.fromtimestamp(record.created).astimezone().strftime("%H:%M:%S")
        level = paint(f"{record.levelname.lower():8}", _TONES.get(record.levelname, "faint"), sys.stderr)
        line = f"{at} {level} {escaped(record.getMessage())}"
        return line if not record.exc_info else f"{line}\n{_trace(record)}"


class _Objects(logging.Formatter):
    """One JSON object an entry."""

    def format(self, record: logging.LogRecord) -> str:
        entry = {
            "at": datetime.fromtimestamp(record.created, UTC).isoformat(timespec="milliseconds"),
            "level": record.levelname.lower(),
            "logger": record.name,
            "message": record.getMessage(),
        }
        if record.exc_info:
            entry["trace"] = _trace(record)
        return json.dumps(entry)


def _trace(record: logging.LogRecord) -> str:
    assert record.exc_info is not None
    return "".join(traceback.format_exception(*record.exc_info)).rstrip()
