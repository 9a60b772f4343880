"""/metrics: what the server counts, in the Prometheus text format.

Counting is a dictionary increment on the request path; names and labels are kube-apiserver's
(https://kubernetes.io/docs/reference/instrumentation/metrics/).
"""

from __future__ import annotations

from collections import Counter
from typing import NamedTuple

from pinnace.apiserver.exchange import Exchange
from pinnace.apiserver.storage import Storage


class Seen(NamedTuple):
    """The labels of one counted request."""

    verb: str
    group: str
    version: str
    resource: str
    subresource: str
    scope: str
    code: int


class Metrics:
    def __init__(self) -> None:
        self.requests: Counter[Seen] = Counter()

    def answered(self, exchange: Exchange, status: int) -> None:
        """Count a request that is answered; of a watch or a stream, that it began."""
        info = exchange.info
        scope = "resource" if info.name else "namespace" if info.namespace else "cluster"
        self.requests[
            Seen(info.verb.upper(), info.group, info.version, info.resource, info.subresource, scope, status)
        ] += 1

    def text(self, storage: Storage) -> bytes:
        lines = [
            "# HELP apiserver_request_total Counter of apiserver requests broken out for each verb, resource and code.",
            "# TYPE apiserver_request_total counter",
        ]
        for seen, count in sorted(self.requests.items()):
            labels = (
                f'code="{seen.code}",component="apiserver",dry_run="",group="{seen.group}",resource="{seen.resource}",'
                f'scope="{seen.scope}",subresource="{seen.subresource}",verb="{seen.verb}",version="{seen.version}"'
            )
            lines.append(f"apiserver_request_total{{{labels}}} {count}")
        lines += [
            "# HELP apiserver_storage_objects Number of stored objects at the time of last check.",
            "# TYPE apiserver_storage_objects gauge",
        ]
        caches = sorted(storage.caches.values(), key=lambda cache: cache.prefix)
        lines += [
            f'apiserver_storage_objects{{resource="{cache.kind.qualified}"}} {len(cache.objects)}' for cache in caches
        ]
        lines += [
            "# HELP apiserver_registered_watchers Number of currently registered watchers for a given resource.",
            "# TYPE apiserver_registered_watchers gauge",
        ]
        lines += [
            f'apiserver_registered_watchers{{group="{cache.kind.group}",kind="{cache.kind.kind}",'
            f'version="{cache.kind.version}"}} {cache.watcher_count}'
            for cache in caches
            if cache.watcher_count
        ]
        return ("\n".join(lines) + "\n").encode()
