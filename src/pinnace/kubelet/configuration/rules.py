"""What is wrong with the values of a KubeletConfiguration, in Kubernetes' words; pure.

Each rule is told the document's own value or its default
(https://kubernetes.io/docs/reference/config-api/kubelet-config.v1beta1/).
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from typing import Any

from pinnace.kubelet.eviction.thresholds import parse_thresholds
from pinnace.kubelet.images.verification import ALLOWLISTED, POLICIES, PRELOADED, pattern_problem
from pinnace.kubelet.images.verification import GATE as IMAGE_PROOF
from pinnace.kubelet.topology.cpu_sets import parse_cpus
from pinnace.machinery.duration import parse_duration
from pinnace.machinery.meta import Obj, get_in

_RANGES: dict[str, tuple[str, int, int, int]] = {  # field: flag, default, least, most
    "healthzPort": ("healthz-port", 10248, 0, 65535),
    "imageGCHighThresholdPercent": ("image-gc-high-threshold", 85, 0, 100),
    "imageGCLowThresholdPercent": ("image-gc-low-threshold", 80, 0, 100),
    "oomScoreAdj": ("oom-score-adj", -999, -1000, 1000),
    "port": ("port", 10250, 1, 65535),
    "readOnlyPort": ("read-only-port", 0, 0, 65535),
}
_NOT_NEGATIVE = {
    "eventBurst": "event-burst",
    "eventRecordQPS": "event-qps",
    "kubeAPIBurst": "kube-api-burst",
    "kubeAPIQPS": "kube-api-qps",
    "maxOpenFiles": "max-open-files",
    "maxPods": "max-pods",
    "podsPerCore": "pods-per-core",
    "registryBurst": "registry-burst",
    "registryPullQPS": "registry-qps",
}
_CHOICES = {  # field: flag, what may be said
    "topologyManagerPolicy": (
        "topology-manager-policy",
        ("none", "best-effort", "restricted", "single-numa-node"),
    ),
    "topologyManagerScope": ("topology-manager-scope", ("container", "pod")),
}
_HAIRPIN = ("none", "hairpin-veth", "promiscuous-bridge")
_RESERVED = (
    ("system-reserved", "systemReservedCgroup", "system-reserved-cgroup"),
    ("kube-reserved", "kubeReservedCgroup", "kube-reserved-cgroup"),
)
_ENFORCED = ("pods", *(f"{part}{end}" for part, _, _ in _RESERVED for end in ("", "-compressible")), "none")


def validate(document: Obj) -> list[str]:
    """Everything that is wrong, each to be said after "invalid configuration: "."""
    return [f"invalid configuration: {text}" for rule in _RULES for text in rule(document)]


def _numbers(document: Obj) -> Iterator[str]:
    for field, (flag, default, least, most) in _RANGES.items():
        value = document.get(field, default)
        if value is not None and not least <= value <= most:
            yield f"{field} (--{flag}) {value} must be between {least} and {most}, inclusive"
    for field, flag in _NOT_NEGATIVE.items():
        if (document.get(field) or 0) < 0:
            yield f"{field} (--{flag}) {document[field]} must not be a negative number"
    lease = document.get("nodeLeaseDurationSeconds")
    if lease is not None and lease <= 0:
        yield "nodeLeaseDurationSeconds must be greater than 0"
    if (document.get("evictionMaxPodGracePeriod") or 0) < 0:
        yield f"evictionMaxPodGracePeriod {document['evictionMaxPodGracePeriod']} must not be a negative number"
    if document.get("nodeStatusMaxImages", 50) < -1:
        yield f"nodeStatusMaxImages (--node-status-max-images) {document['nodeStatusMaxImages']} must be -1 or greater"


def _memory(document: Obj) -> Iterator[str]:
    factor = document.get("memoryThrottlingFactor")
    if isinstance(factor, int | float) and not 0 < factor <= 1:
        yield f"memoryThrottlingFactor {factor} must be greater than 0 and less than or equal to 1.0"


def _choices(document: Obj) -> Iterator[str]:
    for field, (flag, allowed) in _CHOICES.items():
        value = document.get(field) or allowed[0]
        if value not in allowed:
            yield f'{field} (--{flag}) "{value}" must be one of: {_listed(allowed)}'
    hairpin = document.get("hairpinMode") or _HAIRPIN[0]
    if hairpin not in _HAIRPIN:
        valid = '"none", "hairpin-veth" or "promiscuous-bridge"'
        yield f'option "{hairpin}" specified for hairpinMode (--hairpin-mode). Valid options are {valid}'
    swap = get_in(document, "memorySwap", "swapBehavior") or ""
    if swap not in ("", "NoSwap", "LimitedSwap"):
        yield f'memorySwap.swapBehavior "{swap}" must be one of: "", "LimitedSwap" or "NoSwap"'
    policy = document.get("memoryReservationPolicy") or "None"
    if policy not in ("None", "TieredReservation"):
        yield f'memoryReservationPolicy "{policy}" must be one of: "None" or "TieredReservation"'
    mode = get_in(document, "authorization", "mode") or "Webhook"
    if mode not in ("AlwaysAllow", "Webhook"):
        yield f'authorization.mode "{mode}" must be one of: "AlwaysAllow" or "Webhook"'


def _listed(values: tuple[str, ...]) -> str:
    return "[" + " ".join(f'"{value}"' for value in values) + "]"


def _images(document: Obj) -> Iterator[str]:
    high, low = document.get("imageGCHighThresholdPercent", 85), document.get("imageGCLowThresholdPercent", 80)
    if low >= high:
        yield (
            f"imageGCLowThresholdPercent (--image-gc-low-threshold) {low} must be less than "
            f"imageGCHighThresholdPercent (--image-gc-high-threshold) {high}"
        )
    longest, shortest = document.get("imageMaximumGCAge") or "0s", document.get("imageMinimumGCAge") or "2m"
    seconds = _seconds(longest)
    if seconds is not None and seconds < 0:
        yield f"imageMaximumGCAge {longest} must not be negative"
    elif seconds and seconds <= (_seconds(shortest) or 0):
        yield f"imageMaximumGCAge {longest} must be greater than imageMinimumGCAge {shortest}"
    pulls = document.get("maxParallelImagePulls")
    if pulls is not None and pulls < 1:
        yield f"maxParallelImagePulls {pulls} must be a positive number"
    elif pulls is not None and pulls > 1 and document.get("serializeImagePulls", False):
        yield (
            "maxParallelImagePulls cannot be larger than 1 unless SerializeImagePulls (--serialize-image-pulls) set to "
            "false"
        )


def _image_proof(document: Obj) -> Iterator[str]:
    field, listed = "imagePullCredentialsVerificationPolicy", document.get("preloadedImagesVerificationAllowlist") or ()
    if not get_in(document, "featureGates", IMAGE_PROOF, default=True):
        for name in (field, "preloadedImagesVerificationAllowlist"):
            if document.get(name):
                yield f"`{name}` must not be set if {IMAGE_PROOF} feature gate is not enabled"
        return
    policy = document.get(field) or PRELOADED
    if policy not in POLICIES:
        valid = ", ".join(f'"{one}"' for one in POLICIES[:-1]) + f' or "{POLICIES[-1]}"'
        yield f'option "{policy}" specified for {field}. Valid options are {valid}'
    if listed and policy != ALLOWLISTED:
        only = f'`imagePullCredentialsVertificationPolicy` is not "{ALLOWLISTED}"'
        yield f"can't set `preloadedImagesVerificationAllowlist` if {only}"
        return
    why = next(filter(None, map(pattern_problem, listed)), "")
    if why:
        yield f"invalid image pattern in `preloadedImagesVerificationAllowlist`: {why}"


def _allocatable(document: Obj) -> Iterator[str]:
    enforced = document.get("enforceNodeAllocatable")
    names: list[str] = ["pods"] if enforced is None else enforced
    flag = "enforceNodeAllocatable (--enforce-node-allocatable)"
    if document.get("systemCgroups") and not document.get("cgroupRoot"):
        yield "systemCgroups (--system-cgroups) was specified and cgroupRoot (--cgroup-root) was not specified"
    for part, _, _ in _RESERVED:
        if part in names and f"{part}-compressible" in names:
            yield f'both "{part}" and "{part}-compressible" cannot be specified together in {flag}'
    for index, name in enumerate(names):
        if name in names[:index]:
            yield f'duplicated enforcements "{name}" in {flag}'
        elif name not in _ENFORCED:
            valid = ", ".join(f'"{one}"' for one in _ENFORCED[:-1]) + f' or "{_ENFORCED[-1]}"'
            yield f'option "{name}" specified for {flag}. Valid options are {valid}'
        elif name == "none":
            if len(names) > 1:
                yield f'{flag} may not contain additional enforcements when "none" is specified'
        else:
            yield from _enforced(document, name, flag)


def _enforced(document: Obj, name: str, flag: str) -> Iterator[str]:
    for part, cgroup, option in _RESERVED:
        both = f'"{part}" or "{part}-compressible"'
        if name in (part, f"{part}-compressible") and not document.get(cgroup):
            yield f"{cgroup} (--{option}) must be specified when {both} included in {flag}"
    if not document.get("cgroupsPerQOS", True):
        yield f'cgroupsPerQOS (--cgroups-per-qos) must be set to true when "{name}" contained in {flag}'


def _reserved_cpus(document: Obj) -> Iterator[str]:
    text = document.get("reservedSystemCPUs")
    if not text:
        return
    if document.get("systemReservedCgroup") or document.get("kubeReservedCgroup"):
        with_cgroups = "systemReservedCgroup (--system-reserved-cgroup) or kubeReservedCgroup (--kube-reserved-cgroup)"
        yield f"can't use reservedSystemCPUs (--reserved-cpus) with {with_cgroups}"
    try:
        parse_cpus(text)
    except ValueError as error:
        yield f"unable to parse reservedSystemCPUs (--reserved-cpus) {text}, error: {error}"


def _shutdown(document: Obj) -> Iterator[str]:
    whole, critical = document.get("shutdownGracePeriod") or "0s", document.get("shutdownGracePeriodCriticalPods")
    critical = critical or "0s"
    seconds, of_critical = _seconds(whole), _seconds(critical)
    if document.get("shutdownGracePeriodByPodPriority"):
        if seconds or of_critical:
            yield "Cannot specify both shutdownGracePeriodByPodPriority and shutdownGracePeriod at the same time"
        return
    if seconds is None or of_critical is None:
        return
    if of_critical > seconds:
        yield f"shutdownGracePeriodCriticalPods {{{critical}}} must be <= shutdownGracePeriod {{{whole}}}"
    for field, value, amount in (
        ("shutdownGracePeriod", whole, seconds),
        ("shutdownGracePeriodCriticalPods", critical, of_critical),
    ):
        if amount < 0 or 0 < amount < 1:
            yield f"{field} {{{value}}} must be either zero or otherwise >= 1 sec"


def _containers(document: Obj) -> Iterator[str]:
    text = document.get("cpuCFSQuotaPeriod") or "100ms"
    period = _seconds(text)
    if period is not None and not 0.001 <= period <= 1:
        yield f"cpuCFSQuotaPeriod (--cpu-cfs-quota-period) {{{text}}} must be between 1ms and 1sec, inclusive"
    if document.get("containerLogMaxWorkers", 1) < 1:
        yield "containerLogMaxWorkers must be greater than or equal to 1"
    interval = _seconds(document.get("containerLogMonitorInterval") or "10s")
    if interval is not None and interval < 3:
        yield "containerLogMonitorInterval must be a positive time duration greater than or equal to 3s"
    longest = get_in(document, "crashLoopBackOff", "maxContainerRestartPeriod")
    seconds = _seconds(longest) if longest else None
    if seconds is not None and not 1 <= seconds <= 300:
        got = f"{seconds:g}"
        yield f"CrashLoopBackOff.MaxContainerRestartPeriod (got: {got} seconds) must be set between 1s and 300s"
    directory = document.get("podLogsDir")
    if directory is not None and not directory.startswith("/"):
        yield f'pod logs path "{directory}" must be absolute path'
    if document.get("enableSystemLogQuery") and not get_in(document, "featureGates", "NodeLogQuery", default=True):
        yield "NodeLogQuery feature gate is required for enableSystemLogQuery"
    if document.get("enableSystemLogQuery") and not document.get("enableSystemLogHandler", True):
        yield "enableSystemLogHandler is required for enableSystemLogQuery"


def _evictions(document: Obj) -> Iterator[str]:
    names = ("evictionHard", "evictionSoft", "evictionSoftGracePeriod", "evictionMinimumReclaim")
    try:
        parse_thresholds(*(document.get(name) or {} for name in names))
    except ValueError as error:
        yield str(error)


def _seconds(text: Any) -> float | None:
    """A duration; None for one that cannot be read, which is told where it is converted."""
    try:
        return parse_duration(text)
    except (ValueError, TypeError):
        return None


_RULES: tuple[Callable[[Obj], Iterator[str]], ...] = (
    _numbers,
    _memory,
    _choices,
    _images,
    _image_proof,
    _allocatable,
    _reserved_cpus,
    _shutdown,
    _containers,
    _evictions,
)
