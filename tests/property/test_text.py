import re
from dataclasses import replace

import pytest

from minuet.plans import compile as compiling
from minuet.plans import plan
from minuet.workflows.workflow import Workflow
from tests.property.maker import without_idle_deadlines
from tests.property.mutant import mutant
from tests.property.text import WANTED, Writer, check, load

SHARE = 50


@pytest.mark.parametrize("first", range(0, 300, SHARE))
def test_text_means_what_python_makes_of_it(first: int) -> None:
    for seed in range(first, first + SHARE):
        check(seed)


def test_no_kind_of_statement_is_left_out() -> None:
    found = set[str]()
    for seed in range(120):
        found |= set(check(seed, schedules=1))
    assert found >= set(WANTED)


@pytest.mark.parametrize(
    ("sound", "wrong"),
    [
        pytest.param("return {node.name}", "return set()", id="what a round binds is not handed on"),
        pytest.param(
            "return _assigned(node.then) | _assigned(node.otherwise)",
            "return set()",
            id="what an arm binds is not handed on",
        ),
        pytest.param("for e in (NORMAL, CONTINUE) if", "for e in (NORMAL,) if", id="continue ends the loop"),
    ],
)
def test_a_mistake_in_the_data_flow_is_found(monkeypatch: pytest.MonkeyPatch, sound: str, wrong: str) -> None:
    monkeypatch.setattr(plan, "compile_tree", mutant(compiling, sound, wrong).compile_tree)
    for seed in range(600):
        try:
            check(seed, schedules=1)
        except Exception:
            return
    raise AssertionError("nobody has noticed")


def test_layout_comments_and_places_do_not_change_the_digest() -> None:
    """The same text, moved down, with comments and other spaces; then with one number more."""
    changed = 0
    for seed in range(60):
        text = Writer(seed).module()
        spread = "# a comment\n\n\n" + re.sub(r"^( +)return", r"\n\1# the end\n\1return", text, flags=re.MULTILINE)
        spread = spread.replace(", ", ",  ").replace(" = ", "  =  ").replace("(x: int", "(\n    x: int")
        assert _digest(spread, seed) == _digest(text, seed)
        changed += _digest(text.replace("    return ", "    return 1 + "), seed) != _digest(text, seed)
    assert changed > 50, "the others never reach a return"


def _digest(text: str, seed: int) -> str:
    flow: Workflow[object, ..., object] = load(text, f"spread_{seed}").main
    return plan.make_plan(replace(flow.tree, body=without_idle_deadlines(flow.tree.body))).digest
