"""What was written, to decoders that are not ours, compared with what was put in.

WebM goes through libvpx with FFmpeg's own conversion of colours; APNG, WebP and GIF through Pillow;
GIF, APNG, AVIF and MP4 through FFmpeg. Nothing here uses a reader of this project.
"""

from __future__ import annotations

import io

import av
import numpy as np
import pytest
from PIL import Image

from rdtf.stickers import Budget, Sticker
from rdtf.stickers.export import Export, export_sticker
from rdtf.stickers.export.measured import decode_by_others

from .clips import ball, noise


def decibels(first: np.ndarray, second: np.ndarray) -> float:
    """Of values in [0, 1]."""
    error = float(np.mean(np.square(first.astype(np.float64) - second)))
    return 99.0 if error == 0 else min(99.0, -10 * np.log10(error))


def on_white(frames: np.ndarray) -> np.ndarray:
    shares = frames.astype(np.float64) / 255
    return 1 + (shares[..., :3] - 1) * shares[..., 3:]


def by_libvpx(data: bytes) -> np.ndarray:
    """uint8 [F, H, W, 4]: alpha as libvpx gives it, colours by FFmpeg's scaler."""
    decoder = av.CodecContext.create("libvpx-vp9", "r")
    frames = []
    with av.open(io.BytesIO(data), "r") as file:
        for packet in file.demux(video=0):
            for frame in decoder.decode(packet if packet.size else None):  # type: ignore[arg-type]
                assert frame.format.name == "yuva420p"
                rgba = frame.to_ndarray(format="rgba")
                plane = frame.planes[3]
                rows = np.frombuffer(bytes(plane), np.uint8).reshape(-1, plane.line_size)
                rgba[..., 3] = rows[: plane.height, : plane.width]
                frames.append(rgba)
    return np.stack(frames)


def by_ffmpeg(data: bytes, format: str) -> np.ndarray:
    with av.open(io.BytesIO(data), "r", format=format) as file:
        return np.stack([frame.to_ndarray(format="rgba") for frame in file.decode(video=0)])


def by_pillow(data: bytes) -> tuple[np.ndarray, list[float]]:
    """Frames and durations in ms."""
    frames, times = [], []
    with Image.open(io.BytesIO(data)) as image:
        for index in range(getattr(image, "n_frames", 1)):
            image.seek(index)
            frames.append(np.asarray(image.convert("RGBA")))
            times.append(image.info["duration"])
    return np.stack(frames), times


@pytest.fixture(scope="module")
def clip() -> Sticker:
    """Soft edges, a hole, a shadow of half transparency; each frame its own time."""
    ring = ball(6, 96)
    frames = ring.frames.copy()
    frames[:, 70:80, 20:60] = (20, 20, 60, 128)
    frames[:, 40:48, 40:48] = 0
    return ring.replace(frames=frames).with_durations([40, 60, 80, 100, 120, 200])


@pytest.fixture(scope="module")
def webm(clip) -> Export:
    return export_sticker(clip, "webm")


def test_libvpx_sees_colour_and_opacity_of_a_webm(clip, webm):
    seen = by_libvpx(webm.data)
    assert seen.shape == clip.frames.shape
    assert decibels(on_white(seen), on_white(clip.frames)) > 36
    assert decibels(seen[..., 3] / 255, clip.frames[..., 3] / 255) > 45
    assert abs(int(seen[0, 75, 40, 3]) - 128) <= 3 and (seen[0, :10, :10, 3] == 0).all()
    report = webm.report.loss
    assert decibels(on_white(seen), on_white(clip.frames)) == pytest.approx(
        report.psnr_white_db, abs=3
    )


def test_a_player_without_alpha_still_sees_the_picture(clip, webm):
    """FFmpeg's own decoder, like many players, drops the second stream; colours are unharmed."""
    with av.open(io.BytesIO(webm.data), "r") as file:
        starts, frames = [], []
        for frame in file.decode(video=0):
            starts.append(round(float(frame.time or 0) * 1000))
            frames.append(frame.to_ndarray(format="rgba"))
    assert starts == [0, 40, 100, 180, 280, 400]
    solid = clip.frames[..., 3] == 255
    inside = solid & np.roll(solid, 4, 1) & np.roll(solid, -4, 1) & np.roll(solid, 4, 2)
    inside &= np.roll(solid, -4, 2)
    off = np.stack(frames)[inside][:, :3].astype(int) - clip.frames[inside][:, :3]
    assert inside.any() and np.abs(off).mean() < 4


@pytest.mark.parametrize("name", ["webp", "apng"])
def test_pillow_reads_exact_formats_to_the_bit(clip, name):
    seen, times = by_pillow(export_sticker(clip, name).data)
    shown = clip.frames[..., 3:] > 0
    np.testing.assert_array_equal(np.where(shown, seen, 0), np.where(shown, clip.frames, 0))
    np.testing.assert_array_equal(seen[..., 3], clip.frames[..., 3])
    assert times == clip.durations_ms.tolist()


def test_pillow_reads_a_gif(clip):
    export = export_sticker(clip, "gif")
    seen, times = by_pillow(export.data)
    assert times == clip.durations_ms.tolist()
    np.testing.assert_array_equal(seen[..., 3] > 0, clip.frames[..., 3] >= 128)
    solid = clip.frames[..., 3] == 255
    assert decibels(seen[solid] / 255, clip.frames[solid] / 255) > 33


@pytest.mark.parametrize(
    ("name", "format", "least"),
    [("apng", "apng", 98), ("gif", "gif", 33), ("avif", "mov", 30), ("mp4", "mp4", 34)],
)
def test_ffmpeg_reads_it(clip, name, format, least):
    data = export_sticker(clip, name).data
    if name == "avif":  # it holds the first picture once more, and the opacity as another track
        with av.open(io.BytesIO(data), "r", format=format) as file:
            track = max(file.streams.video, key=lambda track: track.frames)
            seen = np.stack([frame.to_ndarray(format="rgba") for frame in file.decode(track)])
        seen[..., 3] = clip.frames[..., 3]
    else:
        seen = by_ffmpeg(data, format)
    assert len(seen) == 6
    if name == "gif":  # half transparency is lost, as the report says
        seen = np.where(clip.frames[..., 3:] == 128, clip.frames, seen)
    assert decibels(on_white(seen), on_white(clip.frames)) > least


@pytest.mark.parametrize(("name", "num_frames"), [("gif", 6), ("apng", 6), ("apng", 1)])
def test_an_export_is_read_again_without_the_library_that_wrote_it(
    clip, name, num_frames, monkeypatch
):
    """GIF, PNG and APNG are coded by Pillow."""
    export = export_sticker(clip.select(range(num_frames)), name)
    monkeypatch.setattr(Image, "open", None)
    frames, durations_ms = decode_by_others(export.data, name.replace("apng", "png"), Budget())
    assert len(frames) == num_frames and frames.shape[1:] == clip.frames.shape[1:]
    assert num_frames == 1 or durations_ms.tolist() == clip.durations_ms.tolist()


@pytest.mark.parametrize(
    ("name", "limit"), [("telegram-emoji", 9_000), ("line-emoji", 40_000), ("webp", 9_000)]
)
def test_the_loss_at_the_limit_is_what_others_measure(name, limit):
    """At a tenth of what it wanted, reported in decibels; checked by other decoders."""
    clip = ball(5, 100, 200)
    grain = noise(5, 100).frames
    grain[..., 3] = clip.frames[..., 3]
    clip = clip.replace(frames=(clip.frames // 4 * 3 + grain // 4).astype(np.uint8))
    if name != "line-emoji":
        source = clip.fit_canvas(100).frames
    else:
        source = clip.fit_canvas(180).frames
    export = export_sticker(clip, name, max_bytes=limit)
    report = export.report
    assert len(export.data) <= limit and any("quality" in what for what in report.gave_up)
    assert f"{report.loss.psnr_white_db:.1f} dB on white" in str(report)
    if report.num_frames < 5:
        pytest.skip("frames were left out, too")
    seen = by_libvpx(export.data) if name == "telegram-emoji" else by_pillow(export.data)[0]
    measured = decibels(on_white(seen), on_white(source))
    assert measured == pytest.approx(report.loss.psnr_white_db, abs=1)
    assert 14 < measured < 45
