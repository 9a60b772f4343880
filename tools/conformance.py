"""Write docs/conformance.md: which test covers which behaviour that Kubernetes' conformance suite demands.

The behaviours are in tests/conformance.yaml. A test covers one by naming it in its docstring, or in that of its class
or module: `Conformance: "NAME", "NAME"`.

    tools/conformance.py            write the table
    tools/conformance.py --check    exit 1 where it is old, or a test names what there is not
"""

from __future__ import annotations

import argparse
import ast
import re
import sys
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import yaml

ROOT = Path(__file__).parent.parent
OUTPUT = ROOT / "docs/conformance.md"
_LIST = re.compile(r"Conformance:\s*(?:§\d+§|\"[^\"]*\")(?:[,;]?\s*(?:and\s+)?(?:§\d+§|\"[^\"]*\"))*")


@dataclass(frozen=True, slots=True)
class Behaviour:
    area: str
    since: str  # the release whose suite demanded it first
    name: str


def behaviours() -> list[Behaviour]:
    """All of them, in the order of the file."""
    areas = yaml.safe_load((ROOT / "tests/conformance.yaml").read_text())
    return [Behaviour(area, since, name) for area, listed in areas.items() for since, name in listed]


def named(docstring: str, names: list[str]) -> tuple[list[str], list[str]]:
    """The known names that a docstring says it covers, and what else it calls one."""
    text = " ".join(docstring.split())
    for number, name in enumerate(names):
        text = text.replace(f'"{" ".join(name.split())}"', f"§{number}§")
    known: list[str] = []
    unknown: list[str] = []
    for found in _LIST.findall(text):
        known += [names[int(number)] for number in re.findall(r"§(\d+)§", found)]
        unknown += re.findall(r'"([^"]*)"', found)
    return known, unknown


def docstrings(file: Path) -> Iterator[str]:
    tree = ast.parse(file.read_text())
    for node in ast.walk(tree):
        if isinstance(node, ast.Module | ast.ClassDef | ast.FunctionDef | ast.AsyncFunctionDef):
            text = ast.get_docstring(node)
            if text and "Conformance:" in text:
                yield text


def coverage() -> tuple[dict[str, list[str]], list[str]]:
    """The test files by behaviour, and complaints about names that no behaviour has."""
    names = sorted({one.name for one in behaviours()}, key=len, reverse=True)
    found: dict[str, list[str]] = {}
    complaints: list[str] = []
    for file in sorted((ROOT / "tests").rglob("test_*.py")):
        path = str(file.relative_to(ROOT))
        for text in docstrings(file):
            known, unknown = named(text, names)
            complaints += [f'{path}: no behaviour is called "{name}"' for name in unknown]
            for name in known:
                files = found.setdefault(name, [])
                if path not in files:
                    files.append(path)
    return found, complaints


def table() -> str:
    """The whole page."""
    found, _ = coverage()
    listed = behaviours()
    areas = list(dict.fromkeys(one.area for one in listed))
    lines = [
        "# Conformance",
        "",
        "What the conformance suite of the Kubernetes project demands, up to v1.37, and the test here that covers it.",
        "Written by `tools/conformance.py` from the tests' docstrings.",
        "",
        "| area | behaviours | covered by name |",
        "|---|---|---|",
    ]
    for area in areas:
        mine = [one for one in listed if one.area == area]
        lines.append(f"| [{area}](#{area}) | {len(mine)} | {sum(one.name in found for one in mine)} |")
    for area in areas:
        lines += ["", f"## {area}", "", "| behaviour | since | test |", "|---|---|---|"]
        for one in listed:
            if one.area == area:
                tests = ", ".join(f"[{Path(path).stem}](../{path})" for path in found.get(one.name, ()))
                lines.append(f"| {one.name} | {one.since} | {tests or '-'} |")
    return "\n".join(lines) + "\n"


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--check", action="store_true")
    check = parser.parse_args().check
    _, complaints = coverage()
    for complaint in complaints:
        sys.stderr.write(f"{complaint}\n")
    if not check:
        OUTPUT.write_text(table())
    elif not OUTPUT.exists() or OUTPUT.read_text() != table():
        sys.stderr.write("docs/conformance.md is old: run tools/conformance.py\n")
        return 1
    return 1 if complaints else 0


if __name__ == "__main__":
    sys.exit(main())
