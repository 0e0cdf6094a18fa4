"""`@workflow`: what a workflow knows of itself, and that it can be called."""

from __future__ import annotations

from collections.abc import Callable
from types import ModuleType

import pytest

from minuet.errors import MisplacedCall
from minuet.workflows.words import Called
from minuet.workflows.workflow import Workflow

Load = Callable[[str], ModuleType]

TEXT = '''
@workflow
async def place_order(order: Order, *, payments: Payments, inventory: Inventory) -> Receipt | None:
    """Place an order."""
    return await payments.charge(order.id, order.total)

@workflow(name="nightly-count")
async def count(*, inventory: Inventory) -> int | None:
    return await inventory.look("x")
'''


def test_a_workflow_knows_its_name_its_types_and_its_services(module_of: Load) -> None:
    module = module_of(TEXT)
    flow = module.place_order

    assert isinstance(flow, Workflow)
    assert (flow.name, flow.__name__, flow.__doc__) == ("place_order", "place_order", "Place an order.")
    assert flow.input_type is module.Order
    assert flow.result_type == module.Receipt | None
    assert flow.services == {"payments": module.Payments, "inventory": module.Inventory}
    assert flow.tree.name == "place_order"
    assert flow.notes == ()
    assert repr(flow) == "<workflow place_order>"


def test_a_workflow_may_have_another_name_and_no_input(module_of: Load) -> None:
    flow = module_of(TEXT).count

    assert (flow.name, flow.tree.name) == ("nightly-count", "nightly-count")
    assert flow.input_type is None
    assert flow.tree.input is None
    flow.check_startable()


async def _performed(called: Called[object]) -> object:
    return await called


def test_calling_a_workflow_gives_a_promise_that_nobody_performs_by_itself(module_of: Load) -> None:
    module = module_of(TEXT)

    called = module.place_order("order", payments=module.Payments(), inventory=module.Inventory())

    assert isinstance(called, Called)
    assert called.workflow is module.place_order
    assert called.arguments == ("order",)
    with pytest.raises(MisplacedCall):
        _performed(called).send(None)


def test_a_workflow_may_be_defined_inside_a_function(module_of: Load) -> None:
    module = module_of(
        """
def make(limit: int):
    @workflow
    async def inner(order: Order, *, inventory: Inventory) -> int:
        for _ in range(limit):
            await inventory.look(order.id)
        return limit
    return inner
"""
    )

    assert module.make(3).tree.body.parts[0].limit == 3
    assert module.make(5).tree.body.parts[1].value == ("lit", 5)
