"""KubeletConfiguration: what is read, refused, merged, and left aside."""

from __future__ import annotations

import pytest

from pinnace.kubelet.configuration.reading import HEEDED, ConfigurationError, merge_drop_ins, read
from pinnace.kubelet.configuration.shape import SHAPE
from pinnace.kubelet.node.machine_info import Machine, has_swap
from pinnace.kubelet.node.status import capacity
from pinnace.kubelet.options import KubeletOptions

HEAD = {"apiVersion": "kubelet.config.k8s.io/v1beta1", "kind": "KubeletConfiguration"}
GI = 1 << 30


def test_every_field_that_is_heeded_is_one_of_kubernetes():
    assert {path.partition(".")[0] for path in HEEDED} <= SHAPE.keys()


def test_values_get_the_names_of_options():
    found, ignored = read(
        {
            **HEAD,
            "authentication": {"anonymous": {"enabled": False}, "webhook": {"enabled": True, "cacheTTL": "1m"}},
            "authorization": {"mode": "Webhook", "webhook": {"cacheAuthorizedTTL": "5m"}},
            "evictionHard": {"memory.available": "200Mi"},
            "evictionPressureTransitionPeriod": "30s",
            "shutdownGracePeriodByPodPriority": [{"priority": 10, "shutdownGracePeriodSeconds": 5}],
            "kubeReserved": {"cpu": "100m"},
            "staticPodURLHeader": {"Accept": ["a", "b"]},
            "cpuManagerPolicy": "static",
            "cpuCFSQuota": False,
            "seccompDefault": True,
            "nodeStatusMaxImages": -1,
            "notAField": 1,
        }
    )
    assert found["authentication_webhook"] is True
    assert found["authentication_cache_ttl"] == 60
    assert found["authorization_mode"] == "Webhook"
    assert found["eviction_hard"] == {"memory.available": "200Mi"}
    assert found["eviction_pressure_transition_period"] == 30
    assert found["shutdown_grace_period_by_pod_priority"] == [(10, 5)]
    assert found["kube_reserved"] == {"cpu": "100m"}
    assert found["manifest_url_header"] == {"Accept": ["a", "b"]}
    assert (found["cpu_cfs_quota"], found["seccomp_default"], found["node_status_max_images"]) == (False, True, -1)
    assert ignored == ["notAField"]


def test_defaults_of_evictions_are_kept_where_that_is_asked():
    asked = {"evictionHard": {"memory.available": "1Gi"}, "mergeDefaultEvictionSettings": True}
    found, _ = read({**HEAD, **asked})
    assert found["eviction_hard"]["memory.available"] == "1Gi"
    assert found["eviction_hard"]["nodefs.available"] == "10%"


@pytest.mark.parametrize(
    ("fields", "message"),
    [
        (
            {"maxPods": "many"},
            "failed to decode: json: cannot unmarshal string into Go struct field maxPods of type int32",
        ),
        ({"maxPods": -1}, "maxPods (--max-pods) -1 must not be a negative number"),
        ({"port": 0}, "port (--port) 0 must be between 1 and 65535, inclusive"),
        ({"readOnlyPort": 70000}, "readOnlyPort (--read-only-port) 70000 must be between 0 and 65535, inclusive"),
        ({"oomScoreAdj": 1001}, "oomScoreAdj (--oom-score-adj) 1001 must be between -1000 and 1000, inclusive"),
        (
            {"memoryThrottlingFactor": 1.5},
            "memoryThrottlingFactor 1.5 must be greater than 0 and less than or equal to 1.0",
        ),
        (
            {"memoryReservationPolicy": "All"},
            'memoryReservationPolicy "All" must be one of: "None" or "TieredReservation"',
        ),
        ({"nodeLeaseDurationSeconds": 0}, "nodeLeaseDurationSeconds must be greater than 0"),
        (
            {"imageGCHighThresholdPercent": 50, "imageGCLowThresholdPercent": 60},
            (
                "imageGCLowThresholdPercent (--image-gc-low-threshold) 60 must be less than "
                "imageGCHighThresholdPercent (--image-gc-high-threshold) 50"
            ),
        ),
        (
            {"imageGCHighThresholdPercent": 101},
            "imageGCHighThresholdPercent (--image-gc-high-threshold) 101 must be between 0 and 100, inclusive",
        ),
        ({"imageMaximumGCAge": "1m"}, "imageMaximumGCAge 1m must be greater than imageMinimumGCAge 2m"),
        ({"maxParallelImagePulls": 0}, "maxParallelImagePulls 0 must be a positive number"),
        (
            {"maxParallelImagePulls": 2, "serializeImagePulls": True},
            (
                "maxParallelImagePulls cannot be larger than 1 unless SerializeImagePulls (--serialize-image-pulls) "
                "set to false"
            ),
        ),
        (
            {"enforceNodeAllocatable": ["pods", "none"]},
            (
                "enforceNodeAllocatable (--enforce-node-allocatable) may not contain additional enforcements when "
                '"none" is specified'
            ),
        ),
        (
            {"enforceNodeAllocatable": ["kube-reserved"]},
            (
                'kubeReservedCgroup (--kube-reserved-cgroup) must be specified when "kube-reserved" or '
                '"kube-reserved-compressible" included in enforceNodeAllocatable (--enforce-node-allocatable)'
            ),
        ),
        (
            {"enforceNodeAllocatable": ["pods", "pods"]},
            'duplicated enforcements "pods" in enforceNodeAllocatable (--enforce-node-allocatable)',
        ),
        (
            {
                "enforceNodeAllocatable": ["system-reserved", "system-reserved-compressible"],
                "systemReservedCgroup": "/system.slice",
            },
            (
                'both "system-reserved" and "system-reserved-compressible" cannot be specified together in '
                "enforceNodeAllocatable (--enforce-node-allocatable)"
            ),
        ),
        (
            {"cgroupsPerQOS": False},
            (
                'cgroupsPerQOS (--cgroups-per-qos) must be set to true when "pods" contained in '
                "enforceNodeAllocatable (--enforce-node-allocatable)"
            ),
        ),
        (
            {"reservedSystemCPUs": "0-1", "kubeReservedCgroup": "/kube.slice"},
            (
                "can't use reservedSystemCPUs (--reserved-cpus) with systemReservedCgroup (--system-reserved-cgroup) "
                "or kubeReservedCgroup (--kube-reserved-cgroup)"
            ),
        ),
        ({"reservedSystemCPUs": "x"}, "unable to parse reservedSystemCPUs (--reserved-cpus) x, error: "),
        (
            {"enforceNodeAllocatable": ["some"]},
            (
                'option "some" specified for enforceNodeAllocatable (--enforce-node-allocatable). '
                'Valid options are "pods", "system-reserved", "system-reserved-compressible", "kube-reserved", '
                '"kube-reserved-compressible" or "none"'
            ),
        ),
        (
            {"shutdownGracePeriod": "10s", "shutdownGracePeriodCriticalPods": "20s"},
            "shutdownGracePeriodCriticalPods {20s} must be <= shutdownGracePeriod {10s}",
        ),
        (
            {"shutdownGracePeriod": "500ms"},
            "shutdownGracePeriod {500ms} must be either zero or otherwise >= 1 sec",
        ),
        (
            {
                "shutdownGracePeriod": "10s",
                "shutdownGracePeriodByPodPriority": [{"priority": 0, "shutdownGracePeriodSeconds": 1}],
            },
            "Cannot specify both shutdownGracePeriodByPodPriority and shutdownGracePeriod at the same time",
        ),
        (
            {"memorySwap": {"swapBehavior": "All"}},
            'memorySwap.swapBehavior "All" must be one of: "", "LimitedSwap" or "NoSwap"',
        ),
        (
            {"topologyManagerPolicy": "best"},
            (
                'topologyManagerPolicy (--topology-manager-policy) "best" must be one of: '
                '["none" "best-effort" "restricted" "single-numa-node"]'
            ),
        ),
        ({"evictionHard": {"mem": "1"}}, "unsupported eviction signal mem"),
        (
            {"evictionSoft": {"memory.available": "1Gi"}},
            "grace period must be specified for the soft eviction threshold memory.available",
        ),
        (
            {"imagePullCredentialsVerificationPolicy": "Sometimes"},
            (
                'option "Sometimes" specified for imagePullCredentialsVerificationPolicy. Valid options are '
                '"NeverVerify", "NeverVerifyPreloadedImages", "NeverVerifyAllowlistedImages" or "AlwaysVerify"'
            ),
        ),
        (
            {"preloadedImagesVerificationAllowlist": ["a"]},
            (
                "can't set `preloadedImagesVerificationAllowlist` if `imagePullCredentialsVertificationPolicy` is not "
                '"NeverVerifyAllowlistedImages"'
            ),
        ),
        (
            {
                "imagePullCredentialsVerificationPolicy": "NeverVerifyAllowlistedImages",
                "preloadedImagesVerificationAllowlist": ["reg.example/*", "a:1"],
            },
            (
                "invalid image pattern in `preloadedImagesVerificationAllowlist`: neither tag nor digest is accepted "
                "in an image reference: a:1"
            ),
        ),
        (
            {
                "imagePullCredentialsVerificationPolicy": "NeverVerify",
                "featureGates": {"KubeletEnsureSecretPulledImages": False},
            },
            (
                "`imagePullCredentialsVerificationPolicy` must not be set if KubeletEnsureSecretPulledImages "
                "feature gate is not enabled"
            ),
        ),
        ({"podLogsDir": "logs"}, 'pod logs path "logs" must be absolute path'),
    ],
)
def test_what_cannot_be_is_refused(fields, message):
    with pytest.raises(ConfigurationError) as refused:
        read({**HEAD, **fields})
    assert message in str(refused.value)


def test_all_that_is_wrong_is_told_at_once():
    with pytest.raises(ConfigurationError) as refused:
        read({**HEAD, "maxPods": -1, "port": 0})
    assert str(refused.value) == (
        "failed to validate kubelet configuration, error: "
        "[invalid configuration: port (--port) 0 must be between 1 and 65535, inclusive, "
        "invalid configuration: maxPods (--max-pods) -1 must not be a negative number]"
    )


def test_drop_ins_merge_maps_and_replace_lists():
    """The order of the files' names is that of their say."""
    document = {**HEAD, "maxPods": 10, "clusterDNS": ["10.0.0.1"], "evictionHard": {"memory.available": "1Gi"}}
    merged = merge_drop_ins(
        document,
        [
            ("10.conf", {**HEAD, "maxPods": 20, "clusterDNS": ["10.0.0.2"]}),
            ("20.conf", {**HEAD, "maxPods": 30, "evictionHard": {"nodefs.available": "5%"}}),
        ],
    )
    assert merged["maxPods"] == 30
    assert merged["clusterDNS"] == ["10.0.0.2"]
    assert merged["evictionHard"] == {"memory.available": "1Gi", "nodefs.available": "5%"}
    assert document["maxPods"] == 10


def test_a_drop_in_of_another_kind_is_refused():
    with pytest.raises(ConfigurationError, match=r"10\.conf: is not a KubeletConfiguration"):
        merge_drop_ins({}, [("10.conf", {"kind": "Pod"})])


# What pods get of the node.

MACHINE = Machine(
    architecture="amd64",
    cpus=4,
    memory=8 * GI,
    disk=100 * GI,
    huge_pages={"hugepages-2Mi": 0},
    kernel_version="",
    os_image="",
    machine_id="",
    system_uuid="",
    boot_id="",
)


@pytest.mark.parametrize(
    ("settings", "expected"),
    [
        ({}, {"cpu": "4", "memory": f"{8 * GI // 1024 - 100 * 1024}Ki", "pods": "110"}),
        ({"eviction_hard": {}}, {"memory": f"{8 * GI // 1024}Ki", "ephemeral-storage": str(100 * GI)}),
        (
            {
                "eviction_hard": {"nodefs.available": "10%"},
                "kube_reserved": {"cpu": "100m", "memory": "1Gi", "ephemeral-storage": "1Gi"},
                "system_reserved": {"cpu": "400m", "memory": "1Gi"},
            },
            {"cpu": "3500m", "memory": f"{6 * GI // 1024}Ki", "ephemeral-storage": str(89 * GI)},
        ),
        ({"kube_reserved": {"cpu": "1"}}, {"cpu": "3"}),
        ({"kube_reserved": {"cpu": "9", "memory": "90Gi"}}, {"cpu": "0", "memory": "0Ki"}),
        ({"pods_per_core": 10}, {"pods": "40"}),
        ({"pods_per_core": 100}, {"pods": "110"}),
    ],
)
def test_node_allocatable(settings, expected, tmp_path):
    """Capacity less what is reserved, and less what evictions keep free."""
    options = KubeletOptions(
        node_name="n", node_ips=["192.0.2.1"], root_dir=tmp_path, pod_logs_dir=tmp_path, **settings
    )
    has, gives = capacity(options, MACHINE)
    assert {name: gives[name] for name in expected} == expected
    assert has["memory"] == f"{8 * GI // 1024}Ki"


@pytest.mark.parametrize(
    ("text", "swap"),
    [
        ("", False),
        ("Filename\tType\tSize\tUsed\tPriority\n", False),
        ("Filename\tType\n/dev/sda2 partition 100 0 -2\n", True),
        ("Filename\tType\n/swap\\040(deleted) file 100 0 -2\n", False),
    ],
)
def test_swap(text, swap):
    assert has_swap(text) is swap
