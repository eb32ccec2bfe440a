from __future__ import annotations

import base64
import gzip
import io
import json
import multiprocessing
import os
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image

from rdtf.stickers import Budget, LottieFile, StickerError, decode_sticker, probe, read_sticker

from .samples import assert_same_clip, lottie, lottie_bytes


@pytest.fixture
def square(tmp_path: Path) -> Path:
    path = tmp_path / "square.json"
    path.write_bytes(lottie_bytes())
    return path


def centre_column(frame: np.ndarray) -> float:
    return float(np.nonzero(frame[..., 3])[1].mean() + 0.5)


def test_frames_and_durations(square: Path):
    sticker = read_sticker(square, lottie_size=50)
    assert sticker.frames.shape == (15, 50, 50, 4)  # the out-point is exclusive
    assert sticker.total_ms == 500
    assert set(sticker.durations_ms.tolist()) == {33, 34}
    assert centre_column(sticker.frames[0]) == pytest.approx(15, abs=0.6)
    assert centre_column(sticker.frames[-1]) == pytest.approx(33.7, abs=0.6)
    assert sticker.frames[0, 25, 15].tolist() == [255, 0, 0, 255]
    assert not sticker.frames[0, 25, 45].any()


def test_a_file_renders_single_frames_at_any_size(square: Path):
    file = LottieFile(square.read_bytes(), "square")
    assert (file.info.num_frames, sum(file.info.durations_ms)) == (15, 500)
    assert (file.info.width, file.info.height) == (100, 100)
    for size in (1, 7, 200):
        assert file.render(3, size).shape == (size, size, 4)
    np.testing.assert_array_equal(
        file.render(4, 50), read_sticker(square, lottie_size=50).frames[4]
    )
    for index, size in ((15, 8), (-1, 8), (0, 0)):
        with pytest.raises(StickerError, match="frames are 0 to 14"):
            file.render(index, size)


def test_two_files_in_turn(square: Path):
    first = LottieFile(square.read_bytes(), "square")
    second = LottieFile(lottie_bytes(layers=[]), "empty")
    assert first.render(0, 20).any()
    assert not second.render(0, 20).any()
    assert first.render(0, 20).any()


def test_tgs_is_packed_lottie(square: Path, tmp_path: Path):
    packed = tmp_path / "square.tgs"
    packed.write_bytes(gzip.compress(square.read_bytes()))
    assert probe(packed).format == "lottie"
    np.testing.assert_array_equal(read_sticker(packed).frames, read_sticker(square).frames)
    packed.write_bytes(packed.read_bytes()[:-20])
    with pytest.raises(StickerError, match="cut off"):
        read_sticker(packed)


def test_a_wide_animation_is_letterboxed():
    frame = LottieFile(lottie_bytes(w=200, h=100), "wide").render(0, 64)
    assert frame[32].any()
    assert not frame[:16].any() and not frame[48:].any()


def test_edges_are_straight_alpha():
    """Half covered pixels keep the full colour; only alpha says that they are half covered."""
    frame = LottieFile(lottie_bytes(), "square").render(3, 37)
    partial = (frame[..., 3] > 10) & (frame[..., 3] < 245)
    assert partial.any()
    assert (frame[partial][:, 0] >= 250).all()
    assert (frame[partial][:, 1:3] == 0).all()


@pytest.mark.parametrize(
    "change",
    [
        {"w": 0},
        {"w": "512"},
        {"h": -5},
        {"h": 1e9},
        {"fr": 0},
        {"fr": 1e9},
        {"fr": None},
        {"op": 0},
        {"op": 1e12},
        {"ip": True},
        {"extra": float("inf")},
        {"layers": {}},
        {"layers": None},
    ],
)
def test_nonsense_is_refused(change: dict[str, Any]):
    with pytest.raises(StickerError, match=r"bad\.json") as caught:
        decode_sticker(lottie_bytes(**change), "bad.json")
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize(
    "text",
    [b"{", b"{}", b'{"a": 1}', b'{"w": NaN}', b"{" + b'"a":{' * 20_000, b'{"a": "\xff"}'],
)
def test_other_json_is_refused(text: bytes):
    with pytest.raises(StickerError):
        decode_sticker(text)


def test_budgets_hold():
    data = lottie_bytes()
    assert decode_sticker(data, budget=Budget(max_frames=15), lottie_size=8).num_frames == 15
    for budget in (
        Budget(max_frames=14),
        Budget(max_duration_ms=499),
        Budget(max_canvas=7),
        Budget(max_total_pixels=15 * 64 - 1),
        Budget(max_bytes=len(data) - 1),
    ):
        with pytest.raises(StickerError, match="limit"):
            decode_sticker(data, budget=budget, lottie_size=8)


def test_pictures_beside_the_file_are_not_read(tmp_path: Path):
    Image.new("RGB", (100, 100), (0, 255, 0)).save(tmp_path / "secret.png")
    asset = {"id": "i", "w": 100, "h": 100, "u": f"{tmp_path}/", "p": "secret.png", "e": 0}
    transform = lottie()["layers"][0]["ks"]
    layer = {"ty": 2, "ind": 1, "refId": "i", "ks": transform, "ip": 0, "op": 15, "st": 0}
    path = tmp_path / "thief.json"
    path.write_bytes(lottie_bytes(assets=[asset], layers=[layer]))
    with pytest.raises(StickerError, match="nothing of it can be drawn; it needs pictures"):
        read_sticker(path, lottie_size=16)
    assert probe(path).not_drawn == ("pictures that are not in the file as PNG or JPEG",)


def test_pictures_inside_the_file_are_drawn_whatever_they_say():
    stream = io.BytesIO()
    Image.new("RGB", (100, 100), (0, 255, 0)).save(stream, "PNG")
    url = "data:image/png;base64," + base64.b64encode(stream.getvalue()).decode()
    square = lottie()["layers"][0]
    layer = {**square, "ty": 2, "refId": "i", "shapes": []}
    for flags in ({}, {"e": 0}, {"e": 1}):
        asset = {"id": "i", "w": 100, "h": 100, "u": "", "p": url, **flags}
        sticker = decode_sticker(lottie_bytes(assets=[asset], layers=[layer]), lottie_size=16)
        assert sticker.frames[0, 12, 12, 1] > 250 and not sticker.metadata


def test_a_mask_that_is_switched_off_hides_nothing():
    corner = {"i": [[0, 0]] * 3, "o": [[0, 0]] * 3, "v": [[0, 0], [9, 0], [0, 9]], "c": True}
    mask = {"mode": "n", "pt": {"a": 0, "k": corner}, "o": {"a": 0, "k": 100}}
    masked = {**lottie()["layers"][0], "hasMask": True, "masksProperties": [mask]}
    drawn, plain = (
        decode_sticker(lottie_bytes(**changes), lottie_size=16)
        for changes in ({"layers": [masked]}, {})
    )
    assert_same_clip(drawn, plain)


def _with(**changes: object) -> dict[str, object]:
    return {**lottie()["layers"][0], **changes}


@pytest.mark.parametrize(
    ("layer", "name"),
    [
        ({"ty": 5, "ks": lottie()["layers"][0]["ks"], "ip": 0, "op": 15, "st": 0}, "text"),
        (_with(ef=[{"ty": 29}]), "effects"),
        (_with(bm=1), "blend modes"),
        (_with(sy=[{"ty": 1}]), "layer styles"),
        (_with(ks={**lottie()["layers"][0]["ks"], "sk": {"a": 0, "k": 30}}), "skew"),
        (
            _with(ks={**lottie()["layers"][0]["ks"], "r": {"a": 0, "k": 0, "x": "time"}}),
            "expressions",
        ),
        (_with(shapes=[*lottie()["layers"][0]["shapes"], {"ty": "mm", "mm": 3}]), "merged paths"),
    ],
)
def test_what_is_not_drawn_is_named(layer: dict[str, object], name: str):
    data = lottie_bytes(layers=[layer, lottie()["layers"][0]])
    sticker = decode_sticker(data, lottie_size=16)
    assert sticker.metadata == {"not_drawn": (name,)}
    assert sticker.frames.any()
    hidden = lottie_bytes(layers=[{**layer, "hd": True}, lottie()["layers"][0]])
    assert not decode_sticker(hidden, lottie_size=16).metadata


def crashing() -> bytes:
    """Two layers that are each other's parent: endless recursion in the renderer."""
    layer = lottie()["layers"][0]
    return lottie_bytes(layers=[{**layer, "ind": 1, "parent": 2}, {**layer, "ind": 2, "parent": 1}])


def test_a_crash_of_the_renderer_is_an_error(square: Path):
    with pytest.raises(StickerError, match=r"crash\.json: .* crashes its renderer"):
        decode_sticker(crashing(), "crash.json")
    assert read_sticker(square, lottie_size=8).frames.any()


def _render_in_child(data: bytes) -> tuple[int, bytes]:
    return os.getpid(), LottieFile(data, "child").render(0, 8).tobytes()


@pytest.mark.parametrize("method", ["fork", "spawn"])
def test_worker_processes_have_renderers_of_their_own(method: str):
    if method not in multiprocessing.get_all_start_methods():
        pytest.skip(f"no {method} on this system")
    data = lottie_bytes()
    expected = LottieFile(data, "parent").render(0, 8).tobytes()
    with multiprocessing.get_context(method).Pool(2) as pool:
        results = pool.map(_render_in_child, [data] * 6)
    assert all(pixels == expected for _, pixels in results)
    assert LottieFile(data, "parent").render(0, 8).tobytes() == expected
    assert os.getpid() not in {process for process, _ in results}


def test_real_files_pass_the_default_budget(real_stickers: Path):
    rows = [json.loads(line) for line in (real_stickers / "animated.jsonl").open()]
    rows = [row for row in rows if row["file"].endswith((".tgs", ".json"))]
    longest = max(rows, key=lambda row: row["native_frames"])
    for row in [longest, *rows[::60]]:
        info = probe(real_stickers / row["file"])
        assert info.num_frames == row["native_frames"]
        assert abs(info.total_ms - row["total_ms"]) <= 17
        file = LottieFile((real_stickers / row["file"]).read_bytes(), row["file"])
        assert file.render(file.num_frames // 2, 64).shape == (64, 64, 4)
    assert read_sticker(real_stickers / longest["file"], lottie_size=32).num_frames > 300
