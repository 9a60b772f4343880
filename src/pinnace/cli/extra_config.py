"""`pinnace start --extra-config COMPONENT.KEY=VALUE`: flags for the servers of a cluster, as minikube takes them.

A profile keeps what was given as it is. Each is read by the server's own command, so that the same is a flag, and the
same is wrong, as where the server runs alone; what it says goes over what the cluster tells the server. Run as a
program, this runs one of the cluster's processes so.
https://minikube.sigs.k8s.io/docs/handbook/config/#modifying-kubernetes-defaults
"""

from __future__ import annotations

import dataclasses
import importlib
import os
import sys
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any, NoReturn

import click
from click.core import ParameterSource

from pinnace.cli.values import Text
from pinnace.cluster.reasons import USAGE, ClusterError

if TYPE_CHECKING:
    from pinnace.cluster.process import Changes
    from pinnace.cluster.profile import ProfileConfig

_VERBOSITY = "v"


@dataclass(frozen=True, slots=True)
class _Component:
    """A server whose flags may be given."""

    command: str  # the server's name
    given: Callable[[ProfileConfig], dict[str, str]]  # flags that say what a cluster tells it anyhow
    own: frozenset[str]  # flags that are the cluster's alone
    read: Callable[[click.Context, click.Context, ProfileConfig], dict[str, Any]]  # with and without what is given

    def _command(self) -> click.Command:
        found: click.Command = importlib.import_module(f"pinnace.cli.{self.command.replace('-', '_')}").command
        return found

    def flags(self) -> dict[str, click.Option]:
        """Every flag of the server, by its name on the command line."""
        shown = [one for one in self._command().params if isinstance(one, click.Option) and one.expose_value]
        return {name.lstrip("-"): one for one in shown for name in one.opts if name.startswith("--")}

    def parse(self, flags: Iterable[tuple[str, str]]) -> click.Context:
        """The server's command line. Raises UsageError."""
        return self._command().make_context(self.command, [f"--{key}={value}" for key, value in flags])


def _names(text: str) -> frozenset[str]:
    return frozenset(text.split())


def _kubelet(context: click.Context, _: click.Context, config: ProfileConfig) -> dict[str, Any]:
    from pinnace.cli import kubelet
    from pinnace.machinery.features import FeatureGates

    flags = context.params
    found = {option: flags[flag] for flag, option in kubelet.FLAGS.items() if _is_given(context, flag)}
    kubelet.check({"fail_swap_on": False} | found)
    found |= kubelet.credential_providers(flags, FeatureGates(config.minor, config.feature_gates))
    _check_kubelet(found, config)
    return found


def _check_kubelet(changes: Mapping[str, Any], config: ProfileConfig) -> None:
    """Raise ClickException for what a kubelet refuses when it comes to know its machine."""
    from pinnace.kubelet.node.machine_info import read_machine
    from pinnace.kubelet.options import KubeletOptions
    from pinnace.kubelet.resources.node_cgroups import problem
    from pinnace.kubelet.topology.configured import check

    options = KubeletOptions(
        node_name=config.node_name,
        root_dir=Path("/"),
        pod_logs_dir=Path("/"),
        kubernetes_version=config.kubernetes_version,
        feature_gates=config.feature_gates,
        **({"node_ips": [config.node_ip]} | dict(changes)),
    )
    try:
        check(options)
        wrong = problem(options, read_machine(Path("/")))
    except ValueError as error:
        wrong = str(error)
    if wrong:
        raise click.ClickException(wrong)


def _api_server(context: click.Context, without: click.Context, _: ProfileConfig) -> dict[str, Any]:
    from pinnace.apiserver.options import Options
    from pinnace.cli import kube_apiserver

    def told(one: click.Context) -> dict[str, Any]:
        # The certificate is the cluster's, which need not have one yet.
        return kube_apiserver.read(one.params | dict.fromkeys(("tls_cert_file", "tls_private_key_file"), Path("/")))

    with without:
        usual = told(without)
    found = told(context)
    kube_apiserver.check(Options(**found))
    return _differing(usual, found)


def _controllers(context: click.Context, without: click.Context, config: ProfileConfig) -> dict[str, Any]:
    from pinnace.cli import kube_controller_manager
    from pinnace.machinery.features import FeatureGates

    def told(flags: dict[str, Any]) -> dict[str, Any]:
        options = kube_controller_manager.read(flags, FeatureGates(config.minor, config.feature_gates))
        return {field.name: getattr(options, field.name) for field in dataclasses.fields(options)}

    return _differing(told(without.params), told(context.params))


def _scheduler(context: click.Context, _: click.Context, _config: ProfileConfig) -> dict[str, Any]:
    from pinnace.cli import scheduler_config

    found = {}
    if _is_given(context, "config"):
        found["configuration"] = scheduler_config.read(context.params["config"])
    if _is_given(context, "longest_aside"):
        found["longest_aside_seconds"] = context.params["longest_aside"]
    return found


def _proxy(context: click.Context, _: click.Context, _config: ProfileConfig) -> dict[str, Any]:
    fields = {"healthz_bind_address": "healthz", "metrics_bind_address": "metrics", "profiling": "profiling"}
    return {field: context.params[flag] for flag, field in fields.items() if _is_given(context, flag)}


def _is_given(context: click.Context, name: str) -> bool:
    return context.get_parameter_source(name) is ParameterSource.COMMANDLINE


def _differing(usual: dict[str, Any], found: dict[str, Any]) -> dict[str, Any]:
    return {name: value for name, value in found.items() if value != usual.get(name)}


def _nothing(_: ProfileConfig) -> dict[str, str]:
    return {}


_EVERYWHERE = "kubeconfig feature-gates emulated-version cert-dir tls-cert-file tls-private-key-file client-ca-file"
_OBSERVING = (
    "bind-address secure-port profiling authentication-kubeconfig authorization-kubeconfig "
    "authorization-always-allow-paths requestheader-client-ca-file requestheader-allowed-names"
)
_ELECTION = (
    "leader-elect leader-elect-resource-lock leader-elect-resource-name leader-elect-resource-namespace "
    "leader-elect-lease-duration leader-elect-renew-deadline leader-elect-retry-period"
)
_CLIENT = "kube-api-qps kube-api-burst kube-api-content-type"

COMPONENTS = {
    "kubelet": _Component(
        "kubelet",
        _nothing,
        _names(
            f"{_EVERYWHERE} bootstrap-kubeconfig config config-dir hostname-override node-ip root-dir address "
            "pod-manifest-path register-node pod-cidr cgroup-root cgroup-driver cluster-domain rotate-certificates "
            "rotate-server-certificates container-runtime-endpoint image-service-endpoint runtime-request-timeout "
            "oci-runtime runtime-handler cni-bin-dir cni-conf-dir"
        ),
        _kubelet,
    ),
    "apiserver": _Component(
        "kube-apiserver",
        lambda _: {"authorization-mode": "Node,RBAC", "enable-bootstrap-token-auth": "true"},
        _names(
            f"{_EVERYWHERE} bind-address secure-port advertise-address etcd-servers etcd-prefix etcd-cafile "
            "etcd-certfile etcd-keyfile storage-backend service-account-signing-key-file service-account-key-file "
            "service-account-issuer service-cluster-ip-range proxy-client-cert-file proxy-client-key-file "
            "requestheader-client-ca-file requestheader-allowed-names kubelet-client-certificate kubelet-client-key "
            "kubelet-certificate-authority"
        ),
        _api_server,
    ),
    "controller-manager": _Component(
        "kube-controller-manager",
        lambda config: {
            "controllers": "*,bootstrap-signer-controller,token-cleaner-controller",
            "cluster-cidr": config.pod_cidr,
            "allocate-node-cidrs": "true",
        },
        _names(
            f"{_EVERYWHERE} {_OBSERVING} {_ELECTION} {_CLIENT} cluster-cidr root-ca-file cluster-name "
            "use-service-account-credentials service-account-private-key-file enable-hostpath-provisioner "
            "cluster-signing-cert-file cluster-signing-key-file"
        ),
        _controllers,
    ),
    "scheduler": _Component(
        "kube-scheduler",
        _nothing,
        _names(f"{_EVERYWHERE} {_OBSERVING} {_ELECTION} {_CLIENT} master write-config-to"),
        _scheduler,
    ),
    "kube-proxy": _Component(
        "kube-proxy",
        _nothing,
        _names(
            f"{_EVERYWHERE} config hostname-override cluster-cidr proxy-mode nodeport-addresses pod-bridge-interface "
            "cleanup"
        ),
        _proxy,
    ),
}
_ALIASES = {"proxy": "kube-proxy"}  # both are minikube's


def _option(text: str) -> str:
    """One option as a profile keeps it: files by their absolute paths. Raises ValueError."""
    front, equals, value = text.partition("=")
    name, dot, key = front.partition(".")
    if not equals or not dot:
        raise ValueError(f'"{text}" is not COMPONENT.KEY=VALUE')
    name = _ALIASES.get(name, name)
    component = COMPONENTS.get(name)
    if component is None:
        raise ValueError(f'"{name}" is not one of {", ".join(COMPONENTS)}')
    if key == "feature-gates":
        raise ValueError(f"{front}: --feature-gates of start is for all servers")
    flag = component.flags().get(key)
    if flag is None:
        raise ValueError(f"{front}: {component.command} has no flag --{key}")
    if key in component.own:
        raise ValueError(f"{front}: what the cluster tells its {component.command} of this cannot be changed")
    if isinstance(flag.type, click.Path) and value:
        value = str(Path(value).absolute())
    return f"{name}.{key}={value}"


extra_config_option: Callable[[Callable[..., Any]], Callable[..., Any]] = click.option(
    "--extra-config",
    type=Text("COMPONENT.KEY=VALUE", lambda text: _option(text) if text else ""),
    multiple=True,
    callback=lambda _, __, given: tuple(filter(None, given)) if given else None,
    help=f"A flag of a server, for example kubelet.max-pods=250: of {', '.join(COMPONENTS)}. What is given counts from "
    'then on in place of what was given before; "" is none at all.',
)


def _kept(config: ProfileConfig) -> Iterator[tuple[str, str, str]]:
    """Component, key and value of each option of a profile."""
    for text in config.extra_config:
        front, _, value = text.partition("=")
        name, _, key = front.partition(".")
        yield name, key, value


def changes(config: ProfileConfig) -> Changes:
    """What a profile's extra configuration changes in the servers' options. Raises ClusterError."""
    given: dict[str, list[tuple[str, str]]] = {}
    for name, key, value in _kept(config):
        given.setdefault(name, []).append((key, value))
    return {name: _changes_of(name, flags, config) for name, flags in given.items()}


def _changes_of(name: str, given: Sequence[tuple[str, str]], config: ProfileConfig) -> dict[str, Any]:
    component, keys = COMPONENTS[name], {key for key, _ in given}
    usual = component.given(config)
    if "authorization-config" in keys:
        usual.pop("authorization-mode")  # of which it is in the place
    try:
        without = component.parse(usual.items())
        context = component.parse([*((key, value) for key, value in usual.items() if key not in keys), *given])
        with context:
            return component.read(context, without, config)
    except click.ClickException as error:
        _refuse(name, component, error)


def _refuse(name: str, component: _Component, error: click.ClickException) -> NoReturn:
    key = ""
    if isinstance(error, click.BadParameter):
        hint = error.param_hint or (error.param.opts[-1] if error.param else "")
        key = f".{hint.lstrip('-')}" if isinstance(hint, str) and hint else ""
    raise ClusterError(
        USAGE, f"--extra-config: {name}{key}: {error.message}", f"See: pinnace {component.command} --help"
    ) from None


def check(config: ProfileConfig) -> None:
    """Raise ClusterError for extra configuration that a server of the cluster would not start with."""
    changes(config)


def _verbosity(config: ProfileConfig, components: Sequence[str]) -> int:
    """The highest log level that is asked for of one of the components: they log together."""
    asked = [0]
    for name, key, value in _kept(config):
        if name in components and key == _VERBOSITY:
            asked.append(int(value))
    return max(asked)


def main() -> None:
    """`python -m pinnace.cli.extra_config MODULE DIRECTORY`: one of the processes of the profile there."""
    from pinnace.cluster.process import VERBOSITY
    from pinnace.cluster.profile import from_directory

    module = importlib.import_module(sys.argv.pop(1))
    config = from_directory(Path(sys.argv[1])).load()
    verbosity = max(int(os.environ.get(VERBOSITY, "0")), _verbosity(config, module.COMPONENTS))
    os.environ[VERBOSITY] = str(verbosity)
    module.main({name: one for name, one in changes(config).items() if name in module.COMPONENTS})


if __name__ == "__main__":
    main()
