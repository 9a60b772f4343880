"""Secrets of ServiceAccounts hold tokens, as long as both are there."""

from __future__ import annotations

import base64
from functools import cache
from pathlib import Path
from typing import Any

import jwt
import pytest
from cryptography.hazmat.primitives.asymmetric import ec, rsa
from cryptography.hazmat.primitives.serialization import (
    Encoding,
    NoEncryption,
    PrivateFormat,
    PublicFormat,
    load_pem_private_key,
)

from pinnace.apis.resources import CONFIG_MAPS, SECRETS, SELF_SUBJECT_REVIEWS, SERVICE_ACCOUNTS, TOKEN_REVIEWS
from pinnace.apiserver.options import Options
from pinnace.apiserver.server import ApiServer
from pinnace.client.client import Client
from pinnace.client.https import HttpsTransport
from pinnace.client.kubeconfig import Connection
from pinnace.client.transport import LoopbackTransport
from pinnace.controllers.legacy_serviceaccount_token_cleaner import INVALID_SINCE, LAST_USED, TRACKING
from pinnace.controllers.serviceaccount_token import (
    ACCOUNT_NAME,
    ACCOUNT_UID,
    ServiceAccountTokenController,
    Signer,
    belongs_to,
    claims_of,
    filled,
)
from pinnace.machinery.errors import ApiError
from pinnace.machinery.meta import Obj, annotations_of, labels_of, utc_now
from pinnace.store.sqlite import SqliteStore
from tests.client.fake_api import FakeApi
from tests.controllers.simulation import running
from tests.controllers.test_manager import managing, until


@cache
def private_key() -> bytes:
    key = ec.generate_private_key(ec.SECP256R1())
    return key.private_bytes(Encoding.PEM, PrivateFormat.PKCS8, NoEncryption())


def account(uid: str = "u1") -> Obj:
    metadata = {"name": "robot", "namespace": "default", "uid": uid}
    return {"apiVersion": "v1", "kind": "ServiceAccount", "metadata": metadata}


def secret(uid: str = "") -> Obj:
    marks = {ACCOUNT_NAME: "robot", **({ACCOUNT_UID: uid} if uid else {})}
    metadata = {"name": "robot-token", "namespace": "default", "annotations": marks}
    kind = {"apiVersion": "v1", "kind": "Secret", "type": "kubernetes.io/service-account-token"}
    return {**kind, "metadata": metadata, "data": {}}


def text(obj: Obj, name: str) -> str:
    return base64.b64decode(obj["data"][name]).decode()


def test_a_secret_is_filled_once() -> None:
    wanted = filled(secret(), account(), "PEM", Signer(private_key()))
    assert wanted is not None
    assert (text(wanted, "ca.crt"), text(wanted, "namespace")) == ("PEM", "default")
    assert annotations_of(wanted) == {ACCOUNT_NAME: "robot", ACCOUNT_UID: "u1"}
    public = load_pem_private_key(private_key(), None).public_key()
    key: Any = public.public_bytes(Encoding.PEM, PublicFormat.SubjectPublicKeyInfo)
    assert jwt.decode(text(wanted, "token"), key, algorithms=["ES256"]) == claims_of(account(), secret())
    assert filled(wanted, account(), "PEM", Signer(private_key())) is None
    again = filled(wanted, account(), "NEW", Signer(private_key()))
    assert again is not None
    assert (text(again, "ca.crt"), again["data"]["token"]) == ("NEW", wanted["data"]["token"])


def test_keys_of_both_kinds_sign() -> None:
    key = rsa.generate_private_key(65537, 2048)
    pem = key.private_bytes(Encoding.PEM, PrivateFormat.PKCS8, NoEncryption())
    assert jwt.get_unverified_header(Signer(pem).sign({}))["alg"] == "RS256"
    assert jwt.get_unverified_header(Signer(private_key()).sign({}))["alg"] == "ES256"


@pytest.mark.parametrize(
    ("one", "owner", "expected"),
    [
        (secret(), account(), True),
        (secret("u1"), account(), True),
        (secret("u2"), account(), False),
        (secret(), None, False),
    ],
)
def test_to_whom_a_secret_belongs(one: Obj, owner: Obj | None, expected: bool) -> None:
    assert belongs_to(one, owner) is expected


def make(client: Any, informers: Any) -> ServiceAccountTokenController:
    return ServiceAccountTokenController(client, informers, private_key=private_key(), root_ca="PEM")


async def test_a_secret_goes_with_its_account() -> None:
    api = FakeApi()
    async with running(api, make):
        await api.client.create(SERVICE_ACCOUNTS, account())
        await api.client.create(SECRETS, secret())
        await api.until(lambda: api.all(SECRETS)[0]["data"].get("token"))
        await api.client.create(
            SECRETS, {**secret(), "type": "Opaque", "metadata": {"name": "x", "namespace": "default"}}
        )
        await api.client.delete(SERVICE_ACCOUNTS, "robot", "default")
        await api.until(lambda: len(api.all(SECRETS)) == 1)
    assert api.all(SECRETS)[0]["metadata"]["name"] == "x"


async def test_the_api_server_knows_whose_the_token_is(tmp_path: Path) -> None:
    key_file = tmp_path / "sa.key"
    key_file.write_bytes(private_key())
    store = SqliteStore.open(tmp_path / "state.db")
    options = Options(bind=[("127.0.0.1", 0)], advertise_address="192.0.2.1", service_account_signing_key_file=key_file)
    server = ApiServer(options, store)
    await server.start()
    try:
        client = Client(LoopbackTransport(server, "system:apiserver"))
        async with managing(server, service_account_key=private_key(), root_ca="PEM"):
            made = account()
            del made["metadata"]["uid"]
            await client.create(SERVICE_ACCOUNTS, made)
            await client.create(SECRETS, secret())
            found = await until(
                client, SECRETS, lambda found: [one for one in found if (one.get("data") or {}).get("token")]
            )
            (host, port), *_ = server.addresses
            token = text(found[0], "token")
            wire = Client(HttpsTransport(Connection(server=f"http://{host}:{port}", token=token)))
            review = {"apiVersion": "authentication.k8s.io/v1", "kind": "SelfSubjectReview", "metadata": {}}
            answer = await wire.create(SELF_SUBJECT_REVIEWS, review)
            assert answer["status"]["userInfo"]["username"] == "system:serviceaccount:default:robot"
            await until(client, SECRETS, lambda found: [one for one in found if LAST_USED in labels_of(one)])
            tracking = await client.get(CONFIG_MAPS, TRACKING, "kube-system")
            assert tracking["data"]["since"] <= utc_now().strftime("%Y-%m-%d")
            # One that was marked is good no more, until the mark is taken away.
            for mark in ("2026-01-01", None):
                marked = {"metadata": {"labels": {INVALID_SINCE: mark}}}
                await client.patch(SECRETS, "robot-token", marked, "default")
                asked = {**review, "kind": "TokenReview", "spec": {"token": token}}
                judged = await client.create(TOKEN_REVIEWS, asked)
                assert bool(judged["status"].get("authenticated")) is (mark is None)
            await wire.transport.close()
            owner = await client.get(SERVICE_ACCOUNTS, "robot", "default")
            unheld = Signer(private_key()).sign({**claims_of(owner, found[0]), "jti": "another"})
            wire = Client(HttpsTransport(Connection(server=f"http://{host}:{port}", token=unheld)))
            with pytest.raises(ApiError) as refused:
                await wire.create(SELF_SUBJECT_REVIEWS, review)
            assert refused.value.code == 401
            await wire.transport.close()
    finally:
        await server.stop()
        await store.close()
