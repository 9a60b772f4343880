"""Exec, attach and port-forward as servers speak them: the way in for the kubelet and the runtime.

`remote_command` and `port_forward` answer an upgrade request in whichever protocol the client asked for (WebSocket or
SPDY/3.1) and give the caller plain streams. Specified by KEP-4006 (WebSockets) and
https://kubernetes.io/docs/reference/kubernetes-api/workload-resources/pod-v1/ (connect exec, attach, portforward).
"""

from __future__ import annotations

from pinnace.wire.port_forward import Dial, port_forward
from pinnace.wire.remote_command import ExitStatus, RemoteSession, RemoteStreams, remote_command

__all__ = ["Dial", "ExitStatus", "RemoteSession", "RemoteStreams", "port_forward", "remote_command"]
