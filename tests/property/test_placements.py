"""A style is only where rules are evaluated: every placement gives the same trace, with the messages that it must."""

from __future__ import annotations

from typing import Any

import pytest

from minuet.plans.placement import Placement
from minuet.plans.plan import make_plan
from minuet.workflows.tree import Node, Par, Section, Seq, Step, WorkflowTree
from tests.property.ensemble import HOME, Ensemble
from tests.property.interpreter import Oracle
from tests.property.maker import HERE
from tests.property.placements import check


@pytest.mark.parametrize("first", range(0, 120, 20))
def test_random_workflows_have_the_same_trace_in_every_placement(first: int) -> None:
    for seed in range(first, first + 20):
        check(seed)


def step(name: str, service: str, *, compensable: bool = True) -> Step:
    return Step(
        place=HERE,
        position=name,
        service=service,
        action=name,
        arguments=(),
        out=name,
        rejects=("a",),
        compensation=(service, f"undo_{name}") if compensable else None,
    )


ORDER, PAY, STOCK = step("order", "orders"), step("pay", "payments"), step("stock", "inventory")
SHIP = step("ship", "shipping", compensable=False)


def section(style: str, *parts: Node) -> Section:
    return Section(place=HERE, position=f"in-{style}", style=style, body=Seq(place=HERE, parts=parts))


BOTH = Par(place=HERE, position="both", branches=(PAY, STOCK), results=("pay", "stock"), out="$1")
O, C = "orchestration", "choreography"  # noqa: E741 - as in the table

# What is published when all goes well, and when the stock rejects; the request and the notice of the end count.
TABLE = [
    ("line, orchestrated", O, (ORDER, PAY, STOCK, SHIP), 10, 12),
    ("line, choreographed", C, (ORDER, PAY, STOCK, SHIP), 5, 6),
    ("line, orchestrated around choreographed", O, (ORDER, PAY, section(C, STOCK, SHIP)), 9, 12),
    ("line, choreographed around orchestrated", C, (ORDER, PAY, section(O, STOCK, SHIP)), 8, 8),
    ("parallel, orchestrated", O, (ORDER, BOTH, SHIP), 10, 12),
    ("parallel, choreographed", C, (ORDER, BOTH, SHIP), 5, 6),
    ("parallel, in a choreographed section", O, (ORDER, section(C, BOTH), SHIP), 9, 10),
]


class Fixed(Oracle):
    """All goes well, but what is named."""

    def __init__(self, rejecting: str) -> None:
        super().__init__(0)
        self.rejecting = rejecting

    def step(self, n: Step, round_: tuple[int, ...]) -> str:
        return "rejected:a" if n.position == self.rejecting else "ok"


@pytest.mark.parametrize(("name", "style", "parts", "well", "rejected"), TABLE)
@pytest.mark.parametrize("seed", range(5))
def test_the_classical_order_takes_as_many_messages_as_it_must(
    name: str, style: str, parts: Any, well: int, rejected: int, seed: int
) -> None:
    tree = WorkflowTree(
        name="order", file="", input=("x", ""), result_shape="", services={}, body=Seq(place=HERE, parts=parts)
    )
    raw = make_plan(tree, Placement(root=style)).to_json()
    for rejecting, published in (("", well), ("stock", rejected)):
        ensemble = Ensemble(raw, tree, Fixed(rejecting), 1, seed)
        ensemble.run()
        assert ensemble.minds[HOME].state == ("compensated" if rejecting else "completed")
        assert ensemble.published == published, (name, rejecting)
