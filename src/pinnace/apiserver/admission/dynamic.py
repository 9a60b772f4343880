"""The plugins whose rules are objects of the cluster: policies and webhooks, by the names of their plugins."""

from __future__ import annotations

from pinnace.apiserver.admission.chain import Plugin
from pinnace.apiserver.admission.mutating_policies import MutatingPolicies
from pinnace.apiserver.admission.policies import ValidatingPolicies
from pinnace.apiserver.admission.webhook_client import WebhookClient
from pinnace.apiserver.admission.webhooks import MutatingWebhooks, ValidatingWebhooks


def dynamic_plugins(client: WebhookClient) -> dict[str, Plugin]:
    """One of each; webhooks are called with `client`."""
    return {
        "MutatingAdmissionPolicy": MutatingPolicies(),
        "MutatingAdmissionWebhook": MutatingWebhooks(client),
        "ValidatingAdmissionPolicy": ValidatingPolicies(),
        "ValidatingAdmissionWebhook": ValidatingWebhooks(client),
    }
