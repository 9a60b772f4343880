"""Admission webhooks: servers of the cluster's own that change or refuse objects.

Mutating ones are called in turn, by the names of their configurations; validating ones all at once. Where nothing is
configured this costs a look at an empty dict. Match conditions (CEL) are refused when a configuration is written.
https://kubernetes.io/docs/reference/access-authn-authz/extensible-admission-controllers/.
"""

from __future__ import annotations

import asyncio
import base64
import binascii
import uuid
from collections.abc import Iterator
from typing import Any

import orjson

from pinnace.apis.kind import Kind
from pinnace.apis.resources import MUTATING_WEBHOOK_CONFIGURATIONS, NAMESPACES, VALIDATING_WEBHOOK_CONFIGURATIONS
from pinnace.apiserver.admission.chain import Attributes, Plugin
from pinnace.apiserver.admission.webhook_client import CallFailed, WebhookClient
from pinnace.apiserver.call import shown, to_storage
from pinnace.apiserver.decode import decode, own
from pinnace.apiserver.handlers.reviews import user_info
from pinnace.machinery import errors, json_patch
from pinnace.machinery.errors import ApiError
from pinnace.machinery.meta import GVR, Obj, labels_of
from pinnace.machinery.selectors import LabelSelector

_EXEMPT_GROUP = "admissionregistration.k8s.io"  # or a webhook could keep itself from being removed
_OPTIONS = {"CREATE": "CreateOptions", "UPDATE": "UpdateOptions", "DELETE": "DeleteOptions"}


class Webhooks(Plugin):
    """Both kinds, after the built-in plugins."""

    def __init__(self) -> None:
        self.client = WebhookClient()

    async def mutate(self, attributes: Attributes) -> None:
        if attributes.call.api.storage.cache(MUTATING_WEBHOOK_CONFIGURATIONS).objects:
            await self._mutate(attributes)

    async def validate(self, attributes: Attributes) -> None:
        if not attributes.call.api.storage.cache(VALIDATING_WEBHOOK_CONFIGURATIONS).objects:
            return
        chosen = list(_chosen(attributes, VALIDATING_WEBHOOK_CONFIGURATIONS))
        answers = await asyncio.gather(
            *(self._ask(attributes, webhook, kind) for webhook, kind in chosen), return_exceptions=True
        )
        for answer in answers:
            if isinstance(answer, BaseException):
                raise answer

    async def _mutate(self, attributes: Attributes) -> None:
        again: list[tuple[Obj, Kind, bytes]] = []  # who wants another look, and what it left
        for webhook, kind in _chosen(attributes, MUTATING_WEBHOOK_CONFIGURATIONS):
            await self._change(attributes, webhook, kind)
            if webhook.get("reinvocationPolicy") == "IfNeeded":
                again.append((webhook, kind, orjson.dumps(attributes.obj)))
        for webhook, kind, left in again:
            if orjson.dumps(attributes.obj) != left:
                await self._change(attributes, webhook, kind)

    async def _change(self, attributes: Attributes, webhook: Obj, kind: Kind) -> None:
        response = await self._ask(attributes, webhook, kind)
        if attributes.obj is None or not response or not response.get("patch"):
            return
        try:
            changed = _patched(attributes, kind, response)
        except (ApiError, ValueError, TypeError, KeyError) as error:
            what = error.message if isinstance(error, ApiError) else str(error)
            raise errors.internal(what) from None
        attributes.obj.clear()
        attributes.obj.update(changed)

    async def _ask(self, attributes: Attributes, webhook: Obj, kind: Kind) -> Obj | None:
        """The response of a webhook that allows; None of one that failed and may. Raises ApiError."""
        name = webhook["name"]
        if attributes.dry_run and webhook.get("sideEffects") not in ("None", "NoneOnDryRun"):
            raise errors.bad_request(f'admission webhook "{name}" does not support dry run')
        review = _review(attributes, webhook, kind)
        try:
            answer = await self.client.post(webhook, review, attributes.call.api.storage)
            response = _response(answer, review)
        except CallFailed as error:
            if webhook.get("failurePolicy") == "Ignore":
                return None
            raise errors.internal(f'failed calling webhook "{name}": {error}') from None
        attributes.call.warnings += [str(each) for each in response.get("warnings") or ()]
        if not response.get("allowed"):
            raise denial(name, response.get("status") or {})
        return response


def denial(name: str, status: Obj) -> ApiError:
    """What the author of a refused request is told."""
    text = f'admission webhook "{name}" denied the request'
    why = status.get("message") or status.get("reason")
    text += f": {why}" if why else " without explanation"
    code = status.get("code") or 0
    return ApiError(code if code >= 400 else 400, status.get("reason") or "", text, details=status.get("details"))


# Which webhooks are asked.


def _chosen(attributes: Attributes, configurations: GVR) -> Iterator[tuple[Obj, Kind]]:
    """The webhooks that a request concerns, in order, each with the kind in which it wants to see the object."""
    if attributes.resource[0] == _EXEMPT_GROUP:
        return
    cache = attributes.call.api.storage.cache(configurations)
    for key in list(cache.keys):
        found = cache.get(key)
        for webhook in (found.obj().get("webhooks") or ()) if found is not None else ():
            kind = _matching_kind(attributes, webhook)
            if kind is not None and _selects(attributes, webhook):
                yield webhook, kind


def _matching_kind(attributes: Attributes, webhook: Obj) -> Kind | None:
    """The request's own kind where a rule names it; else, if equivalents count, another version that a rule names."""
    kind = attributes.call.kind
    rules = webhook.get("rules") or ()
    if any(rule_matches(rule, attributes.operation, kind, attributes.subresource) for rule in rules):
        return kind
    if webhook.get("matchPolicy", "Equivalent") != "Equivalent":
        return None
    for other in attributes.call.api.registry.kinds:
        if other is kind or not other.is_stored or other.storage != kind.storage:
            continue
        if any(rule_matches(rule, attributes.operation, other, attributes.subresource) for rule in rules):
            return other
    return None


def rule_matches(rule: Obj, operation: str, kind: Kind, subresource: str) -> bool:
    """Whether one rule names the operation, group, version, scope and resource."""
    scope = rule.get("scope") or "*"
    return (
        _names(rule, "operations", operation)
        and _names(rule, "apiGroups", kind.group)
        and _names(rule, "apiVersions", kind.version)
        and (scope == "*" or (scope == "Namespaced") == kind.namespaced)
        and any(_is_resource(each, kind.plural, subresource) for each in rule.get("resources") or ())
    )


def _names(rule: Obj, key: str, value: str) -> bool:
    words = rule.get(key) or ()
    return "*" in words or value in words


def _is_resource(pattern: str, plural: str, subresource: str) -> bool:
    resource, _, part = pattern.partition("/")
    return resource in ("*", plural) and part in ("*", subresource)


def _selects(attributes: Attributes, webhook: Obj) -> bool:
    of_object, of_namespace = webhook.get("objectSelector"), webhook.get("namespaceSelector")
    if of_object:
        selector = LabelSelector.from_json(of_object)
        both = [obj for obj in (attributes.obj, attributes.old) if obj is not None and "metadata" in obj]
        if not any(selector.matches(labels_of(obj)) for obj in both):
            return False
    if of_namespace:
        labels = _namespace_labels(attributes)
        return labels is None or LabelSelector.from_json(of_namespace).matches(labels)
    return True


def _namespace_labels(attributes: Attributes) -> dict[str, str] | None:
    """The labels of the namespace the object is in, or is; None for what is in none, which every selector lets by."""
    if attributes.resource == ("", "namespaces"):
        subject = attributes.obj or attributes.old
        return labels_of(subject) if subject is not None else {}
    if not attributes.namespace:
        return None
    found = attributes.call.api.storage.cache(NAMESPACES).get(attributes.namespace)
    return labels_of(found.obj()) if found is not None else {}


# What they are sent, and what comes back.


def _as(attributes: Attributes, kind: Kind, obj: Obj | None) -> Obj | None:
    """The object in the version that a webhook wants."""
    mine = attributes.call.kind
    if obj is None or kind is mine:
        return obj
    return shown(kind, to_storage(mine, own(obj)))


def _review(attributes: Attributes, webhook: Obj, kind: Kind) -> Obj:
    call = attributes.call
    mine, subresource = call.kind, attributes.subresource
    subject = attributes.obj or attributes.old or {}
    version = next((each for each in webhook.get("admissionReviewVersions") or () if each in ("v1", "v1beta1")), "v1")
    sent = _sent_kind(attributes, kind)
    request: Obj = {
        "uid": str(uuid.uuid4()),
        "kind": sent,
        "resource": {"group": kind.group, "version": kind.version, "resource": kind.plural},
        "requestKind": _sent_kind(attributes, mine),
        "requestResource": {"group": mine.group, "version": mine.version, "resource": mine.plural},
        "name": call.info.name or (subject.get("metadata") or {}).get("name", ""),
        "operation": attributes.operation,
        "userInfo": user_info(call.user),
        "object": _as(attributes, kind, attributes.obj),
        "oldObject": _as(attributes, kind, attributes.old),
        "dryRun": attributes.dry_run,
        "options": None,
    }
    if subresource:
        request["subResource"] = request["requestSubResource"] = subresource
    if attributes.namespace or attributes.resource == ("", "namespaces"):
        request["namespace"] = attributes.namespace or request["name"]
    options = _OPTIONS.get(attributes.operation)
    if options is not None:
        request["options"] = {"apiVersion": "meta.k8s.io/v1", "kind": options}
    return {"apiVersion": f"admission.k8s.io/{version}", "kind": "AdmissionReview", "request": request}


def _sent_kind(attributes: Attributes, kind: Kind) -> Obj:
    """What is in the review: the kind itself, or what the subresource takes."""
    name = kind.kind
    if attributes.operation == "CONNECT" and attributes.obj is not None:
        name = attributes.obj["kind"]
    return {"group": kind.group, "version": kind.version, "kind": name}


def _response(answer: Any, review: Obj) -> Obj:
    """The `response` of an AdmissionReview that answers ours. Raises CallFailed for anything else."""
    wanted = (review["apiVersion"], review["kind"])
    if not isinstance(answer, dict) or not isinstance(answer.get("response"), dict):
        raise CallFailed("received invalid webhook response: webhook response was absent")
    if (answer.get("apiVersion"), answer.get("kind")) != wanted and review["apiVersion"].endswith("/v1"):
        said = f"{answer.get('apiVersion')}, Kind={answer.get('kind')}"
        raise CallFailed(
            f"received invalid webhook response: expected webhook response of {wanted[0]}, Kind={wanted[1]}, got {said}"
        )
    response: Obj = answer["response"]
    uid = review["request"]["uid"]
    if review["apiVersion"].endswith("/v1"):
        if response.get("uid") != uid:
            raise CallFailed(
                f'received invalid webhook response: expected response.uid="{uid}", got "{response.get("uid") or ""}"'
            )
        if response.get("patch") and response.get("patchType") != "JSONPatch":
            what = response.get("patchType") or ""
            raise CallFailed(
                "received invalid webhook response: webhook returned response.patch but not response.patchType"
                if not what
                else f'received invalid webhook response: webhook returned invalid response.patchType of "{what}"'
            )
    return response


def _patched(attributes: Attributes, kind: Kind, response: Obj) -> Obj:
    """The object after a webhook's patch: pruned, defaulted, and of the request's own version again."""
    call = attributes.call
    try:
        patch = orjson.loads(base64.b64decode(response["patch"], validate=True))
    except (binascii.Error, orjson.JSONDecodeError) as error:
        raise ValueError(f"unable to decode the patch: {error}") from None
    json_patch.check(patch)
    changed = json_patch.apply(own(_as(attributes, kind, attributes.obj)), patch)
    if not isinstance(changed, dict):
        raise ValueError("the patched document is not an object")
    if attributes.operation == "CONNECT":
        return changed
    if kind is not call.kind:
        changed = shown(call.kind, to_storage(kind, changed))
    decoded = decode(call, own(changed), call.kind.gvk, "Ignore", [])
    if call.kind.default is not None:
        call.kind.default(decoded)
    return decoded
