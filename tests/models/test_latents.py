"""Motion latents: what they say, where they are, and what a network does with them."""

from dataclasses import replace

import pytest
import torch
import torch.nn.functional as F
from hypothesis import given as examples
from hypothesis import strategies as st

from rdtf.method.dual_mask import extrapolated_frames
from rdtf.models.conditions import Conditions
from rdtf.models.dfgn import DFGN
from rdtf.models.latents import (
    MOTION_CHANNELS,
    LatentSpace,
    _clip_motion,
    _motion_of_flow,
    flow_of_motion,
)
from rdtf.models.matching import warp
from rdtf.models.representation import PixelPatches

PATCH, GRID, FRAMES = 4, 8, 5
CHANNELS = 4 * PATCH**2


def tiny(motion="alone", **changes):
    torch.manual_seed(0)
    sizes = {"channels": (16, 32), "attention_levels": (1,), "text_widths": (8,), "text_dim": 16}
    return DFGN(
        latent_channels=CHANNELS,
        attention_head_dim=8,
        embedding_dim=16,
        sti_heads=2,
        sti_head_dim=8,
        refine_widths=(8,),
        patch=PATCH,
        latent_size=GRID,
        motion=motion,
        **{**sizes, **changes},
    ).eval()


def picture(shift_x=0):
    """A square on a clear canvas, `[4, 32, 32]`."""
    canvas = torch.full((4, 32, 32), -1.0)
    canvas[:, 10:20, 6 + shift_x : 16 + shift_x] = 1.0
    return canvas


def sliding_clip(step=2):
    """A square that goes right by `step` pixels a frame, latents `[1, C, F, h, w]`."""
    frames = torch.stack([picture(step * index) for index in range(FRAMES)])
    return F.pixel_unshuffle(frames, PATCH).transpose(0, 1)[None]


def mask(*given, frames=FRAMES):
    return torch.tensor([[index in given for index in range(frames)]])


def told(given, **changes):
    conditions = Conditions(
        clean=sliding_clip(),
        given=given,
        valid=torch.ones_like(given),
        text=[torch.ones(1, 2, 8)],
        text_mask=[torch.ones(1, 2, dtype=torch.bool)],
    )
    return replace(conditions, **changes)


def call(model, noisy, given, t=0.8, motion_only=False, **changes):
    conditions = told(given, **changes)
    with torch.no_grad():
        return model(noisy, torch.tensor([t]), conditions, motion_only=motion_only)


@examples(st.lists(st.floats(-2, 2), min_size=1, max_size=8))
def test_motion_and_flow_are_two_names_of_one_thing(values):
    flow = torch.tensor(values, dtype=torch.float64)
    torch.testing.assert_close(flow_of_motion(_motion_of_flow(flow)), flow)


def test_motion_from_a_network_gone_wild_stays_a_flow():
    assert flow_of_motion(torch.tensor([1e9, -1e9])).abs().max() < 4


@examples(st.lists(st.booleans(), min_size=1, max_size=9))
def test_extrapolated_is_where_given_frames_are_on_one_side_only(given):
    found = extrapolated_frames(torch.tensor([given]))[0].tolist()
    expected = [
        not known and (any(given[:index]) != any(given[index:]))
        for index, known in enumerate(given)
    ]
    assert found == expected


def test_true_motion_leads_back_to_where_things_came_from():
    clean, given = sliding_clip(), mask(0)
    motion = _clip_motion(clean, given, torch.ones_like(given), PATCH)
    assert motion.shape == (1, MOTION_CHANNELS, FRAMES, GRID, GRID)
    references = F.pixel_shuffle(clean.transpose(1, 2)[0], PATCH)
    moved = warp(
        references[:1].expand(FRAMES, -1, -1, -1), flow_of_motion(motion.transpose(1, 2)[0])
    )
    left = (moved - references).square().mean((1, 2, 3))
    standing = (references[:1] - references).square().mean((1, 2, 3))
    assert (left[1:] < standing[1:] / 4).all()


@pytest.mark.parametrize("known", [(0,), (2,), (0, 4), (0, 2), ()])
def test_motion_is_zero_wherever_pixels_say_it_all(known):
    given = mask(*known)
    valid = torch.ones_like(given)
    valid[:, -1] = False
    motion = _clip_motion(sliding_clip(), given & valid, valid, PATCH)
    moving = motion.abs().amax((1, 3, 4)) > 0
    assert torch.equal(moving, extrapolated_frames(given & valid) & valid)


def test_what_stands_still_has_no_motion():
    clean = sliding_clip(step=0)
    given = mask(0)
    motion = _clip_motion(clean, given, torch.ones_like(given), PATCH)
    assert flow_of_motion(motion).abs().max() < 0.005  # a third of a pixel of 128


def test_a_young_network_moves_the_given_frame_by_its_best_linear_guess():
    """Nothing is learned: noise is taken for motion as far as its level allows, at 1 not at all."""
    model, given = tiny(), mask(0)
    noisy = torch.randn(1, model.state_channels, FRAMES, GRID, GRID)
    at_noise = call(model, noisy, given, t=1.0)
    assert at_noise[:, CHANNELS:].abs().max() == 0
    first = sliding_clip()[:, :, :1].expand(-1, -1, FRAMES, -1, -1)
    assert (at_noise[:, :CHANNELS] - first).abs().max() < 0.05
    later = call(model, noisy, given, t=0.2)
    assert later[:, CHANNELS:, 1:].abs().mean() > 0.5
    assert (later[:, :CHANNELS] - first).abs().max() > 0.5


def test_motion_decides_what_is_seen_in_extrapolated_frames():
    given, noise = mask(0), torch.randn(1, CHANNELS + MOTION_CHANNELS, FRAMES, GRID, GRID)
    other = noise.clone()
    other[:, :CHANNELS] = torch.randn(1, CHANNELS, FRAMES, GRID, GRID)
    assert torch.equal(call(tiny("alone"), noise, given), call(tiny("alone"), other, given))


def test_motion_diffused_together_with_pixels_is_refused():
    with pytest.raises(ValueError, match="motion='joint' is not supported"):
        tiny("joint")


@pytest.mark.parametrize("known", [(0, 4), ()])
def test_motion_noise_is_not_seen_where_motion_is_not_asked_for(known):
    model, given = scrambled(tiny()), mask(*known)
    noise = torch.randn(1, model.state_channels, FRAMES, GRID, GRID)
    other = noise.clone()
    other[:, CHANNELS:] = 7.0
    out = call(model, noise, given)
    assert torch.equal(out, call(model, other, given))
    assert out[:, CHANNELS:].abs().max() == 0


def test_composition_and_forward_are_the_same_frames():
    model, given = scrambled(tiny()), mask(0)
    noisy = torch.randn(1, model.state_channels, FRAMES, GRID, GRID)
    frames = call(model, noisy, given)[:, :CHANNELS].transpose(1, 2)[0]
    with torch.no_grad():
        composition, references = model.composition(noisy, torch.tensor([0.8]), told(given))
    pixels = F.pixel_shuffle(sliding_clip().transpose(1, 2)[0], PATCH)
    composed = F.pixel_unshuffle(composition.apply(pixels[references]), PATCH)
    torch.testing.assert_close(composed[1:], frames[1:])


def test_latents_without_motion_are_refused():
    noisy = torch.randn(1, CHANNELS, FRAMES, GRID, GRID)
    with pytest.raises(ValueError, match="64 channels, this model takes 66"):
        call(tiny(), noisy, mask(0))


def test_without_a_composer_nothing_moves():
    assert tiny(compose=False).state_channels == CHANNELS


def scrambled(model):
    """Weights as if it had learned something."""
    with torch.no_grad():
        for parameter in model.parameters():
            parameter.add_(0.05 * torch.randn(parameter.shape))
    return model


def test_the_latent_space_of_pixels_and_motion():
    """Known frames in, out again; noise of both; errors where there is something to make."""
    space, patches = LatentSpace.of(tiny()), PixelPatches(PATCH)
    pixels, known = torch.stack([picture(2 * index) for index in range(FRAMES)]), mask(0, 1)[0]
    latents, given = space.encode(patches, pixels, known)
    assert latents.shape == (1, CHANNELS + MOTION_CHANNELS, FRAMES, GRID, GRID)
    torch.testing.assert_close(space.decode(patches, latents)[known], pixels[known])
    assert not latents[:, :, ~known].any()

    noise = space.start_noise(latents, given, torch.Generator().manual_seed(0))
    again = space.start_noise(latents, given, torch.Generator().manual_seed(0))
    assert noise.shape == latents.shape and torch.equal(noise, again)

    conditions = told(given, clean=sliding_clip())
    target = space.clean(conditions)
    assert target[:, CHANNELS:, ~known].any() and not target[:, CHANNELS:, known].any()
    spoiled = torch.where(given[:, None, :, None, None], torch.nan, target)
    weight = torch.ones(1)
    for learn in ("all", "motion"):
        weighted, errors, counts = space.errors(spoiled, target, conditions, weight, learn=learn)
        channels = CHANNELS if learn == "all" else MOTION_CHANNELS
        assert (weighted, errors) == (0, 0) and counts == channels * 3 * GRID**2
    floored = space.errors(
        target + 1, target, conditions, weight, relative_loss_floor=0.02, given_frame_weight=0.5
    )
    assert floored[0] > floored[1] > 0  # little moves, so what is wrong counts for more
