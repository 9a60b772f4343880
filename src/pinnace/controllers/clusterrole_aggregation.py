"""Writes into an aggregating ClusterRole the rules of the roles whose labels it selects.

The API server counts those rules already when it decides; this is how readers of the role see them.
https://kubernetes.io/docs/reference/access-authn-authz/rbac/#aggregated-clusterroles.
"""

from __future__ import annotations

from collections.abc import Iterable

from pinnace.apis.resources import CLUSTER_ROLES
from pinnace.client.controller import Controller
from pinnace.client.transport import MERGE_PATCH
from pinnace.machinery.errors import ApiError
from pinnace.machinery.meta import Obj, get_in, labels_of, name_of
from pinnace.machinery.selectors import LabelSelector


def aggregated(role: Obj, others: Iterable[Obj]) -> list[Obj]:
    """The rules that `role` is to have: of each role it selects, by name, each rule once."""
    selectors = get_in(role, "aggregationRule", "clusterRoleSelectors", default=[])
    chosen = [LabelSelector.from_json(selector) for selector in selectors]
    rules: list[Obj] = []
    for other in sorted(others, key=name_of):
        if name_of(other) != name_of(role) and any(each.matches(labels_of(other)) for each in chosen):
            rules += [rule for rule in other.get("rules") or () if rule not in rules]
    return rules


class ClusterRoleAggregationController(Controller):
    """One key is one ClusterRole with an aggregationRule; a change of any ClusterRole may concern it."""

    name = "clusterrole-aggregation-controller"

    def setup(self) -> None:
        self.roles = self.use(CLUSTER_ROLES)

        def changed(_: Obj) -> None:
            for role in self.roles.store.list():
                if role.get("aggregationRule"):
                    self.queue.add(name_of(role))

        self.roles.add_handler(added=changed, updated=lambda _, new: changed(new), deleted=changed)

    async def reconcile(self, key: str) -> float | None:
        role = self.roles.store.get(key)
        if role is None or not role.get("aggregationRule"):
            return None
        rules = aggregated(role, self.roles.store.list())
        if rules == (role.get("rules") or []):
            return None
        patch = {"metadata": {"resourceVersion": role["metadata"]["resourceVersion"]}, "rules": rules}
        try:
            await self.client.patch(CLUSTER_ROLES, key, patch, content_type=MERGE_PATCH)
        except ApiError as error:
            if not error.is_not_found:
                raise
        return None
