"""Flags of the kubelet for scarce resources, images that nobody uses, the node's end, and who is served.

Each is the field of KubeletConfiguration of the same name, and wins over it.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import click

from pinnace.cli.values import AMOUNTS, DURATION, NAMES, Text, switch

Decorator = Callable[[Callable[..., Any]], Callable[..., Any]]


def _pairs(separator: str) -> Callable[[str], dict[str, str]]:
    def parse(text: str) -> dict[str, str]:
        found = {}
        for part in filter(None, (part.strip() for part in text.split(","))):
            name, between, value = part.partition(separator)
            if not between:
                raise ValueError(f'"{part}" is not NAME{separator}VALUE')
            found[name.strip()] = value.strip()
        return found

    return parse


def _header(text: str) -> dict[str, list[str]]:
    """`a:one,a:two,b:three`."""
    found: dict[str, list[str]] = {}
    for part in filter(None, text.split(",")):
        name, colon, value = part.partition(":")
        if not colon:
            raise ValueError(f'"{part}" is not NAME:VALUE')
        found.setdefault(name.strip(), []).append(value.strip())
    return found


def _reserved_memory(text: str) -> list[dict[str, Any]]:
    """`0:memory=1Gi,hugepages-1Gi=2Gi;1:memory=2Gi`."""
    found = []
    for part in filter(None, text.split(";")):
        node, colon, amounts = part.partition(":")
        if not colon or not node.strip().isdigit():
            raise ValueError(f'the format of "{part}" should be node:type=quantity,...')
        found.append({"numaNode": int(node), "limits": _pairs("=")(amounts)})
    return found


_BELOW = Text("signal<amount,...", _pairs("<"))
_PAIRS = Text("name=value,...", _pairs("="))
_RESERVED_MEMORY = Text("node:type=quantity,...;...", _reserved_memory)
_HEADER = Text("name:value,...", _header)
_PERCENT = click.IntRange(0, 100)

_FLAGS: tuple[tuple[str, str, Any, str], ...] = (  # flag, option, type, help
    (
        "allowed-unsafe-sysctls",
        "allowed_unsafe_sysctls",
        NAMES,
        "What pods may set besides: kernel.msg*,net.core.somaxconn.",
    ),
    ("eviction-hard", "eviction_hard", _BELOW, "Below what pods are evicted at once: memory.available<100Mi,..."),
    ("eviction-soft", "eviction_soft", _BELOW, "Below what pods are evicted after a time: memory.available<1.5Gi,..."),
    ("eviction-soft-grace-period", "eviction_soft_grace_period", _PAIRS, "That time: memory.available=1m30s,..."),
    (
        "eviction-minimum-reclaim",
        "eviction_minimum_reclaim",
        _PAIRS,
        "What is freed at least: imagefs.available=2Gi,...",
    ),
    ("eviction-max-pod-grace-period", "eviction_max_pod_grace_period", int, "Seconds for a pod to end after that."),
    (
        "eviction-pressure-transition-period",
        "eviction_pressure_transition_period",
        DURATION,
        "How long a condition of pressure stays.  [default: 5m0s]",
    ),
    (
        "image-gc-high-threshold",
        "image_gc_high_threshold_percent",
        _PERCENT,
        "Use of the disk from which on unused images go.  [default: 85]",
    ),
    (
        "image-gc-low-threshold",
        "image_gc_low_threshold_percent",
        _PERCENT,
        "Use of the disk down to which they go.  [default: 80]",
    ),
    (
        "minimum-image-ttl-duration",
        "image_minimum_gc_age",
        DURATION,
        "How long an unused image stays at least.  [default: 2m0s]",
    ),
    (
        "maximum-dead-containers-per-container",
        "max_dead_containers_per_container",
        int,
        "Old instances that are kept of each container.  [default: 1]",
    ),
    ("maximum-dead-containers", "max_dead_containers", int, "Old instances that are kept in all.  [default: -1, any]"),
    (
        "minimum-container-ttl-duration",
        "minimum_container_ttl",
        DURATION,
        "How long they stay at least.  [default: 0s]",
    ),
    ("kube-reserved", "kube_reserved", AMOUNTS, "What Kubernetes' daemons need: cpu=200m,memory=500Mi,..."),
    ("system-reserved", "system_reserved", AMOUNTS, "What the system's daemons need: cpu=200m,memory=500Mi,..."),
    (
        "enforce-node-allocatable",
        "enforce_node_allocatable",
        NAMES,
        "Whose resources are limited: pods, kube-reserved, system-reserved.  [default: pods]",
    ),
    ("kube-reserved-cgroup", "kube_reserved_cgroup", str, "Cgroup of Kubernetes' daemons: /podruntime.slice."),
    ("system-reserved-cgroup", "system_reserved_cgroup", str, "Cgroup of the system's daemons: /system.slice."),
    ("reserved-cpus", "reserved_system_cpus", str, "CPUs of the system, in place of as many as are reserved: 0-1,4."),
    ("pod-max-pids", "pods_pids_limit", int, "Processes that each pod may have.  [default: -1, any number]"),
    ("cpu-manager-policy", "cpu_manager_policy", str, "Whether containers get CPUs of their own: none or static."),
    ("cpu-manager-policy-options", "cpu_manager_policy_options", _PAIRS, "How: full-pcpus-only=true,..."),
    (
        "memory-manager-policy",
        "memory_manager_policy",
        str,
        "Whether containers get memory of few NUMA nodes: None or Static.",
    ),
    ("reserved-memory", "reserved_memory", _RESERVED_MEMORY, "Of which they do not get: 0:memory=1Gi;1:memory=2Gi."),
    (
        "topology-manager-policy",
        "topology_manager_policy",
        click.Choice(["none", "best-effort", "restricted", "single-numa-node"]),
        "Whether CPUs, memory and devices of a container are near to each other.",
    ),
    (
        "topology-manager-policy-options",
        "topology_manager_policy_options",
        _PAIRS,
        "How that is chosen: prefer-closest-numa-nodes=true,max-allowable-numa-nodes=16.",
    ),
    (
        "topology-manager-scope",
        "topology_manager_scope",
        click.Choice(["container", "pod"]),
        "Whether that is for each container or for all of a pod.",
    ),
    ("manifest-url", "manifest_url", str, "Where more static pods are read from."),
    ("manifest-url-header", "manifest_url_header", _HEADER, "Headers of that request: NAME:VALUE,..."),
    ("http-check-frequency", "http_check_frequency", DURATION, "How often it is read.  [default: 20s]"),
    ("pods-per-core", "pods_per_core", click.IntRange(0), "Pods that may run for each core, 0: any number."),
    (
        "authorization-mode",
        "authorization_mode",
        click.Choice(["AlwaysAllow", "Webhook"]),
        "Who may ask the kubelet for what: everybody it lets in, or whom the API server allows.",
    ),
    (
        "authentication-token-webhook-cache-ttl",
        "authentication_cache_ttl",
        DURATION,
        "How long the API server's word on a token counts.  [default: 2m0s]",
    ),
    (
        "read-only-port",
        "read_only_port",
        click.IntRange(0, 65535),
        "Port of pods and figures without TLS and for everybody, 0: none.  [default: 0]",
    ),
    (
        "node-status-max-images",
        "node_status_max_images",
        click.IntRange(-1),
        "Images that the Node names, -1: all.  [default: 50]",
    ),
    ("healthz-bind-address", "healthz_bind_address", str, "Address of /healthz without TLS.  [default: 127.0.0.1]"),
    ("healthz-port", "healthz_port", click.IntRange(0, 65535), "Its port, 0: none.  [default: 10248]"),
)
_SWITCHES = (
    (
        "kernel-memcg-notification",
        "kernel_memcg_notification",
        "Look at once when the kernel tells of memory pressure.",
    ),
    ("cpu-cfs-quota", "cpu_cfs_quota", "Enforce limits of CPU time; on unless it is turned off."),
    ("seccomp-default", "seccomp_default", "Give containers that ask for no seccomp profile the runtime's own."),
    ("anonymous-auth", "anonymous_auth", "Let in who shows neither certificate nor token."),
    ("authentication-token-webhook", "authentication_webhook", "Ask the API server whose a bearer token is."),
    ("rotate-certificates", "rotate_certificates", "Ask for a new client certificate before the old one ends."),
    ("rotate-server-certificates", "server_tls_bootstrap", "Ask for the serving certificate, too."),
    ("fail-swap-on", "fail_swap_on", "Refuse to start where there is swap."),
    (
        "shutdown-on-sigterm",
        "shutdown_on_sigterm",
        "Take SIGTERM for the node's end where systemd-logind does not tell.",
    ),
)

OPTIONS = {flag.replace("-", "_"): option for flag, option, *_ in (*_FLAGS, *_SWITCHES)}
"""Flags as click names them, and the options they set."""


def more_options(command: Callable[..., Any]) -> Callable[..., Any]:
    """The flags of this module on a command."""
    for flag, _, kind, about in reversed(_FLAGS):
        command = click.option(f"--{flag}", type=kind, help=about)(command)
    for flag, _, about in reversed(_SWITCHES):
        command = switch(f"--{flag}", default=None, help=about)(command)
    return command
