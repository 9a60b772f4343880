"""Cron jobs: jobs by the clock.

Specified in https://kubernetes.io/docs/concepts/workloads/controllers/cron-jobs/.
"""

from __future__ import annotations

from datetime import datetime
from typing import Any

from pinnace.apis.batch.job import validate_job_spec
from pinnace.apis.batch.schedule import schedule_error
from pinnace.apis.checks import not_negative, one_of
from pinnace.apis.core.pod_defaults import default_template
from pinnace.apis.fields import (
    AGE,
    NAME,
    NONE,
    age,
    column,
    containers_text,
    name,
    selector_text,
    spec_of,
    status_of,
    wide,
)
from pinnace.apis.kind import Rules
from pinnace.apis.workload import forget_status
from pinnace.machinery.duration import since
from pinnace.machinery.errors import Cause, invalid_value, required
from pinnace.machinery.meta import Obj

NAME_LIMIT = 52  # what is left of 63 when the moment is added to the names of jobs


def default(cron_job: Obj) -> None:
    spec = cron_job.setdefault("spec", {})
    if not spec.get("concurrencyPolicy"):
        spec["concurrencyPolicy"] = "Allow"
    for key, value in (("suspend", False), ("successfulJobsHistoryLimit", 3), ("failedJobsHistoryLimit", 1)):
        if spec.get(key) is None:
            spec[key] = value
    template = spec.setdefault("jobTemplate", {})
    template.setdefault("metadata", {})
    default_template(template.setdefault("spec", {}).setdefault("template", {}))


def validate(cron_job: Obj) -> list[Cause]:
    spec = spec_of(cron_job)
    errors = _schedule(spec)
    errors += not_negative("spec.startingDeadlineSeconds", spec.get("startingDeadlineSeconds"))
    errors += one_of("spec.concurrencyPolicy", spec.get("concurrencyPolicy"), ("Allow", "Forbid", "Replace"))
    job = (spec.get("jobTemplate") or {}).get("spec") or {}
    errors += validate_job_spec(job, "spec.jobTemplate.spec")
    if job.get("manualSelector"):
        why = 'Unsupported value: true: supported values: "nil", "false"'
        errors.append(Cause("FieldValueNotSupported", why, "spec.jobTemplate.spec.manualSelector"))
    for key in ("successfulJobsHistoryLimit", "failedJobsHistoryLimit"):
        errors += not_negative(f"spec.{key}", spec.get(key))
    if len(cron_job["metadata"].get("name") or "") > NAME_LIMIT:
        why = f"must be no more than {NAME_LIMIT} characters"
        errors.append(invalid_value("metadata.name", cron_job["metadata"]["name"], why))
    return errors


def _schedule(spec: Obj) -> list[Cause]:
    schedule = spec.get("schedule")
    if not schedule:
        return [required("spec.schedule")]
    if "TZ" in schedule:
        why = "cannot use TZ or CRON_TZ in schedule, use timeZone field instead"
        return [invalid_value("spec.schedule", schedule, why)]
    errors: list[Cause] = []
    if wrong := schedule_error(schedule):
        errors.append(invalid_value("spec.schedule", schedule, wrong))
    zone = spec.get("timeZone")
    if zone == "":
        errors.append(invalid_value("spec.timeZone", zone, "timeZone must be nil or non-empty string"))
    elif zone and zone.lower() == "local":
        errors.append(
            invalid_value(
                "spec.timeZone",
                zone,
                "timeZone must be an explicit time zone as defined in https://www.iana.org/time-zones",
            )
        )
    return errors


def row(cron_job: Obj, now: datetime) -> list[Any]:
    spec, status = spec_of(cron_job), status_of(cron_job)
    job = (spec.get("jobTemplate") or {}).get("spec") or {}
    containers, images = containers_text((job.get("template") or {}).get("spec") or {})
    last = status.get("lastScheduleTime")
    return [
        name(cron_job),
        spec.get("schedule") or "",
        spec.get("timeZone") or NONE,
        str(bool(spec.get("suspend"))),
        len(status.get("active") or ()),
        since(last, now) if last else NONE,
        age(cron_job, now),
        containers,
        images,
        selector_text(job.get("selector")),
    ]


CRON_JOB = Rules(
    columns=(
        NAME,
        column("Schedule"),
        column("Timezone"),
        column("Suspend"),
        column("Active", "integer"),
        column("Last Schedule"),
        AGE,
        wide("Containers"),
        wide("Images"),
        wide("Selector"),
    ),
    row=row,
    default=default,
    validate=validate,
    prepare=forget_status,
)
