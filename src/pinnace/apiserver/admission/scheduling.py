"""What admission adds to pods and nodes for the scheduler: tolerations, priorities, the taint of a new node.

https://kubernetes.io/docs/concepts/scheduling-eviction/taint-and-toleration/ and
https://kubernetes.io/docs/concepts/scheduling-eviction/pod-priority-preemption/.
"""

from __future__ import annotations

from collections.abc import Mapping

from pinnace.apis.core.quota_usage import is_extended
from pinnace.apis.resources import NAMESPACES, PRIORITY_CLASSES
from pinnace.apiserver.admission.chain import Attributes, Plugin
from pinnace.apiserver.admission.configuration import Configurations
from pinnace.apiserver.configuration import ConfigurationError
from pinnace.machinery import errors
from pinnace.machinery.meta import Obj, annotations_of

NOT_READY = "node.kubernetes.io/not-ready"
UNREACHABLE = "node.kubernetes.io/unreachable"
TOLERATION_SECONDS = 300

_NODE_SELECTOR = "scheduler.alpha.kubernetes.io/node-selector"
_HOSTNAME = "kubernetes.io/hostname"
_NO_SELECTORS: Mapping[str, str] = {}
_SYSTEM_PRIORITIES = {"system-cluster-critical": 2000000000, "system-node-critical": 2000001000}


def _new_pod(attributes: Attributes) -> Obj | None:
    if attributes.operation == "CREATE" and attributes.resource == ("", "pods") and not attributes.subresource:
        return attributes.obj
    return None


class DefaultTolerationSeconds(Plugin):
    """A pod stays five minutes on a node that is not ready or cannot be reached, unless it says otherwise."""

    concerns = frozenset({("", "pods")})

    async def mutate(self, attributes: Attributes) -> None:
        pod = _new_pod(attributes)
        if pod is None:
            return
        spec = pod.setdefault("spec", {})
        tolerations = list(spec.get("tolerations") or ())
        for key in (NOT_READY, UNREACHABLE):
            if not any(_tolerates(toleration, key) for toleration in tolerations):
                tolerations.append(
                    {
                        "key": key,
                        "operator": "Exists",
                        "effect": "NoExecute",
                        "tolerationSeconds": TOLERATION_SECONDS,
                    }
                )
        spec["tolerations"] = tolerations


def _tolerates(toleration: Obj, key: str) -> bool:
    return toleration.get("key", "") in ("", key) and toleration.get("effect", "") in ("", "NoExecute")


class Priority(Plugin):
    """The number behind a pod's priority class."""

    concerns = frozenset({("", "pods"), ("scheduling.k8s.io", "priorityclasses")})

    async def mutate(self, attributes: Attributes) -> None:
        pod = _new_pod(attributes)
        if pod is None:
            return
        spec = pod.setdefault("spec", {})
        name = spec.get("priorityClassName", "")
        value, policy = 0, "PreemptLowerPriority"
        if name:
            found = attributes.call.api.storage.cache(PRIORITY_CLASSES).get(name)
            if found is None:
                why = f"no PriorityClass with name {name} was found"
                raise errors.forbidden("pods", pod["metadata"].get("name", ""), why)
            value, policy = found.obj().get("value", 0), found.obj().get("preemptionPolicy", policy)
        else:
            name, value, policy = self._default(attributes, policy)
            if name:
                spec["priorityClassName"] = name
        if spec.get("priority") not in (None, value):
            why = (
                f"the integer value of priority ({spec['priority']}) must not be provided in pod spec; "
                f"priority admission controller computed {value} from the given PriorityClass name"
            )
            raise errors.forbidden("pods", pod["metadata"].get("name", ""), why)
        spec["priority"] = value
        spec.setdefault("preemptionPolicy", policy)

    def _default(self, attributes: Attributes, policy: str) -> tuple[str, int, str]:
        """The class marked globalDefault, of several the lowest."""
        best: Obj | None = None
        for found in attributes.call.api.storage.cache(PRIORITY_CLASSES).objects.values():
            if b'"globalDefault":true' in found.raw:
                candidate = found.obj()
                if best is None or candidate.get("value", 0) < best.get("value", 0):
                    best = candidate
        if best is None:
            return "", 0, policy
        return best["metadata"]["name"], best.get("value", 0), best.get("preemptionPolicy", policy)

    async def validate(self, attributes: Attributes) -> None:
        if attributes.resource != ("scheduling.k8s.io", "priorityclasses") or attributes.obj is None:
            return
        if not attributes.obj.get("globalDefault"):
            return
        name = attributes.obj["metadata"]["name"]
        for found in attributes.call.cache.objects.values():
            if found.name != name and b'"globalDefault":true' in found.raw:
                why = (
                    f"PriorityClass {found.name} is already marked as default. "
                    "Only one PriorityClass can be marked as default"
                )
                raise errors.forbidden("priorityclasses", name, why, "scheduling.k8s.io")


class TaintNodesByCondition(Plugin):
    """A new node takes no pods until it is known to be ready."""

    concerns = frozenset({("", "nodes")})

    async def mutate(self, attributes: Attributes) -> None:
        node = attributes.obj
        if node is None or attributes.operation != "CREATE" or attributes.resource != ("", "nodes"):
            return
        spec = node.setdefault("spec", {})
        taints = spec.get("taints") or []
        if not any(taint.get("key") == NOT_READY and taint.get("effect") == "NoSchedule" for taint in taints):
            spec["taints"] = [*taints, {"key": NOT_READY, "effect": "NoSchedule"}]


class PodNodeSelector(Plugin):
    """Off unless asked for: a namespace says in an annotation which nodes its pods go to.

    `settings` are selectors as text: `clusterDefaultNodeSelector` for namespaces that are silent, and by the name of a
    namespace those that its pods may name at all.
    """

    concerns = frozenset({("", "pods")})

    @classmethod
    def configured(cls, configurations: Configurations) -> Plugin:
        return cls(_node_selectors(configurations.of("PodNodeSelector")))

    def __init__(self, settings: Mapping[str, str] = _NO_SELECTORS) -> None:
        self._settings = settings

    async def mutate(self, attributes: Attributes) -> None:
        pod = _new_pod(attributes)
        if pod is None:
            return
        wanted = self._of_namespace(attributes)
        spec = pod.setdefault("spec", {})
        selector = spec.get("nodeSelector") or {}
        if any(selector.get(key, value) != value for key, value in wanted.items()):
            raise attributes.forbidden("pod node label selector conflicts with its namespace node label selector")
        if wanted:
            spec["nodeSelector"] = {**selector, **wanted}
        self._check(attributes, spec)

    async def validate(self, attributes: Attributes) -> None:
        pod = _new_pod(attributes)
        if pod is not None:
            self._check(attributes, pod.get("spec") or {})

    def _check(self, attributes: Attributes, spec: Obj) -> None:
        allowed = _labels_in(self._settings.get(attributes.namespace, ""))
        if allowed and any(allowed.get(key) != value for key, value in (spec.get("nodeSelector") or {}).items()):
            raise attributes.forbidden("pod node label selector labels conflict with its namespace whitelist")

    def _of_namespace(self, attributes: Attributes) -> dict[str, str]:
        found = attributes.call.api.storage.cache(NAMESPACES).get(attributes.namespace)
        own = annotations_of(found.obj()).get(_NODE_SELECTOR) if found is not None else None
        return _labels_in(own if own is not None else self._settings.get("clusterDefaultNodeSelector", ""))


def _labels_in(text: str) -> dict[str, str]:
    """The labels in `a=b,c=d`."""
    pairs = (part.partition("=") for part in text.split(",") if part.strip())
    return {key.strip(): value.strip() for key, _, value in pairs}


def _node_selectors(document: str) -> dict[str, str]:
    """What stands below `podNodeSelectorPluginConfig`. Raises ConfigurationError."""
    from pinnace.machinery import yaml

    try:
        found = yaml.load(document) if document else {}
    except yaml.YamlError as error:
        raise ConfigurationError(f"failed decoding: {error}") from None
    settings = (found or {}).get("podNodeSelectorPluginConfig") or {} if isinstance(found or {}, dict) else None
    if not isinstance(settings, dict) or not all(isinstance(value, str) for value in settings.values()):
        raise ConfigurationError("podNodeSelectorPluginConfig must be a map of selectors")
    return settings


class ExtendedResourceToleration(Plugin):
    """Off unless asked for: who asks for a device tolerates the taint of the nodes that have it."""

    concerns = frozenset({("", "pods")})

    async def mutate(self, attributes: Attributes) -> None:
        pod = _new_pod(attributes)
        if pod is None:
            return
        spec = pod.setdefault("spec", {})
        containers = (*(spec.get("containers") or ()), *(spec.get("initContainers") or ()))
        asked = {name for one in containers for name in (one.get("resources") or {}).get("requests") or ()}
        tolerations = list(spec.get("tolerations") or ())
        for name in sorted(asked):
            if is_extended(name) and {"key": name, "operator": "Exists"} not in tolerations:
                tolerations.append({"key": name, "operator": "Exists"})
        if tolerations:
            spec["tolerations"] = tolerations


class LimitPodHardAntiAffinityTopology(Plugin):
    """Off unless asked for: pods keep others away from their node alone, not from a whole zone."""

    concerns = frozenset({("", "pods")})

    async def validate(self, attributes: Attributes) -> None:
        pod = _new_pod(attributes)
        affinity = ((pod or {}).get("spec") or {}).get("affinity") or {}
        terms = (affinity.get("podAntiAffinity") or {}).get("requiredDuringSchedulingIgnoredDuringExecution") or ()
        for term in terms:
            if term.get("topologyKey") != _HOSTNAME:
                raise attributes.forbidden(
                    f"affinity.PodAntiAffinity.RequiredDuringScheduling has TopologyKey {term.get('topologyKey')} "
                    f"but only key {_HOSTNAME} is allowed"
                )


SYSTEM_PRIORITY_CLASSES = tuple(
    {
        "apiVersion": "scheduling.k8s.io/v1",
        "kind": "PriorityClass",
        "metadata": {"name": name},
        "value": value,
        "preemptionPolicy": "PreemptLowerPriority",
        "description": description,
    }
    for name, value, description in (
        (
            "system-cluster-critical",
            _SYSTEM_PRIORITIES["system-cluster-critical"],
            "Used for system critical pods that must run in the cluster, but can be moved to another node if necessary.",  # noqa: E501 - the API's own text
        ),
        (
            "system-node-critical",
            _SYSTEM_PRIORITIES["system-node-critical"],
            "Used for system critical pods that must not be moved from their current node.",
        ),
    )
)
