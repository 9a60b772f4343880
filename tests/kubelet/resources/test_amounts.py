"""Shares, quotas and limits from requests and limits, and where a pod's cgroup is."""

from __future__ import annotations

from hypothesis import given
from hypothesis import strategies as st

from pinnace.kubelet.resources.amounts import cgroup_parent, container_resources, cpu_quota, cpu_shares
from tests.kubelet.pods import both, pod


def test_systemd_has_a_slice_for_every_step_to_a_pods_cgroup() -> None:
    one = pod({})
    named = {**one, "metadata": {**one["metadata"], "uid": "ab-cd"}}

    assert cgroup_parent(named, "", "systemd") == (
        "/kubepods.slice/kubepods-besteffort.slice/kubepods-besteffort-podab_cd.slice"
    )


def test_container_resources():
    burst = pod({"requests": {"cpu": "250m", "memory": "1Gi"}, "limits": {"cpu": "500m", "memory": "2Gi"}})
    found = container_resources(burst, burst["spec"]["containers"][0], 4 << 30)
    assert (found.cpu_shares, found.cpu_quota, found.cpu_period) == (256, 50_000, 100_000)
    assert found.memory_limit_in_bytes == 2 << 30
    free = container_resources(burst, burst["spec"]["containers"][0], 4 << 30, quotas=False)
    assert (free.cpu_shares, free.cpu_quota, free.cpu_period) == (256, 0, 0)
    assert found.oom_score_adj == 750
    for resources, score in (([both(cpu="1", memory="1Gi")], -997), ([{}], 1000)):
        one = pod(*resources)
        assert container_resources(one, one["spec"]["containers"][0], 4 << 30).oom_score_adj == score


@given(st.integers(0, 1_000_000))
def test_shares_and_quota_stay_in_bounds(milli):
    assert 2 <= cpu_shares(milli) <= 262_144
    assert cpu_quota(milli) == 0 or cpu_quota(milli) >= 1000
