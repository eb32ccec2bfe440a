"""Stills in motion: exact, the same as on the training device, nothing from beyond the canvas."""

from __future__ import annotations

import subprocess
import sys

import numpy as np
import pytest
import torch
import torch.nn.functional as F

from rdtf.errors import StickerError
from rdtf.models.motion_latents import alpha_box as alpha_box_in_torch
from rdtf.models.motion_latents import backward_flow, deformation
from rdtf.stickers import Sticker
from rdtf.stickers.canvas import premultiply
from rdtf.synthetic import MotionDraw, animate, motion_parameters
from rdtf.synthetic.animate import alpha_box
from rdtf.synthetic.verbs import TRAINED
from rdtf.training.motion import DEFORMS

from .conftest import blob


def centre(frame: np.ndarray) -> np.ndarray:
    return alpha_box(frame[..., 3] / 255)[:2]


@pytest.mark.parametrize("verb", TRAINED)
def test_the_first_frame_is_the_still_and_the_others_move(still, verb):
    clip = animate(still, MotionDraw((verb,)), 6, 130)
    assert clip.frames.shape == (6, 64, 64, 4) and (clip.durations_ms == 130).all()
    assert np.array_equal(clip.frames[0], still.frames[0])
    moved = premultiply(clip.frames[1:]) - premultiply(still.frames)
    assert np.abs(moved).mean(axis=(1, 2, 3)).max() > 0.002


def in_torch(still: Sticker, draw: MotionDraw, count: int, step_ms: float, seed: float):
    """The frames as training sees them, premultiplied `[F, H, W, 4]`."""
    picture = torch.from_numpy(premultiply(still.frames[0])).double().movedim(-1, 0)
    height, width = picture.shape[1:]
    box = alpha_box_in_torch(picture[3:])
    affine, strength = motion_parameters(
        draw, np.arange(count) * step_ms, count * step_ms, box[0].numpy()
    )
    affine, strength = torch.from_numpy(affine)[None], torch.from_numpy(strength)[None]
    middle = box[:, None, :2].expand(1, count, 2)
    ys = (torch.arange(height, dtype=torch.float64) + 0.5) * 2 / height - 1
    here = torch.stack([ys.expand(height, width), ys[:, None].expand(height, width)])
    places = backward_flow(affine, middle, height, width) + here
    kind = torch.tensor([DEFORMS.index(draw.deform)])
    places = places + deformation(places, kind, strength, torch.tensor([seed]), box)
    frames = F.grid_sample(
        picture.expand(count, -1, -1, -1), places[0].permute(0, 2, 3, 1), align_corners=False
    )
    return frames.movedim(1, -1).numpy(), affine[0].numpy()


@pytest.mark.parametrize("verb", TRAINED)
def test_it_moves_as_training_says(still, verb):
    draw = MotionDraw((verb,), amount_factor=1.2, side=-1)
    expected, affine = in_torch(still, draw, 6, 130, 0.3)
    frames = premultiply(animate(still, draw, 6, 130, deform_seed=0.3).frames)
    averaged = np.minimum(affine[:, 3], affine[:, 4]) < -0.3  # several samples a pixel
    difference = np.abs(frames - expected)
    assert difference[~averaged].max() < 2.5 / 255  # 8 bits of colour and of alpha
    assert difference.mean() < 0.004 and np.abs(centre(still.frames[0])).max() < 0.2
    for frame, truth in zip(frames, expected, strict=True):
        if truth[..., 3].sum() > 20:
            assert np.abs(alpha_box(frame[..., 3]) - alpha_box(truth[..., 3]))[:2].max() < 0.01


def test_boxes_agree_with_training(still):
    for sticker in (still, Sticker(np.zeros((1, 32, 32, 4), np.uint8), np.array([100]))):
        alpha = sticker.frames[..., 3] / 255
        expected = alpha_box_in_torch(torch.from_numpy(alpha))[0].numpy()
        assert np.allclose(alpha_box(alpha[0]), expected, atol=1e-6)


def test_things_go_where_the_verb_says(still):
    right = animate(still, MotionDraw(("slide right",), amount_factor=0.5), 5, 200)
    xs = [centre(frame)[0] for frame in right.frames]
    assert np.all(np.diff(xs) > 0)
    affine, _ = motion_parameters(
        MotionDraw(("slide right",), amount_factor=0.5), np.array([800.0]), 1000, np.zeros(6)
    )
    assert xs[-1] - xs[0] == pytest.approx(affine[0, 0], abs=0.002)
    small = animate(still, MotionDraw(("shrink",)), 5, 300)
    masses = small.frames[..., 3].sum((1, 2), dtype=np.float64)
    last, _ = motion_parameters(MotionDraw(("shrink",)), np.array([1200.0]), 1500, np.zeros(6))
    assert masses[-1] / masses[0] == pytest.approx(np.exp(last[0, 3] + last[0, 4]), rel=0.02)


def test_nothing_comes_in_from_beyond_the_canvas():
    full = Sticker(np.full((1, 32, 32, 4), 255, np.uint8), np.array([100]))
    clip = animate(full, MotionDraw(("slide right",)), 4, 250)
    assert clip.frames[-1, :, 0, 3].max() == 0 and clip.frames[-1, :, -1, 3].min() == 255
    gone = animate(full, MotionDraw(("fall",), amount_factor=1.7), 8, 200)
    assert gone.frames[-1, ..., 3].max() == 0


def test_no_colour_bleeds_out_of_transparent_pixels():
    frame = np.zeros((1, 32, 32, 4), np.uint8)
    frame[..., :3] = (255, 0, 255)  # what is transparent has a colour that must not be seen
    frame[0, 8:24, 8:24] = (0, 128, 0, 255)
    clip = animate(Sticker(frame, np.array([100])), MotionDraw(("spin",)), 7, 100)
    seen = clip.frames[1:][clip.frames[1:, ..., 3] > 0]
    assert seen[:, 0].max() <= 1 and seen[:, 2].max() <= 1


def test_what_becomes_small_is_averaged():
    """Fine stripes become grey, not other stripes."""
    stripes = np.full((1, 64, 64, 4), 255, np.uint8)
    stripes[0, :, ::2, :3] = 0
    clip = animate(Sticker(stripes, np.array([100])), MotionDraw(("vanish",)), 8, 150)
    inner = clip.frames[4][clip.frames[4, ..., 3] == 255][:, 0]
    assert len(inner) > 20 and inner.std() < 40


@pytest.mark.parametrize("size", [(40, 64), (64, 40), (1, 1), (3, 50)])
def test_stills_of_any_shape_move_as_on_the_square_around_them(size):
    height, width = size
    still = blob(height, width)
    draw = MotionDraw(("spin",))
    clip = animate(still, draw, 5, 200)
    assert clip.frames.shape == (5, height, width, 4)
    side = max(size)
    square = animate(still.fit_canvas(side), draw, 5, 200)
    top, left = (side - height) // 2, (side - width) // 2
    part = square.frames[:, top : top + height, left : left + width]
    if (side - height) % 2 == 0 and (side - width) % 2 == 0:
        assert np.abs(premultiply(part) - premultiply(clip.frames)).max() < 2.5 / 255


def test_other_fields_stay():
    still = blob(name="a ball").replace(license="CC0-1.0")
    clip = animate(still, MotionDraw(("jump",)), 3, 90)
    assert clip.captions == ("a ball",) and clip.license == "CC0-1.0"


def test_only_stills_are_animated(still):
    clip = animate(still, MotionDraw(("jump",)), 3, 90)
    with pytest.raises(StickerError, match="has 3 frames"):
        animate(clip, MotionDraw(("jump",)), 3, 90)
    with pytest.raises(StickerError, match="0 frames"):
        animate(still, MotionDraw(("jump",)), 0, 90)


def test_the_grammar_needs_no_torch():
    code = "import sys, rdtf.synthetic, rdtf.data.animated; assert 'torch' not in sys.modules"
    subprocess.run([sys.executable, "-c", code], check=True)
