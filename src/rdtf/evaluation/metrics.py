"""Scores of a generated clip against the true one, with nothing to download.

Pictures are RGB float `[F,H,W,3]` in [0, 1], composited on white, which is how people see most
stickers; transparency has a score of its own. Only *hidden* frames are scored: given frames come
back unchanged and would flatter every method by as much as it was given.

Pixel scores punish motion that is plausible but not the true one. Read them beside the baselines,
the line distance and the motion ratio, never alone.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Literal

import numpy as np
from scipy.ndimage import distance_transform_edt, gaussian_filter

from rdtf.errors import ConfigError
from rdtf.evaluation.tasks import hidden_frames
from rdtf.stickers import Sticker

# Distances are cut here, so that an empty picture is never better than a misplaced one and a
# single stray line does not drown the rest. Per cent of the image diagonal.
_MAX_DISTANCE_PERCENT = 10.0

# A black-white edge answers with 0.12; 0.02 keeps edges of one sixth of that contrast.
_RESPONSE_THRESHOLD = 0.02
_SURROUND_RATIO = 1.6


def _line_mask(image: np.ndarray) -> np.ndarray:
    """Lines of a drawing: `bool [H,W]` from RGB float `[H,W,3]` in [0, 1].

    Difference of Gaussians: a pixel is on a line where it is darker than its surroundings in some
    colour channel. That finds outlines, and the dark side of every border between flat colours.
    The Gaussians grow with the canvas, so that a drawing keeps its lines at another size.
    """
    sigma = max(0.8, 0.004 * float(np.hypot(*image.shape[:2])))
    centre = gaussian_filter(image, sigma, axes=(0, 1), mode="nearest")
    surround = gaussian_filter(image, sigma * _SURROUND_RATIO, axes=(0, 1), mode="nearest")
    return (surround - centre).max(axis=-1) > _RESPONSE_THRESHOLD


def _chamfer_distance(a: np.ndarray, b: np.ndarray) -> float:
    """Symmetric mean distance between two line masks `bool [H,W]`, in per cent of the diagonal.

    In [0, 10]: 0 if both have the same lines (or none), 10 if only one has any.
    """
    if not a.any() or not b.any():
        return 0.0 if a.any() == b.any() else _MAX_DISTANCE_PERCENT
    return (_mean_distance(a, b) + _mean_distance(b, a)) / 2


def _mean_distance(lines: np.ndarray, target: np.ndarray) -> float:
    """Mean distance from the pixels of `lines` to the nearest pixel of `target`."""
    percent = 100.0 / float(np.hypot(*target.shape))
    to_target = np.asarray(distance_transform_edt(~target))[lines] * percent
    return float(np.minimum(to_target, _MAX_DISTANCE_PERCENT).mean())


def line_distance(truth: np.ndarray, result: np.ndarray) -> float:
    """Mean chamfer line distance over frames, RGB float `[F,H,W,3]` in [0, 1]; lower is better."""
    pairs = zip(truth, result, strict=True)
    return float(np.mean([_chamfer_distance(_line_mask(t), _line_mask(r)) for t, r in pairs]))


# Of true and made frames, RGB float `[F,H,W,3]` in [0, 1].
Distance = Callable[[np.ndarray, np.ndarray], float]

_MAX_PSNR_DB = 60.0
_STILL_RANGE = 2 / 255  # a pixel that varies by no more than two 8-bit levels is still


@dataclass(frozen=True)
class Metric:
    """How to print a score: which way is better (`one`: closest to 1), and with how many digits.

    has_interval: whether every clip has a score of its own.
    """

    label: str
    better: Literal["higher", "lower", "one"]
    digits: int
    has_interval: bool = True


METRICS = {
    "psnr": Metric("PSNR (dB)", "higher", 2),
    "ssim": Metric("SSIM", "higher", 3),
    "line_distance": Metric("line distance (%)", "lower", 2),  # of the diagonal
    "alpha_mae": Metric("alpha error", "lower", 4),
    "motion_ratio": Metric("motion ratio", "one", 2),
    "colour_drift": Metric("colour drift", "lower", 4),
    "given_error": Metric("given error", "lower", 4),
}
# Where their weights are there, see `rdtf.evaluation.perceptual`.
PERCEPTUAL = {
    "lpips": Metric("LPIPS", "lower", 3),
    "kvd": Metric("KVD, looped to 16", "lower", 2),
    "fvd": Metric("FVD, looped to 16", "lower", 0, has_interval=False),
}


# ---------------------------------------------------------------------- pictures


def on_white(sticker: Sticker) -> np.ndarray:
    """Frames on white, RGB float32 `[F,H,W,3]` in [0, 1], without rounding to 8 bits."""
    premultiplied = sticker.premultiplied()
    return premultiplied[..., :3] + (1.0 - premultiplied[..., 3:])


def psnr(truth: np.ndarray, result: np.ndarray) -> float:
    """Peak signal-to-noise ratio in dB of frames in [0, 1]; higher is better, at most 60.

    The error is pooled over the frames first. A mean of per-frame values would be ruled by the
    frames that repeat exactly, which in stickers are many and have an infinite PSNR.
    """
    error = float(np.mean(np.square(truth - result, dtype=np.float64)))
    return _MAX_PSNR_DB if error <= 10 ** (-_MAX_PSNR_DB / 10) else -10.0 * float(np.log10(error))


def ssim(truth: np.ndarray, result: np.ndarray) -> float:
    """Structural similarity (Wang et al. 2004), mean over frames and channels; 1 is identical.

    Gaussian window 11×11 with σ = 1.5, K = (0.01, 0.03), data range 1; windows that would leave the
    picture are not counted. A side below 11 pixels gets the largest odd window that fits.
    """
    x, y = truth.astype(np.float64), result.astype(np.float64)
    mean_x, mean_y = _window_mean(x), _window_mean(y)
    variance_x = _window_mean(x * x) - mean_x**2
    variance_y = _window_mean(y * y) - mean_y**2
    covariance = _window_mean(x * y) - mean_x * mean_y
    c1, c2 = 0.01**2, 0.03**2
    luminance = (2 * mean_x * mean_y + c1) / (mean_x**2 + mean_y**2 + c1)
    structure = (2 * covariance + c2) / (variance_x + variance_y + c2)
    return float((luminance * structure).mean())


def _window_mean(images: np.ndarray) -> np.ndarray:
    """Gaussian mean around each pixel of `[F,H,W,C]` whose window lies inside the picture."""
    _, height, width, _ = images.shape
    radius_y, radius_x = min(5, (height - 1) // 2), min(5, (width - 1) // 2)
    means = gaussian_filter(images, 1.5, axes=(1, 2), radius=(radius_y, radius_x))
    return means[:, radius_y : height - radius_y, radius_x : width - radius_x]


# -------------------------------------------------------------------------- time


def motion_magnitude(frames: np.ndarray, steps: Sequence[int] | None = None) -> float:
    """Mean absolute change between neighbouring frames of `[F,H,W,C]`; 0 for a still or one frame.

    `steps` limits it to the steps t → t+1 with these t.
    """
    change = np.abs(np.diff(frames, axis=0))
    change = change if steps is None else change[list(steps)]
    return float(change.mean(dtype=np.float64)) if change.size else 0.0


def motion_ratio(truth: np.ndarray, result: np.ndarray, steps: Sequence[int]) -> float:
    """Motion of the result over that of the truth: 1 is right, 0 is frozen.

    NaN where the truth does not move but the result does: no ratio says how much too much.
    """
    true_motion, motion = motion_magnitude(truth, steps), motion_magnitude(result, steps)
    if true_motion == 0:
        return 1.0 if motion == 0 else float("nan")
    return motion / true_motion


def _still_pixels(truth: np.ndarray) -> np.ndarray:
    """`bool [H,W]`: pixels of `[F,H,W,C]` that stay the same, up to two 8-bit levels, all along."""
    return np.ptp(truth, axis=0).max(axis=-1) <= _STILL_RANGE + 1e-6


def colour_drift(truth: np.ndarray, result: np.ndarray, still: np.ndarray) -> float:
    """How far the mean colour of the `still` pixels `[H,W]` is off: mean over frames and channels.

    Noise averages out and leaves the shift of brightness and hue. NaN if nothing is still.
    """
    if not still.any():
        return float("nan")
    shift = (result[:, still] - truth[:, still]).mean(axis=1, dtype=np.float64)
    return float(np.abs(shift).mean())


# ------------------------------------------------------------------------- scores


def _given_frame_error(truth: Sticker, result: Sticker, known: Sequence[int]) -> float:
    """Largest difference of any premultiplied RGBA value in the given frames; 0 is unchanged."""
    if len(known) == 0:
        return 0.0
    indices = list(known)
    return float(np.abs(truth.premultiplied()[indices] - result.premultiplied()[indices]).max())


def score_hidden(
    truth: Sticker, result: Sticker, known: Sequence[int], lpips: Distance | None = None
) -> dict[str, float]:
    """All `METRICS` of `result` against `truth`, over the frames that are not `known`.

    The motion ratio counts the steps that touch a hidden frame. Colour drift looks at pixels that
    are drawn and still in the truth, and is NaN if there are none.

    Raises:
        ConfigError: the two differ in size or number of frames.
    """
    if truth.frames.shape != result.frames.shape:
        raise ConfigError(
            f"clips of {_shape(result)} and {_shape(truth)} can't be compared; "
            "fit the true clip to the model's canvas and frames first"
        )
    hidden = hidden_frames(truth.num_frames, known)
    true_frames, frames = on_white(truth), on_white(result)
    true_alpha, alpha = truth.premultiplied()[..., 3], result.premultiplied()[..., 3]
    steps = [t for t in range(truth.num_frames - 1) if t in hidden or t + 1 in hidden]
    still = _still_pixels(true_frames)
    drawn = true_alpha.min(axis=0) > 0
    found = {
        "psnr": psnr(true_frames[hidden], frames[hidden]),
        "ssim": ssim(true_frames[hidden], frames[hidden]),
        "line_distance": line_distance(true_frames[hidden], frames[hidden]),
        "alpha_mae": float(np.abs(true_alpha[hidden] - alpha[hidden]).mean()),
        "motion_ratio": motion_ratio(true_frames, frames, steps),
        "colour_drift": colour_drift(true_frames[hidden], frames[hidden], still & drawn),
        "given_error": _given_frame_error(truth, result, known),
    }
    if lpips is not None:
        found["lpips"] = lpips(true_frames[hidden], frames[hidden])
    return found


def _shape(sticker: Sticker) -> str:
    return f"{sticker.num_frames} frames of {sticker.width}×{sticker.height}"
