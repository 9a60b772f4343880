"""/healthz, /livez and /readyz: whether the server lives and is ready, check by check.

https://kubernetes.io/docs/reference/using-api/health-checks/
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping, Sequence

from pinnace.wire.http import Response

Check = Callable[[], str]
"""Empty when all is well, else why not."""

_TEXT = (("Content-Type", "text/plain; charset=utf-8"), ("X-Content-Type-Options", "nosniff"))

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


def answer(endpoint: str, name: str, checks: Mapping[str, Check], verbose: bool, excluded: Sequence[str]) -> Response:
    """The answer of `/<endpoint>`, or of `/<endpoint>/<name>` for one check."""
    if name:
        return _one(checks.get(name))
    lines: list[str] = []
    failed = False
    for each, check in checks.items():
        if each in excluded:
            lines.append(f"[+]{each} excluded: ok")
        elif check():
            lines.append(f"[-]{each} failed: reason withheld")
            failed = True
        else:
            lines.append(f"[+]{each} ok")
    unknown = sorted({each for each in excluded if each not in checks})
    if unknown:
        lines.append(f"warn: some health checks cannot be excluded: no matches for {', '.join(map(_quoted, unknown))}")
    if failed:
        return Response(500, _TEXT, ("\n".join(lines) + f"\n{endpoint} check failed\n").encode())
    if not verbose:
        return Response(200, _TEXT, b"ok")
    return Response(200, _TEXT, ("\n".join(lines) + f"\n{endpoint} check passed\n").encode())


def _one(check: Check | None) -> Response:
    if check is None:
        return Response(404, _TEXT, b"404 page not found\n")
    why = check()
    return Response(500, _TEXT, f"internal server error: {why}\n".encode()) if why else Response(200, _TEXT, b"ok")


def _quoted(text: str) -> str:
    return f'"{text}"'
