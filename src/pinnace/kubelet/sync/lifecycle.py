"""postStart and preStop hooks: a command in the container, an HTTP request to it, or a pause.

Specified by https://kubernetes.io/docs/concepts/containers/container-lifecycle-hooks/.
"""

from __future__ import annotations

import asyncio

from pinnace.cri.api import CriError, RuntimeService
from pinnace.kubelet.go_words import rpc_error
from pinnace.kubelet.probes.checks import ProbeError, check_http, headers_of, http_target
from pinnace.kubelet.statistics import measures
from pinnace.machinery.meta import Obj

HTTP_TIMEOUT = 30.0


class HookError(Exception):
    """The hook failed; the message is for the log and the container's waiting state."""


async def run_hook(hook: Obj, container: Obj, container_id: str, address: str, runtime: RuntimeService) -> None:
    """Run a hook to its end. Raises HookError."""
    if hook.get("exec"):
        command = hook["exec"].get("command") or []
        await _run_command(command, container["name"], container_id, runtime)
    elif hook.get("httpGet"):
        await _ask(hook["httpGet"], container, address)
    elif hook.get("sleep"):
        try:
            await asyncio.sleep(float(hook["sleep"].get("seconds") or 0))
        except asyncio.CancelledError:
            measures.sleeps_cut_short.inc()
            raise
    elif hook.get("tcpSocket"):
        raise HookError("Handlers of type TCPSocket are not supported")
    else:
        raise HookError("invalid handler")


async def _run_command(command: list[str], name: str, container_id: str, runtime: RuntimeService) -> None:
    try:
        response = await runtime.exec_sync(container_id, command)
    except CriError as error:
        raise HookError(f"Exec lifecycle hook ({command}) for Container {name!r} failed: {rpc_error(error)}") from error
    if response.exit_code != 0:
        said = (response.stdout + response.stderr).decode(errors="replace")
        raise HookError(f"command '{' '.join(command)}' exited with {response.exit_code}: {said}")


async def _ask(action: Obj, container: Obj, address: str) -> None:
    try:
        url = http_target({"port": 80, **action}, container, address)
        result = await check_http(url, headers_of(action), HTTP_TIMEOUT)
    except ProbeError as error:
        raise HookError(str(error)) from error
    if not result.ok and not result.output.startswith("HTTP probe failed with statuscode"):
        raise HookError(result.output)  # any answer at all counts as having run the hook
