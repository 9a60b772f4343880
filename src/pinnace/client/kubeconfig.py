"""Kubeconfig files: where a cluster is and who one is there, read, and edited as `kubectl config` edits them.

Entries of others stay as they are and where they are; a file is replaced in one step, mode 0600, under the lock file
that kubectl uses. The format is specified by
https://kubernetes.io/docs/reference/config-api/kubeconfig.v1/.
"""

from __future__ import annotations

import base64
import binascii
import os
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from pinnace.machinery.meta import Obj

_SERVICE_ACCOUNT = Path("/var/run/secrets/kubernetes.io/serviceaccount")


class KubeconfigError(Exception):
    """The file cannot be used; the message says which entry and why."""


@dataclass(frozen=True, slots=True)
class Connection:
    """All it takes to call an API server."""

    server: str  # https://host:port
    ca: bytes | None = None  # PEM; None: the machine's own certificate authorities
    certificate: bytes | None = None  # PEM chain of the client
    key: bytes | None = None  # PEM
    token: str = ""  # bearer token
    token_file: Path | None = None  # read again when it changes; comes before `token`
    verify: bool = True  # False: insecure-skip-tls-verify
    tls_server_name: str = ""  # name to check the server's certificate against, if not the host
    namespace: str = "default"

    def bearer_token(self) -> str:
        """What stands in the Authorization header, empty for nothing. Raises OSError for a file that is gone."""
        return self.token_file.read_text().strip() if self.token_file is not None else self.token


# Reading.


def default_paths() -> list[Path]:
    """The files that kubectl reads: those in $KUBECONFIG, or ~/.kube/config."""
    listed = [Path(part) for part in os.environ.get("KUBECONFIG", "").split(os.pathsep) if part]
    return listed or [Path.home() / ".kube" / "config"]


def load(path: Path | str | None = None, context: str = "") -> Connection:
    """The connection that a context names: the current one, unless `context` is given.

    Without a path, `default_paths()` are merged, the first that has an entry winning. Raises KubeconfigError.
    """
    paths = [Path(path)] if path is not None else default_paths()
    merged = Kubeconfig({})
    for one in paths:
        if path is not None or one.exists():
            merged.merge(read(one).with_absolute_paths(one.parent))
    return merged.connection(context)


def in_cluster() -> Connection:
    """The connection of a pod to its own cluster, from the files and variables the kubelet gives it."""
    host, port = os.environ.get("KUBERNETES_SERVICE_HOST", ""), os.environ.get("KUBERNETES_SERVICE_PORT", "")
    token_file, ca_file = _SERVICE_ACCOUNT / "token", _SERVICE_ACCOUNT / "ca.crt"
    if not host or not port or not token_file.exists():
        raise KubeconfigError(
            "unable to load in-cluster configuration, "
            "KUBERNETES_SERVICE_HOST and KUBERNETES_SERVICE_PORT must be defined"
        )
    namespace_file = _SERVICE_ACCOUNT / "namespace"
    return Connection(
        server=f"https://[{host}]:{port}" if ":" in host else f"https://{host}:{port}",
        ca=ca_file.read_bytes() if ca_file.exists() else None,
        token_file=token_file,
        namespace=namespace_file.read_text().strip() if namespace_file.exists() else "default",
    )


def read(path: Path) -> Kubeconfig:
    """The file at `path`. Raises KubeconfigError if it is missing or no kubeconfig."""
    import yaml

    try:
        loader = getattr(yaml, "CSafeLoader", yaml.SafeLoader)
        document = yaml.load(path.read_text(), Loader=loader)
    except OSError as error:
        raise KubeconfigError(f"{path}: {error.strerror}") from None
    except (yaml.YAMLError, UnicodeDecodeError) as error:
        raise KubeconfigError(f'error loading config file "{path}": {error}') from None
    if document is None:
        document = {}
    if not isinstance(document, dict):
        raise KubeconfigError(f'error loading config file "{path}": not a kubeconfig')
    return Kubeconfig(document)


class Kubeconfig:
    """The content of a kubeconfig file; changes stay in memory until it is written."""

    def __init__(self, document: Obj) -> None:
        self.document = document

    # Entries.

    @property
    def current_context(self) -> str:
        return self.document.get("current-context") or ""

    def cluster(self, name: str) -> Obj | None:
        return self._entry("clusters", "cluster", name)

    def user(self, name: str) -> Obj | None:
        return self._entry("users", "user", name)

    def context(self, name: str) -> Obj | None:
        return self._entry("contexts", "context", name)

    def contexts(self) -> list[str]:
        return [entry["name"] for entry in self.document.get("contexts") or ()]

    def users(self) -> list[str]:
        return [entry["name"] for entry in self.document.get("users") or ()]

    def set_cluster(self, name: str, cluster: Obj) -> None:
        self._set("clusters", "cluster", name, cluster)

    def set_user(self, name: str, user: Obj) -> None:
        self._set("users", "user", name, user)

    def set_context(self, name: str, *, cluster: str, user: str, namespace: str = "") -> None:
        context = {"cluster": cluster, "user": user}
        if namespace:
            context["namespace"] = namespace
        self._set("contexts", "context", name, context)

    def use_context(self, name: str) -> None:
        """Make it the current context; the empty string unsets it."""
        self.document["current-context"] = name

    def remove(self, *, cluster: str = "", user: str = "", context: str = "") -> None:
        """Remove entries by name; a current context that is removed is unset."""
        for kind, name in (("clusters", cluster), ("users", user), ("contexts", context)):
            if name:
                kept = [entry for entry in self.document.get(kind) or () if entry.get("name") != name]
                self.document[kind] = kept
        if context and self.current_context == context:
            self.document["current-context"] = ""

    def merge(self, other: Kubeconfig) -> None:
        """Take in what this one lacks: entries already here, and a current context already set, stay."""
        for kind in ("clusters", "users", "contexts"):
            entries = self.document.setdefault(kind, [])
            known = {entry["name"] for entry in entries}
            entries.extend(entry for entry in other.document.get(kind) or () if entry["name"] not in known)
        if not self.current_context:
            self.document["current-context"] = other.current_context

    def with_absolute_paths(self, base: Path) -> Kubeconfig:
        """The same with files named relative to the directory that the kubeconfig lies in."""
        document = dict(self.document)
        for kind, inner, fields in (
            ("clusters", "cluster", ("certificate-authority",)),
            ("users", "user", ("client-certificate", "client-key", "tokenFile")),
        ):
            document[kind] = [
                {**entry, inner: _absolute(entry.get(inner) or {}, fields, base)} for entry in document.get(kind) or ()
            ]
        return Kubeconfig(document)

    def connection(self, context: str = "") -> Connection:
        """What the context says; relative file names are taken from the working directory."""
        name = context or self.current_context
        found = self.context(name)
        if found is None:
            raise KubeconfigError(f'context "{name}" does not exist' if name else "no context is set")
        cluster = self.cluster(found.get("cluster", ""))
        if cluster is None:
            raise KubeconfigError(f'cluster "{found.get("cluster", "")}" does not exist')
        user = self.user(found.get("user", "")) or {}
        if "exec" in user or "auth-provider" in user:
            raise KubeconfigError(f'user "{found.get("user", "")}" needs a credential plugin, which is not supported')
        token_file = user.get("tokenFile")
        return Connection(
            server=str(cluster.get("server", "")).rstrip("/"),
            ca=_data(cluster, "certificate-authority"),
            certificate=_data(user, "client-certificate"),
            key=_data(user, "client-key"),
            token=user.get("token") or "",
            token_file=Path(token_file) if token_file else None,
            verify=not cluster.get("insecure-skip-tls-verify"),
            tls_server_name=cluster.get("tls-server-name") or "",
            namespace=found.get("namespace") or "default",
        )

    def write(self, path: Path) -> None:
        """Replace the file in one step; a link is followed, not replaced."""
        import yaml

        document: Obj = {"apiVersion": "v1", "kind": "Config", "preferences": {}, **self.document}
        for kind in ("clusters", "contexts", "users"):
            document[kind] = document.get(kind) or []
        dumper = getattr(yaml, "CSafeDumper", yaml.SafeDumper)
        text = yaml.dump(document, Dumper=dumper, default_flow_style=False, sort_keys=True)
        target = path.resolve()
        target.parent.mkdir(parents=True, exist_ok=True, mode=0o755)
        handle, temporary = tempfile.mkstemp(dir=target.parent, prefix=f".{target.name}.")
        try:
            with os.fdopen(handle, "w") as file:  # mkstemp makes it 0600
                file.write(text)
                file.flush()
                os.fsync(file.fileno())
            _keep_owner(target, Path(temporary))
            Path(temporary).replace(target)
        except BaseException:
            Path(temporary).unlink(missing_ok=True)
            raise

    def _entry(self, kind: str, inner: str, name: str) -> Obj | None:
        for entry in self.document.get(kind) or ():
            if entry.get("name") == name:
                found: Obj = entry.get(inner) or {}
                return found
        return None

    def _set(self, kind: str, inner: str, name: str, value: Obj) -> None:
        """Replace the entry where it stands, or append it."""
        entries = self.document[kind] = list(self.document.get(kind) or ())
        for position, entry in enumerate(entries):
            if entry.get("name") == name:
                entries[position] = {**entry, inner: value}
                return
        entries.append({"name": name, inner: value})


# Editing.


@contextmanager
def edit(path: Path) -> Iterator[Kubeconfig]:
    """Read, let the caller change, and write back under kubectl's lock; nothing is written if the caller fails.

    A file that does not exist yet is made. Raises KubeconfigError while somebody else holds the lock.
    """
    path.parent.mkdir(parents=True, exist_ok=True)
    lock = path.with_name(path.name + ".lock")
    try:
        os.close(os.open(lock, os.O_CREAT | os.O_EXCL | os.O_WRONLY, 0o600))
    except FileExistsError:
        raise KubeconfigError(
            f"{lock} exists: another program is changing {path}, or was killed while doing so"
        ) from None
    try:
        config = read(path) if path.exists() else Kubeconfig({})
        yield config
        config.write(path)
    finally:
        lock.unlink(missing_ok=True)


def with_namespace(connection: Connection, namespace: str) -> Connection:
    """The same connection with another default namespace."""
    return replace(connection, namespace=namespace)


def _absolute(entry: Obj, fields: tuple[str, ...], base: Path) -> Obj:
    return {
        name: str(base / value) if name in fields and value and not Path(value).is_absolute() else value
        for name, value in entry.items()
    }


def _data(entry: dict[str, Any], name: str) -> bytes | None:
    """A certificate or key: `name-data` holds it in base64 and comes first, `name` names its file."""
    inline, file = entry.get(f"{name}-data"), entry.get(name)
    if inline:
        try:
            return base64.b64decode(inline, validate=False)
        except (binascii.Error, ValueError) as error:
            raise KubeconfigError(f"{name}-data: {error}") from None
    if file:
        try:
            return Path(file).read_bytes()
        except OSError as error:
            raise KubeconfigError(f"unable to read {name} {file}: {error.strerror}") from None
    return None


def _keep_owner(existing: Path, replacement: Path) -> None:
    """Root that edits somebody's file must leave it theirs."""
    if existing.exists() and os.geteuid() == 0:
        status = existing.stat()
        os.chown(replacement, status.st_uid, status.st_gid)
