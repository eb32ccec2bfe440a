"""Files that are something else, or something else as well."""

from __future__ import annotations

import io
import struct
import zipfile
import zlib

import av
import numpy as np
import pytest
from PIL import Image, ImageCms

from rdtf.stickers import Budget, StickerError, decode_sticker, encode_sticker
from rdtf.stickers.export import check_bytes, check_file, export_sticker
from rdtf.stickers.export.measured import _foreign_parts, container_of, measure
from rdtf.stickers.files import inspect
from rdtf.stickers.formats.video import _planes_to_frame, to_planes

from .clips import ball

FORMATS = ("gif", "webp", "apng", "webm", "avif", "mp4")


@pytest.fixture(scope="module")
def files() -> dict[str, bytes]:
    return {format: export_sticker(ball(3, 32), format).data for format in FORMATS}


def zipped() -> bytes:
    stream = io.BytesIO()
    with zipfile.ZipFile(stream, "w") as archive:
        archive.writestr("evil.sh", "echo")
    return stream.getvalue()


@pytest.mark.parametrize("format", FORMATS)
def test_what_was_written_is_one_thing(files, format):
    data = files[format]
    assert container_of(data, "x") == format.replace("apng", "png")
    info = measure(data, "x", Budget()).info
    assert info.end == len(data) and _foreign_parts(data, info.format, info.end) == []
    report = check_bytes(data, format)
    assert report.passed, report


@pytest.mark.parametrize("format", FORMATS)
@pytest.mark.parametrize("tail", [b"<script>", zipped()], ids=["text", "zip"])
def test_what_follows_the_picture_is_refused(files, format, tail):
    report = check_bytes(files[format] + tail, format)
    assert not report.passed
    rules = {finding.rule for finding in report.failures}
    assert rules & {"one file only", "readable"}


def test_an_archive_inside_a_chunk_is_found(files):
    """A comment block of a GIF and a chunk of a PNG can hold anything; the file ends properly."""
    inner = zipped()
    gif = files["gif"]
    comment = b"!\xfe" + bytes([len(inner)]) + inner + b"\0"
    report = check_bytes(gif[:-1] + comment + b";", "gif")
    assert [f.found for f in report.failures] == ["a ZIP archive"]
    png = files["apng"]
    chunk = struct.pack(">I", len(inner)) + b"evIl" + inner
    chunk += struct.pack(">I", zlib.crc32(b"evIl" + inner))
    report = check_bytes(png[:-12] + chunk + png[-12:], "apng")
    assert [f.found for f in report.failures] == ["a ZIP archive"]


def test_a_document_at_the_start_is_found(files):
    gif = files["gif"]
    at = 13 + (3 << ((gif[10] & 7) + 1))
    report = check_bytes(gif[:at] + b"!\xfe\x09%PDF-1.7\n\0" + gif[at:], "gif")
    assert [f.found for f in report.failures] == ["a PDF document"]


@pytest.mark.parametrize(
    ("inner", "words"),
    [
        (b"<script>alert(1)</script>", "a script for browsers"),
        (b"<?php system($_GET['c']); ?>", "a script for servers"),
        (b"Rar!\x1a\x07\x01\x00", "a RAR archive"),
        (b"7z\xbc\xaf\x27\x1c", "a 7z archive"),
    ],
)
def test_what_hides_where_a_format_allows_anything_is_found(files, inner, words):
    """In a comment of a GIF, an unknown chunk of a WebP, a gap in a WebM, a free box of an MP4."""
    gif, webp, webm, mp4 = (files[name] for name in ("gif", "webp", "webm", "mp4"))
    inner += bytes(len(inner) % 2)
    body = webp[8:] + b"junk" + struct.pack("<I", len(inner)) + inner
    hidden = {
        "gif": gif[:-1] + b"!\xfe" + bytes([len(inner)]) + inner + b"\0;",
        "webp": b"RIFF" + struct.pack("<I", len(body)) + body,
        "webm": webm + b"\xec" + bytes([0x80 | len(inner)]) + inner,
        "mp4": mp4 + struct.pack(">I", 8 + len(inner)) + b"free" + inner,
    }
    for format, data in hidden.items():
        report = check_bytes(data, format)
        assert words in [finding.found for finding in report.failures], report


@pytest.mark.parametrize("format", FORMATS)
def test_the_wrong_container_is_named(files, format):
    for platform in ("telegram", "whatsapp", "slack"):
        report = check_bytes(files[format], platform, f"cat.{platform}")
        names = {"telegram": "webm", "whatsapp": "webp", "slack": "gif"}
        right = names[platform] == format or (platform, format) == ("slack", "apng")
        assert ("format" in {f.rule for f in report.failures}) == (not right)


@pytest.mark.parametrize("format", FORMATS)
@pytest.mark.parametrize("share", [0.0, 0.1, 0.5, 0.9, 0.99])
def test_half_a_file_is_a_finding_and_no_exception(files, format, share):
    data = files[format]
    assert not check_bytes(data[: int(len(data) * share)], format).passed


@pytest.mark.parametrize("format", FORMATS)
def test_damage_is_a_finding_and_no_exception(files, format):
    data = files[format]
    for number in range(40):
        at = number * 7919 % len(data)
        broken = bytearray(data)
        broken[at] ^= 1 << number % 8
        check_bytes(bytes(broken), format)


@pytest.mark.parametrize("format", FORMATS)
@pytest.mark.parametrize(
    ("field", "value"), [("max_bytes", 100), ("max_canvas", 31), ("max_frames", 2)]
)
def test_budgets_come_first(files, format, field, value):
    report = check_bytes(files[format], format, "x", Budget(**{field: value}))
    assert [f.rule for f in report.failures] == ["readable"]
    assert field in report.failures[0].found


def test_a_matroska_file_is_no_webm(files):
    data = files["webm"]
    at = data.index(b"webm")
    other = data[:at] + b"webx" + data[at + 4 :]
    report = check_bytes(other, "telegram")
    assert [f.rule for f in report.failures] == ["readable"]


def test_missing_large_and_foreign_files(tmp_path):
    with pytest.raises(StickerError, match="does not exist"):
        check_file(tmp_path / "no.webm", "telegram")
    page = tmp_path / "page.webm"
    page.write_text("<!DOCTYPE html>")
    report = check_file(page, "telegram")
    assert not report.passed and "web page" in report.failures[0].found
    page.write_bytes(b'{"layers": []}')
    assert "Lottie" in check_file(page, "telegram").failures[0].found
    page.write_bytes(bytes(200))
    with pytest.raises(StickerError, match="max_bytes"):
        check_file(page, "telegram", Budget(max_bytes=100))


def test_a_plain_png_is_read_to_its_end():
    data = encode_sticker(ball(1), ".png")
    for tail in (b"", b"x"):
        end = inspect(data + tail, "x", Budget()).end
        assert end == len(data) and bool(_foreign_parts(data + tail, "png", end)) == bool(tail)


# ------------------------------------------------------------ valid files of other writers


def finding(data: bytes, platform: str, rule: str):
    report = check_bytes(data, platform)
    return next(f for f in report.findings if f.rule == rule)


def assert_no_alarm(data: bytes, platform: str):
    report = check_bytes(data, platform)
    assert report.passed, report


def test_stored_durations_are_judged_not_what_players_make_of_them():
    webp = encode_sticker(ball(3, 512), ".webp")
    at = webp.index(b"ANMF")
    while at >= 0:  # 0 ms for every frame
        webp = webp[: at + 20] + bytes(3) + webp[at + 23 :]
        at = webp.find(b"ANMF", at + 4)
    shortest = finding(webp, "whatsapp", "shortest frame")
    assert (shortest.passed, shortest.found) == (False, "0 ms")
    assert not finding(webp, "webp", "playback").passed
    assert decode_sticker(webp).durations_ms.tolist() == [100] * 3


@pytest.mark.parametrize("delays_cs", [[0, 0, 0], [1, 1, 1], [0, 1, 7]])
def test_a_gif_without_delays_is_readable(delays_cs):
    data = gif_with_delays(delays_cs)
    assert finding(data, "gif", "readable").passed
    assert "100 ms" in finding(data, "gif", "playback").found


def test_whole_seconds_are_not_no_time_at_all():
    data = apng_bytes([(0, 100)] * 5)
    assert not finding(data, "line", "whole seconds").passed


@pytest.mark.parametrize("per_second", [24, 30, 60])
def test_fractional_delays_agree(per_second):
    data = apng_bytes([(1, per_second)] * per_second)
    assert_no_alarm(data, "apng")
    assert finding(data, "line", "whole seconds").found == "1 s"


def test_a_hidden_default_picture_is_no_disagreement():
    images = [Image.fromarray(frame) for frame in ball(4, 32).frames]
    stream = io.BytesIO()
    images[0].save(
        stream, "PNG", save_all=True, append_images=images[1:], default_image=True, duration=50
    )
    assert_no_alarm(stream.getvalue(), "apng")


def test_a_video_that_ends_where_its_last_frame_begins():
    """36 frames at 12 a second, no duration of frames: 3 s, which Telegram takes."""
    data = webm_without_durations(ball(36, 512), frames_per_second=12)
    assert decode_sticker(data).total_ms == 3000
    assert_no_alarm(data, "telegram")


def test_a_gif_frame_beyond_the_screen_is_no_alarm():
    data = gif_with_delays([5, 5, 5])
    at = max(i for i in range(len(data)) if data[i : i + 3] == b"\0\0\x2c") + 3
    data = data[:at] + struct.pack("<HH", 30, 30) + data[at + 4 :]
    assert_no_alarm(data, "gif")
    assert decode_sticker(data).frames.shape == (3, 32, 32, 4)


def test_vp8_with_alpha_is_read_and_no_telegram_sticker():
    clip = ball(4, 512)
    stream = io.BytesIO()
    with av.open(stream, "w", format="webm") as file:
        track = file.add_stream("libvpx", rate=20, options={"auto-alt-ref": "0", "crf": "4"})
        track.width = track.height = 512
        track.pix_fmt, track.bit_rate = "yuva420p", 2_000_000
        for pixels in clip.frames:
            file.mux(track.encode(_planes_to_frame(to_planes(pixels))))
        file.mux(track.encode(None))
    data = stream.getvalue()
    seen = decode_sticker(data)
    assert seen.num_frames == 4 and seen.total_ms == 200
    np.testing.assert_allclose(seen.frames[..., 3], clip.frames[..., 3], atol=60)
    assert_no_alarm(data, "webm")
    assert [f.rule for f in check_bytes(data, "telegram").failures] == ["video codec"]


@pytest.mark.parametrize("format", ["png", "webp"])
def test_turned_pictures_with_a_profile_are_no_alarm(format):
    exif = Image.Exif()
    exif[0x0112] = 6
    profile = ImageCms.ImageCmsProfile(ImageCms.createProfile("sRGB")).tobytes()
    stream = io.BytesIO()
    still = Image.fromarray(ball(1, 32).frames[0]).resize((40, 20))
    still.save(stream, format.upper(), exif=exif, icc_profile=profile)
    assert_no_alarm(stream.getvalue(), format.replace("png", "apng"))
    assert finding(stream.getvalue(), "signal", "canvas").found == "20 x 40"


@pytest.mark.parametrize("end", [b"", b";" + bytes(40), b"\0;"], ids=["none", "zeros", "NUL"])
def test_gifs_that_browsers_play_pass(files, end):
    assert_no_alarm(files["gif"].removesuffix(b";") + end, "gif")


def gif_with_delays(delays_cs: list[int]) -> bytes:
    data = export_sticker(ball(len(delays_cs), 32), "gif").data
    head, *frames = data.split(b"!\xf9\x04")
    timed = [f[:1] + struct.pack("<H", d) + f[3:] for f, d in zip(frames, delays_cs, strict=True)]
    return b"!\xf9\x04".join([head, *timed])


def apng_bytes(delays: list[tuple[int, int]]) -> bytes:
    """An APNG of red frames of growing strength, with delays as fractions of a second."""
    data = encode_sticker(ball(len(delays), 24), ".png")
    for numerator, denominator in delays:
        at = data.index(b"fcTL\0", 0)
        fields = data[at + 4 : at + 24] + struct.pack(">HH", numerator, denominator)
        content = b"fcTL" + fields + data[at + 28 : at + 30]
        done = content.replace(b"fcTL", b"FCTL")  # so that the next one is found
        data = data[:at] + done + struct.pack(">I", zlib.crc32(content)) + data[at + 34 :]
    return data.replace(b"FCTL", b"fcTL")


def webm_without_durations(sticker, frames_per_second: int) -> bytes:
    """As mkvmerge writes it: times of frames only, and an end that is the last of them."""
    times = np.rint(np.arange(sticker.num_frames + 1) * 1000 / frames_per_second)
    steps = np.diff(times).astype(int)
    data = encode_sticker(sticker.with_durations(steps), ".webm", speed=8)
    default = data.index(b"\x23\xe3\x83")  # becomes an element that is skipped
    data = (
        data[:default] + bytes([0xEC, 0x80 | (data[default + 3] & 0x7F) + 2]) + data[default + 2 :]
    )
    for step in set(steps.tolist()):  # the times of BlockGroups, likewise
        data = data.replace(bytes([0x9B, 0x81, step]), bytes([0xEC, 0x81, step]))
    end = data.index(b"\x44\x89\x88") + 3  # Duration
    return data[:end] + struct.pack(">d", times[-2]) + data[end + 8 :]
