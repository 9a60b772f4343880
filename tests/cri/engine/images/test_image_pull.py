"""Pulling from a real registry, and from scripted ones for what a real one will not do on demand."""

import asyncio
import base64
import json
import os
import socket
import ssl
from pathlib import Path

import pytest
from aiohttp import web

from pinnace.cri.api import AuthConfig, CriError, ImageSpec
from pinnace.cri.engine.images import manifest as manifests
from pinnace.cri.engine.images.pull import PullError
from pinnace.cri.engine.images.registry import parse_challenge
from pinnace.cri.engine.images.service import Images
from pinnace.cri.engine.images.store import ImageStore

pytestmark = [pytest.mark.root, pytest.mark.skipif(os.geteuid() != 0, reason="unpacks layers with their owners")]


def names_in(directory: Path) -> list[str]:
    return sorted(entry.name for entry in directory.iterdir())


async def test_an_image_is_pulled_by_tag_and_by_digest(store: ImageStore, busybox: Path, registry: str, push) -> None:
    push(busybox, f"{registry}/team/busybox:1")
    record = await store.pull(f"{registry}/team/busybox:1")
    assert record.repo_tags == [f"{registry}/team/busybox:1"]
    (digest,) = record.repo_digests
    assert digest.startswith(f"{registry}/team/busybox@sha256:")
    assert (record.layer_dirs[1] / "etc/motd").read_text() == "ahoy\n"
    assert len(names_in(store.root / "blobs/sha256")) == 2  # config and manifest; layers are kept unpacked only
    assert (await store.pull(digest)).id == record.id
    store.remove(record.id)
    again = await store.pull(digest)
    assert (again.id, again.repo_tags, again.repo_digests) == (record.id, [], [digest])


async def test_what_the_registry_lacks_is_not_found(store: ImageStore, busybox: Path, registry: str, push) -> None:
    push(busybox, f"{registry}/team/busybox:1")
    name = f"{registry}/team/busybox:nosuch"
    with pytest.raises(PullError) as caught:
        await store.pull(name)
    assert str(caught.value) == (
        f'failed to pull and unpack image "{name}": failed to resolve reference "{name}": {name}: not found'
    )
    with pytest.raises(CriError) as refused:
        await Images(store).pull_image(ImageSpec(image=name))
    assert refused.value.code == "NOT_FOUND"


async def test_a_private_registry_wants_the_password(
    store: ImageStore, busybox: Path, private_registry: str, push
) -> None:
    name = f"{private_registry}/busybox:1"
    push(busybox, name, "--dest-creds=ann:secret")
    with pytest.raises(PullError, match="pull access denied, repository does not exist or may require authorization"):
        await store.pull(name)
    with pytest.raises(PullError, match="pull access denied"):
        await store.pull(name, AuthConfig(username="ann", password="wrong"))
    record = await store.pull(name, AuthConfig(auth=base64.b64encode(b"ann:secret").decode()))
    assert record.repo_tags == [name]


async def test_nobody_listening_is_said_so(store: ImageStore) -> None:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port = probe.getsockname()[1]
        with pytest.raises(PullError, match=rf"dial tcp 127.0.0.1:{port}: connect: connection refused"):
            await store.pull(f"127.0.0.1:{port}/a:1")


async def test_one_reference_is_pulled_once_at_a_time(store: ImageStore, busybox: Path, registry: str, push) -> None:
    push(busybox, f"{registry}/once:1")
    service = Images(store)
    spec = ImageSpec(image=f"{registry}/once:1")
    ids = await asyncio.gather(*(service.pull_image(spec) for _ in range(5)))
    assert len(set(ids)) == 1


@pytest.mark.parametrize("name", ["", "Not Valid"])
async def test_an_invalid_name_cannot_be_pulled(store: ImageStore, name: str) -> None:
    with pytest.raises(CriError, match=f'failed to parse image reference "{name}": invalid reference format'):
        await Images(store).pull_image(ImageSpec(image=name))


class ScriptedRegistry:
    """A registry whose answers are a dict: `manifests/1` or `blobs/sha256:…` -> (body, content type)."""

    def __init__(self, tls: ssl.SSLContext | None = None) -> None:
        self.answers: dict[str, tuple[bytes, str]] = {}
        self.requests: list[str] = []
        self.queries: list[str] = []
        self.headers: list[dict[str, str]] = []
        self.forms: list[dict[str, str]] = []
        self.token_elsewhere = ""  # where tokens are said to be had
        self.trouble: list[web.Response] = []  # answered first, one to a request
        self.breaks = 0  # how many answers end after half of their bytes
        self.ranges = True  # whether parts are given
        self._tls = tls
        self.token = ""  # what a request must show, if set
        self.address = ""

    async def start(self) -> None:
        app = web.Application()
        app.router.add_get("/token", self._token)
        app.router.add_post("/token", self._token)
        app.router.add_get("/v2/app/{rest:.*}", self._serve)
        app.router.add_get("/elsewhere/app/{rest:.*}", self._serve)
        self._runner = web.AppRunner(app)
        await self._runner.setup()
        site = web.TCPSite(self._runner, "127.0.0.1", 0, ssl_context=self._tls)
        await site.start()
        self.address = f"127.0.0.1:{self._runner.addresses[0][1]}"

    async def stop(self) -> None:
        await self._runner.cleanup()

    async def _token(self, request: web.Request) -> web.Response:
        if request.method == "POST":
            self.forms.append({name: str(value) for name, value in (await request.post()).items()})
        if self.token_elsewhere:
            raise web.HTTPTemporaryRedirect(self.token_elsewhere)
        self.requests.append(f"token {request.query_string} {request.headers.get('Authorization', '')}".strip())
        return web.json_response({"token": self.token})

    async def _serve(self, request: web.Request) -> web.Response:
        rest = request.match_info["rest"]
        self.requests.append(rest)
        self.queries.append(request.query_string)
        self.headers.append(dict(request.headers))
        if self.trouble:
            return self.trouble.pop(0)
        if self.token and request.headers.get("Authorization") != f"Bearer {self.token}":
            challenge = f'Bearer realm="http://{self.address}/token",service="reg",scope="repository:app:pull"'
            return web.Response(status=401, headers={"WWW-Authenticate": challenge})
        if rest not in self.answers:
            return web.Response(status=404)
        body, kind = self.answers[rest]
        if kind == "redirect":
            raise web.HTTPTemporaryRedirect(body.decode())
        if rest.startswith("blobs/"):
            return await self._blob(request, body)
        return web.Response(body=body, headers={"Content-Type": kind})

    async def _blob(self, request: web.Request, body: bytes) -> web.Response:
        """All of it or the part that is asked for; or half of that, and then the connection is gone."""
        begin = request.http_range.start or 0 if self.ranges else 0
        response = web.StreamResponse(status=206 if begin else 200)
        if begin:
            response.headers["Content-Range"] = f"bytes {begin}-{len(body) - 1}/{len(body)}"
        rest = body[begin:]
        response.content_length = len(rest)
        await response.prepare(request)
        if self.breaks and len(rest) > 1:
            self.breaks -= 1
            await response.write(rest[: len(rest) // 2])
            assert request.transport is not None
            request.transport.close()
            return response  # type: ignore[return-value]
        await response.write(rest)
        return response  # type: ignore[return-value]

    def add_image(self, make, layer: bytes, tag: str = "1", damaged: dict | None = None) -> None:
        config = json.dumps({"rootfs": {"diff_ids": [make.digest(layer)]}, "config": {}}).encode()
        damage = damaged or {}
        manifest = {
            "schemaVersion": 2,
            "mediaType": manifests.OCI_MANIFEST,
            "config": {"digest": make.digest(config), "size": len(config)},
            "layers": [{"digest": make.digest(layer), "size": len(layer)}],
        }
        body = json.dumps(manifest).encode()
        self.answers[f"manifests/{tag}"] = (body, manifests.OCI_MANIFEST)
        self.answers[f"manifests/{make.digest(body)}"] = (body, manifests.OCI_MANIFEST)
        self.answers[f"blobs/{make.digest(config)}"] = (damage.get("config", config), "application/octet-stream")
        self.answers[f"blobs/{make.digest(layer)}"] = (damage.get("layer", layer), "application/octet-stream")


@pytest.fixture
async def scripted():
    registry = ScriptedRegistry()
    await registry.start()
    yield registry
    await registry.stop()


async def test_the_platform_of_this_machine_is_chosen_from_an_index(store, scripted: ScriptedRegistry, make) -> None:
    scripted.add_image(make, make.tar(make.member("f", b"mine")), "mine")
    mine = scripted.answers["manifests/mine"][0]
    index = {
        "schemaVersion": 2,
        "manifests": [
            {"digest": make.digest(b"x"), "size": 1, "platform": {"os": "linux", "architecture": "riscv128"}},
            {"digest": make.digest(b"w"), "size": 1, "platform": {"os": "windows", "architecture": "amd64"}},
            {
                "digest": make.digest(mine),
                "size": len(mine),
                "platform": {"os": "linux", "architecture": manifests.host_architecture()},
            },
        ],
    }
    body = json.dumps(index).encode()
    scripted.answers["manifests/1"] = (body, manifests.OCI_INDEX)
    record = await store.pull(f"{scripted.address}/app:1")
    assert (record.layer_dirs[0] / "f").read_bytes() == b"mine"
    assert record.repo_digests == [f"{scripted.address}/app@{make.digest(body)}"]
    index["manifests"] = index["manifests"][:2]
    scripted.answers["manifests/1"] = (json.dumps(index).encode(), manifests.OCI_INDEX)
    with pytest.raises(PullError, match="no match for platform in manifest"):
        await store.pull(f"{scripted.address}/app:1")


@pytest.mark.parametrize("part", ["config", "layer"])
async def test_damaged_content_is_refused_and_not_kept(store, scripted: ScriptedRegistry, make, part: str) -> None:
    layer = make.tar(make.member("f", b"1"))
    scripted.add_image(make, layer, damaged={part: b"x" * 100})
    with pytest.raises(PullError, match="unexpected commit digest"):
        await store.pull(f"{scripted.address}/app:1")
    assert store.list() == []
    store.collect_garbage()
    assert names_in(store.root / "blobs/sha256") == []
    assert names_in(store.root / "layers") == []


async def test_a_manifest_asked_for_by_digest_is_checked(store, scripted: ScriptedRegistry, make) -> None:
    digest = make.digest(b"something else")
    scripted.add_image(make, make.tar())
    scripted.answers[f"manifests/{digest}"] = scripted.answers["manifests/1"]
    with pytest.raises(PullError, match="unexpected digest"):
        await store.pull(f"{scripted.address}/app@{digest}")


async def test_a_bearer_token_is_fetched_once_and_shown(store, scripted: ScriptedRegistry, make) -> None:
    scripted.token = "t0ken"
    scripted.add_image(make, make.tar(make.member("f", b"1")))
    await store.pull(f"{scripted.address}/app:1", AuthConfig(username="ann", password="secret"))
    shown = [request for request in scripted.requests if request.startswith("token")]
    expected = base64.b64encode(b"ann:secret").decode()
    assert shown == [f"token service=reg&scope=repository:app:pull Basic {expected}"]


async def test_an_identity_token_is_given_for_a_bearer_token(store, scripted: ScriptedRegistry, make) -> None:
    scripted.token = "t0ken"
    scripted.add_image(make, make.tar(make.member("f", b"1")))
    await store.pull(f"{scripted.address}/app:1", AuthConfig(identity_token="refresh"))
    asked = {"service": "reg", "scope": "repository:app:pull", "client_id": "pinnace"}
    assert scripted.forms == [{**asked, "grant_type": "refresh_token", "refresh_token": "refresh"}]


async def test_an_identity_token_is_not_sent_on(store, scripted: ScriptedRegistry, make) -> None:
    elsewhere = ScriptedRegistry()
    await elsewhere.start()
    try:
        scripted.token, scripted.token_elsewhere = "t0ken", f"http://{elsewhere.address}/token"
        scripted.add_image(make, make.tar(make.member("f", b"1")))
        with pytest.raises(PullError, match="failed to authorize"):
            await store.pull(f"{scripted.address}/app:1", AuthConfig(identity_token="refresh"))
        assert elsewhere.forms == []
    finally:
        await elsewhere.stop()


async def test_a_bearer_token_may_be_given_as_it_is(store, scripted: ScriptedRegistry, make) -> None:
    scripted.token = "t0ken"
    scripted.add_image(make, make.tar(make.member("f", b"1")))
    await store.pull(f"{scripted.address}/app:1", AuthConfig(registry_token="t0ken"))
    assert not [request for request in scripted.requests if request.startswith("token")]


async def test_a_redirect_to_another_host_goes_without_the_token(store, scripted: ScriptedRegistry, make) -> None:
    elsewhere = ScriptedRegistry()
    await elsewhere.start()
    try:
        layer = make.tar(make.member("f", b"1"))
        scripted.add_image(make, layer)
        elsewhere.add_image(make, layer)
        blob = f"blobs/{make.digest(layer)}"
        scripted.token = "t0ken"
        scripted.answers[blob] = (f"http://{elsewhere.address}/v2/app/{blob}".encode(), "redirect")
        await store.pull(f"{scripted.address}/app:1")
        assert elsewhere.requests == [blob]
    finally:
        await elsewhere.stop()


async def test_old_schemas_are_refused(store, scripted: ScriptedRegistry) -> None:
    scripted.answers["manifests/1"] = (b'{"schemaVersion": 1}', manifests.DOCKER_SCHEMA1)
    with pytest.raises(CriError) as refused:
        await Images(store).pull_image(ImageSpec(image=f"{scripted.address}/app:1"))
    assert refused.value.code == "UNIMPLEMENTED"
    assert refused.value.message.endswith(
        'not implemented: media type "application/vnd.docker.distribution.manifest.v1+prettyjws" is no longer '
        "supported since containerd v2.1, please rebuild the image as "
        '"application/vnd.docker.distribution.manifest.v2+json" or "application/vnd.oci.image.manifest.v1+json"'
    )


def test_challenges_are_read_with_their_quotes() -> None:
    header = 'Bearer realm="https://a/t?x=1,2",service=b,scope="repository:x:pull,push",note="say \\"hi\\""'
    assert parse_challenge(header) == (
        "bearer",
        {"realm": "https://a/t?x=1,2", "service": "b", "scope": "repository:x:pull,push", "note": 'say "hi"'},
    )
