from __future__ import annotations

import msgspec

from minuet.server.problem import problem


def test_what_an_error_is_about_is_shown_even_where_json_cannot_say_it() -> None:
    answer = problem(status=500, code="internal", message="m", subject={"x": object})
    assert msgspec.json.decode(answer.body)["subject"] == {"x": "<class 'object'>"}
