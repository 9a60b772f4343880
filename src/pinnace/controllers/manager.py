"""Runs the control loops of a cluster in one process, as kube-controller-manager does.

All share one set of informers. A loop that fails is started again after a growing pause, and never takes others down.
Names and `--controllers` follow https://kubernetes.io/docs/reference/command-line-tools-reference/kube-controller-manager/.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from datetime import timedelta
from pathlib import Path
from typing import Any

import structlog

from pinnace.apis import builtin
from pinnace.apis.registry import Registry
from pinnace.apis.resources import (
    CLUSTER_TRUST_BUNDLES,
    DEVICE_TAINT_RULES,
    POD_CERTIFICATE_REQUESTS,
    RESOURCE_CLAIMS,
    STORAGE_VERSION_MIGRATIONS,
    VOLUME_ATTRIBUTES_CLASSES,
)
from pinnace.client.client import Client
from pinnace.client.controller import Controller
from pinnace.client.informer import Backoff, InformerFactory
from pinnace.client.leader_election import Election, run_elected
from pinnace.controllers.accounts import ACCOUNTS
from pinnace.controllers.attach_detach import AttachDetachController
from pinnace.controllers.bootstrap_tokens import BootstrapSigner, TokenCleaner
from pinnace.controllers.certificate_authority import KeyPair
from pinnace.controllers.certificate_requests import API_CLIENT, KUBELET_CLIENT, KUBELET_SERVING, LEGACY_UNKNOWN
from pinnace.controllers.certificatesigningrequest import (
    CsrApprovingController,
    CsrCleanerController,
    CsrSigningController,
)
from pinnace.controllers.cloud import NO_CLOUD, Cloud
from pinnace.controllers.cloud_node_lifecycle import CloudNodeLifecycleController
from pinnace.controllers.clusterrole_aggregation import ClusterRoleAggregationController
from pinnace.controllers.clustertrustbundle_publisher import ClusterTrustBundlePublisher
from pinnace.controllers.cronjob import CronJobController
from pinnace.controllers.daemonset import DaemonSetController
from pinnace.controllers.deployment import DeploymentController
from pinnace.controllers.device_taint_eviction import DeviceTaintEvictionController
from pinnace.controllers.endpoints import EndpointsController
from pinnace.controllers.endpointslice import EndpointSliceController
from pinnace.controllers.endpointslice_mirroring import EndpointSliceMirroringController
from pinnace.controllers.ephemeral_volume import EphemeralVolumeController
from pinnace.controllers.garbage_collector import GarbageCollector
from pinnace.controllers.horizontalpodautoscaler import HorizontalPodAutoscalerController
from pinnace.controllers.host_path_volumes import HostPathProvisioner, Provisioner
from pinnace.controllers.hpa_replicas import Settings as AutoscalerSettings
from pinnace.controllers.job import JobController
from pinnace.controllers.legacy_serviceaccount_token_cleaner import (
    CLEAN_UP_PERIOD,
    LegacyServiceAccountTokenCleaner,
)
from pinnace.controllers.namespace import NamespaceController
from pinnace.controllers.node_ipam import NodeIpamController
from pinnace.controllers.node_lifecycle import GRACE_SECONDS, STARTUP_GRACE_SECONDS, NodeLifecycleController
from pinnace.controllers.node_route import NodeRouteController
from pinnace.controllers.node_zones import Pace
from pinnace.controllers.persistentvolume_binder import PersistentVolumeBinder
from pinnace.controllers.persistentvolume_expander import PersistentVolumeExpander
from pinnace.controllers.podcertificaterequest_cleaner import PodCertificateRequestCleaner
from pinnace.controllers.poddisruptionbudget import DisruptionController
from pinnace.controllers.podgc import PodGcController
from pinnace.controllers.replicaset import ReplicaSetController
from pinnace.controllers.replicationcontroller import ReplicationControllerController
from pinnace.controllers.resource_quota import ResourceQuotaController
from pinnace.controllers.resourceclaim import ResourceClaimController
from pinnace.controllers.root_ca import RootCaController
from pinnace.controllers.selection import selected
from pinnace.controllers.selinux_warning import SELinuxWarningController
from pinnace.controllers.served import ServedResources
from pinnace.controllers.service_cidrs import ServiceCidrsController
from pinnace.controllers.service_lb import ServiceLbController
from pinnace.controllers.serviceaccount import ServiceAccountController
from pinnace.controllers.serviceaccount_token import ServiceAccountTokenController
from pinnace.controllers.statefulset import StatefulSetController
from pinnace.controllers.storage_version_gc import StorageVersionGarbageCollector
from pinnace.controllers.storage_version_migrator import StorageVersionMigrator
from pinnace.controllers.taint_eviction import TaintEvictionController
from pinnace.controllers.ttl import TtlController
from pinnace.controllers.ttl_after_finished import TtlAfterFinishedController
from pinnace.controllers.validating_admission_policy import ValidatingAdmissionPolicyController
from pinnace.controllers.volume_protection import (
    PvcProtectionController,
    PvProtectionController,
    VacProtectionController,
)
from pinnace.machinery.features import FeatureGates
from pinnace.wire.tasks import end_tasks

_log = structlog.get_logger()

CONTROLLERS: dict[str, type[Controller]] = {
    "bootstrap-signer-controller": BootstrapSigner,
    "certificatesigningrequest-approving-controller": CsrApprovingController,
    "certificatesigningrequest-cleaner-controller": CsrCleanerController,
    "certificatesigningrequest-signing-controller": CsrSigningController,
    "cloud-node-lifecycle-controller": CloudNodeLifecycleController,
    "clusterrole-aggregation-controller": ClusterRoleAggregationController,
    "cronjob-controller": CronJobController,
    "daemonset-controller": DaemonSetController,
    "deployment-controller": DeploymentController,
    "device-taint-eviction-controller": DeviceTaintEvictionController,
    "disruption-controller": DisruptionController,
    "endpoints-controller": EndpointsController,
    "endpointslice-controller": EndpointSliceController,
    "endpointslice-mirroring-controller": EndpointSliceMirroringController,
    "ephemeral-volume-controller": EphemeralVolumeController,
    "hostpath-provisioner": HostPathProvisioner,
    "horizontal-pod-autoscaler-controller": HorizontalPodAutoscalerController,
    "job-controller": JobController,
    "kube-apiserver-serving-clustertrustbundle-publisher-controller": ClusterTrustBundlePublisher,
    "legacy-serviceaccount-token-cleaner-controller": LegacyServiceAccountTokenCleaner,
    "namespace-controller": NamespaceController,
    "node-ipam-controller": NodeIpamController,
    "node-lifecycle-controller": NodeLifecycleController,
    "node-route-controller": NodeRouteController,
    "persistentvolume-attach-detach-controller": AttachDetachController,
    "persistentvolume-binder-controller": PersistentVolumeBinder,
    "persistentvolume-expander-controller": PersistentVolumeExpander,
    "persistentvolume-protection-controller": PvProtectionController,
    "persistentvolumeclaim-protection-controller": PvcProtectionController,
    "pod-garbage-collector-controller": PodGcController,
    "podcertificaterequest-cleaner-controller": PodCertificateRequestCleaner,
    "replicaset-controller": ReplicaSetController,
    "replicationcontroller-controller": ReplicationControllerController,
    "resourceclaim-controller": ResourceClaimController,
    "resourcequota-controller": ResourceQuotaController,
    "root-ca-certificate-publisher-controller": RootCaController,
    "selinux-warning-controller": SELinuxWarningController,
    "service-cidr-controller": ServiceCidrsController,
    "service-lb-controller": ServiceLbController,
    "serviceaccount-controller": ServiceAccountController,
    "serviceaccount-token-controller": ServiceAccountTokenController,
    "statefulset-controller": StatefulSetController,
    "storage-version-migrator-controller": StorageVersionMigrator,
    "storageversion-garbage-collector-controller": StorageVersionGarbageCollector,
    "taint-eviction-controller": TaintEvictionController,
    "token-cleaner-controller": TokenCleaner,
    "ttl-after-finished-controller": TtlAfterFinishedController,
    "ttl-controller": TtlController,
    "validatingadmissionpolicy-status-controller": ValidatingAdmissionPolicyController,
    "volumeattributesclass-protection-controller": VacProtectionController,
    # Last, because it watches what others watch anyway.
    "garbage-collector-controller": GarbageCollector,
}


GATES = {  # the features without which some have nothing to do
    "device-taint-eviction-controller": "DRADeviceTaints",
    "kube-apiserver-serving-clustertrustbundle-publisher-controller": "ClusterTrustBundle",
    "podcertificaterequest-cleaner-controller": "PodCertificateRequest",
    "resourceclaim-controller": "DynamicResourceAllocation",
    "selinux-warning-controller": "SELinuxChangePolicy",
    "service-cidr-controller": "MultiCIDRServiceAllocator",
    "storage-version-migrator-controller": "StorageVersionMigrator",
    "volumeattributesclass-protection-controller": "VolumeAttributesClass",
    "storageversion-garbage-collector-controller": "StorageVersionAPI",
}


@dataclass(slots=True, kw_only=True)
class Options:
    """What the loops need to know of the cluster."""

    controllers: Sequence[str] = ("*",)  # names to run; `*` all, `-name` all but that
    root_ca: str = ""  # PEM, published to every namespace; nothing is published without
    cluster_cidrs: Sequence[str] = ()  # one range, or one of each family; nodes get none without
    service_account_key: bytes = b""  # PEM; without it Secrets get no tokens
    cloud: Cloud = NO_CLOUD
    allocate_node_cidrs: bool = True
    kubernetes_minor: int = builtin.NEWEST
    feature_gates: Mapping[str, bool] = field(default_factory=dict)
    service_cidrs: Sequence[str] = ()  # of Services: where they lie in those of nodes, nodes get nothing
    node_mask_sizes: Mapping[int, int] = field(default_factory=dict)  # of a node's range, by IP version
    node_monitor_grace_seconds: float = GRACE_SECONDS
    node_startup_grace_seconds: float = STARTUP_GRACE_SECONDS
    eviction_pace: Pace = field(default_factory=Pace)
    terminated_pod_gc_threshold: int = 12500
    signing: Mapping[str, KeyPair] = field(default_factory=dict)  # by signer; requests to others are not signed
    signing_duration: timedelta = timedelta(days=365)
    endpoints_per_slice: int = 100
    legacy_token_clean_up_period: timedelta = CLEAN_UP_PERIOD  # for which a generated token is not used
    mirrored_endpoints: int = 1000  # of each subset
    provisioning: bool = True  # ask provisioners for volumes
    host_path_provisioner: Provisioner | None = None  # makes volumes of directories of this machine
    force_detach: bool = True  # volumes of lost nodes
    workers: Mapping[str, int] = field(default_factory=dict)  # by controller; others have as many as they see fit
    autoscaling: AutoscalerSettings = field(default_factory=AutoscalerSettings)
    election: Election | None = None  # with one, the loops run while its lease is held

    @classmethod
    def with_keys_of(cls, pki: Path, **others: Any) -> Options:
        """Options with the certificates and keys in a directory such as kubeadm makes; the authority's key may be kept
        elsewhere, and then nothing is signed."""
        certificate, key = (pki / "ca.crt").read_bytes(), pki / "ca.key"
        return cls(
            root_ca=certificate.decode(),
            signing=every_signer(KeyPair(certificate, key.read_bytes())) if key.exists() else {},
            service_account_key=(pki / "sa.key").read_bytes(),
            **others,
        )


def every_signer(pair: KeyPair) -> dict[str, KeyPair]:
    """One authority for all of Kubernetes' own signers."""
    return dict.fromkeys((API_CLIENT, KUBELET_CLIENT, KUBELET_SERVING, LEGACY_UNKNOWN), pair)


def known_names() -> list[str]:
    """Every name that `--controllers` takes."""
    return sorted(CONTROLLERS)


class ControllerManager:
    """Every control loop that the options select."""

    def __init__(
        self, client: Client, options: Options | None = None, client_of: Callable[[str], Client] | None = None
    ) -> None:
        """`client_of` gives the clients of ServiceAccounts that loops are to write as; without it all use `client`."""
        self._client = client
        self._client_of = client_of
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
        # All are made before any informer runs: who needs whole objects must ask before who needs metadata only.
        loops = self._make(informers)
        informers.start()
        tasks = [asyncio.create_task(self._keep(name, loop), name=name) for name, loop in loops.items()]
        _log.info("controllers started", controllers=sorted(loops))
        try:
            await asyncio.gather(*tasks)
        finally:
            await end_tasks(tasks)
            await informers.stop()

    def _make(self, informers: InformerFactory) -> dict[str, Controller]:
        """The controllers that are selected and have what they need, by name."""
        registry = _registry(self._options)
        given = _arguments(self._options, registry, informers)
        made = {}
        for name, kind in CONTROLLERS.items():
            arguments = given.get(name, {})
            wanted = selected(name, self._options.controllers) and _is_on(name, registry.features)
            if wanted and arguments is not None:
                made[name] = kind(self._client_for(name), informers, **arguments)
                made[name].workers = self._options.workers.get(name, kind.workers)
        return made

    def _client_for(self, name: str) -> Client:
        account = ACCOUNTS.get(name)
        return self._client if self._client_of is None or account is None else self._client_of(account)

    async def _keep(self, name: str, loop: Controller) -> None:
        """Run one loop, again and again should it fail; what it queued is kept."""
        backoff = Backoff(first=1.0, last=60.0)
        while True:
            try:
                await loop.run()
            except Exception:
                _log.exception("controller failed", controller=name)
            await asyncio.sleep(backoff.next())


def _is_on(name: str, features: FeatureGates) -> bool:
    return name not in GATES or features.enabled(GATES[name])


def _registry(options: Options) -> Registry:
    return Registry(options.kubernetes_minor, feature_gates=options.feature_gates)


def _arguments(options: Options, registry: Registry, informers: InformerFactory) -> dict[str, dict[str, Any] | None]:
    """What some controllers are told beyond client and informers; None for those that would have nothing to do."""
    served = ServedResources(registry, informers)
    cluster_cidrs = options.cluster_cidrs if options.allocate_node_cidrs else ()
    node_ranges = {
        "cluster_cidrs": cluster_cidrs,
        "masks": options.node_mask_sizes,
        "service_cidrs": options.service_cidrs,
    }
    cloud = options.cloud
    made_here = options.host_path_provisioner
    tokens = {"private_key": options.service_account_key, "root_ca": options.root_ca}
    signing = {"authorities": options.signing, "duration": options.signing_duration}
    return {
        "certificatesigningrequest-signing-controller": signing if options.signing else None,
        "cloud-node-lifecycle-controller": {"instances": cloud.instances} if cloud.instances else None,
        "device-taint-eviction-controller": {} if registry.by_gvr(DEVICE_TAINT_RULES) else None,
        "disruption-controller": {"served": served},
        "endpointslice-controller": {"most": options.endpoints_per_slice},
        "endpointslice-mirroring-controller": {"most": options.mirrored_endpoints},
        "garbage-collector-controller": {"served": served},
        "hostpath-provisioner": {"provisioner": made_here} if made_here else None,
        "horizontal-pod-autoscaler-controller": {"served": served, "settings": options.autoscaling},
        "kube-apiserver-serving-clustertrustbundle-publisher-controller": (
            {"ca": options.root_ca} if options.root_ca and registry.by_gvr(CLUSTER_TRUST_BUNDLES) else None
        ),
        "legacy-serviceaccount-token-cleaner-controller": {"period": options.legacy_token_clean_up_period},
        "namespace-controller": {"served": served},
        "node-ipam-controller": node_ranges if cluster_cidrs else None,
        "node-lifecycle-controller": {
            "grace": options.node_monitor_grace_seconds,
            "startup_grace": options.node_startup_grace_seconds,
            "pace": options.eviction_pace,
        },
        "node-route-controller": {"routes": cloud.routes} if cloud.routes else None,
        "persistentvolume-attach-detach-controller": {"force_detach": options.force_detach},
        "persistentvolume-binder-controller": {
            "provisioning": options.provisioning,
            "in_tree": made_here.name if made_here and made_here.is_in_tree else "",
        },
        "pod-garbage-collector-controller": {"threshold": options.terminated_pod_gc_threshold},
        "podcertificaterequest-cleaner-controller": {} if registry.by_gvr(POD_CERTIFICATE_REQUESTS) else None,
        "replicaset-controller": {
            "counts_terminating": registry.features.enabled("DeploymentReplicaSetTerminatingReplicas")
        },
        "resourceclaim-controller": {} if registry.by_gvr(RESOURCE_CLAIMS) else None,
        "resourcequota-controller": {"served": served},
        "root-ca-certificate-publisher-controller": {"ca": options.root_ca} if options.root_ca else None,
        "service-lb-controller": {"balancers": cloud.load_balancers} if cloud.load_balancers else None,
        "service-cidr-controller": {} if options.kubernetes_minor >= 33 else None,
        "serviceaccount-token-controller": tokens if options.service_account_key else None,
        "storage-version-migrator-controller": {"served": served}
        if registry.by_gvr(STORAGE_VERSION_MIGRATIONS)
        else None,
        "validatingadmissionpolicy-status-controller": {"minor": options.kubernetes_minor},
        "volumeattributesclass-protection-controller": {} if registry.by_gvr(VOLUME_ATTRIBUTES_CLASSES) else None,
    }
