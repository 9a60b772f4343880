"""YAML manifests as a test installs them: read from files and directories, in an order in which they can be made."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from pathlib import Path

from pinnace.machinery.meta import Obj

DEFINITION = "CustomResourceDefinition"
_FIRST = ("Namespace", DEFINITION)
_SUFFIXES = (".yaml", ".yml", ".json")


def manifests(paths: Iterable[Path | str]) -> list[Obj]:
    """Every object in the files; Lists are taken apart, namespaces and definitions come first.

    Raises OSError for a file that cannot be read, YamlError for one that is no YAML.
    """
    from pinnace.machinery.yaml import load_all

    found: list[Obj] = []
    for file in _files(paths):
        for document in load_all(file.read_bytes()):
            found += document["items"] if document.get("kind") == "List" else [document]
    return sorted(found, key=lambda obj: _FIRST.index(obj["kind"]) if obj["kind"] in _FIRST else len(_FIRST))


def _files(paths: Iterable[Path | str]) -> Iterator[Path]:
    for path in map(Path, paths):
        if path.is_dir():
            yield from sorted(file for file in path.iterdir() if file.suffix in _SUFFIXES)
        else:
            yield path
