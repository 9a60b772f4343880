"""The status of a ValidatingAdmissionPolicy warns of expressions that do not fit the kinds it names."""

from __future__ import annotations

from typing import Any

import pytest

from pinnace.apis.builtin import NEWEST
from pinnace.apis.resources import VALIDATING_ADMISSION_POLICIES
from pinnace.controllers.validating_admission_policy import (
    Kinds,
    ValidatingAdmissionPolicyController,
    resources_named,
    status_of,
)
from pinnace.machinery.meta import GVR, Obj
from tests.client.fake_api import FakeApi
from tests.controllers.simulation import running

WIDGETS: Obj = {
    "metadata": {"name": "widgets.example.com"},
    "spec": {
        "group": "example.com",
        "names": {"plural": "widgets", "kind": "Widget"},
        "versions": [
            {
                "name": "v1",
                "served": True,
                "schema": {
                    "openAPIV3Schema": {
                        "type": "object",
                        "properties": {"spec": {"type": "object", "properties": {"size": {"type": "integer"}}}},
                    }
                },
            }
        ],
    },
}


def policy(*validations: Obj | str, group: str = "apps", resources: Any = ("deployments",), **spec: Any) -> Obj:
    checks = [one if isinstance(one, dict) else {"expression": one} for one in validations]
    rule = {"apiGroups": [group], "apiVersions": ["v1"], "operations": ["CREATE"], "resources": list(resources)}
    return {
        "apiVersion": "admissionregistration.k8s.io/v1",
        "kind": "ValidatingAdmissionPolicy",
        "metadata": {"name": "p", "generation": 3},
        "spec": {"matchConstraints": {"resourceRules": [rule]}, "validations": checks, **spec},
    }


def warnings(made: Obj) -> list[tuple[str, str]]:
    status = status_of(made, Kinds(NEWEST, [WIDGETS]))
    assert status["observedGeneration"] == 3
    return [(each["fieldRef"], each["warning"]) for each in status["typeChecking"].get("expressionWarnings") or ()]


@pytest.mark.parametrize(
    "made",
    [
        policy("object.spec.replicas > 1 && object.metadata.labels['a'] == 'b'"),
        policy("object.spec.template.spec.containers.all(c, c.image.startsWith('x'))"),
        policy(
            "has(object.spec.strategy.rollingUpdate.maxSurge) && object.spec.strategy.rollingUpdate.maxSurge == '5%'"
        ),
        policy("object.foo == 1", resources=["*"]),
        policy("object.foo == 1", resources=["deployments/scale"]),
        policy("object.spec.size > 1", group="example.com", resources=["widgets"]),
        policy("variables.n > 1", variables=[{"name": "n", "expression": "object.spec.replicas"}]),
        policy("params.data.x == 'y'", paramKind={"apiVersion": "v1", "kind": "ConfigMap"}),
    ],
)
def test_expressions_that_fit_give_no_warnings(made: Obj) -> None:
    assert warnings(made) == []


@pytest.mark.parametrize(
    ("made", "told"),
    [
        (
            policy("object.replicas > 1"),
            [
                (
                    "spec.validations[0].expression",
                    ("apps/v1, Kind=Deployment: ERROR: <input>:1:7: undefined field 'replicas'\n"
                    " | object.replicas > 1\n | ......^"),
                )
            ],
        ),
        (
            policy("object.spec.replicas > '1'", resources=["deployments", "replicasets"]),
            [
                (
                    "spec.validations[0].expression",
                    "\n".join(
                        f"apps/v1, Kind={kind}: ERROR: <input>:1:22: found no matching overload for '_>_' applied to "
                        "'(int, string)'\n | object.spec.replicas > '1'\n | .....................^"
                        for kind in ("Deployment", "ReplicaSet")
                    ),
                )
            ],
        ),
        (
            policy({"expression": "true", "messageExpression": "object.spec.size"}, group="example.com",
                   resources=["widgets"]),
            [],
        ),
        (
            policy({"expression": "true", "messageExpression": "object.spec.sise"}, group="example.com",
                   resources=["widgets"]),
            [
                (
                    "spec.validations[0].messageExpression",
                    ("example.com/v1, Kind=Widget: ERROR: <input>:1:12: undefined field 'sise'\n"
                    " | object.spec.sise\n | ...........^"),
                )
            ],
        ),
        (
            policy("params.date.x == 'y'", paramKind={"apiVersion": "v1", "kind": "ConfigMap"}),
            [
                (
                    "spec.validations[0].expression",
                    ("apps/v1, Kind=Deployment: ERROR: <input>:1:7: undefined field 'date'\n"
                    " | params.date.x == 'y'\n | ......^"),
                )
            ],
        ),
    ],
)  # fmt: skip
def test_expressions_that_do_not_fit_are_warned_of(made: Obj, told: list[tuple[str, str]]) -> None:
    assert warnings(made) == told


def test_resources_are_those_named_one_by_one() -> None:
    assert list(resources_named(policy(resources=["deployments", "deployments/status", "deployments"]))) == [
        GVR("apps", "v1", "deployments")
    ]


async def test_the_status_follows_the_policy() -> None:
    api = FakeApi()
    async with running(api, ValidatingAdmissionPolicyController):
        made = policy("object.replicas > 1")
        made["metadata"].pop("generation")
        await api.client.create(VALIDATING_ADMISSION_POLICIES, made)
        await api.until(lambda: "status" in (api.find(VALIDATING_ADMISSION_POLICIES, "p") or {}))
        found = api.find(VALIDATING_ADMISSION_POLICIES, "p")
        assert found is not None
        assert len(found["status"]["typeChecking"]["expressionWarnings"]) == 1
