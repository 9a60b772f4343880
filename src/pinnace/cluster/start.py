"""`pinnace start`: from nothing, from a stopped cluster, after a crash or a reboot, to a Ready node.

Idempotent: what is there and good is kept. A first start that fails leaves nothing behind; a later one leaves the
cluster's data as it was.
"""

from __future__ import annotations

import os
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from contextlib import nullcontext
from dataclasses import dataclass, replace
from ipaddress import IPv4Network

from pinnace.cluster import control, guard, preflight, subnets, turns
from pinnace.cluster.profile import Profile, ProfileConfig, is_rootless, other_configs
from pinnace.cluster.progress import Progress
from pinnace.cluster.reasons import (
    APISERVER_TIMEOUT,
    NODE_TIMEOUT,
    PKI,
    PORT_IN_USE,
    START_FAILED,
    USAGE,
    ClusterError,
)
from pinnace.cluster.supervisor import NOT_NEEDED
from pinnace.cri.programs import search_path

TOTAL_STEPS = 6
CRASHES_THAT_FAIL_A_START = 3


@dataclass(frozen=True, slots=True)
class StartOptions:
    """What the command line asked for."""

    kubernetes_version: str = ""  # empty: the profile's own, or the newest
    api_server_port: int | None = None
    dns_domain: str = "cluster.local"
    service_cidr: str = ""  # a range, or one of each family; empty: chosen
    dual_stack: bool = False  # addresses of both families; said by a service_cidr of both, too
    wait_timeout: float = 120.0  # seconds
    container_runtime: str = ""  # empty: the profile's own, or the engine
    keep_context: bool = False  # leave kubectl's current context alone
    feature_gates: dict[str, bool] | None = None  # None: as they are stored
    extra_config: tuple[str, ...] | None = None  # the same
    check: Callable[[ProfileConfig], None] = lambda _: None  # raises ClusterError where servers would not start so
    verbosity: int = 0


def start(profile: Profile, options: StartOptions, progress: Progress) -> ProfileConfig:
    """Bring the cluster up and return what it is. Raises ClusterError."""
    preflight.require_root()
    preflight.require_writable_home(profile.home)
    preflight.require_features()
    with turns.turn(profile):
        fresh = not profile.exists()
        progress.step("Profile", f'{"Creating" if fresh else "Loading"} profile "{profile.name}"')
        with turns.choosing_networks(profile) if fresh else nullcontext():
            config = _decide(profile, options, progress)
            try:
                _bring_up(profile, config, options, progress)  # then its networks can be seen
            except ClusterError:
                if fresh:
                    _undo(profile)
                raise
        progress.step("Kubeconfig", f'Writing context "{profile.name}" to the kubeconfig')
        _write_kubeconfig(profile, config, options)
    if is_rootless():
        _tell_limits(progress)
    progress.done(f'Kubernetes {config.kubernetes_version} is ready: kubectl now uses context "{profile.name}"')
    return config


def _tell_limits(progress: Progress) -> None:
    from pinnace.cluster.rootless.limits import limits_here

    for limit in limits_here():
        progress.warn(f"Without root: {limit}")


def _decide(profile: Profile, options: StartOptions, progress: Progress) -> ProfileConfig:
    """The stored configuration with the allowed changes, or a new one; saved."""
    from pinnace.machinery.schema import Schemas

    stored = profile.load() if profile.exists() else None
    gates = stored.feature_gates if stored and options.feature_gates is None else options.feature_gates or {}
    version = preflight.choose_version(
        options.kubernetes_version, Schemas.minors(), stored.kubernetes_version if stored else ""
    )
    preflight.check_feature_gates(version, gates)
    extra = stored.extra_config if stored and options.extra_config is None else options.extra_config or ()
    runtime = preflight.choose_runtime(options.container_runtime, stored.container_runtime if stored else "")
    preflight.require_runtime(runtime)
    if stored is not None:
        running = bool(control.snapshot(profile))
        port = stored.api_server_port
        if options.api_server_port not in (None, port):
            raise ClusterError(
                PORT_IN_USE,
                f"The cluster's API server has port {port}, which cannot be changed",
                "Delete the cluster first, or leave --apiserver-port out",
            )
        if not running and not guard.processes(profile):
            preflight.choose_port(profile, port)
        _check_networks(stored, options)
        config = replace(stored, kubernetes_version=version, feature_gates=gates, extra_config=extra)
        if running and config != stored:
            progress.warn("The cluster runs: what changes counts from its next start on (pinnace stop, pinnace start)")
    else:
        port = preflight.choose_port(profile, options.api_server_port)
        dual = options.dual_stack or "," in options.service_cidr
        if dual:
            preflight.require_ipv6()
        used = [*subnets.networks_in_use(), *_networks_of_profiles(profile)]
        free = subnets.choose(used, dual=dual, services=options.service_cidr)
        config = ProfileConfig(
            name=profile.name,
            kubernetes_version=version,
            node_name=profile.name.lower(),
            node_ip=subnets.first_address(free.machines),
            machine_cidr=free.machines,
            pod_cidr=free.pods,
            service_cidr=free.services,
            dns_domain=options.dns_domain,
            api_server_port=port,
            feature_gates=gates,
            container_runtime=runtime,
            rootless=is_rootless(),
            extra_config=extra,
        )
    if config.extra_config:
        options.check(config)
    if config != stored:
        profile.save(config)
    profile.announce()
    return config


def _check_networks(stored: ProfileConfig, options: StartOptions) -> None:
    """Raise ClusterError where other networks are asked for than those that the cluster's objects have addresses of."""
    asked, there = options.service_cidr, stored.service_cidr
    if asked not in ("", there) or (options.dual_stack and "," not in there):
        raise ClusterError(
            USAGE,
            f"The cluster's Services have the addresses {there}, which cannot be changed",
            "Delete the cluster first, or leave --service-cluster-ip-range and --ip-family out",
        )


def _networks_of_profiles(profile: Profile) -> Iterator[IPv4Network]:
    for other in other_configs(profile):
        cidrs = (other.machine_cidr, other.pod_cidr, other.service_cidr)
        yield from (IPv4Network(cidr.split(",")[0]) for cidr in cidrs)


def _bring_up(profile: Profile, config: ProfileConfig, options: StartOptions, progress: Progress) -> None:
    progress.step("Certificates", "Checking certificates and keys")
    _ensure_pki(profile, config)
    progress.step("Servers", "Starting the control plane and the node")
    turns.allow_supervisor(profile)
    supervisor = control.connect(profile) or _spawn_supervisor(profile, options)
    try:
        _wait_until_ready(profile, supervisor, options, progress)
    finally:
        supervisor.close()


def _ensure_pki(profile: Profile, config: ProfileConfig) -> None:
    from pinnace.kubeadm.certs import ClusterNames, ensure_certificates
    from pinnace.kubeadm.pki import PkiError
    from pinnace.machinery.meta import utc_now

    names = ClusterNames(config.node_name, config.node_ip, config.service_cidr, config.dns_domain)
    try:
        ensure_certificates(profile.pki_dir, names, utc_now())
    except PkiError as error:
        raise ClusterError(PKI, str(error), "Restore the file, or delete the cluster and start anew") from error


def _spawn_supervisor(profile: Profile, options: StartOptions) -> control.Control:
    """Start the supervisor, detached from this terminal, and connect to it."""
    if is_rootless():
        from pinnace.cluster.rootless.init import ask_for_supervisor

        ask_for_supervisor(profile)
        return _connect(profile, options, lambda: None)
    environment = os.environ | {"PINNACE_VERBOSITY": str(options.verbosity)}
    environment["PATH"] = search_path()
    process = subprocess.Popen(
        [sys.executable, "-m", "pinnace.cluster.supervisor", str(profile.directory)],
        stdin=subprocess.DEVNULL,
        stdout=subprocess.DEVNULL,
        stderr=subprocess.DEVNULL,
        start_new_session=True,
        env=environment,
    )
    return _connect(profile, options, process.poll)


def _connect(profile: Profile, options: StartOptions, exit_code: Callable[[], int | None]) -> control.Control:
    """A connection to the supervisor that is being started; `exit_code` tells whether it has ended."""
    deadline = time.monotonic() + options.wait_timeout
    while time.monotonic() < deadline:
        if (connection := control.connect(profile)) is not None:
            return connection
        if exit_code() not in (None, NOT_NEEDED):
            raise ClusterError(START_FAILED, "The supervisor ended at once", _log_tail(profile, "supervisor"))
        time.sleep(0.01)  # the socket is about to be made by a process that has no other way to say so
    raise ClusterError(START_FAILED, "The supervisor does not answer", _log_tail(profile, "supervisor"))


def _wait_until_ready(profile: Profile, supervisor: control.Control, options: StartOptions, progress: Progress) -> None:
    ready: set[str] = set()
    crashes: dict[str, int] = {}
    try:
        for state in supervisor.events(time.monotonic() + options.wait_timeout):
            if state.state == "ready" and state.component not in ready:
                ready.add(state.component)
                if state.component == "control-plane":
                    progress.step("Node", "Waiting for the node to be Ready")
            if ready >= {"control-plane", "node"}:
                return
            if state.state == "backoff":
                ready.discard(state.component)
                crashes[state.component] = crashes.get(state.component, 0) + 1
                if crashes[state.component] >= CRASHES_THAT_FAIL_A_START:
                    what = {"node": "node's server", "control-plane": "control plane"}.get(
                        state.component, state.component
                    )
                    raise ClusterError(
                        START_FAILED, f"The {what} ends again and again", _log_tail(profile, state.component)
                    )
    except TimeoutError:
        missing, reason = ("API server", APISERVER_TIMEOUT)
        if "control-plane" in ready:
            missing, reason = ("node", NODE_TIMEOUT)
        raise ClusterError(
            reason, f"The {missing} was not ready within {options.wait_timeout:.0f} s", "See: pinnace logs"
        ) from None
    except OSError as error:
        raise ClusterError(START_FAILED, f"The supervisor went away: {error}", "See: pinnace logs") from error


def _log_tail(profile: Profile, name: str, lines: int = 5) -> str:
    try:
        text = (profile.logs_dir / f"{name}.log").read_text(errors="replace")
    except OSError:
        return "There is no log"
    return "Last lines of its log:\n    " + "\n    ".join(text.splitlines()[-lines:])


def _write_kubeconfig(profile: Profile, config: ProfileConfig, options: StartOptions) -> None:
    from pinnace.cluster.context import write_context

    write_context(profile, config, make_current=not options.keep_context)


def _undo(profile: Profile) -> None:
    from pinnace.cluster.teardown import tear_down

    tear_down(profile)
