"""The KubeletConfiguration that a kubelet works with, as its /configz shows it (kubelet.config.k8s.io/v1beta1).

Pure. https://kubernetes.io/docs/reference/config-api/kubelet-config.v1beta1/.
"""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

from pinnace.kubelet.configuration.reading import FIELDS
from pinnace.kubelet.options import KubeletOptions
from pinnace.machinery.duration import go_duration
from pinnace.machinery.meta import Obj
from pinnace.machinery.quantity import Quantity


def configuration(options: KubeletOptions) -> Obj:
    """What the options say, in the words of the API."""
    found: Obj = {}
    for path, (name, _) in FIELDS.items():
        value = getattr(options, name, None)
        if value is not None:
            _put(found, path, _written(path, value))
    return found


def _put(document: Obj, path: str, value: Any) -> None:
    *above, last = path.split(".")
    for name in above:
        document = document.setdefault(name, {})
    document[last] = value


def _written(path: str, value: Any) -> Any:
    if isinstance(value, float):
        return go_duration(value)
    if path == "containerLogMaxSize":
        return str(Quantity.parse(f"{value // 1024}Ki"))
    if isinstance(value, Mapping):
        return dict(value)
    if isinstance(value, list | tuple):
        return list(value)
    return str(value) if isinstance(value, Path) else value
