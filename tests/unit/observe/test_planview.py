"""Plans as text, Mermaid and SVG, beside kept files. A missing file is written, and fails: a person reads it first."""

from __future__ import annotations

import re
from dataclasses import replace
from pathlib import Path
from xml.etree import ElementTree as ET

import pytest

from minuet.observe.diagram import svg
from minuet.observe.mermaid import mermaid
from minuet.observe.planview import Line, lines
from minuet.observe.text import columns, escaped
from minuet.plans.plan import Plan, load_plan, make_plan

from .everything import deliver, everything

GOLDEN = Path(__file__).parent / "golden"


def drawn(plan: Plan) -> Plan:
    """Give a plan as any reader has it, under a digest that does not change with the compiler."""
    return replace(load_plan(plan.to_json()), digest="0123456789abcdef")


PLAN = drawn(make_plan(everything.tree))


def as_text(plan: Plan) -> str:
    def told(line: Line) -> str:
        place = line.place.rpartition("/")[2]
        cells = (line.position, "  " * line.depth + line.what, line.undo, line.notes, line.waits_for, place)
        return " | ".join(cells).rstrip(" |")

    return "\n".join(map(told, lines(plan))) + "\n"


@pytest.mark.parametrize(
    ("name", "text"),
    [("everything.txt", as_text(PLAN)), ("everything.mmd", mermaid(PLAN)), ("everything.svg", svg(PLAN))],
)
def test_a_plan_is_shown_as_it_was(name: str, text: str) -> None:
    kept = GOLDEN / name
    if not kept.exists():
        kept.write_text(text, encoding="utf-8")
        pytest.fail(f"{name} was not there; read what was written, and keep it")
    assert text == kept.read_text(encoding="utf-8"), f"read {name} anew: remove it, run this twice"


def test_each_position_is_shown_once_in_every_form() -> None:
    positions = [line.position for line in lines(PLAN) if line.position]
    assert len(positions) == len(set(positions))
    assert set(positions) == set(PLAN.places)
    for position in positions:
        assert f'"{position} ' in mermaid(PLAN)
        assert f"<title>{position} " in svg(PLAN)


def test_what_is_never_reached_is_drawn_all_the_same() -> None:
    assert "return" in mermaid(drawn(make_plan(deliver.tree)))


def test_the_picture_is_sound_xml_with_a_title_and_a_description() -> None:
    root = ET.fromstring(svg(PLAN))
    space = "{http://www.w3.org/2000/svg}"
    title, description = root.find(f"{space}title"), root.find(f"{space}desc")
    assert title is not None
    assert title.text == "Workflow everything@01234567"
    assert description is not None
    assert "payments.charge" in (description.text or "")
    assert root.get("aria-labelledby") == f"{title.get('id')} {description.get('id')}"
    assert root.get("role") == "img"


def test_the_picture_obeys_a_strict_policy_of_a_page() -> None:
    embedded = svg(PLAN, is_alone=False)
    assert not re.search(r"\bstyle=|<style|<script|\bon\w+=|href=|url\(", embedded)
    assert svg(PLAN).count("<style>") == 1


def test_nothing_is_drawn_outside_of_the_picture() -> None:
    root = ET.fromstring(svg(PLAN))
    width, height = float(root.get("width", "")), float(root.get("height", ""))
    for group in root.iter("{http://www.w3.org/2000/svg}g"):
        if (moved := re.fullmatch(r"translate\(([\d.]+) ([\d.]+)\)", group.get("transform", ""))) is None:
            continue
        x, y = float(moved[1]), float(moved[2])
        assert 0 <= x <= width
        assert 0 <= y <= height
        for rectangle in group.iter("{http://www.w3.org/2000/svg}rect"):
            assert x + float(rectangle.get("width", "")) <= width
            assert y + float(rectangle.get("height", "")) <= height


def test_what_a_text_holds_cannot_leave_it() -> None:
    body = {"node": "Reject", "position": "1", "code": "no", "message": '</text><script>"]\n#`x`'}
    plan = replace(PLAN, body={"node": "Seq", "parts": [body]}, workflow='w"<')
    assert "<script" not in svg(plan)
    ET.fromstring(svg(plan))
    assert '#quot;]\\n#35;#96;x#96;"' in mermaid(plan)
    assert 'title: "w\\"<@01234567"' in mermaid(plan)


def test_a_deep_workflow_is_drawn() -> None:
    body: dict[str, object] = {"node": "Seq", "parts": []}
    for depth in range(60):
        body = {"node": "Section", "position": str(depth), "style": "orchestration", "by": None, "body": body}
    deep = replace(PLAN, body=body)
    assert svg(deep).count('class="frame"') == 60
    assert mermaid(deep).count("subgraph") == 60


def test_text_is_measured_and_escaped_as_a_terminal_shows_it() -> None:
    assert (columns("abc"), columns("日本"), columns("e\u0301")) == (3, 4, 1)
    assert escaped("a\x1b[31m\r\n\u202eb\u009b\ud800") == "a\\x1b[31m\\r\\n\\u202eb\\x9b\\ud800"
    assert escaped("grüße 日本 🎵") == "grüße 日本 🎵"
