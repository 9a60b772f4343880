"""What an API server is told at its start: the flags of kube-apiserver that Pinnace serves, as data.

Flag names and meanings: https://kubernetes.io/docs/reference/command-line-tools-reference/kube-apiserver/.
"""

from __future__ import annotations

import socket
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path

from pinnace.apis.runtime_config import RuntimeConfig
from pinnace.apiserver.audit.options import AuditOptions
from pinnace.apiserver.authentication.flags import OidcFlags


@dataclass(slots=True, kw_only=True)
class Options:
    """Paths are of PEM files; every one may be left out where the feature is not wanted."""

    bind: list[tuple[str, int]] = field(default_factory=lambda: [("127.0.0.1", 6443)])
    sockets: Sequence[socket.socket] = ()  # listening already, besides `bind`: of a supervisor that outlives us
    cert_file: Path | None = None  # the serving certificate; without it the server speaks plain HTTP (tests)
    key_file: Path | None = None
    client_ca_file: Path | None = None  # who signs client certificates
    token_auth_file: Path | None = None  # CSV: token,user,uid,"group1,group2"
    anonymous_auth: bool = True
    oidc: OidcFlags | None = None
    authentication_config: Path | None = None  # AuthenticationConfiguration: issuers of tokens, who may be anonymous
    authentication_token_webhook_config_file: Path | None = None  # kubeconfig of who knows further tokens
    authentication_token_webhook_cache_ttl: float = 120.0  # seconds
    authentication_token_webhook_version: str = "v1beta1"
    enable_bootstrap_token_auth: bool = False
    authorization_modes: tuple[str, ...] = ("AlwaysAllow",)  # in the order they are asked: Node, RBAC, AlwaysDeny, …

    authorization_config: Path | None = None  # AuthorizationConfiguration, instead of the modes
    authorization_policy_file: Path | None = None  # of ABAC, JSON lines
    authorization_webhook_config_file: Path | None = None  # kubeconfig of who decides in the mode Webhook
    authorization_webhook_version: str = "v1beta1"
    authorization_webhook_cache_authorized_ttl: float = 300.0  # seconds
    authorization_webhook_cache_unauthorized_ttl: float = 30.0

    audit: AuditOptions = field(default_factory=AuditOptions)

    enable_admission_plugins: tuple[str, ...] = ()  # besides those that are on by default
    disable_admission_plugins: tuple[str, ...] = ()
    admission_control_config_file: Path | None = None  # AdmissionConfiguration: what some of them are to know

    service_account_signing_key_file: Path | None = None
    service_account_key_files: tuple[Path, ...] = ()  # further keys that tokens are verified with
    service_account_issuer: str = "https://kubernetes.default.svc.cluster.local"
    more_service_account_issuers: tuple[str, ...] = ()  # whose tokens hold too
    service_account_lookup: bool = True  # whether a token holds only while its account is there
    service_account_extend_token_expiration: bool = True  # tokens of pods are good for a year, and noted after an hour
    api_audiences: tuple[str, ...] = ()  # the issuers when empty
    service_account_max_token_expiration: int = 0  # seconds, 0 for no limit

    service_cluster_ip_range: str = "10.96.0.0/12"
    service_node_port_range: tuple[int, int] = (30000, 32767)  # both inclusive
    advertise_address: str = ""  # what Endpoints `kubernetes` says; the first bind address when empty
    advertise_port: int = 0  # the port really bound when 0

    proxy_client_cert_file: Path | None = None  # what registered API servers know us by
    proxy_client_key_file: Path | None = None
    requestheader_client_ca_file: Path | None = None  # who signs the certificates of front proxies that we believe
    requestheader_allowed_names: tuple[str, ...] = ()  # common names of theirs; any when empty
    requestheader_username_headers: tuple[str, ...] = ("X-Remote-User",)  # where they say who asks
    requestheader_uid_headers: tuple[str, ...] = ("X-Remote-Uid",)
    requestheader_group_headers: tuple[str, ...] = ("X-Remote-Group",)
    requestheader_extra_headers_prefix: tuple[str, ...] = ("X-Remote-Extra-",)

    kubelet_client_certificate: Path | None = None
    kubelet_client_key: Path | None = None
    kubelet_certificate_authority: Path | None = None  # without it kubelets' certificates are not verified
    kubelet_preferred_address_types: tuple[str, ...] = (
        "InternalIP",
        "Hostname",
        "InternalDNS",
        "ExternalDNS",
        "ExternalIP",
    )

    allow_privileged: bool = True  # whether pods may have privileged containers
    feature_gates: Mapping[str, bool] = field(default_factory=dict)  # what --feature-gates says
    minor: int | None = None  # which Kubernetes 1.<minor> to be; the newest when None
    runtime_config: RuntimeConfig = field(default_factory=RuntimeConfig)  # which versions to serve
    max_request_body: int = 3 << 20
    http2: bool = True
    enable_priority_and_fairness: bool = True
    max_requests_inflight: int = 400  # reads at a time; with priority and fairness seats, together with the next
    max_mutating_requests_inflight: int = 200
    request_timeout: float = 60.0  # seconds that a request may take, but a watch, a log or a session
    min_request_timeout: int = 1800  # seconds that a watch lasts at least, where its client does not say
    http2_max_streams: int = 250  # of one connection at a time
    goaway_chance: float = 0.0  # that a request's HTTP/2 connection is asked to go away, to spread load over servers
    cors_allowed_origins: tuple[str, ...] = ()  # regular expressions of origins that browsers may ask from
    compaction_interval: float = 300.0  # seconds of history that the store keeps at least; 0 for ever
    event_ttl: float = 3600.0  # seconds that an event is kept after its last write
    shutdown_delay: float = 0.0  # seconds that a server which ends still serves, no longer ready
    shutdown_send_retry_after: bool = False  # whether it then refuses with 429 until what is at work is finished
    profiling: bool = True  # whether /debug/pprof/ and /debug/flags/v are there
    logs_handler: bool = True  # whether /logs is there
    flags: Mapping[str, str] = field(default_factory=dict)  # as they were given or are by default, for /flagz
    livez_grace: float = 0.0  # seconds after the start that /livez takes what starts for started
    bookmark_interval: float = 60.0  # seconds between a watch's bookmarks

    @property
    def issuers(self) -> tuple[str, ...]:
        """Of service account tokens that hold, the one of those made here first."""
        return self.service_account_issuer, *self.more_service_account_issuers

    @property
    def audiences(self) -> tuple[str, ...]:
        """Whom a token is for that is for this server."""
        return self.api_audiences or self.issuers
