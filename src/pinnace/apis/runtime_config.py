"""Which versions of the API are served: what `--runtime-config` turns on and off.

Stable versions are on, alpha and beta ones off, but for those that Kubernetes turns on. A resource's own word wins over
its version's, and that over the one for all versions of its maturity.
https://kubernetes.io/docs/reference/command-line-tools-reference/kube-apiserver/ (`--runtime-config`).
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from typing import Literal

Maturity = Literal["ga", "beta", "alpha"]

_TRUE = ("", "1", "t", "T", "true", "TRUE", "True")
_FALSE = ("0", "f", "F", "false", "FALSE", "False")
_VERSION = re.compile(r"v\d+(?:(alpha|beta)\d+)?")


class RuntimeConfigError(ValueError):
    """What was asked for cannot be; the text is for whoever wrote the flag."""


@dataclass(frozen=True, slots=True)
class RuntimeConfig:
    """What to serve, by `api/all`, `api/beta`, `GROUP/VERSION` or `GROUP/VERSION/RESOURCE`; the core's is `v1`."""

    switches: Mapping[str, bool] = field(default_factory=dict)

    def serves(self, group: str, version: str, plural: str, *, default: bool) -> bool:
        """Whether a resource is served; `default` is what Kubernetes does when nothing is said of it."""
        where = f"{group}/{version}" if group else version
        for key in (f"{where}/{plural}", where, f"api/{maturity(version)}", "api/all"):
            if key in self.switches:
                return self.switches[key]
        return default


def maturity(version: str) -> Maturity:
    """How far a version is, from its name."""
    match = _VERSION.fullmatch(version)
    if match is None or match[1] is None:
        return "ga"
    return "alpha" if match[1] == "alpha" else "beta"


def parse_runtime_config(text: str, groups: Iterable[str]) -> RuntimeConfig:
    """`api/all=true,batch/v2=false`; raises RuntimeConfigError. `groups` are those there are."""
    known = set(groups)
    switches: dict[str, bool] = {}
    unknown = []
    for pair in filter(None, (part.strip() for part in text.split(","))):
        key, _, value = pair.partition("=")
        if value not in _TRUE + _FALSE:
            raise RuntimeConfigError(f"runtime-config invalid value {value!r} of {key}: true or false is meant")
        parts = key.split("/")
        if parts[0] == "api":
            if len(parts) != 2 or parts[1] not in ("all", "ga", "beta", "alpha"):
                raise RuntimeConfigError(f"runtime-config invalid key {key}")
        elif _VERSION.fullmatch(parts[0]):
            if len(parts) > 2:
                raise RuntimeConfigError(f"runtime-config invalid key {key}")
        elif len(parts) not in (2, 3) or not _VERSION.fullmatch(parts[1]):
            raise RuntimeConfigError(f"runtime-config invalid key {key}")
        elif parts[0] not in known:
            unknown.append(parts[0])
        switches[key] = value in _TRUE
    if unknown:
        raise RuntimeConfigError(f"unknown api groups {','.join(unknown)}")
    return RuntimeConfig(switches)
