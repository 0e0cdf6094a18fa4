import dataclasses
import json
import random
from typing import Any

import pytest

from minuet.contracts.action import RetryPolicy
from minuet.engine.program import Program
from minuet.errors import PlanInvalid
from minuet.plans.check import check
from minuet.plans.placement import Placement
from minuet.plans.plan import Plan, load_plan, make_plan
from minuet.workflows.tree import Node, Place, WorkflowTree
from tests.property.maker import Maker
from tests.unit.engine.made import (
    X,
    attempt,
    call,
    choice,
    deadline,
    each,
    let,
    loop,
    par,
    pivot,
    reject,
    ret,
    section,
    seq,
    sleep,
    step,
    wait,
    workflow,
)

WHOLE = (
    step("1", "no", arguments=(("a", X),)),
    par("2", step("2a"), wait("2b", timeout=("lit", 1000))),
    choice("3", ("compare", X, "gt", ("lit", 1)), step("3.then.1"), sleep("3.else.1"), at="s"),
    choice("4", ("var", "v2"), step("4.then.1")),
    attempt("5", deadline("6", seq(step("6.1"), reject("6.2", "no"))), "no"),
    loop("7", 3, seq(step("7.1"), let("x", ("var", "v7.1"))), step("7.else.1")),
    each("8", X, call("8.1", ret(("var", "item")), (("item", ("var", "item")),)), at_once=2),
    section("9", step("9.1", timeout_ms=5000, timeout_then="abandon"), by="desk"),
    ret(("var", "v1")),
)


def digest(*parts: Node) -> str:
    return make_plan(workflow(*parts)).digest


# The digest


def test_equal_workflows_have_equal_digests() -> None:
    assert digest(*WHOLE) == digest(*WHOLE)
    assert make_plan(workflow(*WHOLE)).to_json() == make_plan(workflow(*WHOLE)).to_json()


def test_places_in_the_file_do_not_count() -> None:
    moved = _moved(workflow(*WHOLE))
    assert make_plan(moved).digest == digest(*WHOLE)
    assert make_plan(moved).places != make_plan(workflow(*WHOLE)).places


def _moved(tree: WorkflowTree) -> WorkflowTree:
    lines = iter(range(100, 10_000))

    def move(x: Any) -> Any:
        if isinstance(x, Node):
            return type(x)(**{f.name: move(getattr(x, f.name)) for f in dataclasses.fields(x)})
        if isinstance(x, Place):
            return Place("elsewhere.py", next(lines), 3)
        if isinstance(x, tuple) and x and isinstance(x[0], Node):
            return tuple(map(move, x))
        return x

    return dataclasses.replace(tree, file="elsewhere.py", body=move(tree.body))


@pytest.mark.parametrize(
    "other",
    [
        (step("1"), step("2")),
        (step("2", "no"), step("1")),
        (step("1", "no", service="t"), step("2")),
        (step("1", "no", undo=False), step("2")),
        (step("1", "no", undo=False, keep=True), step("2")),
        (step("1", "no", timeout_ms=1), step("2")),
        (step("1", "no", timeout_ms=2), step("2")),
        (step("1", "no", timeout_ms=2, timeout_then="abandon"), step("2")),
        (step("1", "no", retry=RetryPolicy(attempts=3)), step("2")),
        (step("1", "no", retry=RetryPolicy(attempts=4)), step("2")),
        (step("1", "no", attempt_timeout_ms=5), step("2")),
        (step("1", "no", input_shape="abc"), step("2")),
        (step("1", "no", result_shape="abc"), step("2")),
        (step("1", "no", arguments=(("a", X),)), step("2")),
        (step("1", "no", arguments=(("b", X),)), step("2")),
        (step("1", "no", arguments=(("b", ("lit", 1)),)), step("2")),
        (step("1", "no", arguments=(("b", ("lit", 1.0)),)), step("2")),
        (step("1", "no", arguments=(("b", ("lit", "1")),)), step("2")),
        (step("1", "no", arguments=(("b", ("lit", True)),)), step("2")),
        (par("1", step("1", "no"), step("2")),),
        (step("1", "no"), section("3", step("2"))),
        (step("1", "no"), section("3", step("2"), by="desk")),
        (step("1", "no"), deadline("3", step("2"))),
        (step("1", "no"), loop("3", 2, step("2"))),
        (step("1", "no"), loop("3", 3, step("2"))),
        (step("1", "no"), step("2"), ret(("lit", 1))),
    ],
)
def test_any_change_of_meaning_changes_the_digest(other: tuple[Node, ...]) -> None:
    plain = (step("1", "no"), step("2"))
    assert digest(*other) != digest(*plain)


def test_all_those_changes_differ_from_each_other() -> None:
    (mark,) = test_any_change_of_meaning_changes_the_digest.pytestmark  # type: ignore[attr-defined]
    digests = [digest(*parts) for parts in mark.args[1]]
    assert len(set(digests)) == len(digests)


def test_what_surrounds_a_workflow_counts() -> None:
    tree = workflow(*WHOLE)
    plan = make_plan(tree)
    for other in (
        dataclasses.replace(tree, name="other"),
        dataclasses.replace(tree, input=("x", "int")),
        dataclasses.replace(tree, input=None, body=seq(step("1"))),
        dataclasses.replace(tree, result_shape="int"),
    ):
        assert make_plan(other).digest != plan.digest
    named = dataclasses.replace(workflow(step("1", arguments=(("a", ("var", "y")),))), input=("y", "any"))
    assert make_plan(named).digest != digest(step("1", arguments=(("a", X),))), "the name is shown to people"


def test_unreachable_parts_leave_no_rules() -> None:
    plan = make_plan(workflow(step("1"), reject("2", "no"), step("3", timeout_ms=1, timeout_then="abandon")))
    assert [(r.kind, r.position) for r in plan.rules if r.position] == [
        ("run", "1"),
        ("compensate", "1"),
        ("reject", "2"),
    ]
    Program(plan)


def test_a_deployment_overrides_the_style_of_a_section() -> None:
    choreographed = workflow(section("1", step("1.1"), style="choreography"))
    assert check(choreographed) == []
    assert make_plan(choreographed).sections == {"1": "choreography"}
    overridden = Placement(sections={"1": "orchestration"})
    assert check(choreographed, overridden) == []
    assert make_plan(choreographed, overridden).sections == {"1": "orchestration"}


# What is loaded


def test_a_loaded_plan_is_the_same() -> None:
    plan = make_plan(workflow(*WHOLE))
    again = load_plan(plan.to_json())
    assert again.to_json() == plan.to_json()
    assert again.name == plan.name == f"made@{plan.digest[:8]}"
    assert again.services() == {"s": {"do", "undo"}}
    assert [r.position for r in again.steps()][:3] == ["1", "2a", "3.then.1"]


@pytest.mark.parametrize("seed", range(40))
def test_random_plans_are_the_same_when_they_are_loaded(seed: int) -> None:
    plan = make_plan(Maker(seed).workflow(4))
    assert load_plan(plan.to_json()).to_json() == plan.to_json()
    assert make_plan(Maker(seed).workflow(4)).digest == plan.digest


@pytest.mark.parametrize(
    "raw",
    [
        b"", b"{", b"null", b"1", b"[]", b"{}", b'{"format": 1}', b'{"format": 2}', b'{"format": null}', b"\xff\xfe",
        b'{"format": 1, "format": 1}', b'"plan"', b"NaN", b'{"digest": 1e999}', b"[" * 100_000, b'{"a":' * 100_000,
        '{"format": 1, "workflow": "\\ud800"}',
    ],
)  # fmt: skip
def test_foreign_text_is_no_plan(raw: bytes | str) -> None:
    with pytest.raises(PlanInvalid) as refused:
        load_plan(raw)
    assert refused.value.remedy


def test_an_altered_plan_is_refused_and_says_so() -> None:
    raw = make_plan(workflow(*WHOLE)).to_json()
    altered = raw.replace(b'"timeout_ms":5000', b'"timeout_ms":5001')
    assert altered != raw
    with pytest.raises(PlanInvalid, match="altered"):
        load_plan(altered)


def test_places_may_be_altered() -> None:
    raw = make_plan(workflow(*WHOLE)).to_json()
    assert load_plan(raw.replace(b'"shop.py"', b'"other.py"')).digest == make_plan(workflow(*WHOLE)).digest


def test_a_damaged_plan_is_refused_whatever_the_damage() -> None:
    """Text with holes, swaps and noise; it never gets further than PlanInvalid."""
    raw = make_plan(workflow(*WHOLE)).to_json()
    r = random.Random(7)
    for _ in range(1500):
        text = bytearray(raw)
        for _ in range(r.randint(1, 3)):
            at = r.randrange(len(text))
            match r.randrange(4):
                case 0:
                    text[at] = r.randrange(256)
                case 1:
                    del text[at : at + r.randint(1, 40)]
                case 2:
                    text[at:at] = text[r.randrange(len(text)) :][: r.randint(1, 30)]
                case 3:
                    text[at : at + 1] = r.choice([b"null", b"-1", b"1e9", b'""', b"[]", b"{}", b"true"])
        _is_sound_or_refused(bytes(text))


def test_a_plan_whose_digest_was_made_to_fit_is_refused_or_sound() -> None:
    """What somebody made who knows how digests are made: parts that point to nowhere, or are of the wrong kind."""
    plan = make_plan(workflow(*WHOLE))
    data = json.loads(plan.to_json())
    r = random.Random(11)
    refused = 0
    for _ in range(800):
        copy = json.loads(json.dumps(data))
        _damage(copy, r)
        refused += _is_sound_or_refused(_with_its_digest(copy))
    assert refused > 300


def _damage(data: Any, r: random.Random) -> None:
    """Put something else in one random place."""
    at: Any = data
    path = [r.choice(["conditions", "values", "rules", "switches", "blocks", "workflow", "sections", "places", "body"])]
    while True:
        inner = at[path[-1]]
        if isinstance(inner, list | dict) and inner and r.random() < 0.85:
            at = inner
            path.append(r.choice(list(inner) if isinstance(inner, dict) else range(len(inner))))
            continue
        odd: list[Any] = [
            None,
            -1,
            0,
            1,
            10**6,
            1.5,
            "",
            "x",
            [],
            {},
            [[]],
            True,
            [0],
            "out",
            "and",
            "each",
            ["var", 10**6],
            ["var", "x"],
        ]
        at[path[-1]] = r.choice(odd)
        return


def _with_its_digest(data: dict[str, Any]) -> bytes:
    """Give the JSON of a plan with the digest that its content has."""
    try:
        load_plan(json.dumps(data))
    except PlanInvalid as e:
        said = str(e)
        if "has the digest" in said:
            data["digest"] = e.subject["digest"]
    return json.dumps(data).encode()


def _is_sound_or_refused(text: bytes) -> bool:
    try:
        plan = load_plan(text)
    except PlanInvalid:
        return True
    Program(plan)
    assert isinstance(plan, Plan)
    return False


def test_the_pivot_is_irrevocable_in_the_plan() -> None:
    plan = make_plan(workflow(pivot("1"), step("2")))
    assert [r.about["irrevocable"] for r in plan.steps()] == [True, False]
