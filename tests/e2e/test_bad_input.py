"""Bad input: one clear line, the right exit code, nothing half-made."""

from __future__ import annotations

import json
import os
import socket
import subprocess
from pathlib import Path

import pytest

from tests.e2e.conftest import PINNACE, Cluster
from tests.e2e.test_pod_life import events

pytestmark = [pytest.mark.e2e, pytest.mark.root]


# Not root, but able to read this checkout wherever it is.
NOBODY = (
    "setpriv", "--reuid=65534", "--clear-groups", "--inh-caps=+dac_read_search", "--ambient-caps=+dac_read_search", "--"
)  # fmt: skip


def start(home: Path, *arguments: str, prefix: tuple[str, ...] = ()) -> subprocess.CompletedProcess[str]:
    environment = os.environ | {"PINNACE_HOME": str(home), "KUBECONFIG": str(home) + ".kubeconfig", "COLUMNS": "200"}
    return subprocess.run(
        [*prefix, PINNACE, "start", "-p", "bad", *arguments],
        capture_output=True, text=True, env=environment, timeout=120, check=False,
    )  # fmt: skip


def no_profile(home: Path) -> bool:
    return not (home / "profiles" / "bad").exists() and not Path(str(home) + ".kubeconfig").exists()


@pytest.mark.engine
def test_a_port_in_use(tmp_path: Path) -> None:
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))
        taken.listen()
        port = taken.getsockname()[1]

        result = start(tmp_path / "home", f"--apiserver-port={port}")

    assert result.returncode == 71
    assert f"Port {port} on 127.0.0.1 is in use by another program" in result.stderr
    assert "Traceback" not in result.stderr
    assert no_profile(tmp_path / "home")


@pytest.mark.engine
def test_no_root_and_no_users_of_ones_own(tmp_path: Path) -> None:
    os.chown(tmp_path, 65534, 65534)

    result = start(tmp_path / "home", prefix=NOBODY)

    assert result.returncode == 57
    assert "Without root the cluster cannot run: nobody has no 65536 subordinate user ids" in result.stderr
    assert no_profile(tmp_path / "home")


@pytest.mark.engine
def test_an_unwritable_home(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("")

    result = start(tmp_path / "file" / "home")

    assert result.returncode == 37
    assert f"{tmp_path / 'file'} is not a directory" in result.stderr


@pytest.mark.engine
def test_a_corrupt_profile(tmp_path: Path) -> None:
    directory = tmp_path / "profiles" / "bad"
    directory.mkdir(parents=True)
    (directory / "config.json").write_text("{")

    result = start(tmp_path)

    assert result.returncode == 38
    assert 'Profile "bad" is corrupt' in result.stderr
    assert "pinnace delete -p bad" in result.stderr


@pytest.mark.engine
@pytest.mark.parametrize("version", ["v1.20.0", "banana"])
def test_a_wrong_kubernetes_version(tmp_path: Path, version: str) -> None:
    result = start(tmp_path / "home", f"--kubernetes-version={version}")

    assert result.returncode == 106
    assert version in result.stderr
    assert no_profile(tmp_path / "home")


@pytest.mark.engine
def test_errors_are_events_for_machines(tmp_path: Path) -> None:
    result = start(tmp_path / "home", "--kubernetes-version=banana", "-o", "json")

    events = [json.loads(line) for line in result.stdout.splitlines()]
    assert events[-1]["type"] == "io.pinnace.error"
    assert events[-1]["data"]["exitcode"] == "106"
    assert events[-1]["data"]["name"] == "K8S_VERSION_UNSUPPORTED"


@pytest.mark.engine
def test_a_profile_that_is_not_there(cluster: Cluster) -> None:
    for command in ("status", "stop", "ip", "logs"):
        result = cluster._run([PINNACE, command, "-p", "nobody"], check=False, timeout=60)
        assert (result.returncode, 'Profile "nobody" not found' in result.stderr) == (85, True), command


def test_an_archive_that_is_none(cluster: Cluster, tmp_path: Path) -> None:
    (tmp_path / "image.tar").write_text("no archive")

    result = cluster.pinnace("image", "load", str(tmp_path / "image.tar"), check=False)
    missing = cluster.pinnace("image", "load", str(tmp_path / "nothing.tar"), check=False)

    assert result.returncode == 80
    assert "Traceback" not in result.stderr
    assert missing.returncode == 85


def test_an_image_that_does_not_exist(cluster: Cluster, namespace: str) -> None:
    cluster.kubectl("-n", namespace, "wait", "--for=create", "serviceaccount/default", "--timeout=30s")
    cluster.kubectl("-n", namespace, "run", "lost", "--image=127.0.0.1:1/no/such:image")
    cluster.kubectl(
        "-n", namespace, "wait", "pod/lost", "--timeout=120s",
        "--for=jsonpath={.status.containerStatuses[0].state.waiting.reason}=ImagePullBackOff",
    )  # fmt: skip

    events(cluster, namespace, "lost", "Failed", "Error: ErrImagePull")
    described = cluster.kubectl("-n", namespace, "describe", "pod", "lost").stdout
    assert 'Failed to pull image "127.0.0.1:1/no/such:image"' in described
    assert "Error: ErrImagePull" in described


@pytest.mark.engine
def test_malformed_yaml_to_the_api(cluster: Cluster) -> None:
    result = cluster.kubectl("apply", "-f", "-", stdin="apiVersion: v1\nkind: [Pod", check=False)

    assert result.returncode == 1
    assert "error parsing" in result.stderr


@pytest.mark.engine
def test_a_wrong_type_gets_kubernetes_own_words(cluster: Cluster) -> None:
    body = """
apiVersion: apps/v1
kind: Deployment
metadata: {name: x}
spec: {replicas: many, selector: {matchLabels: {a: b}}, template: {}}
"""
    result = cluster.kubectl("create", "--validate=false", "-f", "-", stdin=body, check=False)

    assert result.returncode == 1
    assert (
        'Deployment in version "v1" cannot be handled as a Deployment: json: cannot unmarshal string '
        "into Go struct field DeploymentSpec.spec.replicas of type int32" in result.stderr
    )


@pytest.mark.engine
def test_an_invalid_object_gets_kubernetes_own_words(cluster: Cluster) -> None:
    body = {"apiVersion": "v1", "kind": "Pod", "metadata": {"name": "Upper_Case"}, "spec": {"containers": []}}

    result = cluster.kubectl("create", "-f", "-", stdin=json.dumps(body), check=False)

    assert result.returncode == 1
    assert 'The Pod "Upper_Case" is invalid' in result.stderr
    assert "spec.containers: Required value" in result.stderr
    assert "a lowercase RFC 1123 subdomain must consist of" in result.stderr


@pytest.mark.engine
def test_an_unknown_field_is_refused(cluster: Cluster, namespace: str) -> None:
    body = {"apiVersion": "v1", "kind": "ConfigMap", "metadata": {"name": "x"}, "date": {}}

    result = cluster.kubectl("-n", namespace, "create", "-f", "-", stdin=json.dumps(body), check=False)

    assert result.returncode == 1
    assert 'strict decoding error: unknown field "date"' in result.stderr
