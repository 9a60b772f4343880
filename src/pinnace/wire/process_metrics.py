"""What every server tells of its own process: CPU time, memory, files, when it began, and its version.

Figures are the kernel's (proc(5)); names are those of Prometheus' clients and of k8s.io/component-base.
"""

from __future__ import annotations

import os
import platform
import resource
import sys
from collections.abc import Iterable, Mapping
from functools import cache
from pathlib import Path

from pinnace.machinery.metrics import Collected, Family, constant

_PROC = Path("/proc/self")
_START, _TICKS = 19, "SC_CLK_TCK"  # the field of /proc/self/stat after the command's name, and its unit

Figures = Iterable[tuple[tuple[str, ...], float]]


def process_families(version: str, features: Mapping[str, tuple[str, bool]] | None = None) -> list[Family]:
    """`version` is Kubernetes', with its v; `features` says of each gate its stage and whether it is on."""
    built = {
        "build_date": "1970-01-01T00:00:00Z",
        "compiler": platform.python_implementation().lower(),
        "git_commit": "",
        "git_tree_state": "clean",
        "git_version": version,
        "go_version": f"python{platform.python_version()}",
        "major": version.lstrip("v").split(".")[0],
        "minor": version.split(".")[1],
        "platform": f"{sys.platform}/{platform.machine()}",
    }
    python = {"implementation": platform.python_implementation(), "version": platform.python_version()}
    about = "A metric with a constant '1' value labeled by what the server was built from."
    families: list[Family] = [
        constant("gauge", "kubernetes_build_info", about, built),
        constant("gauge", "python_info", "The Python that the server runs on.", python),
        _one("counter", "process_cpu_seconds_total", "Total user and system CPU time spent in seconds.", _cpu_seconds),
        _one("gauge", "process_max_fds", "Maximum number of open file descriptors.", _most_files),
        _one("gauge", "process_open_fds", "Number of open file descriptors.", _open_files),
        _one("gauge", "process_resident_memory_bytes", "Resident memory size in bytes.", lambda: _pages(1)),
        _one("gauge", "process_start_time_seconds", "Start time of the process since the epoch in seconds.", _began),
        _one("gauge", "process_virtual_memory_bytes", "Virtual memory size in bytes.", lambda: _pages(0)),
    ]
    if features:
        figures = [((name, stage), float(on)) for name, (stage, on) in sorted(features.items())]
        labels = ("name", "stage")
        about = "This metric records the data about the stage and enablement of a k8s feature."
        families.append(Collected("gauge", "kubernetes_feature_enabled", about, labels, lambda: figures))
    return families


def _one(kind: str, name: str, about: str, figure: object) -> Family:
    assert callable(figure)
    return Collected(kind, name, about, (), lambda: [((), float(figure()))])


def _cpu_seconds() -> float:
    usage = resource.getrusage(resource.RUSAGE_SELF)
    return usage.ru_utime + usage.ru_stime


def _most_files() -> float:
    return resource.getrlimit(resource.RLIMIT_NOFILE)[0]


def _open_files() -> float:
    return len(os.listdir("/proc/self/fd"))  # noqa: PTH208 # one call


def _pages(field: int) -> float:
    return int((_PROC / "statm").read_text().split()[field]) * resource.getpagesize()


@cache
def _began() -> float:
    ticks = int((_PROC / "stat").read_text().rpartition(")")[2].split()[_START])
    boot = next(line for line in Path("/proc/stat").read_text().splitlines() if line.startswith("btime"))
    return int(boot.split()[1]) + ticks / os.sysconf(_TICKS)
