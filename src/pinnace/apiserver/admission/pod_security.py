"""PodSecurity: pods keep to the standard their namespace enforces, and their authors are warned of the one it warns of.

https://kubernetes.io/docs/concepts/security/pod-security-admission/.
"""

from __future__ import annotations

from collections import Counter
from typing import TYPE_CHECKING

from pinnace.apis.resources import NAMESPACES, PODS
from pinnace.apiserver.admission.chain import Attributes, Plugin
from pinnace.apiserver.cache import Filter
from pinnace.machinery import errors
from pinnace.machinery.meta import Obj, get_in, labels_of

if TYPE_CHECKING:
    from pinnace.apis.podsecurity.policy import Standard

_PREFIX = "pod-security.kubernetes.io"
_LABELS = f'"{_PREFIX}/'.encode()
_IGNORED = ("attach", "binding", "eviction", "exec", "log", "portforward", "proxy", "status")
_TEMPLATES: dict[tuple[str, str], tuple[str, ...]] = {
    ("", "podtemplates"): ("template",),
    ("", "replicationcontrollers"): ("spec", "template"),
    ("apps", "daemonsets"): ("spec", "template"),
    ("apps", "deployments"): ("spec", "template"),
    ("apps", "replicasets"): ("spec", "template"),
    ("apps", "statefulsets"): ("spec", "template"),
    ("batch", "cronjobs"): ("spec", "jobTemplate", "spec", "template"),
    ("batch", "jobs"): ("spec", "template"),
}
_MOST_PODS = 3000  # looked at when a namespace begins to enforce


class PodSecurity(Plugin):
    concerns = frozenset({("", "namespaces"), ("", "pods"), *_TEMPLATES})

    async def validate(self, attributes: Attributes) -> None:
        if attributes.obj is None or attributes.operation not in ("CREATE", "UPDATE"):
            return
        if attributes.resource == ("", "pods"):
            if attributes.subresource not in _IGNORED:
                _judge_pod(attributes, attributes.obj)
        elif attributes.subresource:
            return
        elif attributes.resource in _TEMPLATES:
            _judge_template(attributes, attributes.obj)
        elif attributes.resource == ("", "namespaces"):
            _judge_namespace(attributes, attributes.obj)


def _namespace_labels(attributes: Attributes) -> dict[str, str] | None:
    """The labels of the request's namespace; None where none of them concerns us."""
    found = attributes.call.api.storage.cache(NAMESPACES).get(attributes.namespace)
    return labels_of(found.obj()) if found is not None and _LABELS in found.raw else None


def _judge_pod(attributes: Attributes, pod: Obj) -> None:
    labels = _namespace_labels(attributes)
    if labels is None or (attributes.old is not None and not _matters(pod, attributes.old)):
        return
    from pinnace.apis.podsecurity.evaluation import violations
    from pinnace.apis.podsecurity.policy import policy_of

    policy, _ = policy_of(labels)
    attributes.annotate(f"{_PREFIX}/enforce-policy", str(policy.enforce))
    _note(attributes, policy.audit, pod["metadata"], pod["spec"])
    text = violations(policy.enforce, pod["metadata"], pod["spec"])
    if text:
        raise attributes.forbidden(text)
    _warn(attributes, policy.warn, pod["metadata"], pod["spec"])


def _judge_template(attributes: Attributes, workload: Obj) -> None:
    """A workload is never refused: its pods are. Its author is told in time."""
    labels = _namespace_labels(attributes)
    template = get_in(workload, *_TEMPLATES[attributes.resource])
    if labels is None or not template:
        return
    from pinnace.apis.podsecurity.policy import policy_of

    policy, _ = policy_of(labels)
    meta, spec = template.get("metadata") or {}, template.get("spec") or {}
    _note(attributes, policy.audit, meta, spec)
    _warn(attributes, policy.warn, meta, spec)


def _warn(attributes: Attributes, standard: Standard, meta: Obj, spec: Obj) -> None:
    from pinnace.apis.podsecurity.evaluation import violations

    text = violations(standard, meta, spec)
    if text:
        attributes.call.warnings.append("would " + text.replace("violates", "violate", 1))


def _note(attributes: Attributes, standard: Standard, meta: Obj, spec: Obj) -> None:
    """Leave what the audited standard would not let in to the audit log, where there is one."""
    if attributes.call.api.options.audit.policy_file is None:
        return
    from pinnace.apis.podsecurity.evaluation import violations

    text = violations(standard, meta, spec)
    if text:
        attributes.annotate(f"{_PREFIX}/audit-violations", "would " + text.replace("violates", "violate", 1))


def _matters(pod: Obj, old: Obj) -> bool:
    """Whether an update changes what the standards look at: images come and go, little else of a pod can."""

    def looked_at(one: Obj) -> list[object]:
        spec, annotations = one["spec"], one["metadata"].get("annotations") or {}
        containers = [*(spec.get("containers") or ()), *(spec.get("initContainers") or ())]
        profiles = {key: value for key, value in annotations.items() if "seccomp." in key or "apparmor." in key}
        return [[c.get("image") for c in containers], spec.get("ephemeralContainers") or [], profiles]

    return looked_at(pod) != looked_at(old)


def _judge_namespace(attributes: Attributes, namespace: Obj) -> None:
    labels, before = labels_of(namespace), labels_of(attributes.old) if attributes.old is not None else {}
    if labels == before:
        return
    from pinnace.apis.podsecurity.policy import PRIVILEGED, policy_of

    policy, wrong = policy_of(labels)
    old, wrong_before = policy_of(before)
    if wrong and wrong != wrong_before:
        raise errors.invalid("Namespace", attributes.name, wrong)
    new_level, old_level = policy.enforce, old.enforce
    if attributes.old is None or new_level == old_level or new_level.level == PRIVILEGED:
        return
    if new_level.minor == old_level.minor and new_level.strictness < old_level.strictness:
        return
    attributes.call.warnings += _existing(attributes, new_level)


def _existing(attributes: Attributes, standard: Standard) -> list[str]:
    """Warnings about the pods of the namespace that a new standard would not let in."""
    from pinnace.apis.podsecurity.evaluation import evaluate

    counts: Counter[str] = Counter()
    first: dict[str, str] = {}
    cache = attributes.call.api.storage.cache(PODS)
    for looked, found in enumerate(cache.select(Filter(attributes.name))):
        if looked >= _MOST_PODS:
            break
        pod = found.obj()
        reasons = ", ".join(finding.reason for finding in evaluate(standard, pod["metadata"], pod["spec"]))
        if reasons:
            counts[reasons] += 1
            first.setdefault(reasons, found.name)
    if not counts:
        return []
    head = f'existing pods in namespace "{attributes.name}" violate the new PodSecurity enforce level "{standard}"'
    return [head, *sorted(f"{first[reasons]}{_others(count)}: {reasons}" for reasons, count in counts.items())]


def _others(count: int) -> str:
    if count == 1:
        return ""
    return " (and 1 other pod)" if count == 2 else f" (and {count - 1} other pods)"
