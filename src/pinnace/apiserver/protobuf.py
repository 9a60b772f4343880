"""Request bodies in protobuf, read into the JSON objects they stand for.

Typed Go clients send what they create in this form (`kubectl create configmap` is one); answers stay JSON, which every
such client accepts, and which loses no field whose number is not known here. Field numbers are package data that
`tools/gen_protobuf.py` writes. The envelope is described at
https://kubernetes.io/docs/reference/using-api/api-concepts/#protobuf-encoding.
"""

from __future__ import annotations

import base64
import struct
import zlib
from collections.abc import Iterator
from datetime import UTC, datetime, timedelta
from functools import cache
from importlib.resources import files
from typing import Any

import orjson

from pinnace.machinery.meta import GVK, Obj, format_micro_time, format_time, parse_api_version
from pinnace.machinery.schema import Schema, Schemas

MEDIA_TYPE = "application/vnd.kubernetes.protobuf"
MAGIC = b"k8s\0"

_DOUBLE, _INT64, _UINT64, _INT32, _BOOL, _STRING, _MESSAGE, _BYTES = 1, 3, 4, 5, 8, 9, 11, 12
_MAP = 0
_MACHINERY = "k8s.io.apimachinery.pkg."

# A Go client sends the zero of a number or truth value that its author left out, unless the field is a pointer. The
# wire does not tell the two apart; these are the names of the pointers among them, whose zero is the author's.
_POINTERS = frozenset(
    word
    for line in (
        "replicas terminationGracePeriodSeconds backoffLimit parallelism completions ttlSecondsAfterFinished",
        "activeDeadlineSeconds revisionHistoryLimit runAsUser runAsGroup fsGroup tolerationSeconds expirationSeconds",
        "gracePeriodSeconds priority progressDeadlineSeconds successfulJobsHistoryLimit failedJobsHistoryLimit",
        "startingDeadlineSeconds deletionGracePeriodSeconds averageUtilization minReplicas defaultMode mode",
        "partition stabilizationWindowSeconds automountServiceAccountToken enableServiceLinks runAsNonRoot",
        "privileged readOnlyRootFilesystem allowPrivilegeEscalation controller blockOwnerDeletion suspend optional",
        "hostUsers shareProcessNamespace setHostnameAsFQDN immutable allocateLoadBalancerNodePorts orphanDependents",
        "allowVolumeExpansion attachRequired podInfoOnMount ready serving terminating started hostProcess",
        "leaseDurationSeconds leaseTransitions backoffLimitPerIndex maxFailedIndexes succeededCount manualSelector",
        "collisionCount terminatingReplicas targetCPUUtilizationPercentage currentCPUUtilizationPercentage",
        "nominalConcurrencyShares lendablePercent borrowingLimitPercent remainingItemCount minDomains endPort",
        "seLinuxMount requiresRepublish storageCapacity nodeAllocatableUpdatePeriodSeconds errorCode",
        "recursiveReadOnlyMounts userNamespaces supplementalGroupsPolicy",
    )
    for word in line.split()
)


# The same of names that are pointers in some messages only.
_POINTERS_OF = {
    "timeoutSeconds": ("MutatingWebhook", "ValidatingWebhook", "ClientIPConfig"),
    "port": ("EndpointPort", "ServiceReference"),
    "value": ("PodDNSConfigOption", "PriorityClass"),
}

# The few fields whose name in protobuf is not the one in JSON.
_SPELLED = {
    "Expression": "expression",
    "Name": "name",
    "Webhooks": "webhooks",
    "aPIGroup": "apiGroup",
    "uID": "uid",
}

# What the programs that the data is read from do not know yet: fields of pods that came with 1.34 and 1.35.
_CORE = "k8s.io.api.core.v1."
_NEWER: dict[str, dict[str, list[Any]]] = {
    "PodSpec": {"41": ["hostnameOverride", _STRING, ""]},
    "EnvVarSource": {"5": ["fileKeyRef", _MESSAGE, f"{_CORE}FileKeySelector"]},
    "FileKeySelector": {
        "1": ["volumeName", _STRING, ""],
        "2": ["path", _STRING, ""],
        "3": ["key", _STRING, ""],
        "4": ["optional", _BOOL, ""],
    },
    "Container": {"25": ["restartPolicyRules", -_MESSAGE, f"{_CORE}ContainerRestartRule"]},
    "EphemeralContainerCommon": {"25": ["restartPolicyRules", -_MESSAGE, f"{_CORE}ContainerRestartRule"]},
    "ContainerRestartRule": {
        "1": ["action", _STRING, ""],
        "2": ["exitCodes", _MESSAGE, f"{_CORE}ContainerRestartRuleOnExitCodes"],
    },
    "ContainerRestartRuleOnExitCodes": {"1": ["operator", _STRING, ""], "2": ["values", -_INT32, ""]},
    "VolumeProjection": {"6": ["podCertificate", _MESSAGE, f"{_CORE}PodCertificateProjection"]},
    "PodCertificateProjection": {
        "1": ["signerName", _STRING, ""],
        "2": ["keyType", _STRING, ""],
        "3": ["maxExpirationSeconds", _INT32, ""],
        "4": ["credentialBundlePath", _STRING, ""],
        "5": ["keyPath", _STRING, ""],
        "6": ["certificateChainPath", _STRING, ""],
        "7": ["userAnnotations", _MAP, [_STRING, _STRING, ""]],
    },
}


class ProtobufError(ValueError):
    """The bytes are not the message they should be."""


def load(body: bytes, schemas: Schemas) -> Obj:
    """The object in an enveloped body, `apiVersion` and `kind` first. Raises ProtobufError."""
    if not body.startswith(MAGIC):
        raise ProtobufError("provided data does not appear to be a protobuf message, expected prefix [107 56 115 0]")
    api_version, kind, raw = "", "", b""
    for number, _, value in wire_fields(body[len(MAGIC) :]):
        if number == 1:
            for inner, _, text in wire_fields(_as_bytes(value)):
                if inner == 1:
                    api_version = _as_text(text)
                elif inner == 2:
                    kind = _as_text(text)
        elif number == 2:
            raw = _as_bytes(value)
    group, version = parse_api_version(api_version)
    name = schemas.kinds.get(GVK(group, version, kind))
    if name is None and kind.endswith("Options"):
        name = f"io.k8s.apimachinery.pkg.apis.meta.v1.{kind}"
    message = (name or "").replace("io.k8s.", "k8s.io.", 1)  # OpenAPI writes the domain backwards
    if message not in _messages():
        raise ProtobufError(f'no kind "{kind}" is registered for version "{api_version}"')
    decoded = _read(message, raw, schemas)
    return {"apiVersion": api_version, "kind": kind, **decoded}


@cache
def _messages() -> dict[str, dict[str, list[Any]]]:
    text = (files("pinnace.apiserver") / "protobuf.z").read_bytes()
    found: dict[str, dict[str, list[Any]]] = orjson.loads(zlib.decompress(text))
    for fields in found.values():
        for field in fields.values():
            field[0] = _SPELLED.get(field[0], field[0])
    for message, newer in _NEWER.items():
        known = found.setdefault(_CORE + message, {})
        found[_CORE + message] = {**newer, **known}
    return found


def wire_fields(data: bytes) -> Iterator[tuple[int, int, Any]]:
    """`(number, wire type, value)` of each field: an int for varints, else bytes. Raises ProtobufError."""
    at, end = 0, len(data)
    while at < end:
        tag, at = _varint(data, at)
        number, wire = tag >> 3, tag & 7
        if wire == 0:
            value, at = _varint(data, at)
            yield number, wire, value
            continue
        if wire == 2:
            size, at = _varint(data, at)
        elif wire in (1, 5):
            size = 8 if wire == 1 else 4
        else:
            raise ProtobufError(f"proto: illegal wireType {wire}")
        if at + size > end:
            raise ProtobufError("unexpected EOF")
        yield number, wire, data[at : at + size]
        at += size


def _varint(data: bytes, at: int) -> tuple[int, int]:
    value = shift = 0
    while True:
        if at >= len(data):
            raise ProtobufError("unexpected EOF")
        if shift > 63:
            raise ProtobufError("proto: integer overflow")
        byte = data[at]
        at += 1
        value |= (byte & 0x7F) << shift
        if byte < 0x80:
            return value, at
        shift += 7


def _read(message: str, data: bytes, schemas: Schemas) -> Any:
    """One message as the JSON value it is in the API."""
    special = _SPECIAL.get(message)
    if special is not None:
        return special({number: value for number, _, value in wire_fields(data)})
    fields = _messages().get(message)
    if fields is None:
        raise ProtobufError(f"unknown message {message}")
    if list(fields) == ["1"] and fields["1"][:2] == ["items", -_STRING]:  # a list of strings with a name: ExtraValue
        return [_as_text(value) for number, _, value in wire_fields(data) if number == 1]
    schema = _schema(message, schemas)
    found: Obj = {}
    for number, wire, value in wire_fields(data):
        field = fields.get(str(number))
        if field is None:
            continue  # of a newer minor than the data knows
        name, kind, target = field
        if kind == _MAP:
            key, item = _entry(target, _as_bytes(value), schemas)
            found.setdefault(name, {})[key] = item
        elif kind < 0:
            found.setdefault(name, []).extend(_items(-kind, target, wire, value, schemas))
        elif kind == _MESSAGE:
            item = _read(target, _as_bytes(value), schemas)
            if schema is not None and name not in schema.fields and isinstance(item, dict):
                found.update(item)  # a Go struct that is embedded: its fields are its parent's
            elif item is not None:
                found[name] = item
        else:
            item = _scalar(kind, value)
            if item or _keeps_zero(message, name) or (schema is not None and name in schema.required):
                found[name] = item
    return found


def _keeps_zero(message: str, name: str) -> bool:
    return name in _POINTERS or message.rpartition(".")[2] in _POINTERS_OF.get(name, ())


def _schema(message: str, schemas: Schemas) -> Schema | None:
    try:
        return schemas.definition(message.replace("k8s.io.", "io.k8s.", 1))
    except KeyError:
        return None


def _entry(shape: list[Any], data: bytes, schemas: Schemas) -> tuple[str, Any]:
    _, value_kind, target = shape
    key: Any = ""
    value: Any = _read(target, b"", schemas) if value_kind == _MESSAGE else ""
    for number, _, item in wire_fields(data):
        if number == 1:
            key = _as_text(item)
        elif number == 2:
            value = _read(target, _as_bytes(item), schemas) if value_kind == _MESSAGE else _scalar(value_kind, item)
    return key, value


def _items(kind: int, target: str, wire: int, value: Any, schemas: Schemas) -> list[Any]:
    if kind == _MESSAGE:
        return [_read(target, _as_bytes(value), schemas)]
    if wire == 2 and kind not in (_STRING, _BYTES):  # packed
        data, at, found = _as_bytes(value), 0, []
        while at < len(data):
            item, at = _varint(data, at)
            found.append(_scalar(kind, item))
        return found
    return [_scalar(kind, value)]


def _scalar(kind: int, value: Any) -> Any:
    if kind == _STRING:
        return _as_text(value)
    if kind == _BYTES:
        return base64.b64encode(_as_bytes(value)).decode()
    if kind == _DOUBLE:
        return struct.unpack("<d", _as_bytes(value))[0]
    if not isinstance(value, int):
        raise ProtobufError("proto: wrong wireType")
    if kind == _BOOL:
        return bool(value)
    if kind in (_INT32, _INT64) and value >= 1 << 63:
        return value - (1 << 64)
    return value


def _as_bytes(value: Any) -> bytes:
    if not isinstance(value, bytes):
        raise ProtobufError("proto: wrong wireType")
    return value


def _as_text(value: Any) -> str:
    try:
        return _as_bytes(value).decode()
    except UnicodeDecodeError:
        raise ProtobufError("proto: invalid UTF-8") from None


# Messages that are no objects in JSON.


def _moment(fields: dict[int, Any]) -> datetime | None:
    if not fields:
        return None
    seconds = _scalar(_INT64, fields.get(1, 0))
    try:
        return datetime.fromtimestamp(seconds, UTC) + timedelta(microseconds=fields.get(2, 0) // 1000)
    except (ValueError, OverflowError, OSError):
        raise ProtobufError("time out of range") from None


def _time(fields: dict[int, Any]) -> str | None:
    moment = _moment(fields)
    return format_time(moment) if moment else None


def _micro_time(fields: dict[int, Any]) -> str | None:
    moment = _moment(fields)
    return format_micro_time(moment) if moment else None


def _int_or_string(fields: dict[int, Any]) -> Any:
    return _as_text(fields.get(3, b"")) if fields.get(1) else _scalar(_INT32, fields.get(2, 0))


def _json(fields: dict[int, Any]) -> Any:
    raw = _as_bytes(fields.get(1, b""))
    try:
        return orjson.loads(raw) if raw else None
    except orjson.JSONDecodeError as error:
        raise ProtobufError(str(error)) from None


_SPECIAL = {
    f"{_MACHINERY}api.resource.Quantity": lambda fields: _as_text(fields.get(1, b"0")),
    f"{_MACHINERY}util.intstr.IntOrString": _int_or_string,
    f"{_MACHINERY}apis.meta.v1.Time": _time,
    f"{_MACHINERY}apis.meta.v1.MicroTime": _micro_time,
    f"{_MACHINERY}apis.meta.v1.FieldsV1": _json,
    f"{_MACHINERY}runtime.RawExtension": _json,
}
