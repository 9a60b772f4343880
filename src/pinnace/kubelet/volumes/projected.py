"""`projected` volumes: several sources in one directory, service account tokens among them, kept in memory.

Specified by https://kubernetes.io/docs/concepts/storage/projected-volumes/.
"""

from __future__ import annotations

from pathlib import Path

from pinnace.kubelet.volumes.atomic_writer import File
from pinnace.kubelet.volumes.context import VolumeContext, VolumeError
from pinnace.kubelet.volumes.files import fetch_optional, place
from pinnace.kubelet.volumes.payload import credential_file, downward_files, mode_of, object_files, safe_path
from pinnace.kubelet.volumes.pod_certificates import CertificateError
from pinnace.kubelet.volumes.trust_bundles import trust_anchors
from pinnace.machinery.errors import ApiError
from pinnace.machinery.meta import Obj, namespace_of

DEFAULT_TOKEN_SECONDS = 3600


async def set_up(context: VolumeContext, volume: Obj) -> Path:
    source = volume["projected"]
    mode = mode_of(source)
    payload: dict[str, File] = {}
    errors: list[str] = []
    for index, each in enumerate(source.get("sources") or ()):
        try:
            payload.update(await _files(context, volume["name"], index, each, mode))
        except VolumeError as error:
            errors.append(str(error))
    if errors:
        raise VolumeError(errors[0] if len(errors) == 1 else f"[{', '.join(errors)}]")
    return place(context, "projected", volume["name"], payload, in_memory=True)


async def _files(context: VolumeContext, volume: str, index: int, source: Obj, mode: int) -> dict[str, File]:
    namespace = namespace_of(context.pod)
    for kind, key in (("ConfigMap", "configMap"), ("Secret", "secret")):
        if source.get(key):
            given = source[key]
            found = await fetch_optional(context.fetch, kind, namespace, given, given["name"])
            return object_files(found, kind, given, mode)
    if source.get("downwardAPI"):
        return downward_files(source["downwardAPI"].get("items") or [], context.facts, mode)
    if source.get("serviceAccountToken"):
        return await _token(context, source["serviceAccountToken"], mode)
    if source.get("clusterTrustBundle"):
        return await _trust(context, source["clusterTrustBundle"], mode)
    if source.get("podCertificate"):
        return _certificate(context, volume, index, source["podCertificate"], mode)
    raise VolumeError(f"projected source is not supported: {', '.join(source)}")


async def _token(context: VolumeContext, source: Obj, mode: int) -> dict[str, File]:
    seconds = int(source.get("expirationSeconds") or DEFAULT_TOKEN_SECONDS)
    try:
        token = await context.tokens.get(context.pod, source.get("audience") or "", seconds)
    except ApiError as error:
        raise VolumeError(f"failed to fetch token: {error.message}") from error
    return {safe_path(source["path"]): credential_file(context.pod, token.encode(), mode)}


async def _trust(context: VolumeContext, source: Obj, mode: int) -> dict[str, File]:
    try:
        bundles = await context.bundles()
    except ApiError as error:
        raise VolumeError(error.message) from error
    anchors = trust_anchors(source, bundles)
    return {safe_path(source["path"]): credential_file(context.pod, anchors, mode)}


def _certificate(context: VolumeContext, volume: str, index: int, source: Obj, mode: int) -> dict[str, File]:
    try:
        found = context.certificates.get(context.pod, volume, index, source)
    except CertificateError as error:
        raise VolumeError(str(error)) from error
    holds = {
        "credentialBundlePath": found.key + found.chain,
        "keyPath": found.key,
        "certificateChainPath": found.chain,
    }
    return {
        safe_path(source[key]): credential_file(context.pod, data, mode, source.get("user"))
        for key, data in holds.items()
        if source.get(key)
    }
