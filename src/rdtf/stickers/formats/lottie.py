"""Lottie animations, plain (.json) or as Telegram packs them (.tgs): checked, then rendered."""

from __future__ import annotations

import atexit
import itertools
import json
import math
import os
import struct
import subprocess
import sys
import threading
import time
import zlib
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np

from rdtf.errors import StickerError
from rdtf.stickers.canvas import fitted_size, letterbox, unpremultiply
from rdtf.stickers.sticker import (
    DEFAULT_BUDGET,
    Budget,
    Sticker,
    StickerInfo,
    damaged,
    whole_durations,
)

_WORKER = Path(__file__).with_name("lottie_worker.py")
_LOAD, _RENDER = 0, 1
_TIMEOUT_S = 20.0  # of a renderer that waits; one that computes ends itself sooner


class _Renderer:
    """One worker process, started when first needed and again after it died."""

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._process: subprocess.Popen[bytes] | None = None
        self._loaded: bytes | None = None

    def render(self, animation: bytes, index: int, width: int, height: int) -> bytes:
        """One frame of Lottie JSON: premultiplied BGRA bytes, height x width x 4.

        Raises:
            StickerError: rlottie rejects the animation, crashes on it or takes too long.
        """
        with self._lock:
            try:
                if self._process is None or self._loaded != animation:
                    self._loaded = None
                    if not self._request(_LOAD, len(animation), 0, 0, body=animation):
                        message = "the Lottie animation can't be read by the renderer"
                        raise StickerError(f"{message}; export it again")
                    self._loaded = animation
                pixels = self._request(_RENDER, index, width, height)
            except (OSError, EOFError) as error:
                self.stop()
                raise StickerError(
                    "the Lottie animation crashes its renderer, takes too long or needs too "
                    "much memory; simplify it and export it again"
                ) from error
        if len(pixels) != width * height * 4:
            raise StickerError("the Lottie animation can't be rendered; export it again")
        return pixels

    def _request(self, operation: int, *numbers: int, body: bytes = b"") -> bytes:
        process = self._running()
        assert process.stdin is not None and process.stdout is not None
        timer = threading.Timer(_TIMEOUT_S, process.kill)  # ends the reads below with EOFError
        timer.start()
        try:
            process.stdin.write(struct.pack("<4I", operation, *numbers) + body)
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


def _start_afresh() -> None:
    """A forked child must not talk through its parent's pipes."""
    global _renderer
    _renderer = _Renderer()


atexit.register(lambda: _renderer.stop())
if hasattr(os, "register_at_fork"):
    os.register_at_fork(after_in_child=_start_afresh)


_MAX_JSON_BYTES = 8 * 2**20  # ten times the largest sticker seen; Python needs 20 bytes for each
_MAX_NOMINAL_SIDE = 65535
_MAX_SECONDS = 300  # for all frames; a sticker takes one or two
_SUPERSAMPLING = 2  # rlottie's own edges are rough
_SAMPLES = tuple(itertools.product(range(_SUPERSAMPLING), repeat=2))


class LottieFile:
    """An opened Lottie animation that renders single frames at any size.

    Attributes:
        info: canvas, frames and durations as stated in the file; the out-point is exclusive.
    """

    def __init__(self, data: bytes, name: str, budget: Budget = DEFAULT_BUDGET) -> None:
        """Check `data`, Lottie JSON that may be gzip-compressed; nothing is rendered yet."""
        self.name = name
        document, self._animation, not_drawn = _parse(_unpack(data, name, budget), name)
        width, height, fps, first, end = _header(document, name)
        self._size, self.num_frames = (height, width), max(1, round(end - first))
        budget.check_clip(name, self.num_frames, 1, 1)
        durations = whole_durations(np.full(self.num_frames, 1000 / fps))
        budget.check_duration(name, int(durations.sum()))
        times = tuple(durations.tolist())
        self.info = StickerInfo(
            format="lottie",
            num_frames=self.num_frames,
            width=math.ceil(width),
            height=math.ceil(height),
            durations_ms=times,
            stored_ms=times,
            is_animated=self.num_frames > 1,
            not_drawn=not_drawn,
        )

    def render(self, index: int, size: int) -> np.ndarray:
        """Frame `index` (0 to num_frames - 1) as uint8 [size, size, 4], straight RGBA, centred.

        Raises:
            StickerError: no such frame, or the animation can't be rendered.
        """
        if not 0 <= index < self.num_frames or size < 1:
            raise StickerError(
                f"{self.name}: no frame {index} at {size} pixels; frames are 0 to "
                f"{self.num_frames - 1}"
            )
        height, width = fitted_size(*self._size, size, size)
        scale = _SUPERSAMPLING
        try:
            drawn = _renderer.render(self._animation, index, width * scale, height * scale)
        except StickerError as error:
            raise StickerError(f"{self.name}: {error}") from error
        pixels = np.frombuffer(drawn, np.uint8).reshape(height, scale, width, scale, 4)
        total = sum(pixels[:, row, :, column].astype(np.float32) for row, column in _SAMPLES)
        mean = np.asarray(total) / (255 * len(_SAMPLES))
        return letterbox(unpremultiply(mean[..., [2, 1, 0, 3]]), size, size)


def decode(data: bytes, name: str, budget: Budget, size: int) -> Sticker:
    """Render every frame at `size` x `size` pixels."""
    file = LottieFile(data, name, budget)
    info = StickerInfo.checked("lottie", name, budget, (size, size), file.info.stored_ms)
    frames = np.empty((info.num_frames, size, size, 4), np.uint8)
    deadline_s = time.monotonic() + _MAX_SECONDS
    for index, frame in enumerate(frames):
        if time.monotonic() > deadline_s:
            raise StickerError(f"{name}: takes more than {_MAX_SECONDS} s to render; simplify it")
        frame[:] = file.render(index, size)
    missing = file.info.not_drawn
    if missing and not frames[..., 3].any():
        raise StickerError(f"{name}: nothing of it can be drawn; it needs {', '.join(missing)}")
    return Sticker(frames, info.durations, metadata={"not_drawn": missing} if missing else {})


def _unpack(data: bytes, name: str, budget: Budget) -> bytes:
    """Undo gzip, never producing more than one byte above the limit."""
    limit = min(budget.max_bytes, _MAX_JSON_BYTES)
    if data.startswith(b"\x1f\x8b"):
        unpacker = zlib.decompressobj(zlib.MAX_WBITS | 16)
        try:
            data = unpacker.decompress(data, limit + 1)
        except zlib.error as error:
            raise StickerError(f"{name}: the .tgs is damaged ({error}); get it again") from error
        if not unpacker.eof and len(data) <= limit:
            raise damaged(name, ".tgs")
    if len(data) > limit:
        raise StickerError(f"{name}: more than {limit} bytes of Lottie JSON; simplify it")
    return data


def _parse(text: bytes, name: str) -> tuple[dict[str, Any], bytes, tuple[str, ...]]:
    """The document, its JSON settled for rlottie, and what is not drawn of it.

    Written again from what was checked: of doubled keys, C++ might see the other one.
    """
    try:
        document = json.loads(text, parse_constant=_no_constant)
        if not isinstance(document, dict) or not isinstance(document.get("layers"), list):
            message = "this JSON is not a Lottie animation (it has no layers)"
            raise StickerError(f"{name}: {message}")
        not_drawn = _settle_parts(document)
        settled = json.dumps(document, separators=(",", ":"), allow_nan=False)
    except StickerError:
        raise
    except (ValueError, RecursionError) as error:
        raise StickerError(f"{name}: no readable Lottie JSON ({error}); export it again") from error
    return document, settled.encode("ascii"), not_drawn


def _no_constant(text: str) -> None:
    raise ValueError(f"{text} is not a number")


def _header(document: dict[str, Any], name: str) -> tuple[float, float, float, float, float]:
    """Width, height, frames per second, in-point and out-point, all finite and sensible."""
    values = [document.get(key) for key in ("w", "h", "fr", "ip", "op")]
    if not all(isinstance(value, int | float) and not isinstance(value, bool) for value in values):
        raise StickerError(f"{name}: w, h, fr, ip and op of a Lottie animation must be numbers")
    width, height, fps, first, end = (float(value) for value in values if value is not None)
    sizes_fit = 0 < width <= _MAX_NOMINAL_SIDE and 0 < height <= _MAX_NOMINAL_SIDE
    if not sizes_fit or not 0 < fps <= 1000 or not -1e6 < first < end < 1e6:
        raise StickerError(
            f"{name}: {width:g} x {height:g}, {fps:g} frames a second from {first:g} to {end:g} "
            "is not a playable animation; export it again"
        )
    return width, height, fps, first, end


# ------------------------------------------------------------------- what is not drawn

_IMAGE, _TEXT, _UNSEEN = 2, 5, (3, 6, 13)  # layer types; null, sound and camera show nothing
_DRAWN_DATA = ("data:image/png", "data:image/jpeg", "data:image/jpg")
_FIRST_EFFECT = 20  # lower numbers are controls for expressions
_COMBINING_MERGES = (3, 4, 5)  # subtract, intersect, exclude; the others look the same unmerged


def _settle_parts(document: dict[str, Any]) -> tuple[str, ...]:
    """Make what rlottie can draw readable for it; returns the names of what it does not draw.

    Pictures in the file are marked as such, pictures beside it are forgotten (nothing but the file
    is ever read), and masks that are switched off, which would hide their layer, are removed.
    """
    assets = {str(a.get("id")): a for a in _dicts(document.get("assets"))}
    pictures = {name for name, asset in assets.items() if _settle_picture(asset)}
    found: set[str] = set()
    waiting, seen = _dicts(document["layers"]), set()
    while waiting:
        layer = waiting.pop()
        if layer.get("hd"):
            continue
        found.update(_missing_parts(layer, pictures))
        reference = str(layer.get("refId"))
        if reference in assets and reference not in seen:
            seen.add(reference)
            waiting += _dicts(assets[reference].get("layers"))
    return tuple(sorted(found))


def _settle_picture(asset: dict[str, Any]) -> bool:
    """Whether an asset is a picture that is drawn."""
    if str(asset.get("p", "")).startswith(_DRAWN_DATA):
        asset["e"] = 1  # "embedded": without it rlottie looks for a file of that name
        return True
    asset.pop("u", None)
    asset.pop("p", None)
    return False


def _missing_parts(layer: dict[str, Any], pictures: set[str]) -> Iterator[str]:
    kind = layer.get("ty")
    if kind == _TEXT:
        yield "text"
    if kind == _IMAGE and str(layer.get("refId")) not in pictures:
        yield "pictures that are not in the file as PNG or JPEG"
    yield from _settle_masks(layer)
    if kind not in _UNSEEN:
        effects = [effect.get("ty") for effect in _dicts(layer.get("ef"))]
        if any(isinstance(effect, int) and effect >= _FIRST_EFFECT for effect in effects):
            yield "effects"
        if layer.get("sy"):
            yield "layer styles"
        if layer.get("bm") not in (None, 0):
            yield "blend modes"
    waiting: list[Any] = [layer.get(key) for key in ("ks", "shapes", "t", "tm", "masksProperties")]
    while waiting:
        part = waiting.pop()
        if isinstance(part, list):
            waiting += part
        elif isinstance(part, dict) and not part.get("hd"):
            waiting += part.values()
            if isinstance(part.get("x"), str) and "k" in part:
                yield "expressions"
            if part.get("ty") == "mm" and part.get("mm") in _COMBINING_MERGES:
                yield "merged paths"
            if part.get("ty") in ("op", "pb", "tw", "zz"):
                yield "path effects"
            if isinstance(part.get("bm"), int) and part["bm"]:
                yield "blend modes"
            if isinstance(skew := part.get("sk"), dict) and (skew.get("a") or skew.get("k")):
                yield "skew"


def _settle_masks(layer: dict[str, Any]) -> Iterator[str]:
    masks = _dicts(layer.get("masksProperties"))
    if not masks:
        return
    kept = [mask for mask in masks if mask.get("mode") not in ("n", "d")]
    if any(mask.get("mode") == "d" for mask in masks):
        yield "masks that take the difference"
    for mask in kept:
        if mask.get("mode") == "l":  # lighten: the same as add, but where half transparent
            mask["mode"] = "a"
    layer["masksProperties"] = kept
    layer["hasMask"] = bool(kept)


def _dicts(value: Any) -> list[dict[str, Any]]:
    return [item for item in value if isinstance(item, dict)] if isinstance(value, list) else []
