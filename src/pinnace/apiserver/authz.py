"""Who may do what. This is the place in the request path where RBAC and Node authorization stand.

Until their rules are evaluated here, everyone who has authenticated may do everything, as with kube-apiserver's
`--authorization-mode=AlwaysAllow`; the unauthenticated may read what the default ClusterRole
`system:public-info-viewer` shows them, and nothing else
(https://kubernetes.io/docs/reference/access-authn-authz/rbac/#discovery-roles).
"""

from __future__ import annotations

from pinnace.apiserver.authn import User
from pinnace.apiserver.request_info import RequestInfo
from pinnace.machinery import errors

_PUBLIC = ("/healthz", "/livez", "/readyz", "/version")


def authorize(user: User, info: RequestInfo) -> None:
    """Return if `user` may; else raise 401 for the unauthenticated, whom credentials would help."""
    if not user.is_anonymous:
        return
    if info.verb == "get" and not info.is_resource and _is_public(info.path):
        return
    raise errors.unauthorized()


def _is_public(path: str) -> bool:
    return path.rstrip("/") in _PUBLIC or path.startswith(("/livez/", "/readyz/", "/healthz/"))


def allows(user: User, attributes: dict[str, object]) -> tuple[bool, str]:  # noqa: ARG001 - what RBAC will look at
    """The answer to a SubjectAccessReview: whether, and why."""
    return not user.is_anonymous, ""
