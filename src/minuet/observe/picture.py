"""What pictures of runs have in common: the frame of an SVG, its style, its texts; and what Mermaid would misread.

Everything visible is said by classes; the style is embedded for files that stand alone, and left to the page otherwise.
No script, no style attribute, nothing from elsewhere: it is drawn as `observe.diagram` draws a plan.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Iterable, Sequence
from html import escape
from typing import Final, TypeVar

from minuet.observe.text import columns, cut, escaped

T = TypeVar("T")

LETTER: Final = 7.2  # width of a column at 12 px, in any monospaced font
PAD: Final = 10.0
TOP: Final = 48.0  # the title stands above
LONGEST: Final = 60  # columns of a text before it is cut; the whole is in its title
ROWS_MAX: Final = 500
"""Rows of a picture; of more, the first and the last are drawn, and how many are left out is said."""

STYLE: Final = """
svg.run { --ink: #1f2328; --faint: #59636e; --line: #818b98; --box: #ffffff; --step: #54aeff; --say: #fff8c5; \
--wait: #9a6700; --undo: #8250df; --bad: #cf222e; background: var(--box); }
@media (prefers-color-scheme: dark) { svg.run { --ink: #f0f6fc; --faint: #9198a1; --line: #656c76; --box: #0d1117; \
--step: #1f6feb; --say: #3b2e05; --wait: #d29922; --undo: #ab7df8; --bad: #ff7b72; } }
svg.run text { font: 12px ui-monospace, SFMono-Regular, Menlo, Consolas, monospace; fill: var(--ink); }
svg.run .heading { font-weight: bold; }
svg.run .middle { text-anchor: middle; }
svg.run text.faint, svg.run text.coming { fill: var(--faint); }
svg.run text.bad { fill: var(--bad); }
svg.run text.undone { fill: var(--undo); }
svg.run .line { fill: none; stroke: var(--line); }
svg.run .life { stroke: var(--line); stroke-dasharray: 2 4; }
svg.run .who rect { fill: var(--box); stroke: var(--line); }
svg.run .note rect { fill: var(--say); stroke: var(--line); }
svg.run .command, svg.run .start, svg.run .end { fill: none; stroke: var(--ink); }
svg.run .event, svg.run .mark { fill: none; stroke: var(--ink); stroke-dasharray: 6 3; }
svg.run .coming { fill: none; stroke: var(--faint); stroke-dasharray: 2 3; }
svg.run text.command, svg.run text.start, svg.run text.end, svg.run text.event, svg.run text.mark, \
svg.run text.coming { stroke: none; fill: var(--ink); }
svg.run text.coming { fill: var(--faint); }
svg.run .head { fill: var(--ink); }
svg.run .openhead { fill: none; stroke: var(--faint); }
svg.run .action rect { fill: var(--step); stroke: var(--line); }
svg.run .wait rect { fill: none; stroke: var(--wait); }
svg.run .wait path { stroke: var(--wait); }
svg.run .compensation rect { fill: none; stroke: var(--undo); stroke-width: 2; }
svg.run .parked rect { fill: none; stroke: var(--bad); stroke-width: 2; stroke-dasharray: 3 2; }
svg.run .grid { stroke: var(--line); stroke-dasharray: 1 5; }
"""


def document(title: str, told: str, width: float, height: float, parts: Iterable[str], *, is_alone: bool) -> str:
    """Give a whole picture; `told` says in words what it shows, for whoever cannot see it."""
    mark = hashlib.sha256(title.encode(errors="replace")).hexdigest()[:12]
    names = f'role="img" aria-labelledby="t{mark} d{mark}"'
    size = f'width="{n(width)}" height="{n(height)}" viewBox="0 0 {n(width)} {n(height)}"'
    return "".join(
        (
            f'<svg xmlns="http://www.w3.org/2000/svg" class="run" {names} {size}>\n',
            f'<title id="t{mark}">{text(title)}</title>\n<desc id="d{mark}">{text(told)}</desc>\n',
            f"<style>{STYLE}</style>\n" if is_alone else "",
            label(PAD, 20, cut(title, 2 * LONGEST), "heading"),
            *parts,
            "</svg>\n",
        )
    )


def heading(title: str) -> float:
    """Give how wide a picture must be for its title."""
    return columns(cut(title, 2 * LONGEST)) * LETTER + 3 * PAD


def label(x: float, y: float, said: str, kind: str = "", *, title: str = "") -> str:
    """Give a text with its baseline here."""
    whole = f"<title>{text(title)}</title>" if title else ""
    written = f'<text class="{kind}" x="{n(x)}" y="{n(y)}">{text(said)}</text>\n'
    return f"<g>{whole}{written}</g>\n" if title else written


def rectangle(x: float, y: float, width: float, height: float, radius: float = 2) -> str:
    """Give a rectangle with its corner here."""
    return f'<rect x="{n(x)}" y="{n(y)}" width="{n(width)}" height="{n(height)}" rx="{n(radius)}"/>'


def path(kind: str, way: str) -> str:
    """Give a way as SVG writes it."""
    return f'<path class="{kind}" d="{way}"/>\n'


def text(said: str) -> str:
    """Give text that cannot leave where it stands."""
    return escape(escaped(said))


def n(number: float) -> str:
    """Give a number as it is written in a picture."""
    return f"{number:.1f}".removesuffix(".0")


def entities(said: str) -> str:
    """Give text as Mermaid shows it anywhere: entities for all that it would take as its own."""
    return "".join(f"#{ord(c)};" if c in '#;:%"<>&`\\{}|' else c for c in escaped(said))


def quoted(said: str) -> str:
    """Give text as a string of the YAML in front of a Mermaid drawing."""
    return json.dumps(escaped(said), ensure_ascii=False)


def folded(rows: Sequence[T]) -> tuple[list[T], int]:
    """Give the rows that are drawn, and how many are left out."""
    if len(rows) <= ROWS_MAX:
        return list(rows), 0
    half = ROWS_MAX // 2
    return [*rows[:half], *rows[-half:]], len(rows) - 2 * half
