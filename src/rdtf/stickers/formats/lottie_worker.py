"""The process that runs rlottie; started by `rdtf.stickers.formats.lottie`, never imported.

rlottie is C++ that some files crash or hang. Out here that costs one process and not the caller's.
Each request on standard input is four little-endian uint32 (operation, two or three numbers) and
each answer on standard output a uint32 length and that many bytes. An answer of length 0 means that
rlottie does not understand the animation. A request that takes too long, or memory that runs out,
ends the process.
"""

from __future__ import annotations

import os
import signal
import struct
import sys

from rlottie_python import LottieAnimation

LOAD, RENDER = 0, 1
_MAX_MEMORY = 4 * 2**30
# Processor time of one request, whatever else the machine does. A frame takes milliseconds.
_MAX_SECONDS = 1.5


def _limit_memory() -> None:
    """Address space; a limit of the caller's own data holds here, too."""
    try:
        import resource
    except ImportError:  # not on Windows
        return
    resource.setrlimit(resource.RLIMIT_AS, (_MAX_MEMORY, _MAX_MEMORY))


def _limit_seconds(seconds: float) -> None:
    """The system ends this process after so much more processor time; 0: no more."""
    if hasattr(signal, "setitimer"):  # not on Windows
        signal.setitimer(signal.ITIMER_PROF, seconds)


def _serve() -> None:
    requests = sys.stdin.buffer
    answers = os.fdopen(os.dup(1), "wb")
    os.dup2(os.open(os.devnull, os.O_WRONLY), 1)  # what rlottie prints must not mix with answers
    _limit_memory()
    animation = None
    answers.write(b"\0")  # ready
    answers.flush()
    while len(head := requests.read(16)) == 16:
        operation, first, second, third = struct.unpack("<4I", head)
        answer = b""
        body = requests.read(first) if operation == LOAD else b""
        _limit_seconds(_MAX_SECONDS)
        if operation == LOAD:
            animation = LottieAnimation.from_data(body.decode("utf-8"))
            if animation.animation_p:
                answer = struct.pack("<I", animation.lottie_animation_get_totalframe())
        elif animation is not None:
            answer = animation.lottie_animation_render(first, width=second, height=third)
        _limit_seconds(0)
        answers.write(struct.pack("<I", len(answer)) + answer)
        answers.flush()


if __name__ == "__main__":
    _serve()
