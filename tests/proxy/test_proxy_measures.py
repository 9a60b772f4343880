"""How the proxy tells how it keeps up."""

from __future__ import annotations

import time
from datetime import UTC, datetime, timedelta

from prometheus_client.parser import text_string_to_metric_families

from pinnace.apis.resources import ENDPOINT_SLICES, SERVICES
from pinnace.machinery.meta import Obj
from pinnace.machinery.metrics import text
from pinnace.proxy.endpoints import Choice, Endpoint
from pinnace.proxy.measures import TRIGGER_TIME, Measures
from pinnace.proxy.services import ServicePort

PREFIX = "kubeproxy_sync_proxy_rules"


def told(measures: Measures) -> dict[str, float]:
    families = text_string_to_metric_families(text(measures.families))
    return {
        sample.name + "".join(sample.labels.values()): sample.value
        for family in families
        for sample in family.samples
        if not sample.name.endswith("_bucket")
    }


def piece(name: str, moment: datetime | None = None) -> Obj:
    annotations = {TRIGGER_TIME: moment.isoformat().replace("+00:00", "Z")} if moment else {}
    return {"metadata": {"name": name, "namespace": "default", "annotations": annotations}}


def test_changes_wait_until_the_kernel_has_them() -> None:
    measures = Measures()
    later = datetime.now(UTC) + timedelta(seconds=1)
    measures.changed(SERVICES, None, piece("a"))
    measures.changed(ENDPOINT_SLICES, None, piece("a-1", later))
    measures.changed(ENDPOINT_SLICES, piece("a-1", later), piece("a-1", later))  # the same change, seen again
    measures.changed(ENDPOINT_SLICES, None, piece("old", datetime.now(UTC) - timedelta(hours=1)))
    found = told(measures)
    assert (found[f"{PREFIX}_service_changes_total"], found[f"{PREFIX}_endpoint_changes_total"]) == (1, 3)
    assert (found[f"{PREFIX}_service_changes_pending"], found[f"{PREFIX}_endpoint_changes_pending"]) == (1, 2)

    measures.failed(measures.taken())
    triggers = measures.taken()
    measures.synced(0.01, triggers, [])
    found = told(measures)
    assert found["kubeproxy_network_programming_duration_seconds_count"] == 1
    assert (found[f"{PREFIX}_duration_seconds_count"], found[f"{PREFIX}_endpoint_changes_pending"]) == (1, 0)
    assert found[f"{PREFIX}_nftables_sync_failures_total"] == 1
    assert found[f"{PREFIX}_last_timestamp_seconds"] <= time.time()


def test_services_without_endpoints_here_are_counted() -> None:
    measures = Measures()
    port = ServicePort("default", "a", "", "tcp", "10.96.0.9", 80, external_local=True)
    measures.synced(0.01, [], [(port, Choice(cluster=(Endpoint("10.244.1.2", 80),)))])
    found = told(measures)
    assert found[f"{PREFIX}_no_local_endpoints_totalexternal"] == 1
    assert found[f"{PREFIX}_no_local_endpoints_totalinternal"] == 0
