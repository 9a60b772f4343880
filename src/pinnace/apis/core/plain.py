"""The core kinds that need little: service accounts, pod templates and component statuses.

Specified in https://kubernetes.io/docs/reference/kubernetes-api/.
"""

from __future__ import annotations

from datetime import datetime
from typing import Any

from pinnace.apis.core.pod_defaults import default_template
from pinnace.apis.core.pod_spec import validate_template
from pinnace.apis.fields import AGE, NAME, age, column, containers_text, labels_text, name
from pinnace.apis.kind import Rules
from pinnace.machinery.errors import Cause
from pinnace.machinery.meta import Obj


def _row_account(account: Obj, now: datetime) -> list[Any]:
    return [name(account), len(account.get("secrets") or ()), age(account, now)]


SERVICE_ACCOUNT = Rules(columns=(NAME, column("Secrets"), AGE), row=_row_account)


def _default_pod_template(obj: Obj) -> None:
    default_template(obj.setdefault("template", {}))


def _validate_pod_template(obj: Obj) -> list[Cause]:
    return validate_template(obj.get("template") or {}, "template")


def _row_pod_template(obj: Obj, _now: datetime) -> list[Any]:
    template = obj.get("template") or {}
    containers, images = containers_text(template.get("spec") or {})
    return [name(obj), containers, images, labels_text((template.get("metadata") or {}).get("labels"))]


POD_TEMPLATE = Rules(
    columns=(NAME, column("Containers"), column("Images"), column("Pod Labels")),
    row=_row_pod_template,
    default=_default_pod_template,
    validate=_validate_pod_template,
)


def _row_component(component: Obj, _now: datetime) -> list[Any]:
    healthy: Obj = next((one for one in component.get("conditions") or () if one.get("type") == "Healthy"), {})
    status = {"True": "Healthy", "False": "Unhealthy"}.get(str(healthy.get("status")), "Unknown")
    return [name(component), status, healthy.get("message") or "", healthy.get("error") or ""]


COMPONENT_STATUS = Rules(
    columns=(NAME, column("Status"), column("Message"), column("Error")),
    row=_row_component,
)
