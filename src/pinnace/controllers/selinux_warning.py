"""Warns of pods that share a volume and would have it with different SELinux labels: on one node, only one could run.

Events on both pods, and a metric for each pair. Off unless asked for: the metric tells names of all namespaces.
Specified by https://kubernetes.io/docs/tasks/configure-pod-container/security-context/#selinux-warning-controller and
KEP-1710.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping
from itertools import permutations
from typing import NamedTuple

from pinnace.apis.resources import CSI_DRIVERS, PERSISTENT_VOLUME_CLAIMS, PERSISTENT_VOLUMES, PODS
from pinnace.client import measures
from pinnace.client.controller import Controller, itself
from pinnace.controllers.attach_detach import unique_name
from pinnace.controllers.pods import is_finished
from pinnace.controllers.volume_protection import claims_of
from pinnace.machinery.meta import Obj, get_in, name_of, namespace_of, split_key
from pinnace.machinery.metrics import Collected

_PARTS = ("user", "role", "type", "level")
_RECURSIVE, _BY_MOUNT = "Recursive", "MountOption"

# Decisions.


class Use(NamedTuple):
    """How a pod would have a volume; `label` is empty where its files are relabelled one by one."""

    label: str
    policy: str


class Conflict(NamedTuple):
    """What one pod is told of another; pods are `namespace/name`."""

    what: str  # is not the same: SELinuxLabel or SELinuxChangePolicy
    pod: str
    value: str
    other: str
    other_value: str

    @property
    def reason(self) -> str:
        return f"{self.what}Conflict"

    @property
    def message(self) -> str:
        """Names of another namespace stay there."""
        (namespace, _), (other_namespace, other) = split_key(self.pod), split_key(self.other)
        mine, its = f'{self.what} "{self.value}"', f'{self.what} "{self.other_value}"'
        lone = "If both pods land on the same node, only one of them may access the volume."
        if namespace == other_namespace:
            return f"{mine} conflicts with pod {other} that uses the same volume as this pod with {its}. {lone}"
        its = f"a different {self.what}"
        return f"{mine} conflicts with another pod that uses the same volume as this pod with {its}. {lone}"


def label_of(options: Obj | None) -> str:
    """`user:role:type:level`, what the node's system fills in left empty; empty where nothing is said."""
    return ":".join(options.get(part) or "" for part in _PARTS) if options else ""


def labels_of_volume(pod: Obj, volume: str) -> set[str]:
    """The labels of the containers that mount one of the pod's volumes."""
    own = get_in(pod, "spec", "securityContext", "seLinuxOptions")
    spec = pod["spec"]
    found = set()
    for container in (*(spec.get("initContainers") or ()), *(spec.get("containers") or ())):
        if any(mount.get("name") == volume for mount in container.get("volumeMounts") or ()):
            found.add(label_of(get_in(container, "securityContext", "seLinuxOptions") or own))
    return found


def use_of(pod: Obj, label: str, *, by_mount: bool) -> Use:
    """How the pod would have a volume of a driver that can, or cannot, mount with a label."""
    policy = get_in(pod, "spec", "securityContext", "seLinuxChangePolicy") or _BY_MOUNT
    return Use(label, _BY_MOUNT) if by_mount and label and policy == _BY_MOUNT else Use("", _RECURSIVE)


def labels_differ(one: str, other: str) -> bool:
    """Whether they differ in a part that both name; of a part that one leaves out nobody knows."""
    pairs = zip(one.split(":", 3), other.split(":", 3), strict=False)
    return bool(one and other) and any(a != b for a, b in pairs if a and b)


def conflicts(uses: Mapping[str, Use]) -> Iterator[Conflict]:
    """Those of one volume, each told to both pods."""
    for (pod, mine), (other, its) in permutations(sorted(uses.items()), 2):
        if mine.policy != its.policy:
            yield Conflict("SELinuxChangePolicy", pod, mine.policy, other, its.policy)
        if labels_differ(mine.label, its.label):
            yield Conflict("SELinuxLabel", pod, mine.label, other, its.label)


# Carrying them out.


class SELinuxWarningController(Controller):
    """One key is one pod."""

    name = "selinux-warning-controller"
    component = "selinux_warning"
    workers = 1

    def setup(self) -> None:
        self._uses: dict[str, dict[str, Use]] = {}  # volume -> pod -> how
        self._volumes_of: dict[str, set[str]] = {}  # pod -> volumes
        self._told: set[Conflict] = set()
        self.pods = self.watch(PODS, itself)
        self.pods.add_index("persistentvolumeclaim", claims_of)
        self.claims = self.watch(PERSISTENT_VOLUME_CLAIMS, self._pods_of)
        self.volumes = self.use(PERSISTENT_VOLUMES)
        self.drivers = self.watch(CSI_DRIVERS, lambda _: list(self._volumes_of))

    async def run(self) -> None:
        _running.add(self)
        try:
            await super().run()
        finally:
            _running.discard(self)

    def _pods_of(self, claim: Obj) -> Iterable[str]:
        key = f"{namespace_of(claim)}/{name_of(claim)}"
        for pod in self.pods.store.by_index("persistentvolumeclaim", key):
            yield from itself(pod)

    async def reconcile(self, key: str) -> None:
        pod = self.pods.store.get(key)
        uses = self._of_pod(pod) if pod is not None and not is_finished(pod) else {}
        for volume in self._volumes_of.pop(key, set()) | uses.keys():
            of_volume = self._uses.setdefault(volume, {})
            of_volume.pop(key, None)
            if volume in uses:
                of_volume[key] = uses[volume]
            if not of_volume:
                del self._uses[volume]
        if uses:
            self._volumes_of[key] = set(uses)
        self._tell()

    def _of_pod(self, pod: Obj) -> dict[str, Use]:
        found = {}
        for volume in pod["spec"].get("volumes") or ():
            whole = self._volume(pod, volume)
            if whole is None:
                continue
            labels = labels_of_volume(pod, volume["name"])
            if len(labels) > 1:
                why = f'Volume "{volume["name"]}" is mounted twice with different SELinux labels inside this pod'
                self.recorder.event(pod, "Warning", "MultipleSELinuxLabels", why)
            elif labels:
                driver = self.drivers.store.get(whole["spec"]["csi"]["driver"])
                by_mount = driver is not None and bool(get_in(driver, "spec", "seLinuxMount"))
                found[unique_name(whole)] = use_of(pod, labels.pop(), by_mount=by_mount)
        return found

    def _volume(self, pod: Obj, volume: Obj) -> Obj | None:
        """The CSI volume behind one of the pod's."""
        key = next(iter(claims_of({**pod, "spec": {"volumes": [volume]}})), "")
        claim = self.claims.store.get(key) if key else None
        found = self.volumes.store.get(get_in(claim, "spec", "volumeName", default="")) if claim is not None else None
        return found if found is not None and get_in(found, "spec", "csi") else None

    def _tell(self) -> None:
        """Each conflict once, as long as it lasts."""
        there = set(self.all_conflicts())
        for one in sorted(there - self._told):
            pod = self.pods.store.get(one.pod)
            if pod is not None:
                self.recorder.event(pod, "Normal", one.reason, one.message)
        self._told = there

    def all_conflicts(self) -> Iterator[Conflict]:
        for uses in self._uses.values():
            if len(uses) > 1:
                yield from conflicts(uses)


_running: set[SELinuxWarningController] = set()


def _collect() -> Iterator[tuple[tuple[str, ...], float]]:
    for controller in _running:
        for one in controller.all_conflicts():
            yield (one.what, *split_key(one.pod), one.value, *split_key(one.other), one.other_value), 1.0


measures.include(
    Collected(
        "gauge",
        "selinux_warning_controller_selinux_volume_conflict",
        "Conflict between two Pods using the same volume",
        ("property", "pod1_namespace", "pod1_name", "pod1_value", "pod2_namespace", "pod2_name", "pod2_value"),
        _collect,
    )
)
