"""What cannot be performed where it is placed, and the way out: the findings M501 to M512.

Most of these a workflow that was read cannot have. The reader refuses what would lead to them, under a code of its own
(`REFUSED_BY_READER`), and the compiler sees to the rest: who decides has heard what it needs, each timer has one owner
who hears the end of what it limits, and home hears the end of each run. What is left depends on declarations and names:
private values (M503, M510), two participants of one name (M504), and values that weigh much (M511, a warning).

Whether orchestrating a section helps is not argued but tried: the finding must be gone under that placement.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import fields, replace
from typing import Any, Final, TypeVar

from minuet.finding import Finding, Severity
from minuet.plans.disclosure import Leak, asked, leaks
from minuet.plans.estimate import Estimate
from minuet.plans.placement import CHOREOGRAPHY, ORCHESTRATION, Placement
from minuet.plans.plan import Plan, make_plan
from minuet.plans.reach import sections
from minuet.plans.travel import Travel
from minuet.workflows import expression
from minuet.workflows.tree import Choice, Node, Place, Section, Step, WorkflowTree

CARRIED_BYTES: Final = 8 * 1024
"""How much a fact should carry beside its own value; more is a warning."""

REFUSED_BY_READER: Final[Mapping[str, str]] = {
    "M501": "M011",
    "M502": "M004",
    "M505": "M015",
    "M506": "M007",
    "M507": "M012",
    "M508": "M002",
    "M509": "M011",
    "M512": "M004",
}
"""What no workflow that was read can have, and the reader's code for what would lead to it."""

_Node = TypeVar("_Node", bound=Node)


def unprojectable(tree: WorkflowTree, where: Placement) -> list[Finding]:
    """Find what cannot be performed under a placement, in the order of the text."""
    if not tree.audiences and not is_choreographed(tree, where):
        return []
    plan = make_plan(tree, where)
    found = [*_two_of_one_name(tree, where, plan), *_private(tree, where, plan)]
    return sorted(found, key=lambda f: (f.file, f.line, f.column))


def heavy(tree: WorkflowTree, where: Placement) -> list[Finding]:
    """Warn of facts that would carry more than 8 KiB, by estimate: once for each value that weighs most."""
    if not is_choreographed(tree, where):
        return []
    plan, found = make_plan(tree, where), []
    for value, (position, told, size) in _loads(tree, plan).items():
        out = _orchestrated(tree, where, position, lambda p, v=value: v not in _loads(tree, p))  # type: ignore[misc]
        finding = _finding(
            "M511",
            _place(tree, plan, position),
            f"what {_step(tree, position)} tells {_listed(told)} would carry about "
            f"{-(-size // 1024)} KiB, most of it {value}",
            "keep it in its service, and let an address of it travel: return an id from the action" + out,
        )
        found.append(replace(finding, severity=Severity.WARNING))
    return sorted(found, key=lambda f: (f.file, f.line, f.column))


def is_choreographed(tree: WorkflowTree, where: Placement) -> bool:
    """Say whether any part is."""
    return where.root == CHOREOGRAPHY or any(where.style_of(s) == CHOREOGRAPHY for s in sections(tree.body))


# M504: two participants of one name


def _two_of_one_name(tree: WorkflowTree, where: Placement, plan: Plan) -> Iterator[Finding]:
    services = {*tree.services.values(), *plan.services()}
    for name in sorted(plan.conductors() & services if is_choreographed(tree, where) else ()):
        by = next((s for s in _all(tree.body, Section) if s.by == name), None)
        node = by or next((s for s in _all(tree.body, Step) if s.service == name), tree.body)
        what = f"who orchestrates section {by.position}" if by else f"the platform's own {name}"
        remedy = "give the orchestrator another name" if by else 'give the service another: class …(Service, name="…")'
        position = getattr(node, "position", "")
        out = _orchestrated(tree, where, position, lambda p: CHOREOGRAPHY not in (p.style, *p.sections.values()))
        yield _finding(
            "M504",
            node.place,
            f'"{name}" is a service, and also {what}: neither of the two hears all that it has to decide on',
            remedy + out,
        )


# M503, M510: private values


def _private(tree: WorkflowTree, where: Placement, plan: Plan) -> list[Finding]:
    if not tree.audiences:
        return []
    found, deciding = list[Finding](), dict[tuple[str, str], list[str]]()
    for leak in leaks(plan):
        owner = _node(tree, Step, leak.of).service
        decided = None if leak.is_given else _decided(tree, where, plan, leak, owner)
        if decided is not None:
            deciding.setdefault((decided, leak.of), []).append(leak.service)
        else:
            found.append(_passing(tree, where, plan, leak))
    for (choice, of), services in deciding.items():
        owner = _node(tree, Step, of).service
        out = _orchestrated(tree, where, choice, lambda p, of=of, s=services: not _leaking(p, of, s))  # type: ignore[misc]
        found.append(
            _finding(
                "M503",
                _place(tree, plan, choice),
                f"only {_audience(tree, of)} may see {_value(tree, of)}, but {_listed(sorted(services))} would have "
                "to decide",
                f"let {owner} decide, which is one message more: if at({_parameter(tree, owner)}, …)" + out,
            )
        )
    return found


def _decided(tree: WorkflowTree, where: Placement, plan: Plan, leak: Leak, owner: str) -> str | None:
    """Give the choice that makes a service hear a private value: nothing is left of it if the owner decides."""
    for position, private in asked(plan).items():
        if leak.of in private:
            decided = replace(tree, body=_with(tree.body, position, owner))
            if decided != tree and not _leaking(make_plan(decided, where), leak.of, [leak.service]):
                return position
    return None


def _passing(tree: WorkflowTree, where: Placement, plan: Plan, leak: Leak) -> Finding:
    value, step = _value(tree, leak.of), _node(tree, Step, leak.of)
    out = _orchestrated(tree, where, leak.at, lambda p: not _leaking(p, leak.of, [leak.service]))
    widen = f"name {leak.service} in private= of {step.service}.{step.action}"
    keep = f"{widen}, or return an id and keep the value in {step.service}"
    return _finding(
        "M510",
        _place(tree, plan, leak.at),
        f"{value} {'is given to' if leak.is_given else 'would pass through'} {leak.service}, who may not see it",
        keep + out,
    )


def _leaking(plan: Plan, of: str, services: Sequence[str]) -> bool:
    pairs = {leak.pair for leak in leaks(plan)}
    return any((of, service) in pairs for service in services)


def _with(node: Any, position: str, at: str) -> Any:
    """Give a tree in which the choice at a position is decided by a service."""
    if isinstance(node, tuple):
        return tuple(_with(x, position, at) for x in node)
    if not isinstance(node, Node):
        return node
    if isinstance(node, Choice) and node.position == position:
        return replace(node, at=at)
    return replace(node, **{f.name: _with(getattr(node, f.name), position, at) for f in fields(node)})


# M511: what weighs much


def _loads(tree: WorkflowTree, plan: Plan) -> dict[str, tuple[str, list[str], int]]:
    """Give, by the value that weighs most, the first fact in the text that carries too much.

    A fact as its position, who is told, and the bytes.
    """
    travel, sizes = Travel(plan), Estimate(plan, tree.schemas)
    order = {r.position: i for i, r in reversed(list(enumerate(plan.rules)))}
    found: dict[str, tuple[str, list[str], int]] = {}
    for fact in sorted(travel.flow.hears, key=lambda f: (order.get(f[0], 0), f)):
        told, carried = travel.told(fact), travel.carried(fact)
        if told and (total := sum(map(sizes.bytes_of, carried))) > CARRIED_BYTES:
            largest = max(carried, key=lambda v: (sizes.bytes_of(v), -v))
            names = sorted(told - plan.conductors()) or ["whoever started the run"]
            found.setdefault(_named(tree, plan, largest), (fact[0].removesuffix("!"), names, total))
    return found


# Ways out, and words


def _orchestrated(tree: WorkflowTree, where: Placement, position: str, is_gone: Callable[[Plan], bool]) -> str:
    """Give how to orchestrate the smallest part around a position that makes a finding go; "" where none does."""
    around = [s for s in _around(tree.body, position) if where.style_of(s) == CHOREOGRAPHY]
    tried = [[s.position] for s in reversed(around)]
    every = [s.position for s in sections(tree.body) if where.style_of(s) == CHOREOGRAPHY]
    if where.root == CHOREOGRAPHY:
        tried.append([""])
        every.insert(0, "")
    for positions in [*tried, every]:
        placed = {**where.sections, **{p: ORCHESTRATION for p in positions if p}}
        if is_gone(make_plan(tree, Placement(root=ORCHESTRATION if "" in positions else where.root, sections=placed))):
            names = [f"{tree.name}/{p}" if p else tree.name for p in positions]
            styles = ", ".join(f'"{name}": "{ORCHESTRATION}"' for name in names)
            return f"; or orchestrate this section: styles={{{styles}}}, or async with orchestration(): in the text"
    return ""


def _around(node: Any, position: str) -> list[Section]:
    """Give the sections around a position, and the one that stands there, outermost first."""
    if isinstance(node, tuple):
        return next((found for x in node if (found := _around(x, position))), [])
    if not isinstance(node, Node):
        return []
    inner = next((found for f in fields(node) if (found := _around(getattr(node, f.name), position))), [])
    is_around = isinstance(node, Section) and any(getattr(x, "position", "") == position for x in _all(node, Node))
    return [node, *inner] if is_around and isinstance(node, Section) else inner


def _all(node: Any, kind: type[_Node]) -> Iterator[_Node]:
    if isinstance(node, tuple):
        for x in node:
            yield from _all(x, kind)
    elif isinstance(node, Node):
        if isinstance(node, kind):
            yield node
        for f in fields(node):
            yield from _all(getattr(node, f.name), kind)


def _node(tree: WorkflowTree, kind: type[_Node], position: str) -> _Node:
    return next(n for n in _all(tree.body, kind) if getattr(n, "position", "") == position)


def _place(tree: WorkflowTree, plan: Plan, position: str) -> Place:
    given = plan.places.get(position.removesuffix("!"))
    return Place(*given) if given else tree.body.place


def _value(tree: WorkflowTree, position: str) -> str:
    """Give the name that the text has for what a step gave."""
    step = _node(tree, Step, position)
    return f"the result of {step.service}.{step.action}" if step.out.startswith(("$", "_")) else f'"{step.out}"'


def _named(tree: WorkflowTree, plan: Plan, v: int) -> str:
    """Give a value as the text has it."""
    value = plan.values[v]
    if value.kind == "input" and tree.input:
        return f'"{tree.input[0]}"'
    if value.kind == "list" and (inner := plan.values[value.of[1]]).kind == "out":
        return f"the results of {_step(tree, inner.of[0])}"
    if value.kind == "out":
        bound = (n for n in _all(tree.body, Node) if getattr(n, "position", "") == value.of[0].removesuffix("!"))
        out = str(getattr(next(bound, None), "out", "$"))
        return f'"{out}"' if not out.startswith(("$", "_")) else f"the result of {_step(tree, value.of[0])}"
    if value.kind == "expression":
        names = {x: ("var", _named(tree, plan, x).strip('"')) for x in value.below}
        return f'"{expression.show(expression.substitute(value.of[0], names))}"'
    return _named(tree, plan, value.below[-1]) if value.below else "a value"


def _step(tree: WorkflowTree, position: str) -> str:
    """Give what stands at a position, as people call it."""
    at = position.removesuffix("!")
    step = next((n for n in _all(tree.body, Step) if n.position == at), None)
    return f"{step.service}.{step.action}" if step else f"position {at}"


def _parameter(tree: WorkflowTree, service: str) -> str:
    return next((parameter for parameter, name in tree.services.items() if name == service), service)


def _audience(tree: WorkflowTree, of: str) -> str:
    return _listed([_node(tree, Step, of).service, *sorted(tree.audiences[of])])


def _listed(names: Sequence[str]) -> str:
    return " and ".join(filter(None, [", ".join(names[:-1]), names[-1]]))


def _finding(code: str, place: Place, message: str, remedy: str) -> Finding:
    return Finding(code=code, file=place.file, line=place.line, column=place.column, message=message, remedy=remedy)
