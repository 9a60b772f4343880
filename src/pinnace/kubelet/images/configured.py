"""Makes a node's puller of images from the kubelet's options: which plugins it asks, whether pulls are written down."""

from __future__ import annotations

from pinnace.client.client import Client
from pinnace.cri.api import ImageService
from pinnace.kubelet.images.manager import AskPlugins, ImagePuller, no_plugins
from pinnace.kubelet.images.pull_records import PullRecords
from pinnace.kubelet.images.verification import GATE, Policy
from pinnace.kubelet.options import KubeletOptions
from pinnace.kubelet.volumes.tokens import Tokens


def make(options: KubeletOptions, client: Client, images: ImageService, tokens: Tokens) -> ImagePuller:
    """The puller of the node that the options are of."""
    return ImagePuller(
        images,
        parallel=options.max_parallel_image_pulls,
        plugins=_plugins(options, client, tokens),
        records=PullRecords(options.root_dir / "image_manager") if options.features.enabled(GATE) else None,
        policy=Policy(options.image_verification_policy, options.image_verification_allowlist),
    )


def _plugins(options: KubeletOptions, client: Client, tokens: Tokens) -> AskPlugins:
    if not options.credential_providers or options.credential_provider_dir is None:
        return no_plugins
    from pinnace.kubelet.images.providers import ApiAccounts, CredentialProviders

    accounts = ApiAccounts(client, tokens)
    return CredentialProviders(options.credential_providers, options.credential_provider_dir, accounts).credentials
