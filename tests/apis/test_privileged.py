"""Clusters that take no privileged containers."""

from __future__ import annotations

import pytest

from pinnace.apis.privileged import refusing_privileged
from pinnace.machinery.meta import Obj

SPEC: Obj = {
    "initContainers": [{"name": "a", "securityContext": {"privileged": True}}],
    "containers": [{"name": "b", "securityContext": {"privileged": False}}, {"name": "c"}],
}


@pytest.mark.parametrize(
    ("group", "kind", "obj", "path"),
    [
        ("", "Pod", {"spec": SPEC}, "spec"),
        ("apps", "Deployment", {"spec": {"template": {"spec": SPEC}}}, "spec.template.spec"),
        (
            "batch",
            "CronJob",
            {"spec": {"jobTemplate": {"spec": {"template": {"spec": SPEC}}}}},
            "spec.jobTemplate.spec.template.spec",
        ),
    ],
)
def test_privileged_containers_are_refused(group: str, kind: str, obj: Obj, path: str) -> None:
    validate = refusing_privileged(group, kind, lambda _: [])
    assert validate is not None
    (cause,) = validate(obj)
    assert cause.field == f"{path}.initContainers[0].securityContext.privileged"
    assert cause.message == "Forbidden: disallowed by cluster policy"


def test_other_kinds_are_judged_as_before() -> None:
    assert refusing_privileged("", "Service", None) is None
