"""PodTopologyLabels: a pod carries the zone and region of its node, for the downward API to tell its containers.

KEP-4742; where PodTopologyLabelsAdmission is on, as it is from 1.35.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from pinnace.apis.resources import NODES
from pinnace.apiserver.admission.chain import Attributes, Plugin
from pinnace.machinery.meta import labels_of

if TYPE_CHECKING:
    from pinnace.apiserver.api import Api

_LABELS = ("topology.kubernetes.io/zone", "topology.kubernetes.io/region")


class PodTopologyLabels(Plugin):
    """Of pods that name their node when they are made; those that are bound get the labels as they are."""

    concerns = frozenset({("", "pods")})

    async def mutate(self, attributes: Attributes) -> None:
        pod = attributes.obj
        if pod is None or attributes.operation != "CREATE" or attributes.subresource:
            return
        found = topology_labels(attributes.call.api, (pod.get("spec") or {}).get("nodeName") or "")
        if found:
            pod["metadata"]["labels"] = {**labels_of(pod), **found}


def topology_labels(api: Api, node: str) -> dict[str, str]:
    """What a pod on the node is labelled with; nothing where the node says nothing, or the plugin is off."""
    from pinnace.apiserver.admission.plugins import is_on

    options = api.options
    if not node or not api.registry.features.enabled("PodTopologyLabelsAdmission"):
        return {}
    if not is_on("PodTopologyLabels", options.enable_admission_plugins, options.disable_admission_plugins):
        return {}
    found = api.storage.cache(NODES).get(node)
    if found is None or b'"topology.kubernetes.io/' not in found.raw:
        return {}
    labels = labels_of(found.obj())
    return {key: labels[key] for key in _LABELS if key in labels}
