"""One audited request, and its events: what is known of it at each stage, as `audit.k8s.io/v1` has it.

Bodies are put into the event as the bytes they came as, unless managed fields are to be left out of them.
https://kubernetes.io/docs/reference/config-api/apiserver-audit.v1/#audit-k8s-io-v1-Event.
"""

from __future__ import annotations

import itertools
import uuid
from collections.abc import Mapping
from dataclasses import dataclass, field
from datetime import datetime
from ipaddress import ip_address
from typing import Any
from urllib.parse import quote

import orjson

from pinnace.apiserver.audit.policy import RECEIVED, Level, Verdict
from pinnace.apiserver.authn import User
from pinnace.apiserver.rbac import namespace_of
from pinnace.apiserver.request_info import RequestInfo
from pinnace.machinery.meta import Obj, format_micro_time
from pinnace.wire.http import Request

_LONGEST_AGENT = 1024
_STATUS_FIELDS = ("status", "message", "reason", "details", "code")


@dataclass(slots=True)
class Record:
    """What the events of one request tell. Bodies are `orjson.Fragment` or JSON values."""

    verdict: Verdict
    audit_id: str
    uri: str
    verb: str
    user: User | None
    source_ips: list[str]
    user_agent: str
    received: datetime
    reference: Obj | None = None
    impersonated: User | None = None
    status: Obj | None = None
    request_object: Any = None
    response_object: Any = None
    annotations: dict[str, str] = field(default_factory=dict)

    def event(self, stage: str, now: datetime) -> Obj:
        """The event of a stage; parts of it are shared with the record."""
        received = format_micro_time(self.received)
        found: Obj = {
            "kind": "Event",
            "apiVersion": "audit.k8s.io/v1",
            "level": self.verdict.level.word,
            "auditID": self.audit_id,
            "stage": stage,
            "requestURI": self.uri,
            "verb": self.verb,
            "user": user_json(self.user) if self.user is not None else {},
        }
        if self.impersonated is not None:
            found["impersonatedUser"] = user_json(self.impersonated)
        if self.source_ips:
            found["sourceIPs"] = self.source_ips
        if self.user_agent:
            found["userAgent"] = self.user_agent
        if self.reference is not None:
            found["objectRef"] = self.reference
        if self.status is not None:
            found["responseStatus"] = {"metadata": {}, **self.status}
        if self.request_object is not None:
            found["requestObject"] = self.request_object
        if self.response_object is not None:
            found["responseObject"] = self.response_object
        found["requestReceivedTimestamp"] = received
        found["stageTimestamp"] = received if stage == RECEIVED else format_micro_time(now)
        if self.annotations:
            found["annotations"] = self.annotations
        return found

    def sent(self, obj: Any, body: bytes, verb: str) -> None:
        """What the request carried: as a JSON value, and as the bytes of that. A patch is no object of the kind."""
        meta = obj.get("metadata") if isinstance(obj, dict) and verb != "patch" else None
        if isinstance(meta, dict) and self.reference is not None:
            for name, key in (("namespace", "namespace"), ("name", "name"), ("uid", "uid"),
                              ("resourceVersion", "resourceVersion")):  # fmt: skip
                value = meta.get(key)
                if isinstance(value, str) and value and not self.reference.get(name):
                    self.reference[name] = value
        if self.verdict.level >= Level.REQUEST:
            self.request_object = self._kept(obj, body)

    def answered(self, code: int, body: bytes, *, is_object: bool) -> None:
        """The status of the answer, and what it carried; `body` is JSON where `is_object`."""
        self.status = {"code": code}
        if not is_object:
            return
        level = self.verdict.level
        if code < 400 and level < Level.REQUEST_RESPONSE and not _is_status(body):
            return
        try:
            obj = orjson.loads(body)
        except orjson.JSONDecodeError:
            return
        if isinstance(obj, dict) and obj.get("kind") == "Status" and obj.get("apiVersion") == "v1":
            self.status = {name: obj[name] for name in _STATUS_FIELDS if name in obj} | {"code": code}
        if level >= Level.REQUEST_RESPONSE:
            self.response_object = self._kept(obj, body)

    def _kept(self, obj: Any, body: bytes) -> Any:
        if not self.verdict.omit_managed_fields:
            return orjson.Fragment(body.replace(b"\n", b"").replace(b"\r", b""))  # an event is one line
        return without_managed_fields(obj)


_START = str(uuid.uuid4())[:24]  # of all ids of this process
_count = itertools.count(1)


def id_of(request: Request) -> str:
    """What the client calls the request, or a new id: random for the process, and counted up in it."""
    return request.headers.get("audit-id") or f"{_START}{next(_count):012x}"


def record_of(request: Request, info: RequestInfo, user: User | None, verdict: Verdict, now: datetime) -> Record:
    """What is known when the caller is."""
    path = request.raw_path or quote(request.path)
    agent = request.headers.get("user-agent", "")
    if len(agent) > _LONGEST_AGENT:
        agent = agent[:_LONGEST_AGENT] + "...TRUNCATED"
    return Record(
        verdict,
        id_of(request),
        f"{path}?{request.query}" if request.query and "?" not in path else path,
        info.verb,
        user,
        source_ips(request.headers, request.peer.address),
        agent,
        now,
        reference_of(info),
    )


def reference_of(info: RequestInfo) -> Obj | None:
    """The object that a path names; None for a path outside the resources."""
    if not info.is_resource:
        return None
    words = {
        "resource": info.resource,
        "namespace": namespace_of(info),
        "name": info.name,
        "apiGroup": info.group,
        "apiVersion": info.version,
        "subresource": info.subresource,
    }
    return {name: word for name, word in words.items() if word}


def user_json(user: User) -> Obj:
    """A UserInfo."""
    found: Obj = {"username": user.name}
    if user.uid:
        found["uid"] = user.uid
    if user.groups:
        found["groups"] = user.groups
    if user.extra:
        found["extra"] = dict(user.extra)
    return found


def source_ips(headers: Mapping[str, str], address: str) -> list[str]:
    """The addresses a request came through, the client's first: what proxies say, then who is connected."""
    found = [ip for ip in map(_ip, headers.get("x-forwarded-for", "").split(",")) if ip]
    real = _ip(headers.get("x-real-ip", ""))
    if real and real not in found:
        found.append(real)
    peer = _ip(address)
    if peer and (not found or found[-1] != peer):
        found.append(peer)
    return found


def _ip(text: str) -> str:
    try:
        return str(ip_address(text.strip()))
    except ValueError:
        return ""


def without_managed_fields(obj: Any) -> Any:
    """The same without `metadata.managedFields`, of a list's items and a table's rows too."""
    if not isinstance(obj, dict):
        return obj
    found = dict(obj)
    meta = found.get("metadata")
    if isinstance(meta, dict) and "managedFields" in meta:
        found["metadata"] = {name: value for name, value in meta.items() if name != "managedFields"}
    if isinstance(found.get("items"), list):
        found["items"] = [without_managed_fields(item) for item in found["items"]]
    if found.get("kind") == "Table" and isinstance(found.get("rows"), list):
        found["rows"] = [
            {**row, "object": without_managed_fields(row["object"])}
            if isinstance(row, dict) and "object" in row
            else row
            for row in found["rows"]
        ]
    return found


def _is_status(body: bytes) -> bool:
    return len(body) < 64 << 10 and b'"Status"' in body
