#!/usr/bin/env python3
"""What nodes and pods cost: a Deployment on 100 to 5,000 hollow nodes, then 5,000 to 30,000 pods kept on 1,000 of them.

    scaling.py --pinnace "sudo scripts/pinnace" [--svg docs/scaling.svg]

It starts a cluster of its own and deletes it. One JSON line a measurement; with --svg, also a drawing of them. It needs
kubectl on PATH and only the standard library.
"""

from __future__ import annotations

import argparse
import json
import os
import subprocess
import tempfile
import time
from collections.abc import Iterable, Iterator, Sequence
from pathlib import Path
from typing import Any

PROFILE = "scaling"
NODES = (100, 500, 1000, 2500, 5000)
PODS = (5000, 10000, 20000, 30000)
ROLLED_OUT = 2000  # replicas of the Deployment whose time is taken
IDLE_SECONDS = 20


def servers(home: str) -> list[int]:
    """Pids of the cluster's servers."""
    found = []
    for entry in Path("/proc").glob("[0-9]*"):
        try:
            line = (entry / "cmdline").read_text()
        except OSError:
            continue
        if "pinnace.cluster." in line and home in line:
            found.append(int(entry.name))
    return found


def cpu(pids: Iterable[int]) -> float:
    total = 0.0
    for pid in pids:
        fields = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()
        total += (int(fields[11]) + int(fields[12])) / os.sysconf("SC_CLK_TCK")
    return total


def mib(pids: Iterable[int]) -> float:
    pages = sum(int(Path(f"/proc/{pid}/statm").read_text().split()[1]) for pid in pids)
    return pages * os.sysconf("SC_PAGE_SIZE") / 2**20


class Cluster:
    def __init__(self, pinnace: str, home: str) -> None:
        self.pinnace_command, self.home = pinnace.split(), home
        self.environment = os.environ | {"PINNACE_HOME": home, "KUBECONFIG": home + "/kubeconfig"}

    def pinnace(self, *arguments: str) -> None:
        subprocess.run(
            [*self.pinnace_command, *arguments, "-p", PROFILE],
            env=self.environment,
            check=True,
            stdout=subprocess.DEVNULL,
        )

    def kubectl(self, *arguments: str) -> None:
        subprocess.run(["kubectl", *arguments], env=self.environment, check=True, capture_output=True)

    def roll_out(self, name: str, replicas: int) -> float:
        """Seconds until that many pods of a new Deployment are Running."""
        began = time.time()
        self.kubectl("create", "deployment", name, "--image=none", f"--replicas={replicas}")
        self.kubectl("rollout", "status", f"deployment/{name}", "--timeout=600s")
        return time.time() - began

    def clear(self, name: str) -> None:
        self.kubectl("delete", "deployment", name, "--cascade=foreground", "--timeout=600s")


def by_nodes(cluster: Cluster) -> Iterator[dict[str, Any]]:
    for nodes in NODES:
        cluster.pinnace("node", "add", "--hollow", str(nodes), "--wait-timeout", "10m")
        pids = servers(cluster.home)
        before = cpu(pids)
        seconds = cluster.roll_out("rolled", ROLLED_OUT)
        used = cpu(pids) - before
        yield {
            "nodes": nodes,
            "pods": ROLLED_OUT,
            "running_per_s": round(ROLLED_OUT / seconds),
            "cpu_ms_per_pod": round(1000 * used / ROLLED_OUT, 2),
        }
        cluster.clear("rolled")
        cluster.pinnace("node", "delete", "hollow")


def by_pods(cluster: Cluster) -> Iterator[dict[str, Any]]:
    cluster.pinnace("node", "add", "--hollow", "1000", "--wait-timeout", "10m")
    cluster.roll_out("kept", PODS[0])
    for pods in PODS:
        cluster.kubectl("scale", "deployment/kept", f"--replicas={pods}")
        cluster.kubectl("rollout", "status", "deployment/kept", "--timeout=600s")
        pids = servers(cluster.home)
        time.sleep(IDLE_SECONDS)  # what was done for the last pods is over
        before = cpu(pids)
        time.sleep(IDLE_SECONDS)
        yield {
            "nodes": 1000,
            "kept": pods,
            "mib": round(mib(pids)),
            "cores": round((cpu(pids) - before) / IDLE_SECONDS, 3),
        }


def chart(x: int, title: str, points: Sequence[tuple[int, float]], unit: str) -> str:
    """One panel at x: a line through points of (label, value), values written beside."""
    width, height, top = 240, 150, 40
    most = max(value for _, value in points)
    step = width / (len(points) - 1)
    spots = [(x + i * step, top + height * (1 - value / most)) for i, (_, value) in enumerate(points)]
    parts = [f'<text x="{x}" y="14" class="title">{title}</text>']
    parts.append(f'<path d="M{x} {top}V{top + height}H{x + width}" class="axis"/>')
    parts.append('<polyline points="' + " ".join(f"{a:.0f},{b:.0f}" for a, b in spots) + '"/>')
    for (a, b), (label, value) in zip(spots, points, strict=True):
        parts.append(
            f'<circle cx="{a:.0f}" cy="{b:.0f}" r="3"/><text x="{a:.0f}" y="{b - 8:.0f}">{value:g}{unit}</text>'
        )
        parts.append(f'<text x="{a:.0f}" y="{top + height + 16}">{label}</text>')
    return "".join(parts)


def draw(found: Sequence[dict[str, Any]]) -> str:
    grown = [each for each in found if "running_per_s" in each]
    kept = [each for each in found if "kept" in each]
    panels = [
        ("pods Running a second, by nodes", [(each["nodes"], each["running_per_s"]) for each in grown], ""),
        ("CPU ms a pod, by nodes", [(each["nodes"], each["cpu_ms_per_pod"]) for each in grown], ""),
        ("memory of everything, by pods kept", [(each["kept"], each["mib"]) for each in kept], " MiB"),
        ("cores used, by pods kept", [(each["kept"], each["cores"]) for each in kept], ""),
    ]
    body = "".join(chart(50 + 310 * i, *panel) for i, panel in enumerate(panels))
    style = "text{font:11px sans-serif;text-anchor:middle;fill:#444}.title{font-size:13px;text-anchor:start}"
    style += ".axis{stroke:#bbb;fill:none}polyline{stroke:#326ce5;fill:none;stroke-width:2}circle{fill:#326ce5}"
    return f'<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 1270 225"><style>{style}</style>{body}</svg>\n'


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--pinnace", default="scripts/pinnace")
    parser.add_argument("--svg")
    options = parser.parse_args()
    found = []
    with tempfile.TemporaryDirectory(prefix="pn-scaling-", dir="/var/tmp") as home:
        cluster = Cluster(options.pinnace, home)
        cluster.pinnace("start")
        try:
            cluster.kubectl("cordon", PROFILE)  # the real node's own pods would need an image
            for series in (by_nodes, by_pods):
                for each in series(cluster):
                    print(json.dumps(each), flush=True)
                    found.append(each)
        finally:
            cluster.pinnace("delete")
    if options.svg:
        Path(options.svg).write_text(draw(found))


if __name__ == "__main__":
    main()
