"""Pictures of runs beside kept files, and what every picture promises. A missing file is written, and fails once."""

from __future__ import annotations

import re
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from xml.etree import ElementTree as ET

import pytest

from minuet.observe import picture
from minuet.observe.causes import causes_mermaid, causes_of, causes_svg, causes_text
from minuet.observe.sequence import sequence_of
from minuet.observe.sequence_drawing import sequence_mermaid, sequence_svg, sequence_text
from minuet.observe.text import columns, cut, span
from minuet.observe.timeline import timeline_of
from minuet.observe.timeline_drawing import timeline_mermaid, timeline_svg, timeline_text
from minuet.observe.traced import TracedFact, TracedRun, TracedWait
from minuet.plans.plan import Plan

from .classical import BEGUN, line, parallel, performed, planned
from .everything import everything

GOLDEN = Path(__file__).parent / "golden"
NOW = BEGUN + 4_000
Draw = Callable[[Plan, TracedRun], str]

TEXT: dict[str, Draw] = {
    "sequence": lambda plan, run: sequence_text(sequence_of(plan, run, NOW)),
    "timeline": lambda plan, run: timeline_text(timeline_of(plan, run, NOW)),
    "causes": lambda plan, run: causes_text(causes_of(plan, run, NOW)),
}
MERMAID: dict[str, Draw] = {
    "sequence": lambda plan, run: sequence_mermaid(sequence_of(plan, run, NOW)),
    "timeline": lambda plan, run: timeline_mermaid(timeline_of(plan, run, NOW)),
    "causes": lambda plan, run: causes_mermaid(causes_of(plan, run, NOW)),
}
SVG: dict[str, Draw] = {
    "sequence": lambda plan, run: sequence_svg(sequence_of(plan, run, NOW)),
    "timeline": lambda plan, run: timeline_svg(timeline_of(plan, run, NOW)),
    "causes": lambda plan, run: causes_svg(causes_of(plan, run, NOW)),
}
EMBEDDED: dict[str, Draw] = {
    "sequence": lambda plan, run: sequence_svg(sequence_of(plan, run, NOW), is_alone=False),
    "timeline": lambda plan, run: timeline_svg(timeline_of(plan, run, NOW), is_alone=False),
    "causes": lambda plan, run: causes_svg(causes_of(plan, run, NOW), is_alone=False),
}
KINDS = list(TEXT)
EACH_KIND = pytest.mark.parametrize("kind", KINDS)

REJECTED = performed(
    ("1", "ok"),
    ("2a", "ok"),
    ("2b", "rejected:no"),
    ("2a", "compensated"),
    ("1", "compensated"),
    state="compensated",
    code="no",
)
WAIT = TracedWait(
    position="2b",
    what="action",
    needs="inventory.reserve",
    owner="inventory",
    since_ms=BEGUN + 10,
    detail="attempt 2: ConnectionRefusedError",
)
GOING_ON = performed(("1", "ok"), ("2a", "ok"), waiting=[WAIT])
RUNS = {"rejected": REJECTED, "going-on": GOING_ON}


@EACH_KIND
@pytest.mark.parametrize("style", ["orchestration", "choreography"])
@pytest.mark.parametrize("run", RUNS)
def test_a_run_is_drawn_as_it_was(kind: str, style: str, run: str) -> None:
    plan = planned(parallel, style)
    for ending, draw in (("txt", TEXT), ("mmd", MERMAID), ("svg", SVG)):
        kept = GOLDEN / f"{kind}-{style}-{run}.{ending}"
        text = draw[kind](plan, RUNS[run])
        if not kept.exists():
            kept.write_text(text, encoding="utf-8")
            pytest.fail(f"{kept.name} was not there; read what was written, and keep it")
        assert text == kept.read_text(encoding="utf-8"), f"read {kept.name} anew: remove it, run this twice"


@EACH_KIND
def test_the_picture_is_sound_xml_with_a_title_and_a_description(kind: str) -> None:
    root = ET.fromstring(SVG[kind](planned(parallel, "choreography"), REJECTED))
    space = "{http://www.w3.org/2000/svg}"
    title, told = root.find(f"{space}title"), root.find(f"{space}desc")
    assert title is not None
    assert "38G63D4720000 of key o-1" in (title.text or "")
    assert told is not None
    assert "2b inventory.reserve" in (told.text or "")
    assert root.get("aria-labelledby") == f"{title.get('id')} {told.get('id')}"
    assert root.get("role") == "img"


@EACH_KIND
def test_the_picture_obeys_a_strict_policy_of_a_page(kind: str) -> None:
    plan = planned(parallel, "choreography")
    assert not re.search(r"\bstyle=|<style|<script|\bon\w+=|href=|url\(", EMBEDDED[kind](plan, REJECTED))
    assert SVG[kind](plan, REJECTED).count("<style>") == 1
    assert "prefers-color-scheme: dark" in SVG[kind](plan, REJECTED)


@EACH_KIND
@pytest.mark.parametrize("run", RUNS)
def test_nothing_is_drawn_outside_of_the_picture(kind: str, run: str) -> None:
    root = ET.fromstring(SVG[kind](planned(parallel, "orchestration"), RUNS[run]))
    width, height = float(root.get("width", "")), float(root.get("height", ""))
    for text in root.iter("{http://www.w3.org/2000/svg}text"):
        x, y = float(text.get("x", "")), float(text.get("y", ""))
        wide = columns(text.text or "") * picture.LETTER / (2 if "middle" in text.get("class", "") else 1)
        assert x >= 0
        assert x + wide <= width, text.text
        assert 0 < y <= height
    for box in root.iter("{http://www.w3.org/2000/svg}rect"):
        assert float(box.get("x", "")) + float(box.get("width", "")) <= width


@EACH_KIND
def test_what_a_key_or_an_error_holds_cannot_leave_it(kind: str) -> None:
    evil = '日本</text><script>alert("x")</script>\x1b[31m\u202e%%{init: {}}%%\nend\n#; grüße'
    wait = replace(WAIT, detail=evil, needs=evil)
    run = replace(GOING_ON, key=evil, waiting=[wait])
    plan = planned(parallel, "choreography")
    drawn = SVG[kind](plan, run)
    ET.fromstring(drawn)
    assert "<script" not in drawn
    told = MERMAID[kind](plan, run)
    _, title, body = re.split(r"^---\n", told, flags=re.MULTILINE)
    assert title.startswith('title: "')
    assert title.count("\n") == 1
    assert "%%{" not in body
    assert not re.search(r'<script|alert\("|^end$', body, re.MULTILINE)
    for text in (drawn, told, TEXT[kind](plan, run)):
        assert "\x1b" not in text
        assert "\u202e" not in text
        assert "日本" in text


@EACH_KIND
@pytest.mark.parametrize("width", [60, 80, 120])
def test_text_is_no_wider_than_the_terminal(kind: str, width: int) -> None:
    for style in ("orchestration", "choreography"):
        plan = planned(parallel, style)
        for run in RUNS.values():
            text = {
                "sequence": lambda p, r: sequence_text(sequence_of(p, r, NOW), width),
                "timeline": lambda p, r: timeline_text(timeline_of(p, r, NOW), width),
                "causes": lambda p, r: causes_text(causes_of(p, r, NOW), width),
            }[kind](plan, run)
            assert max(columns(row) for row in text.splitlines()) <= width


def test_many_participants_are_numbered_where_their_names_do_not_fit() -> None:
    first, head, *_ = sequence_text(sequence_of(planned(parallel, "choreography"), GOING_ON, NOW), 70).splitlines()
    assert first == "1 client, 2 orders, 3 payments, 4 inventory, 5 shipping"
    assert head.split() == ["AFTER", "WHAT", "1", "2", "3", "4", "5"]


@EACH_KIND
def test_a_run_that_has_only_begun_is_drawn_too(kind: str) -> None:
    run = performed()
    for draw in (TEXT, MERMAID, SVG):
        assert draw[kind](planned(line, "choreography"), run)


@EACH_KIND
def test_of_a_very_long_run_the_middle_is_left_out_and_that_is_said(kind: str) -> None:
    plan = planned(everything, "orchestration")
    rounds = [TracedFact(position="3.1b.1", round=str(n), label="ok", at_ms=BEGUN + n) for n in range(3_000)]
    before = [TracedFact(position=p, label="ok", at_ms=BEGUN) for p in ("1", "2")]
    run = replace(GOING_ON, facts=[*before, *rounds], waiting=[])
    for draw in (SVG, MERMAID):
        assert re.search(r"[\d]+ more are not drawn", draw[kind](plan, run))
        assert len(draw[kind](plan, run).splitlines()) < 4_000
    assert "3.1b.1[2999] inventory.reserve" in TEXT[kind](plan, run)


def test_causes_hang_where_the_last_one_was_and_name_the_others() -> None:
    causes = causes_of(planned(parallel, "choreography"), REJECTED, NOW)
    start = causes.roots[0]
    assert [c.text for c in start.effects] == ["1 orders.open ok"]
    opened = start.effects[0]
    assert [c.text for c in opened.effects] == ["2a payments.charge ok", "2b inventory.reserve rejected:no"]
    refund = opened.effects[1].effects[0]
    assert (refund.text, refund.also, refund.because) == (
        "2a payments.refund compensated",
        ("2a payments.charge ok",),
        (2, 3),
    )
    assert causes.count == 7


def test_a_cancellation_begins_a_tree_of_its_own() -> None:
    run = performed(("1", "ok"), ("$cancel", "requested"), ("2a", "rejected:cancelled"))
    roots = causes_of(planned(parallel, "orchestration"), run, NOW).roots
    assert [r.text for r in roots] == ["start", "cancel requested"]
    assert [c.text for c in roots[1].effects] == ["2a payments.charge rejected:cancelled"]


def test_a_bar_begins_when_the_last_of_its_causes_was_there() -> None:
    timeline = timeline_of(planned(parallel, "choreography"), REJECTED, NOW)
    assert [(r.name, [(b.kind, b.from_ms, b.to_ms, b.text) for b in r.bars]) for r in timeline.rows] == [
        ("1 orders.open", [("action", 0, 10, "ok"), ("compensation", 40, 50, "orders.cancel")]),
        ("2a payments.charge", [("action", 10, 20, "ok"), ("compensation", 30, 40, "payments.refund")]),
        ("2b inventory.reserve", [("action", 10, 30, "rejected:no")]),
    ]
    assert timeline.length_ms == 50


def test_what_goes_on_is_an_open_bar_until_now() -> None:
    timeline = timeline_of(planned(parallel, "orchestration"), GOING_ON, NOW)
    bar = timeline.rows[-1].bars[0]
    assert (bar.kind, bar.from_ms, bar.to_ms) == ("action", 10, None)
    assert bar.text == "running, attempt 2: ConnectionRefusedError"
    assert timeline.length_ms == 4_000
    parked = replace(GOING_ON, waiting=[replace(WAIT, what="person", detail="parked after 10 attempts")])
    assert timeline_of(planned(parallel, "orchestration"), parked, NOW).rows[-1].bars[0].kind == "parked"


def test_waits_and_timers_are_hatched() -> None:
    plan = planned(everything, "orchestration")
    position = next(r.position for r in plan.rules if r.kind == "wait")
    wait = replace(WAIT, position=position, round="0", what="event", needs="carrier.picked-up o-1", until_ms=NOW + 1)
    run = performed(waiting=[wait])
    timeline = timeline_of(plan, run, NOW)
    assert timeline.rows[-1].bars[0].kind == "wait"
    assert timeline.rows[-1].bars[0].text.startswith("awaited, attempt 2: ConnectionRefusedError, until +4 s")
    assert "░" in timeline_text(timeline)
    assert '<g class="wait">' in timeline_svg(timeline)


def test_lengths_of_time_are_told_in_two_units_at_most() -> None:
    told = [span(ms) for ms in (-5, 0, 41, 1_250, 59_999, 60_000, 125_000, 3_600_000, 5_400_000, 14 * 86_400_000)]
    assert told == ["0 ms", "0 ms", "41 ms", "1.2 s", "59.9 s", "1 min", "2 min 5 s", "1 h", "1 h 30 min", "14 d"]


def test_text_is_cut_by_columns_and_says_so() -> None:
    assert cut("short", 5) == "short"
    assert cut("日本語", 5) == "日本…"
    assert cut("longer", 5) == "long…"
