"""Sockets of plugins that come and go, also while they are being looked at."""

from __future__ import annotations

import os
import socket
from pathlib import Path
from typing import Any

import pytest

from pinnace.kubelet.plugins.sockets import _sockets


def test_a_socket_that_goes_while_it_is_looked_at_does_not_hide_the_others(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    for name in ("going.sock", "staying.sock"):
        with socket.socket(socket.AF_UNIX) as one:
            one.bind(str(tmp_path / name))
    (tmp_path / "file.sock").touch()
    (tmp_path / "dangling.sock").symlink_to(tmp_path / "nowhere")
    looked = Path.stat

    def look(path: Path, **how: Any) -> os.stat_result:
        if path.name == "going.sock":
            path.unlink(missing_ok=True)
        return looked(path, **how)

    monkeypatch.setattr(Path, "stat", look)

    assert {path.name for path, _ in _sockets(tmp_path)} == {"staying.sock"}
