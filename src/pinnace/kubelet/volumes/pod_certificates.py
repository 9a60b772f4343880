"""Keys and certificates of pods: asked for by PodCertificateRequest, and anew when their signer says that it is time.

The key never leaves the node, and is kept in memory alone: a kubelet started anew asks for others. Nothing waits here:
a volume that has no certificate yet fails, and its pod is told once a signer has answered. Specified by
https://kubernetes.io/docs/reference/access-authn-authz/certificate-signing-requests/#pod-certificate-requests.
"""

from __future__ import annotations

import asyncio
import base64
import random
import re
from collections.abc import Callable
from dataclasses import dataclass
from datetime import datetime, timedelta
from typing import NamedTuple

import structlog

from pinnace.apis.resources import POD_CERTIFICATE_REQUESTS, SERVICE_ACCOUNTS
from pinnace.client.client import Client
from pinnace.client.informer import Informer
from pinnace.machinery.errors import ApiError
from pinnace.machinery.meta import Obj, name_of, namespace_of, parse_time, uid_of
from pinnace.wire.tasks import end_tasks

_log = structlog.get_logger()

LONGEST_JITTER = timedelta(minutes=5)  # so that certificates made together are not renewed together
NOT_YET = "credential bundle is not issued yet"
_BLOCK = re.compile(r"-----BEGIN CERTIFICATE-----\s+([A-Za-z0-9+/=\s]+?)-----END CERTIFICATE-----")
_WIDTH = 64  # characters in a line of PEM
_Key = tuple[str, str, int]  # pod UID, volume, number of the source


class CertificateError(Exception):
    """There is no certificate, perhaps for good."""


class Credentials(NamedTuple):
    """PEM, all of it."""

    key: bytes
    chain: bytes


@dataclass(slots=True)
class _Record:
    """How far one source has come."""

    credentials: Credentials | None = None
    renewal: datetime | None = None
    refusal: str = ""  # why there will never be a certificate
    task: asyncio.Task[None] | None = None  # asks for one


class PodCertificates:
    """The certificates of one node's pods; `changed` is given the UID of a pod that has another."""

    def __init__(
        self,
        client: Client,
        node_object: Callable[[], Obj | None],
        tell: Callable[[Obj, str, str, str], None],
        changed: Callable[[str], None],
        now: Callable[[], datetime],
    ) -> None:
        self._client = client
        self._node_object = node_object
        self._tell = tell
        self._changed = changed
        self._now = now
        self._records: dict[_Key, _Record] = {}

    def get(self, pod: Obj, volume: str, index: int, source: Obj) -> Credentials:
        """What a `podCertificate` source holds now. Raises CertificateError; what is missing is asked for."""
        record = self._records.setdefault((uid_of(pod), volume, index), _Record())
        if record.refusal:
            raise CertificateError(record.refusal)
        is_due = record.renewal is None or self._now() >= record.renewal
        if is_due and (record.task is None or record.task.done()):
            record.task = asyncio.create_task(self._renew(pod, source, record), name=f"certificate of {name_of(pod)}")
        if record.credentials is None:
            raise CertificateError(NOT_YET)
        return record.credentials

    def forget(self, uid: str) -> None:
        for key in [key for key in self._records if key[0] == uid]:
            record = self._records.pop(key)
            if record.task is not None:
                record.task.cancel()

    async def close(self) -> None:
        await end_tasks(record.task for record in self._records.values() if record.task is not None)

    async def _renew(self, pod: Obj, source: Obj, record: _Record) -> None:
        try:
            key, proof = await asyncio.to_thread(_make_key, source["keyType"])
            request = await self._ask(pod, source, proof)
            answered = await self._answer(request)
        except ApiError as error:
            _log.warning("no certificate for a pod", pod=name_of(pod), error=error.message)
            return
        self._take(pod, record, key, answered)
        self._changed(uid_of(pod))

    async def _ask(self, pod: Obj, source: Obj, proof: bytes) -> Obj:
        """The request as it was made. Raises ApiError."""
        namespace, account = namespace_of(pod), pod["spec"].get("serviceAccountName") or "default"
        found = await self._client.get(SERVICE_ACCOUNTS, account, namespace)
        node = self._node_object() or {"metadata": {}}
        spec = {
            "signerName": source["signerName"],
            "podName": name_of(pod),
            "podUID": uid_of(pod),
            "serviceAccountName": account,
            "serviceAccountUID": uid_of(found),
            "nodeName": node["metadata"].get("name", ""),
            "nodeUID": node["metadata"].get("uid", ""),
            "maxExpirationSeconds": source.get("maxExpirationSeconds"),
            "stubPKCS10Request": base64.b64encode(proof).decode(),
            "unverifiedUserAnnotations": source.get("userAnnotations"),
        }
        owner = {"apiVersion": "v1", "kind": "Pod", "name": name_of(pod), "uid": uid_of(pod)}
        request: Obj = {
            "apiVersion": "certificates.k8s.io/v1",
            "kind": "PodCertificateRequest",
            "metadata": {"generateName": "req-", "namespace": namespace, "ownerReferences": [owner]},
            "spec": {key: value for key, value in spec.items() if value is not None},
        }
        return await self._client.create(POD_CERTIFICATE_REQUESTS, request, namespace)

    async def _answer(self, request: Obj) -> Obj:
        """The request once its signer has answered. Raises ApiError when it is deleted before."""
        answer: asyncio.Future[Obj] = asyncio.get_running_loop().create_future()

        def look(found: Obj) -> None:
            if not answer.done() and _decision(found) is not None:
                answer.set_result(found)

        def lost(_: Obj) -> None:
            if not answer.done():
                answer.set_exception(ApiError(404, "NotFound", "PodCertificateRequest appears to have been deleted"))

        name, namespace = name_of(request), namespace_of(request)
        informer = Informer(
            self._client, POD_CERTIFICATE_REQUESTS, namespace=namespace, field_selector=f"metadata.name={name}"
        )
        informer.add_handler(look, lambda _, found: look(found), lost)
        watching = asyncio.create_task(informer.run(), name=f"watch request {namespace}/{name}")
        try:
            return await answer
        finally:
            await end_tasks([watching])

    def _take(self, pod: Obj, record: _Record, key: bytes, request: Obj) -> None:
        decision, status = _decision(request) or {}, request["status"]
        kind, reason, message = decision["type"], decision.get("reason", ""), decision.get("message", "")
        if kind == "Issued":
            chain = "".join(pem_certificates(status.get("certificateChain") or ""))
            record.credentials = Credentials(key, chain.encode())
            record.renewal = parse_time(status["beginRefreshAt"]) + random.random() * LONGEST_JITTER
            return
        record.refusal = f'PodCertificateRequest was permanently {kind.lower()}: reason="{reason}" message="{message}"'
        verb = "was denied" if kind == "Denied" else "failed"
        told = f"PodCertificateRequest {namespace_of(request)}/{name_of(request)} {verb}"
        self._tell(pod, "Warning", kind, f'{told}, reason="{reason}", message="{message}"')


def _decision(request: Obj) -> Obj | None:
    """The condition that says how a request ended."""
    conditions = (request.get("status") or {}).get("conditions") or ()
    return next((one for one in conditions if one.get("type") in ("Issued", "Denied", "Failed")), None)


def _make_key(key_type: str) -> tuple[bytes, bytes]:
    """A new key in PEM, and as proof of it an empty certificate request in DER."""
    from cryptography import x509
    from cryptography.hazmat.primitives import hashes
    from cryptography.hazmat.primitives.asymmetric import ec, ed25519, rsa
    from cryptography.hazmat.primitives.serialization import Encoding, NoEncryption, PrivateFormat

    curves: dict[str, ec.EllipticCurve] = {
        "ECDSAP256": ec.SECP256R1(),
        "ECDSAP384": ec.SECP384R1(),
        "ECDSAP521": ec.SECP521R1(),
    }
    key: ec.EllipticCurvePrivateKey | ed25519.Ed25519PrivateKey | rsa.RSAPrivateKey
    if key_type in curves:
        key = ec.generate_private_key(curves[key_type])
    elif key_type == "ED25519":
        key = ed25519.Ed25519PrivateKey.generate()
    else:
        key = rsa.generate_private_key(65537, int(key_type.removeprefix("RSA")))
    algorithm = None if isinstance(key, ed25519.Ed25519PrivateKey) else hashes.SHA256()
    proof = x509.CertificateSigningRequestBuilder().subject_name(x509.Name([])).sign(key, algorithm)
    pem = key.private_bytes(Encoding.PEM, PrivateFormat.PKCS8, NoEncryption())
    return pem, proof.public_bytes(Encoding.DER)


def pem_certificates(pem: str) -> list[str]:
    """The certificates in a text, each as plain PEM, without what stands between them."""
    return [_written("".join(block.split())) for block in _BLOCK.findall(pem)]


def _written(base64: str) -> str:
    lines = [base64[start : start + _WIDTH] for start in range(0, len(base64), _WIDTH)]
    return "\n".join(("-----BEGIN CERTIFICATE-----", *lines, "-----END CERTIFICATE-----", ""))
