"""Why a command failed: a stable reason, the exit code that goes with it, and the advice that helps.

Reasons and codes follow minikube's scheme (https://minikube.sigs.k8s.io/docs/contrib/errorcodes/): tens name the source
(10 program, 30 host, 50 driver, 70 local network, 80 guest, 90 runtime, 100 control plane), units the class (0 error,
1 conflict, 2 timeout, 3 not running, 4 usage, 5 not found, 6 unsupported, 7 permission, 8 configuration).
"""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True, slots=True)
class Reason:
    """A class of failure; `id` is what `-o json` and scripts see."""

    id: str
    exit_code: int


USAGE = Reason("MK_USAGE", 14)
HOME_PERMISSION = Reason("HOST_HOME_PERMISSION", 37)
CONFIG_LOAD = Reason("HOST_CONFIG_LOAD", 38)
PKI = Reason("HOST_PKI", 38)
KUBECONFIG = Reason("HOST_KUBECONFIG_UPDATE", 38)
NEEDS_ROOT = Reason("DRV_NEEDS_ROOT", 57)
MISSING_FEATURE = Reason("DRV_NOT_HEALTHY", 56)
PORT_IN_USE = Reason("IF_HOST_PORT_IN_USE", 71)
NO_SUBNET = Reason("IF_SUBNET_EXHAUSTED", 75)
PROFILE_NOT_FOUND = Reason("GUEST_NODE_RETRIEVE", 85)
NODE_ADD = Reason("GUEST_NODE_ADD", 80)
NODE_NOT_FOUND = Reason("GUEST_NODE_RETRIEVE", 85)
START_FAILED = Reason("GUEST_START", 80)
STOP_TIMEOUT = Reason("GUEST_STOP_TIMEOUT", 82)
NODE_TIMEOUT = Reason("GUEST_NODE_START_TIMEOUT", 82)
NOT_RUNNING = Reason("GUEST_NOT_RUNNING", 83)
RUNNING = Reason("GUEST_RUNNING", 81)
SNAPSHOT = Reason("GUEST_SNAPSHOT", 80)
RUNTIME_ENABLE = Reason("RUNTIME_ENABLE", 90)
IMAGE_NOT_FOUND = Reason("GUEST_IMAGE_NOT_FOUND", 85)
IMAGE_LOAD = Reason("GUEST_IMAGE_LOAD", 80)
IMAGE_PULL = Reason("GUEST_IMAGE_PULL", 80)
KUBECTL_NOT_FOUND = Reason("HOST_KUBECTL_NOT_FOUND", 35)
VERSION_UNSUPPORTED = Reason("K8S_VERSION_UNSUPPORTED", 106)
DOWNGRADE_UNSUPPORTED = Reason("K8S_DOWNGRADE_UNSUPPORTED", 106)
APISERVER_TIMEOUT = Reason("K8S_APISERVER_TIMEOUT", 102)


class ClusterError(Exception):
    """A command cannot go on; nothing is left half-made."""

    def __init__(self, reason: Reason, message: str, advice: str = "") -> None:
        super().__init__(message)
        self.reason = reason
        self.message = message
        self.advice = advice
