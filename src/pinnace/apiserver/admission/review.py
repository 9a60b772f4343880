"""The request as webhooks and expressions see it: what an AdmissionReview says of it.

https://kubernetes.io/docs/reference/access-authn-authz/extensible-admission-controllers/#request.
"""

from __future__ import annotations

import uuid

from pinnace.apis.kind import Kind
from pinnace.apiserver.admission.chain import Attributes
from pinnace.apiserver.call import shown, to_storage
from pinnace.apiserver.decode import decode, own
from pinnace.apiserver.handlers.reviews import user_info
from pinnace.apiserver.handlers.scale import SCALE, scale_of, set_replicas
from pinnace.machinery.meta import Obj, get_in, gvk_of

_OPTIONS = {"CREATE": "CreateOptions", "UPDATE": "UpdateOptions", "DELETE": "DeleteOptions"}


def seen_as(attributes: Attributes, kind: Kind, obj: Obj | None) -> Obj | None:
    """The object in the version that someone wants. Read-only."""
    mine = attributes.call.kind
    if obj is None or attributes.is_part:
        return obj
    if attributes.is_scale:
        return scale_of(attributes.call, obj)
    if kind is mine:
        return obj
    return in_version(own(obj), mine, kind)


def in_version(obj: Obj, mine: Kind, kind: Kind) -> Obj:
    """An object of the kind `mine` as another version of it."""
    if kind.custom:
        return {**obj, "apiVersion": kind.gvr.api_version}
    return shown(kind, to_storage(mine, obj))


def taken_back(attributes: Attributes, kind: Kind, changed: Obj) -> Obj:
    """The request's own object, from what someone made of what they saw as `kind`: pruned, and defaulted.

    Raises ApiError for what is no such object.
    """
    call = attributes.call
    if attributes.is_part:
        return changed
    if attributes.is_scale:
        whole: Obj = own(attributes.obj)
        replicas = get_in(changed, "spec", "replicas", default=0)
        set_replicas(call, whole, replicas if isinstance(replicas, int) else 0)
        return whole
    if kind is not call.kind:
        changed = in_version(changed, kind, call.kind)
    decoded = decode(call, own(changed), call.kind.gvk, "Ignore", [])
    if call.kind.default is not None:
        call.kind.default(decoded)
    return decoded


def request_of(attributes: Attributes, kind: Kind) -> Obj:
    """The request without its objects."""
    call, subresource = attributes.call, attributes.subresource
    subject = attributes.obj or attributes.old or {}
    mine = call.kind
    request: Obj = {
        "kind": _sent_kind(attributes, kind),
        "resource": {"group": kind.group, "version": kind.version, "resource": kind.plural},
        "requestKind": _sent_kind(attributes, mine),
        "requestResource": {"group": mine.group, "version": mine.version, "resource": mine.plural},
        "operation": attributes.operation,
        "userInfo": user_info(call.user),
        "dryRun": attributes.dry_run,
        "options": _options(attributes),
    }
    name = call.info.name or (subject.get("metadata") or {}).get("name", "")
    if name:
        request["name"] = name
    if subresource:
        request["subResource"] = request["requestSubResource"] = subresource
    if attributes.namespace or attributes.resource == ("", "namespaces"):
        request["namespace"] = attributes.namespace or name
    return request


def review_of(attributes: Attributes, webhook: Obj, kind: Kind) -> Obj:
    """The AdmissionReview that a webhook is sent, in the first version it reads."""
    version = next((each for each in webhook.get("admissionReviewVersions") or () if each in ("v1", "v1beta1")), "v1")
    request = {
        "uid": str(uuid.uuid4()),
        "name": "",
        **request_of(attributes, kind),
        "object": seen_as(attributes, kind, attributes.obj),
        "oldObject": seen_as(attributes, kind, attributes.old),
    }
    return {"apiVersion": f"admission.k8s.io/{version}", "kind": "AdmissionReview", "request": request}


def _sent_kind(attributes: Attributes, kind: Kind) -> Obj:
    """What is in the review: the kind itself, or what the subresource takes."""
    if attributes.is_scale:
        return {"group": SCALE.group, "version": SCALE.version, "kind": SCALE.kind}
    if attributes.is_part and attributes.obj is not None:
        kind_of_part = gvk_of(attributes.obj)
        return {"group": kind_of_part.group, "version": kind_of_part.version, "kind": kind_of_part.kind}
    return {"group": kind.group, "version": kind.version, "kind": kind.kind}


def _options(attributes: Attributes) -> Obj | None:
    kind = _OPTIONS.get(attributes.operation)
    if kind is None:
        return None
    params = attributes.call.params
    if attributes.operation == "UPDATE" and attributes.call.info.verb == "patch":
        kind = "PatchOptions"
    options: Obj = {"apiVersion": "meta.k8s.io/v1", "kind": kind}
    for name in ("fieldManager", "fieldValidation"):
        if params.get(name) and attributes.operation != "DELETE":
            options[name] = params[name]
    if attributes.dry_run:
        options["dryRun"] = ["All"]
    return options
