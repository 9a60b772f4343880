"""`kube-scheduler --config`: the file, and what it says of the connection and the election where no flag says it."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Any

import click
from click.core import ParameterSource

if TYPE_CHECKING:
    from pinnace.machinery.features import FeatureGates
    from pinnace.machinery.meta import Obj
    from pinnace.scheduler.configuration import Configuration

_ELECTION = {  # fields of `leaderElection`, and their flags
    "leaderElect": "leader_elect",
    "leaseDuration": "leader_elect_lease_duration",
    "renewDeadline": "leader_elect_renew_deadline",
    "retryPeriod": "leader_elect_retry_period",
    "resourceName": "leader_elect_resource_name",
    "resourceNamespace": "leader_elect_resource_namespace",
}
_CLIENT = {  # fields of `clientConnection`, and their flags
    "qps": "kube_api_qps",
    "burst": "kube_api_burst",
    "contentType": "kube_api_content_type",
}
_SECONDS = ("leaseDuration", "renewDeadline", "retryPeriod")


def read(path: Path | None) -> Configuration:
    """What the file says; without one, the defaults. Ends the program for a file that cannot be used."""
    from pinnace.machinery.configuration import ConfigurationError
    from pinnace.scheduler.configuration import Configuration, read_configuration
    from pinnace.scheduler.profiles import check

    if path is None:
        return Configuration()
    try:
        configuration = read_configuration(path.read_text())
        check(configuration)
    except (ConfigurationError, OSError, UnicodeDecodeError) as error:
        raise click.ClickException(f"{path}: {error}") from None
    return configuration


def with_file(flags: dict[str, Any], configuration: Configuration) -> dict[str, Any]:
    """The flags, with the file's word for those that were not given."""
    from pinnace.machinery.duration import parse_duration

    found = dict(flags)
    kubeconfig = configuration.client_connection.get("kubeconfig")
    if kubeconfig and not _given("kubeconfig"):
        found["kubeconfig"] = Path(kubeconfig)
    for field, flag in _ELECTION.items():
        value = configuration.leader_election.get(field)
        if value is None or _given(flag):
            continue
        try:
            found[flag] = parse_duration(value) if field in _SECONDS else value
        except ValueError as error:
            raise click.ClickException(f"leaderElection.{field}: {error}") from None
    return found


def complete(flags: dict[str, Any], configuration: Configuration, features: FeatureGates) -> Obj:
    """The whole configuration: the file's, what flags say instead, and the defaults."""
    from pinnace.machinery.duration import go_duration
    from pinnace.scheduler import defaults

    election = {
        field: go_duration(flags[flag]) if field in _SECONDS else flags[flag] for field, flag in _ELECTION.items()
    }
    client: Obj = {"kubeconfig": str(flags["kubeconfig"] or "")}
    client |= {field: flags[flag] for field, flag in _CLIENT.items() if _given(flag)}
    return defaults.complete(
        configuration.document, features, client=client, election=election, profiling=flags["profiling"]
    )


def write(path: Path, document: Obj) -> None:
    """As YAML. Ends the program where it cannot."""
    from pinnace.machinery import yaml

    try:
        path.write_text(yaml.dump(dict(sorted(document.items()))))
    except OSError as error:
        raise click.ClickException(f"{path}: {error.strerror}") from None


def _given(flag: str) -> bool:
    return click.get_current_context().get_parameter_source(flag) is ParameterSource.COMMANDLINE
