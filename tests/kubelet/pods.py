"""Pods as the pure parts of the kubelet see them: what they were given, and little else."""

from __future__ import annotations

META = {"name": "p", "namespace": "d", "uid": "u", "labels": {"b": 'say "x"', "a": "1"}}


def pod(*resources, **spec):
    containers = [{"name": f"c{index}", "image": "i", "resources": one} for index, one in enumerate(resources or ({},))]
    return {"metadata": META, "spec": {"containers": containers, **spec}}


def both(**amounts):
    return {"requests": amounts, "limits": amounts}
