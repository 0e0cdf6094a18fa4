"""The table of `make soak`: a part fails where it says so, and where it leaves something untried."""

from __future__ import annotations

import importlib.util

import pytest

from tests.soak import PARTS, Found, Part, judge, table

PART = Part("part", "module --amount {n}", 100, 1, ("tries", "crashes"))
DONE = 'some table\n{"tries": 7, "crashes": 2, "lost": 0}\n'


def test_a_part_that_did_what_it_names_is_well() -> None:
    assert judge(PART, 0, DONE) == ({"tries": 7, "crashes": 2}, [])


@pytest.mark.parametrize(
    ("code", "said", "why"),
    [
        (1, DONE, ["its exit code is 1"]),
        (0, '{"tries": 7, "crashes": 0}', ["crashes is 0: it was not tested"]),
        (0, '{"tries": 7}', ["crashes is 0: it was not tested"]),
        (0, "{}", ["tries is 0: it was not tested", "crashes is 0: it was not tested"]),
        (0, "", ["it said nothing of what it has seen"]),
        (0, "7", ["it said nothing of what it has seen"]),
        (-9, "killed", ["its exit code is -9", "it said nothing of what it has seen"]),
    ],
)
def test_a_part_falls_short_by_its_exit_code_and_by_what_never_happened(code: int, said: str, why: list[str]) -> None:
    assert judge(PART, code, said)[1] == why


def test_the_table_says_of_each_part_whether_it_failed_and_why() -> None:
    well, ill = Found(PART, 100, 30.0, {"tries": 1_000}, []), Found(PART, 10, 90.0, {}, ["its exit code is 1"])
    assert table([well, ill]).splitlines() == [
        "part            amount  minutes  share          seen",
        "part               100      0.5    1.0  ok      tries 1,000",
        "part                10      1.5    0.1  FAILED  ",
        "            its exit code is 1",
    ]


@pytest.mark.parametrize("part", PARTS, ids=lambda part: part.name)
def test_each_part_is_there(part: Part) -> None:
    assert importlib.util.find_spec(part.command.split()[0]) is not None
