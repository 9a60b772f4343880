"""Pods for the tests of a real cluster, in as few words as they need."""

from __future__ import annotations

from typing import Any

Obj = dict[str, Any]
IMAGE = "busybox:1.36"


def container(name: str, script: str, **more: Any) -> Obj:
    return {"name": name, "image": IMAGE, "command": ["sh", "-c", script], **more}


def pod(name: str, *containers: Obj, labels: dict[str, str] | None = None, **spec: Any) -> Obj:
    """A pod that is gone at once when deleted, unless told otherwise."""
    return {
        "apiVersion": "v1",
        "kind": "Pod",
        "metadata": {"name": name, "labels": labels or {}},
        "spec": {"terminationGracePeriodSeconds": 0, "containers": list(containers), **spec},
    }


SLEEP = "sleep 1000"
