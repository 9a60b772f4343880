"""What may be asked of a pod's log: the options of GET pods/log, before a kubelet is asked.

Pure. Rules and words are those of PodLogOptions
(https://kubernetes.io/docs/reference/kubernetes-api/workload-resources/pod-v1/).
"""

from __future__ import annotations

from collections.abc import Mapping

from pinnace.machinery import errors
from pinnace.machinery.errors import Cause
from pinnace.machinery.meta import parse_time

STREAMS = ("All", "Stderr", "Stdout")
_LEAST = (
    ("tailLines", 0, "must be greater than or equal to 0"),
    ("limitBytes", 1, "must be greater than 0"),
)


def check(pod: str, params: Mapping[str, str], numbers: Mapping[str, int | None], *, streams: bool) -> None:
    """Raise what is wrong with the options; `streams` says whether one of the two may be chosen."""
    causes = [
        errors.invalid_value(name, number, why)
        for name, least, why in _LEAST
        if (number := numbers.get(name)) is not None and number < least
    ]
    since = params.get("sinceTime")
    if since:
        _check_time(since)
    seconds = numbers.get("sinceSeconds")
    if seconds is not None and since:
        causes.append(errors.field_forbidden("", "at most one of `sinceTime` or `sinceSeconds` may be specified"))
    elif seconds is not None and seconds < 1:
        causes.append(errors.invalid_value("sinceSeconds", seconds, "must be greater than 0"))
    causes += _check_stream(params, streams=streams)
    if causes:
        raise errors.invalid("PodLogOptions", pod, causes)


def _check_time(text: str) -> None:
    try:
        parse_time(text)
    except ValueError:
        layout = "2006-01-02T15:04:05Z07:00"
        raise errors.bad_request(f'parsing time "{text}" as "{layout}": cannot parse "{text}" as "2006"') from None


def _check_stream(params: Mapping[str, str], *, streams: bool) -> list[Cause]:
    stream = params.get("stream")
    if not stream:
        return []
    if not streams:
        return [errors.field_forbidden("stream", "may not be specified")]
    causes = [] if stream in STREAMS else [errors.not_supported("stream", stream, STREAMS)]
    if stream != "All" and params.get("tailLines"):
        why = "`tailLines` and specific `stream` are mutually exclusive for now"
        causes.append(errors.field_forbidden("", why))
    return causes
