"""The kubectl programs of this machine."""

from __future__ import annotations

import shutil
from pathlib import Path


def kubectls() -> list[str]:
    """The kubectl on PATH, after the versions that lie beside it where it is a dispatcher; the newest last but one."""
    found = shutil.which("kubectl")
    if found is None:
        return []
    return [*map(str, sorted(Path(found).resolve().parent.glob("kubectl.1.*"))), found]
