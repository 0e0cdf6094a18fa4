"""A plan as SVG, drawn here: boxes within boxes, control from top to bottom.

Layout is a walk over the tree. Each construct answers with a `Block`: how large it is, where its axis runs (control
comes in at the axis's top and leaves at its bottom), whether anything leaves there at all, and what is drawn, with
coordinates relative to its own corner. So parts are only moved, never laid out again, and each is placed once.

Everything visible is said by classes; the style is embedded for files that stand alone, and left to the page
otherwise. No script, no style attribute, no font from elsewhere.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from html import escape
from typing import Final

from minuet.observe.planview import Body, is_empty, label, lines, notes, undo
from minuet.observe.text import columns, escaped
from minuet.plans.plan import Plan

_LETTER: Final = 7.2  # width of a column at 12 px, in any monospaced font
_LINE: Final = 16.0
_PAD: Final = 10.0
_GAP: Final = 26.0  # between what follows one another; an arrow runs in it
_BESIDE: Final = 24.0
_TITLE: Final = 22.0
_LONGEST: Final = 46  # columns of a label before it is cut; the whole is in its title

STYLE: Final = """
svg.plan { --ink: #1f2328; --faint: #59636e; --line: #818b98; --box: #ffffff; --step: #ddf4ff; --say: #fff8c5; \
--end: #eaeef2; background: var(--box); }
@media (prefers-color-scheme: dark) { svg.plan { --ink: #f0f6fc; --faint: #9198a1; --line: #656c76; --box: #0d1117; \
--step: #0c2d4a; --say: #3b2e05; --end: #2a313c; } }
svg.plan text { font: 12px ui-monospace, SFMono-Regular, Menlo, Consolas, monospace; fill: var(--ink); }
svg.plan .faint { fill: var(--faint); }
svg.plan .middle { text-anchor: middle; }
svg.plan .step rect { fill: var(--step); stroke: var(--line); }
svg.plan .wait rect { fill: var(--say); stroke: var(--line); }
svg.plan .choice path { fill: var(--say); stroke: var(--line); }
svg.plan .end rect { fill: var(--end); stroke: var(--line); }
svg.plan .frame > rect { fill: none; stroke: var(--line); stroke-dasharray: 5 4; }
svg.plan .arrow { fill: none; stroke: var(--line); }
svg.plan .head { fill: var(--line); }
svg.plan .bar { stroke: var(--ink); stroke-width: 3; }
"""


@dataclass(slots=True)
class Block:
    """A drawn construct. `axis` is the x of its control; `leaves` whether control leaves at the bottom."""

    width: float
    height: float
    axis: float
    leaves: bool = True
    parts: list[tuple[float, float, str | Block]] = field(default_factory=list)

    def put(self, x: float, y: float, part: str | Block) -> None:
        """Draw something with its corner here."""
        self.parts.append((x, y, part))


def svg(plan: Plan, *, is_alone: bool = True) -> str:
    """Give a plan as SVG; `is_alone`: with its style and its XML name, for a file of its own."""
    body = _sequence([_pill("start", "start"), _drawn(plan.body)])
    if body.leaves:
        body = _sequence([body, _pill("end", "end")])
    width, height = body.width + 2 * _PAD, body.height + 2 * _PAD
    ids = f"t{plan.digest}", f"d{plan.digest}"
    told = "; ".join(f"{line.position} {line.what}".strip() for line in lines(plan))
    return "".join(
        (
            f'<svg xmlns="http://www.w3.org/2000/svg" class="plan" role="img" aria-labelledby="{ids[0]} {ids[1]}"',
            f' width="{_n(width)}" height="{_n(height)}" viewBox="0 0 {_n(width)} {_n(height)}">\n',
            f'<title id="{ids[0]}">{_text(f"Workflow {plan.name}")}</title>\n',
            f'<desc id="{ids[1]}">{_text(told)}</desc>\n',
            f"<style>{STYLE}</style>\n" if is_alone else "",
            *_written(body, _PAD, _PAD),
            "</svg>\n",
        )
    )


def _drawn(node: Body) -> Block:
    match node["node"]:
        case "Seq":
            return _sequence([_drawn(part) for part in node["parts"] if not is_empty(part)])
        case "Step":
            return _step(node)
        case "Par":
            return _together(node)
        case "Choice":
            return _choice(node)
        case "Wait" | "Sleep":
            return _box("wait", node, [label(node), notes(node)])
        case "Return" | "Reject" | "Break" | "Continue":
            block = _pill(f"{node.get('position', '')} {label(node)}".strip(), "end")
            block.leaves = False
            return block
        case "Loop":
            rounds = _frame(node, _drawn(node["body"]), leaves=True)
            if is_empty(node["otherwise"]):
                return rounds
            return _split(rounds, [_drawn(node["otherwise"]), _sequence([])], ("all rounds", "break"))
    return _frame(node, _drawn(node["body"]), leaves=node["node"] in ("Attempt", "Call"))


def _sequence(blocks: Sequence[Block]) -> Block:
    """Stack blocks on one axis, with arrows between them."""
    if not blocks:
        return Block(width=2 * _PAD, height=0, axis=_PAD)
    if len(blocks) == 1:
        return blocks[0]
    axis = max(block.axis for block in blocks)
    whole = Block(width=max(axis - b.axis + b.width for b in blocks), height=0, axis=axis)
    for n, block in enumerate(blocks):
        if n and whole.leaves:
            whole.put(0, whole.height, _arrow(axis, 0, axis, _GAP))
        whole.height += _GAP if n else 0
        whole.put(axis - block.axis, whole.height, block)
        whole.height += block.height
        whole.leaves = block.leaves
    return whole


def _step(node: Body) -> Block:
    taken_back = undo(node)
    back = f"undo {taken_back}" if node["compensation"] else taken_back
    return _box("step", node, [f"{node['service']}.{node['action']}", back, notes(node)])


def _box(kind: str, node: Body, said: Sequence[str]) -> Block:
    """Draw a box: the position and the first text, then fainter lines for the others."""
    texts = [_cut(text) for text in said if text]
    texts[0] = f"{node['position']} {texts[0]}"
    width = max(columns(text) for text in texts) * _LETTER + 2 * _PAD
    height = len(texts) * _LINE + _PAD
    block = Block(width=width, height=height, axis=width / 2)
    whole = f"{node['position']} {'; '.join([label(node), *said[1:]])}"
    written = [f'<g class="{kind}"><title>{_text(whole)}</title>', _rectangle(width, height, 4)]
    for n, text in enumerate(texts):
        faint = ' class="faint"' if n else ""
        written.append(f'<text x="{_n(_PAD)}" y="{_n((n + 1) * _LINE)}"{faint}>{_text(text)}</text>')
    block.put(0, 0, "".join([*written, "</g>"]))
    return block


def _pill(text: str, kind: str) -> Block:
    shown = _cut(text)
    width, height = columns(shown) * _LETTER + 3 * _PAD, _LINE + _PAD
    block = Block(width=width, height=height, axis=width / 2)
    middle = f'<text class="middle" x="{_n(width / 2)}" y="{_n(_LINE + 1)}">{_text(shown)}</text>'
    title = f"<title>{_text(text)}</title>"
    block.put(0, 0, f'<g class="end {kind}">{title}{_rectangle(width, height, height / 2)}{middle}</g>')
    return block


def _together(node: Body) -> Block:
    """Draw branches side by side between two bars."""
    branches = [_drawn(branch) for branch in node["branches"]]
    inner = _beside(branches)
    block = Block(width=inner.width, height=inner.height + 2 * _GAP, axis=inner.width / 2)
    bar = f'<path class="bar" d="M0 0H{_n(inner.width)}"/>'
    block.put(0, 0, f"<g><title>{_text(node['position'])} together</title>{bar}</g>")
    block.put(0, _GAP, inner)
    x = 0.0
    for branch in branches:
        block.put(0, 0, _arrow(x + branch.axis, 0, x + branch.axis, _GAP))
        if branch.leaves:
            block.put(0, 0, _arrow(x + branch.axis, _GAP + branch.height, x + branch.axis, block.height))
        x += branch.width + _BESIDE
    block.put(0, block.height, bar)
    return block


def _choice(node: Body) -> Block:
    """Draw a diamond, and an arm to either side."""
    position, text = node["position"], label(node)
    shown = f"{position} {_cut(text)}"
    width, height = columns(shown) * _LETTER + 5 * _PAD, _LINE + 2 * _PAD
    half = height / 2
    corner = 2 * _PAD
    path = f"M0 {_n(half)}l{_n(corner)} {_n(-half)}h{_n(width - 2 * corner)}l{_n(corner)} {_n(half)}"
    path += f"l{_n(-corner)} {_n(half)}h{_n(2 * corner - width)}z"
    said = f'<text class="middle" x="{_n(width / 2)}" y="{_n(half + 4)}">{_text(shown)}</text>'
    head = Block(width=width, height=height, axis=width / 2)
    title = f"<title>{_text(f'{position} {text}')}</title>"
    head.put(0, 0, f'<g class="choice">{title}<path d="{path}"/>{said}</g>')
    return _split(head, [_drawn(node["then"]), _drawn(node["otherwise"])], ("yes", "no"))


def _split(head: Block, arms: Sequence[Block], words: Sequence[str]) -> Block:
    """Draw arms side by side below what they part at, and join those that leave; an empty arm is a line."""
    inner = _beside(arms)
    axis = max(head.axis, inner.axis)
    width = axis + max(head.width - head.axis, inner.width - inner.axis)
    below = head.height + _GAP
    block = Block(width=width, height=below + inner.height + _GAP, axis=axis, leaves=any(arm.leaves for arm in arms))
    block.put(axis - head.axis, 0, head)
    block.put(axis - inner.axis, below, inner)
    x = axis - inner.axis
    for arm, word in zip(arms, words, strict=True):
        at = x + arm.axis
        block.put(0, 0, _elbow(axis, head.height, at, below, word, has_head=arm.height > 0))
        if arm.leaves:
            block.put(0, 0, _join(at, below + arm.height, axis, block.height))
        x += arm.width + _BESIDE
        block.width = max(block.width, at + 5 + columns(word) * _LETTER)
    return block


def _frame(node: Body, body: Block, *, leaves: bool) -> Block:
    """Draw a block with a title around its body; `leaves`: control goes on after it even where its body does not."""
    title = f"{node['position']} {_cut(label(node))}"
    around = max(0.0, columns(title) * _LETTER + 2 * _PAD - (body.width + 2 * _PAD))
    width = body.width + 2 * _PAD + around
    height = body.height + _TITLE + 2 * _PAD + _GAP / 2
    block = Block(width=width, height=height, axis=body.axis + _PAD + around / 2, leaves=body.leaves or leaves)
    whole = f"{node['position']} {label(node)}"
    written = f'<text class="faint" x="{_n(_PAD)}" y="{_n(_LINE)}">{_text(title)}</text>'
    block.put(0, 0, f'<g class="frame"><title>{_text(whole)}</title>{_rectangle(width, height, 6)}{written}</g>')
    block.put(0, 0, _arrow(block.axis, _TITLE, block.axis, _TITLE + _GAP / 2))
    block.put(_PAD + around / 2, _TITLE + _GAP / 2, body)
    if body.leaves:
        block.put(0, 0, _line(block.axis, _TITLE + _GAP / 2 + body.height, block.axis, height))
    return block


def _beside(blocks: Sequence[Block]) -> Block:
    whole = Block(width=0, height=max(block.height for block in blocks), axis=0)
    for n, block in enumerate(blocks):
        whole.width += _BESIDE if n else 0
        whole.put(whole.width, 0, block)
        whole.width += block.width
    whole.axis = whole.width / 2
    return whole


def _arrow(x: float, y: float, to_x: float, to_y: float) -> str:
    return _line(x, y, to_x, to_y) + _head(to_x, to_y)


def _line(x: float, y: float, to_x: float, to_y: float) -> str:
    return f'<path class="arrow" d="M{_n(x)} {_n(y)}L{_n(to_x)} {_n(to_y)}"/>'


def _elbow(x: float, y: float, to_x: float, to_y: float, word: str, *, has_head: bool) -> str:
    """Draw a way down, aside and down, with a word beside its last part."""
    half = (y + to_y) / 2
    path = f'<path class="arrow" d="M{_n(x)} {_n(y)}V{_n(half)}H{_n(to_x)}V{_n(to_y)}"/>'
    text = f'<text class="faint" x="{_n(to_x + 5)}" y="{_n(to_y - 3)}">{word}</text>'
    return path + text + (_head(to_x, to_y) if has_head else "")


def _join(x: float, y: float, to_x: float, to_y: float) -> str:
    half = to_y - _GAP / 2
    return f'<path class="arrow" d="M{_n(x)} {_n(y)}V{_n(half)}H{_n(to_x)}V{_n(to_y)}"/>'


def _head(x: float, y: float) -> str:
    return f'<path class="head" d="M{_n(x)} {_n(y)}l-4 -7h8z"/>'


def _rectangle(width: float, height: float, radius: float) -> str:
    return f'<rect width="{_n(width)}" height="{_n(height)}" rx="{_n(radius)}"/>'


def _written(block: Block, x: float, y: float) -> list[str]:
    found = []
    for dx, dy, part in block.parts:
        if isinstance(part, Block):
            found += _written(part, x + dx, y + dy)
        else:
            found.append(f'<g transform="translate({_n(x + dx)} {_n(y + dy)})">{part}</g>\n')
    return found


def _cut(text: str) -> str:
    return text if len(text) <= _LONGEST else text[: _LONGEST - 1] + "…"


def _text(text: str) -> str:
    return escape(escaped(text))


def _n(number: float) -> str:
    return f"{number:.1f}".removesuffix(".0")
