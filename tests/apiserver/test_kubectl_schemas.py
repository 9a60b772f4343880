"""What kubectl makes of discovery and OpenAPI: explain, api-resources, raw paths, strict validation."""

from __future__ import annotations

import asyncio
import json
from pathlib import Path

import pytest

from tests.apiserver.conftest import Cluster
from tests.apiserver.custom import established
from tests.apiserver.test_kubectl import DEPLOYMENT, kubeconfig
from tests.support.kubectl import kubectls

__all__ = ["kubeconfig"]

_INSTALLED = kubectls()
# Old enough to look for features in /openapi/v2, and new enough to read version 3 and aggregated discovery alone.
PROGRAMS = [one for one in _INSTALLED if one.endswith(("kubectl.1.27", "kubectl.1.32"))] or _INSTALLED[-1:]

pytestmark = [
    pytest.mark.skipif(not PROGRAMS, reason="needs kubectl"),
    pytest.mark.parametrize("program", PROGRAMS, ids=lambda path: Path(path).name),
]


async def run(program: str, kubeconfig: Path, *words: str, stdin: str = "") -> tuple[int, str]:
    """Exit code, and all that is printed."""
    process = await asyncio.create_subprocess_exec(
        program,
        *words,
        env={"KUBECONFIG": str(kubeconfig), "HOME": str(kubeconfig.parent), "PATH": "/usr/bin:/bin"},
        stdin=asyncio.subprocess.PIPE,
        stdout=asyncio.subprocess.PIPE,
        stderr=asyncio.subprocess.STDOUT,
    )
    out, _ = await asyncio.wait_for(process.communicate(stdin.encode()), 60)
    assert process.returncode is not None
    return process.returncode, out.decode()


async def test_explain_shows_every_field_below(program: str, kubeconfig: Path) -> None:
    code, text = await run(program, kubeconfig, "explain", "deployment.spec", "--recursive")

    lines = {line.strip() for line in text.splitlines()}
    assert code == 0, text
    assert any(line.startswith("strategy\t<DeploymentStrategy>") for line in lines)
    assert any(line.startswith("imagePullPolicy\t<string>") for line in lines)
    assert any(line.startswith("matchLabels\t<map[string]string>") for line in lines)


async def test_explain_reads_version_2_when_told_to(program: str, kubeconfig: Path) -> None:
    words = ("explain", "pods.spec.containers", "--output=plaintext-openapiv2")
    code, text = await run(program, kubeconfig, *words)
    _, deep = await run(program, kubeconfig, *words, "--recursive")

    assert code == 0, text
    assert "RESOURCE: containers <[]Object>" in text
    assert "imagePullPolicy\t<string>" in text
    assert "readinessProbe\t<Object>" in deep
    assert "httpGet\t<Object>" in deep


async def test_explain_knows_custom_resources_and_refuses_what_is_not(
    program: str, kubeconfig: Path, cluster: Cluster
) -> None:
    schema = {
        "type": "object",
        "properties": {"spec": {"type": "object", "properties": {"sails": {"type": "integer"}}}},
    }
    names = {"plural": "boats", "kind": "Boat", "shortNames": ["bt"], "categories": ["all"]}
    versions = [{"name": "v1", "served": True, "storage": True, "schema": {"openAPIV3Schema": schema}}]
    spec = {"group": "sea.example.com", "scope": "Namespaced", "names": names, "versions": versions}
    made = {"metadata": {"name": "boats.sea.example.com"}, "spec": spec}
    await established(cluster, made)

    code, text = await run(program, kubeconfig, "explain", "boats", "--recursive")
    wrong, why = await run(program, kubeconfig, "explain", "boats.spec.masts")
    _, wide = await run(program, kubeconfig, "api-resources", "--api-group=sea.example.com", "-o", "wide")

    assert code == 0, text
    assert "sails\t<integer>" in text
    assert wrong != 0
    assert 'field "masts" does not exist' in why
    (line,) = [line.split() for line in wide.splitlines() if line.startswith("boats")]
    assert line[:5] == ["boats", "bt", "sea.example.com/v1", "true", "Boat"]
    assert line[-1] == "all"


async def test_every_resource_is_listed_with_verbs_and_categories(program: str, kubeconfig: Path) -> None:
    code, text = await run(program, kubeconfig, "api-resources", "-o", "wide")

    assert code == 0, text
    header, *lines = text.splitlines()
    assert header.split() == ["NAME", "SHORTNAMES", "APIVERSION", "NAMESPACED", "KIND", "VERBS", "CATEGORIES"]
    by_name = {(line.split()[0], line.split()[-1] == "all"): line.split() for line in lines}
    pods = by_name["pods", True]
    assert pods[:5] == ["pods", "po", "v1", "true", "Pod"]
    assert pods[5] == "create,delete,deletecollection,get,list,patch,update,watch"
    assert by_name["tokenreviews", False][-1] == "create"
    assert by_name["bindings", False][1:] == ["v1", "true", "Binding", "create"]


@pytest.mark.parametrize(
    ("path", "member", "value"),
    [
        ("/api/v1/namespaces/default", "kind", "Namespace"),
        ("/apis/apps/v1", "kind", "APIResourceList"),
        ("/version", "major", "1"),
        ("/openapi/v2", "swagger", "2.0"),
        ("/openapi/v3/apis/apps/v1", "openapi", "3.0.0"),
        ("/api/v1/watch/namespaces?timeoutSeconds=1&fieldSelector=metadata.name%3Ddefault", "type", "ADDED"),
    ],
)
async def test_raw_paths_answer(program: str, kubeconfig: Path, path: str, member: str, value: str) -> None:
    code, text = await run(program, kubeconfig, "get", "--raw", path)

    assert code == 0, text
    assert json.loads(text)[member] == value


async def test_a_raw_path_there_is_not(program: str, kubeconfig: Path) -> None:
    code, text = await run(program, kubeconfig, "get", "--raw", "/nowhere")

    assert code != 0
    assert text == "Error from server (NotFound): the server could not find the requested resource\n"


async def test_strict_validation_names_what_is_wrong(program: str, kubeconfig: Path) -> None:
    wrong = DEPLOYMENT.replace("replicas: 2", "replicaz: 2")

    refused, why = await run(program, kubeconfig, "apply", "--validate=strict", "-f", "-", stdin=wrong)
    warned, what = await run(program, kubeconfig, "apply", "--validate=warn", "-f", "-", stdin=wrong)
    ignored, nothing = await run(program, kubeconfig, "apply", "--validate=ignore", "-f", "-", stdin=wrong)

    assert refused != 0
    assert 'strict decoding error: unknown field "spec.replicaz"' in why
    assert warned == 0, what
    assert 'Warning: unknown field "spec.replicaz"' in what
    assert (ignored, nothing) == (0, "deployment.apps/web configured\n")  # again, for the field is not there
