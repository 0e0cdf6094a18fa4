"""The facts of a trace in the order in which they came about, however they were heard."""

from __future__ import annotations

from collections.abc import Iterable

from minuet.engine.program import START_POSITION, Program
from minuet.engine.row import FactRow
from minuet.ids import parse_round

_Place = tuple[tuple[int, int], ...]


def in_order(program: Program, facts: Iterable[FactRow]) -> list[FactRow]:
    """Give facts by when they came about, numbered from 1, without the start.

    Those of one millisecond follow the text, round by round; what was taken back comes behind them, last first.
    """
    scopes = {r.position: r.scope for r in reversed(program.rules)}
    begins: dict[int, int] = {}
    ends: dict[str, int] = {}
    for n, rule in enumerate(program.rules):
        for block in rule.scope:
            begins.setdefault(block, n)
            ends[program.blocks[block].position] = n

    def place(f: FactRow) -> tuple[int, bool, _Place]:
        position = f.position.removesuffix("!")
        round_ = parse_round(f.round)
        # A block has ended when all of it has, so it stands behind its last rule.
        own = ends.get(position, program.order.get(position, 0))
        inside = zip((begins[block] for block in scopes.get(position, ())), round_, strict=False)
        path: _Place = (*inside, (own, len(program.rules) if position in ends else -1))
        if f.label == "compensated":
            return f.at_ms, True, tuple((-n, -i) for n, i in path)
        return f.at_ms, False, path

    ordered = sorted((f for f in facts if f.position != START_POSITION), key=place)
    return [f._replace(seq=n) for n, f in enumerate(ordered, 1)]
