"""What the status of a definition says, as a function of the definition, its neighbours and the built-in kinds."""

from __future__ import annotations

from typing import Any

import pytest

from pinnace.apis.definition_schemas import structural_causes
from pinnace.apis.kind import Kind
from pinnace.apis.registry import registry
from pinnace.apiserver.customresources.conditions import status_for
from pinnace.machinery.meta import Obj
from tests.apiserver.custom import conditions, definition, version

NOW = "2024-01-01T00:00:00Z"


def status(given: Obj, *others: Obj, builtin: tuple[Kind, ...] = ()) -> Obj:
    violations = structural_causes(given["spec"])
    return {"status": status_for(given, others, builtin, violations, NOW)}


def named(plural: str, kind: str, **names: Any) -> Obj:
    given = definition(plural=plural, kind=kind)
    given["spec"]["names"] |= {"singular": kind.lower(), "listKind": f"{kind}List", **names}
    return given


def accepted(given: Obj) -> Obj:
    return {**given, "status": status(given)["status"]}


@pytest.mark.parametrize(
    ("given", "reason", "message"),
    [
        (named("as", "A"), "NoConflicts", "no conflicts found"),
        (named("as", "A", singular="bs"), "SingularConflict", '"bs" is already in use'),
        (
            named("as", "A", shortNames=["b", "bb"]),
            "ShortNamesConflict",
            '["b" is already in use, "bb" is already in use]',
        ),
        (named("as", "B", listKind="AList"), "KindConflict", '"B" is already in use'),
        (named("as", "A", listKind="BList"), "ListKindConflict", '"BList" is already in use'),
    ],
)
def test_names_of_the_same_group_are_given_once(given: Obj, reason: str, message: str) -> None:
    other = accepted(named("bs", "B", shortNames=["b", "bb"]))

    found = status(given, other)

    good = reason == "NoConflicts"
    assert conditions(found)["NamesAccepted"] == ("True" if good else "False", reason)
    assert found["status"]["conditions"][0]["message"] == message
    assert conditions(found)["Established"][0] == ("True" if good else "False")


def test_names_of_other_groups_do_not_matter() -> None:
    other = accepted({**named("as", "A"), "spec": {**named("as", "A")["spec"], "group": "other.example.com"}})

    assert conditions(status(named("as", "A"), other))["NamesAccepted"] == ("True", "NoConflicts")


def test_built_in_kinds_keep_their_names() -> None:
    given = named("ingresses", "Ingress")
    given["spec"]["group"] = "networking.k8s.io"

    assert conditions(status(given, builtin=tuple(registry().builtin)))["NamesAccepted"][0] == "False"


def test_an_established_definition_stays_so_with_the_names_it_has() -> None:
    mine = accepted(named("as", "A"))
    other = accepted(named("bs", "B", shortNames=["b"]))
    mine["spec"]["names"]["shortNames"] = ["b"]

    found = status(mine, other)

    assert conditions(found) == {
        "NamesAccepted": ("False", "ShortNamesConflict"),
        "Established": ("True", "InitialNamesAccepted"),
    }
    assert "shortNames" not in found["status"]["acceptedNames"]


def test_schemas_that_are_not_structural_are_told() -> None:
    broken = definition(version(schema={"type": "object", "properties": {"spec": {}}}))

    found = status(broken)
    mended = status({**definition(), "status": found["status"]})

    assert conditions(found)["NonStructuralSchema"] == ("True", "Violations")
    assert found["status"]["conditions"][-1]["message"] == (
        "spec.validation.openAPIV3Schema.properties[spec].type: Required value: must not be empty for specified object "
        "fields"
    )
    assert "NonStructuralSchema" not in conditions(mended)


@pytest.mark.parametrize(
    ("annotation", "expected"),
    [
        ("https://github.com/kubernetes/kubernetes/pull/1", ("True", "ApprovedAnnotation")),
        ("unapproved, testing", ("False", "UnapprovedAnnotation")),
        ("whatever", ("False", "InvalidAnnotation")),
        ("", ("False", "MissingAnnotation")),
    ],
)
def test_groups_of_the_project_say_whether_they_are_approved(annotation: str, expected: tuple[str, str]) -> None:
    given = definition(group="x.k8s.io")
    given["metadata"]["annotations"] = {"api-approved.kubernetes.io": annotation}

    assert conditions(status(given))["KubernetesAPIApprovalPolicyConformant"] == expected


def test_what_does_not_change_keeps_its_time() -> None:
    given = accepted(named("as", "A"))

    later = status_for(given, (), (), [], "2025-01-01T00:00:00Z")

    assert later == given["status"]
