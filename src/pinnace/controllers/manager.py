"""Runs the control loops of a cluster in one process, as kube-controller-manager does.

All share one set of informers. A loop that fails is started again after a growing pause, and never takes others down.
Names and `--controllers` follow https://kubernetes.io/docs/reference/command-line-tools-reference/kube-controller-manager/.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass

import structlog

from pinnace.apis import builtin
from pinnace.apis.registry import Registry
from pinnace.client.client import Client
from pinnace.client.controller import Controller
from pinnace.client.events import EventRecorder
from pinnace.client.https import HttpsTransport
from pinnace.client.informer import Backoff, InformerFactory
from pinnace.client.kubeconfig import Connection
from pinnace.client.leader_election import Election, run_elected
from pinnace.client.tasks import end_tasks
from pinnace.controllers.clusterrole_aggregation import ClusterRoleAggregationController
from pinnace.controllers.cronjob import CronJobController
from pinnace.controllers.daemonset import DaemonSetController
from pinnace.controllers.deployment import DeploymentController
from pinnace.controllers.endpoints import EndpointsController
from pinnace.controllers.endpointslice import EndpointSliceController
from pinnace.controllers.garbage_collector import GarbageCollector
from pinnace.controllers.job import JobController
from pinnace.controllers.namespace import NamespaceController
from pinnace.controllers.node_ipam import NodeIpamController
from pinnace.controllers.node_lifecycle import GRACE_SECONDS, NodeLifecycleController
from pinnace.controllers.poddisruptionbudget import DisruptionController
from pinnace.controllers.podgc import PodGcController
from pinnace.controllers.replicaset import ReplicaSetController
from pinnace.controllers.replicationcontroller import ReplicationControllerController
from pinnace.controllers.resource_quota import ResourceQuotaController
from pinnace.controllers.root_ca import RootCaController
from pinnace.controllers.served import ServedResources
from pinnace.controllers.serviceaccount import ServiceAccountController
from pinnace.controllers.statefulset import StatefulSetController
from pinnace.controllers.taint_eviction import TaintEvictionController
from pinnace.controllers.ttl_after_finished import TtlAfterFinishedController
from pinnace.controllers.validating_admission_policy import ValidatingAdmissionPolicyController
from pinnace.controllers.volume_protection import PvcProtectionController, PvProtectionController

_log = structlog.get_logger()


@dataclass(slots=True, kw_only=True)
class Options:
    """What the loops need to know of the cluster."""

    controllers: Sequence[str] = ("*",)  # names to run; `*` all, `-name` all but that
    root_ca: str = ""  # PEM, published to every namespace; nothing is published without
    cluster_cidrs: Sequence[str] = ()  # one range, or one of each family; nodes get none without
    allocate_node_cidrs: bool = True
    kubernetes_minor: int = builtin.NEWEST
    node_monitor_grace_seconds: float = GRACE_SECONDS
    terminated_pod_gc_threshold: int = 12500
    election: Election | None = None  # with one, the loops run while its lease is held


def selected(name: str, controllers: Iterable[str]) -> bool:
    """Whether `--controllers` asks for this one: its own name decides before `*` does."""
    listed = set(controllers)
    if name in listed:
        return True
    return f"-{name}" not in listed and "*" in listed


class ControllerManager:
    """Every control loop that the options select."""

    def __init__(self, client: Client, options: Options | None = None) -> None:
        self._client = client
        self._options = options or Options()

    async def run(self) -> None:
        """Work until cancelled; with leader election, while this process holds the lease.

        Raises LeadershipLost when the lease is lost: the process should end and be started again.
        """
        if self._options.election is None:
            await self._run()
        else:
            await run_elected(self._client, self._options.election, self._run)

    async def _run(self) -> None:
        informers = InformerFactory(self._client)
        recorders: list[EventRecorder] = []
        makers = self._makers(informers, recorders)
        # All are made before any informer runs: who needs whole objects must ask before who needs metadata only.
        chosen = {name: make for name, make in makers.items() if selected(name, self._options.controllers)}
        loops = {name: make() for name, make in chosen.items()}
        informers.start()
        tasks = [asyncio.create_task(self._keep(name, loop), name=name) for name, loop in loops.items()]
        _log.info("controllers started", controllers=sorted(loops))
        try:
            await asyncio.gather(*tasks)
        finally:
            await end_tasks(tasks)
            await informers.stop()
            for recorder in recorders:
                recorder.cancel()

    async def _keep(self, name: str, loop: Controller) -> None:
        """Run one loop, again and again should it fail; what it queued is kept."""
        backoff = Backoff(first=1.0, last=60.0)
        while True:
            try:
                await loop.run()
            except Exception:
                _log.exception("controller failed", controller=name)
            await asyncio.sleep(backoff.next())

    def _makers(
        self, informers: InformerFactory, recorders: list[EventRecorder]
    ) -> dict[str, Callable[[], Controller]]:
        """The controllers by name; the garbage collector last, because it watches what is watched by others anyway."""
        client, options = self._client, self._options
        served = ServedResources(Registry(options.kubernetes_minor), informers)

        def recorder(component: str) -> EventRecorder:
            recorders.append(EventRecorder(client, component))
            return recorders[-1]

        makers: dict[str, Callable[[], Controller]] = {
            "deployment-controller": lambda: DeploymentController(client, informers, recorder("deployment-controller")),
            "replicaset-controller": lambda: ReplicaSetController(client, informers, recorder("replicaset-controller")),
            "replicationcontroller-controller": lambda: ReplicationControllerController(
                client, informers, recorder("replication-controller")
            ),
            "daemonset-controller": lambda: DaemonSetController(client, informers, recorder("daemonset-controller")),
            "statefulset-controller": lambda: StatefulSetController(
                client, informers, recorder("statefulset-controller")
            ),
            "cronjob-controller": lambda: CronJobController(client, informers, recorder("cronjob-controller")),
            "disruption-controller": lambda: DisruptionController(client, informers),
            "job-controller": lambda: JobController(client, informers, recorder("job-controller")),
            "ttl-after-finished-controller": lambda: TtlAfterFinishedController(client, informers),
            "clusterrole-aggregation-controller": lambda: ClusterRoleAggregationController(client, informers),
            "namespace-controller": lambda: NamespaceController(client, informers, served),
            "resourcequota-controller": lambda: ResourceQuotaController(client, informers, served),
            "serviceaccount-controller": lambda: ServiceAccountController(client, informers),
            "endpoints-controller": lambda: EndpointsController(client, informers, recorder("endpoint-controller")),
            "endpointslice-controller": lambda: EndpointSliceController(
                client, informers, recorder("endpoint-slice-controller")
            ),
            "node-lifecycle-controller": lambda: NodeLifecycleController(
                client, informers, recorder("node-controller"), grace=options.node_monitor_grace_seconds
            ),
            "taint-eviction-controller": lambda: TaintEvictionController(
                client, informers, recorder("taint-eviction-controller")
            ),
            "persistentvolumeclaim-protection-controller": lambda: PvcProtectionController(client, informers),
            "persistentvolume-protection-controller": lambda: PvProtectionController(client, informers),
            "pod-garbage-collector-controller": lambda: PodGcController(
                client, informers, threshold=options.terminated_pod_gc_threshold
            ),
            "validatingadmissionpolicy-status-controller": lambda: ValidatingAdmissionPolicyController(
                client, informers, options.kubernetes_minor
            ),
        }
        if options.root_ca:
            makers["root-ca-certificate-publisher-controller"] = lambda: RootCaController(
                client, informers, options.root_ca
            )
        if options.allocate_node_cidrs and options.cluster_cidrs:
            makers["node-ipam-controller"] = lambda: NodeIpamController(
                client, informers, recorder("cidrAllocator"), options.cluster_cidrs
            )
        makers["garbage-collector-controller"] = lambda: GarbageCollector(client, informers, served)
        return makers


def controller_names() -> list[str]:
    """Every name that `--controllers` knows."""
    nowhere = Client(HttpsTransport(Connection(server="")))
    everything = Options(root_ca="any", cluster_cidrs=["10.0.0.0/8"])
    return list(ControllerManager(nowhere, everything)._makers(InformerFactory(nowhere), []))
