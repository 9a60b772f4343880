"""Where a node's pods come from, as one stream of wishes to the workers: the API server, a directory of files, a URL.

Pods of files and of the URL run whether or not the API server can be reached; in the API each has a mirror. Specified
by https://kubernetes.io/docs/tasks/configure-pod-container/static-pod/.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Coroutine

from pinnace.client.informer import Informer
from pinnace.kubelet.context import Node
from pinnace.kubelet.pods import is_mirror, is_static
from pinnace.kubelet.sources.mirrors import Mirrors
from pinnace.kubelet.sources.static_pods import StaticPods, UrlPods
from pinnace.kubelet.sync.pod_workers import PodWorkers
from pinnace.machinery.meta import Obj, key_of, uid_of


def api_object(pods: Informer, pod: Obj) -> Obj | None:
    """The API's object of a pod: a static pod's is its mirror."""
    found = pods.store.get(key_of(pod))
    if is_static(pod):
        return found if found is not None and is_mirror(found) else None
    if found is not None and uid_of(found) == uid_of(pod):
        return found
    return pod


class PodSources:
    """All sources of one node; `pods` are the API's."""

    def __init__(self, node: Node, pods: Informer, workers: PodWorkers) -> None:
        options = node.options
        self._node = node
        self._pods = pods
        self._workers = workers
        self._static: StaticPods | None = None
        if options.manifest_dir is not None:
            self._static = StaticPods(
                options.manifest_dir, options.node_name, self._static_changed, options.file_check_frequency
            )
        self._url: UrlPods | None = None
        if options.manifest_url:
            headers, period = options.manifest_url_header, options.http_check_frequency
            self._url = UrlPods(options.manifest_url, headers, options.node_name, self._static_changed, period)
        self._mirrors = Mirrors(node.client, self._mirror_pods, node.node_object)
        self._mirrors_due = asyncio.Event()

    def loops(self) -> list[tuple[str, Callable[[], Coroutine[None, None, None]]]]:
        """What must run beside `follow_api`."""
        found: list[tuple[str, Callable[[], Coroutine[None, None, None]]]] = [("mirrors", self._keep_mirrors)]
        if self._static is not None:
            found.append(("static pods", self._static.run))
        if self._url is not None:
            found.append(("static pods of a URL", self._url.run))
        return found

    def read_files(self) -> None:
        """Take in what the directory has now."""
        if self._static is not None:
            self._static.read()

    def follow_api(self) -> None:
        """Take in the API's pods from now on."""
        self._pods.add_handler(self._added, lambda _old, new: self._added(new), self._deleted)

    async def all_seen(self) -> None:
        """Wait until the URL has been answered; before that, what it wishes for would seem to be nobody's."""
        if self._url is not None:
            await self._url.seen.wait()

    def _added(self, pod: Obj) -> None:
        if is_mirror(pod):
            self._mirrors_due.set()
            for worker in self._workers.values():
                if key_of(worker.pod) == key_of(pod):
                    self._node.statuses.retry(worker.pod)
            return
        self._workers.want(pod)

    def _deleted(self, pod: Obj) -> None:
        if is_mirror(pod):
            self._mirrors_due.set()
        else:
            self._workers.unwant(uid_of(pod))

    def _static_pods(self) -> dict[str, Obj]:
        """Those of the directory and of the URL, by UID."""
        return {uid: pod for source in (self._static, self._url) if source for uid, pod in source.pods.items()}

    def _static_changed(self) -> None:
        wanted = self._static_pods()
        for uid, pod in wanted.items():
            if uid not in self._workers:
                self._workers.start(pod)
        for uid, worker in self._workers.items():
            if is_static(worker.pod) and uid not in wanted:
                worker.remove()
        self._mirrors_due.set()

    def _mirror_pods(self) -> list[Obj]:
        return [pod for pod in self._pods.store.list() if is_mirror(pod)]

    async def _keep_mirrors(self) -> None:
        await self._pods.wait_synced()
        while True:
            self._mirrors_due.clear()
            await self._mirrors.reconcile(self._static_pods())
            try:
                async with asyncio.timeout(self._node.options.sync_frequency):
                    await self._mirrors_due.wait()
            except TimeoutError:
                continue
