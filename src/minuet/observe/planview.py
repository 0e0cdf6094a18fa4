"""A plan for people: a line for each construct, in the order of the text, with what it waits for.

What is done is read from the tree that the plan keeps for people; what is waited for, from the conditions of its
rules: that is what is really performed.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import Any, Final

from minuet.plans.condition import EXIT, FIRST, LAST, NEXT, PREV
from minuet.plans.plan import Plan
from minuet.plans.rule import Rule
from minuet.workflows import expression
from minuet.workflows.expression import ExpressionFailed
from minuet.workflows.moment import span_ms

Body = Mapping[str, Any]

_EDGES: Final = {
    NEXT: "of the round before",
    PREV: "of the round after",
    LAST: "of the last round",
    FIRST: "of the first round",
    EXIT: "",
}
_WAITED_MAX: Final = 6
"""Facts that are named of what something waits for; more are counted."""
_STARTS: Final = ("run", "wait", "sleep", "decide", "fork", "deadline")


@dataclass(frozen=True, slots=True, kw_only=True)
class Line:
    """One construct: `depth` is how deep it stands in others; `undo` what takes it back; `notes` its policies."""

    position: str
    depth: int
    what: str
    undo: str = ""
    notes: str = ""
    waits_for: str = ""
    place: str = ""


def lines(plan: Plan) -> list[Line]:
    """Give the lines of a plan, in the order of the text."""
    waits = _waits(plan)
    places = {position: f"{file}:{line}" for position, (file, line, _) in plan.places.items()}
    return [
        Line(
            position=position,
            depth=depth,
            what=label(node),
            undo=undo(node),
            notes=notes(node),
            waits_for=waits.get(position, ""),
            place=places.get(position, ""),
        )
        for position, depth, node in _walk(plan.body, 0)
    ]


def label(node: Body) -> str:
    """Say in a few words what a construct does."""
    match node["node"]:
        case "Step":
            out = "" if node["out"].startswith("$") else f" -> {node['out']}"
            return f"{node['service']}.{node['action']}({_arguments(node)}){out}"
        case "Par":
            return "together"
        case "Choice":
            where = f"at {node['at']}, " if node["at"] else ""
            return f"{where}if {shown(node['condition'])}"
        case "Attempt":
            return f"attempt, until {_codes(node['codes'])}"
        case "Loop":
            return f"for {node['index'] or '_'} in range({node['limit']})"
        case "Each":
            at_once = f", {node['at_once']} at once" if node["at_once"] else ""
            return f"each {node['item']} of {shown(node['over'])}, at most {node['limit']}{at_once}"
        case "Wait":
            timeout = f", at most {span(node['timeout'])}" if node["timeout"] is not None else ""
            return f"wait for {node['event']} v{node['version']}, key {shown(node['key'])}{timeout}"
        case "Sleep":
            if node["duration"] is not None:
                return f"sleep {span(node['duration'])}"
            return f"sleep until {shown(node['until'])}"
        case "Deadline":
            return f"deadline {span(node['duration'])}"
        case "Section":
            by = f" by {node['by']}" if node["by"] else ""
            return f"section: {node['style']}{by}"
        case "Call":
            return f"call {node['workflow']}({_arguments(node)})"
        case "Return":
            return f"return {shown(node['value'])}"
        case "Reject":
            return f"reject with {node['code']}" + (f": {node['message']}" if node["message"] else "")
        case "Break" | "Continue" as word:
            return str(word).lower()
    return str(node["node"])


def undo(node: Body) -> str:
    """Name the compensation of a step, or say why it has none."""
    if node["node"] != "Step":
        return ""
    if node["compensation"]:
        return ".".join(node["compensation"])
    return "kept" if node["keep"] else "nothing to undo" if node["pure"] else ""


def notes(node: Body) -> str:
    """Say what a step may answer, and how often and how long it is tried."""
    if node["node"] != "Step":
        return f"by {node['by']}" if node["node"] != "Section" and node.get("by") else ""
    said = []
    if node["rejects"]:
        said.append(f"rejects {', '.join(node['rejects'])}")
    if (retry := node["retry"]) is not None:
        times = f"{retry['attempts']} attempts" if retry["attempts"] else "tried for ever"
        then = ", then rejected" if retry["then"] == "reject" else ""
        said.append(f"{times} from {_duration(retry['first_ms'])} to {_duration(retry['at_most_ms'])}{then}")
    if node["timeout_ms"] is not None:
        said.append(f"timeout {_duration(node['timeout_ms'])}, then {node['timeout_then']}")
    if node["attempt_timeout_ms"] is not None:
        said.append(f"an attempt {_duration(node['attempt_timeout_ms'])}")
    return "; ".join(said)


def shown(form: Any) -> str:
    """Give an expression as text."""
    return expression.show(expression.from_json(form))


def span(form: Any) -> str:
    """Give a duration: in its unit where it is written in the text, else as the expression that it is."""
    try:
        return _duration(span_ms(expression.evaluate(expression.from_json(form), _refuse)))
    except ExpressionFailed:
        return shown(form)


def children(node: Body) -> list[tuple[str, Body]]:
    """Give the parts of a construct, each with a word where it stands in an arm of its own."""
    match node["node"]:
        case "Seq":
            return [("", part) for part in node["parts"]]
        case "Par":
            return [("", branch) for branch in node["branches"]]
        case "Choice":
            return [("then", node["then"]), ("else", node["otherwise"])]
        case "Loop":
            return [("", node["body"]), ("else", node["otherwise"])]
        case "Attempt" | "Each" | "Deadline" | "Section" | "Call":
            return [("", node["body"])]
    return []


def is_empty(node: Body) -> bool:
    """Tell whether nothing happens in a part."""
    return node["node"] == "Let" or (node["node"] == "Seq" and all(is_empty(part) for part in node["parts"]))


def _walk(node: Body, depth: int) -> Iterator[tuple[str, int, Body]]:
    if node["node"] == "Seq":
        for part in node["parts"]:
            yield from _walk(part, depth)
        return
    if node["node"] == "Let":
        return
    yield node.get("position", ""), depth, node
    for _, part in children(node):
        yield from _walk(part, depth + 1)


def _arguments(node: Body) -> str:
    said = []
    for name, value in node["arguments"]:
        text = shown(value)
        said.append(text if text == name else f"{name}={text}")
    return ", ".join(said)


def _codes(codes: list[str] | None) -> str:
    return "any rejection" if codes is None else " or ".join(codes)


def _duration(span_: int) -> str:
    for unit, length in (("d", 86_400_000), ("h", 3_600_000), ("min", 60_000), ("s", 1_000)):
        if span_ and span_ % length == 0:
            return f"{span_ // length} {unit}"
    return f"{span_} ms"


def _refuse(name: Any) -> Any:
    raise ExpressionFailed(f"{name} is not known before the run")


def _waits(plan: Plan) -> dict[str, str]:
    """Say for each position what its rule waits for; where there are several, the one that begins it."""
    found: dict[str, str] = {}
    for rule in plan.rules:
        if rule.kind in _STARTS:
            found.setdefault(rule.position, _Waited(plan).text(rule))
    for switch in plan.switches:
        found.setdefault(switch.position, _Waited(plan).of(switch.trigger))
    return found


class _Waited:
    """A condition as text: the facts under it, and how they are joined."""

    def __init__(self, plan: Plan) -> None:
        self._plan = plan
        self._facts = 0

    def text(self, rule: Rule) -> str:
        return self.of(rule.when)

    def of(self, condition: int) -> str:
        text = self._of(condition, "", frozenset())
        return text if self._facts <= _WAITED_MAX else f"{self._facts} facts, among them {self._first(condition)}"

    def _of(self, i: int, around: str, seen: frozenset[int]) -> str:
        c = self._plan.conditions[i]
        match c.kind:
            case "start":
                return "the start"
            case "fact":
                self._facts += 1
                return f"{c.of[0]} {c.of[1]}"
            case "arm":
                self._facts += 1
                return f"{self._plan.switches[c.of[0]].position} {c.of[1]}"
        parts = []
        for source, edge in c.inputs:
            when = _EDGES.get(edge, "")
            if source not in seen and (part := self._of(source, when or c.kind, seen | {i})):
                parts.append(f"{part} {when}".rstrip())
        parts = list(dict.fromkeys(parts))
        if c.kind == "count":
            return f"all {parts[0]}" if parts else ""
        text = f" {c.kind} ".join(parts)
        return f"({text})" if len(parts) > 1 and around and around != c.kind else text

    def _first(self, condition: int) -> str:
        todo, seen = [condition], {condition}
        while todo:
            c = self._plan.conditions[todo.pop(0)]
            if c.kind == "fact":
                return f"{c.of[0]} {c.of[1]}"
            todo += [s for s, _ in c.inputs if s not in seen]
            seen.update(s for s, _ in c.inputs)
        return "none"
