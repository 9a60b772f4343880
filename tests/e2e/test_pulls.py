"""Images come from a registry by the distribution spec: a pod's, and those `pinnace image pull` fetches."""

from __future__ import annotations

import json
import time
from collections.abc import Iterator

import pytest

from tests.cri.engine.images.conftest import copy_to_registry, running_registry
from tests.e2e.conftest import Cluster
from tests.e2e.pods import SLEEP, container, pod
from tests.e2e.test_pod_life import WAITING, create, events, wait
from tests.support.images import busybox_archive

pytestmark = [pytest.mark.e2e, pytest.mark.root]


@pytest.fixture(scope="module")
def registry(tmp_path_factory: pytest.TempPathFactory) -> Iterator[str]:
    """`host:port` of a registry on loopback that has the image `team/tool:1`."""
    directory = tmp_path_factory.mktemp("registry")
    archive = busybox_archive(directory / "tool.tar", "team/tool:1", command=("true",))  # its id is no other's
    with running_registry(directory) as address:
        copy_to_registry(archive, f"{address}/team/tool:1")
        yield address


def test_a_pod_pulls_its_image_and_says_so(cluster: Cluster, namespace: str, registry: str) -> None:
    image = f"{registry}/team/tool:1"
    cluster.kubectl("-n", namespace, "wait", "--for=create", "serviceaccount/default", "--timeout=30s")
    cluster.kubectl("-n", namespace, "run", "puller", f"--image={image}", "--restart=Never", "--", "echo", "pulled")
    cluster.kubectl("-n", namespace, "wait", "pod/puller", "--for=jsonpath={.status.phase}=Succeeded", "--timeout=120s")

    told = events(cluster, namespace, "puller", "Pulled")
    status = cluster.json("-n", namespace, "get", "pod", "puller")["status"]["containerStatuses"][0]
    assert cluster.kubectl("-n", namespace, "logs", "puller").stdout == "pulled\n"
    assert told.startswith(f'Successfully pulled image "{image}" in ')
    assert status["image"] == image
    assert status["imageID"].startswith(f"{registry}/team/tool@sha256:")


def test_image_pull_lists_and_removes(cluster: Cluster, registry: str) -> None:
    image = f"{registry}/team/tool:1"
    cluster.pinnace("image", "rm", image, check=False)

    cluster.pinnace("image", "pull", image)
    listed = cluster.pinnace("image", "ls").stdout.splitlines()
    details = json.loads(cluster.pinnace("image", "ls", "--format", "json").stdout)
    cluster.pinnace("image", "rm", image)

    assert image in listed
    digests = [digest for entry in details for digest in entry["repoDigests"]]
    assert any(digest.startswith(f"{registry}/team/tool@sha256:") for digest in digests)
    assert image not in cluster.pinnace("image", "ls").stdout.splitlines()


def test_an_image_the_registry_does_not_have(cluster: Cluster, registry: str) -> None:
    result = cluster.pinnace("image", "pull", f"{registry}/team/nothing:1", check=False)

    assert result.returncode == 85
    assert f"{registry}/team/nothing:1" in result.stderr
    assert "not found" in result.stderr


def wait_unless_refused(cluster: Cluster, namespace: str, name: str) -> None:
    """Until the runtime has been asked for a container with an image volume; skips where it knows no such thing."""
    deadline = time.monotonic() + 60
    while time.monotonic() < deadline:
        for status in cluster.json("-n", namespace, "get", "pod", name)["status"].get("containerStatuses", ()):
            waiting = status["state"].get("waiting", {})
            if cluster.runtime != "engine" and waiting.get("reason") == "CreateContainerError":
                pytest.skip(f"the container runtime knows no image volumes: {waiting['message']}")
            if waiting.get("reason") != "ContainerCreating":
                return


def test_an_image_is_a_volume(cluster: Cluster, namespace: str, registry: str) -> None:
    """Conformance: "Image Volume" """
    image = f"{registry}/team/tool:1"
    mounts = [{"name": "v", "mountPath": "/v"}]
    volume = {"name": "v", "image": {"reference": image, "pullPolicy": "Always"}}
    create(cluster, namespace, pod("p", container("c", SLEEP, volumeMounts=mounts), volumes=[volume]))
    wait_unless_refused(cluster, namespace, "p")
    cluster.kubectl("-n", namespace, "wait", "--for=condition=Ready", "pod/p", "--timeout=60s")
    told = f'Successfully pulled image "{image}"'
    assert told in events(cluster, namespace, "p", "Pulled", told)
    [status] = cluster.json("-n", namespace, "get", "pod", "p")["status"]["containerStatuses"]
    assert status["volumeMounts"][0]["volumeStatus"]["image"]["imageRef"].startswith("sha256:")
    told = cluster.kubectl("-n", namespace, "exec", "p", "--", "sh", "-c", "cat /v/etc/passwd").stdout
    assert told.splitlines()[0] == "root:x:0:0:root:/root:/bin/sh"
    assert cluster.kubectl("-n", namespace, "exec", "p", "--", "/v/bin/busybox", "echo", "runs").stdout == "runs\n"
    refused = cluster.kubectl("-n", namespace, "exec", "p", "--", "touch", "/v/x", check=False)
    assert refused.returncode != 0
    assert "Read-only file system" in refused.stderr


def test_a_part_of_an_image_is_a_volume(cluster: Cluster, namespace: str, registry: str) -> None:
    cluster.need_release(2, 2, "parts of image volumes")
    volume = {"name": "v", "image": {"reference": f"{registry}/team/tool:1"}}
    mounts = {part: [{"name": "v", "mountPath": "/part", "subPath": part}] for part in ("etc", "no/such")}
    create(
        cluster,
        namespace,
        pod("there", container("c", SLEEP, volumeMounts=mounts["etc"]), volumes=[volume]),
        pod("missing", container("c", SLEEP, volumeMounts=mounts["no/such"]), volumes=[volume]),
    )
    cluster.kubectl("-n", namespace, "wait", "--for=condition=Ready", "pod/there", "--timeout=60s")
    listed = cluster.kubectl("-n", namespace, "exec", "there", "--", "ls", "/part").stdout
    assert {"group", "passwd"} <= set(listed.splitlines())
    wait(cluster, namespace, "pod/missing", WAITING, "ImageVolumeMountFailed")


def test_an_image_that_cannot_be_had_is_no_volume(cluster: Cluster, namespace: str, registry: str) -> None:
    nothing = f"{registry}/team/nothing:1"
    main = container("c", SLEEP, volumeMounts=[{"name": "v", "mountPath": "/v"}])
    create(cluster, namespace, pod("none", main, volumes=[{"name": "v", "image": {"reference": nothing}}]))
    wait(cluster, namespace, "pod/none", WAITING, "ImagePullBackOff")
    told = f'Failed to pull image "{nothing}"'
    assert told in events(cluster, namespace, "none", "Failed", told)
