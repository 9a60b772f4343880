"""ClusterTrustBundles as one file: which of them a projected source means, and what the file holds. Pure.

Specified by https://kubernetes.io/docs/concepts/storage/projected-volumes/#clustertrustbundle and KEP-3257.
"""

from __future__ import annotations

from collections.abc import Iterable

from pinnace.kubelet.volumes.context import VolumeError
from pinnace.kubelet.volumes.pod_certificates import pem_certificates
from pinnace.machinery.meta import Obj, labels_of, name_of
from pinnace.machinery.selectors import LabelSelector


def trust_anchors(source: Obj, bundles: Iterable[Obj]) -> bytes:
    """The certificates that a `clusterTrustBundle` source asks for, each once. Raises VolumeError for none."""
    chosen = _chosen(source, bundles)
    if not chosen and not source.get("optional"):
        if source.get("name"):
            raise VolumeError(f'clustertrustbundle.certificates.k8s.io "{source["name"]}" not found')
        raise VolumeError("combination of signerName and labelSelector matched zero ClusterTrustBundles")
    anchors = {anchor for bundle in chosen for anchor in pem_certificates(bundle["spec"].get("trustBundle") or "")}
    return "".join(sorted(anchors)).encode()


def _chosen(source: Obj, bundles: Iterable[Obj]) -> list[Obj]:
    if source.get("name"):
        return [bundle for bundle in bundles if name_of(bundle) == source["name"]]
    selector = source.get("labelSelector")
    if selector is None:  # nothing, unlike an empty one, which is everything
        return []
    wanted = LabelSelector.from_json(selector)
    return [
        bundle
        for bundle in bundles
        if bundle["spec"].get("signerName") == source.get("signerName") and wanted.matches(labels_of(bundle))
    ]
