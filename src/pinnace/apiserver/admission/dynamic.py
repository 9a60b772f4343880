"""The plugins whose rules are objects of the cluster: policies and webhooks, by the names of their plugins."""

from __future__ import annotations

from pinnace.apiserver.admission.chain import Plugin
from pinnace.apiserver.admission.configuration import Configurations
from pinnace.apiserver.admission.measures import WebhookMeasures
from pinnace.apiserver.admission.mutating_policies import MutatingPolicies
from pinnace.apiserver.admission.policies import ValidatingPolicies
from pinnace.apiserver.admission.webhook_credentials import read_credentials
from pinnace.apiserver.admission.webhooks import MutatingWebhooks, ValidatingWebhooks
from pinnace.apiserver.registered_webhooks import RegisteredWebhooks
from pinnace.machinery.features import FeatureGates


def dynamic_plugins(configurations: Configurations, features: FeatureGates | None = None) -> dict[str, Plugin]:
    """One of each whose feature is on; without `features`, all. Raises ConfigurationError."""
    measures = WebhookMeasures()
    mutating, validating = (_client(configurations, f"{kind}AdmissionWebhook") for kind in ("Mutating", "Validating"))
    policies = features is None or features.enabled("MutatingAdmissionPolicy")
    return {
        **({"MutatingAdmissionPolicy": MutatingPolicies()} if policies else {}),
        "MutatingAdmissionWebhook": MutatingWebhooks(mutating, measures),
        "ValidatingAdmissionPolicy": ValidatingPolicies(),
        "ValidatingAdmissionWebhook": ValidatingWebhooks(validating, measures),
    }


def _client(configurations: Configurations, plugin: str) -> RegisteredWebhooks:
    return RegisteredWebhooks(read_credentials(configurations, plugin))
