"""A plan as a Mermaid flowchart: text that many pages and editors draw.

Control goes from node to node along *ends*: a construct is given the ends that lead into it, and gives those that
lead out. What leaves early (`return`, `break`, `continue`) hands its ends to whatever it leaves.
"""

from __future__ import annotations

import json
from dataclasses import dataclass, field

from minuet.observe.planview import Body, is_empty, label
from minuet.observe.text import escaped
from minuet.plans.plan import Plan

End = tuple[str, str]
"""A node, and the word beside the arrow that leaves it."""

_INDENT = "    "
_FRAMES = ("Attempt", "Loop", "Each", "Deadline", "Section", "Call")


def mermaid(plan: Plan) -> str:
    """Give a plan as a flowchart, top to bottom."""
    return _Drawing(plan).text()


@dataclass(slots=True)
class _Leaving:
    """Where ends go that leave early."""

    returns: list[End] | None = None  # None: the workflow itself ends
    breaks: list[End] = field(default_factory=list)
    continues: list[End] = field(default_factory=list)


class _Drawing:
    def __init__(self, plan: Plan) -> None:
        self._plan = plan
        self._nodes = 0
        self._lines: list[str] = []
        self._edges: list[str] = []  # after all frames: naming a node in one would draw it there
        self._depth = 1

    def text(self) -> str:
        start = self._node("start", "([", "])")
        ends = self._draw(self._plan.body, [(start, "")], _Leaving())
        if ends:
            self._arrows(ends, self._node("end", "([", "])"))
        head = ["---", f"title: {json.dumps(self._plan.name)}", "---", "flowchart TD"]
        return "\n".join([*head, *self._lines, *self._edges, f"{_INDENT}classDef undo stroke-dasharray: 4"]) + "\n"

    def _draw(self, node: Body, ends: list[End], leaving: _Leaving) -> list[End]:
        """Draw a construct after these ends; give the ends after it."""
        if not ends or is_empty(node):
            return ends
        kind = node["node"]
        if kind == "Seq":
            for part in node["parts"]:
                ends = self._draw(part, ends, leaving)
            return ends
        if kind in _FRAMES:
            return self._frame(node, ends, leaving)
        match kind:
            case "Step":
                return self._step(node, ends)
            case "Par":
                return self._together(node, ends, leaving)
            case "Choice":
                choice = self._placed(node, "{", "}", ends)
                then = self._draw(node["then"], [(choice, "yes")], leaving)
                return then + self._draw(node["otherwise"], [(choice, "no")], leaving)
            case "Wait" | "Sleep":
                return [(self._placed(node, "{{", "}}", ends), "")]
            case "Break":
                leaving.breaks += [(before, word or "break") for before, word in ends]
                return []
            case "Continue":
                leaving.continues += [(before, word or "continue") for before, word in ends]
                return []
        end = self._placed(node, "([", "])", ends)  # return, reject
        if kind == "Return" and leaving.returns is not None:
            leaving.returns.append((end, ""))
        return []

    def _step(self, node: Body, ends: list[End]) -> list[End]:
        step = self._placed(node, "[", "]", ends)
        if node["compensation"]:
            undo = self._node(".".join(node["compensation"]), "[", "]:::undo")
            self._edges.append(f"{_INDENT}{step} -. undone by .-> {undo}")
        return [(step, "")]

    def _together(self, node: Body, ends: list[End], leaving: _Leaving) -> list[End]:
        fork = self._placed(node, "[/", "\\]", ends)
        join = self._node("all done", "[\\", "/]")
        for branch in node["branches"]:
            self._arrows(self._draw(branch, [(fork, "")], leaving), join)
        return [(join, "")]

    def _frame(self, node: Body, ends: list[End], leaving: _Leaving) -> list[End]:
        """Draw a block with its body inside."""
        kind = node["node"]
        frame = self._name()
        self._line(f'subgraph {frame}["{_text(_titled(node))}"]')
        self._depth += 1
        inner = _Leaving(returns=[]) if kind == "Call" else leaving
        if kind == "Loop":
            inner = _Leaving(returns=leaving.returns)
        after = self._draw(node["body"], ends, inner)
        if after is ends:  # nothing in it: the frame needs something to stand around
            after = [(self._node(" ", "[", "]"), "")]
            self._arrows(ends, after[0][0])
        self._depth -= 1
        self._line("end")
        if kind == "Call":
            return after + (inner.returns or [])
        if kind == "Loop":
            over = self._draw(node["otherwise"], after + inner.continues, leaving)
            return over + inner.breaks
        if kind == "Attempt":
            return [*after, (frame, "rejected")]
        return after

    def _placed(self, node: Body, left: str, right: str, ends: list[End]) -> str:
        name = self._node(_titled(node), left, right)
        self._arrows(ends, name)
        return name

    def _node(self, text: str, left: str, right: str) -> str:
        name = self._name()
        self._line(f'{name}{left}"{_text(text)}"{right}')
        return name

    def _arrows(self, ends: list[End], to: str) -> None:
        for before, word in dict.fromkeys(ends):
            self._edges.append(_INDENT + (f'{before} -->|"{_text(word)}"| {to}' if word else f"{before} --> {to}"))

    def _name(self) -> str:
        self._nodes += 1
        return f"n{self._nodes}"

    def _line(self, text: str) -> None:
        self._lines.append(_INDENT * self._depth + text)


def _titled(node: Body) -> str:
    return f"{node.get('position', '')} {label(node)}".strip()


def _text(text: str) -> str:
    """Give text as Mermaid reads it between quotes: entities for what it would take as its own."""
    for sign, entity in (("#", "#35;"), ('"', "#quot;"), ("<", "#lt;"), (">", "#gt;"), ("`", "#96;"), ("\\", "#92;")):
        text = text.replace(sign, entity)
    return escaped(text)
