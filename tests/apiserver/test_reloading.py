"""Files that change while the server runs: certificates, who signs them, and who is asked about tokens and rights."""

from __future__ import annotations

import asyncio
import json
import shutil
import ssl
from pathlib import Path

from cryptography import x509
from cryptography.hazmat.primitives.asymmetric import ec

from pinnace.apiserver.reloading import chores, follow
from pinnace.apiserver.server import ApiServer
from pinnace.store.sqlite import SqliteStore
from tests.apiserver.conftest import Cluster, _certificate, _write, options_for
from tests.apiserver.remote import Remote

KIND = {"apiVersion": "apiserver.config.k8s.io/v1", "kind": "AuthorizationConfiguration"}


def serial_of(port: int) -> int:
    """Of the certificate that the server at a port shows."""
    return x509.load_pem_x509_certificate(ssl.get_server_certificate(("127.0.0.1", port)).encode()).serial_number


async def test_a_new_certificate_and_a_new_authority_count_from_the_next_connection_on(
    pki: Path, tmp_path: Path
) -> None:
    own = tmp_path / "pki"
    shutil.copytree(pki, own)
    store = SqliteStore.open(tmp_path / "state.db")
    server = ApiServer(options_for(own), store)
    await server.start()
    try:
        port = server.addresses[0][1]
        before = await asyncio.to_thread(serial_of, port)
        key = ec.generate_private_key(ec.SECP256R1())
        ca = _certificate("other", (), None, key, key, True)
        leaf = ec.generate_private_key(ec.SECP256R1())
        made = _certificate("kube-apiserver", (), ca.subject, key, leaf, False)
        (own / "server.crt").write_text("half written")
        assert await asyncio.to_thread(serial_of, port) == before

        _write(own / "server", leaf, made)
        _write(own / "ca", key, ca)
        client = _certificate("newcomer", ("system:masters",), ca.subject, key, leaf, False)
        _write(own / "client", leaf, client)

        assert await asyncio.to_thread(serial_of, port) == made.serial_number
        cluster = Cluster(server, store, own)
        cluster.tls.load_cert_chain(own / "client.crt", own / "client.key")
        answer = await cluster.call("GET", "/api/v1/namespaces", headers={"Authorization": ""})
        assert answer.status == 200
    finally:
        await server.stop(0.2)
        await store.close()


async def test_a_file_is_read_again_after_each_change_and_a_bad_one_is_not_the_end(tmp_path: Path) -> None:
    file, read = tmp_path / "file", asyncio.Queue[str]()
    file.write_text("one")

    async def reload() -> None:
        text = file.read_text()
        read.put_nowait(text)
        if text == "bad":
            raise ValueError(text)

    async with asyncio.timeout(60):
        task = asyncio.create_task(follow(file, reload))
        await asyncio.sleep(0)  # it has seen the file
        for text in ("bad", "three"):
            file.write_text(text)
            assert await read.get() == text
        task.cancel()


async def test_a_file_of_a_mounted_config_map_is_read_again_when_its_directory_is_swapped(tmp_path: Path) -> None:
    def version(name: str) -> str:
        (tmp_path / name).mkdir()
        (tmp_path / name / "file").write_text(name)
        return name

    (tmp_path / "..data").symlink_to(version("one"))
    (tmp_path / "file").symlink_to("..data/file")
    read = asyncio.Queue[str]()
    async with asyncio.timeout(60):
        task = asyncio.create_task(follow(tmp_path / "file", lambda: read.put((tmp_path / "file").read_text())))
        await asyncio.sleep(0)  # it has seen the file
        (tmp_path / "..next").symlink_to(version("two"))
        (tmp_path / "..next").rename(tmp_path / "..data")
        assert await read.get() == "two"
        task.cancel()


def deciding(kubeconfig: Path) -> str:
    """A configuration by which a webhook decides."""
    webhook = {
        "timeout": "3s",
        "subjectAccessReviewVersion": "v1",
        "failurePolicy": "NoOpinion",
        "connectionInfo": {"type": "KubeConfigFile", "kubeConfigFile": str(kubeconfig)},
    }
    return json.dumps({**KIND, "authorizers": [{"type": "Webhook", "name": "a", "webhook": webhook}]})


async def test_authorizers_are_replaced_while_the_server_runs(pki: Path, tmp_path: Path) -> None:
    async with (
        Remote(pki, lambda *_: {"status": {"allowed": False}}) as strict,
        Remote(pki, lambda *_: {"status": {"allowed": True}}) as mild,
    ):
        file = tmp_path / "authorization.json"
        file.write_text(deciding(strict.kubeconfig(tmp_path / "strict.conf")))
        store = SqliteStore.open(tmp_path / "state.db")
        options = options_for(pki, authorization_config=file)
        server = ApiServer(options, store)
        await server.start()
        replaced = asyncio.Event()
        (chore,) = chores(options, server.api, server._connections, 0.01, replaced.set)
        task = asyncio.create_task(chore)
        try:
            cluster = Cluster(server, store, pki)
            path, plain = "/api/v1/namespaces", {"Authorization": "Bearer plain"}
            assert (await cluster.call("GET", path, headers=plain)).status == 403
            left = asyncio.Event()
            server._connections.authorization.callback(left.set)
            file.write_text(deciding(mild.kubeconfig(tmp_path / "mild.conf")))
            await asyncio.wait_for(replaced.wait(), 60)
            await asyncio.wait_for(left.wait(), 60)
            assert (await cluster.call("GET", path, headers=plain)).status == 200
        finally:
            task.cancel()
            await server.stop(0.2)
            await store.close()
