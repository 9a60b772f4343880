"""The examples work as they are told: their tests pass, and the documentation shows them as they are."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]


@pytest.mark.parametrize("example", ["kopf"])
def test_an_example_passes_its_own_tests(example: str) -> None:
    words = [sys.executable, "-m", "pytest", "-q", "-p", "no:cacheprovider", f"examples/{example}"]
    ran = subprocess.run(words, cwd=ROOT, capture_output=True, text=True, timeout=300, check=False)
    assert ran.returncode == 0, ran.stdout + ran.stderr


@pytest.mark.parametrize("file", ["kopf/websites.py", "kopf/test_websites.py"])
def test_the_guide_shows_the_example(file: str) -> None:
    assert (ROOT / "examples" / file).read_text() in (ROOT / "docs/testing.md").read_text()
