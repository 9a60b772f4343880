"""Flags of the audit log."""

from __future__ import annotations

from typing import Any

import click

from pinnace.cli.apiserver_flags.section import Decorator, section
from pinnace.cli.values import DURATION, FILE, switch


def _delivery(plugin: str, *, mode: str, size: int, throttled: bool) -> list[Decorator]:
    """The flags that both backends have."""
    batch, truncate = f"--audit-{plugin}-batch", f"--audit-{plugin}-truncate"
    return [
        click.option(
            f"--audit-{plugin}-mode", default=mode, show_default=True, help="batch, blocking or blocking-strict."
        ),
        click.option(f"{batch}-buffer-size", type=int, default=10_000, show_default=True, help="Events that may wait."),
        click.option(f"{batch}-max-size", type=int, default=size, show_default=True, help="Events of one batch."),
        click.option(
            f"{batch}-max-wait", type=DURATION, default="30s", show_default=True, help="A batch that is not full waits."
        ),
        switch(f"{batch}-throttle-enable", default=throttled, show_default=True, help="Limit batches a second."),
        click.option(f"{batch}-throttle-qps", type=float, default=10, show_default=True, help="Batches a second."),
        click.option(f"{batch}-throttle-burst", type=int, default=15, show_default=True, help="Batches at once."),
        switch(f"{truncate}-enabled", default=False, show_default=True, help="Cut events and batches that are large."),
        click.option(
            f"{truncate}-max-batch-size", type=int, default=10 << 20, show_default=True, help="Bytes of a batch."
        ),
        click.option(
            f"{truncate}-max-event-size", type=int, default=100 << 10, show_default=True,
            help="Bytes of an event; a larger one loses what was sent and answered.",
        ),
        click.option(f"--audit-{plugin}-version", default="audit.k8s.io/v1", show_default=True, help="Of the events."),
    ]  # fmt: skip


options = section(
    click.option("--audit-policy-file", type=FILE, help="What is recorded, a Policy.  [default: nothing]"),
    click.option("--audit-log-path", default="", help="File that events are written to; - for standard output."),
    click.option("--audit-log-format", default="json", show_default=True, help="json or legacy."),
    click.option("--audit-log-maxage", type=int, default=0, help="Days that old files are kept.  [default: for ever]"),
    click.option("--audit-log-maxbackup", type=int, default=0, help="Old files that are kept.  [default: all]"),
    click.option("--audit-log-maxsize", type=int, default=0, help="Megabytes of a file.  [default: 100]"),
    switch("--audit-log-compress", default=False, show_default=True, help="Compress old files."),
    *_delivery("log", mode="blocking", size=1, throttled=False),
    click.option("--audit-webhook-config-file", type=FILE, help="Kubeconfig of a server that events are sent to."),
    click.option(
        "--audit-webhook-initial-backoff", type=DURATION, default="10s", show_default=True,
        help="Before the first attempt to send again.",
    ),
    *_delivery("webhook", mode="batch", size=400, throttled=True),
)  # fmt: skip


def read(flags: dict[str, Any]) -> dict[str, Any]:
    from pinnace.apiserver.audit.options import AuditOptions, Delivery, LogOptions, WebhookOptions, problems
    from pinnace.apiserver.audit.policy import load_policy
    from pinnace.apiserver.configuration import ConfigurationError

    def delivery(plugin: str) -> Delivery:
        def flag(name: str) -> Any:
            return flags[f"audit_{plugin}_{name}"]

        return Delivery(
            mode=flag("mode"),
            buffer_size=flag("batch_buffer_size"),
            batch_size=flag("batch_max_size"),
            batch_wait=flag("batch_max_wait"),
            throttled=flag("batch_throttle_enable"),
            qps=flag("batch_throttle_qps"),
            burst=flag("batch_throttle_burst"),
            truncated=flag("truncate_enabled"),
            most_batch_bytes=flag("truncate_max_batch_size"),
            most_event_bytes=flag("truncate_max_event_size"),
            version=flag("version"),
        )

    log = LogOptions(
        path=flags["audit_log_path"],
        max_age=flags["audit_log_maxage"],
        max_backups=flags["audit_log_maxbackup"],
        max_size=flags["audit_log_maxsize"],
        compress=flags["audit_log_compress"],
        format=flags["audit_log_format"],
        delivery=delivery("log"),
    )
    webhook = WebhookOptions(
        config_file=flags["audit_webhook_config_file"],
        initial_backoff=flags["audit_webhook_initial_backoff"],
        delivery=delivery("webhook"),
    )
    found = AuditOptions(policy_file=flags["audit_policy_file"], log=log, webhook=webhook)
    for problem in problems(found):
        raise click.ClickException(problem)
    if found.policy_file is not None:
        try:
            load_policy(found.policy_file)
        except ConfigurationError as error:
            raise click.ClickException(str(error)) from None
    return {"audit": found}
