"""Flags of listening and of the wire."""

from __future__ import annotations

from typing import Any

import click

from pinnace.cli.apiserver_flags.section import section
from pinnace.cli.certificate import certificate_options, pair
from pinnace.cli.serving import own_certificate
from pinnace.cli.values import DURATION, switch

options = section(
    click.option("--bind-address", default="0.0.0.0", show_default=True, help="Address to listen on."),
    click.option("--secure-port", type=int, default=6443, show_default=True, help="Port to serve HTTPS on."),
    click.option("--advertise-address", default="", help="Address that the Service kubernetes leads to."),
    certificate_options("/var/run/kubernetes"),
    switch("--disable-http2-serving", default=False, show_default=True, help="Speak HTTP/1.1 alone."),
    click.option(
        "--http2-max-streams-per-connection",
        type=click.IntRange(min=0),
        default=0,
        help="Requests that an HTTP/2 connection may have open at a time.  [default: 250]",
    ),
    click.option(
        "--goaway-chance",
        type=click.FloatRange(0, 0.02),
        default=0,
        help="Chance that an HTTP/2 connection is asked to go away at a request, so that load spreads over servers.",
    ),
    switch(
        "--enable-priority-and-fairness",
        default=True,
        show_default=True,
        help="Share the server's capacity by FlowSchemas and PriorityLevelConfigurations.",
    ),
    click.option(
        "--max-requests-inflight",
        type=click.IntRange(min=0),
        default=400,
        show_default=True,
        help="Reads at a time, 0 for no limit. With priority and fairness the sum with the next is what levels share.",
    ),
    click.option(
        "--max-mutating-requests-inflight",
        type=click.IntRange(min=0),
        default=200,
        show_default=True,
        help="Writes at a time, 0 for no limit.",
    ),
    click.option(
        "--request-timeout",
        type=DURATION,
        default="1m0s",
        show_default=True,
        help="Time that a request may take, but a watch, a log or a session.",
    ),
    click.option(
        "--min-request-timeout",
        type=click.IntRange(min=1),
        default=1800,
        show_default=True,
        help="Seconds that a watch lasts at least if its client does not say; up to twice this, at random.",
    ),
    click.option(
        "--shutdown-delay-duration",
        type=DURATION,
        default="0s",
        show_default=True,
        help="How long to serve on at the end while /readyz fails already.",
    ),
    switch(
        "--shutdown-send-retry-after",
        default=False,
        show_default=True,
        help="Then tell clients to come again (429) until what is at work is finished, and only then stop listening.",
    ),
    click.option(
        "--livez-grace-period",
        type=DURATION,
        default="0s",
        show_default=True,
        help="How long /livez takes for started what is still starting.",
    ),
    switch("--enable-logs-handler", default=True, show_default=True, help="Show the files of /var/log at /logs."),
    switch("--profiling", default=True, show_default=True, help="Tell at /debug/pprof/ what the server is doing."),
    click.option("--cors-allowed-origins", default="", help="Origins of web pages that may ask, regular expressions."),
)


def read(flags: dict[str, Any]) -> dict[str, Any]:
    names = (flags["bind_address"], flags["advertise_address"])
    files = pair(flags, "tls_cert_file", "tls_private_key_file")
    cert_file, key_file = files or own_certificate(flags["cert_dir"], "apiserver", *names)
    return {
        "bind": [(flags["bind_address"], flags["secure_port"])],
        "advertise_address": flags["advertise_address"],
        "cert_file": cert_file,
        "key_file": key_file,
        "http2": not flags["disable_http2_serving"],
        "http2_max_streams": flags["http2_max_streams_per_connection"] or 250,
        "enable_priority_and_fairness": flags["enable_priority_and_fairness"],
        "max_requests_inflight": flags["max_requests_inflight"],
        "max_mutating_requests_inflight": flags["max_mutating_requests_inflight"],
        "request_timeout": flags["request_timeout"],
        "min_request_timeout": flags["min_request_timeout"],
        "shutdown_delay": flags["shutdown_delay_duration"],
        "shutdown_send_retry_after": flags["shutdown_send_retry_after"],
        "livez_grace": flags["livez_grace_period"],
        "profiling": flags["profiling"],
        "logs_handler": flags["enable_logs_handler"],
        "goaway_chance": flags["goaway_chance"],
        "cors_allowed_origins": _origins(flags["cors_allowed_origins"]),
    }


def _origins(text: str) -> tuple[str, ...]:
    from pinnace.apiserver.cors import check_pattern

    patterns = tuple(filter(None, text.split(",")))
    for pattern in patterns:
        why = check_pattern(pattern)
        if why:
            raise click.BadParameter(why, param_hint="--cors-allowed-origins")
    return patterns
