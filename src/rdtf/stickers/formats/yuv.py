"""RGBA to the planes of video and back.

FFmpeg's scaler is not used: it returns alpha off by one (255 becomes 254) and damages the alpha of
pictures with odd sides.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np

if TYPE_CHECKING:
    import av

_RED_BLUE_WEIGHTS = {"bt601": (0.299, 0.114), "bt709": (0.2126, 0.0722)}
_BT709, _FULL_RANGE = 1, 2  # FFmpeg's numbers


def to_planes(pixels: np.ndarray) -> list[np.ndarray]:
    """uint8 [H, W, 4] -> luma, two of colour at half the resolution, alpha: uint8 [h, w] each.

    BT.601, limited range; alpha as it is.
    """
    red, green, blue = (pixels[..., channel].astype(np.float32) for channel in range(3))
    red_weight, blue_weight = _RED_BLUE_WEIGHTS["bt601"]
    luma = red_weight * red + (1 - red_weight - blue_weight) * green + blue_weight * blue
    planes = [
        16 + luma * (219 / 255),
        128 + _halve(blue - luma) / (1 - blue_weight) * (112 / 255),
        128 + _halve(red - luma) / (1 - red_weight) * (112 / 255),
    ]
    return [*(np.rint(plane).astype(np.uint8) for plane in planes), pixels[..., 3]]


def planes_to_frame(planes: list[np.ndarray]) -> av.VideoFrame:
    """Three planes -> yuv420p, four -> yuva420p; see `to_planes`."""
    import av

    height, width = planes[0].shape
    frame = av.VideoFrame(width, height, "yuva420p" if len(planes) == 4 else "yuv420p")
    for plane, values in zip(frame.planes, planes, strict=True):
        padded = np.zeros((plane.buffer_size // plane.line_size, plane.line_size), np.uint8)
        padded[: values.shape[0], : values.shape[1]] = values
        plane.update(padded.tobytes())
    return frame


def to_video_frame(pixels: np.ndarray) -> av.VideoFrame:
    """uint8 [H, W, 4] -> yuva420p: BT.601, limited range, colour at half the resolution."""
    return planes_to_frame(to_planes(pixels))


def to_rgba(frame: av.VideoFrame) -> np.ndarray:
    """yuva420p or yuv420p (opaque) -> uint8 [H, W, 4], by the colours that the frame states."""
    if frame.format.name not in ("yuva420p", "yuv420p"):
        return frame.to_ndarray(format="rgba")
    height, width = frame.height, frame.width
    luma, blue_diff, red_diff = (_plane(frame, index) for index in range(3))
    is_full = frame.color_range == _FULL_RANGE
    luma = luma if is_full else (luma - 16) * (255 / 219)
    scale = 2 if is_full else 255 / 112
    red_weight, blue_weight = _RED_BLUE_WEIGHTS["bt709" if frame.colorspace == _BT709 else "bt601"]
    red = luma + _double(red_diff - 128, height, width) * (scale * (1 - red_weight))
    blue = luma + _double(blue_diff - 128, height, width) * (scale * (1 - blue_weight))
    green = (luma - red_weight * red - blue_weight * blue) / (1 - red_weight - blue_weight)
    alpha = _plane(frame, 3) if len(frame.planes) > 3 else np.full_like(luma, 255)
    return np.rint(np.stack([red, green, blue, alpha], axis=-1).clip(0, 255)).astype(np.uint8)


def _halve(values: np.ndarray) -> np.ndarray:
    """Means of 2 x 2 pixels; an odd last row or column stands for two."""
    even = np.pad(values, [(0, side % 2) for side in values.shape], mode="edge")
    return (even[::2, ::2] + even[1::2, ::2] + even[::2, 1::2] + even[1::2, 1::2]) / 4


def _double(values: np.ndarray, height: int, width: int) -> np.ndarray:
    return values.repeat(2, axis=0).repeat(2, axis=1)[:height, :width]


def _plane(frame: av.VideoFrame, index: int) -> np.ndarray:
    plane = frame.planes[index]
    rows = np.frombuffer(bytes(plane), np.uint8)[: plane.height * plane.line_size]
    return rows.reshape(plane.height, plane.line_size)[:, : plane.width].astype(np.float32)
