"""RuntimeClass: a pod that names one takes its overhead and goes where its runtime is.

https://kubernetes.io/docs/concepts/containers/runtime-class/.
"""

from __future__ import annotations

from pinnace.apis.core.pod_resources import amounts
from pinnace.apis.resources import RUNTIME_CLASSES
from pinnace.apiserver.admission.chain import Attributes, Plugin
from pinnace.machinery.meta import Obj, get_in


class RuntimeClass(Plugin):
    concerns = frozenset({("", "pods")})

    async def mutate(self, attributes: Attributes) -> None:
        pod = _new_pod(attributes)
        found = _class_of(attributes, pod) if pod is not None else None
        if pod is None or found is None:
            return
        overhead = get_in(found, "overhead", "podFixed")
        if overhead:
            spec = pod["spec"]
            if spec.get("overhead") and amounts(spec["overhead"]) != amounts(overhead):
                raise attributes.forbidden("pod rejected: Pod's Overhead doesn't match RuntimeClass's defined Overhead")
            spec["overhead"] = dict(overhead)
        if found.get("scheduling"):
            _schedule(attributes, pod["spec"], found["scheduling"])

    async def validate(self, attributes: Attributes) -> None:
        pod = _new_pod(attributes)
        if pod is None or not pod["spec"].get("overhead"):
            return
        found = _class_of(attributes, pod)
        defined = get_in(found, "overhead", "podFixed") if found is not None else None
        if not defined:
            why = "pod rejected: Pod Overhead set without corresponding RuntimeClass defined Overhead"
            raise attributes.forbidden(why)
        if amounts(pod["spec"]["overhead"]) != amounts(defined):
            raise attributes.forbidden("pod rejected: Pod's Overhead doesn't match RuntimeClass's defined Overhead")


def _new_pod(attributes: Attributes) -> Obj | None:
    is_new = attributes.operation == "CREATE" and attributes.resource == ("", "pods") and not attributes.subresource
    return attributes.obj if is_new else None


def _class_of(attributes: Attributes, pod: Obj) -> Obj | None:
    name = pod.setdefault("spec", {}).get("runtimeClassName")
    if not name:
        return None
    found = attributes.call.api.storage.cache(RUNTIME_CLASSES).get(name)
    if found is None:
        raise attributes.forbidden(f'pod rejected: RuntimeClass "{name}" not found')
    return found.obj()


def _schedule(attributes: Attributes, spec: Obj, scheduling: Obj) -> None:
    selector = spec.get("nodeSelector") or {}
    for key, value in sorted((scheduling.get("nodeSelector") or {}).items()):
        if selector.get(key, value) != value:
            raise attributes.forbidden(
                f"conflict: runtimeClass.scheduling.nodeSelector[{key}] = {value}; "
                f"pod.spec.nodeSelector[{key}] = {selector[key]}"
            )
        selector = {**selector, key: value}
    if selector:
        spec["nodeSelector"] = selector
    tolerations = list(spec.get("tolerations") or ())
    tolerations += [dict(one) for one in scheduling.get("tolerations") or () if one not in tolerations]
    if tolerations:
        spec["tolerations"] = tolerations
