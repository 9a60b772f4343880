"""What the author of a pod, or of a pod template, is warned of: what works, but not as they may think, or not for long.

Specified in https://kubernetes.io/docs/reference/labels-annotations-taints/ (deprecated labels and annotations) and
https://kubernetes.io/docs/concepts/storage/volumes/ (deprecated volumes); warnings are KEP-1693.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

from pinnace.apis.checks import amount
from pinnace.machinery.meta import Obj

OLD_LABELS = {
    "beta.kubernetes.io/arch": 'deprecated since v1.14; use "kubernetes.io/arch" instead',
    "beta.kubernetes.io/os": 'deprecated since v1.14; use "kubernetes.io/os" instead',
    "failure-domain.beta.kubernetes.io/region": 'deprecated since v1.17; use "topology.kubernetes.io/region" instead',
    "failure-domain.beta.kubernetes.io/zone": 'deprecated since v1.17; use "topology.kubernetes.io/zone" instead',
    "beta.kubernetes.io/instance-type": 'deprecated since v1.17; use "node.kubernetes.io/instance-type" instead',
}
_OLD_ANNOTATIONS = (
    (
        "scheduler.alpha.kubernetes.io/critical-pod",
        'non-functional in v1.16+; use the "priorityClassName" field instead',
    ),
    ("seccomp.security.alpha.kubernetes.io/pod", 'non-functional in v1.27+; use the "seccompProfile" field instead'),
    (
        "container.seccomp.security.alpha.kubernetes.io/",
        'non-functional in v1.27+; use the "seccompProfile" field instead',
    ),
    (
        "container.apparmor.security.beta.kubernetes.io/",
        'deprecated since v1.30; use the "appArmorProfile" field instead',
    ),
)
_OLD_VOLUMES = {
    "gitRepo": "deprecated in v1.11",
    "photonPersistentDisk": "deprecated in v1.11, non-functional in v1.16+",
    "scaleIO": "deprecated in v1.16, non-functional in v1.22+",
    "flocker": "deprecated in v1.22, non-functional in v1.25+",
    "storageos": "deprecated in v1.22, non-functional in v1.25+",
    "quobyte": "deprecated in v1.22, non-functional in v1.25+",
    "glusterfs": "deprecated in v1.25, non-functional in v1.26+",
    "cephfs": "deprecated in v1.28, non-functional in v1.31+",
    "rbd": "deprecated in v1.28, non-functional in v1.31+",
}
_IN_BYTES = ("memory", "ephemeral-storage")


def pod_warnings(meta: Obj, spec: Obj, path: str = "") -> Iterator[str]:
    """`path` is that of the template, with a dot at its end; empty for a pod."""
    for key in spec.get("nodeSelector") or ():
        if key in OLD_LABELS:
            yield f"{path}spec.nodeSelector[{key}]: {OLD_LABELS[key]}"
    for index, spread in enumerate(spec.get("topologySpreadConstraints") or ()):
        key = spread.get("topologyKey")
        if key in OLD_LABELS:
            yield f"{path}spec.topologySpreadConstraints[{index}].topologyKey: {key} is {OLD_LABELS[key]}"
    if meta.get("annotations"):
        yield from _annotations(meta["annotations"], f"{path}metadata.annotations")
    for index, volume in enumerate(spec.get("volumes") or ()):
        for source, why in _OLD_VOLUMES.items():
            if volume.get(source) is not None:
                yield f"{path}spec.volumes[{index}].{source}: {why}"
    if spec.get("imagePullSecrets"):
        yield from _pull_secrets(spec["imagePullSecrets"], f"{path}spec.imagePullSecrets")
    for kind in ("initContainers", "containers"):
        for index, container in enumerate(spec.get(kind) or ()):
            yield from _container(container, f"{path}spec.{kind}[{index}]")


def _annotations(annotations: Obj, path: str) -> Iterator[str]:
    for key in sorted(annotations):
        for old, why in _OLD_ANNOTATIONS:
            if key == old or (old.endswith("/") and key.startswith(old)):
                yield f"{path}[{key}]: {why}"


def _pull_secrets(secrets: list[Obj], path: str) -> Iterator[str]:
    seen: set[str] = set()
    for index, secret in enumerate(secrets):
        name = secret.get("name") or ""
        if not name:
            yield f'{path}[{index}].name: invalid empty name ""'
        elif name in seen:
            yield f'{path}[{index}].name: duplicate name "{name}"'
        seen.add(name)


def _container(container: Obj, path: str) -> Iterator[str]:
    resources = container.get("resources")
    if resources:
        for part in ("limits", "requests"):
            for name, value in (resources.get(part) or {}).items():
                if is_fraction_of_bytes(name, value):
                    yield f"{path}.resources.{part}[{name}]: {fraction(value)}"
    env = container.get("env")
    if env and len(env) > 1:
        yield from _hidden(env, f"{path}.env")
    ports = container.get("ports")
    if ports and len(ports) > 1:
        yield from _doubled(ports, f"{path}.ports")


def is_fraction_of_bytes(name: str, value: Any) -> bool:
    quantity = amount(value) if name in _IN_BYTES or name == "storage" else None
    return quantity is not None and bool(quantity.milli_value() % 1000)


def fraction(value: Any) -> str:
    return f'fractional byte value "{value}" is invalid, must be an integer'


def _hidden(env: list[Obj], path: str) -> Iterator[str]:
    """A variable defined twice, unless the second is made of the first."""
    seen: set[str] = set()
    for index, variable in enumerate(env):
        name = variable.get("name") or ""
        if name in seen and f"$({name})" not in (variable.get("value") or ""):
            yield f'{path}[{index}]: hides previous definition of "{name}", which may be dropped when using apply'
        seen.add(name)


def _doubled(ports: list[Obj], path: str) -> Iterator[str]:
    seen: dict[tuple[Any, ...], int] = {}
    for index, port in enumerate(ports):
        key = tuple(port.get(part) for part in ("protocol", "hostIP", "hostPort", "containerPort"))
        if key in seen:
            yield f"{path}[{index}]: duplicate port definition with {path}[{seen[key]}]"
        seen.setdefault(key, index)
