"""Stateful sets: pods with names, order and storage of their own.

Specified in https://kubernetes.io/docs/concepts/workloads/controllers/statefulset/.
"""

from __future__ import annotations

from datetime import datetime
from typing import Any

from pinnace.apis.checks import int_or_percent, not_negative, one_of
from pinnace.apis.core import persistent_volume_claim as claims
from pinnace.apis.fields import AGE, NAME, age, column, containers_text, name, spec_of, status_of, template_spec, wide
from pinnace.apis.kind import Rules
from pinnace.apis.metadata import name_is_label
from pinnace.apis.workload import (
    default_workload,
    validate_counts,
    validate_own_template,
    validate_selector,
)
from pinnace.machinery.errors import Cause, field_forbidden, invalid_value, required
from pinnace.machinery.meta import Obj


def default(stateful_set: Obj) -> None:
    spec = default_workload(stateful_set)
    if not spec.get("podManagementPolicy"):
        spec["podManagementPolicy"] = "OrderedReady"
    strategy = spec.setdefault("updateStrategy", {})
    if not strategy.get("type"):
        strategy["type"] = "RollingUpdate"
    if strategy["type"] == "RollingUpdate":
        rolling = strategy.get("rollingUpdate")
        if rolling is None:
            rolling = strategy["rollingUpdate"] = {}
        rolling.setdefault("partition", 0)
    retention = spec.setdefault("persistentVolumeClaimRetentionPolicy", {})
    retention.setdefault("whenDeleted", "Retain")
    retention.setdefault("whenScaled", "Retain")
    if spec.get("replicas") is None:
        spec["replicas"] = 1
    if spec.get("revisionHistoryLimit") is None:
        spec["revisionHistoryLimit"] = 10
    for claim in spec.get("volumeClaimTemplates") or ():
        claim.setdefault("apiVersion", "v1")
        claim.setdefault("kind", "PersistentVolumeClaim")
        claims.default(claim)
        claim["status"] = {"phase": "Pending"}


def prepare(stateful_set: Obj, old: Obj | None) -> None:
    if old is None:
        stateful_set["status"] = {"replicas": 0, "availableReplicas": 0}


def validate(stateful_set: Obj) -> list[Cause]:
    spec = spec_of(stateful_set)
    path = "spec"
    errors = one_of(f"{path}.podManagementPolicy", spec.get("podManagementPolicy"), ("OrderedReady", "Parallel"))
    errors += _strategy(spec.get("updateStrategy") or {}, f"{path}.updateStrategy")
    retention = spec.get("persistentVolumeClaimRetentionPolicy") or {}
    for key in ("whenDeleted", "whenScaled"):
        where = f"{path}.persistentVolumeClaimRetentionPolicy.{key}"
        errors += one_of(where, retention.get(key), ("Retain", "Delete"))
    errors += validate_counts(spec, "replicas", "minReadySeconds", "revisionHistoryLimit")
    if spec.get("ordinals"):
        errors += not_negative(f"{path}.ordinals.start", spec["ordinals"].get("start"))
    errors += validate_selector(spec.get("selector"), "statefulset")
    return errors + validate_own_template(_with_claims(spec), "StatefulSet")


def _with_claims(spec: Obj) -> Obj:
    """The spec with the volumes in its template that its pods get: containers may mount what claims are made for."""
    template = spec.get("template") or {}
    volumes = spec_of(template).get("volumes") or []
    present = {volume.get("name") for volume in volumes}
    wanted = [(claim.get("metadata") or {}).get("name") for claim in spec.get("volumeClaimTemplates") or ()]
    missing = [claim for claim in wanted if claim and claim not in present]
    own = [{"name": claim, "persistentVolumeClaim": {"claimName": claim}} for claim in dict.fromkeys(missing)]
    return {**spec, "template": {**template, "spec": {**spec_of(template), "volumes": [*volumes, *own]}}}


def _strategy(strategy: Obj, path: str) -> list[Cause]:
    kind, rolling = strategy.get("type"), strategy.get("rollingUpdate")
    if not kind:
        return [required(path)]
    if kind == "OnDelete":
        if rolling is not None:
            why = "only allowed for updateStrategy 'RollingUpdate'"
            return [invalid_value(f"{path}.rollingUpdate", rolling, why)]
        return []
    if kind == "RollingUpdate":
        errors = not_negative(f"{path}.rollingUpdate.partition", (rolling or {}).get("partition"))
        most = (rolling or {}).get("maxUnavailable")
        errors += int_or_percent(f"{path}.rollingUpdate.maxUnavailable", most)
        if most in (0, "0%"):
            errors.append(invalid_value(f"{path}.rollingUpdate.maxUnavailable", most, "cannot be 0"))
        return errors
    return [invalid_value(path, strategy, "must be 'RollingUpdate' or 'OnDelete'")]


_MUTABLE = (
    "replicas",
    "ordinals",
    "template",
    "updateStrategy",
    "revisionHistoryLimit",
    "persistentVolumeClaimRetentionPolicy",
    "minReadySeconds",
)
_FIXED_SPEC = (
    "updates to statefulset spec for fields other than 'replicas', 'ordinals', 'template', 'updateStrategy', "
    "'revisionHistoryLimit', 'persistentVolumeClaimRetentionPolicy' and 'minReadySeconds' are forbidden"
)


def validate_update(new: Obj, old: Obj) -> list[Cause]:
    def fixed(spec: Obj) -> Obj:
        return {key: value for key, value in spec.items() if key not in _MUTABLE and value not in ("", None, [])}

    return [] if fixed(new["spec"]) == fixed(old["spec"]) else [field_forbidden("spec", _FIXED_SPEC)]


def row(stateful_set: Obj, now: datetime) -> list[Any]:
    spec, status = spec_of(stateful_set), status_of(stateful_set)
    containers, images = containers_text(template_spec(stateful_set))
    ready = f"{status.get('readyReplicas') or 0}/{spec.get('replicas') or 0}"
    return [name(stateful_set), ready, age(stateful_set, now), containers, images]


STATEFUL_SET = Rules(
    name=name_is_label,
    columns=(NAME, column("Ready"), AGE, wide("Containers"), wide("Images")),
    row=row,
    default=default,
    validate=validate,
    validate_update=validate_update,
    prepare=prepare,
)
