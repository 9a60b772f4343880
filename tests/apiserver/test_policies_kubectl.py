"""What `kubectl` shows of policies: their refusals and warnings, their columns, and what is explained of them."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from tests.apiserver.conftest import Cluster
from tests.apiserver.test_kubectl import KUBECTL, kubeconfig, kubectl
from tests.apiserver.test_policies import binding, deployment, policy, rule

__all__ = ["kubeconfig"]  # a fixture

pytestmark = pytest.mark.skipif(not KUBECTL, reason="needs kubectl")

POLICY = """
apiVersion: admissionregistration.k8s.io/v1
kind: ValidatingAdmissionPolicy
metadata:
  name: demo-policy.example.com
spec:
  failurePolicy: Fail
  matchConstraints:
    resourceRules:
    - apiGroups:   ["apps"]
      apiVersions: ["v1"]
      operations:  ["CREATE", "UPDATE"]
      resources:   ["deployments"]
  validations:
    - expression: "object.spec.replicas <= 5"
"""
BINDING = """
apiVersion: admissionregistration.k8s.io/v1
kind: ValidatingAdmissionPolicyBinding
metadata:
  name: demo-binding-test.example.com
spec:
  policyName: demo-policy.example.com
  validationActions: [ACTION]
"""


async def test_the_example_of_the_documentation(cluster: Cluster, kubeconfig: Path) -> None:
    """https://kubernetes.io/docs/reference/access-authn-authz/validating-admission-policy/#getting-started-with-validating-admission-policy."""
    assert "demo-policy.example.com created" in await kubectl(kubeconfig, "apply", "-f", "-", stdin=POLICY)
    await kubectl(kubeconfig, "apply", "-f", "-", stdin=BINDING.replace("ACTION", "Deny"))
    big = json.dumps(deployment("big", 9))

    refused = await kubectl(kubeconfig, "apply", "-f", "-", stdin=big, fails=True)
    scaled = await kubectl(kubeconfig, "create", "-f", "-", stdin=json.dumps(deployment("small", 2)))
    listed = await kubectl(kubeconfig, "get", "validatingadmissionpolicies,validatingadmissionpolicybindings")

    assert refused.strip().endswith(
        "ValidatingAdmissionPolicy 'demo-policy.example.com' with binding 'demo-binding-test.example.com' denied "
        "request: failed expression: object.spec.replicas <= 5"
    )
    assert 'The deployments "big" is invalid: : ValidatingAdmissionPolicy' in refused
    assert "deployment.apps/small created" in scaled
    assert [line.split()[:3] for line in listed.splitlines() if "demo" in line] == [
        ["validatingadmissionpolicy.admissionregistration.k8s.io/demo-policy.example.com", "1", "<unset>"],
        [
            "validatingadmissionpolicybinding.admissionregistration.k8s.io/demo-binding-test.example.com",
            "demo-policy.example.com",
            "<unset>",
        ],
    ]


async def test_warnings_are_printed(cluster: Cluster, kubeconfig: Path) -> None:
    await kubectl(kubeconfig, "apply", "-f", "-", stdin=POLICY)
    await kubectl(kubeconfig, "apply", "-f", "-", stdin=BINDING.replace("ACTION", "Warn"))

    said = await kubectl(kubeconfig, "apply", "-f", "-", stdin=json.dumps(deployment("big", 9)))

    assert (
        "Warning: Validation failed for ValidatingAdmissionPolicy 'demo-policy.example.com' with binding "
        "'demo-binding-test.example.com': failed expression: object.spec.replicas <= 5"
    ) in said
    assert "deployment.apps/big created" in said


async def test_a_policy_that_does_not_compile_is_shown_its_place(cluster: Cluster, kubeconfig: Path) -> None:
    said = await kubectl(
        kubeconfig, "apply", "-f", "-", stdin=POLICY.replace("replicas <= 5", "replicas <= '5' + 1"), fails=True
    )

    assert (
        'The ValidatingAdmissionPolicy "demo-policy.example.com" is invalid: spec.validations[0].expression: '
        "Invalid value: \"object.spec.replicas <= '5' + 1\": compilation failed: ERROR: <input>:1:29: found no "
        "matching overload for '_+_' applied to '(string, int)'"
    ) in said
    assert " | object.spec.replicas <= '5' + 1\n | ............................^" in said


async def test_objects_are_changed_on_their_way(cluster: Cluster, kubeconfig: Path) -> None:
    change = {
        "patchType": "ApplyConfiguration",
        "applyConfiguration": {"expression": "Object{metadata: Object.metadata{labels: {'team': 'red'}}}"},
    }
    on_deployments = {"resourceRules": [rule("apps", "deployments")]}
    made = policy("m", kind="Mutating", mutations=[change], reinvocationPolicy="Never", matchConstraints=on_deployments)
    for each in (made, binding("m", "m", "Mutating"), deployment("a")):
        await kubectl(kubeconfig, "apply", "-f", "-", stdin=json.dumps(each))

    again = await kubectl(kubeconfig, "apply", "-f", "-", stdin=json.dumps(deployment("a")))
    labels = await kubectl(kubeconfig, "get", "deployment", "a", "-o", "jsonpath={.metadata.labels}")

    assert "deployment.apps/a unchanged" in again
    assert json.loads(labels) == {"team": "red"}
