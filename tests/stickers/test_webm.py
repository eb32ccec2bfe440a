"""What is special about WebM: hidden sizes, missing alpha, other codecs, cut-off segments."""

from __future__ import annotations

import io
from fractions import Fraction
from typing import Literal, cast

import av
import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from rdtf.stickers import StickerError, decode_sticker, encode_sticker
from rdtf.stickers.formats.video import _planes_to_frame, _stated_sizes, _to_rgba, to_planes

from .samples import clip


def other_video(
    codec: Literal["libvpx-vp9", "libvpx", "mpeg4"],
    size: int = 32,
    options: dict[str, str] | None = None,
) -> bytes:
    """Six frames without alpha, darkest first."""
    stream = io.BytesIO()
    kind = "webm" if codec.startswith("libvpx") else "matroska"
    with av.open(stream, "w", format=kind) as container:
        track = cast(av.VideoStream, container.add_stream(codec, rate=20, options=options))
        track.width = track.height = size
        track.pix_fmt = "yuv420p"
        for index in range(6):
            pixels = np.full((size, size, 3), 40 * index, np.uint8)
            frame = av.VideoFrame.from_ndarray(pixels, format="rgb24")
            frame.pts, frame.time_base = index, Fraction(1, 20)
            container.mux(track.encode(frame))
        container.mux(track.encode(None))
    return stream.getvalue()


@given(st.integers(1, 40), st.integers(1, 40), st.integers(0, 2**32 - 1))
def test_planes_keep_alpha_and_flat_colour(height: int, width: int, seed: int):
    random = np.random.default_rng(seed)
    pixels = random.integers(0, 256, (height, width, 4), dtype=np.uint8)
    pixels[..., :3] = pixels[0, 0, :3]
    again = _to_rgba(_planes_to_frame(to_planes(pixels)))
    np.testing.assert_array_equal(again[..., 3], pixels[..., 3])
    assert np.abs(again.astype(int) - pixels).max() <= 2


def test_video_without_alpha_is_opaque():
    sticker = decode_sticker(other_video("libvpx-vp9"))
    assert sticker.frames.shape == (6, 32, 32, 4)
    assert (sticker.frames[..., 3] == 255).all()
    assert sticker.durations_ms.tolist() == [50] * 6
    assert np.abs(sticker.frames[:, 5, 5, 0].astype(int) - np.arange(0, 240, 40)).max() < 12


def test_alternate_reference_frames_are_no_frames():
    """libvpx hides frames in superframes by default."""
    data = other_video("libvpx-vp9", options={"auto-alt-ref": "1", "lag-in-frames": "5"})
    assert decode_sticker(data).num_frames == 6


def test_other_codecs_are_named():
    with pytest.raises(StickerError, match="codec is mpeg4; only VP9"):
        decode_sticker(other_video("mpeg4"))


@pytest.mark.parametrize("hidden_frames", ["0", "1"])
def test_vp8_is_read(hidden_frames: str):
    options = {"auto-alt-ref": hidden_frames, "lag-in-frames": "5"}
    sticker = decode_sticker(other_video("libvpx", options=options))
    assert sticker.durations_ms.tolist() == [50] * 6
    assert np.abs(sticker.frames[:, 5, 5, 0].astype(int) - np.arange(0, 240, 40)).max() < 12


def packets(data: bytes) -> list[bytes]:
    with av.open(io.BytesIO(data), mode="r") as container:
        return [bytes(packet) for packet in container.demux(video=0) if packet.size]


def test_sizes_in_the_bitstream():
    first, *others = packets(other_video("libvpx-vp9", size=70))
    assert list(_stated_sizes(first, "vp9")) == [(70, 70)]
    assert not any(list(_stated_sizes(packet, "vp9")) for packet in others)
    with pytest.raises(ValueError, match="no VP9"):
        list(_stated_sizes(b"\0\0\0", "vp9"))
    assert list(_stated_sizes(packets(other_video("libvpx", size=70))[0], "vp8")) == [(70, 70)]


def test_a_frame_larger_than_the_header_says():
    """Same length, other size: the packets of a large video in the container of a small one."""
    small, large = (encode_sticker(clip(1, size=size), ".webm") for size in (16, 32))
    (packet,) = packets(large)
    (victim,) = packets(small)
    at = small.index(victim)
    header = packet[:10] + victim[10:]  # the uncompressed header states the size
    with pytest.raises(StickerError, match="not as large as the header says"):
        decode_sticker(small[:at] + header + small[at + len(victim) :])


def test_a_whole_number_of_plays_is_not_part_of_webm():
    assert decode_sticker(encode_sticker(clip().replace(loop_count=2), ".webm")).loop_count == 0


def test_a_title_that_is_no_utf8():
    """It is of no interest, so it is no damage."""
    stream = io.BytesIO(encode_sticker(clip(), ".webm"))
    titled = io.BytesIO()
    with av.open(stream) as old, av.open(titled, "w", format="webm") as new:
        new.metadata["title"] = "abcd"
        track = new.add_stream_from_template(old.streams.video[0])
        for packet in old.demux(video=0):
            if packet.size:
                packet.stream = track
                new.mux(packet)
    data = titled.getvalue().replace(b"abcd", b"\xff\xfe\xfd\xfc")
    assert decode_sticker(data).num_frames == 3


def test_the_same_clip_gives_the_same_bytes():
    assert encode_sticker(clip(), ".webm", speed=8) == encode_sticker(clip(), ".webm", speed=8)
