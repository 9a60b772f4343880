"""How long the node took to start: from the machine's boot to the kubelet's, to its registration, to its readiness."""

from __future__ import annotations

import time

from pinnace.kubelet.statistics.measures import startup


class NodeStartup:
    """Moments of one node's start; each counts once. They are seconds since the machine's boot."""

    def __init__(self) -> None:
        self._began = time.clock_gettime(time.CLOCK_BOOTTIME)
        self._registering = 0.0
        self._registered = 0.0
        self._ready = False
        startup["pre_kubelet_"].set(self._began)

    def registering(self) -> None:
        """The node is about to be registered."""
        self._registering = time.clock_gettime(time.CLOCK_BOOTTIME)
        startup["pre_registration_"].set(self._registering - self._began)

    def registered(self) -> None:
        """The API has the node."""
        self._registered = time.clock_gettime(time.CLOCK_BOOTTIME)
        startup["registration_"].set(self._registered - self._registering)

    def ready(self) -> None:
        """The node is ready."""
        if not self._ready:
            self._ready = True
            now = time.clock_gettime(time.CLOCK_BOOTTIME)
            startup["post_registration_"].set(now - self._registered)
            startup[""].set(now)
