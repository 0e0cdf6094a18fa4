"""How an answer is written: JSON by msgspec."""

from __future__ import annotations

from typing import Any

import msgspec
from starlette.responses import Response


def json_answer(content: Any, *, status: int = 200) -> Response:
    """Make an answer of plain data or views."""
    return Response(msgspec.json.encode(content), status_code=status, media_type="application/json")
