"""Manifests of static pods as text: read as Kubernetes reads YAML, and refused where they cannot be pods."""

from __future__ import annotations

from pathlib import Path

import pytest

from pinnace.kubelet.sources.static_pods import read_directory, static_pod, url_pods

SPEC = "spec: {containers: [{name: web, image: 'web:1'}]}"
POD = f"kind: Pod\nmetadata: {{name: web}}\n{SPEC}\n"
ODD = [
    "a: [",
    "just words",
    f"kind: Pod\nmetadata: &self {{name: web, labels: *self}}\n{SPEC}",
    "kind: Pod\nmetadata: {name: web}\nspec: " + "{a: " * 300 + "}" * 300,
    "[" * 100_000,
    "? [a, list]\n: as a key",
    f"kind: Pod\nmetadata: {{name: web, ? {{a: map}} : as a key}}\n{SPEC}",
]


@pytest.mark.parametrize("text", ODD, ids=range(len(ODD)))
def test_no_manifest_ends_the_kubelet_or_hides_another(text: str, tmp_path: Path) -> None:
    (tmp_path / "odd.yaml").write_text(text)
    (tmp_path / "web.yaml").write_text(POD)
    found = read_directory(tmp_path, "n1", {})
    assert [pod["metadata"]["name"] for pod in found.values()] == ["web-n1"]
    with pytest.raises(ValueError):
        url_pods(text.encode(), "http://u", "n1", "now")


@pytest.mark.parametrize(
    "text",
    [
        "kind: PodList\nitems: 5",
        "kind: PodList\nitems: {a: map}",
        "kind: PodList\nitems: [null]",
        f"kind: Pod\nmetadata: {{name: web, generation: {1 << 70}}}\n{SPEC}",
    ],
)
def test_no_answer_of_a_url_ends_the_kubelet(text: str) -> None:
    with pytest.raises(ValueError):
        url_pods(text.encode(), "http://u", "n1", "now")


def test_words_mean_what_they_mean_to_kubernetes() -> None:
    text = POD.replace("name: web}", "name: web, annotations: {day: 2026-01-31, time: 12:30:45}}")
    annotations = static_pod(text.encode(), "/web.yaml", "n1", "now")["metadata"]["annotations"]
    assert (annotations["day"], annotations["time"]) == ("2026-01-31", "12:30:45")
