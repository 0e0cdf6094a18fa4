"""The pages are true to the code: generated parts are fresh, links lead somewhere, what is named is there."""

from __future__ import annotations

import re
import subprocess
import sys
from pathlib import Path

import pytest

from tests.architecture.source import PACKAGE

ROOT = PACKAGE.parent.parent
PAGES = [*sorted(ROOT.glob("*.md")), *sorted((ROOT / "docs").rglob("*.md"))]
CODE = re.compile(r"^ *```.*?^ *```$", re.DOTALL | re.MULTILINE)
LINK = re.compile(r"\[[^\]\n]+\]\(([^)\s]+)\)")
NAMED_TEST = re.compile(r"`(test_[a-z0-9_]+)`")
NAMED_FILE = re.compile(r"`((?:src|tests|benchmarks|examples|scripts|docs)/[\w./-]+)`")


def test_generated_parts_are_what_the_code_says() -> None:
    command = [sys.executable, str(ROOT / "scripts" / "docs.py"), "--check"]
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr


def test_each_file_of_the_package_is_on_the_map() -> None:
    shown = (ROOT / "ARCHITECTURE.md").read_text(encoding="utf-8").split("generated: layout")[1].split("<!-- end")[0]
    for path in PACKAGE.rglob("*.py"):
        if "__pycache__" not in path.parts and path.name != "__init__.py" and "templates" not in path.parts:
            assert re.search(rf"^ +{re.escape(path.name)}\b", shown, re.MULTILINE), f"{path.name}: run make docs"


@pytest.mark.parametrize("page", PAGES, ids=lambda p: str(p.relative_to(ROOT)))
def test_links_lead_somewhere(page: Path) -> None:
    text = CODE.sub("", page.read_text(encoding="utf-8"))
    for target in LINK.findall(text):
        if "://" in target:
            continue
        name, _, anchor = target.partition("#")
        path = (page.parent / name).resolve() if name else page
        assert path.exists(), f"{target} is not there"
        if anchor:
            assert anchor in anchors(path), f"{path.name} has no heading for #{anchor}"


def test_a_link_to_nowhere_would_be_noticed(tmp_path: Path) -> None:
    page = tmp_path / "page.md"
    page.write_text("# One thing\n\n[here](#one-thing) [there](other.md)\n")
    with pytest.raises(AssertionError, match="is not there"):
        test_links_lead_somewhere(page)


def test_each_test_that_a_page_names_is_there() -> None:
    files = [*(ROOT / "tests").rglob("*.py"), *(PACKAGE / "testing").rglob("*.py")]
    known = {name for file in files for name in re.findall(r"def (test_\w+)\(", file.read_text(encoding="utf-8"))}
    for page in PAGES:
        if page.name != "CONVENTIONS.md":  # whose names are examples
            missing = set(NAMED_TEST.findall(page.read_text(encoding="utf-8"))) - known
            assert not missing, f"{page.relative_to(ROOT)} names {', '.join(sorted(missing))}"


def test_each_file_that_a_page_names_is_there() -> None:
    for page in PAGES:
        if page.name == "CONTRIBUTING.md":  # which says where something new would go
            continue
        for name in NAMED_FILE.findall(page.read_text(encoding="utf-8")):
            assert (ROOT / name).exists(), f"{page.relative_to(ROOT)} names {name}"


def anchors(page: Path) -> set[str]:
    """Give the anchors of a page's headings, as GitHub makes them."""
    found = set()
    for heading in re.findall(r"^#+ (.+)$", CODE.sub("", page.read_text(encoding="utf-8")), re.MULTILINE):
        plain = re.sub(r"\[([^\]]*)\]\([^)]*\)", r"\1", heading).lower()
        found.add(re.sub(r"[^\w\- ]", "", plain).replace(" ", "-"))
    return found
