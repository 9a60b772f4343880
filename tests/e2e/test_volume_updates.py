"""Volumes follow the objects that they are made of, within seconds, as long as their pod runs."""

from __future__ import annotations

import json

import pytest

from tests.e2e.conftest import Cluster
from tests.e2e.pods import SLEEP, Obj, container, pod
from tests.e2e.test_pod_inside import shell, start
from tests.e2e.test_pod_life import events

pytestmark = [pytest.mark.e2e, pytest.mark.root]

KINDS = ("configMap", "secret")
TRIES = 300  # tenths of a second


def source(kind: str, name: str, *, projected: bool) -> Obj:
    """An optional volume of a ConfigMap or Secret, or one projected from it alone."""
    if projected:
        return {"projected": {"sources": [{kind: {"name": name, "optional": True}}]}}
    return {kind: {"secretName" if kind == "secret" else "name": name, "optional": True}}


def made(kind: str, name: str, value: str) -> Obj:
    data = {"data" if kind == "configMap" else "stringData": {"data-1": value}}
    return {"apiVersion": "v1", "kind": kind[0].upper() + kind[1:], "metadata": {"name": name}, **data}


def shows(cluster: Cluster, namespace: str, name: str, wanted: dict[str, str]) -> dict[str, str]:
    """What a pod's files hold once that is what is wanted, or at the end of all patience: by path, `-` for no file."""
    read = "$( (cat {0} 2>/dev/null || echo -) | tr -d '\\n')"
    look = "; ".join(f"printf '%s|%s\\n' {path} \"{read.format(path)}\"" for path in wanted)
    lines = "\n".join(f"{path}|{text}" for path, text in wanted.items())
    script = f'for i in $(seq {TRIES}); do x=$({look}); [ "$x" = \'{lines}\' ] && break; sleep 0.1; done; echo "$x"'
    said = shell(cluster, namespace, name, script)
    return dict(line.split("|", 1) for line in said.splitlines())


def test_files_follow_their_objects(cluster: Cluster, namespace: str) -> None:
    """Conformance: "ConfigMap Volume, create, update and delete", "ConfigMap Volume, update", "Secrets Volume, create,
    update and delete", "Projected Volume, ConfigMap, create, update and delete", "Projected Volume, ConfigMap, update",
    "Projected Volume, Secrets, create, update delete"
    """
    volumes, objects = {}, []
    for kind in KINDS:
        for projected in (False, True):
            for name in ("created", "updated", "deleted"):
                volumes[f"{kind.lower()}-{name}-{int(projected)}"] = source(kind, name, projected=projected)
        objects += [made(kind, name, "value-1") for name in ("updated", "deleted")]
    mounts = [{"name": name, "mountPath": f"/{name}"} for name in volumes]
    listed = [{"name": name, **volume} for name, volume in volumes.items()]
    start(cluster, namespace, *objects, pod("p", container("c", SLEEP, volumeMounts=mounts), volumes=listed))

    def files(created: str, updated: str, deleted: str) -> dict[str, str]:
        holds = {"created": created, "updated": updated, "deleted": deleted}
        return {f"/{name}/data-1": holds[name.split("-")[1]] for name in volumes}

    before = files("-", "value-1", "value-1")
    assert shows(cluster, namespace, "p", before) == before
    changed = [made(kind, name, value) for kind in KINDS for name, value in (("created", "value-1"), ("updated", "2"))]
    cluster.kubectl("-n", namespace, "delete", "configmap/deleted", "secret/deleted")
    cluster.kubectl(
        "-n", namespace, "apply", "-f", "-",
        stdin=json.dumps({"apiVersion": "v1", "kind": "List", "items": changed}),
    )  # fmt: skip
    after = files("value-1", "2", "-")
    assert shows(cluster, namespace, "p", after) == after
    layout = shell(cluster, namespace, "p", "cd /configmap-updated-0; ls -A | grep -c '^\\.\\.2'; readlink data-1")
    assert layout.splitlines() == ["1", "..data/data-1"]


def test_the_downward_api_follows_its_pod(cluster: Cluster, namespace: str) -> None:
    """Conformance: "DownwardAPI volume, update label", "DownwardAPI volume, update annotations", "Projected Volume,
    DownwardAPI, update labels", "Projected Volume, DownwardAPI, update annotation"
    """
    items = [{"path": path, "fieldRef": {"fieldPath": f"metadata.{path}"}} for path in ("labels", "annotations")]
    volumes: list[Obj] = [
        {"name": "plain", "downwardAPI": {"items": items}},
        {"name": "projected", "projected": {"sources": [{"downwardAPI": {"items": items}}]}},
    ]
    mounts = [{"name": volume["name"], "mountPath": f"/{volume['name']}"} for volume in volumes]
    one = pod("p", container("c", SLEEP, volumeMounts=mounts), labels={"key": "old"}, volumes=volumes)
    one["metadata"]["annotations"] = {"builder": "bar"}
    start(cluster, namespace, one)
    for label, builder in (("old", "bar"), ("new", "foo")):
        if label == "new":
            cluster.kubectl("-n", namespace, "label", "pod/p", "key=new", "--overwrite")
            cluster.kubectl("-n", namespace, "annotate", "pod/p", "builder=foo", "--overwrite")
        wanted: dict[str, str] = {}
        for volume in ("plain", "projected"):
            wanted |= {f"/{volume}/labels": f'key="{label}"', f"/{volume}/annotations": f'builder="{builder}"'}
        assert shows(cluster, namespace, "p", wanted) == wanted


def test_a_pod_that_waits_for_an_object_starts_when_it_comes(cluster: Cluster, namespace: str) -> None:
    """Not after a pause that grows: the kubelet is told."""
    volume = {"name": "v", "configMap": {"name": "late"}}
    one = pod("p", container("c", SLEEP, volumeMounts=[{"name": "v", "mountPath": "/v"}]), volumes=[volume])
    cluster.kubectl("-n", namespace, "wait", "--for=create", "serviceaccount/default", "--timeout=30s")
    cluster.kubectl("-n", namespace, "create", "-f", "-", stdin=json.dumps(one))
    assert "late" in events(cluster, namespace, "p", "FailedMount")
    cluster.kubectl("-n", namespace, "create", "configmap", "late", "--from-literal=data-1=here")
    cluster.kubectl("-n", namespace, "wait", "--for=condition=Ready", "pod/p", "--timeout=20s")
    assert shell(cluster, namespace, "p", "cat /v/data-1") == "here"
