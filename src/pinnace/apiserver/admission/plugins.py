"""Which admission plugins there are, in the order they see a request, and which of them are on.

Names, order and defaults are kube-apiserver's: its flags `--enable-admission-plugins` and `--disable-admission-plugins`
change which are on, never their order.
https://kubernetes.io/docs/reference/access-authn-authz/admission-controllers/.
"""

from __future__ import annotations

from collections.abc import Collection, Mapping

from pinnace.apiserver.admission.admin_access import AdminAccess
from pinnace.apiserver.admission.always import AlwaysAdmit, AlwaysDeny
from pinnace.apiserver.admission.certificates import (
    CertificateApproval,
    CertificateRequester,
    CertificateSigning,
    CertificateSubjectRestriction,
    ClusterTrustBundleAttest,
)
from pinnace.apiserver.admission.chain import Plugin
from pinnace.apiserver.admission.configuration import Configurations
from pinnace.apiserver.admission.escalation import Escalation
from pinnace.apiserver.admission.event_rate_limit import EventRateLimit
from pinnace.apiserver.admission.image_policy import ImagePolicyWebhook
from pinnace.apiserver.admission.images import AlwaysPullImages
from pinnace.apiserver.admission.limit_ranger import LimitRanger
from pinnace.apiserver.admission.namespace_lifecycle import (
    NamespaceAutoProvision,
    NamespaceExists,
    NamespaceLifecycle,
)
from pinnace.apiserver.admission.networking import DefaultIngressClass, DenyServiceExternalIPs
from pinnace.apiserver.admission.node_restriction import NodeRestriction
from pinnace.apiserver.admission.owner_references import OwnerReferencesPermissionEnforcement
from pinnace.apiserver.admission.pod_security import PodSecurity
from pinnace.apiserver.admission.policy_authors import PolicyAuthors
from pinnace.apiserver.admission.resource_quota import ResourceQuota
from pinnace.apiserver.admission.runtime_class import RuntimeClass
from pinnace.apiserver.admission.scheduling import (
    DefaultTolerationSeconds,
    ExtendedResourceToleration,
    LimitPodHardAntiAffinityTopology,
    PodNodeSelector,
    Priority,
    TaintNodesByCondition,
)
from pinnace.apiserver.admission.service_account import ServiceAccount
from pinnace.apiserver.admission.storage import (
    DefaultStorageClass,
    PersistentVolumeClaimResize,
    StorageObjectInUseProtection,
)
from pinnace.apiserver.admission.tolerations import PodTolerationRestriction
from pinnace.apiserver.admission.topology import PodTopologyLabels

_BEFORE_WEBHOOKS: dict[str, type[Plugin]] = {
    "AlwaysAdmit": AlwaysAdmit,
    "NamespaceAutoProvision": NamespaceAutoProvision,
    "NamespaceLifecycle": NamespaceLifecycle,
    "NamespaceExists": NamespaceExists,
    "LimitPodHardAntiAffinityTopology": LimitPodHardAntiAffinityTopology,
    "LimitRanger": LimitRanger,
    "ServiceAccount": ServiceAccount,
    "NodeRestriction": NodeRestriction,
    "TaintNodesByCondition": TaintNodesByCondition,
    "AlwaysPullImages": AlwaysPullImages,
    "ImagePolicyWebhook": ImagePolicyWebhook,
    "PodSecurity": PodSecurity,
    "PodNodeSelector": PodNodeSelector,
    "Priority": Priority,
    "DefaultTolerationSeconds": DefaultTolerationSeconds,
    "PodTolerationRestriction": PodTolerationRestriction,
    "EventRateLimit": EventRateLimit,
    "ExtendedResourceToleration": ExtendedResourceToleration,
    "DefaultStorageClass": DefaultStorageClass,
    "StorageObjectInUseProtection": StorageObjectInUseProtection,
    "OwnerReferencesPermissionEnforcement": OwnerReferencesPermissionEnforcement,
    "PersistentVolumeClaimResize": PersistentVolumeClaimResize,
    "RuntimeClass": RuntimeClass,
    "CertificateApproval": CertificateApproval,
    "CertificateSigning": CertificateSigning,
    "ClusterTrustBundleAttest": ClusterTrustBundleAttest,
    "CertificateSubjectRestriction": CertificateSubjectRestriction,
    "DefaultIngressClass": DefaultIngressClass,
    "DenyServiceExternalIPs": DenyServiceExternalIPs,
    "PodTopologyLabels": PodTopologyLabels,
}
_NO_CONFIGURATIONS = Configurations()
_WEBHOOKS = (
    "MutatingAdmissionPolicy",
    "MutatingAdmissionWebhook",
    "ValidatingAdmissionPolicy",
    "ValidatingAdmissionWebhook",
)
_AFTER_WEBHOOKS: dict[str, type[Plugin]] = {"ResourceQuota": ResourceQuota, "AlwaysDeny": AlwaysDeny}

NAMES = (*_BEFORE_WEBHOOKS, *_WEBHOOKS, *_AFTER_WEBHOOKS)
_OFF = frozenset(
    {
        "AlwaysAdmit",
        "AlwaysDeny",
        "AlwaysPullImages",
        "DenyServiceExternalIPs",
        "EventRateLimit",
        "ExtendedResourceToleration",
        "ImagePolicyWebhook",
        "LimitPodHardAntiAffinityTopology",
        "NamespaceAutoProvision",
        "NamespaceExists",
        "OwnerReferencesPermissionEnforcement",
        "PodNodeSelector",
        "PodTolerationRestriction",
    }
)
"""What runs only when it is asked for."""


def is_on(name: str, enabled: Collection[str], disabled: Collection[str]) -> bool:
    """Whether the flags, both lists of names, leave the plugin on; to enable wins, as in kube-apiserver."""
    return name in enabled or (name not in disabled and name not in _OFF)


def build(
    enabled: Collection[str],
    disabled: Collection[str],
    dynamic: Mapping[str, Plugin] | None = None,
    configurations: Configurations = _NO_CONFIGURATIONS,
) -> list[Plugin]:
    """The plugins that are on, in order; `dynamic` are those of webhooks and policies, by name.

    One object may stand for several names: it is used once, where the first of them stands. Raises ConfigurationError.
    """

    def chosen(kinds: Mapping[str, type[Plugin]]) -> list[Plugin]:
        on = {name: kind for name, kind in kinds.items() if is_on(name, enabled, disabled)}
        return [_named(name, kind.configured(configurations)) for name, kind in on.items()]

    for name, plugin in (dynamic or {}).items():
        _named(name, plugin)
    found = [(dynamic or {}).get(name) for name in _WEBHOOKS if is_on(name, enabled, disabled)]
    unique = list(dict.fromkeys(plugin for plugin in found if plugin is not None))
    always = [AdminAccess(), CertificateRequester(), Escalation(), PolicyAuthors()]
    return [*chosen(_BEFORE_WEBHOOKS), *always, *unique, *chosen(_AFTER_WEBHOOKS)]


def _named(name: str, plugin: Plugin) -> Plugin:
    plugin.name = name
    return plugin
