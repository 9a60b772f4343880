"""`pinnace image`."""

from __future__ import annotations

import json
from typing import TYPE_CHECKING

import click

from pinnace.cli.options import as_root, open_profile, profile_option, progress_for

if TYPE_CHECKING:
    from collections.abc import Sequence

    from pinnace.cri.api import Image
    from pinnace.cri.engine.images.store import ImageRecord


class ProfileGroup(click.Group):
    """`-p NAME` may stand before the subcommand as well as after it."""

    def parse_args(self, ctx: click.Context, args: list[str]) -> list[str]:
        if args[:1] in (["-p"], ["--profile"]) and len(args) > 2:
            args = [args[2], *args[:2], *args[3:]]
        return super().parse_args(ctx, args)


@click.group("image", cls=ProfileGroup)
def command() -> None:
    """Manage the images of a cluster."""


@command.command("load")
@profile_option
@click.argument("archives", nargs=-1, required=True)
def load_command(profile_name: str, archives: tuple[str, ...]) -> None:
    """Load images from archives that docker save or skopeo wrote; "-" reads one from standard input."""
    from pinnace.cluster import images

    progress = progress_for("text")
    profile = open_profile(profile_name, progress)

    def work() -> None:
        for archive in archives:
            for name in images.load(profile, archive):
                click.echo(name)

    as_root(profile, progress, work)


@command.command("pull")
@profile_option
@click.argument("references", nargs=-1, required=True)
def pull_command(profile_name: str, references: tuple[str, ...]) -> None:
    """Pull images from their registries."""
    from pinnace.cluster import images

    progress = progress_for("text")
    profile = open_profile(profile_name, progress)

    def work() -> None:
        for reference in references:
            click.echo(images.pull(profile, reference))

    as_root(profile, progress, work)


@command.command("ls")
@profile_option
@click.option("--format", "form", type=click.Choice(["short", "table", "json"]), default="short", show_default=True)
def list_command(profile_name: str, form: str) -> None:
    """List the images that are here."""
    from pinnace.cluster import images

    progress = progress_for("text")
    profile = open_profile(profile_name, progress)
    as_root(profile, progress, lambda: _show(images.list_images(profile), form))


def _show(found: Sequence[ImageRecord | Image], form: str) -> None:
    if form == "json":
        records = [
            {"id": image.id, "repoTags": image.repo_tags, "repoDigests": image.repo_digests, "size": str(image.size)}
            for image in found
        ]
        click.echo(json.dumps(records))
    elif form == "table":
        click.echo(f"{'IMAGE':<60} {'ID':<14} SIZE")
        for image in found:
            for tag in image.repo_tags or ["<none>"]:
                click.echo(f"{tag:<60} {image.id[7:20]:<14} {image.size / 1e6:.1f}MB")
    else:
        for image in found:
            for tag in image.repo_tags or [image.id]:
                click.echo(tag)


@command.command("rm")
@profile_option
@click.argument("references", nargs=-1, required=True)
def remove_command(profile_name: str, references: tuple[str, ...]) -> None:
    """Remove images by name or id."""
    from pinnace.cluster import images

    progress = progress_for("text")
    profile = open_profile(profile_name, progress)

    def work() -> None:
        for reference in references:
            images.remove(profile, reference)

    as_root(profile, progress, work)


@command.command("tag")
@profile_option
@click.argument("source")
@click.argument("name")
def tag_command(profile_name: str, source: str, name: str) -> None:
    """Give an image another name."""
    from pinnace.cluster import images

    progress = progress_for("text")
    profile = open_profile(profile_name, progress)
    as_root(profile, progress, lambda: images.tag(profile, source, name))
