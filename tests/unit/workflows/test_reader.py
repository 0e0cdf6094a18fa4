"""What is read: the trees of whole workflows, with their positions, variables and places."""

from __future__ import annotations

import dataclasses
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from types import ModuleType
from typing import Any

from minuet.workflows.expression import show
from minuet.workflows.tree import (
    Attempt,
    Call,
    Choice,
    Each,
    Let,
    Loop,
    Node,
    Par,
    Reject,
    Return,
    Seq,
    Sleep,
    Step,
    WorkflowTree,
)

Load = Callable[[str], ModuleType]
Flow = Callable[..., ModuleType]


def nodes(node: Any) -> Iterator[Node]:
    """Give all nodes of a tree but sequences, in the order of the text."""
    if not isinstance(node, Node):
        return
    if not isinstance(node, Seq):
        yield node
    for field in dataclasses.fields(node):
        value = getattr(node, field.name)
        for child in value if isinstance(value, tuple) else (value,):
            yield from nodes(child)


def outline(tree: WorkflowTree) -> list[str]:
    """Give positions with what stands there."""
    lines = []
    for node in nodes(tree.body):
        position = getattr(node, "position", "")
        what = f"{node.service}.{node.action}" if isinstance(node, Step) else type(node).__name__.lower()
        lines.append(f"{position} {what}".strip())
    return lines


def parts(module: ModuleType) -> list[Node]:
    tree: WorkflowTree = module.f.tree
    return list(tree.body.parts)


def values(module: ModuleType) -> dict[str, str]:
    """Give the assignments of a workflow as readable text."""
    return {node.name: show(node.value) for node in nodes(module.f.tree.body) if isinstance(node, Let)}


ORDER = '''
@workflow
async def place_order(order: Order, *, payments: Payments, inventory: Inventory) -> Receipt:
    """Place an order."""
    receipt, hold = await together(
        payments.charge(order.id, order.total).compensate(payments.void).retry(5),
        inventory.reserve(order.lines).timeout(30),  # compensated by release: its contract says so
    )
    if receipt.risk > 80:
        await payments.review(receipt).keep()
    elif receipt.risk > 50 and order.total > 100:
        await payments.review(receipt)
    else:
        pass
    await inventory.look("x")
    return receipt
'''


def test_an_order_in_parallel_and_with_a_choice(module_of: Load) -> None:
    tree = module_of(ORDER).place_order.tree

    assert tree.name == "place_order"
    assert tree.services == {"payments": "payments", "inventory": "inventory"}
    assert tree.input is not None
    assert tree.input[0] == "order"
    assert outline(tree) == [
        "1 par",
        "1a payments.charge",
        "1b inventory.reserve",
        "2 choice",
        "2.then.1 payments.review",
        "2.else.1 choice",
        "2.else.1.then.1 payments.review",
        "3 inventory.look",
        "return",
    ]
    par, choice, look, end = tree.body.parts
    assert par.results == ("receipt", "hold")
    charge, reserve = par.branches
    assert [(name, show(value)) for name, value in charge.arguments] == [
        ("order", "order.id"),
        ("amount", "order.total"),
    ]
    assert (charge.out, charge.compensation, charge.retry.attempts) == ("receipt", ("payments", "void"), 5)
    assert (charge.timeout_ms, charge.rejects) == (60_000, ("card-declined",))
    assert (reserve.compensation, reserve.timeout_ms, reserve.retry) == (("inventory", "release"), 30_000, None)
    assert show(choice.condition) == "receipt.risk > 80"
    assert choice.then.parts[0].keep
    assert choice.then.parts[0].compensation is None
    assert show(choice.otherwise.parts[0].condition) == "receipt.risk > 50 and order.total > 100"
    assert look.pure
    assert look.out.startswith("$")
    assert end.value == ("var", "receipt")


def test_the_contract_speaks_where_the_workflow_is_silent(flow: Flow) -> None:
    (charge,) = parts(flow("await payments.charge('o', Decimal(1))"))

    assert isinstance(charge, Step)
    assert charge.compensation == ("payments", "refund")
    assert charge.retry is not None
    assert charge.retry.attempts == 4
    assert charge.timeout_ms == 60_000
    assert charge.arguments == (("order", ("lit", "o")), ("amount", ("lit", "1")))


def test_another_way_out_with_a_deadline_a_wait_a_loop_and_a_timer(module_of: Load) -> None:
    tree = module_of(
        """
LONG = timedelta(hours=4)
@workflow
async def order_or_backorder(order: Order, *, payments: Payments, inventory: Inventory) -> str:
    async with attempt(OutOfStock) as tried:
        await payments.charge(order.id, order.total)
        async with deadline(timedelta(minutes=10), by=inventory):
            hold = await inventory.reserve(order.lines)
    if tried.rejected:
        return "backordered"
    driver = ""
    for _ in range(3):
        seen = await wait_for(PickedUp, key=hold.id, by=inventory, timeout=LONG)
        if seen is not None:
            driver = seen.driver
            break
        await inventory.look("x")
    await sleep(timedelta(days=14), by=payments)
    return driver
"""
    ).order_or_backorder.tree

    assert outline(tree) == [
        "1 attempt",
        "1.1 payments.charge",
        "1.2 deadline",
        "1.2.1 inventory.reserve",
        "2 choice",
        "return",
        "let",
        "3 loop",
        "3.1 wait",
        "3.2 choice",
        "let",
        "break",
        "3.3 inventory.look",
        "4 sleep",
        "return",
    ]
    attempt, choice, _, loop, sleep, _ = tree.body.parts
    assert (attempt.codes, attempt.out) == (("out-of-stock",), "tried.rejected")
    assert choice.condition == ("compare", ("var", "tried.rejected"), "isnot", ("lit", None))
    deadline = attempt.body.parts[1]
    assert (deadline.duration, deadline.by) == (("lit", 600_000), "inventory")
    assert (loop.index, loop.limit) == (None, 3)
    wait = loop.body.parts[0]
    assert (wait.event, wait.version, wait.by, wait.timeout) == (
        "carrier.picked-up",
        2,
        "inventory",
        ("lit", 14_400_000),
    )
    assert (sleep.duration, sleep.by) == (("lit", 1_209_600_000), "payments")
    assert tree.events == {"carrier.picked-up": 2}


MARKET = """
@dataclass(frozen=True)
class Packing:
    lines: tuple[Line, ...]
    label: str = "none"
@workflow
async def pack_all(what: Packing, *, store: Inventory) -> list[int]:
    return await each(what.lines, lambda line: store.pick(line), limit=50, at_once=8, by=store)
@workflow
async def f(order: Order, *, payments: Payments, inventory: Inventory) -> int:
    async with orchestration(by="sales-desk"):
        receipt = await payments.charge(order.id, order.total)
        if at(payments, receipt.risk > 80 and order.total > 500):
            await payments.review(receipt).keep()
        async with choreography():
            hold = await inventory.reserve(order.lines)
            picked = await pack_all(Packing(order.lines), store=inventory)
        await payments.void(receipt)
    return picked[0] + len(picked)
"""


def test_a_hybrid_with_sections_and_a_called_workflow(module_of: Load) -> None:
    module = module_of(MARKET)
    tree = module.f.tree

    assert outline(tree) == [
        "1 section",
        "1.1 payments.charge",
        "1.2 choice",
        "1.2.then.1 payments.review",
        "1.3 section",
        "1.3.1 inventory.reserve",
        "1.3.2 call",
        "1.3.2.1 each",
        "1.3.2.1.1 inventory.pick",
        "return",
        "1.4 payments.void",
        "return",
    ]
    section, end = tree.body.parts
    assert (section.style, section.by) == ("orchestration", "sales-desk")
    assert section.body.parts[1].at == "payments"
    inner = section.body.parts[2]
    assert (inner.style, inner.by) == ("choreography", None)
    call = inner.body.parts[1]
    assert isinstance(call, Call)
    assert (call.workflow, call.out) == ("pack_all", "picked")
    assert call.arguments == (
        ("what", ("record", (("lines", ("field", ("var", "order"), "lines")), ("label", ("lit", "none"))))),
    )
    each: Any = call.body.parts[0]  # type: ignore[attr-defined]
    assert isinstance(each, Each)
    assert (each.limit, each.at_once, each.by, each.item) == (50, 8, "inventory", "line")
    assert isinstance(each.body, Step)
    assert each.body.out == each.result
    assert show(end.value) == "picked[0] + len(picked)"
    assert [n.position for n in nodes(module.pack_all.tree.body) if isinstance(n, Each | Step)] == ["1", "1.1"]


def test_a_called_workflow_uses_the_services_that_it_is_given(module_of: Load) -> None:
    tree = module_of(
        """
class Warehouse(Inventory):
    @action(rejects=(OutOfStock,))
    async def pick(self, line: Line) -> int: ...
@workflow
async def g(order: Order, *, store: Inventory) -> int:
    return await store.pick(order.lines[0])
@workflow
async def f(order: Order, *, payments: Payments, warehouse: Warehouse) -> int:
    return await g(order, store=warehouse)
"""
    ).f.tree

    call = tree.body.parts[0]
    pick = call.body.parts[0]
    assert (pick.service, pick.rejects, pick.position) == ("warehouse", ("out-of-stock",), "1.1")


def test_a_nightly_batch(module_of: Load) -> None:
    tree = module_of(
        """
@workflow
async def nightly(order: Order, *, inventory: Inventory) -> int:
    found = await each(order.lines, lambda line: inventory.pick(line).retry(3), limit=1000, at_once=8)
    return sum(found)
"""
    ).nightly.tree

    assert outline(tree) == ["1 each", "1.1 inventory.pick", "return"]
    each, end = tree.body.parts
    assert (each.over, each.out) == (("field", ("var", "order"), "lines"), "found")
    assert end.value == ("call", "sum", ("as", ("list", "bigint"), ("var", "found")))


def test_branches_of_branches_have_letters_and_dots(flow: Flow) -> None:
    module = flow(
        """
await together(
    payments.pair(),
    together(payments.pair(), sleep(3), together(payments.pair(), payments.pair())),
    each(order.lines, lambda line: together(inventory.pick(line), inventory.pick(line)), limit=3),
    wait_for(PickedUp, key=order.id, timeout=5),
)
"""
    )

    assert outline(module.f.tree) == [
        "1 par",
        "1a payments.pair",
        "1b par",
        "1b.a payments.pair",
        "1b.b sleep",
        "1b.c par",
        "1b.c.a payments.pair",
        "1b.c.b payments.pair",
        "1c each",
        "1c.1 par",
        "1c.1a inventory.pick",
        "1c.1b inventory.pick",
        "1d wait",
    ]


def test_more_branches_than_letters_stay_apart(flow: Flow) -> None:
    steps = ", ".join(["payments.pair()"] * 60)
    (par,) = parts(flow(f"await together({steps})"))

    assert isinstance(par, Par)
    positions = [branch.position for branch in par.branches if isinstance(branch, Step)]
    assert positions[25:28] == ["1z", "1z27", "1z28"]
    assert len(set(positions)) == 60


def test_the_parts_of_a_loop_have_positions_of_their_own(flow: Flow) -> None:
    module = flow(
        """
N = 3
for i in range(LIMIT):
    if order.numbers[0] == i:
        continue
    await payments.pair()
else:
    raise OutOfStock("none left")
""",
        before="LIMIT = 4",
    )

    assert outline(module.f.tree) == [
        "let",
        "1 loop",
        "1.1 choice",
        "continue",
        "1.2 payments.pair",
        "1.else.1 reject",
    ]
    loop = parts(module)[1]
    assert isinstance(loop, Loop)
    assert (loop.index, loop.limit) == ("i", 4)
    assert isinstance(loop.otherwise, Seq)
    reject = loop.otherwise.parts[0]
    assert isinstance(reject, Reject)
    assert (reject.code, reject.message) == ("out-of-stock", "none left")


def test_steps_are_unpacked_by_hidden_variables(flow: Flow) -> None:
    step, first, second, end = parts(flow("a, b = await payments.pair()\nreturn a + b"))

    assert isinstance(step, Step)
    assert step.out == "$1"
    assert isinstance(first, Let)
    assert isinstance(second, Let)
    assert (first.name, second.name) == ("a", "b")
    assert first.value == ("index", ("as", ("tuple", (None, None)), ("var", "$1")), ("lit", 0))
    assert isinstance(end, Return)
    assert show(end.value) == "a + b"


def test_names_are_swapped_by_hidden_variables(flow: Flow) -> None:
    module = flow("a, b = 1, 2\na, b = b, a\nreturn a")

    assert [(n.name, n.value) for n in parts(module) if isinstance(n, Let)] == [
        ("a", ("lit", 1)),
        ("b", ("lit", 2)),
        ("$1", ("var", "b")),
        ("$2", ("var", "a")),
        ("a", ("var", "$1")),
        ("b", ("var", "$2")),
    ]


def test_several_targets_and_annotations_are_assignments(flow: Flow) -> None:
    assert values(flow("x: int | None = None\na = b = order.id\nc: 'str' = b\nd: int")) == {
        "x": "null",
        "a": "order.id",
        "b": "a",
        "c": "b",
    }


def test_the_variables_of_lambdas_hide_nothing(flow: Flow) -> None:
    first, second, third, _ = parts(
        flow(
            """
await each(order.lines, lambda x: inventory.pick(x), limit=3)
await each(order.lines, lambda x: inventory.pick(x), limit=3)
await each(order.lines, lambda line: inventory.pick(line), limit=3)
line = 3
"""
        )
    )

    assert isinstance(first, Each)
    assert isinstance(second, Each)
    assert isinstance(third, Each)
    assert (first.item, second.item, third.item) == ("x", "x$2", "line$2")
    assert isinstance(second.body, Step)
    assert second.body.arguments == (("line", ("var", "x$2")),)


def test_raw_values_are_converted_where_they_are_used(flow: Flow) -> None:
    found = {
        node.name: node.value
        for node in nodes(
            flow(
                """
passed = order.total
added = order.total + 1
later = order.day + timedelta(days=1)
text = f"{order.total:.2f} on {order.day} {order.id!r}"
kept = [line.quantity for line in order.lines if line.quantity > 1]
high = max(order.numbers, default=0)
is_open = order.state == State.OPEN
state = order.state.value
note = order.note or "none"
made = timedelta(days=order.numbers[0], hours=2)
"""
            ).f.tree.body
        )
        if isinstance(node, Let)
    }
    total, day = ("field", ("var", "order"), "total"), ("field", ("var", "order"), "day", "2026-01-01")
    numbers: Any = ("field", ("var", "order"), "numbers", [])
    quantity = ("as", "bigint", ("field", ("local", "line"), "quantity"))

    assert found["passed"] == total
    assert found["added"] == ("add", ("as", "decimal", total), ("lit", 1))
    assert found["later"] == ("add", ("as", "date", day), ("as", "duration", ("lit", "P1D")))
    assert found["text"][1] == (("as", "decimal", total), "", ".2f")
    assert found["text"][5] == (("field", ("var", "order"), "id"), "r", "")
    assert found["kept"] == (
        "each",
        "line",
        ("field", ("var", "order"), "lines"),
        (("compare", quantity, "gt", ("lit", 1)),),
        quantity[2],
    )
    converted = ("as", ("list", "bigint"), numbers)
    assert found["high"] == ("if", converted, ("call", "max", converted), ("lit", 0))
    assert found["is_open"] == ("compare", ("field", ("var", "order"), "state", "open"), "eq", ("lit", "open"))
    assert found["state"] == ("field", ("var", "order"), "state", "open")
    assert found["note"] == ("or", ("field", ("var", "order"), "note", None), ("lit", "none"))
    days = ("mul", ("as", "duration", ("lit", "P1D")), ("as", "bigint", ("index", numbers, ("lit", 0))))
    assert found["made"][:2] == ("add", days)


def test_constants_of_the_module_are_folded_in(flow: Flow) -> None:
    before = """
LIMIT = Decimal("19.90")
SKUS = ["tea", "milk"]
STANDARD = Receipt("r", 3)
class Limits:
    high = 80
"""
    found = {
        n.name: n.value
        for n in parts(
            flow("a = LIMIT\nb = SKUS\nc = STANDARD\nd = Limits.high\ne = State.OPEN\ng = STANDARD.risk", before=before)
        )
        if isinstance(n, Let)
    }

    assert found == {
        "a": ("lit", "19.90"),
        "b": ("lit", ["tea", "milk"]),
        "c": ("lit", {"id": "r", "risk": 3}),
        "d": ("lit", 80),
        "e": ("lit", "open"),
        "g": ("field", ("lit", {"id": "r", "risk": 3}), "risk", 0),
    }


def test_the_names_on_the_wire_are_those_of_the_codec(flow: Flow) -> None:
    before = """
class Parcel(msgspec.Struct, rename="camel", tag="parcel"):
    sku_code: str
    is_heavy: bool = False
class Model(BaseModel):
    number: int
    extra: str | None = None
"""
    found = values(flow("p = Parcel('a')\nq = p.sku_code\nr = Model(number=3)\ns = r.number + 1", before=before))

    assert found == {
        "p": '{type: "parcel", skuCode: "a", isHeavy: false}',
        "q": "p.skuCode",
        "r": "{number: 3, extra: null}",
        "s": "r.number + 1",
    }


def test_conditions_are_true_or_false(flow: Flow) -> None:
    module = flow(
        """
seen = await wait_for(PickedUp, key=order.id, timeout=timedelta(seconds=order.numbers[0]))
if seen: pass
if order.id: pass
if order.total and not order.note: pass
if order.total or seen is None: pass
if await_free := False: pass
""".replace("if await_free := False: pass\n", "")
    )

    conditions = [node.condition for node in nodes(module.f.tree.body) if isinstance(node, Choice)]
    assert conditions == [
        ("compare", ("var", "seen"), "isnot", ("lit", None)),
        ("call", "bool", ("field", ("var", "order"), "id")),
        (
            "and",
            ("call", "bool", ("as", "decimal", ("field", ("var", "order"), "total"))),
            ("not", ("call", "bool", ("field", ("var", "order"), "note", None))),
        ),
        (
            "or",
            ("call", "bool", ("as", "decimal", ("field", ("var", "order"), "total"))),
            ("compare", ("var", "seen"), "is", ("lit", None)),
        ),
    ]


def test_lengths_of_time_are_milliseconds_or_durations(flow: Flow) -> None:
    module = flow(
        """
await sleep(1.5)
await sleep(order.numbers[0])
await sleep(timedelta(days=order.numbers[0]))
await sleep(until=datetime(2026, 1, 1, tzinfo=dt.timezone.utc))
""",
    )

    sleeps = [node for node in parts(module) if isinstance(node, Sleep)]
    number: Any = ("as", "bigint", ("index", ("field", ("var", "order"), "numbers", []), ("lit", 0)))
    assert sleeps[0].duration == ("lit", 1_500)
    assert sleeps[1].duration == ("call", "round", ("mul", number, ("lit", 1000)))
    assert sleeps[2].duration == ("mul", ("as", "duration", ("lit", "P1D")), number)
    assert sleeps[3].until == ("as", "datetime", ("lit", "2026-01-01T00:00:00Z"))


def test_steps_whose_arguments_may_fail_are_partial(flow: Flow) -> None:
    first, second = parts(flow("await inventory.pick(order.lines[0])\nawait inventory.look(order.id)"))

    assert isinstance(first, Step)
    assert isinstance(second, Step)
    assert first.partial
    assert not second.partial


def test_an_attempt_is_asked_for_its_rejection(flow: Flow) -> None:
    module = flow(
        """
async with attempt() as tried, deadline(5):
    await payments.pair()
if isinstance(tried.rejected, CardDeclined):
    return tried.rejected.code
elif isinstance(tried.rejected, (OutOfStock, DeadlinePassed)):
    return None
"""
    )

    assert outline(module.f.tree)[:3] == ["1 attempt", "1.1 deadline", "1.1.1 payments.pair"]
    attempt, choice = parts(module)
    assert isinstance(attempt, Attempt)
    assert attempt.codes is None
    assert isinstance(choice, Choice)
    rejected = ("var", "tried.rejected")
    assert choice.condition == (
        "and",
        ("compare", rejected, "isnot", ("lit", None)),
        ("compare", ("field", rejected, "code"), "in", ("lit", ["card-declined"])),
    )


def test_what_is_never_reached_is_a_rejection(flow: Flow) -> None:
    (choice,) = parts(flow("if order.id:\n    return None\nelse:\n    assert_never(order)"))

    assert isinstance(choice, Choice)
    assert isinstance(choice.otherwise, Seq)
    (never,) = choice.otherwise.parts
    assert isinstance(never, Reject)
    assert never.code == "invalid-value"


def test_places_are_those_of_the_text(module_of: Load) -> None:
    module = module_of(ORDER)
    source_lines = Path(module.__file__ or "").read_text(encoding="utf-8").splitlines()

    for node in nodes(module.place_order.tree.body):
        assert node.place.file == f"{module.__name__}.py"
        text = source_lines[node.place.line - 1][node.place.column - 1 :]
        if isinstance(node, Step):
            assert text.startswith(f"{node.service}.{node.action}(")
        if isinstance(node, Choice):
            assert text.startswith(("if ", "elif "))


def test_comments_and_formatting_do_not_change_the_tree(module_of: Load) -> None:
    def without_places(node: Any) -> Any:
        if isinstance(node, tuple):
            return tuple(map(without_places, node))
        if not isinstance(node, Node):
            return node
        fields = [f.name for f in dataclasses.fields(node) if f.name != "place"]
        return (type(node), *(without_places(getattr(node, name)) for name in fields))

    one = module_of(ORDER).place_order.tree
    other = module_of(
        ORDER.replace("    if receipt", "\n    # high risk\n    if (receipt").replace("risk > 80:", "risk > 80):")
    ).place_order.tree

    assert without_places(one.body) == without_places(other.body)


def test_a_workflow_of_twenty_steps_is_read_in_ten_milliseconds(module_of: Load) -> None:
    steps = "\n".join(
        f"    r{i} = await payments.charge(order.id, order.total + {i}).retry(3)\n"
        f"    if r{i}.risk > {i}:\n        await payments.review(r{i})"
        for i in range(10)
    )
    text = f"@workflow\nasync def f(order: Order, *, payments: Payments) -> None:\n{steps}\n"
    module_of(text)
    module = module_of(text)  # the second one: the services' contracts are read once, by whoever comes first

    began = time.perf_counter()
    type(module.f)(module.f.function)

    assert time.perf_counter() - began < 0.1  # a loaded machine is given ten times as long
