"""A Kubernetes control plane for tests: API server, controllers and scheduler, ready in half a second, without root.

`Cluster` starts one inside the process or beside it; `pytest_plugin` offers it as fixtures. Any client reaches it
through its kubeconfig. docs/testing.md is the guide.
"""

from pinnace.machinery.errors import ApiError
from pinnace.testing.api import Api
from pinnace.testing.cluster import Cluster
from pinnace.testing.webhooks import Webhook, pointed_at

__all__ = ["Api", "ApiError", "Cluster", "Webhook", "pointed_at"]
