"""`pinnace kubelet`: the node agent with the original's flags, on the embedded engine or another container runtime.

Neither the service proxy nor cluster DNS is part of it: `pinnace kube-proxy` is the one, and --cluster-dns names the
other, wherever it runs. Containers belong to the engine's monitor and run on when this process ends.
"""

from __future__ import annotations

from collections.abc import Coroutine
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from pinnace.apis.builtin import NEWEST
from pinnace.cli import kubelet_credentials
from pinnace.cli.container_runtime import DEFAULT_ENDPOINT, ContainerRuntime, choose, engine_flags, read_parts
from pinnace.cli.kubelet_flags import OPTIONS, more_options
from pinnace.cli.serving import (
    connect,
    connection,
    host_name,
    kubeconfig_option,
    own_certificate,
    primary_address,
    require_root,
    run,
    verbosity_option,
)
from pinnace.cli.told import told_flags
from pinnace.cli.values import ADDRESS, ADDRESSES, DIRECTORY, DURATION, FILE, LABELS, NETWORKS, TAINTS, switch
from pinnace.cli.versions import feature_gates_option, read_features, version_option

if TYPE_CHECKING:
    from pinnace.kubelet.options import KubeletOptions
    from pinnace.machinery.features import FeatureGates

_PORT = click.IntRange(1, 65535)

FLAGS = {
    "node_ip": "node_ips",
    "pod_manifest_path": "manifest_dir",
    "volume_plugin_dir": "volume_plugin_dir",
    "cluster_dns": "cluster_dns",
    "cluster_domain": "cluster_domain",
    "address": "address",
    "port": "port",
    "tls_cert_file": "tls_cert_file",
    "tls_private_key_file": "tls_key_file",
    "client_ca_file": "client_ca_file",
    "node_labels": "node_labels",
    "register_with_taints": "taints",
    "register_node": "register_node",
    "max_pods": "max_pods",
    "cgroup_root": "cgroup_root",
    "cgroup_driver": "cgroup_driver",
    "resolv_conf": "resolv_conf",
    **OPTIONS,
}
"""Flags and the options they set; a flag that is not given leaves what --config says, or else the default."""


@click.command("kubelet")
@kubeconfig_option
@click.option(
    "--bootstrap-kubeconfig", type=FILE, help="How to ask for a certificate, where --kubeconfig has none yet."
)
@click.option("--config", type=FILE, help="A KubeletConfiguration (kubelet.config.k8s.io/v1beta1); flags win over it.")
@click.option(
    "--config-dir", type=DIRECTORY, help="Directory of files NAME.conf that go over --config, in their order."
)
@click.option("--hostname-override", default="", help="This node's name.  [default: the host name]")
@click.option("--node-ip", type=ADDRESSES, help="The node's address, or one of each family.  [default: the host's]")
@click.option(
    "--root-dir",
    type=DIRECTORY,
    default="/var/lib/kubelet",
    show_default=True,
    help="Where pods' volumes and files are.",
)
@click.option(
    "--volume-plugin-dir",
    type=DIRECTORY,
    help="Where drivers of flexVolumes are.  [default: /usr/libexec/kubernetes/kubelet-plugins/volume/exec/]",
)
@click.option("--pod-manifest-path", type=DIRECTORY, help="Directory of static pods.")
@click.option("--cluster-dns", type=ADDRESSES, help="Addresses of the cluster's DNS servers.")
@click.option("--cluster-domain", help="The domain of the cluster's DNS.  [default: cluster.local]")
@click.option("--address", type=ADDRESS, help="Address to listen on.  [default: 0.0.0.0]")
@click.option("--port", type=_PORT, help="Port to serve HTTPS on.  [default: 10250]")
@click.option("--tls-cert-file", type=FILE, help="Certificate to serve with.  [default: one made in --cert-dir]")
@click.option("--tls-private-key-file", type=FILE, help="Its key.")
@click.option("--client-ca-file", type=FILE, help="Who signs client certificates; nobody else is served.")
@click.option(
    "--cert-dir",
    type=DIRECTORY,
    default="/var/lib/kubelet/pki",
    show_default=True,
    help="Where a certificate is made when none is given.",
)
@click.option("--node-labels", type=LABELS, help="Labels of the Node: KEY=VALUE,...")
@click.option("--register-with-taints", type=TAINTS, help="Taints of the Node: KEY=VALUE:EFFECT,...")
@switch("--register-node", default=None, help="Make the Node object.  [default: true]")
@click.option("--max-pods", type=click.IntRange(0), help="Pods that may run here.  [default: 110]")
@click.option("--cgroup-root", help="Cgroup that pods' cgroups are made in.")
@click.option("--resolv-conf", type=FILE, help="The host's DNS configuration.  [default: /etc/resolv.conf]")
@click.option("--pod-cidr", type=NETWORKS, help="Addresses of pods here, used while the Node object has none.")
@click.option(
    "--container-runtime-endpoint",
    help="The container runtime: the socket of one that serves CRI v1 (unix:///run/containerd/containerd.sock), or the "
    f"embedded engine and its directory.  [default: {DEFAULT_ENDPOINT}]",
)
@click.option("--image-service-endpoint", help="Where its images are served.  [default: by the container runtime]")
@click.option(
    "--runtime-request-timeout",
    type=DURATION,
    help="How long its answers are waited for, but for pulls, logs, exec and attach.  [default: 2m0s]",
)
@click.option(
    "--cgroup-driver",
    type=click.Choice(["cgroupfs", "systemd"]),
    help="Who makes cgroups, where the container runtime does not say it.  [default: cgroupfs]",
)
@click.option(
    "--image-credential-provider-config",
    type=click.Path(path_type=Path),
    help="Which plugins know credentials of registries: a CredentialProviderConfig, or a directory of them.",
)
@click.option("--image-credential-provider-bin-dir", type=DIRECTORY, help="Directory of these plugins' programs.")
@more_options
@engine_flags
@feature_gates_option
@version_option
@verbosity_option
def command(verbosity: int, **flags: Any) -> None:
    """Run the node agent alone, in the foreground."""
    require_root("kubelet")
    configured, ignored = _configuration(flags["config"], flags["config_dir"])
    wanted = _wanted_runtime(flags, configured)
    features = read_features(flags, NEWEST, configured.pop("feature_gates", None))
    bootstrapping = kubelet_credentials.is_needed(flags)
    api = None if bootstrapping else connection(flags["kubeconfig"])
    configured |= credential_providers(flags, features)
    options = _options(flags, {**configured, "feature_gates": features.chosen, "flags": told_flags()})

    async def start() -> Coroutine[Any, Any, None]:
        import structlog

        from pinnace.kubelet.kubelet import Kubelet

        if ignored:
            structlog.get_logger().warning("fields of --config that are not heeded", fields=sorted(ignored))
        found = api or await kubelet_credentials.bootstrap(flags, options.node_name)
        client = connect(found, "kubelet")
        rotations = kubelet_credentials.rotations(client, found, options, flags["cert_dir"])
        runtime = await wanted.open()
        try:
            kubelet = Kubelet(client, runtime.runtime, runtime.images, options, runtime.cgroups)
        except ValueError as error:
            raise click.ClickException(f"failed to run Kubelet: {error}") from None
        kubelet.share_mounts()

        async def serve() -> None:
            try:
                await kubelet_credentials.with_rotations(kubelet.run(), rotations)
            finally:
                await runtime.close()
                await client.transport.close()

        return serve()

    run("kubelet", verbosity, start, features)


def _wanted_runtime(flags: dict[str, Any], configured: dict[str, Any]) -> ContainerRuntime:
    """The runtime: what flags say, else what the configuration says, else the embedded engine."""
    chosen = {}
    for name in ("container_runtime_endpoint", "image_service_endpoint", "runtime_request_timeout"):
        said = configured.pop(name, None)
        chosen[name] = flags[name] or said
    try:
        return choose(
            chosen["container_runtime_endpoint"] or DEFAULT_ENDPOINT,
            chosen["image_service_endpoint"] or "",
            chosen["runtime_request_timeout"] or 120.0,
            read_parts(flags),
        )
    except ValueError as error:
        raise click.BadParameter(str(error), param_hint="--container-runtime-endpoint") from None


def _configuration(file: Path | None, drop_ins: Path | None) -> tuple[dict[str, Any], list[str]]:
    """What --config says, and the files of --config-dir over it."""
    if file is None and drop_ins is None:
        return {}, []
    from pinnace.kubelet.configuration.reading import ConfigurationError, merge_drop_ins, read
    from pinnace.machinery import yaml

    given = file or drop_ins
    try:
        document = yaml.load(file.read_bytes()) if file is not None else {}
        if drop_ins is not None:
            files = sorted(one for one in drop_ins.rglob("*.conf") if one.is_file())
            document = merge_drop_ins(document, [(one.name, yaml.load(one.read_bytes())) for one in files])
        return read(document)
    except (ConfigurationError, yaml.YamlError, OSError) as error:
        raise click.BadParameter(f"{given}: {error}", param_hint="--config") from None


def credential_providers(flags: dict[str, Any], features: FeatureGates) -> dict[str, Any]:
    """The plugins that know credentials of registries. Ends the program where they cannot be."""
    path, programs = flags["image_credential_provider_config"], flags["image_credential_provider_bin_dir"]
    if path is None and programs is None:
        return {}
    from pinnace.kubelet.images.provider_config import GATE, load
    from pinnace.machinery.configuration import ConfigurationError

    try:
        found = load(path, programs, tokens=features.enabled(GATE))
    except ConfigurationError as error:
        raise click.ClickException(f"Failed to register CRI auth plugins: {error}") from None
    return {"credential_providers": found, "credential_provider_dir": programs.absolute()}


def _node_ips(given: list[str]) -> list[str]:
    """The node's addresses, the first of the family that its pods have first."""
    if len(given) > 2 or len({":" in address for address in given}) < len(given):
        why = "must contain either a single IP or a dual-stack pair of IPs"
        raise click.BadParameter(why, param_hint="--node-ip")
    return given or [primary_address()]


def check(chosen: dict[str, Any]) -> None:
    """End the program for thresholds that cannot be, and for swap where it must not be."""
    from pinnace.kubelet.eviction.thresholds import parse_thresholds
    from pinnace.kubelet.node.machine_info import has_swap

    names = ("eviction_hard", "eviction_soft", "eviction_soft_grace_period", "eviction_minimum_reclaim")
    try:
        parse_thresholds(*(chosen.get(name, {}) for name in names))
    except ValueError as error:
        raise click.ClickException(str(error)) from None
    if chosen.get("fail_swap_on", True) and has_swap():
        why = "running with swap on is not supported, please disable swap or set --fail-swap-on flag to false"
        raise click.ClickException(why)


def _options(flags: dict[str, Any], configured: dict[str, Any]) -> KubeletOptions:
    """The kubelet's options: what flags say, else what the configuration says, else the default."""
    from pinnace.kubelet.options import KubeletOptions

    chosen = dict(configured)
    chosen |= {option: flags[flag] for flag, option in FLAGS.items() if flags[flag] is not None}
    if flags["pod_cidr"]:
        chosen["pod_cidr"] = ",".join(flags["pod_cidr"])
    chosen.setdefault("node_ips", [])
    chosen["node_ips"] = _node_ips(chosen["node_ips"])
    chosen.setdefault("pod_logs_dir", Path("/var/log/pods"))
    chosen.setdefault("healthz_port", 10248)
    chosen.setdefault("authentication_webhook", True)
    if flags["config"] or flags["config_dir"]:
        chosen.setdefault("authorization_mode", "Webhook")
    check(chosen)
    name = flags["hostname_override"] or host_name()
    if bool(chosen.get("tls_cert_file")) != bool(chosen.get("tls_key_file")):
        raise click.BadParameter("give both or none", param_hint="--tls-cert-file, --tls-private-key-file")
    if not chosen.get("tls_cert_file"):
        made = own_certificate(flags["cert_dir"], "kubelet", name, *chosen["node_ips"])
        chosen["tls_cert_file"], chosen["tls_key_file"] = made
        if chosen.get("server_tls_bootstrap"):
            file = kubelet_credentials.serving_file(flags["cert_dir"], made)
            chosen["tls_cert_file"] = chosen["tls_key_file"] = file
    else:
        chosen["server_tls_bootstrap"] = False  # what is given is not asked for
    for field in ("manifest_dir", "tls_cert_file", "tls_key_file", "client_ca_file", "resolv_conf"):
        if chosen.get(field):
            chosen[field] = chosen[field].absolute()
    return KubeletOptions(node_name=name, root_dir=flags["root_dir"].absolute(), **chosen)
