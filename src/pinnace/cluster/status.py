"""How a profile is: what `pinnace status` shows, and the exit code that goes with it.

Words and bits follow minikube: a node's host, kubelet and API server are Running or Stopped, the kubeconfig is
Configured or Misconfigured; the exit code adds 1 for the host, 2 for the cluster, 4 for Kubernetes.
"""

from __future__ import annotations

import http.client
import ssl
from dataclasses import dataclass

from pinnace.cluster import control
from pinnace.cluster.profile import Profile, ProfileConfig
from pinnace.cluster.reasons import NOT_RUNNING, ClusterError

HOST_NOT_RUNNING, CLUSTER_NOT_RUNNING, KUBERNETES_NOT_RUNNING = 1, 2, 4


@dataclass(frozen=True, slots=True)
class Status:
    """One node's state, in minikube's field names."""

    name: str
    host: str
    kubelet: str
    api_server: str
    kubeconfig: str

    def to_json(self) -> dict[str, object]:
        return {
            "Name": self.name,
            "Host": self.host,
            "Kubelet": self.kubelet,
            "APIServer": self.api_server,
            "Kubeconfig": self.kubeconfig,
            "Worker": False,
        }

    @property
    def exit_code(self) -> int:
        code = 0
        if self.host != "Running":
            code |= HOST_NOT_RUNNING
        if self.api_server != "Running":
            code |= CLUSTER_NOT_RUNNING
        if self.kubelet != "Running" or self.kubeconfig != "Configured":
            code |= KUBERNETES_NOT_RUNNING
        return code


def status(profile: Profile) -> Status:
    """Raises ClusterError when there is no such profile, or it is corrupt."""
    from pinnace.cluster.context import is_configured

    config = profile.load()
    servers = control.snapshot(profile)
    host = "Running" if servers else "Stopped"
    kubelet = servers.get("node")
    return Status(
        name=profile.name,
        host=host,
        kubelet=_word(kubelet),
        api_server=_api_server_word(profile, config) if servers else "Stopped",
        kubeconfig="Configured" if is_configured(profile, config) else "Misconfigured",
    )


def require_running(profile: Profile) -> ProfileConfig:
    """The profile's configuration, if its servers run; raises ClusterError otherwise."""
    config = profile.load()
    if not control.snapshot(profile):
        raise ClusterError(NOT_RUNNING, f'The cluster "{profile.name}" is not running', "Start it: pinnace start")
    return config


def _word(state: control.ServerState | None) -> str:
    if state is None or state.state == "stopped":
        return "Stopped"
    return {"ready": "Running", "starting": "Starting", "backoff": "Error"}[state.state]


def _api_server_word(profile: Profile, config: ProfileConfig) -> str:
    """Running when `/readyz` says ok."""
    try:
        context = ssl.create_default_context(cafile=str(profile.pki_dir / "ca.crt"))
        context.load_cert_chain(profile.pki_dir / "admin.crt", profile.pki_dir / "admin.key")
        connection = http.client.HTTPSConnection("127.0.0.1", config.api_server_port, timeout=10, context=context)
        connection.request("GET", "/readyz")
        answer = connection.getresponse()
        return "Running" if answer.status == 200 else "Error"
    except (OSError, http.client.HTTPException):
        return "Stopped"
