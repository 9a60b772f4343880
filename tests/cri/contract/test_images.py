"""What a kubelet relies on, of every runtime: its images."""

from __future__ import annotations

import asyncio
from collections.abc import Iterator
from pathlib import Path

import pytest

from pinnace.cri.api import AuthConfig, ImageSpec
from tests.cri.contract.conftest import IMAGE, Subject, code_of
from tests.cri.engine.images.conftest import HTPASSWD, copy_to_registry, running_registry
from tests.support.images import busybox_archive

pytestmark = [pytest.mark.root, pytest.mark.asyncio(loop_scope="session")]


@pytest.fixture(scope="session")
def registry(archive: Path, tmp_path_factory: pytest.TempPathFactory) -> Iterator[str]:
    """One that lets only ann in, whose password is `secret`; with an image that no runtime has yet."""
    directory = tmp_path_factory.mktemp("registry")
    image = busybox_archive(directory / "image.tar", "pulled:1", Labels={"from": "registry"})
    with running_registry(directory, HTPASSWD) as address:
        copy_to_registry(image, f"{address}/team/busybox:1", "--dest-creds=ann:secret")
        yield address


def _unresolved(subject: Subject, name: str) -> str:
    """How it is said that a registry was asked in vain."""
    return "failed to resolve image" if subject.is_containerd_since(2, 1) else f'failed to resolve reference "{name}"'


async def test_images_are_found_by_name_and_id(subject: Subject) -> None:
    (listed,) = [one for one in await subject.images.list_images() if IMAGE in one.repo_tags]

    assert await subject.images.image_status(ImageSpec(image=listed.id)) == listed
    assert await subject.images.image_status(ImageSpec(image=IMAGE)) == listed
    assert await subject.images.image_status(ImageSpec(image="docker.io/library/nothing:1")) is None
    assert await subject.images.image_status(ImageSpec(image="Not Valid")) is None
    assert (await subject.images.image_fs_info())[0].mountpoint.startswith("/")
    await subject.images.remove_image(ImageSpec(image="docker.io/library/nothing:1"))


async def test_names_that_are_none_are_refused(subject: Subject) -> None:
    code, words = await code_of(subject.images.pull_image(ImageSpec(image="Not Valid")))
    assert (code, words.startswith('failed to parse image reference "Not Valid": invalid reference format')) == (
        "UNKNOWN",
        True,
    )
    assert await code_of(subject.images.remove_image(ImageSpec(image=""))) == (
        "UNKNOWN",
        'can not resolve "" locally: ambiguous digest string',
    )


async def test_images_are_pulled_with_credentials_and_run(subject: Subject, registry: str) -> None:
    name = f"{registry}/team/busybox:1"
    ann = AuthConfig(username="ann", password="secret")

    code, words = await code_of(subject.images.pull_image(ImageSpec(image=name)))
    assert code == "UNKNOWN"
    assert words.startswith(f'failed to pull and unpack image "{name}": {_unresolved(subject, name)}: ')
    assert subject.is_containerd or "pull access denied, repository does not exist or may require auth" in words
    identities = await asyncio.gather(*(subject.images.pull_image(ImageSpec(image=name), ann) for _ in range(3)))
    found = await subject.images.image_status(ImageSpec(image=name))

    assert found is not None
    assert set(identities) == {found.id}
    assert name in found.repo_tags
    (digest,) = [one for one in found.repo_digests if one.startswith(registry)]
    assert await subject.images.image_status(ImageSpec(image=digest)) == found
    container = await subject.start("echo", "pulled", image=digest)
    assert (await subject.ended(container)).image_ref == digest
    await subject.clear()
    for _ in range(2):
        await subject.images.remove_image(ImageSpec(image=found.id))
    assert await subject.images.image_status(ImageSpec(image=name)) is None


async def test_what_a_registry_lacks_is_not_found(subject: Subject, registry: str) -> None:
    name = f"{registry}/team/busybox:nosuch"

    code, words = await code_of(subject.images.pull_image(ImageSpec(image=name), AuthConfig(auth="YW5uOnNlY3JldA==")))

    assert code == "NOT_FOUND"
    assert words.endswith(f"{_unresolved(subject, name)}: {name}: not found")


async def test_nobody_listening_is_said_so(subject: Subject) -> None:
    code, words = await code_of(subject.images.pull_image(ImageSpec(image="127.0.0.1:1/a:1")))

    assert code in ("UNKNOWN", "UNAVAILABLE")
    assert 'failed to do request: Head "http' in words
    assert "dial tcp 127.0.0.1:1: connect: connection refused" in words
