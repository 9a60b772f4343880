"""Which pods the node takes."""

from __future__ import annotations

import pytest

from pinnace.kubelet.admission import rules
from tests.kubelet.pods import pod

NODE = {
    "metadata": {"name": "n1", "labels": {"disk": "ssd", "size": "5"}},
    "spec": {"taints": [{"key": "dead", "effect": "NoExecute"}]},
    "status": {"allocatable": {"cpu": "2", "memory": "1Gi", "pods": "2"}},
}


TOLERATES = [{"operator": "Exists"}]


def affinity(operator, key="size", values=("3",)):
    term = {"matchExpressions": [{"key": key, "operator": operator, "values": list(values)}]}
    required = {"requiredDuringSchedulingIgnoredDuringExecution": {"nodeSelectorTerms": [term]}}
    return {"affinity": {"nodeAffinity": required}, "tolerations": TOLERATES}


def ports(number):
    one = pod(tolerations=TOLERATES)
    one["spec"]["containers"][0]["ports"] = [{"hostPort": number, "containerPort": number}]
    return one


@pytest.mark.parametrize(
    ("wanted", "others", "reason"),
    [
        (pod(tolerations=TOLERATES), [], None),
        (pod(), [], "TaintToleration"),
        (pod({"requests": {"cpu": "3"}}, tolerations=TOLERATES), [], "OutOfcpu"),
        (pod({"requests": {"cpu": "1"}}, tolerations=TOLERATES), [pod({"requests": {"cpu": "1500m"}})], "OutOfcpu"),
        (pod({"requests": {"example.com/gpu": "1"}}, tolerations=TOLERATES), [], "OutOfexample.com/gpu"),
        (pod(tolerations=TOLERATES), [pod(), pod()], "OutOfpods"),
        (pod(tolerations=TOLERATES, nodeSelector={"disk": "hdd"}), [], "NodeAffinity"),
        (pod(**affinity("Gt")), [], None),
        (pod(**affinity("Lt")), [], "NodeAffinity"),
        (pod(**affinity("NotIn", "disk", ("ssd",))), [], "NodeAffinity"),
        (ports(80), [ports(81)], None),
        (ports(80), [ports(80)], "NodePorts"),
    ],
)
def test_admission(wanted, others, reason):
    found = rules.admit(wanted, others, NODE)
    assert (found.reason if found else None) == reason


def test_admission_message():
    found = rules.admit(pod({"requests": {"cpu": "3"}}), [], NODE)
    assert found.message == (
        "Pod was rejected: Node didn't have enough resource: cpu, requested: 3000, used: 0, capacity: 2000"
    )
