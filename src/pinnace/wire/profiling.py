"""/debug/pprof/: what a server is doing, as far as Python tells: samples of its stacks, its tasks and its threads.

Paths are those of Go's net/http/pprof, which the original serves; what they answer is text of our own: stacks as
flame-graph programs read them (https://www.brendangregg.com/flamegraphs.html), not Go's profiles.
"""

from __future__ import annotations

import asyncio
import io
import sys
import threading
import time
import traceback
from collections import Counter
from collections.abc import Awaitable
from pathlib import Path
from types import FrameType

from pinnace.wire.http import Request, Response

BELOW = "/debug/pprof/"
MOST_SECONDS = 60.0
_DEFAULT_SECONDS = 30.0
_BETWEEN_SAMPLES = 0.01  # seconds
_HEADERS = (("Content-Type", "text/plain; charset=utf-8"), ("X-Content-Type-Options", "nosniff"))
_INDEX = """/debug/pprof/

cmdline: the command line of this program
goroutine: the stacks of its tasks and threads
profile: where its threads were, sampled for ?seconds=, a line for each stack and how often it was seen
"""


def answer(request: Request) -> Response | Awaitable[Response] | None:
    """The answer for a path below /debug/pprof, None for one there is not; a profile takes as long as it is told."""
    what = f"{request.path.rstrip('/')}/".removeprefix(BELOW).rstrip("/")
    if what == "":
        return _text(_INDEX)
    if what == "cmdline":
        return _text(Path("/proc/self/cmdline").read_text().rstrip("\0"))
    if what == "goroutine":
        return _text(stacks())
    if what == "profile":
        return _profile(request.params().get("seconds", ""))
    return None


def stacks() -> str:
    """Every task of this loop, by name, and every thread, with where they are."""
    out = io.StringIO()
    for task in sorted(asyncio.all_tasks(), key=lambda task: task.get_name()):
        out.write(f"task {task.get_name()}: {getattr(task.get_coro(), '__qualname__', '')}\n")
        for frame in task.get_stack():
            traceback.print_stack(frame, limit=1, file=out)
        out.write("\n")
    names = {thread.ident: thread.name for thread in threading.enumerate()}
    for ident, frame in sys._current_frames().items():
        out.write(f"thread {names.get(ident, ident)}\n")
        traceback.print_stack(frame, file=out)
        out.write("\n")
    return out.getvalue()


async def _profile(told: str) -> Response:
    try:
        seconds = float(told) if told else _DEFAULT_SECONDS
    except ValueError:
        seconds = 0.0
    if not 0 < seconds <= MOST_SECONDS:
        return Response(400, _HEADERS, f"seconds must be more than 0 and at most {MOST_SECONDS:g}\n".encode())
    # A thread of its own: those of the pool do the server's work.
    done: asyncio.Future[str] = asyncio.get_running_loop().create_future()
    loop = asyncio.get_running_loop()

    def sample() -> None:
        text = collapsed(sampled(seconds))
        loop.call_soon_threadsafe(lambda: None if done.done() else done.set_result(text))

    threading.Thread(target=sample, name="profile", daemon=True).start()
    return _text(await done)


def sampled(seconds: float) -> Counter[tuple[str, ...]]:
    """How often each stack was seen, outermost function first, in any thread but this."""
    seen: Counter[tuple[str, ...]] = Counter()
    end = time.monotonic() + seconds
    while time.monotonic() < end:
        for ident, frame in sys._current_frames().items():
            if ident != threading.get_ident():
                seen[_functions(frame)] += 1
        time.sleep(_BETWEEN_SAMPLES)
    return seen


def collapsed(seen: Counter[tuple[str, ...]]) -> str:
    """A line for each stack, its functions between semicolons, then how often; the most frequent first."""
    return "".join(f"{';'.join(stack)} {count}\n" for stack, count in seen.most_common())


def _functions(innermost: FrameType) -> tuple[str, ...]:
    found = []
    frame: FrameType | None = innermost
    while frame is not None:
        found.append(f"{frame.f_globals.get('__name__', '?')}.{frame.f_code.co_qualname}")
        frame = frame.f_back
    return tuple(reversed(found))


def _text(text: str) -> Response:
    return Response(200, _HEADERS, text.encode())
