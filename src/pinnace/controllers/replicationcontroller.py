"""Keeps as many pods alive as a ReplicationController asks for: the ReplicaSet's older sister, by the same code.

Specified by https://kubernetes.io/docs/concepts/workloads/controllers/replicationcontroller/.
"""

from __future__ import annotations

from pinnace.apis.resources import REPLICATION_CONTROLLERS
from pinnace.controllers.replicaset import ReplicaSetController
from pinnace.machinery.meta import Obj, get_in
from pinnace.machinery.selectors import LabelSelector


class ReplicationControllerController(ReplicaSetController):
    """One key is one ReplicationController."""

    name = "replicationcontroller-controller"
    component = "replication-controller"
    kind = "ReplicationController"
    resource = REPLICATION_CONTROLLERS

    def selector_of(self, owner: Obj) -> LabelSelector:
        return LabelSelector.from_json({"matchLabels": get_in(owner, "spec", "selector", default={})})
