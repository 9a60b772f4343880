"""What the downward API tells containers, in files and in variables."""

from __future__ import annotations

import pytest

from tests.e2e.conftest import Cluster
from tests.e2e.pods import Obj
from tests.e2e.tables import Row, surprises

pytestmark = [pytest.mark.e2e, pytest.mark.root]

RESOURCES: Obj = {"requests": {"cpu": "250m", "memory": "32Mi"}, "limits": {"cpu": "1250m", "memory": "64Mi"}}
NAME: Obj = {"path": "podname", "fieldRef": {"fieldPath": "metadata.name"}}
LOOK = "cat /v/podname; echo; stat -Lc '%a %u:%g' /v/podname"


def amount(resource: str) -> Obj:
    return {"path": "amount", "resourceFieldRef": {"containerName": "c", "resource": resource}}


def test_files_tell_of_the_pod_and_its_resources(cluster: Cluster, namespace: str) -> None:
    """Conformance: "DownwardAPI volume, CPU limits", "DownwardAPI volume, CPU request", "DownwardAPI volume, memory
    request", "DownwardAPI volume, CPU limit, default node allocatable", "DownwardAPI volume, memory limit, default node
    allocatable", "DownwardAPI volume, pod name", "DownwardAPI volume, volume mode 0400", "DownwardAPI volume, file mode
    0400", "Projected Volume, DownwardAPI, CPU limits", "Projected Volume, DownwardAPI, CPU request", "Projected Volume,
    DownwardAPI, memory limits", "Projected Volume, DownwardAPI, memory request", "Projected Volume, DownwardAPI, CPU
    limit, node allocatable", "Projected Volume, DownwardAPI, memory limit, node allocatable", "Projected Volume,
    DownwardAPI, pod name", "Projected Volume, DownwardAPI, volume mode 0400"
    """
    whole = allocatable(cluster)
    rows: dict[str, Row] = {}
    for kind in ("plain", "projected"):

        def volume(item: Obj, kind: str = kind, **mode: int) -> dict[str, Obj]:
            if kind == "plain":
                return {"v": {"downwardAPI": {"items": [item], **mode}}}
            return {"v": {"projected": {"sources": [{"downwardAPI": {"items": [item]}}], **mode}}}

        def measure(resource: str, says: str, given: Obj) -> Row:
            return Row(script="cat /v/amount; echo", says=[says], volumes=volume(amount(resource)), container=given)

        given = {"resources": RESOURCES}
        rows |= {
            f"{kind}-limit-cpu": measure("limits.cpu", "2", given),
            f"{kind}-request-cpu": measure("requests.cpu", "1", given),
            f"{kind}-limit-memory": measure("limits.memory", str(64 << 20), given),
            f"{kind}-request-memory": measure("requests.memory", str(32 << 20), given),
            f"{kind}-unlimited-cpu": measure("limits.cpu", whole["cpu"], {}),
            f"{kind}-unlimited-memory": measure("limits.memory", whole["memory"], {}),
            f"{kind}-name": Row(script=LOOK, says=[f"{kind}-name", "644 0:0"], volumes=volume(NAME)),
            f"{kind}-mode": Row(script=LOOK, says=[f"{kind}-mode", "400 0:0"], volumes=volume(NAME, defaultMode=0o400)),
            f"{kind}-item": Row(script=LOOK, says=[f"{kind}-item", "400 0:0"], volumes=volume({**NAME, "mode": 0o400})),
            f"{kind}-group": Row(
                script=LOOK,
                says=[f"{kind}-group", "440 0:1001"],
                volumes=volume(NAME, defaultMode=0o440),
                spec={"securityContext": {"runAsUser": 1000, "fsGroup": 1001}},
            ),
        }
    assert surprises(cluster, namespace, rows) == {}


def allocatable(cluster: Cluster) -> dict[str, str]:
    """What the node can give, as a container without limits reads it: whole cores, bytes."""
    [node] = cluster.json("get", "nodes")["items"]
    given = node["status"]["allocatable"]
    memory = given["memory"]
    return {"cpu": given["cpu"], "memory": str(int(memory.removesuffix("Ki")) << 10 if "Ki" in memory else memory)}


def test_variables_tell_of_what_the_node_can_give(cluster: Cluster, namespace: str) -> None:
    """Conformance: "DownwardAPI, environment for default CPU and memory limits and requests" """
    env = [
        {"name": f"{kind}_{what}", "valueFrom": {"resourceFieldRef": {"resource": f"{kind}.{what}"}}}
        for kind in ("limits", "requests")
        for what in ("cpu", "memory")
    ]
    whole = allocatable(cluster)
    says = [f"{whole['cpu']} {whole['memory']} 0 0"]
    script = "echo $limits_cpu $limits_memory $requests_cpu $requests_memory"
    rows = {"p": Row(script=script, says=says, container={"env": env})}
    assert surprises(cluster, namespace, rows) == {}


def test_names_from_configmaps_take_any_printable_prefix(cluster: Cluster, namespace: str) -> None:
    """Conformance: "ConfigMap, from environment field with various prefixes" """
    data = {"data-1": "value-1", "data-2": "value-2"}
    config: Obj = {"apiVersion": "v1", "kind": "ConfigMap", "metadata": {"name": "config"}, "data": data}
    prefixes = ["p-", "1-", "$_-", "#-", "a b-", "%&!~-"]
    sources = [{"prefix": prefix, "configMapRef": {"name": "config"}} for prefix in prefixes]
    says = sorted(f"{prefix}{key}={value}" for prefix in prefixes for key, value in data.items())
    row = Row(
        script="tr '\\0' '\\n' < /proc/1/environ | grep -- -data- | LC_ALL=C sort",
        says=says,
        container={"envFrom": sources},
    )
    assert surprises(cluster, namespace, {"p": row}, config) == {}
