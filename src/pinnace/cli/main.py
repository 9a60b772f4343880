"""One program, every command and every server: the name it is called by, or its first argument, picks which.

Commands are imported when they are called for: `pinnace version` must not pay for what `pinnace start` needs.
"""

from __future__ import annotations

import importlib
import sys
from pathlib import Path

import click

from pinnace import __version__

COMMANDS = {
    "start": "Start a cluster, or create it first",
    "stop": "Stop a cluster and keep its data",
    "delete": "Delete a cluster and everything it left on this machine",
    "status": "Show how a cluster is",
    "kubectl": "Run kubectl against a cluster",
    "image": "Manage the images of a cluster",
    "node": "List nodes; add and delete hollow ones",
    "logs": "Show the logs of a cluster's servers",
    "profile": "List clusters",
    "snapshot": "Save what a cluster stores to a file, and restore it",
    "ip": "Show the address of a cluster's node",
    "version": "Show versions",
}

SERVERS = {
    "kube-apiserver": "Run the Kubernetes API server alone, in the foreground",
    "kube-controller-manager": "Run the controllers alone, in the foreground",
    "kube-scheduler": "Run the scheduler alone, in the foreground",
    "kubelet": "Run the node agent alone, in the foreground",
    "kube-proxy": "Run the service proxy alone, in the foreground",
    "engine": "Run the container engine alone, in the foreground, for crictl and other kubelets",
    "metrics-server": "Run the metrics API alone, in the foreground",
}


class LazyGroup(click.Group):
    """A group whose commands live in modules of their own, `pinnace.cli.<name>`, each with a `command`."""

    def list_commands(self, ctx: click.Context) -> list[str]:  # noqa: ARG002
        return [*COMMANDS, *SERVERS]

    def get_command(self, ctx: click.Context, cmd_name: str) -> click.Command | None:  # noqa: ARG002
        if cmd_name not in COMMANDS and cmd_name not in SERVERS:
            return None
        module = importlib.import_module("pinnace.cli." + cmd_name.replace("-", "_"))
        command: click.Command = module.command
        return command

    def format_commands(self, ctx: click.Context, formatter: click.HelpFormatter) -> None:  # noqa: ARG002
        """List the commands without importing them."""
        for title, entries in (("Commands", COMMANDS), ("Servers", SERVERS)):
            with formatter.section(title):
                formatter.write_dl(list(entries.items()))


@click.command(cls=LazyGroup, context_settings={"help_option_names": ["-h", "--help"]})
@click.version_option(__version__, prog_name="pinnace")
def pinnace() -> None:
    """A whole Kubernetes in Python: clusters on this machine, in seconds."""


def main() -> None:
    """The entry point of `pinnace`, and of links to it that carry a server's name (`kube-apiserver`, `kubectl`)."""
    called_as = Path(sys.argv[0]).name
    arguments = sys.argv[1:]
    if called_as in SERVERS or called_as == "kubectl":
        arguments = [called_as, *arguments]
    pinnace(args=arguments, prog_name="pinnace")


if __name__ == "__main__":
    main()
