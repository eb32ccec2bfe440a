"""For programs rather than messengers: sprite sheets and numbered frames, exact and with times."""

from __future__ import annotations

import json
import math

import numpy as np

from rdtf.stickers import Sticker
from rdtf.stickers.formats.pillow import encode_image


def sprite_sheet(sticker: Sticker) -> dict[str, bytes]:
    """One PNG with all frames in a grid, and JSON that says where and for how long.

    The JSON is in the form of Aseprite's and TexturePacker's "array": game engines read it. Under
    "meta" the image's name is empty; the two files have the same name but for the ending.
    """
    columns = math.ceil(math.sqrt(sticker.num_frames * sticker.height / sticker.width))
    columns = min(max(columns, 1), sticker.num_frames)
    rows = math.ceil(sticker.num_frames / columns)
    height, width = sticker.height, sticker.width
    sheet = np.zeros((rows * height, columns * width, 4), np.uint8)
    entries = []
    for index, frame in enumerate(sticker.frames):
        top, left = index // columns * height, index % columns * width
        sheet[top : top + height, left : left + width] = frame
        place = {"x": left, "y": top, "w": width, "h": height}
        duration = int(sticker.durations_ms[index])
        entries.append({"filename": f"{index:04d}", "frame": place, "duration": duration})
    meta = {
        "format": "RGBA8888",
        "size": {"w": columns * width, "h": rows * height},
        "scale": 1,
        "loop_count": sticker.loop_count,
    }
    text = json.dumps({"frames": entries, "meta": meta}, indent=1) + "\n"
    return {".png": encode_image(sheet, "PNG"), ".json": text.encode()}


def frame_files(sticker: Sticker) -> dict[str, bytes]:
    """PNG frames by number and `durations.json`; `rdtf` reads the folder back as a clip."""
    digits = max(3, len(str(sticker.num_frames - 1)))
    files = {
        f"/frame_{index:0{digits}d}.png": encode_image(frame, "PNG")
        for index, frame in enumerate(sticker.frames)
    }
    times = {"durations_ms": sticker.durations_ms.tolist(), "loop_count": sticker.loop_count}
    return {**files, "/durations.json": (json.dumps(times) + "\n").encode()}
