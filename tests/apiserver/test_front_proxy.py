"""Who a front proxy speaks for: believed for its certificate, read from its headers line by line."""

from __future__ import annotations

from pathlib import Path

import pytest
from cryptography import x509
from cryptography.hazmat.primitives.serialization import Encoding

from pinnace.apiserver.authn import AUTHENTICATED
from pinnace.apiserver.front_proxy import FrontProxies, ProxyHeaders
from pinnace.wire.http import Peer, Repeated, Request


def repeated(*lines: str) -> str:
    value = lines[0]
    for line in lines[1:]:
        value = Repeated.of("x", value, line)
    return value


def request(pki: Path, headers: dict[str, str], certificate: str = "admin.crt") -> Request:
    loaded = x509.load_pem_x509_certificate((pki / certificate).read_bytes())
    return Request("GET", "/", "", headers, b"", Peer("", loaded.public_bytes(Encoding.DER)))


@pytest.mark.parametrize(
    ("headers", "groups", "extra"),
    [
        ({}, (), {}),
        ({"x-remote-group": "dev"}, ("dev",), {}),
        ({"x-remote-group": "with, a comma"}, ("with, a comma",), {}),
        ({"x-remote-group": repeated("dev", "with, a comma", "ops")}, ("dev", "with, a comma", "ops"), {}),
        ({"x-remote-group": ""}, (), {}),
        ({"x-remote-extra-scopes": repeated("a", "b,c")}, (), {"scopes": ("a", "b,c")}),
        ({"x-remote-extra-a%2fb": "1"}, (), {"a/b": ("1",)}),
        ({"x-remote-extra-a%2fb": "1", "x-remote-extra-a%2Fb": "2"}, (), {"a/b": ("1", "2")}),
    ],
)
def test_each_line_of_a_header_is_one_value(
    pki: Path, headers: dict[str, str], groups: tuple[str, ...], extra: dict[str, tuple[str, ...]]
) -> None:
    proxies = FrontProxies(pki / "ca.crt", None, ())

    user = proxies.user_of(request(pki, {"x-remote-user": "ann", "x-remote-uid": "7", **headers}))

    assert user is not None
    assert (user.name, user.uid, user.groups, user.extra) == ("ann", "7", (*groups, AUTHENTICATED), extra)


def test_only_an_allowed_name_speaks_for_others(pki: Path) -> None:
    asked = request(pki, {"x-remote-user": "ann"})

    assert FrontProxies(pki / "ca.crt", None, ("kubernetes-admin",)).user_of(asked) is not None
    assert FrontProxies(pki / "ca.crt", None, ("front-proxy-client",)).user_of(asked) is None
    assert FrontProxies(pki / "ca.crt", None, ()).user_of(request(pki, {"x-remote-group": "dev"})) is None


def test_headers_may_have_other_names(pki: Path) -> None:
    headers = ProxyHeaders(("x-user", "x-remote-user"), (), ("x-groups", "x-remote-group"), ("x-more-",))
    proxies = FrontProxies(pki / "ca.crt", None, (), headers)
    told = {"x-remote-user": "ann", "x-remote-uid": "7", "x-groups": "dev", "x-remote-group": "ops", "x-more-a": "b"}

    user = proxies.user_of(request(pki, told))

    assert user is not None
    assert (user.name, user.uid, user.groups, user.extra) == ("ann", "", ("dev", "ops", AUTHENTICATED), {"a": ("b",)})
