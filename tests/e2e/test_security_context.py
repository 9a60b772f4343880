"""What a container may do to the machine."""

from __future__ import annotations

import pytest

from tests.e2e.conftest import Cluster
from tests.e2e.tables import Row, surprises

pytestmark = [pytest.mark.e2e, pytest.mark.root]


def test_only_privileged_containers_change_links(cluster: Cluster, namespace: str) -> None:
    """Conformance: "Security Context, privileged=false." """
    script = "ip link add br9 type bridge 2>/dev/null && echo made || echo refused"
    rows = {
        "default": Row(script=script, says=["refused"]),
        "unprivileged": Row(script=script, says=["refused"], container={"securityContext": {"privileged": False}}),
        "privileged": Row(script=script, says=["made"], container={"securityContext": {"privileged": True}}),
    }
    assert surprises(cluster, namespace, rows) == {}
