"""From a clip to a file that a platform takes."""

from __future__ import annotations

import io
import json

import av
import numpy as np
import pytest
from PIL import Image

from rdtf.stickers import Budget, Sticker, decode_sticker, read_sticker
from rdtf.stickers.canvas import on_background
from rdtf.stickers.export import ExportError, ExportOptions, check_bytes, export_sticker, platforms
from rdtf.stickers.export.exporter import _visual_loss
from rdtf.stickers.export.measured import decode_by_others, measure
from rdtf.stickers.export.platforms import find_platform

from .clips import ball, noise

MESSENGERS = [name for name, platform in platforms().items() if not platform.is_plain]
ANIMATED = [name for name in MESSENGERS if platforms()[name].still != "only"]

# ---------------------------------------------------------------- what every export promises


@pytest.mark.parametrize("name", ANIMATED)
def test_a_fitting_clip_goes_everywhere(name):
    clip = ball(5, duration_ms=200)
    export = export_sticker(clip, name)
    report = export.report
    assert check_bytes(export.data, name).passed and report.check is not None
    assert report.num_frames == 5 and report.total_ms == 1000
    assert not [what for what in report.gave_up if what.startswith("frames")]
    wanted = 27 if platforms()[name].format in ("gif", "webm") else 45
    assert report.loss.psnr_white_db >= wanted, report
    canvas = platforms()[name].canvas()
    assert canvas is not None
    assert max(report.width, report.height) >= min(canvas.value)


@pytest.mark.parametrize("name", ["telegram-emoji", "line-emoji", "discord-emoji", "webp"])
def test_the_limit_costs_quality_and_frames_but_not_canvas_or_time(name):
    clip = ball(10, 48)
    rough = clip.frames // 2 + noise(10, 48).frames // 3
    rough[..., 3] = clip.frames[..., 3]
    clip = clip.replace(frames=rough)
    full = export_sticker(clip, name)
    small = export_sticker(clip, name, max_bytes=int(full.report.num_bytes * 0.6))
    report = small.report
    assert report.max_bytes and report.num_bytes <= report.max_bytes
    assert (report.width, report.height) == (full.report.width, full.report.height)
    assert report.total_ms == full.report.total_ms == 1000
    assert any(what.startswith(("quality", "frames")) for what in report.gave_up)
    assert "to fit into" in str(report) and "dB" in str(report)


def test_noise_that_can_not_get_small_is_refused():
    with pytest.raises(ExportError) as caught:
        export_sticker(noise(12, 128), "slack", max_bytes=20_000)
    assert caught.value.reason in ("bytes", "quality")
    assert "Slack emoji" in str(caught.value)


@pytest.mark.parametrize(
    ("clip", "name", "reason"),
    [
        (ball(1), "telegram", "still"),
        (ball(4).select([2, 2, 2]), "whatsapp", "still"),
        (ball(4), "whatsapp-static", "moving"),
        (ball(40, duration_ms=100), "telegram", "duration"),
        (ball(8), "line", "duration"),
        (ball(4, duration_ms=1), "telegram", "duration"),
        (Sticker(np.zeros((3, 8, 8, 4), np.uint8), np.full(3, 50)), "gif", "empty"),
    ],
)
def test_refusals_have_a_reason(clip, name, reason):
    with pytest.raises(ExportError) as caught:
        export_sticker(clip, name)
    assert caught.value.reason == reason
    assert find_platform(name).title in str(caught.value) or reason == "empty"


def test_half_transparent_clips_are_no_gif():
    frames = ball(4).frames.copy()
    frames[..., 3] = frames[..., 3] // 3
    faint = Sticker(frames, np.full(4, 100))
    with pytest.raises(ExportError, match="--background") as caught:
        export_sticker(faint, "gif")
    assert caught.value.reason == "quality"
    export = export_sticker(faint, "gif", background=(255, 255, 255))
    assert export.report.loss.psnr_white_db > 35


# ------------------------------------------------------------------- independent decoders


def test_webm_is_the_same_to_libvpx_and_to_ffmpeg():
    """Alpha included: libvpx reads it by itself, FFmpeg's decoder as a second stream."""
    clip = ball(8, 96)
    export = export_sticker(clip, "telegram-emoji")
    libvpx = decode_sticker(export.data)
    other, durations_ms = decode_by_others(export.data, "webm", Budget())
    np.testing.assert_array_equal(libvpx.frames, other)
    assert libvpx.durations_ms.tolist() == durations_ms.tolist() == [100] * 8
    big = clip.fit_canvas(100)
    assert np.abs(libvpx.frames[..., 3].astype(int) - big.frames[..., 3]).mean() < 0.2
    loss = _visual_loss(lambda i: big.frames[i], big.durations_ms, libvpx.frames, np.full(8, 100))
    assert loss.psnr_white_db > 33 and loss.alpha_psnr_db > 45
    assert loss.psnr_white_db == pytest.approx(export.report.loss.psnr_white_db, abs=0.01)


def test_webm_says_what_players_ask():
    data = export_sticker(ball(9, duration_ms=33), "telegram-emoji").data
    with av.open(io.BytesIO(data), "r") as file:
        (track,) = file.streams
        assert isinstance(track, av.VideoStream)
        assert track.metadata["alpha_mode"] == "1"
        assert track.codec_context.name in ("vp9", "libvpx-vp9")
        assert track.average_rate is not None and track.average_rate <= 30
        assert file.duration == pytest.approx(297_000, abs=1000)


@pytest.mark.parametrize(("name", "decoder"), [("signal", "apng"), ("wechat", "gif")])
def test_ffmpeg_plays_it_too(name, decoder):
    """A third decoder for what Pillow reads back."""
    export = export_sticker(ball(6, 48), name)
    with av.open(io.BytesIO(export.data), "r", format=decoder) as file:
        frames = [frame.to_ndarray(format="rgba") for frame in file.decode(video=0)]
    ours = decode_sticker(export.data).frames
    assert len(frames) == 6
    shown = ours[..., 3] > 0
    for frame, own, mask in zip(frames, ours, shown, strict=True):
        assert np.abs(frame[mask].astype(int) - own[mask]).max() <= 1
        assert (frame[..., 3][~mask] == 0).all()


def test_whatsapp_files_are_read_by_libwebp_as_written():
    clip = ball(5, 24).select([0, 1, 1, 2, 3, 4]).with_durations([8, 50, 90, 100, 200, 52])
    image = Image.open(io.BytesIO(export_sticker(clip, "whatsapp").data))
    assert getattr(image, "n_frames", 1) == 6 and image.size == (512, 512)
    times = []
    for index in range(6):
        image.seek(index)
        image.load()
        times.append(image.info["duration"])
    assert times == [8, 50, 90, 100, 200, 52] and image.info["loop"] == 0


def test_avif_and_mp4_come_back():
    clip = ball(5, 50).with_durations([40, 60, 80, 100, 120])
    avif = measure(export_sticker(clip, "avif").data, "x", Budget())
    assert avif.info.stored_ms == (40, 60, 80, 100, 120)
    assert np.abs(avif.frames[..., 3].astype(int) - clip.frames[..., 3]).mean() < 1
    odd = trimmed(clip, 49, 51)
    mp4 = measure(export_sticker(odd, "mp4", background=(0, 90, 200)).data, "x", Budget())
    assert mp4.info.stored_ms == (40, 60, 80, 100, 120) and mp4.codec == "h264"
    assert (mp4.info.width, mp4.info.height) == (52, 50) and not mp4.has_sound
    expected = on_background(odd.frames, (0, 90, 200)).astype(int)
    assert np.abs(mp4.frames[:, :49, :51, :3] - expected).mean() < 4


def trimmed(clip: Sticker, height: int, width: int) -> Sticker:
    frames = np.pad(clip.frames, ((0, 0), (0, 9), (0, 9), (0, 0)))[:, :height, :width]
    return clip.replace(frames=np.ascontiguousarray(frames))


# -------------------------------------------------------------------- platforms in detail


def test_line_gets_whole_seconds_frames_and_plays():
    clip = ball(3, duration_ms=100).replace(loop_count=2)
    export = export_sticker(clip, "line", time="speed")
    again = decode_sticker(export.data)
    assert again.total_ms == 1000 and again.num_frames == 5 and again.loop_count == 2
    assert again.height == 270 and again.width == 270
    assert any("times as fast" in edit for edit in export.report.edits)
    assert any("repeated" in edit for edit in export.report.edits)
    for_ever = export_sticker(ball(10), "line")
    assert decode_sticker(for_ever.data).loop_count == 4  # 4 x 1 s are allowed
    long = export_sticker(ball(30, duration_ms=100), "line")
    assert decode_sticker(long.data).loop_count == 1 and long.report.num_frames == 20
    assert any("at most 20" in what for what in long.report.gave_up)


@pytest.mark.parametrize(("height", "width"), [(64, 20), (20, 64), (2, 100), (100, 2)])
def test_odd_shapes_fit_every_canvas(height, width):
    clip = ball(10, max(height, width))
    frames = clip.frames[:, :height, :width].copy()
    frames[:, 0, 0] = (9, 9, 9, 255)
    frames[3:, 0, 0] = (200, 9, 9, 255)
    for name in ("telegram-emoji", "line", "discord-emoji", "wechat"):
        assert export_sticker(Sticker(frames, clip.durations_ms), name).report.check
    wide = export_sticker(Sticker(frames[:5:4], np.full(2, 100)), "telegram").report
    assert max(wide.height, wide.width) == 512
    assert wide.height * width == pytest.approx(wide.width * height, rel=0.1)


def test_signal_loops_for_ever_and_takes_a_still():
    clip = ball(6).replace(loop_count=3)
    assert decode_sticker(export_sticker(clip, "signal").data).loop_count == 0
    still = export_sticker(ball(1), "signal")
    assert b"acTL" not in still.data and check_bytes(still.data, "signal").passed


def test_an_outline_keeps_inside_the_canvas():
    square = np.zeros((2, 40, 40, 4), np.uint8)
    square[..., :] = (10, 60, 200, 255)
    square[1, 10:20, 10:20] = (200, 60, 10, 255)
    export = export_sticker(Sticker(square, np.full(2, 500)), "whatsapp", outline_px=8)
    frame = decode_sticker(export.data).frames[0]
    assert frame.shape == (512, 512, 4)
    assert frame[256, 3].tolist() == [255, 255, 255, 255] and frame[256, 0, 3] > 200
    assert frame[256, 20].tolist() == [10, 60, 200, 255]
    assert frame[0, 0, 3] == 0  # corners are round
    with pytest.raises(ExportError, match="leaves no room on a canvas") as caught:
        export_sticker(ball(), "slack", outline_px=64)
    assert caught.value.reason == "option"


def test_a_bare_first_frame_is_remarked_and_can_be_changed():
    clip = ball(3)
    frames = clip.frames.copy()
    frames[0, :, :30] = 0
    frames[0, :30] = 0
    empty_first = clip.replace(frames=frames)
    export = export_sticker(empty_first, "whatsapp")
    assert any("first frame" in remark for remark in export.report.remarks)
    remarks = export_sticker(empty_first, "whatsapp", first="fullest").report.remarks
    assert not any("first frame" in remark for remark in remarks)


def test_plain_formats_keep_size_loops_and_times():
    clip = ball(4, 37).with_durations([20, 30, 45, 100]).replace(loop_count=3)
    for name in ("gif", "webp", "apng"):
        again = decode_sticker(export_sticker(clip, name).data)
        assert (again.width, again.loop_count, again.num_frames) == (37, 3, 4)
        assert abs(again.total_ms - 195) <= 5
    assert export_sticker(clip, "gif", size=80).report.width == 80
    with pytest.raises(ExportError, match="512 x 512"):
        export_sticker(clip, "telegram", size=80)


def test_a_sheet_and_a_folder_of_frames(tmp_path):
    clip = ball(5, 20).with_durations([10, 20, 30, 40, 50])
    sheet = export_sticker(clip, "sheet")
    image, places = (p for p in sheet.save(tmp_path, "ball"))
    data = json.loads(places.read_text())
    pixels = np.asarray(Image.open(image).convert("RGBA"))
    assert data["meta"]["size"] == {"w": pixels.shape[1], "h": pixels.shape[0]}
    for entry, frame, duration in zip(data["frames"], clip.frames, clip.durations_ms, strict=True):
        x, y, w, h = (entry["frame"][key] for key in "xywh")
        np.testing.assert_array_equal(pixels[y : y + h, x : x + w], frame)
        assert entry["duration"] == duration
    (folder,) = export_sticker(clip, "frames").save(tmp_path, "ball")
    again = read_sticker(folder)
    np.testing.assert_array_equal(again.frames, clip.frames)
    assert again.durations_ms.tolist() == clip.durations_ms.tolist()
    (other := tmp_path / "mine").mkdir()
    (other / "letter.txt").write_text("dear")
    with pytest.raises(ValueError, match="not empty"):
        export_sticker(clip, "frames").save(tmp_path, "mine")
    assert (other / "letter.txt").exists()


# ------------------------------------------------------------------------------- interface


def test_the_sticker_exports_itself(tmp_path):
    export = ball(8).export("telegram-emoji", outline_px=4)
    assert export.suffix == ".webm"
    (path,) = export.save(tmp_path, "ball")
    assert path == tmp_path / "ball.webm" and path.read_bytes() == export.data
    values = json.loads(json.dumps(export.report.to_dict()))
    assert values["check"]["passed"] and values["loss"]["psnr_white_db"] > 20
    assert values["edits"] == ["outline of 4 px added"]


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"time": "squeeze"}, "one of refuse"),
        ({"close": "knot"}, "one of none"),
        ({"max_bytes": 0}, "at least 1"),
        ({"colour": 3}, "unknown option 'colour'"),
        ({"close": "cross-fade"}, "can't cross-fade"),
        ({"speed": 0}, "speed"),
        ({"pad": -1}, "border"),
        ({"first": 7}, "start at frame 7"),
        ({"outline_px": -2}, "outline"),
        ({"outline_px": float("nan")}, "outline"),
        ({"size": 5000}, "size 5000"),
        ({"size": 0}, "size 0"),
    ],
)
def test_options_that_do_not_fit(changes, message):
    with pytest.raises(ExportError, match=message) as caught:
        export_sticker(ball(2), "gif", **changes)
    assert caught.value.reason == "option"


@pytest.mark.parametrize("changes", [{"pad": 4096}, {"size": 4096}])
def test_what_would_not_fit_into_memory(changes):
    with pytest.raises(ExportError, match="need too much memory") as caught:
        export_sticker(ball(20), "webp", **changes)
    assert caught.value.reason == "option"


@pytest.mark.parametrize("name", ["gif", "webp", "mp4", "apng", "avif", "webm", "slack"])
def test_more_than_a_format_can_hold(name):
    """Sides, times and loops beyond its fields end in a refusal, if they do not fit."""
    clip = ball(2, 8)
    for total_ms, loops in ((100, 70_000), (40_000_000, 0)):
        extreme = clip.with_durations([total_ms - 50, 50]).replace(loop_count=loops)
        refusal = refusal_of(extreme, name)
        assert refusal in ("", "duration") and (total_ms > 100 or not refusal)
    wide = np.full((2, 1, 20_000, 4), 255, np.uint8)
    wide[1, :, :5000, :3] = 0
    assert refusal_of(Sticker(wide, np.full(2, 500)), name) in ("", "option")


def refusal_of(clip: Sticker, name: str) -> str:
    try:
        export_sticker(clip, name)
    except ExportError as error:
        return error.reason
    return ""


def test_single_changes_are_made_to_the_options():
    report = export_sticker(ball(2), "gif", ExportOptions(trim=True), pad=3).report
    assert [edit.split()[0] for edit in report.edits] == ["trimmed", "border"]


def test_the_loss_counts_frames_that_were_left_out():
    frames = ball(4, 16).frames
    times = np.full(4, 100)
    exact = _visual_loss(lambda i: frames[i], times, frames, times)
    assert str(exact) == "exact"
    fewer = _visual_loss(lambda i: frames[i], times, frames[::2], np.full(2, 200))
    assert fewer.psnr_white_db < 30 and fewer.alpha_error > 0
