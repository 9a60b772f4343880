"""Flags for the servers of a cluster, by `pinnace start --extra-config`."""

from __future__ import annotations

import os
import sys
from dataclasses import replace
from pathlib import Path
from typing import Any

import click
import pytest
from click.testing import CliRunner

from pinnace.cli import extra_config, kubelet
from pinnace.cli.extra_config import COMPONENTS, changes
from pinnace.cli.main import pinnace
from pinnace.cluster.profile import Profile, ProfileConfig
from pinnace.cluster.reasons import ClusterError

CONFIG = ProfileConfig(
    "work", "v1.37.0", "work", "192.168.49.1", "192.168.49.0/24", "10.244.0.0/16", "10.96.0.0/16", "cluster.local", 8443
)


def changed(*given: str) -> dict[str, Any]:
    """What options so given change, by the way that a command line takes them."""

    @click.command()
    @extra_config.extra_config_option
    def command(extra_config: tuple[str, ...]) -> None:
        found.append(extra_config)

    found: list[tuple[str, ...]] = []
    command.main([f"--extra-config={one}" for one in given], standalone_mode=False)
    return {name: dict(one) for name, one in changes(replace(CONFIG, extra_config=found[0])).items()}


@pytest.mark.parametrize(
    ("given", "fields"),
    [
        (["kubelet.max-pods=250"], {"kubelet": {"max_pods": 250}}),
        (["kubelet.max-pods=110"], {"kubelet": {"max_pods": 110}}),
        (
            ["kubelet.eviction-hard=memory.available<100Mi,nodefs.available<5%"],
            {"kubelet": {"eviction_hard": {"memory.available": "100Mi", "nodefs.available": "5%"}}},
        ),
        (
            ["kubelet.authorization-mode=AlwaysAllow", "kubelet.authentication-token-webhook=false"],
            {"kubelet": {"authorization_mode": "AlwaysAllow", "authentication_webhook": False}},
        ),
        (["kubelet.v=4"], {"kubelet": {}}),
        (["apiserver.event-ttl=24h"], {"apiserver": {"event_ttl": 86400.0}}),
        (["apiserver.authorization-mode=Node,RBAC"], {"apiserver": {}}),
        (["apiserver.authorization-mode=AlwaysAllow"], {"apiserver": {"authorization_modes": ("AlwaysAllow",)}}),
        (["apiserver.enable-bootstrap-token-auth=false"], {"apiserver": {"enable_bootstrap_token_auth": False}}),
        (
            ["apiserver.enable-admission-plugins=AlwaysPullImages,DenyServiceExternalIPs"],
            {"apiserver": {"enable_admission_plugins": ("AlwaysPullImages", "DenyServiceExternalIPs")}},
        ),
        (
            ["controller-manager.terminated-pod-gc-threshold=5"],
            {"controller-manager": {"terminated_pod_gc_threshold": 5}},
        ),
        (["controller-manager.controllers=*"], {"controller-manager": {"controllers": ["*"]}}),
        (["controller-manager.node-cidr-mask-size=26"], {"controller-manager": {"node_mask_sizes": {4: 26, 6: 26}}}),
        (["scheduler.pod-max-in-unschedulable-pods-duration=30s"], {"scheduler": {"longest_aside_seconds": 30.0}}),
        (["proxy.metrics-bind-address=127.0.0.1:10249"], {"kube-proxy": {"metrics": ("127.0.0.1", 10249)}}),
        (
            ["kube-proxy.healthz-bind-address=0.0.0.0:10256", "kubelet.pods-per-core=3"],
            {"kube-proxy": {"healthz": ("0.0.0.0", 10256)}, "kubelet": {"pods_per_core": 3}},
        ),
        ([""], {}),
    ],
    ids=lambda value: " ".join(value) if isinstance(value, list) else "",
)
def test_flags_of_servers_change_their_options(given: list[str], fields: dict[str, Any]) -> None:
    assert changed(*given) == fields


def test_the_same_flag_may_be_given_more_than_once_where_the_server_takes_it_so() -> None:
    oidc = ["oidc-issuer-url=https://id", "oidc-client-id=c", "oidc-required-claim=a=b", "oidc-required-claim=c=d"]

    found = changed(*(f"apiserver.{one}" for one in oidc))

    assert found["apiserver"]["oidc"].required_claims == (("a", "b"), ("c", "d"))


def test_files_are_found_from_wherever_the_cluster_is_started_again(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "resolv.conf").write_text("nameserver 192.0.2.1\n")
    monkeypatch.chdir(tmp_path)

    assert changed("kubelet.resolv-conf=resolv.conf")["kubelet"]["resolv_conf"] == tmp_path / "resolv.conf"


@pytest.mark.parametrize(
    ("given", "message"),
    [
        ("max-pods=250", '"max-pods=250" is not COMPONENT.KEY=VALUE'),
        ("kubelet.max-pods", '"kubelet.max-pods" is not COMPONENT.KEY=VALUE'),
        ("etcd.quota=5", '"etcd" is not one of kubelet, apiserver, controller-manager, scheduler, kube-proxy'),
        ("kubelet.max-podz=250", "kubelet.max-podz: kubelet has no flag --max-podz"),
        ("kubelet.help=1", "kubelet.help: kubelet has no flag --help"),
        ("kubelet.root-dir=/x", "kubelet.root-dir: what the cluster tells its kubelet of this cannot be changed"),
        ("apiserver.feature-gates=A=true", "apiserver.feature-gates: --feature-gates of start is for all servers"),
    ],
)
def test_what_is_no_flag_of_a_server_is_one_clear_line(given: str, message: str) -> None:
    result = CliRunner().invoke(pinnace, ["start", f"--extra-config={given}"])

    assert result.exit_code == 2
    (line,) = [line for line in result.output.splitlines() if line.startswith("Error: ")]
    assert line == f"Error: Invalid value for '--extra-config': {message}"


@pytest.mark.parametrize(
    ("given", "message"),
    [
        ("kubelet.max-pods=many", "kubelet.max-pods: 'many' is not a valid integer range."),
        ("kubelet.eviction-hard=memory<1Gi", "kubelet: unsupported eviction signal memory"),
        ("kubelet.system-reserved=memory=9Ti", "kubelet: invalid Node Allocatable configuration. Resource"),
        ("kubelet.cpu-manager-policy=all", 'kubelet: unknown policy: "all"'),
        ("kubelet.image-credential-provider-config=/none", "kubelet: Failed to register CRI auth plugins: "),
        ("apiserver.authorization-mode=RABC", 'apiserver.authorization-mode: "RABC" is not one of AlwaysAllow'),
        ("apiserver.authorization-mode=Webhook", "Webhook's authorization config file not passed"),
        ("apiserver.oidc-issuer-url=http://id", "apiserver: "),
        ("apiserver.enable-admission-plugins=Nope", 'plugin "Nope" is unknown'),
        ("controller-manager.node-cidr-mask-size=8", "/8 is no part of 10.244.0.0/16"),
        ("controller-manager.concurrent-job-syncs=0", "0 is not in the range x>=1"),
        ("scheduler.config=/none", "scheduler.config: File '/none' does not exist."),
        ("kube-proxy.metrics-bind-address=10249", '"10249" is not ADDRESS:PORT'),
    ],
)
def test_what_a_server_would_not_start_with_is_refused_before(given: str, message: str) -> None:
    with pytest.raises(ClusterError) as caught:
        changed(given)

    assert caught.value.message.startswith("--extra-config: ")
    assert message in caught.value.message
    assert caught.value.reason.id == "MK_USAGE"


def test_every_flag_that_may_be_given_is_heeded() -> None:
    """A kubelet's reach its options by the table that its command has, too."""
    beside = {"verbosity", "image_credential_provider_config", "image_credential_provider_bin_dir"}
    component = COMPONENTS["kubelet"]
    free = {flag.name for key, flag in component.flags().items() if key not in component.own}
    assert free <= {*kubelet.FLAGS} | beside

    for name, heeded in (
        ("scheduler", {"config", "longest_aside", "verbosity"}),
        ("kube-proxy", {"healthz_bind_address", "metrics_bind_address", "profiling", "verbosity"}),
    ):
        component = COMPONENTS[name]
        assert {flag.name for key, flag in component.flags().items() if key not in component.own} == heeded


@pytest.mark.parametrize("name", COMPONENTS)
def test_what_the_cluster_keeps_to_itself_are_flags_of_the_server(name: str) -> None:
    component = COMPONENTS[name]
    shared = extra_config._names(extra_config._EVERYWHERE)

    assert component.own - shared <= set(component.flags())


def test_a_process_of_the_cluster_is_told_what_is_for_its_servers(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    module = tmp_path / "a_server.py"
    module.write_text(
        "COMPONENTS = ('kubelet', 'kube-proxy')\ndef main(changes):\n    told.append(changes)\ntold = []\n"
    )
    profile = Profile("work", tmp_path)
    profile.save(replace(CONFIG, extra_config=("kubelet.max-pods=5", "kubelet.v=4", "scheduler.v=9")))
    monkeypatch.syspath_prepend(tmp_path)
    monkeypatch.setattr(sys, "argv", ["extra_config", "a_server", str(profile.directory)])
    monkeypatch.setenv("PINNACE_VERBOSITY", "2")

    extra_config.main()

    assert sys.modules["a_server"].told == [{"kubelet": {"max_pods": 5}}]
    assert os.environ["PINNACE_VERBOSITY"] == "4"
