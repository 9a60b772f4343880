"""What the audit log counts of itself, as kube-apiserver names it.

https://kubernetes.io/docs/reference/instrumentation/metrics/.
"""

from __future__ import annotations

from pinnace.apiserver.audit.auditor import Auditor
from pinnace.machinery.metrics import Collected, Family


def families(auditor: Auditor) -> list[Family]:
    return [
        Collected(
            "counter",
            "apiserver_audit_event_total",
            "Counter of audit events generated and sent to the audit backend.",
            (),
            lambda: [((), auditor.events)],
        ),
        Collected(
            "counter",
            "apiserver_audit_error_total",
            "Counter of audit events that failed to be audited properly. "
            "Plugin identifies the plugin affected by the error.",
            ("plugin",),
            lambda: [((backend.name,), backend.lost) for backend in auditor.backends if backend.lost],
        ),
        Collected(
            "counter",
            "apiserver_audit_level_total",
            "Counter of policy levels for audit events (1 per request).",
            ("level",),
            lambda: [((level,), count) for level, count in sorted(auditor.levels.items())],
        ),
        Collected(
            "counter",
            "apiserver_audit_requests_rejected_total",
            "Counter of apiserver requests rejected due to an error in audit logging backend.",
            (),
            lambda: [((), auditor.rejected)],
        ),
    ]
