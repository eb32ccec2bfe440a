"""Pictures from strangers."""

from __future__ import annotations

import gzip
import io
import json
import zipfile
from dataclasses import replace

import numpy as np
import pytest
from PIL import Image

from fixtures_service import moving_disc, refused, still
from rdtf.app.errors import Limits, ServiceError
from rdtf.app.requests import decode_data_url, decode_upload, shown_name
from rdtf.stickers import Budget, Sticker, encode_sticker

LIMITS = Limits()
CLIP = moving_disc(24, 3)


def zip_bytes() -> bytes:
    stream = io.BytesIO()
    with zipfile.ZipFile(stream, "w") as archive:
        archive.writestr(zipfile.ZipInfo("run.sh"), "#!/bin/sh")
    return stream.getvalue()


def tgs() -> bytes:
    document = {"v": "5.5.2", "fr": 30, "ip": 0, "op": 3, "w": 512, "h": 512, "layers": []}
    return gzip.compress(json.dumps(document).encode(), mtime=0)


@pytest.mark.parametrize("suffix", [".gif", ".webp", ".png", ".webm"])
def test_formats_of_the_list_are_read(suffix):
    clip = decode_upload(encode_sticker(CLIP, suffix), "x", LIMITS)
    assert (clip.num_frames, clip.width) == (3, 24)


def test_a_telegram_sticker_is_read():
    assert decode_upload(tgs(), "x.tgs", LIMITS).num_frames == 3


@pytest.mark.parametrize("suffix", [".gif", ".webp", ".png"])
@pytest.mark.parametrize(
    "extra", [b"<script>alert(1)</script>", zip_bytes(), b"%PDF-1.7"], ids=["script", "zip", "pdf"]
)
def test_a_picture_that_is_also_something_else_is_refused(suffix, extra):
    with pytest.raises(ServiceError, match="not only a picture") as caught:
        decode_upload(encode_sticker(CLIP, suffix) + extra, "x", LIMITS)
    assert (caught.value.status, caught.value.code) == (400, "bad_picture")


def test_something_behind_a_telegram_sticker_is_refused():
    with pytest.raises(ServiceError, match="not only a picture"):
        decode_upload(tgs() + zip_bytes(), "x.tgs", LIMITS)


@pytest.mark.parametrize(
    "data",
    [
        b"",
        b"hello",
        b"<svg xmlns='http://www.w3.org/2000/svg'/>",
        b"<html>",
        zip_bytes(),
        b"\x7fELF" + bytes(64),
        b"BM" + bytes(64),
        b"\0\0\0\x1cftypavif" + bytes(64),
        b"GIF89a",
        b"\x89PNG\r\n\x1a\n",
        b"RIFF\x10\0\0\0WEBPVP8L",
        encode_sticker(CLIP, ".gif")[:-20],
        encode_sticker(CLIP, ".png")[:-20],
        encode_sticker(CLIP, ".webp")[:-20],
        encode_sticker(CLIP, ".webm")[:60],
        tgs()[:-9],
    ],
    ids=[f"file {number}" for number in range(16)],
)
def test_what_is_no_whole_picture_is_refused(data):
    with pytest.raises(ServiceError) as caught:
        decode_upload(data, "../../etc/passwd", LIMITS)
    assert (caught.value.status, caught.value.param) == (400, "input_reference")
    assert ".." not in str(caught.value)


def limits(**budget: int) -> Limits:
    return replace(LIMITS, upload=Budget(**budget))


@pytest.mark.parametrize(
    ("budget", "word"),
    [
        ({"max_frames": 2}, "frames"),
        ({"max_canvas": 23}, "pixels"),
        ({"max_total_pixels": 24 * 24 * 3 - 1}, "pixels"),
        ({"max_duration_ms": 299}, "ms"),
    ],
)
def test_budgets_hold(budget, word):
    with pytest.raises(ServiceError, match=word):
        decode_upload(encode_sticker(CLIP, ".gif"), "x", limits(**budget))


def test_too_many_bytes_are_413():
    with refused("too_large"):
        decode_upload(encode_sticker(CLIP, ".gif"), "x", limits(max_bytes=50))


def test_a_bomb_is_refused_by_its_header():
    """A few hundred bytes that would be 400 frames of 2048 x 2048."""
    frame = np.zeros((1, 2048, 2048, 4), np.uint8)
    one = encode_sticker(Sticker(frame, np.array([50])), ".png")
    assert len(one) < 100_000
    huge = encode_sticker(Sticker(np.repeat(frame[:, :8, :8], 300, 0), np.full(300, 50)), ".webp")
    with pytest.raises(ServiceError, match="frames"):
        decode_upload(huge, "x", LIMITS)
    with pytest.raises(ServiceError, match="pixels"):
        decode_upload(one, "x", limits(max_total_pixels=2048**2 - 1))
    assert decode_upload(one, "x", limits(max_canvas=512)).width == 512  # photos are reduced


@pytest.mark.parametrize("suffix", [".jpg", ".png"])
def test_a_tail_is_ignored(suffix):
    """Telephones put a film behind a photo, editors a line feed."""
    stream = io.BytesIO()
    Image.fromarray(CLIP.frames[0, ..., :3]).save(stream, suffix.replace(".jpg", ".jpeg")[1:])
    film = b"\0\0\0\x20ftypisom" + bytes(100)
    for tail in (b"\n", film):
        assert decode_upload(stream.getvalue() + tail, "x", LIMITS).width == 24


@pytest.mark.parametrize(
    ("name", "shown"),
    [
        ("cat.png", "cat.png"),
        ("../../etc/passwd", "passwd"),
        ("C:\\Users\\x\\cat.gif", "cat.gif"),
        ("..", "the upload"),
        (None, "the upload"),
        ("a\r\nSet-Cookie: x", "aSet-Cookie: x"),
        ("\u202egnp.exe", "gnp.exe"),
        ("x" * 500, "x" * 48),
    ],
)
def test_names_are_only_shown(name, shown):
    assert shown_name(name) == shown


def test_data_urls():
    data = encode_sticker(still(16, 1), ".png")
    import base64

    text = base64.b64encode(data).decode()
    for head in ("data:image/png;base64,", "data:;base64,", "data:image/png;x=y;base64,"):
        assert decode_data_url(head + text, LIMITS) == data
    for bad in ("http://example.com/a.png", "file:///etc/passwd", "data:image/png,abc", "", text):
        with pytest.raises(ServiceError, match="data URL"):
            decode_data_url(bad, LIMITS)
    with pytest.raises(ServiceError, match="base64"):
        decode_data_url("data:image/png;base64,%%%", LIMITS)
    with refused("too_large"):
        decode_data_url("data:image/png;base64,AAAA", replace(LIMITS, max_data_url_chars=20))
