"""How a container comes to its image: pulls, credentials one after the other, and proof for what is there already."""

from __future__ import annotations

import base64
from pathlib import Path
from typing import Any

import orjson
import pytest

from pinnace.cri.api import AuthConfig, CriError
from pinnace.kubelet.images.keyring import Credential, Known, Owner
from pinnace.kubelet.images.manager import ImageError, ImagePuller
from pinnace.kubelet.images.pull_records import PullRecords
from pinnace.kubelet.images.verification import ALWAYS, Policy
from pinnace.machinery.meta import Obj
from tests.kubelet.fake_runtime import FakeRuntime

IMAGE = "reg.example/team/app:1"
PRESENT = 'Container image "reg.example/team/app:1" already present on machine'


def pod(uid: str = "u") -> Obj:
    return {"metadata": {"name": "p", "namespace": "d", "uid": uid}, "spec": {}}


def secret(name: str, password: str, username: str = "") -> Obj:
    auths = {"auths": {"reg.example": {"username": username or name, "password": password}}}
    data = {".dockerconfigjson": base64.b64encode(orjson.dumps(auths)).decode()}
    return {"metadata": {"name": name, "namespace": "d", "uid": name}, "data": data}


class Registry(FakeRuntime):
    """Lets in who shows one of the passwords; everybody where there are none."""

    def __init__(self, *passwords: str) -> None:
        super().__init__(remote=(IMAGE,))
        self.passwords = passwords

    async def pull_image(self, image: Any, auth: AuthConfig | None = None) -> str:
        if self.passwords and (auth is None or auth.password not in self.passwords):
            self.pulled_with.append(auth)
            raise CriError("UNKNOWN", f"no basic auth credentials for {auth.username if auth else 'nobody'}")
        return await super().pull_image(image, auth)


class Events:
    def __init__(self) -> None:
        self.told: list[str] = []

    def __call__(self, kind: str, reason: str, message: str) -> None:
        self.told.append(f"{kind} {reason}: {message}")

    @property
    def last(self) -> str:
        return self.told[-1]


async def ensure(puller: ImagePuller, *secrets: Obj, policy: str = "IfNotPresent", uid: str = "u") -> str:
    """The last event, or the waiting reason and message."""
    events = Events()
    container = {"name": "c", "image": IMAGE, "imagePullPolicy": policy}
    try:
        await puller.ensure(pod(uid), container, list(secrets), events)
    except ImageError as error:
        return f"{error.reason}: {error.message}"
    return events.last


async def test_credentials_are_tried_one_after_the_other():
    runtime = Registry("right")
    puller = ImagePuller(runtime)
    assert "Successfully pulled image" in await ensure(puller, secret("a", "wrong"), secret("b", "right"))
    assert [auth and auth.username for auth in runtime.pulled_with] == ["a", "b"]


async def test_what_every_credential_said_is_told():
    puller = ImagePuller(Registry("right"))
    refused = "[no basic auth credentials for a, no basic auth credentials for b]"
    assert await ensure(puller, secret("a", "1"), secret("b", "2")) == f"ErrImagePull: {refused}"
    backing_off = f'ImagePullBackOff: Back-off pulling image "{IMAGE}": ErrImagePull: {refused}'
    assert await ensure(puller, secret("a", "1")) == backing_off


@pytest.mark.parametrize(
    ("said", "expected"),
    [
        (
            "RegistryUnavailable: not today",
            f"RegistryUnavailable: image pull failed for {IMAGE} because the registry is unavailable: not today",
        ),
        (
            "SignatureValidationFailed: forged",
            f"SignatureValidationFailed: image pull failed for {IMAGE} because the signature validation failed: forged",
        ),
    ],
)
async def test_reasons_that_runtimes_tell(said, expected):
    runtime = FakeRuntime(remote=(IMAGE,))
    runtime.fail["pull_image"] = CriError("UNKNOWN", said)
    assert await ensure(ImagePuller(runtime)) == expected


async def test_plugins_are_asked_after_the_secrets():
    async def plugins(asked: Obj, repository: str) -> list[Known]:
        assert (asked["metadata"]["name"], repository) == ("p", "reg.example/team/app")
        return [{"reg.example": [Credential(AuthConfig(username="plugin", password="right"))]}]

    runtime = Registry("right")
    puller = ImagePuller(runtime, plugins=plugins)
    assert "Successfully pulled" in await ensure(puller, secret("a", "wrong"))
    assert [auth and auth.username for auth in runtime.pulled_with] == ["a", "plugin"]


async def test_without_records_whoever_comes_uses_what_is_there():
    runtime = Registry("right")
    puller = ImagePuller(runtime)
    await ensure(puller, secret("a", "right"))
    assert await ensure(puller, uid="other") == f"Normal Pulled: {PRESENT}"


async def test_an_image_that_was_pulled_with_a_secret_is_for_those_who_show_it(tmp_path: Path) -> None:
    runtime = Registry("right")
    puller = ImagePuller(runtime, records=PullRecords(tmp_path))
    assert "Successfully pulled" in await ensure(puller, secret("a", "right"))
    may = f"Normal Pulled: {PRESENT} and can be accessed by the pod"
    assert await ensure(puller, secret("a", "right"), uid="same") == may
    assert (await ensure(puller, uid="other")).startswith("ErrImagePull")
    never = f'ErrImageNeverPull: Container image "{IMAGE}" is not present with pull policy of Never'
    assert await ensure(puller, uid="never", policy="Never") == never
    assert await ensure(puller, secret("copy", "right", "a"), uid="copy") == may
    # the copy was learned: also where it says another word by now
    assert await ensure(puller, secret("copy", "changed"), uid="copy") == may
    assert len(runtime.pulled_with) == 2


async def test_an_image_that_anybody_could_pull_is_for_everybody(tmp_path: Path) -> None:
    puller = ImagePuller(Registry(), records=PullRecords(tmp_path))
    await ensure(puller)
    assert "can be accessed" in await ensure(puller, uid="other", policy="Never")


async def test_an_image_that_was_there_before(tmp_path: Path) -> None:
    runtime = Registry("right")
    runtime.images = FakeRuntime(IMAGE).images
    assert "can be accessed" in await ensure(ImagePuller(runtime, records=PullRecords(tmp_path)))
    strict = ImagePuller(runtime, records=PullRecords(tmp_path), policy=Policy(ALWAYS))
    assert (await ensure(strict)).startswith("ErrImagePull")


async def test_a_plugins_credential_for_an_account_is_for_that_account(tmp_path: Path) -> None:
    def plugin(account: str) -> Any:
        async def credentials(_pod: Obj, _repository: str) -> list[Known]:
            owner = Owner("ServiceAccount", "d", account, account)
            return [{"reg.example": [Credential(AuthConfig(username=account, password="right"), owner)]}]

        return credentials

    runtime, records = Registry("right"), PullRecords(tmp_path)
    for account in ("one", "one", "two"):
        await ensure(ImagePuller(runtime, records=records, plugins=plugin(account)))
    assert [auth and auth.username for auth in runtime.pulled_with] == ["one", "two"]


async def test_a_kubelet_takes_up_what_the_one_before_it_began(tmp_path: Path) -> None:
    runtime = FakeRuntime(IMAGE)
    PullRecords(tmp_path).begin(IMAGE)
    puller = ImagePuller(runtime, records=PullRecords(tmp_path))
    await puller.recover()
    assert (await ensure(puller)).startswith("ErrImagePull")  # nobody knows with which credentials it came
    assert not PullRecords(tmp_path).has_unfinished()


async def test_a_failed_pull_leaves_no_trace(tmp_path: Path) -> None:
    puller = ImagePuller(Registry("right"), records=PullRecords(tmp_path))
    await ensure(puller)
    assert [path for path in tmp_path.rglob("*") if path.is_file()] == []
