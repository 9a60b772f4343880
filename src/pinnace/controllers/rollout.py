"""How many replicas each ReplicaSet of a Deployment should have now: the arithmetic of rollouts and of scaling.

Pure functions from a Deployment and its ReplicaSets to resizes. `new` is the set with the current template, `old` are
the others. Specified by https://kubernetes.io/docs/concepts/workloads/controllers/deployment/#updating-a-deployment,
and for scaling in the middle of a rollout, #proportional-scaling.
"""

from __future__ import annotations

import math
from collections.abc import Iterable, Sequence
from typing import NamedTuple

from pinnace.machinery.meta import Obj, annotations_of, get_in, name_of, uid_of

DESIRED = "deployment.kubernetes.io/desired-replicas"
MAXIMUM = "deployment.kubernetes.io/max-replicas"


class Resize(NamedTuple):
    """Give a ReplicaSet this many replicas; the number may be the one it has, to refresh its annotations."""

    replica_set: Obj
    replicas: int


def replicas_of(obj: Obj) -> int:
    """`spec.replicas` of a Deployment or ReplicaSet."""
    replicas = get_in(obj, "spec", "replicas")
    return 1 if replicas is None else int(replicas)


def available_of(replica_set: Obj) -> int:
    return int(get_in(replica_set, "status", "availableReplicas", default=0))


def is_rolling(deployment: Obj) -> bool:
    return bool(get_in(deployment, "spec", "strategy", "type", default="RollingUpdate") == "RollingUpdate")


def surge_and_unavailable(deployment: Obj) -> tuple[int, int]:
    """`maxSurge` rounded up and `maxUnavailable` rounded down, as pods; never both 0."""
    if not is_rolling(deployment):
        return 0, 0
    rolling = get_in(deployment, "spec", "strategy", "rollingUpdate", default={})
    replicas = replicas_of(deployment)
    surge = scaled(rolling.get("maxSurge", "25%"), replicas, up=True)
    unavailable = scaled(rolling.get("maxUnavailable", "25%"), replicas, up=False)
    if surge == 0 and unavailable == 0:
        unavailable = 1
    return surge, min(unavailable, replicas)


def scaled(value: int | str, of: int, *, up: bool) -> int:
    """A number as it is, or a percentage (`25%`) of `of`, rounded."""
    if isinstance(value, int):
        return value
    hundredfold = int(value.removesuffix("%")) * of
    return -(-hundredfold // 100) if up else hundredfold // 100


def active(replica_sets: Iterable[Obj]) -> list[Obj]:
    """Those that should have pods."""
    return [one for one in replica_sets if replicas_of(one) > 0]


def oldest_first(replica_sets: Iterable[Obj]) -> list[Obj]:
    return sorted(replica_sets, key=lambda one: (one["metadata"].get("creationTimestamp", ""), name_of(one)))


def total(replica_sets: Iterable[Obj]) -> int:
    return sum(map(replicas_of, replica_sets))


# Rolling update.


def first_size(deployment: Obj, old: Sequence[Obj]) -> int:
    """Replicas that a new ReplicaSet starts with."""
    return _grown(deployment, 0, total(old))


def _grown(deployment: Obj, current: int, everything: int) -> int:
    """How far the new set, of `current` replicas, may grow while all sets together have `everything`."""
    wanted = replicas_of(deployment)
    if not is_rolling(deployment):
        return wanted
    surge, _ = surge_and_unavailable(deployment)
    room = wanted + surge - everything
    return current if room <= 0 else current + min(room, wanted - current)


def resize_new(deployment: Obj, new: Obj, old: Sequence[Obj]) -> list[Resize]:
    """Grow the new set as far as maxSurge allows, or cut it to what is wanted."""
    wanted, current = replicas_of(deployment), replicas_of(new)
    if current == wanted:
        return []
    size = wanted if current > wanted else _grown(deployment, current, current + total(old))
    return [Resize(new, size)] if size != current else []


def shrink_old(deployment: Obj, new: Obj, old: Sequence[Obj]) -> list[Resize]:
    """Take from the old sets what maxUnavailable allows: first what is not available anyway."""
    _, unavailable = surge_and_unavailable(deployment)
    minimum = replicas_of(deployment) - unavailable
    sets = oldest_first(active(old))
    new_unavailable = replicas_of(new) - available_of(new)
    may_go = total(sets) + replicas_of(new) - minimum - new_unavailable
    if not sets or may_go <= 0:
        return []
    sizes = {uid_of(one): replicas_of(one) for one in sets}
    _take_unavailable(sets, sizes, may_go)
    _take_available(sets, sizes, available_of(new) + sum(map(available_of, sets)) - minimum)
    return [Resize(one, sizes[uid_of(one)]) for one in sets if sizes[uid_of(one)] != replicas_of(one)]


def _take_unavailable(sets: Sequence[Obj], sizes: dict[str, int], may_go: int) -> None:
    for one in sets:
        broken = max(0, sizes[uid_of(one)] - available_of(one))
        taken = min(broken, may_go)
        sizes[uid_of(one)] -= taken
        may_go -= taken


def _take_available(sets: Sequence[Obj], sizes: dict[str, int], may_go: int) -> None:
    for one in sets:
        taken = max(0, min(sizes[uid_of(one)], may_go))
        sizes[uid_of(one)] -= taken
        may_go -= taken


# Scaling.


def is_scaling(deployment: Obj, replica_sets: Iterable[Obj]) -> bool:
    """Whether the Deployment's size was changed since its sets were last resized."""
    wanted = str(replicas_of(deployment))
    return any(annotations_of(one).get(DESIRED, wanted) != wanted for one in active(replica_sets))


def scale(deployment: Obj, new: Obj | None, old: Sequence[Obj]) -> list[Resize]:
    """Resizes after `spec.replicas` changed, or while paused: one set takes all, several share in proportion."""
    wanted = replicas_of(deployment)
    everything = [*old, new] if new is not None else list(old)
    only = _active_or_latest(new, old, everything)
    if only is not None:
        return [] if replicas_of(only) == wanted else [Resize(only, wanted)]
    if new is not None and _is_saturated(deployment, new):
        return [Resize(one, 0) for one in oldest_first(active(old))]
    if not is_rolling(deployment):
        return []
    return _share(deployment, active(everything))


def _active_or_latest(new: Obj | None, old: Sequence[Obj], everything: Sequence[Obj]) -> Obj | None:
    working = active(everything)
    if len(working) > 1:
        return None
    if working:
        return working[0]
    if new is not None:
        return new
    return oldest_first(old)[-1] if old else None


def _is_saturated(deployment: Obj, new: Obj) -> bool:
    """Whether the new set has all the pods wanted, and all are available."""
    wanted = replicas_of(deployment)
    return annotations_of(new).get(DESIRED) == str(wanted) and replicas_of(new) == wanted == available_of(new)


def _share(deployment: Obj, sets: list[Obj]) -> list[Resize]:
    """Share what is to be added (or taken) among the sets by their sizes; the largest takes the rest."""
    surge, _ = surge_and_unavailable(deployment)
    wanted = replicas_of(deployment)
    missing = (wanted + surge if wanted > 0 else 0) - total(sets)
    sets = oldest_first(sets)
    if missing > 0:
        sets.reverse()  # of sets of one size the newest grows, the oldest shrinks
    sets.sort(key=replicas_of, reverse=True)
    sizes, given = [], 0
    for one in sets:
        part = _proportion(deployment, one, missing, given, wanted + surge)
        sizes.append(replicas_of(one) + part)
        given += part
    left = missing - given
    for place, size in enumerate(sizes):  # what is more than the largest can give up the next one gives
        sizes[place] = max(0, size + left)
        left -= sizes[place] - size
    return [Resize(one, size) for one, size in zip(sets, sizes, strict=True)]


def _proportion(deployment: Obj, replica_set: Obj, missing: int, given: int, maximum: int) -> int:
    size = replicas_of(replica_set)
    if size == 0 or missing in (0, given):
        return 0
    if replicas_of(deployment) == 0:
        fraction = -size
    else:
        before = _number(annotations_of(replica_set).get(MAXIMUM)) or get_in(
            deployment, "status", "replicas", default=0
        )
        fraction = _round(size * maximum / before) - size if before else 0
    allowed = missing - given
    return min(fraction, allowed) if missing > 0 else max(fraction, allowed)


def _round(value: float) -> int:
    return math.floor(value + 0.5)


def _number(text: str | None) -> int:
    try:
        return int(text or "0")
    except ValueError:
        return 0
