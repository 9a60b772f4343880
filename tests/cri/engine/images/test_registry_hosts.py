"""hosts.toml: what the files say, and that pulls heed it, over real connections."""

from __future__ import annotations

import base64
import ipaddress
import ssl
from collections.abc import AsyncIterator
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import pytest
from aiohttp import web
from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.x509.oid import NameOID

from pinnace.cri.api import AuthConfig
from pinnace.cri.engine.images.hosts import Host, HostsError, hosts_for, parse
from pinnace.cri.engine.images.pull import PullError
from pinnace.cri.engine.images.registry import RegistryOptions, auth_for
from pinnace.cri.engine.images.store import ImageStore
from tests.cri.engine.images.test_image_pull import ScriptedRegistry

# What the files say.


@pytest.mark.parametrize(
    ("domain", "document", "urls"),
    [
        ("docker.io", {}, ["https://registry-1.docker.io/v2"]),
        ("registry.test", {}, ["https://registry.test/v2"]),
        ("localhost:5000", {}, ["http://localhost:5000/v2"]),
        ("127.0.0.1:5000", {"skip_verify": True}, ["https://127.0.0.1:5000/v2"]),
        ("127.evil.test", {}, ["https://127.evil.test/v2"]),
        ("a.test", {"server": "http://b.test"}, ["http://b.test/v2"]),
        ("a.test", {"server": "b.test/v2/"}, ["https://b.test/v2"]),
        ("a.test", {"server": "https://b.test/root", "override_path": True}, ["https://b.test/root"]),
        (
            "a.test",
            {"host": {"https://m.test/path": {}, "http://n.test": {}}},
            ["https://m.test/path/v2", "http://n.test/v2", "https://a.test/v2"],
        ),
    ],
)
def test_hosts_are_tried_in_order_and_the_registry_last(domain: str, document: Any, urls: list[str]) -> None:
    assert [host.url for host in parse(document, domain, Path("/d"))] == urls


def test_every_field_is_read() -> None:
    fields = {
        "capabilities": ["pull"],
        "ca": "ca.pem",
        "client": [["c.cert", "c.key"], ["both.pem", ""], "/abs.pem"],
        "skip_verify": True,
        "header": {"x-one": "1", "x-two": ["a", "b"]},
        "dial_timeout": "1m1.5s",
        "proxy": "http://proxy.test:8080",
    }

    mirror, server = parse({"host": {"https://m.test": fields}, "ca": ["x.pem"]}, "a.test", Path("/d"))

    assert mirror == Host(
        url="https://m.test/v2",
        capabilities=frozenset({"pull"}),
        ca=(Path("/d/ca.pem"),),
        client=((Path("/d/c.cert"), Path("/d/c.key")), (Path("/d/both.pem"), None), (Path("/abs.pem"), None)),
        skip_verify=True,
        header={"x-one": ("1",), "x-two": ("a", "b")},
        dial_timeout=61.5,
        proxy="http://proxy.test:8080",
        namespace="a.test",
    )
    assert (server.url, server.ca, server.namespace) == ("https://a.test/v2", (Path("/d/x.pem"),), "")


@pytest.mark.parametrize(
    ("text", "problem"),
    [
        ("server = ", "Invalid value"),
        ('[host."ftp://m.test"]', "unable to parse server"),
        ('[host."https://m.test"]\ncapabilities = ["fly"]', "unknown capability fly"),
        ('[host."https://m.test"]\nca = 5', "neither a string nor a list of strings"),
        ('[host."https://m.test"]\ndial_timeout = "soon"', "invalid duration"),
        ('host = "https://m.test"', "has no attribute"),
    ],
)
def test_what_is_no_such_file_is_named(tmp_path: Path, text: str, problem: str) -> None:
    (tmp_path / "a.test").mkdir()
    (tmp_path / "a.test/hosts.toml").write_text(text)

    with pytest.raises(HostsError, match=problem) as failed:
        hosts_for("a.test", [tmp_path])
    assert str(tmp_path / "a.test/hosts.toml") in str(failed.value)


def test_a_registry_is_looked_up_with_its_port_and_then_by_default(tmp_path: Path) -> None:
    def server(name: str, directory: str = "one") -> None:
        (tmp_path / directory / name).mkdir(parents=True)
        (tmp_path / directory / name / "hosts.toml").write_text(f'server = "https://{name.strip("_").lower()}.test"')

    directories = [tmp_path / "none", tmp_path / "one", tmp_path / "two"]
    found = []
    for name in ("_default", "a:5", "a_5_"):
        server(name) if ":" not in name else (tmp_path / "one" / name).mkdir()
        found.append([one.url for one in hosts_for("a:5", directories)])
    server("b", "two")

    assert found == [["https://default.test/v2"], ["https://a:5/v2"], ["https://a_5.test/v2"]]
    assert [one.url for one in hosts_for("b", directories)] == ["https://default.test/v2"]  # of the first directory


def test_dockers_certificate_files_count_where_there_is_no_other(tmp_path: Path) -> None:
    where = tmp_path / "a.test"
    where.mkdir()
    for name in ("ca.crt", "client.cert", "client.key", "note"):
        (where / name).write_text("")

    (host,) = hosts_for("a.test", [tmp_path])

    assert (host.ca, host.client) == ((where / "ca.crt",), ((where / "client.cert", where / "client.key"),))


@pytest.mark.parametrize(
    ("address", "shown"),
    [
        ("", True),
        ("reg.test", True),
        ("https://reg.test/v1/", True),
        ("https://other.test", False),
        ("reg.test:5", False),
    ],
)
def test_credentials_are_for_the_server_that_they_name(address: str, shown: bool) -> None:
    given = AuthConfig(username="ann", server_address=address)

    assert auth_for("reg.test", given) == (given if shown else None)


# That pulls heed them.

pull_tests = pytest.mark.root


@pytest.fixture
async def scripted() -> AsyncIterator[ScriptedRegistry]:
    registry = ScriptedRegistry()
    await registry.start()
    yield registry
    await registry.stop()


@pytest.fixture
async def another() -> AsyncIterator[ScriptedRegistry]:
    registry = ScriptedRegistry()
    await registry.start()
    yield registry
    await registry.stop()


class Configured:
    """A store whose registries are what files of the test say."""

    def __init__(self, directory: Path) -> None:
        self.hosts = directory / "certs.d"
        self.store = ImageStore(directory / "configured", RegistryOptions(hosts=[self.hosts], connect_timeout=5))

    def say(self, domain: str, text: str) -> Path:
        where = self.hosts / domain
        where.mkdir(parents=True, exist_ok=True)
        (where / "hosts.toml").write_text(text)
        return where


@pytest.fixture
def configured(tmp_path: Path) -> Configured:
    return Configured(tmp_path)


@pull_tests
async def test_a_mirror_is_told_for_whom_it_stands_and_the_registry_is_asked_after_it(
    configured: Configured, scripted: ScriptedRegistry, another: ScriptedRegistry, make: Any
) -> None:
    layer = make.tar(make.member("f", b"1"))
    another.add_image(make, layer)
    configured.say(
        "example.test",
        f'server = "http://{another.address}"\n[host."http://{scripted.address}"]\nheader = {{x-key = "k"}}',
    )

    record = await configured.store.pull("example.test/app:1")

    assert record.repo_tags == ["example.test/app:1"]
    assert scripted.requests[0] == another.requests[0] == "manifests/1"
    assert set(scripted.queries) == {"ns=example.test"}
    assert {one["x-key"] for one in scripted.headers} == {"k"}
    assert not any("x-key" in one for one in another.headers)


@pull_tests
async def test_a_mirror_that_may_not_resolve_gives_content_only(
    configured: Configured, scripted: ScriptedRegistry, another: ScriptedRegistry, make: Any
) -> None:
    for registry in (scripted, another):
        registry.add_image(make, make.tar(make.member("f", b"1")))
    mirror = f'[host."http://{scripted.address}/elsewhere"]\ncapabilities = ["pull"]\noverride_path = true'
    configured.say("example.test", f'server = "http://{another.address}"\n{mirror}')

    await configured.store.pull("example.test/app:1")

    assert another.requests == ["manifests/1"]
    assert {one.partition("/")[0] for one in scripted.requests} == {"blobs"}


@pull_tests
async def test_where_nobody_may_resolve_nothing_is_found(configured: Configured) -> None:
    configured.say("example.test", 'server = "http://127.0.0.1:1"\ncapabilities = ["pull"]')

    with pytest.raises(PullError, match="no resolve hosts: not found") as failed:
        await configured.store.pull("example.test/app:1")
    assert failed.value.not_found


@pull_tests
async def test_a_damaged_blob_of_a_mirror_is_fetched_from_the_registry(
    configured: Configured, scripted: ScriptedRegistry, another: ScriptedRegistry, make: Any
) -> None:
    layer = make.tar(make.member("f", b"right"))
    scripted.add_image(make, layer, damaged={"layer": b"x" * len(layer)})
    another.add_image(make, layer)
    configured.say("example.test", f'server = "http://{another.address}"\n[host."http://{scripted.address}"]')

    record = await configured.store.pull("example.test/app:1")

    assert (record.layer_dirs[0] / "f").read_bytes() == b"right"
    assert another.requests == [f"blobs/{make.digest(layer)}"]


def certificate(name: str, issuer: tuple[x509.Certificate, Any] | None = None) -> tuple[x509.Certificate, Any]:
    key = ec.generate_private_key(ec.SECP256R1())
    subject = x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, name)])
    now = datetime.now(UTC)
    builder = (
        x509.CertificateBuilder()
        .subject_name(subject)
        .issuer_name(issuer[0].subject if issuer else subject)
        .public_key(key.public_key())
        .serial_number(x509.random_serial_number())
        .not_valid_before(now - timedelta(days=1))
        .not_valid_after(now + timedelta(days=1))
        .add_extension(x509.BasicConstraints(ca=issuer is None, path_length=None), critical=True)
        .add_extension(x509.SubjectAlternativeName([x509.IPAddress(ipaddress.ip_address("127.0.0.1"))]), critical=False)
    )
    return builder.sign(issuer[1] if issuer else key, hashes.SHA256()), key


def write(path: Path, made: tuple[x509.Certificate, Any]) -> str:
    key = made[1].private_bytes(
        serialization.Encoding.PEM, serialization.PrivateFormat.PKCS8, serialization.NoEncryption()
    )
    path.write_bytes(made[0].public_bytes(serialization.Encoding.PEM) + key)
    return str(path)


@pull_tests
async def test_registries_and_clients_prove_who_they_are(configured: Configured, tmp_path: Path, make: Any) -> None:
    authority = certificate("authority")
    server = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    server.load_cert_chain(write(tmp_path / "server.pem", certificate("server", authority)))
    server.load_verify_locations(write(tmp_path / "ca.pem", authority))
    server.verify_mode = ssl.CERT_REQUIRED
    registry = ScriptedRegistry(server)
    await registry.start()
    try:
        registry.add_image(make, make.tar(make.member("f", b"1")))
        begin = f'server = "https://{registry.address}"\n'
        client = f'client = "{write(tmp_path / "client.pem", certificate("client", authority))}"\n'

        configured.say("example.test", begin + client)
        with pytest.raises(PullError, match="tls: failed to verify certificate: x509"):
            await configured.store.pull("example.test/app:1")
        configured.say("example.test", begin + f'ca = "{tmp_path}/ca.pem"')
        with pytest.raises(PullError, match="failed to do request"):
            await configured.store.pull("example.test/app:1")
        configured.say("example.test", begin + client + "skip_verify = true")
        first = await configured.store.pull("example.test/app:1")
        configured.say("example.test", begin + client + f'ca = "{tmp_path}/ca.pem"')
        assert await configured.store.pull("example.test/app:1") == first
        configured.say("example.test", begin + f'ca = "{tmp_path}/nothing.pem"')
        with pytest.raises(PullError, match="failed to load certificates"):
            await configured.store.pull("example.test/app:1")
    finally:
        await registry.stop()


# What registries do to those who pull.


@pull_tests
async def test_a_busy_registry_is_asked_again_when_it_says(
    store: ImageStore, scripted: ScriptedRegistry, make: Any
) -> None:
    scripted.add_image(make, make.tar(make.member("f", b"1")))
    later = (datetime.now(UTC) - timedelta(hours=1)).strftime("%a, %d %b %Y %H:%M:%S GMT")
    scripted.trouble = [
        web.Response(status=429, headers={"Retry-After": "0"}),
        web.Response(status=503, headers={"Retry-After": later}),
    ]

    await store.pull(f"{scripted.address}/app:1")

    assert scripted.requests[:3] == ["manifests/1"] * 3


@pull_tests
async def test_a_registry_that_stays_busy_is_given_up(store: ImageStore, scripted: ScriptedRegistry) -> None:
    body = {"errors": [{"code": "TOOMANYREQUESTS", "message": "You have reached your pull rate limit."}]}
    scripted.trouble = [web.json_response(body, status=429, headers={"Retry-After": "0"}) for _ in range(6)]

    with pytest.raises(PullError) as failed:
        await store.pull(f"{scripted.address}/app:1")

    assert str(failed.value).endswith(
        f"unexpected status from HEAD request to http://{scripted.address}/v2/app/manifests/1: 429 Too Many Requests"
        "\ntoomanyrequests: You have reached your pull rate limit."
    )


@pull_tests
@pytest.mark.parametrize("ranges", [True, False])
async def test_a_download_goes_on_where_it_broke(
    store: ImageStore, scripted: ScriptedRegistry, make: Any, monkeypatch: pytest.MonkeyPatch, ranges: bool
) -> None:
    monkeypatch.setattr("pinnace.cri.engine.images.registry._FIRST_PAUSE", 0.0)
    layer = make.tar(make.member("f", bytes(range(256)) * 2000))
    scripted.add_image(make, layer)
    scripted.breaks, scripted.ranges = 3, ranges

    record = await store.pull(f"{scripted.address}/app:1")

    assert (record.layer_dirs[0] / "f").read_bytes() == bytes(range(256)) * 2000
    asked = [one.get("Range", "") for one in scripted.headers if "Range" in one]
    assert len(asked) == 3
    assert all(one.startswith("bytes=") for one in asked)


@pull_tests
async def test_a_host_that_content_lies_at_is_not_told_who_asks(
    store: ImageStore, scripted: ScriptedRegistry, another: ScriptedRegistry, make: Any
) -> None:
    """Not even where it asks for it."""
    layer = make.tar(make.member("f", b"1"))
    scripted.add_image(make, layer)
    blob = f"blobs/{make.digest(layer)}"
    scripted.answers[blob] = (f"http://{another.address}/v2/app/{blob}".encode(), "redirect")
    another.token = "its-own"
    another.add_image(make, layer)

    with pytest.raises(PullError, match="pull access denied"):
        await store.pull(f"{scripted.address}/app:1", AuthConfig(username="ann", password="secret"))

    assert another.requests == [blob]
    secret = base64.b64encode(b"ann:secret").decode()
    assert not any(secret in value for one in another.headers for value in one.values())


@pull_tests
async def test_a_layer_that_no_registry_may_pass_on_is_fetched_from_its_place(
    store: ImageStore, scripted: ScriptedRegistry, another: ScriptedRegistry, make: Any
) -> None:
    import json

    layer = make.tar(make.member("f", b"foreign"))
    another.add_image(make, layer)
    scripted.add_image(make, layer)
    place = f"http://{another.address}/v2/app/blobs/{make.digest(layer)}"
    manifest = json.loads(scripted.answers["manifests/1"][0])
    manifest["layers"][0] |= {
        "mediaType": "application/vnd.docker.image.rootfs.foreign.diff.tar.gzip",
        "urls": ["file:///etc/passwd", place],
    }
    scripted.answers["manifests/1"] = (json.dumps(manifest).encode(), manifest["mediaType"])
    del scripted.answers[f"blobs/{make.digest(layer)}"]

    record = await store.pull(f"{scripted.address}/app:1", AuthConfig(username="ann", password="secret"))

    assert (record.layer_dirs[0] / "f").read_bytes() == b"foreign"
    assert not any("Authorization" in one for one in another.headers)


@pull_tests
async def test_a_manifest_that_is_not_what_its_header_says_is_refused(
    store: ImageStore, scripted: ScriptedRegistry, make: Any
) -> None:
    headers = {"Docker-Content-Digest": make.digest(b"another"), "Content-Type": "application/json"}
    scripted.trouble = [web.Response(body=b"{}", headers=headers)]

    with pytest.raises(PullError, match="unexpected digest"):
        await store.pull(f"{scripted.address}/app:1")
