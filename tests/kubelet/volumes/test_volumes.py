"""Volumes on the machine itself: files as containers would see them, and nothing left afterwards."""

from __future__ import annotations

import base64
import os
import stat
from pathlib import Path
from typing import Any

import pytest
from cryptography import x509
from cryptography.hazmat.primitives.serialization import load_pem_private_key

from pinnace.apis.resources import (
    CLUSTER_TRUST_BUNDLES,
    CONFIG_MAPS,
    POD_CERTIFICATE_REQUESTS,
    SERVICE_ACCOUNTS,
)
from pinnace.kubelet.containers.env import ConfigError
from pinnace.kubelet.volumes.atomic_writer import File, write_payload
from pinnace.kubelet.volumes.context import VolumeError
from pinnace.kubelet.volumes.empty_dir import memory_size
from pinnace.kubelet.volumes.host_path import check_host_path
from pinnace.kubelet.volumes.mounts import is_mounted, is_shared, mounted_below, share, unmount_below
from pinnace.kubelet.volumes.pod_volumes import MountErrors, container_mounts
from pinnace.kubelet.volumes.subpath import open_below, prepare
from pinnace.machinery.meta import utc_now
from tests.kubelet.volumes.conftest import Volumes

MOUNTINFO = r"""
21 1 0:19 / / rw - ext4 /dev/sda rw
22 21 0:20 / /srv rw shared:7 - ext4 /dev/sdb rw
23 22 0:21 / /srv/a\040b rw master:7 - tmpfs tmpfs rw
24 22 0:22 / /srv/twice rw shared:8 - tmpfs tmpfs rw
25 24 0:23 / /srv/twice rw - tmpfs tmpfs rw
""".strip().splitlines()


@pytest.mark.parametrize(
    ("path", "shared"),
    [("/", False), ("/srv", True), ("/srv/x", True), ("/srvx", False), ("/srv/a b/c", False), ("/srv/twice", False)],
)
def test_which_mounts_propagate(path, shared):
    assert is_shared(Path(path), MOUNTINFO) is shared


@pytest.mark.root
def test_a_directory_is_shared_once(tmp_path):
    try:
        for _ in range(2):
            share(tmp_path)
            assert is_shared(tmp_path, Path("/proc/self/mountinfo").read_text().splitlines())
            assert len(mounted_below(tmp_path)) <= 1
    finally:
        unmount_below(tmp_path)


async def test_config_map_follows_its_object(volumes, api):
    await api.add_config_map("cm", k="1", old="x")
    path = (await volumes.set_up({"name": "v", "configMap": {"name": "cm"}}))["v"]
    before = (path / "..data").readlink()
    assert (path / "k").read_text() == "1"
    await volumes.set_up({"name": "v", "configMap": {"name": "cm"}})
    assert (path / "..data").readlink() == before  # nothing changed, nothing written
    await api.client.patch(
        CONFIG_MAPS,
        "cm",
        {"data": {"k": "2", "old": None, "new": "y"}},
        "default",
    )
    await volumes.set_up({"name": "v", "configMap": {"name": "cm"}})
    assert (path / "k").read_text() == "2"
    assert sorted(one.name for one in path.iterdir() if not one.name.startswith("..")) == ["k", "new"]


async def test_items_modes_and_paths(volumes, api):
    await api.add_config_map("cm", k="1", other="2")
    source = {
        "name": "cm",
        "defaultMode": 0o400,
        "items": [{"key": "k", "path": "a/b"}, {"key": "other", "path": "c", "mode": 0o755}],
    }
    path = (await volumes.set_up({"name": "v", "configMap": source}))["v"]
    assert (path / "a" / "b").read_text() == "1"
    assert (path / "a" / "b").stat().st_mode & 0o777 == 0o400
    assert (path / "c").stat().st_mode & 0o777 == 0o755


@pytest.mark.parametrize(
    ("volume", "message"),
    [
        ({"configMap": {"name": "no"}}, 'configmap "no" not found'),
        ({"secret": {"secretName": "no"}}, 'secret "no" not found'),
        (
            {"configMap": {"name": "cm", "items": [{"key": "no", "path": "x"}]}},
            "configmap references non-existent config key: no",
        ),
        ({"configMap": {"name": "cm", "items": [{"key": "k", "path": "../x"}]}}, "invalid path"),
        (
            {"hostPath": {"path": "/nowhere/at/all", "type": "Directory"}},
            "hostPath type check failed: /nowhere/at/all is not a directory",
        ),
        ({"rbd": {}}, 'failed to get Plugin from volumeSpec for volume "v" err=no volume plugin matched'),
        (
            {"gcePersistentDisk": {"pdName": "x"}},
            "driver name pd.csi.storage.gke.io not found in the list of registered CSI drivers",
        ),
        ({"persistentVolumeClaim": {"claimName": "no"}}, 'persistentvolumeclaims "no" not found'),
    ],
)
async def test_volumes_that_cannot_be_made(volumes, api, volume, message):
    await api.add_config_map("cm", k="1")
    with pytest.raises(MountErrors) as error:
        await volumes.set_up({"name": "v", **volume})
    assert message in str(error.value.errors["v"])


async def test_what_is_optional_may_be_missing(volumes):
    path = (await volumes.set_up({"name": "v", "configMap": {"name": "no", "optional": True}}))["v"]
    assert not [one for one in path.iterdir() if not one.name.startswith("..")]


@pytest.mark.root
async def test_secret_is_in_memory(volumes, api):
    await api.add_secret("s", pw=base64.b64encode(b"hidden").decode())
    path = (await volumes.set_up({"name": "v", "secret": {"secretName": "s"}}))["v"]
    assert (path / "pw").read_bytes() == b"hidden"
    assert is_mounted(path)


@pytest.mark.root
async def test_what_is_told_of_the_pod_is_in_memory(volumes):
    item = {"path": "name", "fieldRef": {"fieldPath": "metadata.name"}}
    path = (await volumes.set_up({"name": "v", "downwardAPI": {"items": [item]}}))["v"]
    assert (path / "name").read_text()
    assert is_mounted(path)


@pytest.mark.root
async def test_projected_token_and_downward_api(volumes, api):
    await api.add_config_map("ca", **{"ca.crt": "PEM"})
    sources = [
        {"serviceAccountToken": {"path": "token", "expirationSeconds": 3607}},
        {"configMap": {"name": "ca"}},
        {"downwardAPI": {"items": [{"path": "namespace", "fieldRef": {"fieldPath": "metadata.namespace"}}]}},
    ]
    path = (await volumes.set_up({"name": "v", "projected": {"sources": sources}}))["v"]
    assert (path / "token").read_text() == "a.b.c"
    assert (path / "namespace").read_text() == "default"
    assert (path / "ca.crt").read_text() == "PEM"


@pytest.mark.root
async def test_fs_group_owns_the_files(volumes, api):
    volumes.fs_group = 4321
    await api.add_config_map("cm", k="1")
    found = await volumes.set_up(
        {"name": "v", "configMap": {"name": "cm", "defaultMode": 0o400}}, {"name": "e", "emptyDir": {}}
    )
    assert (found["v"] / "k").stat().st_gid == 4321
    assert (found["v"] / "k").stat().st_mode & 0o777 == 0o440
    for one in found.values():
        assert (one.stat().st_gid, one.stat().st_mode & 0o7777) == (4321, 0o2777)


@pytest.mark.root
async def test_memory_empty_dir_has_its_limit(volumes):
    path = (await volumes.set_up({"name": "e", "emptyDir": {"medium": "Memory", "sizeLimit": "1Mi"}}))["e"]
    found = os.statvfs(path)
    assert found.f_blocks * found.f_frsize == 1 << 20
    assert path.stat().st_mode & 0o777 == 0o777


@pytest.mark.parametrize(
    ("limit", "container", "allocatable", "size"),
    [
        ("1Mi", "", 0, 1 << 20),
        ("", "", 8 << 20, 8 << 20),
        ("", "2Mi", 8 << 20, 2 << 20),
        ("4Mi", "2Mi", 8 << 20, 2 << 20),
        ("1Mi", "2Mi", 8 << 20, 1 << 20),
        ("16Mi", "", 8 << 20, 8 << 20),
        ("", "", 0, 0),
    ],
)
def test_how_much_memory_a_volume_may_take(limit: str, container: str, allocatable: int, size: int) -> None:
    limits = {"resources": {"limits": {"memory": container}}} if container else {}
    assert memory_size({"spec": {"containers": [{"name": "c", **limits}]}}, limit, allocatable) == size


async def test_an_empty_dir_is_made_once(volumes: Volumes) -> None:
    volume = {"name": "e", "emptyDir": {}}
    path = (await volumes.set_up(volume))["e"]
    path.chmod(0o700)  # as a container may do
    await volumes.set_up(volume)
    assert stat.S_IMODE(path.stat().st_mode) == 0o700
    path.rmdir()
    await volumes.set_up(volume)
    assert stat.S_IMODE(path.stat().st_mode) == 0o777


@pytest.mark.root
async def test_sub_path_binds_one_file(volumes, tmp_path):
    found = await volumes.set_up({"name": "e", "emptyDir": {}})
    (found["e"] / "dir").mkdir()
    (found["e"] / "dir" / "file").write_text("here")
    mount = {"name": "e", "mountPath": "/m", "subPathExpr": "$(D)/file"}
    container = {"name": "c", "volumeMounts": [mount]}
    pod = {"metadata": {"uid": "u1"}, "spec": {"volumes": [{"name": "e", "emptyDir": {}}]}}
    (made,) = container_mounts(pod, container, found, {"D": "dir"}, volumes.pods_dir / "u1")
    assert Path(made.host_path).read_text() == "here"
    assert made.host_path != str(found["e"] / "dir" / "file")


@pytest.mark.root
async def test_a_sub_path_is_bound_once_however_often_a_container_starts(volumes: Volumes) -> None:
    found = await volumes.set_up({"name": "e", "emptyDir": {}})
    target = volumes.pods_dir / "u1" / "volume-subpaths" / "e" / "c" / "0"
    (found["e"] / "part").mkdir()
    for _ in range(3):
        prepare(found["e"], "part", target, create=True)
    (found["e"] / "part").rmdir()
    (found["e"] / "part").write_text("a file now")
    prepare(found["e"], "part", target, create=True)
    assert target.read_text() == "a file now"
    assert mounted_below(target) == [target]


async def test_directories_of_a_sub_path_are_made_within_the_volume(volumes: Volumes, tmp_path: Path) -> None:
    found = await volumes.set_up({"name": "e", "emptyDir": {}})
    root, outside = found["e"], tmp_path / "outside"
    outside.mkdir()
    (root / "inside").mkdir()
    (root / "link").symlink_to("inside")
    (root / "out").symlink_to(outside)
    (root / "nowhere").symlink_to(outside / "missing")
    os.close(open_below(root, "link/a/b", create=True))
    assert [stat.S_IMODE((root / "inside" / path).stat().st_mode) for path in ("a", "a/b")] == [0o777, 0o777]
    for wrong in ("out/a", "nowhere", "nowhere/a"):
        with pytest.raises(ConfigError):
            open_below(root, wrong, create=True)
    assert list(outside.iterdir()) == []


async def test_sub_path_may_not_leave_the_volume(volumes, tmp_path):
    found = await volumes.set_up({"name": "e", "emptyDir": {}})
    (found["e"] / "link").symlink_to("/etc")
    pod = {"metadata": {"uid": "u1"}, "spec": {"volumes": [{"name": "e", "emptyDir": {}}]}}
    for wanted in ("link/passwd", "../x", "link/new"):
        container = {"name": "c", "volumeMounts": [{"name": "e", "mountPath": "/m", "subPath": wanted}]}
        with pytest.raises(ConfigError, match=r'SubPath `\.\./x`|failed to prepare subPath for volumeMount "e" of'):
            container_mounts(pod, container, found, {}, volumes.pods_dir / "u1")


@pytest.mark.parametrize(
    ("kind", "fits"),
    [
        ("", True),
        ("Directory", True),
        ("File", False),
        ("Socket", False),
        ("CharDevice", False),
        ("BlockDevice", False),
    ],
)
def test_host_path_types(tmp_path, kind, fits):
    source = {"path": str(tmp_path), "type": kind}
    if fits:
        assert check_host_path(source) == tmp_path
    else:
        with pytest.raises(VolumeError):
            check_host_path(source)


@pytest.mark.parametrize(
    ("kind", "why"),
    [
        ("FileOrCreate", "open {path}: no such file or directory"),
        ("DirectoryOrCreate", "mkdir {path}: not a directory"),
    ],
)
def test_what_cannot_be_made_of_the_machine_is_told(tmp_path: Path, kind: str, why: str) -> None:
    (tmp_path / "file").touch()
    path = tmp_path / ("none/x" if kind == "FileOrCreate" else "file/x")
    with pytest.raises(VolumeError) as failed:
        check_host_path({"path": str(path), "type": kind})
    assert str(failed.value) == why.format(path=path)


def test_host_path_makes_what_is_missing(tmp_path):
    assert check_host_path({"path": str(tmp_path / "a/b"), "type": "DirectoryOrCreate"}).is_dir()
    assert check_host_path({"path": str(tmp_path / "f"), "type": "FileOrCreate"}).is_file()


def test_readers_never_see_a_mixture(tmp_path):
    write_payload(tmp_path, {"a": File(b"1", 0o644), "b": File(b"1", 0o644)}, utc_now())
    opened = os.open(tmp_path / "..data", os.O_PATH | os.O_DIRECTORY)
    try:
        inside = Path(f"/proc/self/fd/{opened}").resolve()
        assert write_payload(tmp_path, {"a": File(b"2", 0o644), "b": File(b"2", 0o644)}, utc_now())
        assert not inside.exists()  # the old directory went after the new one was in place
    finally:
        os.close(opened)
    assert {(tmp_path / name).read_bytes() for name in "ab"} == {b"2"}


def certificate_source(**more: Any) -> dict[str, Any]:
    source = {"signerName": "example.com/x", "keyType": "ED25519", "credentialBundlePath": "both.pem", **more}
    return {"name": "v", "projected": {"sources": [{"podCertificate": source}]}}


async def ask(volumes: Volumes, volume: dict[str, Any]) -> dict[str, Any]:
    """The request that a volume makes, which is not ready before that is answered."""
    account = {"apiVersion": "v1", "kind": "ServiceAccount", "metadata": {"name": "default", "namespace": "default"}}
    await volumes.api.client.create(SERVICE_ACCOUNTS, account)
    with pytest.raises(MountErrors, match="credential bundle is not issued yet"):
        await volumes.set_up(volume)
    found: list[dict[str, Any]] = await volumes.api.until(lambda: volumes.api.all(POD_CERTIFICATE_REQUESTS))
    return found[0]


async def test_certificates_are_asked_for_and_put_beside_their_keys(volumes: Volumes) -> None:
    volume = certificate_source(maxExpirationSeconds=3600, userAnnotations={"a/b": "c"}, certificateChainPath="chain")
    request = await ask(volumes, volume)
    spec = dict(request["spec"])
    stub = x509.load_der_x509_csr(base64.b64decode(spec.pop("stubPKCS10Request")))
    assert stub.is_signature_valid
    account = volumes.api.find(SERVICE_ACCOUNTS, "default/default")
    assert account is not None
    assert spec == {
        "signerName": "example.com/x",
        "podName": "p",
        "podUID": "u1",
        "serviceAccountName": "default",
        "serviceAccountUID": account["metadata"]["uid"],
        "nodeName": "n1",
        "nodeUID": "n1-uid",
        "maxExpirationSeconds": 3600,
        "unverifiedUserAnnotations": {"a/b": "c"},
    }
    chain = "-----BEGIN CERTIFICATE-----\nAAAA\n-----END CERTIFICATE-----\n"
    status = {
        "conditions": [{"type": "Issued", "status": "True"}],
        "certificateChain": f"junk\n{chain}",
        "beginRefreshAt": "2099-01-01T00:00:00Z",
    }
    await volumes.api.client.update_status(POD_CERTIFICATE_REQUESTS, {**request, "status": status})
    await volumes.changed.wait()
    path = (await volumes.set_up(volume))["v"]
    key, end, rest = (path / "both.pem").read_bytes().partition(b"-----END PRIVATE KEY-----\n")
    assert rest.decode() == (path / "chain").read_text() == chain
    loaded = load_pem_private_key(key + end, None)
    assert loaded.public_key() == stub.public_key()


@pytest.mark.parametrize(("kind", "verb"), [("Denied", "was denied"), ("Failed", "failed")])
async def test_a_refused_certificate_is_not_asked_for_again(volumes: Volumes, kind: str, verb: str) -> None:
    volume = certificate_source()
    request = await ask(volumes, volume)
    status = {"conditions": [{"type": kind, "status": "True", "reason": "No", "message": "never"}]}
    await volumes.api.client.update_status(POD_CERTIFICATE_REQUESTS, {**request, "status": status})
    await volumes.changed.wait()
    why = f'PodCertificateRequest was permanently {kind.lower()}: reason="No" message="never"'
    for _ in range(2):
        with pytest.raises(MountErrors, match=why):
            await volumes.set_up(volume)
    name = f"default/{request['metadata']['name']}"
    assert volumes.told == [f'PodCertificateRequest {name} {verb}, reason="No", message="never"']
    assert len(volumes.api.all(POD_CERTIFICATE_REQUESTS)) == 1


def pem(*anchors: str) -> str:
    return "".join(f"-----BEGIN CERTIFICATE-----\n{one}\n-----END CERTIFICATE-----\n" for one in anchors)


async def test_trust_bundles_are_chosen_by_name_or_signer(volumes: Volumes) -> None:
    for name, signer, version, anchors in (
        ("plain", "", "", ("CCCC",)),
        ("s:x:1", "s/x", "1", ("BBBB", "AAAA")),
        ("s:x:2", "s/x", "2", ("AAAA",)),
        ("s:y:1", "s/y", "1", ("DDDD",)),
    ):
        metadata = {"name": name, "labels": {"v": version}}
        spec = {"trustBundle": pem(*anchors), "signerName": signer}
        bundle = {"apiVersion": "certificates.k8s.io/v1", "kind": "ClusterTrustBundle", "metadata": metadata}
        await volumes.api.client.create(CLUSTER_TRUST_BUNDLES, {**bundle, "spec": spec})

    def volume(**source: Any) -> dict[str, Any]:
        return {"name": "v", "projected": {"sources": [{"clusterTrustBundle": {**source, "path": "ca.pem"}}]}}

    third = {"signerName": "s/x", "labelSelector": {"matchLabels": {"v": "3"}}}
    for wanted, holds in (
        (volume(name="plain"), pem("CCCC")),
        (volume(signerName="s/x", labelSelector={}), pem("AAAA", "BBBB")),
        (volume(signerName="s/y", labelSelector={"matchLabels": {"v": "1"}}), pem("DDDD")),
        (volume(signerName="s/x", optional=True), ""),
        (volume(**third, optional=True), ""),
        (volume(name="absent", optional=True), ""),
    ):
        path = (await volumes.set_up(wanted))["v"]
        assert (path / "ca.pem").read_text() == holds
    none = "combination of signerName and labelSelector matched zero ClusterTrustBundles"
    for wanted, why in (
        (volume(name="absent"), 'clustertrustbundle.certificates.k8s.io "absent" not found'),
        (volume(signerName="s/x"), none),
        (volume(**third), none),
    ):
        with pytest.raises(MountErrors, match=why):
            await volumes.set_up(wanted)
