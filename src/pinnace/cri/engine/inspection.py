"""What tools ask of the engine beside what kubelets need: the `info` of verbose answers, and metrics.

`crictl inspect`, `inspectp`, `inspecti` and `info` show the documents; their names are those of containerd, which
scripts look for. CRI leaves the content to the runtime (https://github.com/kubernetes/cri-api).
"""

from __future__ import annotations

import dataclasses
import platform
from typing import TYPE_CHECKING, Any

from pinnace.cri.api import CriError
from pinnace.cri.engine import metrics
from pinnace.cri.engine.images.manifest import chain_ids
from pinnace.cri.engine.procfs import read_json

if TYPE_CHECKING:
    from pinnace.cri.engine.engine import Engine

_RUNTIME = "io.containerd.runc.v2"
"""The name of what runs containers: the only one that scripts know."""


class Inspection:
    """Documents about one engine's things; JSON once they are sent."""

    def __init__(self, engine: Engine) -> None:
        self._engine = engine

    def runtime(self) -> dict[str, Any]:
        """Of the runtime as a whole, by the name of the info."""
        engine = self._engine
        options = dataclasses.asdict(engine.options)
        network = "OK" if engine.network.configured else "cni plugin not initialized"
        return {
            "config": {"rootDir": str(engine.root), "stateDir": str(engine.state), **options},
            "python": platform.python_version(),
            "lastCNILoadStatus": network,
            "lastCNILoadStatus.default": network,
        }

    def sandbox(self, id_: str) -> dict[str, Any]:
        engine = self._engine
        record = engine.sandboxes.get(id_)
        program = engine.handlers.program(record.runtime_handler)
        addresses = [{"IP": ip} for ip in record.ips]
        return {
            "pid": engine.sandboxes.pause_pid(record),
            "processStatus": "running" if record.ready else "deleted",
            "netNamespaceClosed": not record.ready,
            "runtimeHandler": record.runtime_handler,
            "runtimeType": _RUNTIME,
            "runtimeOptions": {"binary_name": program} if program else {},
            "config": record.config,
            "cniResult": {"Interfaces": {"eth0": {"IPConfigs": addresses}}} if addresses else None,
        }

    def container(self, id_: str) -> dict[str, Any]:
        engine = self._engine
        record = engine.containers.get(id_)
        program = engine.containers.program(record)
        return {
            "sandboxID": record.sandbox_id,
            "pid": record.pid,
            "removing": record.removing,
            "snapshotKey": record.id,
            "snapshotter": "overlayfs",
            "runtimeType": _RUNTIME,
            "runtimeOptions": {"binary_name": program} if program else {},
            "config": record.config,
            "runtimeSpec": read_json(str(engine.containers.bundle(record) / "config.json")),
        }

    def image(self, name: str) -> dict[str, Any]:
        """Its chain ID, and its config by the image-spec's names."""
        record = self._engine.images.resolve(name)
        if record is None:
            raise CriError("NOT_FOUND", f'failed to resolve image "{name}": not found')
        chains = chain_ids(record.config.diff_ids)
        return {
            "chainID": chains[-1] if chains else "",
            "imageSpec": read_json(str(self._engine.images.content.path(record.id))),
        }

    descriptors = metrics.DESCRIPTORS

    def metrics(self) -> dict[str, dict[str, list[metrics.Metric]]]:
        """By sandbox, of those that are ready, then by container, of those that run. Reads files."""
        engine = self._engine
        found: dict[str, dict[str, list[metrics.Metric]]] = {
            record.id: {} for record in engine.sandboxes.records.values() if record.ready
        }
        for container in list(engine.containers.records.values()):
            if container.started_at and not container.finished_at and container.sandbox_id in found:
                counted = engine.cgroups.counters(engine.containers.cgroup(container))
                sandbox = engine.sandboxes.records[container.sandbox_id]
                found[sandbox.id][container.id] = metrics.of_container(container, sandbox, counted)
        return found
