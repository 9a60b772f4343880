"""What CEL expressions are given of a request, and how they ask what its author may do elsewhere.

Only what an expression names is made. https://kubernetes.io/docs/reference/using-api/cel/#kubernetes-authorizer-library.
"""

from __future__ import annotations

from collections.abc import Collection
from typing import TYPE_CHECKING, Any

from pinnace.apis.kind import Kind
from pinnace.apiserver.admission.chain import Attributes
from pinnace.apiserver.admission.matching import namespace_of
from pinnace.apiserver.admission.review import request_of, seen_as
from pinnace.apiserver.authn import AUTHENTICATED, User
from pinnace.apiserver.request_info import RequestInfo

if TYPE_CHECKING:
    from pinnace.machinery.cel.library.authorizer import Question


def variables_for(attributes: Attributes, kind: Kind, names: Collection[str]) -> dict[str, Any]:
    """The variables that expressions name, the object in the version of `kind`."""
    known: dict[str, Any] = {}
    if "object" in names:
        known["object"] = seen_as(attributes, kind, attributes.obj)
    if "oldObject" in names:
        known["oldObject"] = seen_as(attributes, kind, attributes.old)
    if "request" in names:
        known["request"] = request_of(attributes, kind)
    if "namespaceObject" in names:
        known["namespaceObject"] = namespace_of(attributes)
    if "authorizer" in names or "authorizer.requestResource" in names:
        known |= _authorizers(attributes, kind)
    return known


def _authorizers(attributes: Attributes, kind: Kind) -> dict[str, Any]:
    from pinnace.machinery.cel.library.authorizer import NOTHING, Authorizer, ResourceCheck

    authorizer, author = attributes.call.api.authorizer, attributes.call.user

    def decide(asked: Question) -> tuple[bool, str, str]:
        user = author if asked.service_account is None else _account(*asked.service_account)
        if asked.path:
            info = RequestInfo(asked.verb, asked.path)
        else:
            what = (asked.group, "*", asked.resource, asked.namespace, asked.name, asked.subresource)
            info = RequestInfo(asked.verb, "", True, *what)
            if asked.field_selector or asked.label_selector:
                info = info._replace(field_selector=asked.field_selector, label_selector=asked.label_selector)
        allowed, why = authorizer.decide(user, info)
        return allowed, why, ""

    here = NOTHING._replace(
        group=kind.group,
        resource=kind.plural,
        subresource=attributes.subresource,
        namespace=attributes.namespace,
        name=attributes.name,
    )
    return {"authorizer": Authorizer(decide), "authorizer.requestResource": ResourceCheck(decide, here)}


def _account(namespace: str, name: str) -> User:
    groups = ("system:serviceaccounts", f"system:serviceaccounts:{namespace}", AUTHENTICATED)
    return User(f"system:serviceaccount:{namespace}:{name}", groups=groups)
