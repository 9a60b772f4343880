"""Plugins that know credentials: what they are asked, what their answers are kept for, and their failures."""

from __future__ import annotations

import asyncio
from pathlib import Path
from typing import Any

import orjson
import pytest

from pinnace.kubelet.images.keyring import Owner
from pinnace.kubelet.images.provider_config import Provider, TokenAttributes
from pinnace.kubelet.images.providers import Answer, Plugin, PluginError, read_answer, request, run_plugin
from pinnace.machinery.errors import not_found
from pinnace.machinery.meta import Obj

V1 = "credentialprovider.kubelet.k8s.io/v1"
IMAGE = "reg.example/team/app"
OTHER = "reg.example/team/other"


def pod(account: str = "", uid: str = "u") -> Obj:
    return {"metadata": {"name": "p", "namespace": "d", "uid": uid}, "spec": {"serviceAccountName": account}}


def provider(cache: float = 60.0, tokens: TokenAttributes | None = None) -> Provider:
    return Provider("plug", V1, ["*.example"], cache, tokens=tokens)


def response(kind: str = "Image", duration: str | None = None, **more: Any) -> bytes:
    auth = {"*.example": {"username": "me", "password": "secret"}}
    head = {"apiVersion": V1, "kind": "CredentialProviderResponse"}
    kept = {} if duration is None else {"cacheDuration": duration}
    return orjson.dumps({**head, "cacheKeyType": kind, "auth": auth, **kept, **more})


class Accounts:
    """Two service accounts, and a token for each pod."""

    def __init__(self) -> None:
        self.known = {"reader": {"example.com/role": "read", "example.com/team": "blue"}, "plain": {}}

    async def account(self, namespace: str, name: str) -> Obj:
        if name not in self.known:
            raise not_found("serviceaccounts", name)
        return {"metadata": {"name": name, "namespace": namespace, "uid": name[0], "annotations": self.known[name]}}

    async def token(self, pod: Obj, audience: str) -> str:
        return f"{pod['metadata']['uid']}-{audience}"


class Asked:
    """A plugin that writes `answer` and remembers what it was asked."""

    def __init__(self, answer: bytes) -> None:
        self.answer = answer
        self.requests: list[Obj] = []
        self.now = 0.0

    async def run(self, _: Provider, asked: Obj) -> bytes:
        self.requests.append(asked)
        await asyncio.sleep(0)
        return self.answer

    def plugin(self, known: Provider) -> Plugin:
        return Plugin(known, Accounts(), self.run, lambda: self.now)


async def test_an_image_that_fits_is_asked_for():
    asked = Asked(response())
    found = await asked.plugin(provider()).credentials(pod(), IMAGE)
    assert asked.requests == [{"kind": "CredentialProviderRequest", "apiVersion": V1, "image": IMAGE}]
    ((pattern, (credential,)),) = found.items()
    assert (pattern, credential.auth.username, credential.auth.password) == ("*.example", "me", "secret")
    assert credential.owner is None


async def test_an_image_that_does_not_fit_is_nobodys_business():
    asked = Asked(response())
    assert await asked.plugin(provider()).credentials(pod(), "reg.test/app") == {}
    assert asked.requests == []


@pytest.mark.parametrize(
    ("kind", "questions"),
    [("Image", [IMAGE, OTHER, "b.example/x"]), ("Registry", [IMAGE, "b.example/x"]), ("Global", [IMAGE])],
)
async def test_what_an_answer_is_kept_for(kind, questions):
    asked = Asked(response(kind))
    plugin = asked.plugin(provider())
    for image in (IMAGE, IMAGE, OTHER, "b.example/x"):
        assert await plugin.credentials(pod(), image)
    assert [one["image"] for one in asked.requests] == questions


@pytest.mark.parametrize(
    ("default", "said", "seconds"),
    [(60.0, None, 60.0), (60.0, "10s", 10.0), (60.0, "0s", None), (0.0, None, None), (0.0, "5m", 300.0)],
)
async def test_how_long_an_answer_is_kept(default, said, seconds):
    asked = Asked(response(duration=said))
    plugin = asked.plugin(provider(default))
    await plugin.credentials(pod(), IMAGE)
    asked.now = seconds or 0.0
    await plugin.credentials(pod(), IMAGE)
    assert len(asked.requests) == (1 if seconds else 2)
    asked.now += 0.1
    await plugin.credentials(pod(), IMAGE)
    assert len(asked.requests) == (2 if seconds else 3)


async def test_equal_questions_at_the_same_time_are_one():
    asked = Asked(response(duration="0s"))
    plugin = asked.plugin(provider())
    await asyncio.gather(*(plugin.credentials(pod(), IMAGE) for _ in range(5)))
    assert len(asked.requests) == 1


async def test_a_plugin_is_shown_the_pods_account():
    tokens = TokenAttributes("aud", "ServiceAccount", True, ["example.com/role"], ["example.com/team", "no"])
    asked = Asked(response())
    found = await asked.plugin(provider(tokens=tokens)).credentials(pod("reader"), IMAGE)
    (request_,) = asked.requests
    assert request_["serviceAccountToken"] == "u-aud"
    assert request_["serviceAccountAnnotations"] == {"example.com/role": "read", "example.com/team": "blue"}
    assert [one.owner for one in found["*.example"]] == [Owner("ServiceAccount", "d", "reader", "r")]


@pytest.mark.parametrize(
    ("account", "required", "questions"),
    [("", True, 0), ("", False, 1), ("plain", True, 0), ("gone", True, 0), ("reader", True, 1)],
)
async def test_pods_for_which_a_plugin_is_not_asked(account, required, questions):
    """No account where one is needed, one without the annotation that is, one that is gone."""
    keys = ["example.com/role"] if required else []
    asked = Asked(response())
    plugin = asked.plugin(provider(tokens=TokenAttributes("aud", "Token", required, keys)))
    found = await plugin.credentials(pod(account), IMAGE)
    assert (len(asked.requests), bool(found)) == (questions, bool(questions))


@pytest.mark.parametrize(("cache_type", "questions"), [("ServiceAccount", 1), ("Token", 2)])
async def test_answers_are_kept_for_accounts_or_for_tokens(cache_type, questions):
    asked = Asked(response())
    plugin = asked.plugin(provider(tokens=TokenAttributes("aud", cache_type, True)))
    for uid in "ab":
        await plugin.credentials(pod("plain", uid), IMAGE)
    assert len(asked.requests) == questions
    await plugin.credentials(pod("reader", "a"), IMAGE)
    assert len(asked.requests) == questions + 1


@pytest.mark.parametrize(
    ("said", "why"),
    [
        (b"nonsense", "error reading GVK from response: couldn't get version/kind; json parse error"),
        (
            response(apiVersion=f"{V1}beta1"),
            (
                "apiVersion from credential plugin response did not match expected "
                f"apiVersion:{V1}, actual apiVersion:{V1}beta1"
            ),
        ),
        (response(kind="Image", more="x"), "error decoding credential provider plugin response from stdout"),
        (response(auth="secret"), "error decoding credential provider plugin response from stdout"),
        (response(duration="soon"), "error decoding credential provider plugin response from stdout"),
    ],
)
def test_answers_that_are_none(said, why):
    with pytest.raises(PluginError) as error:
        read_answer(said, V1)
    assert str(error.value) == why


def test_an_answer_without_credentials():
    head = {"apiVersion": V1, "kind": "CredentialProviderResponse", "cacheKeyType": "Global"}
    assert read_answer(orjson.dumps(head), V1) == Answer("Global", None, {})


@pytest.mark.parametrize("said", [b"", response("Everything")])
async def test_a_plugin_that_fails_is_as_good_as_none(said):
    asked = Asked(said)
    plugin = asked.plugin(provider())
    assert await plugin.credentials(pod(), IMAGE) == {}
    assert await plugin.credentials(pod(), IMAGE) == {}
    assert len(asked.requests) == 2  # nothing was kept


def program(path: Path, script: str) -> Provider:
    path.write_text(f"#!/bin/sh\n{script}\n")
    path.chmod(0o755)
    return Provider(path.name, V1, ["*"], 0.0, ["an argument"], {"REGION": "here"})


async def test_a_program_reads_the_request_and_writes_the_answer(tmp_path: Path) -> None:
    plug = program(tmp_path / "plug", 'read -r line; echo "$line $1 $REGION ${PATH:+path}"')
    said = await run_plugin(tmp_path, plug, request(V1, IMAGE))
    text = f'{{"kind":"CredentialProviderRequest","apiVersion":"{V1}","image":"{IMAGE}"}}'
    assert said.decode() == f"{text} an argument here path\n"


@pytest.mark.parametrize(
    ("script", "why"),
    [("echo no such region >&2; exit 3", "exit status 3: no such region\n"), ("kill -9 $$", "signal: killed: ")],
)
async def test_a_program_that_fails(tmp_path, script, why):
    plug = program(tmp_path / "plug", script)
    with pytest.raises(PluginError) as error:
        await run_plugin(tmp_path, plug, request(V1, IMAGE))
    assert str(error.value) == f"error execing credential provider plugin plug for image {IMAGE}: {why}"


async def test_a_program_that_does_not_end_is_killed(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("pinnace.kubelet.images.providers.PATIENCE", 0.05)
    plug = program(tmp_path / "plug", "exec sleep 1000")
    with pytest.raises(PluginError, match="context deadline exceeded"):
        await run_plugin(tmp_path, plug, request(V1, IMAGE))
