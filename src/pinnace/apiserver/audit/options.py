"""Where audit events go and how: the `--audit-*` flags as data, and what they must be.

https://kubernetes.io/docs/reference/command-line-tools-reference/kube-apiserver/.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path

MODES = ("batch", "blocking", "blocking-strict")
FORMATS = ("legacy", "json")
VERSIONS = ("audit.k8s.io/v1",)


@dataclass(slots=True, kw_only=True)
class Delivery:
    """How events reach a backend."""

    mode: str
    buffer_size: int = 10_000  # events that may wait; more are dropped
    batch_size: int = 400
    batch_wait: float = 30.0  # seconds before a batch that is not full goes
    throttled: bool = True
    qps: float = 10.0  # batches a second
    burst: int = 15
    truncated: bool = False
    most_batch_bytes: int = 10 << 20
    most_event_bytes: int = 100 << 10
    version: str = VERSIONS[0]


@dataclass(slots=True, kw_only=True)
class LogOptions:
    path: str = ""  # "-" for standard output
    max_age: int = 0  # days that old files are kept, 0 for ever
    max_backups: int = 0  # old files kept, 0 for all
    max_size: int = 0  # megabytes of a file, 0 for 100
    compress: bool = False
    format: str = "json"
    delivery: Delivery = field(default_factory=lambda: Delivery(mode="blocking", batch_size=1, throttled=False))


@dataclass(slots=True, kw_only=True)
class WebhookOptions:
    config_file: Path | None = None  # a kubeconfig
    initial_backoff: float = 10.0  # seconds before the first retry
    delivery: Delivery = field(default_factory=lambda: Delivery(mode="batch"))


@dataclass(slots=True, kw_only=True)
class AuditOptions:
    policy_file: Path | None = None  # without it nothing is recorded
    log: LogOptions = field(default_factory=LogOptions)
    webhook: WebhookOptions = field(default_factory=WebhookOptions)


def problems(options: AuditOptions) -> list[str]:
    """What is wrong with the flags, in the words of kube-apiserver."""
    found: list[str] = []
    log = options.log
    if log.path:
        found += _delivery_problems("log", log.delivery)
        if log.format not in FORMATS:
            found.append(f'invalid audit log format {log.format}, allowed formats are "{",".join(FORMATS)}"')
        for name, number in (("maxage", log.max_age), ("maxbackup", log.max_backups), ("maxsize", log.max_size)):
            if number < 0:
                found.append(f"--audit-log-{name} {number} can't be a negative number")
    if options.webhook.config_file is not None:
        found += _delivery_problems("webhook", options.webhook.delivery)
    return found


def _delivery_problems(plugin: str, delivery: Delivery) -> Iterator[str]:
    if delivery.mode not in MODES:
        yield f'invalid audit {plugin} mode {delivery.mode}, allowed modes are "{",".join(MODES)}"'
    if delivery.mode == "batch":
        yield from _batch_problems(plugin, delivery)
    if delivery.most_event_bytes <= 0:
        size = delivery.most_event_bytes
        yield f"invalid audit truncate {plugin} max event size {size}, must be a positive number"
    elif delivery.most_batch_bytes < delivery.most_event_bytes:
        yield (
            f"invalid audit truncate {plugin} max batch size {delivery.most_batch_bytes}, "
            f"must be greater than max event size ({delivery.most_event_bytes})"
        )
    if delivery.version not in VERSIONS:
        yield f'invalid group version, allowed versions are ["{VERSIONS[0]}"]'


def _batch_problems(plugin: str, delivery: Delivery) -> Iterator[str]:
    """The first of the numbers that cannot be."""
    numbers: list[tuple[str, float]] = [("buffer size", delivery.buffer_size), ("max batch size", delivery.batch_size)]
    if delivery.throttled:
        numbers += [("throttle QPS", delivery.qps), ("throttle burst", delivery.burst)]
    for name, number in numbers:
        if number <= 0:
            yield f"invalid audit batch {plugin} {name} {number:g}, must be a positive number"
            return
