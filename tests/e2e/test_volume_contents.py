"""What containers read in volumes made of ConfigMaps and Secrets: contents, paths, modes, owners."""

from __future__ import annotations

from typing import Any

import pytest

from tests.e2e.conftest import Cluster
from tests.e2e.pods import Obj
from tests.e2e.tables import Row, surprises

pytestmark = [pytest.mark.e2e, pytest.mark.root]

DATA = {"data-1": "value-1\n", "data-2": "value-2\n"}
CONFIG: Obj = {"apiVersion": "v1", "kind": "ConfigMap", "metadata": {"name": "config"}, "data": DATA}
SECRET: Obj = {"apiVersion": "v1", "kind": "Secret", "metadata": {"name": "secret"}, "stringData": DATA}

MAPPED = [{"key": "data-2", "path": "path/to/data-2"}]
READABLE_BY_OWNER = [{"key": "data-2", "path": "path/to/data-2", "mode": 0o400}]
USER: Obj = {"securityContext": {"runAsUser": 1000}}
USER_AND_GROUP: Obj = {"securityContext": {"runAsUser": 1000, "fsGroup": 1001}}
PLAIN = "cat /v/data-1; stat -Lc '%a %u:%g' /v/data-1"
DEEP = "cat /v/path/to/data-2; stat -Lc '%a %u:%g' /v/path/to/data-2; ls /v"


def volume(kind: str, mode: int | None = None, **options: Any) -> Obj:
    """A volume of a kind, `projected-KIND` for one that is a projected volume's only source."""
    name = {"secretName": "secret"} if kind == "secret" else {"name": kind.removeprefix("projected-").lower()[:6]}
    modes = {} if mode is None else {"defaultMode": mode}
    if kind.startswith("projected-"):
        return {"projected": {"sources": [{kind.removeprefix("projected-"): {**name, **options}}], **modes}}
    return {kind: {**name, **options, **modes}}


def variants(kind: str) -> dict[str, Row]:
    """Every way that conformance mounts one kind of volume."""

    def row(script: str, says: list[str], mode: int | None = None, spec: Obj | None = None, **options: Any) -> Row:
        return Row(script=script, says=says, volumes={"v": volume(kind, mode, **options)}, spec=spec or {})

    twice = {"v": volume(kind), "w": volume(kind)}
    rows = {
        "default": row(PLAIN, ["value-1", "644 0:0"]),
        "mode": row(PLAIN, ["value-1", "400 0:0"], mode=0o400),
        "mapped": row(DEEP, ["value-2", "644 0:0", "path"], items=MAPPED),
        "item-mode": row(DEEP, ["value-2", "400 0:0", "path"], items=READABLE_BY_OWNER),
        "user": row(PLAIN, ["value-1", "644 0:0"], spec=USER),
        "mapped-user": row(DEEP, ["value-2", "644 0:0", "path"], spec=USER, items=MAPPED),
        "group": row(PLAIN, ["value-1", "440 0:1001"], mode=0o440, spec=USER_AND_GROUP),
        "twice": Row(script="cat /v/data-1 /w/data-1", says=["value-1", "value-1"], volumes=twice),
        "absent": row("ls /v", [], optional=True, items=[{"key": "nothing", "path": "x"}]),
    }
    return {f"{kind.lower()}-{name}": one for name, one in rows.items()}


def test_configmaps_and_secrets_appear_as_asked(cluster: Cluster, namespace: str) -> None:
    """Conformance: "ConfigMap Volume, without mapping, non-root user", "ConfigMap Volume, without mapping, volume mode
    set", "ConfigMap Volume, with mapping, volume mode set", "ConfigMap Volume, with mapping, non-root user",
    "ConfigMap Volume, multiple volume maps", "Secrets Volume, default", "Secrets Volume, volume mode 0440, fsGroup 1001
    and uid 1000", "Secrets Volume, mapping", "Secrets Volume, mapping, volume mode 0400", "Secrets Volume, mapping
    multiple volume paths", "Projected Volume, ConfigMap, volume mode default", "Projected Volume, ConfigMap, non-root
    user", "Projected Volume, ConfigMap, volume mode 0400", "Projected Volume, ConfigMap, mapped, volume mode 0400",
    "Projected Volume, ConfigMap, mapped, non-root user", "Projected Volume, ConfigMap, multiple volume paths",
    "Projected Volume, Secrets, volume mode default", "Project Volume, Secrets, non-root, custom fsGroup", "Projected
    Volume, Secrets, volume mode 0400", "Projected Volume, Secrets, mapped", "Projected Volume, Secrets, mapped, volume
    mode 0400", "Projected Volume, Secrets, mapped, multiple paths"
    """
    kinds = ("configMap", "secret", "projected-configMap", "projected-secret")
    rows = {name: row for kind in kinds for name, row in variants(kind).items()}
    assert surprises(cluster, namespace, rows, CONFIG, SECRET) == {}


def test_projected_sources_share_a_directory(cluster: Cluster, namespace: str) -> None:
    """Conformance: "Projected Volume, multiple projections", "ConfigMap Volume, text data, binary data",
    "Secrets Volume, volume mode default, secret with same name in different namespace", "EmptyDir Wrapper Volume,
    Secret and ConfigMap volumes, no conflict"
    """
    name = {"path": "podname", "fieldRef": {"fieldPath": "metadata.name"}}
    sources = [
        {"secret": {"name": "secret", "items": [{"key": "data-1", "path": "secret-data"}]}},
        {"configMap": {"name": "config", "items": [{"key": "data-1", "path": "config-data"}]}},
        {"downwardAPI": {"items": [name]}},
    ]
    binary = {"binaryData": {"dump.bin": "3q2+7w=="}, "metadata": {"name": "binary"}}
    elsewhere = f"{namespace}-elsewhere"
    read_all = "cd /v; cat secret-data config-data podname; echo; ls"
    rows = {
        "all": Row(
            script=read_all,
            says=["value-1", "value-1", "all", "config-data", "podname", "secret-data"],
            volumes={"v": {"projected": {"sources": sources}}},
        ),
        "binary": Row(
            script="cat /v/data-1; od -An -tx1 /v/dump.bin",
            says=["value-1", " de ad be ef"],
            volumes={"v": {"configMap": {"name": "binary"}}},
        ),
        "own": Row(script=PLAIN, says=["value-1", "644 0:0"], volumes={"v": volume("secret")}),
        "wrapped": Row(
            script="cat /a/data-1 /b/data-2",
            says=["value-1", "value-2"],
            volumes={"a": volume("secret"), "b": volume("configMap")},
        ),
    }
    cluster.kubectl("create", "namespace", elsewhere)
    cluster.kubectl("-n", elsewhere, "create", "secret", "generic", "secret", "--from-literal=data-1=other")
    assert surprises(cluster, namespace, rows, CONFIG, {**CONFIG, **binary}, SECRET) == {}
    cluster.kubectl("delete", "namespace", elsewhere, "--wait=false")


def test_many_volumes_of_one_pod_do_not_race(cluster: Cluster, namespace: str) -> None:
    """Conformance: "EmptyDir Wrapper Volume, ConfigMap volumes, no race" """
    configs = [{**CONFIG, "metadata": {"name": f"racey-{number}"}} for number in range(50)]
    volumes = {f"v{number}": {"configMap": {"name": f"racey-{number}"}} for number in range(50)}
    row = Row(script="cat /v*/data-1 | sort | uniq -c", says=["     50 value-1"], volumes=volumes)
    assert surprises(cluster, namespace, {f"p{number}": row for number in range(5)}, *configs) == {}


def test_subpaths_lead_into_volumes(cluster: Cluster, namespace: str) -> None:
    """Conformance: "SubPath: Reading content from a configmap volume.", "SubPath: Reading content from a secret
    volume.", "SubPath: Reading content from a downwardAPI volume.", "SubPath: Reading content from a projected volume."
    """
    name = {"items": [{"path": "deep/name", "fieldRef": {"fieldPath": "metadata.name"}}]}
    sources: list[Obj] = [{"configMap": {"name": "config"}}, {"downwardAPI": name}]

    def row(source: Obj, subpath: str, says: str, path: str = "/part") -> Row:
        mounts = {path: {"name": "v", "subPath": subpath}}
        return Row(script=f"echo $(cat {path})", says=[says], volumes={"v": source}, mounts=mounts)

    rows = {
        "configmap": row(volume("configMap"), "data-1", "value-1"),
        "existing-file": row(volume("configMap"), "data-1", "value-1", path="/etc/passwd"),
        "secret": row(volume("secret"), "data-2", "value-2"),
        "downward": row({"downwardAPI": name}, "deep/name", "downward"),
        "projected": row({"projected": {"sources": sources}}, "deep/name", "projected"),
    }
    assert surprises(cluster, namespace, rows, CONFIG, SECRET) == {}
