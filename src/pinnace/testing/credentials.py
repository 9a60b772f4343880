"""The certificates of a test's cluster, and kubeconfigs that show them.

Every user is a client certificate: its common name the user, its organizations the groups
(https://kubernetes.io/docs/reference/access-authn-authz/authentication/#x509-client-certificates).
"""

from __future__ import annotations

import base64
from collections.abc import Sequence
from pathlib import Path

from pinnace.kubeadm.pki import Leaf, ensure_authority, ensure_leaf, ensure_signing_key
from pinnace.machinery.meta import Obj, utc_now

SERVER_NAMES = ("localhost", "127.0.0.1", "kubernetes", "kubernetes.default", "kubernetes.default.svc")


class Credentials:
    """Keys and certificates under one directory, made when they are asked for."""

    def __init__(self, directory: Path) -> None:
        self.directory = directory
        now = utc_now()
        self._authority = ensure_authority(directory, "ca", "kubernetes", now)
        self._front_proxy = ensure_authority(directory, "front-proxy-ca", "front-proxy-ca", now)
        self.ca = (directory / "ca.crt").read_text()  # PEM
        ensure_signing_key(directory)
        ensure_leaf(directory, self._front_proxy, Leaf("front-proxy-client", "front-proxy-client", client=True), now)
        self.serving("apiserver", "kube-apiserver", SERVER_NAMES)
        self.client("apiserver-kubelet-client", "kube-apiserver-kubelet-client", ("system:masters",))

    def serving(self, file: str, common_name: str, names: Sequence[str], groups: Sequence[str] = ()) -> Path:
        """A server's certificate for `names`; its path, beside which the key is `.key`."""
        return self._leaf(Leaf(file, common_name, tuple(groups), names=tuple(names), server=True))

    def client(self, file: str, user: str, groups: Sequence[str] = ()) -> Path:
        """The certificate by which a client is `user` in `groups`."""
        return self._leaf(Leaf(file, user, tuple(groups), client=True))

    def _leaf(self, leaf: Leaf) -> Path:
        return ensure_leaf(self.directory, self._authority, leaf, utc_now())


def certificate_user(certificate: Path) -> Obj:
    """The `user` of a kubeconfig that shows this client certificate."""
    return {
        "client-certificate-data": encoded(certificate.read_bytes()),
        "client-key-data": encoded(certificate.with_suffix(".key").read_bytes()),
    }


def kubeconfig(server: str, ca: str, name: str, user: Obj, namespace: str) -> Obj:
    """A kubeconfig of one context, for the cluster at `server` as `name`."""
    context = {"cluster": "pinnace", "user": name, "namespace": namespace}
    return {
        "apiVersion": "v1",
        "kind": "Config",
        "preferences": {},
        "clusters": [
            {"name": "pinnace", "cluster": {"server": server, "certificate-authority-data": encoded(ca.encode())}}
        ],
        "users": [{"name": name, "user": user}],
        "contexts": [{"name": "pinnace", "context": context}],
        "current-context": "pinnace",
    }


def encoded(data: bytes) -> str:
    return base64.b64encode(data).decode()
