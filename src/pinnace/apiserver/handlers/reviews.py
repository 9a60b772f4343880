"""Questions that are answered and not stored: whose token is this, may this user do that, who am I; and tokens made.

https://kubernetes.io/docs/reference/access-authn-authz/authentication/#token-review and
https://kubernetes.io/docs/reference/access-authn-authz/authorization/#checking-api-access.
"""

from __future__ import annotations

from datetime import UTC, datetime

from pinnace.apis.authorization import selectors_of, validate_access_review
from pinnace.apis.resources import NODES, PODS, SECRETS
from pinnace.apiserver.asking import asking
from pinnace.apiserver.authn import User
from pinnace.apiserver.call import Call, One
from pinnace.apiserver.decode import read_object
from pinnace.apiserver.handlers.create import fix_namespace
from pinnace.apiserver.node_authorizer import node_name_of
from pinnace.apiserver.request_info import RequestInfo
from pinnace.machinery import errors
from pinnace.machinery.meta import GVK, Obj, format_time, utc_now

TOKEN_REQUEST = GVK("authentication.k8s.io", "v1", "TokenRequest")
_LEAST_SECONDS, _MOST_SECONDS, _DEFAULT_SECONDS = 600, 1 << 32, 3600
_RENEWED_HOUR, _YEAR = 3607, 365 * 24 * 3600
_ISSUED = "authentication.kubernetes.io/issued-credential-id"


async def create_token(call: Call) -> One:
    """POST to serviceaccounts/token."""
    review = read_object(call, TOKEN_REQUEST)
    account = call.current().obj()
    meta = review["metadata"]
    if meta.get("name") not in (None, "", call.info.name):
        raise errors.bad_request(
            f"the name of the object ({meta['name']}) does not match the name on the URL ({call.info.name})"
        )
    spec = review.setdefault("spec", {})
    seconds = spec.get("expirationSeconds", _DEFAULT_SECONDS)
    causes = []
    if seconds < _LEAST_SECONDS:
        causes.append(
            errors.invalid_value("spec.expirationSeconds", seconds, "may not specify a duration less than 10 minutes")
        )
    if seconds > _MOST_SECONDS:
        causes.append(
            errors.invalid_value(
                "spec.expirationSeconds", seconds, "may not specify a duration larger than 2^32 seconds"
            )
        )
    if causes:
        raise errors.invalid("TokenRequest", meta.get("name", ""), causes, TOKEN_REQUEST.group)
    limit = call.api.options.service_account_max_token_expiration
    if limit and seconds > limit:
        call.warnings.append(f"requested expiration of {seconds} seconds shortened to {limit} seconds")
        seconds = limit
    bound = _bound(call, spec.get("boundObjectRef"))
    _check_node_token(call, bound)
    audiences = [audience for audience in spec.get("audiences") or () if audience]
    warn_after = 0
    if _is_extended(call, audiences, seconds, bound):
        warn_after = seconds
    good_for = _YEAR if warn_after else seconds
    token, identifier, now = call.api.tokens.sign(account, audiences, good_for, bound, warn_after)
    call.annotations = {**(call.annotations or {}), _ISSUED: f"JTI={identifier}"}
    spec["audiences"] = audiences or list(call.api.tokens.audiences)
    spec["expirationSeconds"] = seconds
    review["metadata"] = {
        "name": call.info.name,
        "namespace": call.info.namespace,
        "creationTimestamp": format_time(utc_now()),
    }
    review["status"] = {"token": token, "expirationTimestamp": format_time(datetime.fromtimestamp(now + seconds, UTC))}
    return One(review, 201)


def _is_extended(call: Call, audiences: list[str], seconds: int, bound: tuple[str, str, str] | None) -> bool:
    """Whether a token is good for a year: one that a kubelet renews every hour, for pods that never read it again."""
    return (
        call.api.options.service_account_extend_token_expiration
        and seconds == _RENEWED_HOUR
        and bound is not None
        and bound[0] == "pod"
        and (not audiences or set(audiences) <= set(call.api.tokens.audiences))
    )


def _bound(call: Call, reference: Obj | None) -> tuple[str, str, str] | None:
    """Kind, name and UID of what the token is bound to. Raises 400, 404 and 409 as the API does."""
    if not reference:
        return None
    resources = {"Pod": PODS, "Secret": SECRETS, "Node": NODES}
    kind, name = reference.get("kind", ""), reference.get("name", "")
    if kind not in resources:
        raise errors.bad_request(f"cannot bind token for serviceaccount to object of type {kind}")
    key = name if kind == "Node" else f"{call.info.namespace}/{name}"
    found = call.api.storage.cache(resources[kind]).get(key)
    if found is None:
        raise errors.not_found(resources[kind].resource, name)
    uid = found.obj()["metadata"]["uid"]
    if reference.get("uid") and reference["uid"] != uid:
        why = f"the UID in the bound object reference ({reference['uid']}) does not match the UID in record. "
        why += "The object might have been deleted and then recreated"
        raise errors.conflict(resources[kind].resource, name, why)
    if kind == "Pod":
        account = (found.obj().get("spec") or {}).get("serviceAccountName", "")
        if account != call.info.name:
            raise errors.bad_request(
                f'cannot bind token for serviceaccount "{call.info.name}" '
                "to pod running with different serviceaccount name."
            )
    return kind.lower(), name, uid


def _check_node_token(call: Call, bound: tuple[str, str, str] | None) -> None:
    """A kubelet gets tokens for the pods on its own node, bound to them (NodeRestriction). Raises 403."""
    node = node_name_of(call.user) if "Node" in call.api.authorizer.modes else None
    if node is None:
        return
    why = "node requested token not bound to a pod"
    if bound is not None and bound[0] == "pod":
        pod = call.api.storage.cache(PODS).get(f"{call.info.namespace}/{bound[1]}")
        if pod is not None and (pod.obj().get("spec") or {}).get("nodeName") == node:
            return
        why = "node requested token bound to a pod scheduled on a different node"
    raise errors.forbidden("serviceaccounts", call.info.name, why)


async def review_token(call: Call) -> One:
    """POST of a TokenReview."""
    review = read_object(call, call.kind.gvk)
    spec = review.get("spec") or {}
    if not spec.get("token"):
        raise errors.bad_request("token is required for TokenReview in authentication")
    own = call.api.tokens.audiences
    audiences = tuple(spec.get("audiences") or own)
    found = await asking(lambda: call.api.authenticator.review(spec["token"], audiences, own))
    if found is None:
        review["status"] = {"user": {}, "error": "invalid bearer token"}
    else:
        review["status"] = {"authenticated": True, "user": user_info(found[0]), "audiences": list(found[1])}
    return One(review, 201)


def user_info(user: User) -> Obj:
    info: Obj = {"username": user.name}
    if user.uid:
        info["uid"] = user.uid
    info["groups"] = list(user.groups)
    if user.extra:
        info["extra"] = {name: list(values) for name, values in user.extra.items()}
    return info


async def review_self(call: Call) -> One:
    """POST of a SelfSubjectReview: `kubectl auth whoami`."""
    review = read_object(call, call.kind.gvk)
    review["metadata"]["creationTimestamp"] = format_time(utc_now())
    review["status"] = {"userInfo": user_info(call.user)}
    return One(review, 201)


async def review_access(call: Call) -> One:
    """POST of a SubjectAccessReview, a SelfSubjectAccessReview or a LocalSubjectAccessReview."""
    review = read_object(call, call.kind.gvk)
    fix_namespace(call, review["metadata"])
    spec = review.get("spec") or {}
    resource, path = spec.get("resourceAttributes"), spec.get("nonResourceAttributes")
    causes = validate_access_review(call.kind.kind, review)
    if causes:
        raise errors.invalid(call.kind.kind, "", causes, call.kind.group)
    user = call.user
    if call.kind.kind != "SelfSubjectAccessReview":
        extra = {name: tuple(values) for name, values in (spec.get("extra") or {}).items()}
        user = User(spec.get("user", ""), spec.get("uid", ""), tuple(spec.get("groups") or ()), extra)
    asked = _asked_about(resource, path or {})
    allowed, reason = await asking(lambda: call.api.authorizer.explain(user, asked))
    review["status"] = {"allowed": allowed, **({"reason": reason} if reason else {})}
    return One(review, 201)


def _asked_about(resource: Obj | None, path: Obj) -> RequestInfo:
    """What an access review asks, as the request it is about would be."""
    if resource is None:
        return RequestInfo(path.get("verb", ""), path.get("path", ""))
    words = (resource.get(each, "") for each in ("group", "version", "resource", "namespace", "name", "subresource"))
    info = RequestInfo(resource.get("verb", ""), "", True, *words)
    fields, labels = selectors_of(resource)
    return info._replace(field_selector=fields, label_selector=labels) if fields or labels else info


async def review_rules(call: Call) -> One:
    """POST of a SelfSubjectRulesReview: `kubectl auth can-i --list`."""
    review = read_object(call, call.kind.gvk)
    namespace = (review.get("spec") or {}).get("namespace")
    if not namespace:
        raise errors.bad_request("no namespace on request")
    resource_rules, other_rules, partial = call.api.authorizer.rules(call.user, namespace)
    review["status"] = {"resourceRules": resource_rules, "nonResourceRules": other_rules, "incomplete": bool(partial)}
    if partial:
        review["status"]["evaluationError"] = partial
    return One(review, 201)
