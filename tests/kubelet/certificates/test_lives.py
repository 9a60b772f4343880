"""What a kubelet that is given its certificates does without."""

from __future__ import annotations

import subprocess
import sys


def test_a_kubelet_that_asks_for_no_certificates_does_not_load_what_makes_them() -> None:
    program = (
        "import sys, pinnace.kubelet.kubelet, pinnace.kubelet.server.server, pinnace.kubelet.statistics.node_metrics;"
    )
    program += "sys.exit('cryptography' in sys.modules)"

    assert subprocess.run([sys.executable, "-c", program], check=False).returncode == 0
