"""Kubeconfigs are read as kubectl reads them, and edited without touching what belongs to others."""

from __future__ import annotations

import base64
import stat
from pathlib import Path

import pytest
import yaml

from pinnace.client import kubeconfig
from pinnace.client.kubeconfig import Kubeconfig, KubeconfigError

OTHERS = """
apiVersion: v1
kind: Config
current-context: work
preferences: {}
clusters:
- name: work
  cluster: {server: "https://work:6443", certificate-authority: pki/ca.crt}
- name: home
  cluster: {server: "https://home:6443", insecure-skip-tls-verify: true}
contexts:
- name: work
  context: {cluster: work, user: me, namespace: dev}
- name: home
  context: {cluster: home, user: me}
users:
- name: me
  user:
    token: abc
extensions:
- name: something
  extension: {kept: true}
"""


@pytest.fixture
def path(tmp_path: Path) -> Path:
    path = tmp_path / "config"
    path.write_text(OTHERS)
    (tmp_path / "pki").mkdir()
    (tmp_path / "pki" / "ca.crt").write_text("PEM")
    return path


def test_the_current_context_is_read(path: Path) -> None:
    found = kubeconfig.load(path)
    assert (found.server, found.ca, found.token, found.namespace) == ("https://work:6443", b"PEM", "abc", "dev")
    assert found.verify


def test_another_context_is_read(path: Path) -> None:
    found = kubeconfig.load(path, "home")
    assert (found.server, found.verify, found.namespace) == ("https://home:6443", False, "default")


def test_inline_data_comes_before_files(tmp_path: Path) -> None:
    data = {name: base64.b64encode(name.encode()).decode() for name in ("ca", "crt", "key")}
    config = Kubeconfig({})
    config.set_cluster(
        "c", {"server": "https://c", "certificate-authority-data": data["ca"], "certificate-authority": "/none"}
    )
    config.set_user("u", {"client-certificate-data": data["crt"], "client-key-data": data["key"]})
    config.set_context("x", cluster="c", user="u")
    found = config.connection("x")
    assert (found.ca, found.certificate, found.key) == (b"ca", b"crt", b"key")


@pytest.mark.parametrize(
    ("text", "says"),
    [
        ("- 1", "not a kubeconfig"),
        ("{", "error loading config file"),
        ("{}", "no context is set"),
        ("current-context: x", 'context "x" does not exist'),
        ("{current-context: x, contexts: [{name: x, context: {cluster: c}}]}", 'cluster "c" does not exist'),
    ],
)
def test_a_file_that_cannot_be_used_says_why(tmp_path: Path, text: str, says: str) -> None:
    path = tmp_path / "config"
    path.write_text(text)
    with pytest.raises(KubeconfigError, match=says):
        kubeconfig.load(path)


def test_of_several_files_the_first_wins(path: Path, monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    first = tmp_path / "first"
    first.write_text("{current-context: home, clusters: [{name: home, cluster: {server: 'https://here'}}]}")
    monkeypatch.setenv("KUBECONFIG", f"{first}:{path}:{tmp_path / 'missing'}")
    found = kubeconfig.load()
    assert (found.server, found.token) == ("https://here", "abc")


def test_edits_keep_what_belongs_to_others(path: Path) -> None:
    before = yaml.safe_load(path.read_text())
    with kubeconfig.edit(path) as config:
        config.set_cluster("pinnace", {"server": "https://127.0.0.1:8443"})
        config.set_user("pinnace", {"token": "t"})
        config.set_context("pinnace", cluster="pinnace", user="pinnace")
        config.use_context("pinnace")
    after = yaml.safe_load(path.read_text())
    assert after["clusters"][:2] == before["clusters"]
    assert after["contexts"][:2] == before["contexts"]
    assert after["users"][:1] == before["users"]
    assert after["extensions"] == before["extensions"]
    assert after["current-context"] == "pinnace"
    assert stat.S_IMODE(path.stat().st_mode) == 0o600
    with kubeconfig.edit(path) as config:
        config.remove(cluster="pinnace", user="pinnace", context="pinnace")
    removed = yaml.safe_load(path.read_text())
    assert removed == {**before, "current-context": ""}


def test_an_entry_is_replaced_where_it_stands(path: Path) -> None:
    with kubeconfig.edit(path) as config:
        config.set_cluster("work", {"server": "https://elsewhere"})
    assert [entry["name"] for entry in yaml.safe_load(path.read_text())["clusters"]] == ["work", "home"]


def test_a_new_file_is_made(tmp_path: Path) -> None:
    path = tmp_path / "new" / "config"
    with kubeconfig.edit(path) as config:
        config.set_user("u", {"token": "t"})
    assert yaml.safe_load(path.read_text())["users"] == [{"name": "u", "user": {"token": "t"}}]
    assert stat.S_IMODE(path.stat().st_mode) == 0o600
    assert list(path.parent.iterdir()) == [path]


def test_a_link_is_followed(path: Path, tmp_path: Path) -> None:
    link = tmp_path / "link"
    link.symlink_to(path)
    with kubeconfig.edit(link) as config:
        config.use_context("home")
    assert link.is_symlink()
    assert yaml.safe_load(path.read_text())["current-context"] == "home"


def test_nothing_is_written_when_the_editor_fails_or_is_locked_out(path: Path) -> None:
    def fail() -> None:
        with kubeconfig.edit(path) as config:
            config.use_context("home")
            raise RuntimeError("mistake")

    with pytest.raises(RuntimeError, match="mistake"):
        fail()
    lock = path.with_name("config.lock")
    assert not lock.exists()
    lock.touch()
    with pytest.raises(KubeconfigError, match="lock exists"), kubeconfig.edit(path):
        pass
    assert path.read_text() == OTHERS


def test_in_cluster_needs_the_kubelets_gifts(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("KUBERNETES_SERVICE_HOST", raising=False)
    with pytest.raises(KubeconfigError, match="unable to load in-cluster configuration"):
        kubeconfig.in_cluster()
