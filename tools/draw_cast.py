"""Draw a terminal session as an SVG picture: runs each command for real and shows what it printed.

Usage: draw_cast.py IMAGE.tar OUT.svg. The cluster is of a profile and a home of its own and is deleted at the end.
"""

from __future__ import annotations

import io
import os
import subprocess
import sys
import tempfile
from pathlib import Path

from rich.console import Console
from rich.text import Text

SESSION = [
    ("sudo pinnace start", "pinnace start -p demo"),
    ("kubectl get nodes", "kubectl get nodes"),
    ("sudo pinnace image load busybox.tar", "pinnace image load -p demo {image}"),
    ("kubectl apply -f examples/site.yaml", "kubectl apply -f examples/site.yaml"),
    ("kubectl -n site rollout status deployment/web", "kubectl -n site rollout status deployment/web"),
    ("kubectl -n site get pods -o wide", "kubectl -n site get pods -o wide"),
    ("curl http://127.0.0.1:30080/", "curl -s http://127.0.0.1:30080/"),
    ("kubectl -n site exec deploy/client -- wget -qO- http://web", "kubectl -n site exec deploy/client -- wget -qO- http://web"),
    ("sudo pinnace delete", "pinnace delete -p demo"),
]  # fmt: skip


def main() -> None:
    image, out = sys.argv[1:]
    console = Console(record=True, width=118, file=io.StringIO())
    with tempfile.TemporaryDirectory(prefix="pinnace-cast-", dir="/var/tmp") as directory:
        environment = os.environ | {
            "PINNACE_HOME": f"{directory}/home",
            "KUBECONFIG": f"{directory}/kubeconfig",
            "PATH": f"{Path(sys.executable).parent}:{os.environ['PATH']}",
            "COLUMNS": "118",
        }
        try:
            for shown, command in SESSION:
                run = subprocess.run(
                    command.format(image=image), shell=True, env=environment, text=True,
                    stdout=subprocess.PIPE, stderr=subprocess.STDOUT, check=False,
                )  # fmt: skip
                console.print(Text("$ ", style="bold green") + Text(shown, style="bold"))
                console.print(Text(run.stdout.rstrip("\n")))
        finally:
            subprocess.run("pinnace delete -p demo", shell=True, env=environment, capture_output=True, check=False)
    # The picture must not depend on the web: rich's template asks for a font by URL.
    svg = console.export_svg(title="pinnace")
    start, end = svg.index("@font-face"), svg.rindex("@font-face")
    end = svg.index("}", end) + 1
    Path(out).write_text(svg[:start] + svg[end:])


if __name__ == "__main__":
    main()
