"""Makes sure that a container's image is there: pull policy, credentials, back-off, and the events that tell of it.

Relies on the CRI's ImageService. Specified by https://kubernetes.io/docs/concepts/containers/images/.
"""

from __future__ import annotations

import asyncio
import base64
import fnmatch
import re
import time
from collections.abc import Callable, Iterable
from typing import Any

import orjson
import structlog

from pinnace.cri.api import AuthConfig, CriError, Image, ImageService, ImageSpec
from pinnace.kubelet.go_words import duration, rpc_error
from pinnace.kubelet.sync.backoff import Backoff
from pinnace.machinery.meta import Obj, name_of, uid_of

_log = structlog.get_logger()

Tell = Callable[[str, str, str], None]
"""`(type, reason, message)`: an event about the container."""

DEFAULT_REGISTRY = "index.docker.io"


class ImageError(Exception):
    """The image is not there; `reason` is the waiting reason (ErrImagePull, ImagePullBackOff, …)."""

    def __init__(self, reason: str, message: str) -> None:
        super().__init__(message)
        self.reason = reason
        self.message = message


def default_policy(image: str) -> str:
    """`Always` for a `latest` or missing tag, else `IfNotPresent`."""
    if "@" in image:
        return "IfNotPresent"
    tag = image.rpartition("/")[2].partition(":")[2]
    return "Always" if tag in ("", "latest") else "IfNotPresent"


def valid_reference(image: str) -> bool:
    """Whether a reference has the shape that every registry accepts."""
    part = r"[a-z0-9]+(?:(?:\.|_|__|-+)[a-z0-9]+)*"
    host = (
        r"(?:[A-Za-z0-9](?:[A-Za-z0-9-]*[A-Za-z0-9])?(?:\.[A-Za-z0-9](?:[A-Za-z0-9-]*[A-Za-z0-9])?)*|\[[0-9a-fA-F:]+\])"
    )
    pattern = (
        rf"(?:{host}(?::\d+)?/)?{part}(?:/{part})*(?::\w[\w.-]{{0,127}})?(?:@[A-Za-z][\w.+-]*:[0-9a-fA-F]{{32,}})?"
    )
    return re.fullmatch(pattern, image) is not None or re.fullmatch(r"(?:sha256:)?[0-9a-f]{64}", image) is not None


def with_tag(image: str) -> str:
    """The reference with the tag `latest` where it has neither tag nor digest."""
    if "@" in image or ":" in image.rpartition("/")[2]:
        return image
    return f"{image}:latest"


# Credentials.


def credentials(secrets: Iterable[Obj]) -> dict[str, AuthConfig]:
    """Registry (host and path, perhaps with wildcards) to credentials, from pull secrets."""
    found: dict[str, AuthConfig] = {}
    for secret in secrets:
        data = secret.get("data") or {}
        try:
            if ".dockerconfigjson" in data:
                entries = orjson.loads(base64.b64decode(data[".dockerconfigjson"])).get("auths") or {}
            elif ".dockercfg" in data:
                entries = orjson.loads(base64.b64decode(data[".dockercfg"]))
            else:
                continue
            for registry, entry in entries.items():
                found.setdefault(_registry_key(registry), _auth(entry, registry))
        except (ValueError, AttributeError, TypeError):
            _log.warning("pull secret cannot be read", secret=name_of(secret))
    return found


def _registry_key(registry: str) -> str:
    bare = registry.removeprefix("https://").removeprefix("http://").rstrip("/")
    return bare.removesuffix("/v1").removesuffix("/v2")


def _auth(entry: dict[str, Any], registry: str) -> AuthConfig:
    username, password = entry.get("username") or "", entry.get("password") or ""
    if entry.get("auth"):
        username, _, password = base64.b64decode(entry["auth"]).decode().rstrip("\0").partition(":")
    return AuthConfig(
        username=username,
        password=password,
        server_address=registry,
        identity_token=entry.get("identitytoken") or "",
        registry_token=entry.get("registrytoken") or "",
    )


def credentials_for(image: str, known: dict[str, AuthConfig]) -> list[AuthConfig]:
    """Those that fit an image, the most specific first."""
    first, slash, rest = image.partition("/")
    if slash and ("." in first or ":" in first or first == "localhost"):
        host, path = first, rest
    else:
        host, path = DEFAULT_REGISTRY, image if slash else f"library/{image}"
    if host == "docker.io":
        host = DEFAULT_REGISTRY
    fitting = []
    for registry in sorted(known, reverse=True):
        wanted, _, prefix = registry.partition("/")
        if wanted in ("docker.io", "registry-1.docker.io"):
            wanted = DEFAULT_REGISTRY
        if fnmatch.fnmatch(host, wanted) and path.startswith(prefix):
            fitting.append(known[registry])
    return fitting


class ImagePuller:
    """One node's pulls: at most `parallel` at a time, equal ones shared."""

    def __init__(self, images: ImageService, *, parallel: int = 5, clock: Callable[[], float] = time.monotonic) -> None:
        self._images = images
        self._backoff = Backoff(clock)
        self._clock = clock
        self._slots = asyncio.Semaphore(parallel)
        self._running: dict[tuple[str, str], asyncio.Task[tuple[Image, float]]] = {}
        self._errors: dict[str, str] = {}  # back-off key -> what the last pull said

    async def ensure(self, pod: Obj, container: Obj, secrets: list[Obj], tell: Tell) -> Image:
        """The image of a container, pulled if the policy says so. Raises ImageError."""
        image = container.get("image") or ""
        policy = container.get("imagePullPolicy") or default_policy(image)
        reference = with_tag(image)
        if not valid_reference(reference):
            wrong = f'Failed to apply default image tag "{image}": couldn\'t parse image name "{image}": '
            wrong += "invalid reference format"
            tell("Warning", "InspectFailed", wrong)
            raise ImageError("InvalidImageName", wrong)
        try:
            present = await self._images.image_status(ImageSpec(image=reference))
        except CriError as error:
            message = f'Failed to inspect image "{image}": {rpc_error(error)}'
            tell("Warning", "InspectFailed", message)
            raise ImageError("ImageInspectError", message) from error
        if present is not None and policy != "Always":
            tell(
                "Normal",
                "Pulled",
                f'Container image "{image}" already present on machine and can be accessed by the pod',
            )
            return present
        if policy == "Never":
            message = f'Container image "{image}" is not present with pull policy of Never'
            tell("Warning", "ErrImageNeverPull", message)
            raise ImageError("ErrImageNeverPull", message)
        return await self._pull(pod, image, reference, secrets, tell)

    async def _pull(self, pod: Obj, image: str, reference: str, secrets: list[Obj], tell: Tell) -> Image:
        key = f"{uid_of(pod)}_{image}"
        if self.remaining(pod, image) > 0:
            message = f'Back-off pulling image "{image}"'
            tell("Normal", "BackOff", message)
            last = self._errors.get(key)
            raise ImageError("ImagePullBackOff", f"{message}: ErrImagePull: {last}" if last else message)
        tell("Normal", "Pulling", f'Pulling image "{image}"')
        began = self._clock()
        try:
            found, seconds = await self._shared_pull(reference, credentials_for(reference, credentials(secrets)))
        except CriError as error:
            text = rpc_error(error)
            tell("Warning", "Failed", f'Failed to pull image "{image}": {text}')
            self._backoff.next(key)
            self._errors[key] = text
            raise ImageError("ErrImagePull", text) from error
        self._backoff.reset(key)
        self._errors.pop(key, None)
        took, waited = duration(seconds, 3), duration(self._clock() - began, 3)
        pulled = f'Successfully pulled image "{image}" in {took} ({waited} including waiting).'
        tell("Normal", "Pulled", f"{pulled} Image size: {found.size} bytes.")
        return found

    def remaining(self, pod: Obj, image: str) -> float:
        """Seconds until the image may be pulled again for the pod."""
        key = f"{uid_of(pod)}_{image}"
        wait = self._backoff.get(key)
        if not wait:
            return 0.0
        return self._backoff.remaining(key, self._backoff.entered(key))

    def forget(self, pod_uid: str) -> None:
        """Drop the back-offs of a pod that is gone."""
        self._backoff.forget_prefix(f"{pod_uid}_")
        for key in [key for key in self._errors if key.startswith(f"{pod_uid}_")]:
            del self._errors[key]

    async def _shared_pull(self, reference: str, auths: list[AuthConfig]) -> tuple[Image, float]:
        who = (reference, repr([(auth.username, auth.server_address) for auth in auths]))
        task = self._running.get(who)
        if task is None:
            task = asyncio.create_task(self._pull_now(reference, auths), name=f"pull {reference}")
            self._running[who] = task
            task.add_done_callback(lambda _: self._running.pop(who, None))
        return await asyncio.shield(task)

    async def _pull_now(self, reference: str, auths: list[AuthConfig]) -> tuple[Image, float]:
        async with self._slots:
            began = self._clock()
            spec = ImageSpec(image=reference)
            error: CriError | None = None
            attempts: list[AuthConfig | None] = [*auths] or [None]
            for auth in attempts:
                try:
                    identity = await self._images.pull_image(spec, auth)
                    break
                except CriError as failure:
                    error = error or failure
            else:
                assert error is not None
                raise error
            found = await self._images.image_status(spec) or await self._images.image_status(ImageSpec(image=identity))
            if found is None:
                raise CriError("NOT_FOUND", f'image "{reference}" is gone right after its pull')
            return found, self._clock() - began
