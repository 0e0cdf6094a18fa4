"""The script of a dry run: what steps answer, what waits see, which deadlines pass.

A row of it stands under the name of an action or event, or under the position of one place that uses it, and is
taken entry by entry, in the order in which its places are reached.
"""

from __future__ import annotations

from collections.abc import Callable, Collection, Mapping, Sequence
from typing import Any

from minuet.errors import NotFound
from minuet.workflows import tree
from minuet.workflows.dry_run.whereabouts import nodes_of

Rows = Mapping[str, Sequence[Any]]


class Script:
    """What the caller of a dry run has set. An answer of `...` says that nothing is set, or nothing is left.

    Raises:
        NotFound: a name is none of the workflow's: a slip of the pen would otherwise change nothing.
    """

    def __init__(self, whole: tree.WorkflowTree, outcomes: Rows, events: Rows, deadlines: Collection[str]) -> None:
        self._outcomes = {name: list(row) for name, row in outcomes.items()}
        self._events = {name: list(row) for name, row in events.items()}
        self._deadlines = frozenset(deadlines)
        self._check_names(whole)

    def outcome(self, position: str, action: str) -> Any:
        """Take what a step answers instead of running its action; `...` if it is to run."""
        return _next(self._outcomes, position, action)

    def event(self, position: str, event: str, fits: Callable[[Any], bool]) -> Any:
        """Take the next event that fits a wait; None if it runs out, `...` if none is left."""
        return _next(self._events, position, event, fits)

    def passes(self, position: str) -> bool:
        """Tell whether a deadline passes, which it does as soon as it is set."""
        return position in self._deadlines

    def _check_names(self, whole: tree.WorkflowTree) -> None:
        steps, waits, blocks = set[str](), set[str](), set[str]()
        for node in _every_node(whole.body):
            match node:
                case tree.Step():
                    steps.update((node.position, f"{node.service}.{node.action}"))
                case tree.Wait():
                    waits.update((node.position, node.event))
                case tree.Deadline():
                    blocks.add(node.position)
        _refuse_unknown("outcomes", self._outcomes, steps, whole.name)
        _refuse_unknown("events", self._events, waits, whole.name)
        _refuse_unknown("deadlines", self._deadlines, blocks, whole.name)


def _next(rows: dict[str, list[Any]], position: str, name: str, fits: Callable[[Any], bool] = lambda _: True) -> Any:
    """Take the next entry that fits, under the position first; `...` if there is none."""
    for row in (rows.get(position, []), rows.get(name, [])):
        for i, entry in enumerate(row):
            if fits(entry):
                return row.pop(i)
    return ...


def _every_node(body: tree.Node) -> list[tree.Node]:
    """Give all nodes of a workflow and of those that it calls."""
    found: list[tree.Node] = []
    bodies = [body]
    for text in bodies:  # which grows while calls are found
        nodes = [node for node, _ in nodes_of(text)]
        found += nodes
        bodies += [node.body for node in nodes if isinstance(node, tree.Call)]
    return found


def _refuse_unknown(what: str, given: Collection[str], known: Collection[str], workflow: str) -> None:
    unknown = sorted(set(given) - set(known))
    if unknown:
        raise NotFound(
            f"{what} names {', '.join(unknown)}, and {workflow} has none such",
            remedy=f"It has: {', '.join(sorted(known)) or 'none'}",
        )
