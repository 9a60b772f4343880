"""How long the kubelet's own certificates still hold, as its metrics tell.

Apart from what asks for them, for that needs `cryptography`, 8 MiB, which a kubelet with given certificates does not.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import Protocol
from weakref import WeakSet

from pinnace.machinery.metrics import Collected, Family

CLIENT_SIGNER = "kubernetes.io/kube-apiserver-client-kubelet"
SERVING_SIGNER = "kubernetes.io/kubelet-serving"

_LIVES = (
    (CLIENT_SIGNER, "client", "TTL (time-to-live) of the Kubelet's client"),
    (SERVING_SIGNER, "server", "shortest TTL (time-to-live) of the Kubelet's serving"),
)


class Kept(Protocol):
    """One certificate that is renewed before it ends."""

    @property
    def signer(self) -> str: ...

    def left(self) -> float: ...


kept: WeakSet[Kept] = WeakSet()


def families() -> list[Family]:
    """How long the certificates hold that are kept here: none for those that are not."""
    return [_life(*one) for one in _LIVES]


def _life(signer: str, what: str, words: str) -> Family:
    about = f"Gauge of the {words} certificate. The value is in seconds until certificate expiry (negative if already "
    about += (
        f"expired). If {what.replace('server', 'serving')} certificate is invalid or unused, the value will be +INF."
    )
    return Collected("gauge", f"kubelet_certificate_manager_{what}_ttl_seconds", about, (), lambda: _left(signer))


def _left(signer: str) -> Iterator[tuple[tuple[str, ...], float]]:
    for one in [one for one in kept if one.signer == signer][:1]:
        yield (), one.left()
