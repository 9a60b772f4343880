"""Replication controllers: the replica sets of old, with a plain map for a selector.

Specified in https://kubernetes.io/docs/concepts/workloads/controllers/replicationcontroller/.
"""

from __future__ import annotations

from datetime import datetime
from typing import Any

from pinnace.apis.apps.replica_set import COLUMNS
from pinnace.apis.core.pod_defaults import default_template
from pinnace.apis.core.pod_spec import validate_template
from pinnace.apis.fields import (
    age,
    containers_text,
    labels_text,
    name,
    selectable,
    spec_of,
    status_of,
    template_spec,
)
from pinnace.apis.kind import Rules
from pinnace.apis.workload import validate_counts
from pinnace.machinery.errors import Cause, invalid_value, not_supported, required
from pinnace.machinery.meta import Obj


def default(controller: Obj) -> None:
    spec = controller.setdefault("spec", {})
    template = spec.get("template")
    if template is not None:
        default_template(template)
        if labels := template["metadata"].get("labels"):
            if not spec.get("selector"):
                spec["selector"] = dict(labels)
            if not controller["metadata"].get("labels"):
                controller["metadata"]["labels"] = dict(labels)
    if spec.get("replicas") is None:
        spec["replicas"] = 1


def prepare(controller: Obj, old: Obj | None) -> None:
    if old is None:
        controller["status"] = {"replicas": 0}


def validate(controller: Obj) -> list[Cause]:
    spec = spec_of(controller)
    errors = validate_counts(spec, "minReadySeconds")
    selector = spec.get("selector")
    if not selector:
        errors.append(required("spec.selector"))
    errors += validate_counts(spec, "replicas")
    template = spec.get("template")
    if not template:
        return [*errors, required("spec.template")]
    labels = (template.get("metadata") or {}).get("labels") or {}
    if selector and not selector.items() <= labels.items():
        why = "`selector` does not match template `labels`"
        errors.append(invalid_value("spec.template.metadata.labels", labels, why))
    errors += validate_template(template, "spec.template")
    policy = (template.get("spec") or {}).get("restartPolicy")
    if policy != "Always":
        errors.append(not_supported("spec.template.spec.restartPolicy", policy, ("Always",)))
    return errors


def row(controller: Obj, now: datetime) -> list[Any]:
    spec, status = spec_of(controller), status_of(controller)
    containers, images = containers_text(template_spec(controller))
    return [
        name(controller),
        spec.get("replicas") or 0,
        status.get("replicas") or 0,
        status.get("readyReplicas") or 0,
        age(controller, now),
        containers,
        images,
        labels_text(spec.get("selector")),
    ]


REPLICATION_CONTROLLER = Rules(
    columns=COLUMNS,
    row=row,
    default=default,
    validate=validate,
    prepare=prepare,
    selectable_fields=selectable("status.replicas", status_replicas="0"),
)
