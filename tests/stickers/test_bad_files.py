"""Files that are cut off, damaged, hostile or something else: one clear error, never a crash."""

from __future__ import annotations

import gzip
import re
import struct
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from PIL import Image, ImageCms, ImageOps

from rdtf.errors import UserError
from rdtf.stickers import (
    Budget,
    Sticker,
    StickerError,
    decode_sticker,
    encode_sticker,
    probe,
    read_sticker,
    write_sticker,
)

from .samples import clip, gif_bytes, webp_bomb

WRITTEN = {suffix: encode_sticker(clip(), suffix) for suffix in (".gif", ".webp", ".png", ".webm")}
GIF_FRAME_ENDS = [
    *(match.start() for match in list(re.finditer(b"!\\xf9\\x04", WRITTEN[".gif"]))[1:]),
    len(WRITTEN[".gif"]) - 1,
]
MAGICS = (
    b"GIF89a",
    b"RIFF\xff\0\0\0WEBPVP8X",
    b"\x89PNG\r\n\x1a\n",
    b"\x1a\x45\xdf\xa3",
    b"\xff\xd8\xff",
    b"\x1f\x8b\x08",
    b"{",
    b"",
)
SUFFIXES = st.sampled_from(sorted(WRITTEN))


def is_one_line(error: BaseException) -> bool:
    return "\n" not in str(error) and len(str(error)) < 400


@given(SUFFIXES, st.data())
def test_cut_off_anywhere(suffix: str, data: st.DataObject):
    whole = WRITTEN[suffix]
    size = data.draw(st.integers(0, len(whole) - 1))
    if suffix == ".gif" and size in GIF_FRAME_ENDS:  # whole frames, and no mark of the end
        assert decode_sticker(whole[:size]).num_frames == GIF_FRAME_ENDS.index(size) + 1
        return
    with pytest.raises(StickerError) as caught:
        decode_sticker(whole[:size], "short.gif")
    assert "short.gif" in str(caught.value) and is_one_line(caught.value)


@given(SUFFIXES, st.data())
def test_flipped_bytes_give_a_sticker_or_an_error(suffix: str, data: st.DataObject):
    damaged = bytearray(WRITTEN[suffix])
    places = st.lists(st.integers(0, len(damaged) - 1), min_size=1, max_size=8)
    for place in data.draw(places):
        damaged[place] = data.draw(st.integers(0, 255))
    try:
        assert isinstance(decode_sticker(bytes(damaged)), Sticker)
    except StickerError as error:
        assert is_one_line(error)


@given(st.sampled_from(MAGICS), st.binary(max_size=200))
def test_noise_after_a_known_beginning(magic: bytes, noise: bytes):
    with pytest.raises(StickerError) as caught:
        decode_sticker(magic + noise)
    assert is_one_line(caught.value)


@pytest.mark.parametrize(
    ("content", "message"),
    [
        (b"", "is empty"),
        (b"<!DOCTYPE html><html>404</html>", "is a web page"),
        (b"\xef\xbb\xbf  <html></html>", "is a web page"),
        (b"\0\0\0\x20ftypheic", "HEIC"),
        (b"\0\0\0\x20ftypisom", "damaged mp4"),
        (b"%PDF-1.4", "not a supported picture"),
        (b"BM" + bytes(60), "not a supported picture"),
    ],
)
def test_something_else_named_gif(content: bytes, message: str, tmp_path: Path):
    path = tmp_path / "cat.gif"
    path.write_bytes(content)
    for use in (read_sticker, probe):
        with pytest.raises(StickerError, match=message) as caught:
            use(path)
        assert str(path) in str(caught.value) and is_one_line(caught.value)


def test_the_name_does_not_decide(tmp_path: Path):
    path = tmp_path / "really.gif"
    path.write_bytes(WRITTEN[".webp"])
    assert probe(path).format == "webp"
    assert read_sticker(path).num_frames == 3


def test_missing_files_and_folders(tmp_path: Path):
    with pytest.raises(StickerError, match="does not exist"):
        read_sticker(tmp_path / "no.gif")
    with pytest.raises(StickerError, match="holds no frames"):
        read_sticker(tmp_path)


def test_single_frame_gif_and_no_trailer():
    assert decode_sticker(gif_bytes([7])).durations_ms.tolist() == [70]
    assert decode_sticker(gif_bytes([7, 7])[:-1]).durations_ms.tolist() == [70, 70]


@pytest.mark.parametrize("cut", range(2, 24))
def test_a_gif_cut_inside_a_frame_is_cut_off(cut: int):
    with pytest.raises(StickerError, match="cut off"):
        decode_sticker(gif_bytes([7, 7])[:-cut])


def test_padding_that_browsers_skip():
    whole = gif_bytes([7, 9])
    second = whole.rindex(b"!\xf9")
    for padded in (
        whole + bytes(50),
        whole[:second] + bytes(3) + whole[second:],
        whole[:-1] + b"\0",
    ):
        assert decode_sticker(padded).durations_ms.tolist() == [70, 90]


def test_later_gif_frames_are_cut_at_the_screen():
    """Only the first frame may enlarge the stated screen, as in browsers."""
    inside, beyond = (struct.pack("<BHHHHB", 0x2C, left, 0, 1, 1, 0) for left in (0, 5))
    head, first, second = gif_bytes([5, 5], size=(2, 2)).split(inside)
    clipped = decode_sticker(head + inside + first + beyond + second)
    assert clipped.frames.shape == (2, 2, 2, 4)
    assert decode_sticker(head + beyond + first + inside + second).width == 6


def test_a_gif_without_a_picture():
    with pytest.raises(StickerError, match="0 frames"):
        decode_sticker(gif_bytes([]))


def test_webp_canvas_larger_than_its_pictures():
    small = webp_bomb(2, 16)
    assert decode_sticker(small).num_frames == 2
    wide = small.replace((15).to_bytes(3, "little") * 2, (16382).to_bytes(3, "little") * 2)
    with pytest.raises(StickerError, match="16383 pixels on one side"):
        decode_sticker(wide)


def test_real_webp_bomb():
    """60 frames of 3000 x 3000 in a few kilobytes: two gigabytes, were they decoded."""
    bomb = webp_bomb(60, 3000)
    assert len(bomb) < 300_000
    with pytest.raises(StickerError, match="540000000 pixels in all frames"):
        decode_sticker(bomb)


def test_gif_bomb_by_a_picture_beyond_the_screen():
    large = struct.pack("<BHHHHB", 0x2C, 0, 0, 65535, 65535, 0)
    bomb = gif_bytes([5]).replace(struct.pack("<BHHHHB", 0x2C, 0, 0, 1, 1, 0), large)
    with pytest.raises(StickerError, match="4294836225 pixels in all frames"):
        decode_sticker(bomb)


def test_gzip_bomb(tmp_path: Path):
    path = tmp_path / "bomb.tgs"
    path.write_bytes(gzip.compress(b'{"layers":[' + b" " * (40 * 2**20)))
    assert path.stat().st_size < 2**17
    with pytest.raises(StickerError, match="bytes of Lottie JSON"):
        read_sticker(path)


@pytest.mark.parametrize(
    ("field", "limit"),
    [
        ("max_bytes", None),
        ("max_canvas", 16),
        ("max_frames", 3),
        ("max_total_pixels", 3 * 16 * 16),
        ("max_duration_ms", 240),
    ],
)
@pytest.mark.parametrize("suffix", sorted(WRITTEN))
def test_budgets_are_inclusive(suffix: str, field: str, limit: int | None, tmp_path: Path):
    path = tmp_path / f"disc{suffix}"
    path.write_bytes(WRITTEN[suffix])
    limit = limit or len(WRITTEN[suffix])
    for allowed in (limit, limit + 1):
        budget = Budget(**{field: allowed})
        assert read_sticker(path, budget=budget).num_frames == probe(path, budget).num_frames == 3
    too_small = Budget(**{field: limit - 1})
    with pytest.raises(StickerError, match=field):
        read_sticker(path, budget=too_small)
    with pytest.raises(StickerError, match=field):
        probe(path, too_small)


@pytest.mark.parametrize("value", [0, -1, 1.5, True])
def test_a_budget_must_make_sense(value: object):
    with pytest.raises(StickerError, match="max_frames"):
        Budget(max_frames=value)  # type: ignore[arg-type]


def test_webp_with_a_missing_frame():
    bomb = webp_bomb(3, 8)
    at = bomb.rindex(b"ANMF")
    with pytest.raises(StickerError):
        decode_sticker(bomb[:at])
    body = bomb[8:at]
    assert decode_sticker(b"RIFF" + struct.pack("<I", len(body)) + body).num_frames == 2


def test_writing_where_it_is_not_possible(tmp_path: Path):
    (tmp_path / "file").write_text("in the way")
    with pytest.raises(UserError):
        write_sticker(clip(), tmp_path / "file" / "cat.webp")
    (tmp_path / "cat.webp").mkdir()
    with pytest.raises(UserError):
        write_sticker(clip(), tmp_path / "cat.webp")
    assert sorted(path.name for path in tmp_path.iterdir()) == ["cat.webp", "file"]


@pytest.mark.parametrize(
    ("name", "options", "message"),
    [
        ("cat.bmp", {}, "end the name in one of"),
        ("cat", {}, "without suffix"),
        ("cat.gif", {"quality": 3}, "keyword argument 'quality'"),
        ("cat.webm", {"crf": 99}, "crf from 0 to 63"),
        ("cat.webp", {"effort": 3}, "can't write"),
    ],
)
def test_wrong_names_and_options(
    name: str, options: dict[str, object], message: str, tmp_path: Path
):
    with pytest.raises(StickerError, match=message):
        write_sticker(clip(), tmp_path / name, **options)
    assert not list(tmp_path.iterdir())


@pytest.mark.parametrize(
    ("suffix", "duration_ms", "loops"),
    [
        (".gif", 10**6, 0),
        (".webp", 2**24, 0),
        (".png", 10**8, 0),
        (".gif", 50, 70_000),
        (".webp", 50, 70_000),
    ],
)
def test_what_a_format_cannot_hold(suffix: str, duration_ms: int, loops: int):
    sticker = clip(2).with_durations(duration_ms).replace(loop_count=loops)
    with pytest.raises(StickerError, match="can't"):
        encode_sticker(sticker, suffix)


def test_long_png_frames_stay_long():
    sticker = clip(2).with_durations([70_000, 100_000])
    assert (
        decode_sticker(
            encode_sticker(sticker, ".png"), budget=Budget(max_duration_ms=10**6)
        ).total_ms
        == 170_000
    )


def test_jpeg_and_sixteen_bit_png(tmp_path: Path):
    Image.new("RGB", (20, 10), (200, 0, 0)).save(tmp_path / "a.jpg")
    still = read_sticker(tmp_path / "a.jpg")
    assert still.frames.shape == (1, 10, 20, 4) and still.is_still
    grey = np.full((4, 4), 0x8001, np.uint16)
    Image.fromarray(grey).save(tmp_path / "b.png")
    assert read_sticker(tmp_path / "b.png").frames[0, 0, 0].tolist() == [128, 128, 128, 255]


@pytest.mark.parametrize("turned", range(1, 9))
@pytest.mark.parametrize("suffix", [".jpg", ".png", ".webp"])
def test_pictures_are_turned_as_the_camera_says(suffix: str, turned: int, tmp_path: Path):
    exif = Image.Exif()
    exif[0x0112] = turned
    path = tmp_path / f"a{suffix}"
    picture = Image.fromarray(gradient(12, 20))
    picture.save(path, exif=exif, **({"lossless": True} if suffix == ".webp" else {}))
    with Image.open(path) as image:
        expected = np.asarray(ImageOps.exif_transpose(image).convert("RGBA"))
    info, sticker = probe(path), read_sticker(path)
    assert (info.height, info.width) == expected.shape[:2]
    np.testing.assert_array_equal(sticker.frames[0], expected)


def gradient(height: int, width: int) -> np.ndarray:
    """uint8 [height, width, 3] without two equal corners."""
    rows, columns = np.indices((height, width))
    return np.stack([rows * 9, columns * 9, rows * 0 + 60], axis=-1).astype(np.uint8)


def profile(name: str) -> bytes | None:
    """None, no profile at all, sRGB as a library writes it, or one with red and green swapped."""
    if name in ("none", "broken"):
        return None if name == "none" else b"no profile"
    data = bytearray(ImageCms.ImageCmsProfile(ImageCms.createProfile("sRGB")).tobytes())
    if name == "swapped":
        data = data.replace(b"rXYZ\0", b"?XYZ\0").replace(b"gXYZ\0", b"rXYZ\0")
        data = data.replace(b"?XYZ\0", b"gXYZ\0")
    return bytes(data)


@pytest.mark.parametrize("suffix", [".jpg", ".png", ".webp"])
def test_embedded_profiles_are_converted_to_srgb(suffix: str, tmp_path: Path):
    options = {"lossless": True} if suffix == ".webp" else {}
    seen = {}
    for name in ("none", "sRGB", "swapped", "broken"):
        path = tmp_path / f"{name}{suffix}"
        Image.fromarray(gradient(12, 20)).save(path, icc_profile=profile(name), **options)
        seen[name] = read_sticker(path).frames.astype(int)
    np.testing.assert_array_equal(seen["sRGB"], seen["none"])
    np.testing.assert_array_equal(seen["broken"], seen["none"])
    assert np.abs(seen["swapped"] - seen["none"]).max() > 30
    assert np.abs(seen["swapped"][..., [1, 0, 2, 3]] - seen["none"]).max() <= 8


def test_every_frame_of_an_animation_is_converted(tmp_path: Path):
    frames = [Image.fromarray(gradient(12, 20) // part) for part in (1, 2)]
    for suffix, options in ((".png", {}), (".webp", {"lossless": True})):
        path = tmp_path / f"a{suffix}"
        frames[0].save(
            path, save_all=True, append_images=frames[1:], duration=80,
            icc_profile=profile("swapped"), **options,
        )  # fmt: skip
        colours = read_sticker(path).frames[..., [1, 0, 2]].astype(int)
        for colour, frame in zip(colours, frames, strict=True):
            assert np.abs(colour - np.asarray(frame)).max() <= 8


@pytest.mark.parametrize("suffix", [".jpg", ".png", ".webp"])
def test_large_photos_are_reduced(suffix: str, tmp_path: Path):
    path = tmp_path / f"a{suffix}"
    Image.fromarray(np.repeat(gradient(20, 28), 8, axis=1).repeat(8, axis=0)).save(path)
    small = read_sticker(path, budget=Budget(max_canvas=28))
    assert small.frames.shape == (1, 20, 28, 4) and small.is_still
    assert np.abs(small.frames[0, ..., :3].astype(int) - gradient(20, 28)).mean() < 12
    with pytest.raises(StickerError, match="max_total_pixels"):
        read_sticker(path, budget=Budget(max_total_pixels=20 * 28 - 1, max_canvas=28))


@pytest.mark.parametrize("kind", [b"iCCP", b"eXIf"])
def test_a_damaged_profile_does_not_cost_the_picture(kind: bytes, tmp_path: Path):
    exif = Image.Exif()
    exif[0x0112] = 6
    swapped = profile("swapped")
    Image.fromarray(gradient(12, 20)).save(tmp_path / "a.png", exif=exif, icc_profile=swapped)
    data = bytearray((tmp_path / "a.png").read_bytes())
    data[data.index(kind) + 8] ^= 1
    frame = decode_sticker(bytes(data)).frames[0]
    if kind == b"iCCP":  # turned, colours as stored
        np.testing.assert_array_equal(frame[..., :3], np.rot90(gradient(12, 20), -1))
    else:
        assert frame.shape == (12, 20, 4)
