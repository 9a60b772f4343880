"""The flags that kubeadm 1.30 to 1.35 writes into its static pods' manifests and units: every server takes them."""

from __future__ import annotations

import importlib
from pathlib import Path
from typing import Any

import click
import pytest
from click.testing import CliRunner

from pinnace.cli import kube_proxy
from pinnace.machinery.configuration import ConfigurationError
from pinnace.proxy.configuration import read_configuration

FLAGS = {
    "kube_apiserver": (
        "advertise-address allow-privileged authorization-mode client-ca-file enable-admission-plugins "
        "enable-bootstrap-token-auth etcd-cafile etcd-certfile etcd-keyfile etcd-servers feature-gates "
        "kubelet-client-certificate kubelet-client-key kubelet-preferred-address-types proxy-client-cert-file "
        "proxy-client-key-file requestheader-allowed-names requestheader-client-ca-file "
        "requestheader-extra-headers-prefix requestheader-group-headers requestheader-username-headers secure-port "
        "service-account-issuer service-account-key-file service-account-signing-key-file service-cluster-ip-range "
        "tls-cert-file tls-private-key-file"
    ),
    "kube_controller_manager": (
        "allocate-node-cidrs authentication-kubeconfig authorization-kubeconfig bind-address client-ca-file "
        "cluster-cidr cluster-name cluster-signing-cert-file cluster-signing-key-file controllers feature-gates "
        "kubeconfig leader-elect requestheader-client-ca-file root-ca-file service-account-private-key-file "
        "service-cluster-ip-range use-service-account-credentials"
    ),
    "kube_scheduler": (
        "authentication-kubeconfig authorization-kubeconfig bind-address feature-gates kubeconfig leader-elect"
    ),
    "kubelet": (
        "bootstrap-kubeconfig config container-runtime-endpoint hostname-override kubeconfig node-ip node-labels "
        "register-with-taints"
    ),
    "kube_proxy": "config hostname-override",
}
PROXY = """
apiVersion: kubeproxy.config.k8s.io/v1alpha1
kind: KubeProxyConfiguration
bindAddress: 0.0.0.0
bindAddressHardFail: false
clientConnection: {acceptContentTypes: "", burst: 0, contentType: "", kubeconfig: /var/lib/kube-proxy/k.conf, qps: 0}
clusterCIDR: 10.244.0.0/16
configSyncPeriod: 0s
conntrack: {maxPerCore: null, min: null, tcpCloseWaitTimeout: null, tcpEstablishedTimeout: null}
detectLocal: {bridgeInterface: "", interfaceNamePrefix: ""}
detectLocalMode: ""
enableProfiling: true
featureGates: {AllAlpha: true}
healthzBindAddress: ""
hostnameOverride: ""
iptables: {masqueradeAll: false, masqueradeBit: null, minSyncPeriod: 0s, syncPeriod: 0s}
metricsBindAddress: 127.0.0.1:10259
mode: ""
nodePortAddresses: [10.0.0.0/8]
oomScoreAdj: null
portRange: ""
"""


@pytest.mark.parametrize("server", sorted(FLAGS))
def test_every_flag_is_taken(server: str) -> None:
    command = importlib.import_module(f"pinnace.cli.{server}").command
    taken = {name.lstrip("-") for parameter in command.params for name in parameter.opts}
    assert set(FLAGS[server].split()) <= taken


def test_the_configuration_of_the_proxy_is_read() -> None:
    assert read_configuration(PROXY) == (
        {
            "kubeconfig": "/var/lib/kube-proxy/k.conf",
            "cluster_cidr": "10.244.0.0/16",
            "metrics_bind_address": "127.0.0.1:10259",
            "nodeport_addresses": "10.0.0.0/8",
            "profiling": True,
        },
        {"AllAlpha": True},
    )
    with pytest.raises(ConfigurationError, match='strict decoding error: unknown field "colour"'):
        read_configuration(f"{PROXY}colour: red\n")


def test_flags_go_before_the_file(tmp_path: Path) -> None:
    found: dict[str, Any] = {}

    def command(**flags: Any) -> None:
        found.update(kube_proxy.with_file(flags)[0])

    (tmp_path / "config").write_text(PROXY)
    given = ["--config", str(tmp_path / "config"), "--metrics-bind-address", "127.0.0.1:1"]
    made = click.Command("kube-proxy", params=kube_proxy.command.params, callback=command)
    ended = CliRunner().invoke(made, given)
    assert (ended.exit_code, ended.output) == (0, "")
    assert found["metrics_bind_address"] == ("127.0.0.1", 1)
    assert found["cluster_cidr"] == ["10.244.0.0/16"]
    assert found["nodeport_addresses"] == ["10.0.0.0/8"]
    assert found["kubeconfig"] == Path("/var/lib/kube-proxy/k.conf")
    assert found["healthz_bind_address"] == ("0.0.0.0", 10256)
