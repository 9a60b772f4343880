"""What must have run once before the API server is ready, each a check of /livez and /readyz.

`wire.health` tells of them.
https://kubernetes.io/docs/reference/using-api/health-checks/
"""

from __future__ import annotations

from collections.abc import Callable, Iterable

from pinnace.wire.health import Check

# What runs once a server has started, by the original's names and in its order, by when it is done here.
CACHES = (  # with the caches filled
    "start-apiserver-admission-initializer",
    "generic-apiserver-start-informers",
    "priority-and-fairness-config-consumer",
    "priority-and-fairness-filter",
    "storage-object-count-tracker-hook",
    "start-apiextensions-informers",
    "start-apiextensions-controllers",
    "crd-informer-synced",
)
OBJECTS = (  # with what every cluster has made
    "start-system-namespaces-controller",
    "start-service-ip-repair-controllers",
    "scheduling/bootstrap-system-priority-classes",
    "bootstrap-controller",
)
POLICY = ("rbac/bootstrap-roles",)
FLOWS = ("priority-and-fairness-config-producer",)
AGGREGATION = (
    "start-cluster-authentication-info-controller",
    "aggregator-reload-proxy-client-cert",
    "start-kube-aggregator-informers",
    "apiservice-status-local-available-controller",
    "apiservice-status-remote-available-controller",
    "apiservice-registration-controller",
    "apiservice-discovery-controller",
    "kube-apiserver-autoregistration",
    "apiservice-openapi-controller",
    "apiservice-openapiv3-controller",
)
IDENTITY = (
    "start-kube-apiserver-identity-lease-controller",
    "start-kube-apiserver-identity-lease-garbage-collector",
)
_WITHOUT_FLOWS = ("priority-and-fairness-config-consumer", "priority-and-fairness-filter", *FLOWS)
REGISTERED = "autoregister-completion"


class Hooks:
    """What must have run once after the start; until then the checks named for it fail.

    For `grace` seconds after the start /livez takes it for done: who starts slowly is not to be killed for it.
    """

    def __init__(self, clock: Callable[[], float], grace: float = 0) -> None:
        self._clock = clock
        self._patience = clock() + grace
        self._done: dict[str, bool] = {}

    def expect(self, *, policy: bool, flows: bool, identity: bool = True) -> None:
        """Name what is to run, in order: whether RBAC, Priority and Fairness and the server's own Lease are on."""
        names = (*CACHES, *OBJECTS, *(IDENTITY if identity else ()), *(POLICY if policy else ()), *FLOWS, *AGGREGATION)
        self._done = dict.fromkeys((name for name in names if flows or name not in _WITHOUT_FLOWS), False)

    def done(self, names: Iterable[str]) -> None:
        self._done.update((name, True) for name in names if name in self._done)

    def checks(self, *, patient: bool) -> dict[str, Check]:
        """The checks, by name; with `patient` those of a server that may still be starting."""
        waits = patient and self._clock() < self._patience
        found = {f"poststarthook/{name}": _passes(done or waits, "not finished") for name, done in self._done.items()}
        registered = self._done.get("kube-apiserver-autoregistration", False) or waits
        return {**found, REGISTERED: _passes(registered, "missing APIService")}


def _passes(fine: bool, why: str) -> Check:
    return lambda: "" if fine else why
