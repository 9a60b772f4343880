"""What the documentation points to is there."""

from __future__ import annotations

import re
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parent.parent
PAGES = [*ROOT.glob("*.md"), *ROOT.glob("docs/*.md")]

_LINK = re.compile(r"\]\(([^)\s]+)\)")
_PATH = re.compile(r"`((?:bench|docs|examples|scripts|src|tests|tools)/[\w./-]+)`")
_HEADING = re.compile(r"^#+ +(.*)", re.MULTILINE)
_SOURCE = re.compile(r"`(\w+(?:/\w+)*\.py)`")


def anchors(page: Path) -> set[str]:
    """What headings are called in links, as GitHub makes it."""
    return {re.sub(r"[^\w\- ]", "", text.lower()).replace(" ", "-") for text in _HEADING.findall(page.read_text())}


@pytest.mark.parametrize("page", PAGES, ids=lambda page: page.name)
def test_every_link_leads_somewhere(page: Path) -> None:
    missing = []
    for target in _LINK.findall(page.read_text()):
        name, _, anchor = target.partition("#")
        there = page.parent / name if name else page
        if "://" not in target and not (there.exists() and (not anchor or anchor in anchors(there))):
            missing.append(target)
    assert missing == []


@pytest.mark.parametrize("page", PAGES, ids=lambda page: page.name)
def test_every_path_that_is_named_exists(page: Path) -> None:
    assert [path for path in _PATH.findall(page.read_text()) if not (ROOT / path).exists()] == []


def test_every_module_that_the_architecture_names_exists() -> None:
    text = (ROOT / "docs/architecture.md").read_text()
    modules = [f"/{path.relative_to(ROOT)}" for path in (*ROOT.glob("src/**/*.py"), *ROOT.glob("tools/*.py"))]
    assert [name for name in _SOURCE.findall(text) if not any(one.endswith(f"/{name}") for one in modules)] == []
