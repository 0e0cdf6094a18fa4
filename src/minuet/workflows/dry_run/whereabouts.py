"""Where a dry run is: the node of the call that is being executed, and the round of each loop around it.

**Positions.** The reader has given every step, wait and block a position, and the place in the file where it
stands; the place of a call that is being executed is in the interpreter's own table (`code.co_positions`). The two
are matched in the text at hand: that of the workflow, or of the one that it has called, which has the same lines but
the positions of its call.

**Rounds.** Inside a called or looping text the round is counted where it begins: `each` counts its elements, and
`range` is replaced, for the time of a dry run, by one that tells which round of which loop it hands out. The function
is the user's own code object, with a copy of its module's globals. So what a module's globals become *during* a dry
run is not seen by a workflow that loops.
"""

from __future__ import annotations

import types
from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager
from typing import Any, TypeVar

from minuet.contracts.step import CallSite, call_site
from minuet.errors import MisplacedCall
from minuet.workflows import tree
from minuet.workflows.dry_run.trace import Round
from minuet.workflows.words import Called

N = TypeVar("N", bound=tree.Node)

Loops = tuple[str, ...]
"""The positions of the loops and `each` around a node, outermost first."""


class Whereabouts:
    """Finds what is being executed, in the text at hand."""

    def __init__(self, whole: tree.WorkflowTree) -> None:
        self._texts = [_Text(whole.name, whole.body, ())]
        self._rounds: dict[str, int] = {}

    def find(self, kind: type[N], site: CallSite, accept: Callable[[N], bool] = lambda _: True) -> tuple[N, Round]:
        """Give the node of a kind that is executed at a site, and its round.

        Raises:
            MisplacedCall: there is none, so a function does this that the workflow calls.
        """
        node, around = self._texts[-1].find(kind, site, accept)
        return node, tuple(self._rounds[position] for position in around)

    def begin_round(self, position: str, index: int) -> None:
        """Remember which round of a loop is being executed."""
        self._rounds[position] = index

    @contextmanager
    def inside(self, called: Called[Any]) -> Iterator[None]:
        """Go into the text of a called workflow, and come back."""
        name = called.workflow.name
        node, around = self._texts[-1].find(tree.Call, called.site, lambda n: n.workflow == name)
        self._texts.append(_Text(name, node.body, around))
        try:
            yield
        finally:
            self._texts.pop()

    def counting(self, function: Callable[..., Any]) -> Callable[..., Any]:
        """Give the function whose text is at hand with a `range` that counts the rounds of its loops."""
        text = self._texts[-1]
        if not text.has_loops or not isinstance(function, types.FunctionType):
            return function

        def counting_range(*bounds: int) -> Iterable[int]:
            loop, _ = text.find(tree.Loop, call_site())
            return self._counted(loop.position, range(*bounds))

        copy = types.FunctionType(
            function.__code__,
            {**function.__globals__, "range": counting_range},
            function.__name__,
            function.__defaults__,
            function.__closure__,
        )
        copy.__kwdefaults__ = function.__kwdefaults__
        return copy

    def _counted(self, position: str, indices: range) -> Iterator[int]:
        for round_, index in enumerate(indices):
            self.begin_round(position, round_)
            yield index


def nodes_of(node: tree.Node, around: Loops = ()) -> Iterator[tuple[tree.Node, Loops]]:
    """Give every node of a text with the loops around it; called workflows are other texts."""
    yield node, around
    parts: list[tuple[tree.Node, Loops]] = []
    match node:
        case tree.Seq():
            parts = [(part, around) for part in node.parts]
        case tree.Par():
            parts = [(branch, around) for branch in node.branches]
        case tree.Choice():
            parts = [(node.then, around), (node.otherwise, around)]
        case tree.Loop():
            parts = [(node.body, (*around, node.position)), (node.otherwise, around)]
        case tree.Each():
            parts = [(node.body, (*around, node.position))]
        case tree.Attempt() | tree.Deadline() | tree.Section():
            parts = [(node.body, around)]
    for part, outside in parts:
        yield from nodes_of(part, outside)


class _Text:
    """One text: its nodes in the order of their places."""

    def __init__(self, name: str, body: tree.Node, around: Loops) -> None:
        self.name = name
        self.nodes = sorted(nodes_of(body, around), key=lambda found: (found[0].place.line, found[0].place.column))
        self.has_loops = any(isinstance(node, tree.Loop) for node, _ in self.nodes)

    def find(self, kind: type[N], site: CallSite, accept: Callable[[N], bool] = lambda _: True) -> tuple[N, Loops]:
        """Give the node of a kind that stands at a site, and the loops around it.

        A node's place may begin a little before the call (at `await`, `for` or `async with`), and Python gives a
        method call over several lines the place of its last name: so it is the last one that is not behind.
        """
        best = None
        for node, around in self.nodes:
            if isinstance(node, kind) and accept(node):
                line, column = node.place.line, node.place.column
                if (line, column) == site:
                    return node, around
                if line < site.line or (line == site.line and (column < site.column or not site.column)):
                    best = node, around
        if best is None:
            raise MisplacedCall(
                f"line {site.line} of {self.name} does something that its plan does not know",
                remedy="Await it in the workflow's own text, not in a function that it calls",
            )
        return best
