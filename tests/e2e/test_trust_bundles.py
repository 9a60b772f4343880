"""ClusterTrustBundles as files of pods."""

from __future__ import annotations

import pytest

from tests.e2e.authority import Authority
from tests.e2e.conftest import Cluster
from tests.e2e.pods import SLEEP, Obj, container, pod
from tests.e2e.tables import Row, surprises
from tests.e2e.test_pod_life import create, events
from tests.e2e.test_volume_updates import shows

pytestmark = [pytest.mark.e2e, pytest.mark.root]


def projected(*sources: Obj) -> Obj:
    return {"projected": {"sources": [{"clusterTrustBundle": source} for source in sources]}}


def test_bundles_are_chosen_by_name_and_by_signer(cluster: Cluster, namespace: str) -> None:
    """Conformance: "Mounting a single ClusterTrustBundle", "Mounting multiple ClusterTrustBundles", "Mounting multiple
    ClusterTrustBundle volumes"
    """
    signer = "test.example.com/one"
    one, two, other = (Authority(name, signer) for name in ("one", "two", "other"))
    alone = Authority("alone")
    other.signer = "test.example.com/other"
    bundles = [
        alone.bundle("test.alone"),
        one.bundle("test.example.com:one:first", live="yes"),
        two.bundle("test.example.com:one:second", live="no"),
        other.bundle("test.example.com:other:first", live="yes"),
    ]

    def row(*authorities: Authority, **source: object) -> Row:
        says = sorted(authority.pem for authority in authorities)
        return Row(
            script="cat /v/ca.pem",
            says="".join(says).splitlines(),
            volumes={"v": projected({**source, "path": "ca.pem"})},
        )

    rows = {
        "name": row(alone, name="test.alone"),
        "all": row(one, two, signerName=signer, labelSelector={}),
        "labels": row(one, signerName=signer, labelSelector={"matchLabels": {"live": "yes"}}),
        "nothing": row(signerName=signer, labelSelector={"matchLabels": {"live": "maybe"}}, optional=True),
        "no-selector": row(signerName=signer, optional=True),
        "two-volumes": Row(
            script="cat /a/x /b/x",
            says=(alone.pem + other.pem).splitlines(),
            volumes={
                "a": projected({"name": "test.alone", "path": "x"}),
                "b": projected({"name": "test.example.com:other:first", "path": "x"}),
            },
        ),
    }
    try:
        assert surprises(cluster, namespace, rows, *bundles) == {}
    finally:
        cluster.kubectl("delete", "clustertrustbundles", *(bundle["metadata"]["name"] for bundle in bundles))


def test_pods_wait_for_bundles_that_are_missing(cluster: Cluster, namespace: str) -> None:
    """Conformance: "Failing to mount improperly defined ClusterTrustBundles" """
    missing: dict[str, tuple[Obj, str]] = {
        "absent": ({"name": "test.absent"}, 'clustertrustbundle.certificates.k8s.io "test.absent" not found'),
        "unmatched": (
            {"signerName": "test.example.com/nobody", "labelSelector": {}},
            "combination of signerName and labelSelector matched zero ClusterTrustBundles",
        ),
    }
    mounts = [{"name": "v", "mountPath": "/v"}]
    made = [
        pod(
            name,
            container("c", SLEEP, volumeMounts=mounts),
            volumes=[{"name": "v", **projected({**source, "path": "ca.pem", "optional": False})}],
        )
        for name, (source, _) in missing.items()
    ]
    create(cluster, namespace, *made)
    for name, (_, why) in missing.items():
        assert why in events(cluster, namespace, name, "FailedMount", why)
    authority = Authority("late")
    create(cluster, namespace, authority.bundle("test.absent"))
    try:
        cluster.kubectl("-n", namespace, "wait", "--for=condition=Ready", "pod/absent", "--timeout=60s")
        following = Authority("following")
        cluster.apply(following.bundle("test.absent"))
        wanted = {"/v/ca.pem": following.pem.replace("\n", "")}
        assert shows(cluster, namespace, "absent", wanted) == wanted
    finally:
        cluster.kubectl("delete", "clustertrustbundle", "test.absent")


def test_one_volume_holds_very_many_bundles(cluster: Cluster, namespace: str) -> None:
    """Conformance: "Mounting big number (>100) of ClusterTrustBundle volumes" """
    authority = Authority("many")
    names = [f"test.many-{number}" for number in range(101)]
    volume = projected(*({"name": name, "path": f"{name}.pem"} for name in names))
    rows = {"p": Row(script="cat /v/*.pem | grep -c BEGIN", says=["101"], volumes={"v": volume})}
    try:
        assert surprises(cluster, namespace, rows, *(authority.bundle(name, many="yes") for name in names)) == {}
    finally:  # in one request: kubectl holds itself to a few a second
        cluster.kubectl("delete", "--raw", "/apis/certificates.k8s.io/v1/clustertrustbundles?labelSelector=many%3Dyes")
