from types import ModuleType

import pytest

from minuet.engine import decide, evaluate, knowledge, verdict
from minuet.plans import compile as compiling
from minuet.plans import condition, plan
from tests.property import performer
from tests.property.equality import check
from tests.property.mutant import mutant

SHARE = 100


@pytest.mark.parametrize("first", range(0, 600, SHARE))
def test_the_engine_and_the_interpreter_come_to_the_same(first: int) -> None:
    for seed in range(first, first + SHARE):
        check(seed)


def test_no_kind_of_node_is_left_out() -> None:
    found = set[str]()
    for seed in range(150):
        found |= set(check(seed, schedules=1))
    assert found >= {
        "Par", "Choice", "Attempt", "Loop", "Each", "Wait", "Call", "Section", "Deadline", "ask", "abandon",
        "Return", "Break", "Continue", "Reject", "called off", "failed", "completed", "forgotten",
    }  # fmt: skip


COMPILE = [
    pytest.param(
        "net.fill(back, net.all(scope, [comp, done]))",
        "net.fill(back, net.all(scope, [in_, comp]))",
        id="a parallel node is taken back before it is done",
    ),
    pytest.param(
        "for c in (*rest.failed.values(), rest.compensated, wanted):",
        "for c in (rest.compensated, wanted):",
        id="a failure does not wake the compensation of what was before it",
    ),
    pytest.param(
        "also = [*(x.compensated for x in outs[:k]), *ended[k + 1 :]]",
        "also = [*ended[:k], *(x.compensated for x in outs[k + 1 :])]",
        id="the last failed branch gives the code",
    ),
    pytest.param(
        "after = {c: net.all(scope, [f, a.compensated]) for c, f in rest.failed.items()}",
        "after = dict(rest.failed)",
        id="a sequence has failed before it is compensated",
    ),
    pytest.param(
        "net.fill(f, net.all(scope, [later[c], body.compensated]))",
        "net.fill(f, later[c])",
        id="a loop has failed before its first rounds are compensated",
    ),
    pytest.param(
        'around = {"cancelled", *(f"deadline@{d}" for d in context.deadlines)}',
        "around = set[str]()",
        id="an attempt catches a cancellation",
    ),
    pytest.param(
        'shown = n.position + "!"',
        "pass",
        id="the outcome of an abandoned step is heard beside its verdict",
    ),
]


@pytest.mark.parametrize(("sound", "wrong"), COMPILE)
def test_a_mistake_in_the_compile_scheme_is_found(monkeypatch: pytest.MonkeyPatch, sound: str, wrong: str) -> None:
    monkeypatch.setattr(plan, "compile_tree", mutant(compiling, sound, wrong).compile_tree)
    assert_found()


ENGINE = [
    pytest.param(
        [(performer, "decide")],
        decide,
        'if k.pending.get(_place(action)) is not action or action.ticket != ticket or action.state != "running":',
        "if False:",
        id="an answer is taken twice",
    ),
    pytest.param(
        [(decide, "act")],
        evaluate,
        "if (position, round_) in k.outcomes or (k.tombstones and (position, round_) in k.tombstones):",
        "if position in {p for p, _ in k.outcomes} or (k.tombstones and (position, round_) in k.tombstones):",
        id="rounds are forgotten",
    ),
    pytest.param(
        [(decide, "act")],
        evaluate,
        'elif verdict[0] == "rejected:timeout" and label == "ok" and k.program.performs(k.program.runs[step]):',
        "elif False:",
        id="an abandoned step that ran after all is not taken back",
    ),
    pytest.param(
        [(decide, "reject_idle"), (evaluate, "called_off")],
        verdict,
        'if k.cancelled and "cancelled" in codes:',
        "if k.cancelled:",
        id="a cancellation reaches what cannot be taken back",
    ),
    pytest.param(
        [(decide, "Knowledge")],
        knowledge,
        "r = (*rnd[:-1], rnd[-1] - 1)",
        "r = (*rnd[:-1], 0)",
        id="rounds are compensated in the wrong order",
    ),
    pytest.param(
        [(plan, "simplify")],
        condition,
        "if missing[p]:\n                    continue",
        "if False:\n                    continue",
        id="what cannot happen is not dropped",
    ),
]


@pytest.mark.parametrize(("places", "module", "sound", "wrong"), ENGINE)
def test_a_mistake_in_the_engine_is_found(
    monkeypatch: pytest.MonkeyPatch,
    places: list[tuple[ModuleType, str]],
    module: ModuleType,
    sound: str,
    wrong: str,
) -> None:
    wrong_one = mutant(module, sound, wrong)
    for place, name in places:
        monkeypatch.setattr(place, name, getattr(wrong_one, name, wrong_one))
    assert_found()


def assert_found(workflows: int = 1000) -> None:
    for seed in range(workflows):
        try:
            check(seed, schedules=1)
        except Exception:
            return
    raise AssertionError("nobody has noticed")
