"""The profile's entries in the user's kubeconfig: a cluster, a user and a context named after the profile."""

from __future__ import annotations

import base64
import os
import pwd
from pathlib import Path

from pinnace.client.kubeconfig import Kubeconfig, KubeconfigError, default_paths, edit, read
from pinnace.cluster.profile import Profile, ProfileConfig
from pinnace.cluster.reasons import KUBECONFIG, ClusterError


def kubeconfig_path() -> Path:
    """The file kubectl writes to: the first of $KUBECONFIG, else ~/.kube/config of who called sudo, or of us."""
    if os.environ.get("KUBECONFIG"):
        return default_paths()[0]
    caller = os.environ.get("SUDO_USER")
    if caller and os.geteuid() == 0:
        try:
            return Path(pwd.getpwnam(caller).pw_dir) / ".kube" / "config"
        except KeyError:
            pass  # the account is gone; our own file will do
    return Path.home() / ".kube" / "config"


def write_context(profile: Profile, config: ProfileConfig, *, make_current: bool) -> None:
    """Add or refresh the entries, certificates inside: the profile's own files are root's."""
    own = Kubeconfig({})
    _fill(own, profile, config, make_current=True)
    own.write(profile.admin_kubeconfig)
    path = kubeconfig_path()
    try:
        with edit(path) as kubeconfig:
            _fill(kubeconfig, profile, config, make_current=make_current)
        _hand_over(path)
    except (KubeconfigError, OSError) as error:
        raise ClusterError(
            KUBECONFIG, str(error), f"The cluster runs; its own kubeconfig is {profile.admin_kubeconfig}"
        ) from error


def remove_context(profile: Profile) -> None:
    """Take the entries out again; a file that holds nothing else goes with them."""
    path = kubeconfig_path()
    if not path.exists():
        return
    try:
        if read(path).cluster(profile.name) is None:
            return
        with edit(path) as kubeconfig:
            kubeconfig.remove(cluster=profile.name, user=profile.name, context=profile.name)
            empty = not any(kubeconfig.document.get(kind) for kind in ("clusters", "users", "contexts"))
        if empty:
            path.unlink()
    except (KubeconfigError, OSError) as error:
        raise ClusterError(KUBECONFIG, str(error), f"Remove the entries named {profile.name} by hand") from error


def is_configured(profile: Profile, config: ProfileConfig) -> bool:
    """Whether the user's kubeconfig points at this cluster."""
    try:
        cluster = read(kubeconfig_path()).cluster(profile.name)
    except KubeconfigError:
        return False
    return bool(cluster) and cluster is not None and cluster.get("server") == config.server_url


def _fill(kubeconfig: Kubeconfig, profile: Profile, config: ProfileConfig, *, make_current: bool) -> None:
    kubeconfig.set_cluster(
        profile.name, {"server": config.server_url, "certificate-authority-data": _inline(profile.pki_dir / "ca.crt")}
    )
    kubeconfig.set_user(
        profile.name,
        {
            "client-certificate-data": _inline(profile.pki_dir / "admin.crt"),
            "client-key-data": _inline(profile.pki_dir / "admin.key"),
        },
    )
    kubeconfig.set_context(profile.name, cluster=profile.name, user=profile.name)
    if make_current:
        kubeconfig.use_context(profile.name)


def _inline(file: Path) -> str:
    return base64.b64encode(file.read_bytes()).decode()


def _hand_over(path: Path) -> None:
    """What root wrote for the caller of sudo belongs to the caller."""
    caller = os.environ.get("SUDO_USER")
    if not caller or os.geteuid() != 0 or os.environ.get("KUBECONFIG"):
        return
    account = pwd.getpwnam(caller)
    for target in (path, path.parent):
        os.chown(target, account.pw_uid, account.pw_gid)
