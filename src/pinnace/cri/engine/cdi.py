"""The Container Device Interface: what files on the node say that a container with a device needs.

https://github.com/cncf-tags/container-device-interface/blob/main/SPEC.md is the format. Variables, device nodes, mounts
and groups are added to a container's config, hooks to its bundle. Devices are asked for by CRI's own field or, as of
old, by annotations.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import replace
from pathlib import Path
from typing import Any

import orjson
import structlog

from pinnace.cri.api import ContainerConfig, CriError, Device, Mount

DIRECTORIES = (Path("/etc/cdi"), Path("/var/run/cdi"))
"""Later ones win."""

_log = structlog.get_logger()

Specs = Mapping[str, list[dict[str, Any]]]
"""Containers' edits by the full name of a device: the edits of its file, then its own."""

Hooks = dict[str, list[dict[str, Any]]]
"""Hooks by their kind (createContainer, poststop, …), as the runtime-spec has them."""

_ANNOTATION = "cdi.k8s.io/"


def read_specs(directories: Iterable[Path] = DIRECTORIES) -> dict[str, list[dict[str, Any]]]:
    """Every device that files describe; a file that is none is left out."""
    found: dict[str, list[dict[str, Any]]] = {}
    for directory in directories:
        for path in sorted((*directory.glob("*.json"), *directory.glob("*.yaml"))):
            try:
                found.update(devices_of(_read(path)))
            except (OSError, ValueError, KeyError, TypeError, AttributeError) as error:
                _log.warning("cannot read a CDI file", path=str(path), error=str(error))
    return found


def _read(path: Path) -> Any:
    if path.suffix == ".json":
        return orjson.loads(path.read_bytes())
    from pinnace.machinery import yaml

    try:
        return yaml.load(path.read_bytes())
    except yaml.YamlError as error:
        raise ValueError(str(error)) from error


def devices_of(spec: dict[str, Any]) -> dict[str, list[dict[str, Any]]]:
    """The devices of one file. Raises KeyError and the like for what is no such file."""
    common = spec.get("containerEdits") or {}
    return {
        f"{spec['kind']}={device['name']}": [common, device.get("containerEdits") or {}] for device in spec["devices"]
    }


def wanted(config: ContainerConfig) -> list[str]:
    """The full names of the devices that a container asks for, each once."""
    names = [device.name for device in config.CDI_devices]
    for key, value in config.annotations.items():
        if key.startswith(_ANNOTATION):
            names += [name.strip() for name in value.split(",") if name.strip()]
    return list(dict.fromkeys(names))


def inject(config: ContainerConfig, specs: Specs) -> tuple[ContainerConfig, Hooks]:
    """The config with what its devices need, and their hooks. CriError where a device is described nowhere."""
    names = wanted(config)
    missing = [name for name in names if name not in specs]
    if missing:
        why = f"unresolvable CDI devices {', '.join(missing)}"
        raise CriError("UNKNOWN", f"failed to generate container spec: CDI device injection failed: {why}")
    envs, devices, mounts = dict(config.envs), list(config.devices), list(config.mounts)
    groups = list(config.linux.security_context.supplemental_groups)
    hooks: Hooks = {}
    seen: list[int] = []
    for edits in (one for name in names for one in specs[name]):
        if id(edits) in seen:
            continue  # the edits of a file count once, however many of its devices there are
        seen.append(id(edits))
        envs.update(pair.split("=", 1) for pair in edits.get("env") or () if "=" in pair)
        devices += [_device(node) for node in edits.get("deviceNodes") or ()]
        mounts += [_mount(mount) for mount in edits.get("mounts") or ()]
        groups += [group for group in edits.get("additionalGids") or () if group not in groups]
        for hook in edits.get("hooks") or ():
            hooks.setdefault(hook["hookName"], []).append(_hook(hook))
    security = replace(config.linux.security_context, supplemental_groups=groups)
    linux = replace(config.linux, security_context=security)
    return replace(config, envs=envs, devices=devices, mounts=mounts, linux=linux), hooks


def _hook(hook: Mapping[str, Any]) -> dict[str, Any]:
    """A hook as the runtime-spec has it."""
    return {name: hook[name] for name in ("path", "args", "env", "timeout") if hook.get(name)}


def _device(node: Mapping[str, Any]) -> Device:
    return Device(
        container_path=node["path"],
        host_path=node.get("hostPath") or node["path"],
        permissions=node.get("permissions") or "rwm",
    )


def _mount(mount: Mapping[str, Any]) -> Mount:
    return Mount(
        container_path=mount["containerPath"],
        host_path=mount["hostPath"],
        readonly="ro" in (mount.get("options") or ()),
    )
