"""Acting as somebody else: the Impersonate- headers, each of which needs the right to impersonate what it names.

https://kubernetes.io/docs/reference/access-authn-authz/authentication/#user-impersonation.
"""

from __future__ import annotations

from collections.abc import Mapping
from urllib.parse import unquote

from pinnace.apiserver.authn import AUTHENTICATED, UNAUTHENTICATED, User
from pinnace.apiserver.authz import Authorizer, refusal
from pinnace.apiserver.request_info import RequestInfo
from pinnace.machinery import errors
from pinnace.wire.http import lines_of

USER, GROUP, UID = "impersonate-user", "impersonate-group", "impersonate-uid"
_EXTRA = "impersonate-extra-"
_AUTHENTICATION = "authentication.k8s.io"


def is_impersonation(headers: Mapping[str, str]) -> bool:
    return USER in headers or GROUP in headers or UID in headers


def impersonated(user: User, headers: Mapping[str, str], authorizer: Authorizer) -> User:
    """Who `user` asks to be by the headers. Raises 403 without the right to be that, 400 for what makes no sense."""
    name = headers.get(USER, "")
    groups = [group for group in lines_of(headers.get(GROUP, "")) if group]
    uid = headers.get(UID, "")
    extra = {unquote(key[len(_EXTRA) :]): lines_of(value) for key, value in headers.items() if key.startswith(_EXTRA)}
    if not name:
        raise errors.bad_request(f"requested {sorted([*groups, uid, *extra])} without impersonating a user")
    account = _service_account(name)
    if account is not None:
        _need(authorizer, user, _asked("", "serviceaccounts", account[1], account[0]))
    else:
        _need(authorizer, user, _asked("", "users", name))
    for group in groups:
        _need(authorizer, user, _asked("", "groups", group))
    for key, values in extra.items():
        for value in values:
            _need(authorizer, user, _asked(_AUTHENTICATION, "userextras", value, subresource=key))
    if uid:
        _need(authorizer, user, _asked(_AUTHENTICATION, "uids", uid))
    return User(name, uid, tuple(_with_implied(name, account, groups)), extra)


def _service_account(name: str) -> tuple[str, str] | None:
    parts = name.split(":")
    if len(parts) == 4 and parts[:2] == ["system", "serviceaccount"] and parts[2] and parts[3]:
        return parts[2], parts[3]
    return None


def _with_implied(name: str, account: tuple[str, str] | None, groups: list[str]) -> list[str]:
    """The groups, with those that everyone of this name is in."""
    if account is not None and not groups:
        groups = ["system:serviceaccounts", f"system:serviceaccounts:{account[0]}"]
    if name == "system:anonymous":
        return groups if UNAUTHENTICATED in groups else [*groups, UNAUTHENTICATED]
    return groups if AUTHENTICATED in groups or UNAUTHENTICATED in groups else [*groups, AUTHENTICATED]


def _asked(group: str, resource: str, name: str, namespace: str = "", subresource: str = "") -> RequestInfo:
    return RequestInfo("impersonate", "", True, group, "v1", resource, namespace, name, subresource)


def _need(authorizer: Authorizer, user: User, info: RequestInfo) -> None:
    allowed, why = authorizer.decide(user, info)
    if not allowed:
        raise refusal(user, info, why)
