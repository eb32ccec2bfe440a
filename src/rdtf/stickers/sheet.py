"""Clips as one picture: contact sheets for people, sprite sheets for programs."""

from __future__ import annotations

import json
import math
import textwrap
from collections.abc import Sequence
from pathlib import Path

import numpy as np
from PIL import Image, ImageDraw, ImageFont

from rdtf.errors import StickerError
from rdtf.fileio import atomic_path
from rdtf.stickers.canvas import fit_frame
from rdtf.stickers.formats.pillow import encode_image
from rdtf.stickers.sticker import Sticker

Row = Sticker | Sequence[np.ndarray] | np.ndarray

_GAP = 4
_SQUARE = 8  # pixels of one field of the checkerboard
_LIGHT, _DARK = 255, 224
_PAPER, _INK = (255, 255, 255), (32, 32, 32)


def contact_sheet(
    rows: Sticker | Sequence[Row], labels: Sequence[str] | None = None, *, cell: int | None = None
) -> Image.Image:
    """Draw one row of frames for each clip, over a checkerboard where they are transparent.

    Args:
        rows: stickers, or sequences of uint8 [h, w, 3 or 4] frames (straight alpha). Rows and
            frames may differ in size and number. One sticker alone is one row.
        labels: one text for each row, written on its left; wrapped, and cut where a row ends.
        cell: side in pixels into which each frame is fitted; the largest frame's by default.

    Returns:
        An RGB image.

    Raises:
        StickerError: no frames, a frame that is no picture, or labels that do not match the rows.
    """
    rows = [rows] if isinstance(rows, Sticker) else rows
    pictures = [
        [_as_rgba(frame) for frame in (row.frames if isinstance(row, Sticker) else row)]
        for row in rows
    ]
    if not any(pictures):
        raise StickerError("a contact sheet needs at least one frame")
    if labels is not None and len(labels) != len(pictures):
        raise StickerError(f"{len(pictures)} rows but {len(labels)} labels; give one each")
    side = cell or max(max(frame.shape[:2]) for row in pictures for frame in row)
    font_size = min(24, max(12, side // 9))
    font, lines = ImageFont.load_default(size=font_size), max(1, side * 3 // (font_size * 4))
    texts = [textwrap.fill(text, 24, max_lines=lines, placeholder=" ...") for text in labels or ()]
    ruler = ImageDraw.Draw(Image.new("RGB", (1, 1)))
    widths = [ruler.multiline_textbbox((0, 0), text, font=font)[2] for text in texts]
    margin = int(max(widths)) + 2 * _GAP if widths else 0
    step = side + _GAP
    width = margin + max(len(row) for row in pictures) * step + _GAP
    sheet = Image.new("RGB", (width, len(pictures) * step + _GAP), _PAPER)
    squares = (np.indices((side, side)) // _SQUARE).sum(axis=0) % 2
    greys = np.where(squares, _DARK, _LIGHT).astype(np.uint8)
    checkerboard = Image.fromarray(greys).convert("RGBA")
    for y, row in enumerate(pictures):
        for x, frame in enumerate(row):
            fitted = Image.fromarray(fit_frame(frame, side, side, crisp=frame.shape[0] < side))
            tile = Image.alpha_composite(checkerboard, fitted).convert("RGB")
            sheet.paste(tile, (margin + _GAP + x * step, _GAP + y * step))
    draw = ImageDraw.Draw(sheet)
    for y, text in enumerate(texts):
        middle = (_GAP * 2, _GAP + y * step + side // 2)
        draw.multiline_text(middle, text, fill=_INK, font=font, anchor="lm")
    return sheet


def write_sheet(
    rows: Sticker | Sequence[Row],
    path: Path | str,
    labels: Sequence[str] | None = None,
    *,
    cell: int | None = None,
) -> Path:
    """Write a `contact_sheet` as PNG; the file appears whole or not at all."""
    path = Path(path)
    sheet = contact_sheet(rows, labels, cell=cell)
    with atomic_path(path) as temporary:
        sheet.save(temporary, format="PNG")
    return path


def _as_rgba(frame: np.ndarray) -> np.ndarray:
    frame = np.asarray(frame)
    is_picture = frame.ndim == 3 and frame.shape[2] in (3, 4) and 0 not in frame.shape
    if not is_picture or frame.dtype != np.uint8:
        raise StickerError(f"a frame is {frame.dtype} {frame.shape}; it must be uint8 [h, w, 3|4]")
    if frame.shape[2] == 4:
        return frame
    return np.concatenate([frame, np.full_like(frame[..., :1], 255)], axis=-1)


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
