"""Programs of the machine, and where they are: a user's or a service's PATH may lack the places of system programs."""

from __future__ import annotations

import os
import shutil

SYSTEM_DIRECTORIES = ("/usr/local/sbin", "/usr/sbin", "/sbin")


def search_path() -> str:
    """PATH, and the places of system programs that are not in it."""
    directories = (os.environ.get("PATH") or os.defpath).split(os.pathsep)
    return os.pathsep.join([*directories, *(place for place in SYSTEM_DIRECTORIES if place not in directories)])


def find_program(name: str) -> str | None:
    """The program of a name, or of a path, that can be run."""
    return shutil.which(name, path=search_path())
