"""Rendering Lottie in a process of its own, which a bad file may crash or hang."""

from __future__ import annotations

import atexit
import os
import struct
import subprocess
import sys
import threading
from pathlib import Path

from rdtf.errors import StickerError

_WORKER = Path(__file__).with_name("lottie_worker.py")
_LOAD, _RENDER = 0, 1
_TIMEOUT_S = 20.0


class _Renderer:
    """One worker process, started when first needed and again after it died."""

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._process: subprocess.Popen[bytes] | None = None
        self._loaded: bytes | None = None

    def render(self, animation: bytes, index: int, width: int, height: int) -> bytes:
        """See `render_lottie`."""
        with self._lock:
            try:
                self._load(animation)
                pixels = self._ask(_RENDER, index, width, height)
            except (OSError, EOFError) as error:
                self.stop()
                raise StickerError(
                    "the Lottie animation crashes its renderer or takes "
                    f"longer than {_TIMEOUT_S:.0f} s; simplify it and export it again"
                ) from error
        if len(pixels) != width * height * 4:
            raise StickerError("the Lottie animation can't be rendered; export it again")
        return pixels

    def _load(self, animation: bytes) -> None:
        if self._process is not None and self._loaded == animation:
            return
        self._loaded = None
        if not self._ask(_LOAD, len(animation), 0, 0, animation):
            raise StickerError(
                "the Lottie animation can't be read by the renderer; export it again"
            )
        self._loaded = animation

    def _ask(self, operation: int, first: int, second: int, third: int, body: bytes = b"") -> bytes:
        process = self._running()
        assert process.stdin is not None and process.stdout is not None
        timer = threading.Timer(_TIMEOUT_S, process.kill)  # ends the reads below with EOFError
        timer.start()
        try:
            process.stdin.write(struct.pack("<4I", operation, first, second, third) + body)
            process.stdin.flush()
            (length,) = struct.unpack("<I", _read(process, 4))
            return _read(process, length)
        finally:
            timer.cancel()

    def _running(self) -> subprocess.Popen[bytes]:
        if self._process is None:
            # -P: the worker's folder must not become part of the import path.
            command = [sys.executable, "-P", str(_WORKER)]
            pipe, nothing = subprocess.PIPE, subprocess.DEVNULL
            self._process = subprocess.Popen(command, stdin=pipe, stdout=pipe, stderr=nothing)
            if not self._process.stdout or self._process.stdout.read(1) != b"\0":
                self.stop()
                raise StickerError("Lottie can't be rendered; install rlottie-python")
        return self._process

    def stop(self) -> None:
        """End the worker, if there is one; the next request starts another."""
        process, self._process, self._loaded = self._process, None, None
        if process is not None:
            process.kill()
            process.communicate()


def _read(process: subprocess.Popen[bytes], count: int) -> bytes:
    assert process.stdout is not None
    data = process.stdout.read(count)
    if len(data) < count:
        raise EOFError("the renderer ended")
    return data


_renderer = _Renderer()


def render_lottie(animation: bytes, index: int, width: int, height: int) -> bytes:
    """One frame of Lottie JSON: premultiplied BGRA bytes, height x width x 4.

    Raises:
        StickerError: rlottie rejects the animation, crashes on it or takes too long.
    """
    return _renderer.render(animation, index, width, height)


def _start_afresh() -> None:
    """A forked child must not talk through its parent's pipes."""
    global _renderer
    _renderer = _Renderer()


atexit.register(lambda: _renderer.stop())
if hasattr(os, "register_at_fork"):
    os.register_at_fork(after_in_child=_start_afresh)
