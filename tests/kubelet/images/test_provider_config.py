"""What a CredentialProviderConfig may say, and what is said where it may not."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from pinnace.kubelet.images.provider_config import Provider, TokenAttributes, load, parse, problems
from pinnace.machinery.configuration import ConfigurationError

V1 = "credentialprovider.kubelet.k8s.io/v1"
GOOD = {"name": "ecr", "apiVersion": V1, "matchImages": ["*.example"], "defaultCacheDuration": "12h"}
TOKENS = {"serviceAccountTokenAudience": "reg", "cacheType": "Token", "requireServiceAccount": True}

FILE = """
apiVersion: kubelet.config.k8s.io/v1
kind: CredentialProviderConfig
providers:
- name: {name}
  apiVersion: credentialprovider.kubelet.k8s.io/v1
  matchImages: ["*.example"]
  defaultCacheDuration: 1m
  args: [get]
  env: [{{name: REGION, value: here}}]
  tokenAttributes:
    serviceAccountTokenAudience: reg
    cacheType: ServiceAccount
    requireServiceAccount: true
    requiredServiceAccountAnnotationKeys: [example.com/role]
"""


def wrong(*providers: dict[str, Any], tokens: bool = True) -> list[str]:
    return [f"{one.field}: {one.message}" for one in problems(providers, tokens=tokens)]


def test_a_good_one():
    assert wrong(GOOD, {**GOOD, "name": "other", "tokenAttributes": TOKENS}) == []


def test_none_at_all():
    assert wrong() == ["providers: Required value: at least 1 item in plugins is required"]


@pytest.mark.parametrize(
    ("changed", "expected"),
    [
        ({"name": "a/b"}, """name: Invalid value: "a/b": provider name cannot contain '/'"""),
        ({"name": "a b"}, """name: Invalid value: "a b": provider name cannot contain spaces"""),
        ({"name": "."}, """name: Invalid value: ".": provider name cannot be '.'"""),
        ({"name": ".."}, """name: Invalid value: "..": provider name cannot be '..'"""),
        ({"apiVersion": ""}, "apiVersion: Required value"),
        (
            {"apiVersion": "v9"},
            f'apiVersion: Unsupported value: "v9": supported values: "{V1}", "{V1}alpha1", "{V1}beta1"',
        ),
        ({"matchImages": []}, "matchImages: Required value: at least 1 item in matchImages is required"),
        (
            {"matchImages": ["%invalid%"]},
            (
                'matchImages: Invalid value: "%invalid%": match image is invalid: parse "https://%invalid%": '
                'invalid URL escape "%in"'
            ),
        ),
        (
            {"matchImages": ["a:b"]},
            (
                'matchImages: Invalid value: "a:b": match image is invalid: parse "https://a:b": '
                'invalid port ":b" after host'
            ),
        ),
        ({"defaultCacheDuration": None}, "defaultCacheDuration: Required value"),
        (
            {"defaultCacheDuration": "-1m"},
            'defaultCacheDuration: Invalid value: "-1m": must be greater than or equal to 0',
        ),
        (
            {"apiVersion": f"{V1}beta1", "tokenAttributes": TOKENS},
            f"tokenAttributes: Forbidden: tokenAttributes is only supported for {V1} API version",
        ),
        (
            {"tokenAttributes": {**TOKENS, "serviceAccountTokenAudience": ""}},
            "tokenAttributes.serviceAccountTokenAudience: Required value",
        ),
        (
            {"tokenAttributes": {**TOKENS, "requireServiceAccount": None}},
            "tokenAttributes.requireServiceAccount: Required value",
        ),
        (
            {"tokenAttributes": {**TOKENS, "cacheType": ""}},
            (
                "tokenAttributes.cacheType: Required value: cacheType is required to be set when tokenAttributes is "
                "specified. Supported values are: ServiceAccount, Token"
            ),
        ),
        (
            {"tokenAttributes": {**TOKENS, "cacheType": "Pod"}},
            'tokenAttributes.cacheType: Unsupported value: "Pod": supported values: "ServiceAccount", "Token"',
        ),
        (
            {
                "tokenAttributes": {
                    **TOKENS,
                    "requireServiceAccount": False,
                    "requiredServiceAccountAnnotationKeys": ["a"],
                }
            },
            (
                "tokenAttributes.requiredServiceAccountAnnotationKeys: Forbidden: requireServiceAccount cannot be "
                "false when requiredServiceAccountAnnotationKeys is set"
            ),
        ),
        (
            {"tokenAttributes": {**TOKENS, "optionalServiceAccountAnnotationKeys": ["a", "a"]}},
            'tokenAttributes.optionalServiceAccountAnnotationKeys: Duplicate value: "a"',
        ),
        (
            {
                "tokenAttributes": {
                    **TOKENS,
                    "optionalServiceAccountAnnotationKeys": ["a"],
                    "requiredServiceAccountAnnotationKeys": ["a"],
                }
            },
            'tokenAttributes: Invalid value: ["a"]: annotation keys cannot be both required and optional',
        ),
    ],
)
def test_what_is_refused(changed, expected):
    assert wrong({**GOOD, **changed}) == [f"providers.{expected}"]


def test_two_of_a_name():
    assert wrong(GOOD, GOOD) == ['providers.name: Duplicate value: "ecr"']


def test_tokens_where_their_gate_is_off():
    gate = "KubeletServiceAccountTokenForCredentialProviders feature gate is disabled"
    told = f"providers.tokenAttributes: Forbidden: tokenAttributes is not supported when {gate}"
    assert wrong({**GOOD, "tokenAttributes": TOKENS}, tokens=False) == [told]


@pytest.mark.parametrize(
    ("text", "told"),
    [
        ("providers: []", "Object 'Kind' is missing"),
        ("{kind: CredentialProviderConfig, apiVersion: v1}", 'no kind "CredentialProviderConfig" is registered'),
        (FILE.format(name="a").replace("args:", "arguments:"), 'unknown field "providers[0].arguments"'),
        (FILE.format(name="a").replace("1m", "soon"), 'time: invalid duration "soon"'),
    ],
)
def test_what_cannot_be_read(text, told):
    with pytest.raises(ConfigurationError) as error:
        parse(text)
    assert told in str(error.value)


@pytest.fixture
def plugins(tmp_path: Path) -> Path:
    for name in ("one", "two"):
        program = tmp_path / "bin" / name
        program.parent.mkdir(exist_ok=True)
        program.touch(mode=0o755)
    return tmp_path / "bin"


def test_a_file_and_a_directory_of_files(tmp_path: Path, plugins: Path) -> None:
    directory = tmp_path / "config"
    directory.mkdir()
    (directory / "b.yaml").write_text(FILE.format(name="one"))
    (directory / "a.yml").write_text(FILE.format(name="two"))
    (directory / "c.txt").write_text("nonsense")
    tokens = TokenAttributes("reg", "ServiceAccount", True, ["example.com/role"])
    one = Provider("one", V1, ["*.example"], 60.0, ["get"], {"REGION": "here"}, tokens)

    assert load(directory / "b.yaml", plugins, tokens=True) == [one]
    assert [found.name for found in load(directory, plugins, tokens=True)] == ["two", "one"]
    assert load(None, None, tokens=True) == []


def test_what_keeps_a_kubelet_from_starting(tmp_path: Path, plugins: Path) -> None:
    directory = tmp_path / "config"
    directory.mkdir()

    def said(path: Path | None, programs: Path | None) -> str:
        with pytest.raises(ConfigurationError) as error:
            load(path, programs, tokens=True)
        return str(error.value)

    assert said(directory, None) == "plugin binary directory  did not exist"
    assert said(directory, tmp_path / "no") == f"plugin binary directory {tmp_path}/no did not exist"
    assert said(None, plugins) == "credential provider config path is empty"
    assert said(directory / "no", plugins).startswith(f'unable to access path "{directory}/no": ')
    assert said(directory, plugins) == f'no configuration files found in directory "{directory}"'
    (directory / "a.yaml").write_text(FILE.format(name="three"))
    assert said(directory, plugins) == f"plugin binary executable {plugins}/three did not exist"
    (directory / "b.yaml").write_text(FILE.format(name="three"))
    assert said(directory, plugins) == 'duplicate provider name "three" found in configuration file(s)'
    (directory / "b.yaml").write_text(FILE.format(name="a b"))
    assert said(directory / "b.yaml", plugins).startswith(
        "failed to validate credential provider config: providers.name"
    )
