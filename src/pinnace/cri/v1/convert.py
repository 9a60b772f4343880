"""`cri.api`'s dataclasses to messages of runtime.v1 and back, by the names that both have.

A dataclass becomes the message of its name, a field the field of its name, whatever that is: wrapped numbers,
enumerations by the names of their values, variables as keys and values. What is nested otherwise is said at the end.
What only one side has stays behind.
"""

from __future__ import annotations

import dataclasses
import functools
import types
import typing
from collections.abc import Callable
from enum import Enum
from typing import Any, TypeVar

from pinnace.cri import api
from pinnace.cri.v1.messages import message_class

_T = TypeVar("_T")
_WRAPPERS = ("Int64Value", "UInt64Value")


def to_message(value: Any, name: str = "") -> Any:
    """The message of a dataclass; `name` where it is not the dataclass's own."""
    message = message_class(name or type(value).__name__)()
    _fill(message, value)
    return message


def from_message(made: type[_T], message: Any) -> _T:
    """The dataclass of a message."""
    return made(**_values(made, message))


# Out.


def _fill(message: Any, value: Any) -> None:
    fields = message.DESCRIPTOR.fields_by_name
    for name in type(value).__dataclass_fields__:
        descriptor = fields.get(name)
        given = getattr(value, name)
        if descriptor is not None and given is not None:
            _set(message, descriptor, given)
    special = _OUT.get(type(value))
    if special is not None:
        special(message, value)


def _set(message: Any, descriptor: Any, given: Any) -> None:
    name = descriptor.name
    if descriptor.is_repeated:
        _extend(getattr(message, name), descriptor, given)
    elif descriptor.enum_type is not None:
        text = given.value if isinstance(given, Enum) else given
        number = descriptor.enum_type.values_by_name.get(text)
        if number is not None:
            setattr(message, name, number.number)
    elif descriptor.message_type is None:
        setattr(message, name, given)
    elif descriptor.message_type.name in _WRAPPERS:
        getattr(message, name).value = given
    elif dataclasses.is_dataclass(given):
        inner = getattr(message, name)
        inner.SetInParent()
        _fill(inner, given)


def _extend(into: Any, descriptor: Any, given: Any) -> None:
    if descriptor.message_type is None:
        into.extend(given)
    elif descriptor.message_type.GetOptions().map_entry:
        into.update(given)
    elif isinstance(given, dict):
        for key, value in given.items():
            into.add(key=key, value=value)
    else:
        for one in given:
            _fill(into.add(), one)


# In.


@functools.cache
def _hints(made: Any) -> dict[str, Any]:
    """The type of every field; of one that may be None, the other."""
    return {name: _present(hint) for name, hint in typing.get_type_hints(made).items()}


def _present(hint: Any) -> Any:
    if isinstance(hint, types.UnionType):
        return next(one for one in typing.get_args(hint) if one is not type(None))
    return hint


def _values(made: Any, message: Any) -> dict[str, Any]:
    fields = message.DESCRIPTOR.fields_by_name
    found = {
        name: _get(message, fields[name], hint)
        for name, hint in _hints(made).items()
        if name in fields and _is_there(message, fields[name], made, name)
    }
    special = _IN.get(made)
    return found | special(message) if special is not None else found


def _is_there(message: Any, descriptor: Any, made: type[Any], name: str) -> bool:
    """Whether there is something to read; what the dataclass needs is made of nothing."""
    if descriptor.is_repeated or descriptor.message_type is None:
        return True
    field = made.__dataclass_fields__[name]
    needed = field.default is dataclasses.MISSING and field.default_factory is dataclasses.MISSING
    return message.HasField(name) or needed


def _get(message: Any, descriptor: Any, hint: Any) -> Any:
    given = getattr(message, descriptor.name)
    if descriptor.is_repeated:
        return _collect(given, descriptor, hint)
    if descriptor.enum_type is not None:
        known = descriptor.enum_type.values_by_number.get(given) or descriptor.enum_type.values[0]
        return hint(known.name) if isinstance(hint, type) and issubclass(hint, Enum) else known.name
    if descriptor.message_type is None:
        return given
    if descriptor.message_type.name in _WRAPPERS:
        return given.value
    return from_message(hint, given)


def _collect(given: Any, descriptor: Any, hint: Any) -> Any:
    if descriptor.message_type is None:
        return list(given)
    if descriptor.message_type.GetOptions().map_entry:
        return dict(given)
    if typing.get_origin(hint) is dict:
        return {pair.key: pair.value for pair in given}
    (of,) = typing.get_args(hint)
    return [from_message(of, one) for one in given]


# What is not the same by name.


def signal_name(text: str) -> str:
    """`SIGRTMIN+3`, as a pod's spec and images have it, by the name of the enumeration's value."""
    text = text.upper()
    text = text if text.startswith("SIG") else f"SIG{text}"
    return text.replace("+", "PLUS").replace("-", "MINUS")


def _signal_out(message: Any, given: api.ContainerConfig | api.ContainerStatus) -> None:
    if given.stop_signal:
        values = message.DESCRIPTOR.fields_by_name["stop_signal"].enum_type.values_by_name
        known = values.get(signal_name(given.stop_signal))
        message.stop_signal = known.number if known is not None else 0


def _signal_in(message: Any) -> dict[str, Any]:
    values = message.DESCRIPTOR.fields_by_name["stop_signal"].enum_type.values_by_number
    if not message.stop_signal or message.stop_signal not in values:
        return {"stop_signal": ""}
    return {"stop_signal": values[message.stop_signal].name.replace("PLUS", "+").replace("MINUS", "-")}


def _sandbox_status_out(message: Any, status: api.PodSandboxStatus) -> None:
    message.network.SetInParent()
    if status.ips:
        message.network.ip = status.ips[0]
    for ip in status.ips[1:]:
        message.network.additional_ips.add(ip=ip)
    _fill(message.linux.namespaces.options, status.namespaces)


def _sandbox_status_in(message: Any) -> dict[str, Any]:
    ips = [message.network.ip, *(one.ip for one in message.network.additional_ips)]
    options = message.linux.namespaces.options
    return {"ips": [ip for ip in ips if ip], "namespaces": from_message(api.NamespaceOption, options)}


def _status_out(message: Any, status: api.ContainerStatus) -> None:
    _signal_out(message, status)
    if status.resources is not None:
        message.resources.linux.SetInParent()
        _fill(message.resources.linux, status.resources)


def _status_in(message: Any) -> dict[str, Any]:
    found = _signal_in(message)
    if not message.resources.HasField("linux"):
        return {**found, "resources": None}
    return {**found, "resources": from_message(api.LinuxContainerResources, message.resources.linux)}


def _stats_out(message: Any, stats: api.ContainerStats) -> None:
    _fill(message.attributes.metadata, stats.metadata)
    message.attributes.id = stats.id
    message.attributes.labels.update(stats.labels)
    _usage_out(message, stats)
    layer = message.writable_layer
    layer.timestamp = stats.timestamp
    layer.used_bytes.value = stats.writable_layer_used_bytes
    layer.inodes_used.value = stats.writable_layer_inodes_used


def _usage_out(message: Any, stats: Any) -> None:
    message.cpu.timestamp = message.memory.timestamp = stats.timestamp
    message.cpu.usage_core_nano_seconds.value = stats.cpu_usage_core_nano_seconds
    message.memory.working_set_bytes.value = stats.memory_working_set_bytes
    message.memory.usage_bytes.value = stats.memory_usage_bytes
    message.memory.rss_bytes.value = stats.memory_rss_bytes


def _usage_in(message: Any) -> dict[str, Any]:
    return {
        "timestamp": message.cpu.timestamp or message.memory.timestamp,
        "cpu_usage_core_nano_seconds": message.cpu.usage_core_nano_seconds.value,
        "memory_working_set_bytes": message.memory.working_set_bytes.value,
        "memory_usage_bytes": message.memory.usage_bytes.value or message.memory.working_set_bytes.value,
        "memory_rss_bytes": message.memory.rss_bytes.value,
    }


def _stats_in(message: Any) -> dict[str, Any]:
    return {
        "id": message.attributes.id,
        "metadata": from_message(api.ContainerMetadata, message.attributes.metadata),
        "labels": dict(message.attributes.labels),
        "writable_layer_used_bytes": message.writable_layer.used_bytes.value,
        "writable_layer_inodes_used": message.writable_layer.inodes_used.value,
        **_usage_in(message),
    }


def _pod_stats_out(message: Any, stats: api.PodSandboxStats) -> None:
    _fill(message.attributes.metadata, stats.metadata)
    message.attributes.id = stats.id
    message.attributes.labels.update(stats.labels)
    linux = message.linux
    _usage_out(linux, stats)
    linux.process.timestamp = linux.network.timestamp = stats.timestamp
    linux.process.process_count.value = stats.process_count
    if stats.interfaces:
        _fill(linux.network.default_interface, stats.interfaces[0])
    for interface in stats.interfaces[1:]:
        _fill(linux.network.interfaces.add(), interface)
    for container in stats.containers:
        _fill(linux.containers.add(), container)


def _pod_stats_in(message: Any) -> dict[str, Any]:
    network = message.linux.network
    interfaces = [network.default_interface] if network.HasField("default_interface") else []
    return {
        "id": message.attributes.id,
        "metadata": from_message(api.PodSandboxMetadata, message.attributes.metadata),
        "labels": dict(message.attributes.labels),
        "process_count": message.linux.process.process_count.value,
        "interfaces": [from_message(api.NetworkInterfaceUsage, one) for one in (*interfaces, *network.interfaces)],
        "containers": [from_message(api.ContainerStats, one) for one in message.linux.containers],
        **_usage_in(message.linux),
    }


def _filesystem_out(message: Any, usage: api.FilesystemUsage) -> None:
    message.fs_id.mountpoint = usage.mountpoint


def _filesystem_in(message: Any) -> dict[str, Any]:
    return {"mountpoint": message.fs_id.mountpoint}


def _event_out(message: Any, event: api.ContainerEvent) -> None:
    message.pod_sandbox_status.id = event.pod_sandbox_id
    message.pod_sandbox_status.metadata.uid = event.pod_uid


def _event_in(message: Any) -> dict[str, Any]:
    sandbox = message.pod_sandbox_status
    return {"pod_sandbox_id": sandbox.id, "pod_uid": sandbox.metadata.uid}


_OUT: dict[type[Any], Callable[[Any, Any], None]] = {
    api.ContainerConfig: _signal_out,
    api.ContainerEvent: _event_out,
    api.ContainerStats: _stats_out,
    api.ContainerStatus: _status_out,
    api.FilesystemUsage: _filesystem_out,
    api.PodSandboxStats: _pod_stats_out,
    api.PodSandboxStatus: _sandbox_status_out,
}
_IN: dict[type[Any], Callable[[Any], dict[str, Any]]] = {
    api.ContainerConfig: _signal_in,
    api.ContainerEvent: _event_in,
    api.ContainerStats: _stats_in,
    api.ContainerStatus: _status_in,
    api.FilesystemUsage: _filesystem_in,
    api.PodSandboxStats: _pod_stats_in,
    api.PodSandboxStatus: _sandbox_status_in,
}
