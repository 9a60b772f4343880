"""Conversion of custom resources between the versions of their definition: by name alone, or by a webhook.

Strategy None changes `apiVersion` and prunes; strategy Webhook sends a ConversionReview for all objects that need it at
once, and holds the answer to its rules: the same objects in the same order, with metadata unchanged but for labels and
annotations. https://kubernetes.io/docs/tasks/extend-kubernetes/custom-resources/custom-resource-definition-versioning/.
"""

from __future__ import annotations

import uuid
from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

from pinnace.apiserver.registered_webhooks import RegisteredWebhooks
from pinnace.apiserver.webhook_client import CallFailed
from pinnace.machinery.errors import ApiError
from pinnace.machinery.meta import Obj, parse_api_version

if TYPE_CHECKING:
    from pinnace.apiserver.storage import Storage

MOST = 64 << 20  # bytes of an answer
SECONDS = 30  # for a webhook to convert a batch
_KNOWN = ("v1", "v1beta1")
_MUTABLE = ("labels", "annotations")


class Converter:
    """Asks the webhook of one definition."""

    def __init__(self, webhook: Obj, client: RegisteredWebhooks, storage: Storage) -> None:
        self._client = client
        self._storage = storage
        self._hook = {"clientConfig": webhook["clientConfig"], "timeoutSeconds": SECONDS}
        versions = webhook.get("conversionReviewVersions") or []
        self._review = next((version for version in versions if version in _KNOWN), "v1")

    async def convert(self, objs: Sequence[Obj], api_version: str) -> list[Obj]:
        """The objects in the version asked for, in order. Raises ApiError 500 in the words of kube-apiserver."""
        uid = str(uuid.uuid4())
        request = {"uid": uid, "desiredAPIVersion": api_version, "objects": list(objs)}
        review = {
            "kind": "ConversionReview",
            "apiVersion": f"apiextensions.k8s.io/{self._review}",
            "request": request,
        }
        try:
            answer = await self._client.post(self._hook, review, self._storage, MOST)
        except CallFailed as error:
            raise conversion_failed(objs[0], str(error).removeprefix("failed to call webhook: ")) from None
        return self._read(objs, answer, uid, api_version)

    def _read(self, objs: Sequence[Obj], answer: Any, uid: str, api_version: str) -> list[Obj]:
        response = answer.get("response") if isinstance(answer, dict) else None
        version = parse_api_version(str(answer.get("apiVersion") or ""))[1] if isinstance(answer, dict) else ""
        if version not in _KNOWN or answer.get("kind") != "ConversionReview":
            raise conversion_failed(objs[0], "expected a webhook response of kind ConversionReview")
        if not isinstance(response, dict):
            raise conversion_failed(objs[0], "no response provided")
        if version == "v1" and response.get("uid") != uid:
            raise conversion_failed(objs[0], f'expected response.uid="{uid}", got "{response.get("uid") or ""}"')
        result = response.get("result")
        result = result if isinstance(result, dict) else {}
        if result.get("status") != "Success":
            unnamed = f"response.result.status was '{result.get('status') or ''}', not 'Success'"
            raise conversion_failed(objs[0], result.get("message") or unnamed)
        converted = response.get("convertedObjects")
        converted = converted if isinstance(converted, list) else []
        if len(converted) != len(objs):
            raise _bad_answer(objs[0], f"{len(converted)} objects, expected {len(objs)}")
        for index, (obj, new) in enumerate(zip(objs, converted, strict=True)):
            wrong = _what_is_wrong(obj, new, api_version)
            if wrong:
                raise _bad_answer(obj, f"invalid converted object at index {index}: {wrong}")
        return [_with_metadata(obj, new) for obj, new in zip(objs, converted, strict=True)]


def conversion_failed(obj: Obj, why: str) -> ApiError:
    """Errors of conversion carry no reason: they are the server's own."""
    return ApiError(500, "", f"conversion webhook for {_shown(obj)} failed: {why}")


def _bad_answer(obj: Obj, what: str) -> ApiError:
    return ApiError(500, "", f"conversion webhook for {_shown(obj)} returned {what}")


def _shown(obj: Obj) -> str:
    return f"{obj.get('apiVersion')}, Kind={obj.get('kind')}"


def _what_is_wrong(obj: Obj, new: Any, api_version: str) -> str:
    if not isinstance(new, dict):
        return "not an object"
    if new.get("apiVersion") != api_version:
        return f"invalid groupVersion (expected {api_version}, received {new.get('apiVersion') or ''})"
    if new.get("kind") != obj.get("kind"):
        return f"invalid kind (expected {obj.get('kind')}, received {new.get('kind') or ''})"
    meta, old = new.get("metadata"), obj["metadata"]
    if not isinstance(meta, dict):
        return "invalid metadata"
    for key, word in (("name", "name"), ("namespace", "namespace"), ("uid", "UID")):
        if (meta.get(key) or "") != (old.get(key) or ""):
            return f"must have the same {word}: {old.get(key) or ''} != {meta.get(key) or ''}"
    for key in _MUTABLE:
        value = meta.get(key)
        if value and not (isinstance(value, dict) and all(isinstance(one, str) for one in value.values())):
            return f"invalid metadata.{key}"
    return ""


def _with_metadata(obj: Obj, new: Obj) -> Obj:
    """The converted object with the metadata it had, but for what a webhook may change."""
    meta = {key: value for key, value in obj["metadata"].items() if key not in _MUTABLE}
    meta |= {key: new["metadata"][key] for key in _MUTABLE if new["metadata"].get(key)}
    return {**new, "metadata": meta}
