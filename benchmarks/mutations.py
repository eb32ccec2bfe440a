"""Small sticker files of every format, each damaged in one of many ways: what strangers may send.

File `number` is a pure function of its number. `python -m benchmarks pile --parts mutated` feeds
them to the preparation; `tests/data/test_mutated.py` does, too.
"""

from __future__ import annotations

import gzip
import io
import json
import re
import struct
import time
import zlib
from collections.abc import Iterable, Iterator
from functools import lru_cache
from pathlib import Path

import numpy as np
from PIL import Image, features

from rdtf.data.decode import ClipOptions, PreparedClip, prepare_item
from rdtf.data.sources import SourceItem

_SIDE = 48
_EXTREME = (0, 1, 0x7F, 0x80, 0xFF, 0x7FFF, 0x8000, 0xFFFF, 0x7FFFFFFF, 0x80000000, 0xFFFFFFFF)
_NUMBERS = ("0", "-1", "1e9", "1e308", "-1e308", "0.0001", "65535", "4294967296", "null", '"x"')


@lru_cache(maxsize=1)
def originals() -> tuple[tuple[str, bytes], ...]:
    """(suffix, bytes) of whole files: two synthetic stickers in every format that is read."""
    from rdtf.stickers import encode_sticker
    from rdtf.stickers.formats.video import encode_video, to_planes
    from rdtf.synthetic.characters import SyntheticStickers

    made: list[tuple[str, bytes]] = []
    stickers = SyntheticStickers(0, 40, _SIDE, 6)
    chosen = [n for n in range(40) if stickers[n].num_frames > 3][:2]
    for number in chosen:
        clip = stickers[number]
        still = clip.select([0])
        made += [(s, encode_sticker(clip, s)) for s in (".gif", ".webp", ".apng", ".webm")]
        made += [(".png", encode_sticker(still, ".png")), (".webp", encode_sticker(still, ".webp"))]
        made.append((".webp", encode_sticker(clip, ".webp", quality=50)))
        document = json.dumps(stickers.lottie(number)).encode()
        made += [(".json", document), (".tgs", gzip.compress(document, mtime=0))]
        images = [Image.fromarray(frame) for frame in clip.frames]
        stream = io.BytesIO()
        images[0].convert("RGB").save(stream, "JPEG", exif=b"Exif\0\0MM\0*\0\0\0\x08" + bytes(6))
        made.append((".jpg", stream.getvalue()))
        if features.check("avif"):
            for others in ([], images[1:]):
                stream = io.BytesIO()
                images[0].save(stream, "AVIF", save_all=True, append_images=others, duration=50)
                made.append((".avif", stream.getvalue()))
        planes = (to_planes(frame)[:3] for frame in clip.frames)
        made.append((".mp4", encode_video(planes, clip.durations_ms, "mp4", "libx264", {})))
    return tuple(made)


def mutated(number: int) -> tuple[str, bytes]:
    """Suffix and bytes of damaged file `number`."""
    draws = np.random.default_rng(number)
    files = originals()
    suffix, data = files[number % len(files)]
    if suffix in (".json", ".tgs") and draws.random() < 0.8:
        text = gzip.decompress(data) if suffix == ".tgs" else data
        text = _mutated_json(text, draws)
        return suffix, gzip.compress(text, 1, mtime=0) if suffix == ".tgs" else text
    for _ in range(int(draws.integers(1, 4))):
        data = _mutated_bytes(data, files, draws)
    if data.startswith(b"\x89PNG") and draws.random() < 0.8:
        data = _with_checksums(data)  # or nothing of it would be read any further
    return suffix, data


def _mutated_bytes(
    data: bytes, files: tuple[tuple[str, bytes], ...], draws: np.random.Generator
) -> bytes:
    kind = draws.integers(7)
    if len(data) < 16:
        return data + draws.bytes(16)
    start, end = np.sort(draws.integers(0, len(data), 2)).tolist()
    changed = bytearray(data)
    if kind == 0:  # cut off
        return data[:start]
    if kind == 1:  # some bits
        for at in draws.integers(0, len(data), draws.integers(1, 32)):
            changed[at] ^= 1 << int(draws.integers(8))
    elif kind == 2:  # a number becomes an extreme one, often near the beginning
        at = int(len(data) * draws.random() ** 3)
        value, code = int(draws.choice(_EXTREME)), str(draws.choice(["<I", ">I", "<H", ">H", "B"]))
        field = struct.pack(code, value & ((1 << 8 * struct.calcsize(code)) - 1))
        changed[at : at + len(field)] = field
    elif kind == 3:  # noise
        end = min(end, start + 256)
        changed[start:end] = draws.bytes(end - start)
    elif kind == 4:  # a part is missing
        del changed[start : min(end, start + 1024)]
    elif kind == 5:  # a part comes again and again
        changed[start:start] = data[start : min(end, start + 512)] * int(draws.integers(1, 20))
    else:  # the end of another file
        other = files[int(draws.integers(len(files)))][1]
        changed[start:] = other[int(draws.integers(len(other))) :]
    return bytes(changed)


def _mutated_json(text: bytes, draws: np.random.Generator) -> bytes:
    """Numbers become extreme, keys and values go missing or change places."""
    for _ in range(int(draws.integers(1, 6))):
        tokens = list(re.finditer(rb"-?\d+(\.\d+)?([eE][-+]?\d+)?|\"\w+\":|\[|\{", text))
        if not tokens:
            return text
        token = tokens[int(draws.integers(len(tokens)))]
        if token[0][-1:].isdigit():
            new = str(draws.choice(_NUMBERS)).encode()
        elif token[0].endswith(b":"):
            new = tokens[int(draws.integers(len(tokens)))][0]
            new = new if new.endswith(b":") else b'"k":'
        else:
            new = b"[" * int(draws.integers(2, 3000)) if draws.random() < 0.2 else b""
        text = text[: token.start()] + new + text[token.end() :]
    return text


def _with_checksums(data: bytes) -> bytes:
    """A PNG whose chunks have the checksums of what is in them now."""
    made, at = [data[:8]], 8
    while at + 12 <= len(data):
        length = int.from_bytes(data[at : at + 4], "big")
        if at + 12 + length > len(data):
            break
        content = data[at + 4 : at + 8 + length]
        made.append(data[at : at + 4] + content + struct.pack(">I", zlib.crc32(content)))
        at += 12 + length
    return b"".join(made) + data[at:]


def timed(item: SourceItem, options: ClipOptions) -> tuple[str, str, float]:
    """Prepare an item: (kind of outcome, reason, seconds)."""
    started = time.monotonic()
    result = prepare_item(item, options)
    seconds = time.monotonic() - started
    if isinstance(result, PreparedClip):
        return "prepared", "", seconds
    return result.kind, result.reason, seconds


def failed(_: SourceItem, kind: str) -> tuple[str, str, float]:
    """The outcome of an item whose worker crashed or hung."""
    return kind, kind, 0.0


def write_items(numbers: Iterable[int], folder: Path) -> Iterator[SourceItem]:
    """Damaged files of those numbers, each written when it is asked for."""
    for number in numbers:
        suffix, data = mutated(number)
        path = folder / f"{number}{suffix}"
        path.write_bytes(data)
        yield SourceItem(path.name, path, "")
