"""Jobs: pods that run to their end.

Specified in https://kubernetes.io/docs/concepts/workloads/controllers/job/.
"""

from __future__ import annotations

from datetime import datetime
from typing import Any

from pinnace.apis.checks import MAX_INT32, domain_prefixed_path, not_negative, one_of, optional_one_of, unchanged
from pinnace.apis.core.pod_spec import validate_template
from pinnace.apis.fields import (
    AGE,
    NAME,
    age,
    column,
    containers_text,
    name,
    selector_text,
    spec_of,
    status_of,
    template_spec,
    wide,
)
from pinnace.apis.kind import Rules
from pinnace.apis.workload import default_workload, not_selected
from pinnace.machinery.duration import human_duration, since
from pinnace.machinery.errors import Cause, field_forbidden, invalid_value, required, too_long, too_many
from pinnace.machinery.meta import Obj, is_deleting, parse_time
from pinnace.machinery.selectors import label_selector_errors

CONTROLLER_UID = "batch.kubernetes.io/controller-uid"
JOB_NAME = "batch.kubernetes.io/job-name"

_MAX_INDEXED = 100_000
_MANAGER_LENGTH = 63
_MOST_SUCCESS_RULES = 20


def default(job: Obj) -> None:
    spec = default_workload(job)
    if spec.get("completions") is None and spec.get("parallelism") is None:
        spec["completions"] = spec["parallelism"] = 1
    if spec.get("parallelism") is None:
        spec["parallelism"] = 1
    if spec.get("backoffLimit") is None:
        spec["backoffLimit"] = 6 if spec.get("backoffLimitPerIndex") is None else MAX_INT32
    if not spec.get("completionMode"):
        spec["completionMode"] = "NonIndexed"
    if spec.get("suspend") is None:
        spec["suspend"] = False
    if spec.get("manualSelector") is None:
        spec["manualSelector"] = False
    if not spec.get("podReplacementPolicy"):
        spec["podReplacementPolicy"] = "Failed" if spec.get("podFailurePolicy") else "TerminatingOrFailed"
    labels = spec["template"]["metadata"].get("labels")
    if labels and not job["metadata"].get("labels"):
        job["metadata"]["labels"] = dict(labels)
    for rule in (spec.get("podFailurePolicy") or {}).get("rules") or ():
        for pattern in rule.get("onPodConditions") or ():
            if not pattern.get("status"):
                pattern["status"] = "True"


def prepare(job: Obj, old: Obj | None) -> None:
    """A new job is told apart by its uid, which its pods carry as a label; needs name and uid."""
    if old is not None:
        return
    job["status"] = {}
    spec = job["spec"]
    if spec.get("manualSelector"):
        return
    uid, job_name = job["metadata"].get("uid") or "", job["metadata"].get("name") or ""
    labels = spec["template"]["metadata"].setdefault("labels", {})
    labels.update({"controller-uid": uid, CONTROLLER_UID: uid, "job-name": job_name, JOB_NAME: job_name})
    selector = spec.setdefault("selector", {})
    selector.setdefault("matchLabels", {}).setdefault(CONTROLLER_UID, uid)


def validate(job: Obj) -> list[Cause]:
    spec = spec_of(job)
    errors = _generated_selector(job)
    errors += validate_job_spec(spec, "spec")
    if spec.get("selector") is None:
        errors.append(required("spec.selector"))
    else:
        errors += label_selector_errors(spec["selector"], "spec.selector")
        errors += not_selected(spec["selector"], spec.get("template") or {}, "spec.template")
    return errors


def _generated_selector(job: Obj) -> list[Cause]:
    spec = spec_of(job)
    if spec.get("manualSelector"):
        return []
    uid = job["metadata"].get("uid")
    matched = (spec.get("selector") or {}).get("matchLabels") or {}
    labels = ((spec.get("template") or {}).get("metadata") or {}).get("labels") or {}
    errors: list[Cause] = []
    for key in (CONTROLLER_UID, "controller-uid"):
        if key in labels and labels[key] != uid:
            path = f"spec.template.metadata.labels[{key}]"
            errors.append(invalid_value(path, labels, f"must be '{uid}'"))
    generated = ({CONTROLLER_UID: uid}, {"controller-uid": uid})
    if matched and (matched not in generated or spec["selector"].get("matchExpressions")):
        errors.append(invalid_value("spec.selector", spec["selector"], "`selector` not auto-generated"))
    return errors


_COUNTS = ("parallelism", "completions", "activeDeadlineSeconds", "backoffLimit", "ttlSecondsAfterFinished")


def validate_job_spec(spec: Obj, path: str) -> list[Cause]:
    """The spec of a job, or of a cron job's template of jobs."""
    errors = [error for key in _COUNTS for error in not_negative(f"{path}.{key}", spec.get(key))]
    for key in ("backoffLimitPerIndex", "maxFailedIndexes"):
        errors += not_negative(f"{path}.{key}", spec.get(key))
    mode = spec.get("completionMode")
    errors += optional_one_of(f"{path}.completionMode", mode, ("Indexed", "NonIndexed"))
    if mode == "Indexed":
        errors += _indexed(spec, path)
    else:
        errors += [
            invalid_value(f"{path}.{key}", spec[key], "requires indexed completion mode")
            for key in ("backoffLimitPerIndex", "maxFailedIndexes", "successPolicy")
            if spec.get(key) is not None
        ]
    if spec.get("managedBy") is not None:
        errors += domain_prefixed_path(f"{path}.managedBy", spec["managedBy"])
        if len(spec["managedBy"]) > _MANAGER_LENGTH:
            errors.append(too_long(f"{path}.managedBy", _MANAGER_LENGTH))
    policy = spec.get("podReplacementPolicy")
    errors += optional_one_of(f"{path}.podReplacementPolicy", policy, ("Failed", "TerminatingOrFailed"))
    template = spec.get("template") or {}
    errors += validate_template(template, f"{path}.template")
    restart = (template.get("spec") or {}).get("restartPolicy")
    if restart not in ("OnFailure", "Never"):
        errors.append(required(f"{path}.template.spec.restartPolicy", 'valid values: "OnFailure", "Never"'))
    if spec.get("podFailurePolicy"):
        errors += _failure_policy(spec["podFailurePolicy"], restart, f"{path}.podFailurePolicy")
    return errors


def _indexed(spec: Obj, path: str) -> list[Cause]:
    completions, parallelism, failed = (spec.get(key) for key in ("completions", "parallelism", "maxFailedIndexes"))
    errors: list[Cause] = []
    if completions is None:
        errors.append(required(f"{path}.completions", "when completion mode is Indexed"))
    if parallelism is not None and parallelism > _MAX_INDEXED:
        why = f"must be less than or equal to {_MAX_INDEXED} when completion mode is Indexed"
        errors.append(invalid_value(f"{path}.parallelism", parallelism, why))
    if failed is not None:
        if spec.get("backoffLimitPerIndex") is None:
            errors.append(required(f"{path}.backoffLimitPerIndex", "when maxFailedIndexes is specified"))
        if completions is not None and failed > completions:
            why = "must be less than or equal to completions"
            errors.append(invalid_value(f"{path}.maxFailedIndexes", failed, why))
        if failed > _MAX_INDEXED:
            why = f"must be less than or equal to {_MAX_INDEXED}"
            errors.append(invalid_value(f"{path}.maxFailedIndexes", failed, why))
    if spec.get("successPolicy") is not None:
        errors += _success_policy(spec["successPolicy"], completions or 0, f"{path}.successPolicy")
    return errors


def _success_policy(policy: Obj, completions: int, path: str) -> list[Cause]:
    rules = policy.get("rules") or []
    if not rules:
        return [required(f"{path}.rules", "at least one rules must be specified when the successPolicy is specified")]
    if len(rules) > _MOST_SUCCESS_RULES:
        return [too_many(f"{path}.rules", len(rules), _MOST_SUCCESS_RULES)]
    errors: list[Cause] = []
    for index, rule in enumerate(rules):
        at, count = f"{path}.rules[{index}]", rule.get("succeededCount")
        if count is None and rule.get("succeededIndexes") is None:
            errors.append(required(at, "at least one of succeededCount or succeededIndexes must be specified"))
        if count is not None and count < 1:
            errors.append(invalid_value(f"{at}.succeededCount", count, "must be greater than or equal to 1"))
        elif count is not None and count > completions:
            why = f"must be less than or equal to {completions} (the number of specified completions)"
            errors.append(invalid_value(f"{at}.succeededCount", count, why))
    return errors


def _failure_policy(policy: Obj, restart: Any, path: str) -> list[Cause]:
    errors: list[Cause] = []
    if restart != "Never":
        why = 'only "Never" is supported when podFailurePolicy is specified'
        errors.append(invalid_value("spec.template.spec.restartPolicy", restart, why))
    for index, rule in enumerate(policy.get("rules") or ()):
        at = f"{path}.rules[{index}]"
        errors += one_of(f"{at}.action", rule.get("action"), ("Count", "FailIndex", "FailJob", "Ignore"))
        codes, conditions = rule.get("onExitCodes"), rule.get("onPodConditions")
        if codes is not None and conditions:
            why = "specifying both OnExitCodes and OnPodConditions is not supported"
            errors.append(field_forbidden(at, why))
        elif codes is None and not conditions:
            errors.append(invalid_value(at, rule, "specifying one of OnExitCodes and OnPodConditions is required"))
        if codes is not None:
            errors += one_of(f"{at}.onExitCodes.operator", codes.get("operator"), ("In", "NotIn"))
            if not codes.get("values"):
                errors.append(invalid_value(f"{at}.onExitCodes.values", [], "at least one value is required"))
    return errors


_SCHEDULING = ("nodeSelector", "affinity", "tolerations", "schedulingGates")


def validate_update(new: Obj, old: Obj) -> list[Cause]:
    spec, before = new["spec"], old["spec"]
    errors = unchanged("spec.selector", spec.get("selector"), before.get("selector"))
    if not _template_may_change(new, old):
        errors += unchanged("spec.template", spec.get("template"), before.get("template"))
    for key in ("completionMode", "podFailurePolicy", "backoffLimitPerIndex", "managedBy", "successPolicy"):
        errors += unchanged(f"spec.{key}", spec.get(key), before.get(key))
    if spec.get("completions") != before.get("completions"):
        elastic = spec.get("completionMode") == "Indexed" and spec.get("completions") == spec.get("parallelism")
        if not elastic:
            errors += unchanged("spec.completions", spec.get("completions"), before.get("completions"))
    return errors


def _template_may_change(new: Obj, old: Obj) -> bool:
    """A suspended job that never started may still be told where to run."""
    if not old["spec"].get("suspend") or status_of(old).get("startTime"):
        return False

    def fixed(job: Obj) -> Obj:
        template = job["spec"].get("template") or {}
        pod = template.get("spec") or {}
        return {key: value for key, value in pod.items() if key not in _SCHEDULING}

    return fixed(new) == fixed(old)


def row(job: Obj, now: datetime) -> list[Any]:
    spec, status = spec_of(job), status_of(job)
    containers, images = containers_text(template_spec(job))
    return [
        name(job),
        _status(job, status),
        _completions(spec, status),
        _duration(status, now),
        age(job, now),
        containers,
        images,
        selector_text(spec.get("selector")),
    ]


def _status(job: Obj, status: Obj) -> str:
    true = {condition.get("type") for condition in status.get("conditions") or () if condition.get("status") == "True"}
    for word in ("Complete", "Failed"):
        if word in true:
            return word
    if is_deleting(job):
        return "Terminating"
    for word in ("Suspended", "FailureTarget", "SuccessCriteriaMet"):
        if word in true:
            return word
    return "Running"


def _completions(spec: Obj, status: Obj) -> str:
    done = status.get("succeeded") or 0
    if spec.get("completions") is not None:
        return f"{done}/{spec['completions']}"
    side_by_side = spec.get("parallelism") or 0
    return f"{done}/1 of {side_by_side}" if side_by_side > 1 else f"{done}/1"


def _duration(status: Obj, now: datetime) -> str:
    start, end = status.get("startTime"), status.get("completionTime")
    if not start:
        return ""
    return human_duration((parse_time(end) - parse_time(start)).total_seconds()) if end else since(start, now)


JOB = Rules(
    columns=(
        NAME,
        column("Status"),
        column("Completions"),
        column("Duration"),
        AGE,
        wide("Containers"),
        wide("Images"),
        wide("Selector"),
    ),
    row=row,
    default=default,
    validate=validate,
    validate_update=validate_update,
    prepare=prepare,
    selectable_fields={"status.successful": lambda job: str(status_of(job).get("succeeded") or 0)},
)
