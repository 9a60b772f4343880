"""Access reviews: what they must say, and how the selectors in them read."""

from __future__ import annotations

import pytest

from pinnace.apis.authorization import selectors_of, validate_access_review
from pinnace.machinery.meta import Obj

PODS: Obj = {"verb": "list", "resource": "pods"}
SUBJECT, SELF, LOCAL = "SubjectAccessReview", "SelfSubjectAccessReview", "LocalSubjectAccessReview"
AT = "spec.resourceAttributes"
EITHER = "exactly one of nonResourceAttributes or resourceAttributes must be specified"


def asked(**more: Obj) -> Obj:
    return {"spec": {"user": "x", "resourceAttributes": {**PODS, **more}}}


def one(**requirement: object) -> Obj:
    return {"requirements": [requirement]}


@pytest.mark.parametrize(
    ("kind", "review", "problems"),
    [
        (SUBJECT, asked(), []),
        (SUBJECT, {"metadata": {"creationTimestamp": None, "managedFields": [{}]}, **asked()}, []),
        (SELF, {"spec": {"nonResourceAttributes": {"path": "/", "verb": "get"}}}, []),
        (SELF, {"spec": {}}, [f'{AT}: Invalid value: "null": {EITHER}']),
        (
            SUBJECT,
            {"spec": {"resourceAttributes": PODS}},
            ['spec.user: Invalid value: "": at least one of user or group must be specified'],
        ),
        (
            SELF,
            {"spec": {"resourceAttributes": PODS, "nonResourceAttributes": {"path": "/"}}},
            [('spec.nonResourceAttributes: Invalid value: {"path":"/"}: '
             "cannot be specified in combination with resourceAttributes")],
        ),
        (SUBJECT, {"metadata": {"name": "a"}, **asked()}, ['metadata: Invalid value: {"name":"a"}: must be empty']),
        (
            LOCAL,
            {"metadata": {"namespace": "a"}, "spec": {"user": "x", "resourceAttributes": {**PODS, "namespace": "b"}}},
            [f'{AT}.namespace: Invalid value: "b": must match metadata.namespace'],
        ),
        (
            LOCAL,
            {"metadata": {"namespace": "a"}, "spec": {"user": "x", "nonResourceAttributes": {}}},
            ["spec.nonResourceAttributes: Invalid value: {}: disallowed on this kind of request"],
        ),
        (
            SUBJECT,
            asked(fieldSelector={"rawSelector": "foo", **one(key="a", operator="Exists")}),
            [(f'{AT}.fieldSelector.rawSelector: Invalid value: "foo": '
             "may not specified at the same time as requirements")],
        ),
        (
            SELF,
            asked(fieldSelector={}),
            [(f"{AT}.fieldSelector.requirements: Required value: "
             f"when {AT}.fieldSelector is specified, requirements or rawSelector is required")],
        ),
        (
            SUBJECT,
            asked(fieldSelector=one(key="", operator="In")),
            [f"{AT}.fieldSelector.requirements[0].key: Required value: must be specified",
             (f"{AT}.fieldSelector.requirements[0].values: Required value: "
             "must be specified when `operator` is 'In' or 'NotIn'")],
        ),
        (
            SUBJECT,
            asked(labelSelector=one(key="a", operator="DoesNotExist", values=["b"])),
            [(f"{AT}.labelSelector.requirements[0].values: Forbidden: "
             "may not be specified when `operator` is 'Exists' or 'DoesNotExist'")],
        ),
        (SUBJECT, asked(fieldSelector=one(key="a b", operator="Like")), []),
        (SUBJECT, asked(labelSelector=one(key="a", operator="Like")), []),
    ],
)  # fmt: skip
def test_what_a_review_must_say(kind: str, review: Obj, problems: list[str]) -> None:
    causes = validate_access_review(kind, review)

    assert [f"{cause.field}: {cause.message}" for cause in causes] == problems


def test_keys_and_values_of_labels_are_looked_at() -> None:
    causes = validate_access_review(SUBJECT, asked(labelSelector=one(key="a b", operator="In", values=["c d"])))

    where = f"{AT}.labelSelector.requirements[0]"
    assert [cause.field for cause in causes] == [f"{where}.key", f"{where}.values[0]"]


@pytest.mark.parametrize(
    ("fields", "labels", "found"),
    [
        (None, None, ("", "")),
        ({"rawSelector": "a=b"}, {"rawSelector": "c"}, ("a=b", "c")),
        (one(key="a", operator="In", values=["b,c"]), one(key="a", operator="Exists"), ("a=b\\,c", "a")),
        (one(key="a", operator="NotIn", values=["b"]), one(key="a", operator="DoesNotExist"), ("a!=b", "!a")),
        (one(key="a", operator="In", values=["b", "c"]), one(key="a", operator="In", values=["b", "c"]),
         ("", "a in (b,c)")),
        (one(key="a", operator="Exists"), one(key="a", operator="NotIn", values=["b"]), ("", "a notin (b)")),
        (one(key="a", operator="Like"), one(key="a", operator="Like"), ("", "")),
    ],
)  # fmt: skip
def test_selectors_read_as_in_a_request(fields: Obj | None, labels: Obj | None, found: tuple[str, str]) -> None:
    assert selectors_of({"fieldSelector": fields, "labelSelector": labels}) == found
