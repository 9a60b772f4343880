"""`pinnace kubectl`: the kubectl of this machine, pointed at the cluster."""

from __future__ import annotations

import os
import shutil

import click

from pinnace.cli.options import open_profile, progress_for
from pinnace.cluster.profile import DEFAULT_PROFILE


@click.command(
    "kubectl", context_settings={"ignore_unknown_options": True, "help_option_names": []}, add_help_option=False
)
@click.argument("arguments", nargs=-1, type=click.UNPROCESSED)
def command(arguments: tuple[str, ...]) -> None:
    """Run kubectl against a cluster: `pinnace kubectl -- get pods -A`.

    `-p NAME` in front picks the cluster; everything after it is kubectl's.
    """
    from pinnace.cluster.progress import reported
    from pinnace.cluster.reasons import KUBECTL_NOT_FOUND, ClusterError

    name, rest = _split_profile(list(arguments))
    progress = progress_for("text")
    profile = open_profile(name, progress)
    with reported(progress):
        profile.load()
        program = shutil.which("kubectl")
        if program is None:
            raise ClusterError(
                KUBECTL_NOT_FOUND,
                "kubectl was not found on PATH",
                "Install it: https://kubernetes.io/docs/tasks/tools/",
            )
    os.execv(program, ["kubectl", "--kubeconfig", str(profile.admin_kubeconfig), *rest])


def _split_profile(arguments: list[str]) -> tuple[str, list[str]]:
    name = os.environ.get("PINNACE_PROFILE", DEFAULT_PROFILE)
    if arguments[:1] in (["-p"], ["--profile"]) and len(arguments) > 1:
        name, arguments = arguments[1], arguments[2:]
    if arguments[:1] == ["--"]:
        arguments = arguments[1:]
    return name, arguments
