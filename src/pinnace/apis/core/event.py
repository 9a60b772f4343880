"""Events: what happened to an object, of the core group and, under other names, of `events.k8s.io`.

Both are the same objects, kept in the core form (https://kubernetes.io/docs/reference/kubernetes-api/cluster-resources/event-v1/).
"""

from __future__ import annotations

from datetime import datetime
from typing import Any

from pinnace.apis.checks import every, unchanged
from pinnace.apis.fields import column, name, selectable, wide
from pinnace.apis.kind import Rules
from pinnace.machinery import names
from pinnace.machinery.duration import since
from pinnace.machinery.errors import Cause, invalid_value, required
from pinnace.machinery.meta import Obj, parse_time

_SHORT, _LONG = 128, 1024  # characters that reasons and messages may have

_RENAMED = (
    # in the core group, in events.k8s.io
    ("involvedObject", "regarding"),
    ("message", "note"),
    ("reportingComponent", "reportingController"),
    ("source", "deprecatedSource"),
    ("firstTimestamp", "deprecatedFirstTimestamp"),
    ("lastTimestamp", "deprecatedLastTimestamp"),
    ("count", "deprecatedCount"),
)
_TO_CORE = {theirs: core for core, theirs in _RENAMED}
_FROM_CORE = dict(_RENAMED)


def to_core(event: Obj) -> Obj:
    """An event of `events.k8s.io/v1` as it is kept."""
    return {_TO_CORE.get(key, key): value for key, value in event.items()} | {"apiVersion": "v1"}


def from_core(event: Obj) -> Obj:
    """A kept event as `events.k8s.io/v1` shows it."""
    renamed = {_FROM_CORE.get(key, key): value for key, value in event.items()}
    return renamed | {"apiVersion": "events.k8s.io/v1"}


def _about(event: Obj) -> Obj:
    found: Obj = event.get("involvedObject") or event.get("regarding") or {}
    return found


def validate(event: Obj) -> list[Cause]:
    """What both groups ask of an event; more of one that says when it happened with `eventTime`."""
    given, namespace = _about(event).get("namespace") or "", event["metadata"].get("namespace") or ""
    if event.get("eventTime"):
        is_right = bool(given) or namespace in ("default", "kube-system")
    else:
        is_right = namespace == given if given else namespace in ("", "default")
    why = "does not match event.namespace"
    errors = [] if is_right else [invalid_value("involvedObject.namespace", given, why)]
    return errors + _reported(event) if event.get("eventTime") else errors


def _reported(event: Obj) -> list[Cause]:
    by = _either(event, "reportingComponent") or ""
    field = "reportingController" if event.get("apiVersion") != "v1" else "reportingComponent"
    errors = ([] if by else [required(field)]) + every(field, by, names.is_qualified_name(by))
    for key in ("reportingInstance", "action", "reason"):
        value = event.get(key) or ""
        if not value:
            errors.append(required(key))
        if len(value) > _SHORT:
            errors.append(invalid_value(key, "", f"can have at most {_SHORT} characters"))
    if len(_either(event, "message") or "") > _LONG:
        errors.append(invalid_value("message", "", f"can have at most {_LONG} characters"))
    return errors


_OLD_WAYS = ("firstTimestamp", "lastTimestamp", "count", "source")


def validate_new(event: Obj) -> list[Cause]:
    """For `events.k8s.io/v1`: nothing of the old ways, and the moment."""
    errors = validate(event) + _series(event)
    if not event.get("eventTime"):
        errors.append(required("eventTime"))
    kind = event.get("type") or ""
    if kind not in ("Normal", "Warning"):
        errors.append(invalid_value("type", "", f"has invalid value: {kind}"))
    return errors + [invalid_value(key, "", "needs to be unset") for key in _OLD_WAYS if event.get(_FROM_CORE[key])]


def _series(event: Obj) -> list[Cause]:
    series = event.get("series")
    if series is None:
        return []
    errors: list[Cause] = []
    if (series.get("count") or 0) < 2:
        errors.append(invalid_value("series.count", "", "should be at least 2"))
    if not series.get("lastObservedTime"):
        errors.append(required("series.lastObservedTime"))
    return errors


_FIXED = (
    ("regarding", "involvedObject"),
    ("reason", "reason"),
    ("note", "message"),
    ("deprecatedSource", "source"),
    ("deprecatedFirstTimestamp", "firstTimestamp"),
    ("deprecatedLastTimestamp", "lastTimestamp"),
    ("deprecatedCount", "count"),
    ("type", "type"),
    ("eventTime", "eventTime"),
    ("action", "action"),
    ("related", "related"),
    ("reportingController", "reportingController"),
    ("reportingInstance", "reportingInstance"),
)


def validate_update(new: Obj, old: Obj) -> list[Cause]:
    """For `events.k8s.io/v1`: an event that goes on is a longer series, and nothing else about it changes."""
    errors = _series(new) if new.get("series") != old.get("series") else []
    is_same_moment = _moment(new) == _moment(old)
    for key, shown in _FIXED:
        if not (key == "eventTime" and is_same_moment):
            errors += unchanged(shown, new.get(key), old.get(key))
    return errors


def _moment(event: Obj) -> datetime | None:
    """When it happened, to the microsecond; finer parts of a second and how it is written do not count."""
    text = event.get("eventTime")
    return parse_time(text) if text else None


def row(event: Obj, now: datetime) -> list[Any]:
    about, series = _about(event), event.get("series") or {}
    first, last = _either(event, "firstTimestamp"), _either(event, "lastTimestamp")
    first_seen = since(first or event.get("eventTime"), now)
    last_seen = since(last, now) if last else first_seen
    count = _either(event, "count") or 0
    if series:
        last_seen, count = since(series.get("lastObservedTime"), now), series.get("count") or 0
    return [
        last_seen,
        event.get("type") or "",
        event.get("reason") or "",
        f"{(about.get('kind') or '').lower()}/{about.get('name') or ''}",
        about.get("fieldPath") or "",
        _source(event),
        str(_either(event, "message") or "").strip(),
        first_seen,
        count or 1,
        name(event),
    ]


def _either(event: Obj, key: str) -> Any:
    value = event.get(key)
    return value if value is not None else event.get(_FROM_CORE[key])


def _source(event: Obj) -> str:
    source = _either(event, "source") or {}
    component = source.get("component") or _either(event, "reportingComponent") or ""
    host = source.get("host") or event.get("reportingInstance") or ""
    return f"{component}, {host}" if host else component


def _component(event: Obj) -> str:
    source = _either(event, "source") or {}
    return str(source.get("component") or _either(event, "reportingComponent") or "")


EVENT = Rules(
    columns=(
        column("Last Seen"),
        column("Type"),
        column("Reason"),
        column("Object"),
        wide("Subobject"),
        wide("Source"),
        column("Message"),
        wide("First Seen"),
        wide("Count"),
        wide("Name"),
    ),
    row=row,
    validate=validate,
    selectable_fields={
        **selectable(
            "involvedObject.kind",
            "involvedObject.namespace",
            "involvedObject.name",
            "involvedObject.uid",
            "involvedObject.apiVersion",
            "involvedObject.resourceVersion",
            "involvedObject.fieldPath",
            "reason",
            "reportingComponent",
            "type",
        ),
        "source": _component,
    },
)

_STORED_FIELDS = {
    "reportingController": "reportingComponent",
    **{
        f"regarding.{key}": f"involvedObject.{key}"
        for key in ("kind", "namespace", "name", "uid", "apiVersion", "resourceVersion", "fieldPath")
    },
}

EVENTS_V1 = Rules(
    columns=EVENT.columns,
    row=row,
    validate=validate_new,
    validate_when_updated=validate,
    validate_update=validate_update,
    selectable_fields=selectable(*_STORED_FIELDS, "reason", "type"),
    stored_fields=_STORED_FIELDS,
)
