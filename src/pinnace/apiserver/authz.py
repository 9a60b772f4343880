"""Who may do what: the authorizers in the order the options name them, and the words of a refusal.

The first authorizer with an opinion decides. RBAC follows the caches of roles and bindings, so a change counts from the
moment it is stored. https://kubernetes.io/docs/reference/access-authn-authz/authorization/.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import NamedTuple, Protocol

from pinnace.apis.resources import CLUSTER_ROLE_BINDINGS, CLUSTER_ROLES, ROLE_BINDINGS, ROLES
from pinnace.apiserver.authn import User
from pinnace.apiserver.cache import CachedObject, Event, Filter, Watcher
from pinnace.apiserver.node_authorizer import NodeAuthorizer, node_name_of
from pinnace.apiserver.rbac import Policy, RoleKey, namespace_of
from pinnace.apiserver.request_info import RequestInfo
from pinnace.apiserver.storage import Storage
from pinnace.machinery import errors
from pinnace.machinery.errors import ApiError
from pinnace.machinery.features import FeatureGates
from pinnace.machinery.meta import GVR, Obj

MODES = ("AlwaysAllow", "AlwaysDeny", "ABAC", "Webhook", "RBAC", "Node")
MASTERS = "system:masters"

_PUBLIC = ("/healthz", "/livez", "/readyz", "/version")
_UPGRADED = ("exec", "attach", "portforward")


class Opinion(NamedTuple):
    """What one authorizer says: yes, no, or None where that is for others to say."""

    allowed: bool | None
    reason: str
    error: str = ""  # what kept it from deciding


_ALLOWED = Opinion(True, "")


class Decider(Protocol):
    """An authorizer that is not built in."""

    name: str

    def decide(self, user: User, info: RequestInfo) -> Opinion:
        """Raises `asking.MustAsk` where another server must tell first."""

    def rules(self, user: User, namespace: str, /) -> list[Obj] | None:
        """The user's rules in a namespace and for paths outside the resources, None where nobody can list them."""


Mode = str | Decider


class Authorizer:
    """Decides for every request; `start` once the caches are filled."""

    def __init__(self, modes: Sequence[Mode], storage: Storage, features: FeatureGates) -> None:
        self.policy = Policy()
        self.nodes = NodeAuthorizer(storage, features.enabled("AuthorizeNodeWithSelectors"))
        self._storage = storage
        self._tells_selectors = features.enabled("AuthorizeWithSelectors")
        self._upgrades_create = features.enabled("AuthorizePodWebsocketUpgradeCreatePermission")
        self._leave: list[Callable[[], None]] = []
        self.denied = 0  # requests that an authorizer refused, instead of having no opinion of them
        self.replace(modes)

    def replace(self, modes: Sequence[Mode]) -> None:
        """Ask others from now on; of those built in, the same."""
        self.modes = tuple(modes)
        self._open = self.modes == ("AlwaysAllow",)
        self._asks_others = any(not isinstance(mode, str) for mode in self.modes)

    @property
    def has_rbac(self) -> bool:
        return "RBAC" in self.modes

    def reads_selectors(self, user: User) -> bool:
        """Whether what the user may see can hang on the selectors of a list."""
        return (self._asks_others and self._tells_selectors) or (
            self.nodes.is_strict and node_name_of(user) is not None
        )

    def start(self) -> None:
        if "RBAC" in self.modes:
            for resource in (CLUSTER_ROLES, ROLES):
                self._follow(resource, lambda key, obj: self.policy.set_role(RoleKey(*_split(key)), obj))
            for resource in (CLUSTER_ROLE_BINDINGS, ROLE_BINDINGS):
                self._follow(resource, lambda key, obj: self.policy.set_binding(*_split(key), obj))
        if "Node" in self.modes:
            self._leave.append(self.nodes.start())

    def stop(self) -> None:
        for leave in self._leave:
            leave()

    def _follow(self, resource: GVR, tell: Callable[[str, Obj | None], None]) -> None:
        cache = self._storage.cache(resource)
        for key, found in cache.objects.items():
            tell(key, found.obj())

        def deliver(kind: str, obj: CachedObject, _: Event) -> None:
            tell(obj.key, None if kind == "DELETED" else obj.obj())

        self._leave.append(cache.watch(Watcher(Filter(), deliver)))

    def authorize(self, user: User, info: RequestInfo) -> None:
        """Return if `user` may; else raise 403, 401 for one whom only credentials would help, 500 where an authorizer
        that might have allowed it failed, or MustAsk."""
        if self._open:
            if user.is_anonymous and not _is_public(info):
                raise errors.unauthorized()
            return
        allowed, why, error = self._decide(user, info)
        if allowed and info.verb == "get" and self._upgrades_create and info.subresource in _UPGRADED:
            info = info._replace(verb="create")
            allowed, why, error = self._decide(user, info)
        if not allowed:
            self.denied += allowed is False
            raise errors.internal(error) if error else refusal(user, info, why)

    def explain(self, user: User, info: RequestInfo) -> tuple[bool, str]:
        """`decide`, and where a binding allows it, which."""
        allowed, why = self.decide(user, info)
        if allowed and not why and self.has_rbac and MASTERS not in user.groups:
            why = self.policy.reason(user, info)
        return allowed, why

    def decide(self, user: User, info: RequestInfo) -> tuple[bool, str]:
        """Whether `user` may, and why not."""
        allowed, why, error = self._decide(user, info)
        return bool(allowed), why or error

    def _decide(self, user: User, info: RequestInfo) -> Opinion:
        if MASTERS in user.groups:
            return _ALLOWED
        reasons: list[str] = []
        failures: list[str] = []
        for mode in self.modes:
            if mode == "AlwaysAllow":
                return Opinion(not user.is_anonymous or _is_public(info), "")
            if mode == "AlwaysDeny":
                reasons.append("Everything is forbidden.")
            elif mode == "RBAC":
                grants = self.policy.grants(user)
                if grants.allows(info):
                    return _ALLOWED
                reasons.append(grants.why_not(namespace_of(info)))
            elif not isinstance(mode, str):
                opinion = mode.decide(user, info)
                if opinion.allowed is not None:
                    return opinion
                reasons.append(opinion.reason)
                failures.append(opinion.error)
            else:
                node = node_name_of(user)
                if node is not None:
                    allowed, why = self.nodes.decide(node, info)
                    if allowed:
                        return _ALLOWED
                    reasons.append(why)
        return Opinion(None, "\n".join(filter(None, reasons)), ", ".join(filter(None, failures)))

    def rules(self, user: User, namespace: str) -> tuple[list[Obj], list[Obj], str]:
        """The user's rules for resources and for other paths, and why they are not all there is, if they are not."""
        if MASTERS in user.groups or "AlwaysAllow" in self.modes:
            everything: Obj = {"verbs": ["*"], "apiGroups": ["*"], "resources": ["*"]}
            return [everything], [{"verbs": ["*"], "nonResourceURLs": ["*"]}], ""
        found: list[Obj] = []
        silent: list[str] = []
        for mode in self.modes:
            if mode == "RBAC":
                found += self.policy.rule_objects(user, namespace)
            elif mode == "Node" and node_name_of(user) is not None:
                silent.append("node")
            elif not isinstance(mode, str):
                known = mode.rules(user, namespace)
                if known is None:
                    silent.append("webhook")
                found += known or ()
        partial = [f"{name} authorizer does not support user rule resolution" for name in silent]
        return (
            [rule for rule in found if rule.get("resources")],
            [rule for rule in found if rule.get("nonResourceURLs")],
            partial[0] if len(partial) == 1 else f"[{', '.join(partial)}]" if partial else "",
        )


def _split(key: str) -> tuple[str, str]:
    namespace, _, name = key.rpartition("/")
    return namespace, name


def _is_public(info: RequestInfo) -> bool:
    """What everybody may read: what the ClusterRole `system:public-info-viewer` shows."""
    if info.verb != "get" or info.is_resource:
        return False
    return info.path.rstrip("/") in _PUBLIC or info.path.startswith(("/livez/", "/readyz/", "/healthz/"))


def refusal(user: User, info: RequestInfo, why: str = "") -> ApiError:
    """403 in the words of Kubernetes."""
    if not info.is_resource:
        text = f'User "{user.name}" cannot {info.verb} path "{info.path}"'
        return ApiError(403, "Forbidden", "forbidden: " + (f"{text}: {why}" if why else text), details={})
    resource = f"{info.resource}/{info.subresource}" if info.subresource else info.resource
    text = f'User "{user.name}" cannot {info.verb} resource "{resource}" in API group "{info.group}"'
    namespace = namespace_of(info)
    text += f' in the namespace "{namespace}"' if namespace else " at the cluster scope"
    return errors.forbidden(info.resource, info.name, f"{text}: {why}" if why else text, info.group)
