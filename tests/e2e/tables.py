"""Tables of pods: each row is a pod that looks around once and says what it found; all run at the same time."""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import dataclass, field

from tests.e2e.conftest import Cluster
from tests.e2e.pods import Obj, container, pod


@dataclass(frozen=True, slots=True, kw_only=True)
class Row:
    """A pod with one container that runs `script`, and the lines it must print."""

    script: str
    says: list[str]
    volumes: Mapping[str, Obj] = field(default_factory=dict)  # by name, which is also where they are mounted: `/NAME`
    mounts: Mapping[str, Obj] = field(default_factory=dict)  # further mounts: members of a volumeMount by mountPath
    container: Obj = field(default_factory=dict)
    spec: Obj = field(default_factory=dict)
    labels: dict[str, str] = field(default_factory=dict)
    annotations: dict[str, str] = field(default_factory=dict)

    def pod(self, name: str) -> Obj:
        mounts = [{"name": volume, "mountPath": f"/{volume}"} for volume in self.volumes]
        mounts += [{"mountPath": path, **mount} for path, mount in self.mounts.items()]
        volumes = [{"name": volume, **source} for volume, source in self.volumes.items()]
        main = container("c", self.script, volumeMounts=mounts, **self.container)
        made = pod(name, main, labels={"table": "row", **self.labels}, volumes=volumes, restartPolicy="Never")
        made["metadata"]["annotations"] = self.annotations
        made["spec"].update(self.spec)
        return made


def surprises(
    cluster: Cluster, namespace: str, rows: Mapping[str, Row], *objects: Obj
) -> dict[str, tuple[list[str], list[str]]]:
    """Create the objects and a pod for each row; by row, what was said and what should have been where they differ."""
    cluster.kubectl("-n", namespace, "wait", "--for=create", "serviceaccount/default", "--timeout=30s")
    items = [*objects, *(row.pod(name) for name, row in rows.items())]
    created = {"apiVersion": "v1", "kind": "List", "items": items}
    cluster.kubectl("-n", namespace, "create", "-f", "-", stdin=json.dumps(created))
    ended = "--for=jsonpath={.status.containerStatuses[0].state.terminated}"
    cluster.kubectl("-n", namespace, "wait", ended, "pod", "-l", "table=row", "--timeout=120s")
    said = logs(cluster, namespace, "table=row")
    return {name: (said.get(name, []), row.says) for name, row in rows.items() if said.get(name, []) != row.says}


def logs(cluster: Cluster, namespace: str, selector: str) -> dict[str, list[str]]:
    """The lines of every pod's containers by the pod's name."""
    found: dict[str, list[str]] = {}
    text = cluster.kubectl("-n", namespace, "logs", "-l", selector, "--all-containers", "--prefix", "--tail=-1").stdout
    for line in text.splitlines():
        prefix, _, said = line.partition(" ")  # [pod/NAME/CONTAINER]
        found.setdefault(prefix.split("/")[1], []).append(said)
    return found
