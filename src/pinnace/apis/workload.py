"""What kinds that make pods from a template have in common: selector, template, replicas and status.

Specified in https://kubernetes.io/docs/concepts/workloads/controllers/.
"""

from __future__ import annotations

from collections.abc import Mapping

from pinnace.apis.checks import int_or_none, int_or_percent, not_negative, percent_at_most_100
from pinnace.apis.core.pod_defaults import default_template
from pinnace.apis.core.pod_spec import validate_template
from pinnace.machinery.errors import Cause, field_forbidden, invalid_value, not_supported, required
from pinnace.machinery.meta import Obj
from pinnace.machinery.selectors import LabelSelector, SelectorError, label_selector_errors


def default_workload(obj: Obj) -> Obj:
    """Give a workload its spec and the spec its template's defaults; returns the spec."""
    spec: Obj = obj.setdefault("spec", {})
    default_template(spec.setdefault("template", {}))
    return spec


def forget_status(obj: Obj, old: Obj | None) -> None:
    """A new object's status is not its author's to write."""
    if old is None:
        obj["status"] = {}


def validate_selector(selector: Obj | None, word: str, path: str = "spec.selector") -> list[Cause]:
    """A selector must be there, be well formed and select something."""
    if selector is None:
        return [required(path)]
    errors = label_selector_errors(selector, path)
    if not selector.get("matchLabels") and not selector.get("matchExpressions"):
        errors.append(invalid_value(path, selector, f"empty selector is invalid for {word}"))
    return errors


def selects(selector: Obj | None, labels: Mapping[str, str]) -> bool:
    try:
        return LabelSelector.from_json(selector).matches(labels)
    except SelectorError:
        return False


def validate_own_template(spec: Obj, word: str, path: str = "spec") -> list[Cause]:
    """The template of a workload whose pods run forever, chosen by its `LabelSelector`."""
    template = spec.get("template") or {}
    errors = not_selected(spec.get("selector"), template, f"{path}.template")
    errors += validate_template(template, f"{path}.template")
    pod = template.get("spec") or {}
    if pod.get("restartPolicy") != "Always":
        errors.append(not_supported(f"{path}.template.spec.restartPolicy", pod.get("restartPolicy"), ("Always",)))
    if pod.get("activeDeadlineSeconds") is not None:
        why = f"activeDeadlineSeconds in {word} is not Supported"
        errors.append(field_forbidden(f"{path}.template.spec.activeDeadlineSeconds", why))
    return errors


def not_selected(selector: Obj | None, template: Obj, path: str) -> list[Cause]:
    """Pods must be found again by the selector of what made them."""
    labels = (template.get("metadata") or {}).get("labels") or {}
    if selector and not selects(selector, labels):
        return [invalid_value(f"{path}.metadata.labels", labels, "`selector` does not match template `labels`")]
    return []


def validate_counts(spec: Obj, *keys: str) -> list[Cause]:
    return [error for key in keys for error in not_negative(f"spec.{key}", spec.get(key))]


def validate_rollout(rolling: Obj, path: str) -> list[Cause]:
    """`maxUnavailable` and `maxSurge` of a rolling update: pods must be free to go, or to come."""
    errors: list[Cause] = []
    for key in ("maxUnavailable", "maxSurge"):
        errors += int_or_percent(f"{path}.{key}", rolling.get(key))
    if int_or_none(rolling.get("maxUnavailable")) == 0 and int_or_none(rolling.get("maxSurge")) == 0:
        why = "may not be 0 when `maxSurge` is 0"
        errors.append(invalid_value(f"{path}.maxUnavailable", rolling["maxUnavailable"], why))
    return errors + percent_at_most_100(f"{path}.maxUnavailable", rolling.get("maxUnavailable"))
