"""A Kubernetes control plane for tests: API server, controllers and scheduler, ready in half a second, without root.

`Cluster` starts one inside the process or beside it; `pytest_plugin` offers it as fixtures. Any client reaches it
through its kubeconfig. docs/testing.md is the guide. Names are imported when they are used: pytest loads the plugin
in every project that has Pinnace installed.
"""

from importlib import import_module
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from pinnace.machinery.errors import ApiError
    from pinnace.testing.api import Api, Watch
    from pinnace.testing.cluster import Cluster
    from pinnace.testing.webhooks import Webhook, pointed_at

__all__ = ["Api", "ApiError", "Cluster", "Watch", "Webhook", "pointed_at"]

_MODULES = {
    "Api": "pinnace.testing.api",
    "ApiError": "pinnace.machinery.errors",
    "Cluster": "pinnace.testing.cluster",
    "Watch": "pinnace.testing.api",
    "Webhook": "pinnace.testing.webhooks",
    "pointed_at": "pinnace.testing.webhooks",
}


def __getattr__(name: str) -> Any:
    if name not in _MODULES:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    return getattr(import_module(_MODULES[name]), name)
