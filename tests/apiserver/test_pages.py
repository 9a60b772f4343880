"""What the API server tells of itself: /statusz, /flagz, /debug/flags/v, /logs; and to whom."""

from __future__ import annotations

from pathlib import Path

import pytest

from pinnace.wire import log_files
from pinnace.wire.verbosity import set_verbosity
from tests.apiserver.conftest import Cluster
from tests.apiserver.test_authorization import serving


async def test_only_who_may_is_told(pki: Path, tmp_path: Path) -> None:
    async with serving(pki, tmp_path, authorization_modes=("RBAC",)) as cluster:
        for path in ("/statusz", "/flagz", "/debug/flags/v", "/logs/"):
            assert (await cluster.call("GET", path, headers={"Authorization": "Bearer plain"})).status == 403, path
        monitoring = {"Impersonate-User": "watchman", "Impersonate-Group": "system:monitoring"}
        assert (await cluster.call("GET", "/statusz", headers=monitoring)).status == 200
        assert (await cluster.call("GET", "/flagz", headers=monitoring)).status == 200
        assert (await cluster.call("GET", "/logs/", headers=monitoring)).status == 403


async def test_pages_are_listed_and_told(cluster: Cluster) -> None:
    paths = (await cluster.call("GET", "/")).json["paths"]
    assert {"/flagz", "/logs", "/statusz"} <= set(paths)
    status = (await cluster.call("GET", "/statusz")).body.decode()
    assert status.startswith("\nkube-apiserver statusz\nWarning: ")
    form = {"Accept": "application/json;v=v1alpha1;g=config.k8s.io;as=Flagz"}
    assert (await cluster.call("GET", "/flagz", headers=form)).json["kind"] == "Flagz"


async def test_the_verbosity_can_be_set(cluster: Cluster) -> None:
    answer = await cluster.call("PUT", "/debug/flags/v", b"0")
    set_verbosity(0)
    assert (answer.status, answer.body) == (200, b"successfully set klog.logging.verbosity to 0\n")
    assert (await cluster.call("GET", "/debug/flags/v")).status == 406


async def test_logs_of_the_machine_are_shown(cluster: Cluster, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "some.log").write_text("here\n")
    monkeypatch.setattr(log_files.answer, "__defaults__", (tmp_path,))
    assert (await cluster.call("GET", "/logs/some.log")).body == b"here\n"
    assert b'href="some.log"' in (await cluster.call("GET", "/logs/")).body
    assert (await cluster.call("GET", "/logs/none")).status == 404
