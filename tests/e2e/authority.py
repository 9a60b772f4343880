"""A certificate authority for tests of a real cluster, which signs what pods ask for."""

from __future__ import annotations

import base64
import json
import time
from datetime import UTC, datetime, timedelta

from cryptography import x509
from cryptography.hazmat.primitives.asymmetric import ed25519
from cryptography.hazmat.primitives.serialization import Encoding
from cryptography.x509.oid import NameOID

from tests.e2e.conftest import Cluster
from tests.e2e.pods import Obj

LIMIT = 60.0  # seconds


def named(name: str) -> x509.Name:
    return x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, name)])


class Authority:
    """A self-signed certificate and its key; `signer` is its name in the cluster."""

    def __init__(self, name: str, signer: str = "") -> None:
        self.signer = signer
        self._name = named(name)
        self._key = ed25519.Ed25519PrivateKey.generate()
        now = datetime.now(UTC)
        certificate = self._builder(now, timedelta(days=1)).subject_name(self._name).public_key(self._key.public_key())
        self.certificate = certificate.add_extension(x509.BasicConstraints(ca=True, path_length=None), True).sign(
            self._key, None
        )
        self.pem = self.certificate.public_bytes(Encoding.PEM).decode()

    def _builder(self, start: datetime, life: timedelta) -> x509.CertificateBuilder:
        builder = x509.CertificateBuilder().issuer_name(self._name).serial_number(x509.random_serial_number())
        return builder.not_valid_before(start).not_valid_after(start + life)

    def bundle(self, name: str, **labels: str) -> Obj:
        """A ClusterTrustBundle with the authority's certificate."""
        spec = {"trustBundle": self.pem} | ({"signerName": self.signer} if self.signer else {})
        metadata = {"name": name, "labels": labels}
        return {
            "apiVersion": "certificates.k8s.io/v1",
            "kind": "ClusterTrustBundle",
            "metadata": metadata,
            "spec": spec,
        }

    def sign(self, cluster: Cluster, namespace: str, count: int) -> list[Obj]:
        """Wait until pods of the namespace have asked for so many certificates, and give them these."""
        deadline = time.monotonic() + LIMIT
        while len(requests := cluster.json("-n", namespace, "get", "podcertificaterequests")["items"]) < count:
            assert time.monotonic() < deadline, "the kubelet did not ask"
        for request in requests:
            patch = json.dumps({"status": self._status(request["spec"])})
            name = request["metadata"]["name"]
            cluster.kubectl(
                "-n", namespace, "patch", "podcertificaterequest", name, "--subresource=status", "--type=merge",
                "-p", patch,
            )  # fmt: skip
        found: list[Obj] = requests
        return found

    def _status(self, spec: Obj) -> Obj:
        stub = x509.load_der_x509_csr(base64.b64decode(spec["stubPKCS10Request"]))
        start = datetime.now(UTC).replace(microsecond=0)
        life = timedelta(seconds=spec["maxExpirationSeconds"])
        path = (spec.get("unverifiedUserAnnotations") or {}).get("example.com/path", spec["serviceAccountName"])
        uri = x509.UniformResourceIdentifier(f"spiffe://cluster.local/{path}")
        builder = self._builder(start, life).subject_name(named(spec["podName"])).public_key(stub.public_key())
        leaf = builder.add_extension(x509.SubjectAlternativeName([uri]), False).sign(self._key, None)
        moments = {"notBefore": start, "beginRefreshAt": start + life / 2, "notAfter": start + life}
        written = {key: moment.strftime("%Y-%m-%dT%H:%M:%SZ") for key, moment in moments.items()}
        condition = {"type": "Issued", "status": "True", "reason": "Test", "message": ""}
        condition["lastTransitionTime"] = written["notBefore"]
        chain = leaf.public_bytes(Encoding.PEM).decode()
        return {"conditions": [condition], "certificateChain": chain, **written}
