"""As whom webhooks are called: the users of a kubeconfig, each named after the hosts that it is shown to.

https://kubernetes.io/docs/reference/access-authn-authz/extensible-admission-controllers/#authenticate-apiservers.
"""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

from pinnace.apiserver.admission.configuration import Configurations
from pinnace.apiserver.configuration import ConfigurationError, parse_configuration
from pinnace.client.kubeconfig import Connection, KubeconfigError, read

_KINDS = {
    (version, kind): {"kubeConfigFile": str}
    for version, kind in (
        ("apiserver.config.k8s.io/v1", "WebhookAdmissionConfiguration"),
        ("apiserver.config.k8s.io/v1alpha1", "WebhookAdmission"),
    )
}
_HTTPS = 443


class WebhookCredentials:
    """The users of the kubeconfig at `path`. Raises ConfigurationError."""

    def __init__(self, path: Path | None = None) -> None:
        self._users: dict[str, Connection] = {}
        if path is None:
            return
        try:
            kubeconfig = read(path).with_absolute_paths(path.parent)
            kubeconfig.set_cluster("webhook", {"server": "https://webhook"})
            for user in kubeconfig.users():
                kubeconfig.set_context(user, cluster="webhook", user=user)
                self._users[user] = kubeconfig.connection(user)
        except KubeconfigError as error:
            raise ConfigurationError(str(error)) from None

    def of(self, host: str, port: int) -> Connection | None:
        """Who the server is to `host`; None for nobody."""
        if not self._users:
            return None
        return next((self._users[name] for name in _names(host, port) if name in self._users), None)


def _names(host: str, port: int) -> Iterator[str]:
    """What the user for a host may be called, the most exact first."""
    wholes = [f"{host}:{port}", host] if port == _HTTPS else [f"{host}:{port}"]
    for whole in wholes:
        yield whole
    for whole in wholes:
        parts = whole.split(".")
        for cut in range(1, len(parts)):
            yield ".".join(["*", *parts[cut:]])
    yield "*"


def read_credentials(configurations: Configurations, plugin: str) -> WebhookCredentials:
    """What the configuration of a webhook plugin names. Raises ConfigurationError."""
    document = configurations.of(plugin)
    file = parse_configuration(document, _KINDS).get("kubeConfigFile") if document else None
    return WebhookCredentials(configurations.directory / file if file else None)
