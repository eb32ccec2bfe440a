"""Sticker files as users have them: good ones, odd ones, broken ones, hostile ones."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np

from rdtf.stickers import Sticker
from stickers.samples import clip, gif_bytes, webp_bomb


def truncated_gif(path: Path) -> Path:
    whole = clip(4, 40).save(path).read_bytes()
    path.write_bytes(whole[: len(whole) // 2])
    return path


def web_page(path: Path) -> Path:
    path.write_text("<!DOCTYPE html><html><body>404 Not Found</body></html>")
    return path


def bomb(path: Path) -> Path:
    path.write_bytes(webp_bomb(60, 3000))
    return path


def long_clip(path: Path, num_frames: int = 200) -> Path:
    """A square that goes round."""
    frames = np.zeros((num_frames, 32, 32, 4), np.uint8)
    for index, frame in enumerate(frames):
        turn = 2 * np.pi * index / num_frames
        row, column = round(12 + 10 * np.sin(turn)), round(12 + 10 * np.cos(turn))
        frame[row : row + 8, column : column + 8] = (200, index, 40, 255)
    return Sticker(frames, np.full(num_frames, 20)).save(path)


def mixed_folder(folder: Path) -> Path:
    """What is scraped together in practice, with captions that name a file that is gone."""
    folder.mkdir(parents=True)
    clip(4, 40).save(folder / "red_disc.gif")
    clip(6, 48, 90).save(folder / "rolling_ball.webp")
    clip(3, 24).save(folder / "small.png")
    (folder / "one_frame.gif").write_bytes(gif_bytes([7], size=(9, 9)))
    (folder / "no_delay.gif").write_bytes(_no_delay(clip(5, 33)))
    long_clip(folder / "long.webp")
    truncated_gif(folder / "cut_off.gif")
    web_page(folder / "page.gif")
    bomb(folder / "bomb.webp")
    (folder / "empty.webp").touch()
    (folder / "readme.txt").write_text("not a sticker")
    rows = [
        {"file": "red_disc.gif", "captions": ["a red disc moves", "red disc"]},
        {"file": "gone.gif", "captions": ["what was here"]},
    ]
    (folder / "captions.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows))
    return folder


def _no_delay(sticker: Sticker) -> bytes:
    """A GIF all of whose delays are 0, as many are."""
    from rdtf.stickers import encode_sticker

    data = bytearray(encode_sticker(sticker, ".gif"))
    start = 0
    while (start := data.find(b"\x21\xf9\x04", start)) >= 0:
        data[start + 4 : start + 6] = b"\0\0"
        start += 8
    return bytes(data)
