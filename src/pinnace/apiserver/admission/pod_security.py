"""PodSecurity: pods keep to the standard their namespace enforces, and their authors are warned of the one it warns of.

https://kubernetes.io/docs/concepts/security/pod-security-admission/.
"""

from __future__ import annotations

from collections import Counter
from dataclasses import dataclass

from pinnace.apis.podsecurity.policy import OPEN, PRIVILEGED, Policy, Standard, defaults_of, policy_of
from pinnace.apis.resources import NAMESPACES, PODS
from pinnace.apiserver.admission.chain import Attributes, Plugin
from pinnace.apiserver.admission.configuration import Configurations
from pinnace.apiserver.cache import Filter
from pinnace.apiserver.configuration import parse_configuration, refuse
from pinnace.machinery import errors
from pinnace.machinery.meta import Obj, get_in, labels_of

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


_DEFAULTS = {f"{mode}{part}": str for mode in ("enforce", "audit", "warn") for part in ("", "-version")}
_EXEMPTIONS = {"usernames": [str], "runtimeClasses": [str], "namespaces": [str]}
_KINDS = {
    (f"pod-security.admission.config.k8s.io/{version}", "PodSecurityConfiguration"): {
        "defaults": _DEFAULTS,
        "exemptions": _EXEMPTIONS,
    }
    for version in ("v1", "v1beta1", "v1alpha1")
}


@dataclass(frozen=True, slots=True)
class Settings:
    """What the server's configuration says: the policy of namespaces that are silent, and what is never looked at."""

    defaults: Policy = OPEN
    usernames: frozenset[str] = frozenset()
    runtime_classes: frozenset[str] = frozenset()
    namespaces: frozenset[str] = frozenset()

    def exempts(self, attributes: Attributes, spec: Obj) -> str:
        """Why the object is not looked at, as the audit log says it; empty where it is."""
        if attributes.namespace in self.namespaces:
            return "namespace"
        if attributes.call.user.name in self.usernames:
            return "user"
        return "runtimeClass" if spec.get("runtimeClassName") in self.runtime_classes else ""


def read_settings(document: str) -> Settings:
    """The settings in a PodSecurityConfiguration. Raises ConfigurationError."""
    if not document:
        return Settings()
    found = parse_configuration(document, _KINDS)
    defaults, wrong = defaults_of(found.get("defaults") or {})
    refuse(wrong)
    given = found.get("exemptions") or {}
    return Settings(defaults, *(frozenset(given.get(name) or ()) for name in _EXEMPTIONS))


_SILENT = Settings()


class PodSecurity(Plugin):
    concerns = frozenset({("", "namespaces"), ("", "pods"), *_TEMPLATES})

    @classmethod
    def configured(cls, configurations: Configurations) -> Plugin:
        return cls(read_settings(configurations.of("PodSecurity")))

    def __init__(self, settings: Settings = _SILENT) -> None:
        self._settings = settings

    async def validate(self, attributes: Attributes) -> None:
        if attributes.obj is None or attributes.operation not in ("CREATE", "UPDATE"):
            return
        if attributes.resource == ("", "pods"):
            if attributes.subresource not in _IGNORED:
                self._judge_pod(attributes, attributes.obj)
        elif attributes.subresource:
            return
        elif attributes.resource in _TEMPLATES:
            self._judge_template(attributes, attributes.obj)
        elif attributes.resource == ("", "namespaces"):
            _judge_namespace(attributes, attributes.obj, self._settings)

    def _policy(self, attributes: Attributes, spec: Obj) -> Policy | None:
        """What the request's namespace holds its pods to; None where that is nothing."""
        found = attributes.call.api.storage.cache(NAMESPACES).get(attributes.namespace)
        silent = found is None or _LABELS not in found.raw
        if silent and self._settings.defaults.is_open:
            return None
        exempt = self._settings.exempts(attributes, spec)
        if exempt:
            attributes.annotate(f"{_PREFIX}/exempt", exempt)
            return None
        labels = labels_of(found.obj()) if found is not None else {}
        return policy_of(labels, self._settings.defaults)[0]

    def _judge_pod(self, attributes: Attributes, pod: Obj) -> None:
        policy = self._policy(attributes, pod["spec"])
        if policy is None or (attributes.old is not None and not _matters(pod, attributes.old)):
            return
        from pinnace.apis.podsecurity.evaluation import violations

        attributes.annotate(f"{_PREFIX}/enforce-policy", str(policy.enforce))
        _note(attributes, policy.audit, pod["metadata"], pod["spec"])
        text = violations(policy.enforce, pod["metadata"], pod["spec"])
        if text:
            raise attributes.forbidden(text)
        _warn(attributes, policy.warn, pod["metadata"], pod["spec"])

    def _judge_template(self, attributes: Attributes, workload: Obj) -> None:
        """A workload is never refused: its pods are. Its author is told in time."""
        template = get_in(workload, *_TEMPLATES[attributes.resource])
        if not template:
            return
        meta, spec = template.get("metadata") or {}, template.get("spec") or {}
        policy = self._policy(attributes, spec)
        if policy is not None:
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


def _judge_namespace(attributes: Attributes, namespace: Obj, settings: Settings) -> None:
    labels, before = labels_of(namespace), labels_of(attributes.old) if attributes.old is not None else {}
    if labels == before:
        return
    policy, wrong = policy_of(labels, settings.defaults)
    old, wrong_before = policy_of(before, settings.defaults)
    if wrong and wrong != wrong_before:
        raise errors.invalid("Namespace", attributes.name, wrong)
    new_level, old_level = policy.enforce, old.enforce
    if attributes.old is None or new_level == old_level or new_level.level == PRIVILEGED:
        return
    if new_level.minor == old_level.minor and new_level.strictness < old_level.strictness:
        return
    if attributes.name not in settings.namespaces:
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
