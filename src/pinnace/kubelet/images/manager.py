"""Makes sure that a container's image is there: pull policy, credentials, back-off, and the events that tell of it.

Relies on the CRI's ImageService. Specified by https://kubernetes.io/docs/concepts/containers/images/.
"""

from __future__ import annotations

import asyncio
import time
from collections.abc import Awaitable, Callable, Collection
from dataclasses import dataclass
from datetime import UTC, datetime

import structlog

from pinnace.cri.api import AuthConfig, CriError, Image, ImageService, ImageSpec
from pinnace.kubelet.go_words import duration, rpc_error
from pinnace.kubelet.images.keyring import Credential, Known, lookup, merged, of_secrets
from pinnace.kubelet.images.pull_records import PullRecords
from pinnace.kubelet.images.references import default_policy, problem, repository, with_tag
from pinnace.kubelet.images.verification import Policy, proven
from pinnace.kubelet.statistics import measures
from pinnace.kubelet.sync.backoff import Backoff
from pinnace.machinery.meta import Obj, uid_of

_log = structlog.get_logger()

Tell = Callable[[str, str, str], None]
"""`(type, reason, message)`: an event about the container."""
AskPlugins = Callable[[Obj, str], Awaitable[list[Known]]]
"""What plugins know for a pod and a repository."""

# What a runtime's error begins with where it says more than that the pull failed.
_REASONS = {
    "RegistryUnavailable": "the registry is unavailable",
    "SignatureValidationFailed": "the signature validation failed",
}
PULL_FAILURES = ("ErrImagePull", *_REASONS)
"""Waiting reasons of a pull that was tried just now."""


class ImageError(Exception):
    """The image is not there; `reason` is the waiting reason (ErrImagePull, ImagePullBackOff, …)."""

    def __init__(self, reason: str, message: str) -> None:
        super().__init__(message)
        self.reason = reason
        self.message = message


@dataclass(frozen=True, slots=True)
class Pulled:
    """What a pull brought, in how many seconds, and by which credential; None where none was needed."""

    image: Image
    seconds: float
    credential: Credential | None


class PullError(Exception):
    """No credential brought the image; the text is what each said."""


async def no_plugins(_pod: Obj, _repository: str) -> list[Known]:
    """Of a node that has none."""
    return []


class ImagePuller:
    """One node's pulls: at most `parallel` at a time, equal ones shared.

    With `records`, a pod shows what an image that is there was pulled with before it uses it, where `policy` asks that.
    """

    def __init__(
        self,
        images: ImageService,
        *,
        parallel: int = 5,
        clock: Callable[[], float] = time.monotonic,
        plugins: AskPlugins = no_plugins,
        records: PullRecords | None = None,
        policy: Policy | None = None,
    ) -> None:
        self._images = images
        self._backoff = Backoff(clock)
        self._clock = clock
        self._plugins = plugins
        self._records = records
        self._policy = policy or Policy()
        self._slots = asyncio.Semaphore(parallel)
        self._running: dict[tuple[str, str], asyncio.Task[Pulled]] = {}
        self._errors: dict[str, str] = {}  # back-off key -> what the last pull said

    async def recover(self) -> None:
        """Take up what a kubelet before this one wrote down. Raises CriError."""
        if self._records is not None and self._records.has_unfinished():
            self._records.recover(await self._images.list_images())

    async def ensure(self, pod: Obj, container: Obj, secrets: list[Obj], tell: Tell) -> Image:
        """The image of a container, pulled if the policy says so. Raises ImageError."""
        image = container.get("image") or ""
        policy = container.get("imagePullPolicy") or default_policy(image)
        reference = with_tag(image)
        why = problem(image)
        if why:
            wrong = f'Failed to apply default image tag "{image}": couldn\'t parse image name "{image}": {why}'
            tell("Warning", "InspectFailed", wrong)
            raise ImageError("InvalidImageName", wrong)
        try:
            present = await self._images.image_status(ImageSpec(image=reference))
        except CriError as error:
            message = f'Failed to inspect image "{image}": {rpc_error(error)}'
            tell("Warning", "InspectFailed", message)
            raise ImageError("ImageInspectError", message) from error
        if present is not None and policy != "Always" and await self._may_use(pod, reference, present, secrets):
            accessible = "" if self._records is None else " and can be accessed by the pod"
            tell("Normal", "Pulled", f'Container image "{image}" already present on machine{accessible}')
            return present
        if policy == "Never":
            message = f'Container image "{image}" is not present with pull policy of Never'
            tell("Warning", "ErrImageNeverPull", message)
            raise ImageError("ErrImageNeverPull", message)
        return await self._pull(pod, image, reference, secrets, tell)

    async def _may_use(self, pod: Obj, reference: str, present: Image, secrets: list[Obj]) -> bool:
        """Whether a pod may use an image without asking its registry."""
        if self._records is None:
            return True
        try:
            record = self._records.get(present.id)
        except ValueError as error:
            _log.warning("unable to access cache records about image pulls", error=str(error))
            return False
        pulled_here = record is not None or self._records.is_being_pulled(reference)
        if self._policy.exempts(reference, pulled_here=pulled_here):
            return True
        open_to_all, _ = proven(record, reference, ())
        if record is None or open_to_all:
            return open_to_all
        may, learned = proven(record, reference, await self._credentials(pod, reference, secrets))
        if learned is not None:
            self._note(lambda records: records.learn(reference, present.id, learned))
        return may

    def _note(self, write: Callable[[PullRecords], None]) -> None:
        if self._records is not None:
            try:
                write(self._records)
            except (OSError, ValueError) as error:
                _log.warning("cannot write down an image pull", error=str(error))

    async def _credentials(self, pod: Obj, reference: str, secrets: list[Obj]) -> list[Credential]:
        """What the pod's secrets and the node's plugins have for an image."""
        wanted = repository(reference)
        return lookup(wanted, merged([of_secrets(secrets), *await self._plugins(pod, wanted)]))

    async def _pull(self, pod: Obj, image: str, reference: str, secrets: list[Obj], tell: Tell) -> Image:
        key = f"{uid_of(pod)}_{image}"
        if self.remaining(pod, image) > 0:
            message = f'Back-off pulling image "{image}"'
            tell("Normal", "BackOff", message)
            last = self._errors.get(key)
            raise ImageError("ImagePullBackOff", f"{message}: {last}" if last else message)
        tell("Normal", "Pulling", f'Pulling image "{image}"')
        began = self._clock()
        try:
            found = await self._shared_pull(reference, await self._credentials(pod, reference, secrets))
        except PullError as error:
            tell("Warning", "Failed", f'Failed to pull image "{image}": {error}')
            self._backoff.next(key)
            reason, text = _why(image, str(error))
            self._errors[key] = f"{reason}: {text}"
            raise ImageError(reason, text) from error
        self._backoff.reset(key)
        self._errors.pop(key, None)
        took, waited = duration(found.seconds, 3), duration(self._clock() - began, 3)
        measures.image_pulls.observe(self._clock() - began, measures.image_size(found.image.size))
        pulled = f'Successfully pulled image "{image}" in {took} ({waited} including waiting).'
        tell("Normal", "Pulled", f"{pulled} Image size: {found.image.size} bytes.")
        return found.image

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

    def forget_images(self, left: Collection[str], looked_at: float) -> None:
        """Images other than these are gone, as of a moment in seconds since 1970."""
        self._note(lambda records: records.keep_only(left, datetime.fromtimestamp(looked_at, UTC)))

    async def _shared_pull(self, reference: str, credentials: list[Credential]) -> Pulled:
        who = (reference, repr([(one.owner, one.hash) for one in credentials]))
        task = self._running.get(who)
        if task is None:
            task = asyncio.create_task(self._recorded_pull(reference, credentials), name=f"pull {reference}")
            self._running[who] = task
            task.add_done_callback(lambda _: self._running.pop(who, None))
        return await asyncio.shield(task)

    async def _recorded_pull(self, reference: str, credentials: list[Credential]) -> Pulled:
        self._note(lambda records: records.begin(reference))
        try:
            found = await self._pull_now(reference, credentials)
        except BaseException:
            self._note(lambda records: records.fail(reference))
            raise
        self._note(lambda records: records.succeed(reference, found.image.id, found.credential))
        return found

    async def _pull_now(self, reference: str, credentials: list[Credential]) -> Pulled:
        """Try one credential after the other. Raises PullError."""
        async with self._slots:
            began = self._clock()
            said: list[str] = []
            attempts: list[Credential | None] = [*credentials] or [None]
            for credential in attempts:
                try:
                    image = await self._fetch(reference, credential.auth if credential is not None else None)
                    return Pulled(image, self._clock() - began, credential)
                except CriError as failure:
                    said.append(failure.message if failure.code == "UNKNOWN" else rpc_error(failure))
            told = list(dict.fromkeys(said))
            raise PullError(told[0] if len(told) == 1 else f"[{', '.join(told)}]")

    async def _fetch(self, reference: str, auth: AuthConfig | None) -> Image:
        spec = ImageSpec(image=reference)
        identity = await self._images.pull_image(spec, auth)
        found = await self._images.image_status(spec) or await self._images.image_status(ImageSpec(image=identity))
        if found is None:
            raise CriError("NOT_FOUND", f'image "{reference}" is gone right after its pull')
        return found


def _why(image: str, said: str) -> tuple[str, str]:
    """The waiting reason and message of a pull that failed."""
    for reason, words in _REASONS.items():
        if said.startswith(reason):
            return reason, f"image pull failed for {image} because {words}{said.removeprefix(reason)}"
    return "ErrImagePull", said
