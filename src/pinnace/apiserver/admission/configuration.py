"""What `--admission-control-config-file` says: of some plugins, a configuration in place or in a file of its own.

https://kubernetes.io/docs/reference/config-api/apiserver-config.v1/#apiserver-config-k8s-io-v1-AdmissionConfiguration.
"""

from __future__ import annotations

from collections.abc import Collection
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import orjson

from pinnace.apiserver.configuration import ConfigurationError, read_configuration

_SHAPE = {"plugins": [{"name": str, "path": str, "configuration": Any}]}
_KINDS = {
    (f"apiserver.config.k8s.io/{version}", "AdmissionConfiguration"): _SHAPE
    for version in ("v1", "v1beta1", "v1alpha1")
} | {("apiserver.k8s.io/v1alpha1", "AdmissionConfiguration"): _SHAPE}


@dataclass(frozen=True, slots=True)
class Configurations:
    """Documents as text, by the name of their plugin."""

    documents: dict[str, str] = field(default_factory=dict)
    directory: Path = Path()  # where relative paths in them start

    def of(self, plugin: str) -> str:
        """The document of a plugin, empty where there is none."""
        return self.documents.get(plugin, "")


def read_admission_configuration(path: Path | None, names: Collection[str]) -> Configurations:
    """What the file says, which may speak of the plugins `names` alone. Raises ConfigurationError."""
    if path is None:
        return Configurations()
    documents: dict[str, str] = {}
    for plugin in read_configuration(path, _KINDS).get("plugins") or ():
        name = plugin.get("name") or ""
        if name not in names:
            raise ConfigurationError(f'admission plugin "{name}" is unknown')
        documents[name] = _document(plugin, path.parent)
    return Configurations(documents, path.parent)


def _document(plugin: dict[str, Any], directory: Path) -> str:
    if plugin.get("configuration") is not None:
        text: str = orjson.dumps(plugin["configuration"]).decode()
        return text
    if not plugin.get("path"):
        return ""
    file = directory / str(plugin["path"])
    try:
        return file.read_text()
    except (OSError, UnicodeDecodeError) as error:
        why = (getattr(error, "strerror", None) or str(error)).lower()
        raise ConfigurationError(f'unable to read admission control configuration "{file}": {why}') from None
