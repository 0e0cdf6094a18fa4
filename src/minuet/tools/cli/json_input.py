"""JSON as it is given on a command line: text, `@FILE`, or `-` for stdin."""

from __future__ import annotations

import sys
from pathlib import Path

from minuet.contracts.strict_json import read_json
from minuet.engine import bound
from minuet.errors import InvalidPayload


def read_input(given: str) -> bytes:
    """Read JSON text, and check that it is JSON.

    Raises:
        InvalidPayload: the file is not there, or it is no JSON.
    """
    if given == "-":
        raw = sys.stdin.buffer.read(bound.INPUT_BYTES + 1)
    elif given.startswith("@"):
        try:
            with Path(given[1:]).open("rb") as file:
                raw = file.read(bound.INPUT_BYTES + 1)
        except OSError as error:
            raise InvalidPayload(f"{given[1:]} cannot be read: {error.strerror}", remedy="Check its name") from error
    else:
        raw = given.encode("utf-8", "surrogateescape")
    return read_json(raw, max_bytes=bound.INPUT_BYTES)
