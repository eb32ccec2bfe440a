"""The process that runs rlottie; started by `rdtf.stickers.formats.lottie`, never imported.

rlottie is C++ that some files crash or hang. Out here that costs one process and not the caller's.
Each request on standard input is four little-endian uint32 (operation, two or three numbers) and
each answer on standard output a uint32 length and that many bytes. An answer of length 0 means that
rlottie does not understand the animation.
"""

from __future__ import annotations

import os
import struct
import sys

from rlottie_python import LottieAnimation

LOAD, RENDER = 0, 1
_MAX_MEMORY = 4 * 2**30


def _limit_memory() -> None:
    try:
        import resource
    except ImportError:  # not on Windows
        return
    resource.setrlimit(resource.RLIMIT_AS, (_MAX_MEMORY, _MAX_MEMORY))


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
        if operation == LOAD:
            animation = LottieAnimation.from_data(requests.read(first).decode("utf-8"))
            if animation.animation_p:
                answer = struct.pack("<I", animation.lottie_animation_get_totalframe())
        elif animation is not None:
            answer = animation.lottie_animation_render(first, width=second, height=third)
        answers.write(struct.pack("<I", len(answer)) + answer)
        answers.flush()


if __name__ == "__main__":
    _serve()
