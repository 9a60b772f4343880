"""Every behaviour that a test names is one, and those of the API itself are all named by some test."""

from __future__ import annotations

import pytest

from tools.conformance import behaviours, coverage, named

COMPLETE = ("apimachinery", "architecture", "instrumentation", "kubectl", "scheduling")
"""Areas in which every behaviour must be named."""


def test_names_are_those_of_behaviours() -> None:
    assert coverage()[1] == []


@pytest.mark.parametrize("area", COMPLETE)
def test_an_area_is_covered(area: str) -> None:
    found, _ = coverage()
    assert [one.name for one in behaviours() if one.area == area and one.name not in found] == []


def test_names_are_read_over_lines_and_beside_other_words() -> None:
    names = ["Watch, all", 'The "empty" one', "Other"]
    text = 'Two.\n\nConformance: "Watch,\n    all", "The "empty" one" (a part), "no name of a list"; "Other".\n'
    assert named(text, names) == (["Watch, all", 'The "empty" one'], [])
    assert named('Conformance: "Nothing", "Other"', names) == (["Other"], ["Nothing"])
