from __future__ import annotations

from functools import partial
from unittest.mock import patch

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import nn

from rdtf.models import conditions
from rdtf.models.dfgn import DFGN

from .networks import TEXT_WIDTH, Clip, random_clip, stacked, tiny_dfgn, unused_parameters

VARIANTS = {
    "composed": {},
    "refined": {"patch": 4, "refine_widths": (8,)},
    "plain": {"compose": False},
    "conv3d": {"temporal_layer": "conv3d"},
    "velocity": {"compose": False, "prediction": "v"},
    "like the paper": {
        "compose": False,
        "prediction": "eps",
        "extra_up_stage": True,
        "layers_per_level": 2,
        "attention_levels": (0, 1),
    },
}
every_variant = pytest.mark.parametrize("variant", VARIANTS)


@pytest.fixture(scope="module")
def networks() -> dict[str, DFGN]:
    return {name: tiny_dfgn(**changes) for name, changes in VARIANTS.items()}


masks = st.lists(st.booleans(), min_size=1, max_size=5)


# ------------------------------------------------------------------ the dual mask


@every_variant
@pytest.mark.parametrize("content", [3.0, 1e30, float("nan"), float("inf")])
def test_content_of_padded_slots_changes_nothing(networks, variant, content):
    clip = random_clip([True, False, False])
    expected = clip.padded(2).through(networks[variant])[:, :, :3]
    actual = clip.padded(2, content).through(networks[variant])[:, :, :3]
    torch.testing.assert_close(actual, expected, rtol=0, atol=0)


@settings(max_examples=25)
@given(
    variant=st.sampled_from(sorted(VARIANTS)),
    mask=masks,
    slots=st.integers(1, 3),
    seed=st.integers(0, 999),
)
def test_clip_alone_equals_the_clip_padded(networks, variant, mask, slots, seed):
    clip = random_clip(mask, seed=seed)
    alone = clip.through(networks[variant])
    padded = clip.padded(slots, 7.0).through(networks[variant])[:, :, : len(mask)]
    # Only rounding differs; where noise is warped, a little of it goes a long way.
    torch.testing.assert_close(padded, alone, rtol=1e-4, atol=1e-4)


@every_variant
def test_padding_in_the_middle_of_a_batch_row_is_not_given(networks, variant):
    """A condition mask that marks a slot outside the clip is cut by the validity."""
    clip = random_clip([True, False, False]).padded(1, 5.0)
    marked = clip.replace(given=torch.tensor([[True, False, False, True]]))
    torch.testing.assert_close(
        marked.through(networks[variant])[:, :, :3], clip.through(networks[variant])[:, :, :3]
    )


@every_variant
@pytest.mark.parametrize("mask", [[False] * 3, [False, True, False], [True, False, True]])
def test_clean_latents_of_hidden_frames_are_never_read(networks, variant, mask):
    """In training they are the answer."""
    clip = random_clip(mask)
    hidden = ~clip.given[:, None, :, None, None]
    blind = clip.replace(clean=clip.clean.masked_fill(hidden, torch.nan))
    torch.testing.assert_close(
        blind.through(networks[variant]), clip.through(networks[variant]), rtol=0, atol=0
    )


@every_variant
def test_given_frame_of_zeros_is_not_a_hidden_frame(networks, variant):
    clip = random_clip([True, False, False])
    zeros = clip.replace(clean=torch.zeros_like(clip.clean))
    hidden = zeros.replace(given=torch.zeros_like(clip.given))
    change = zeros.through(networks[variant]) - hidden.through(networks[variant])
    assert change.abs().max() > 1e-3


@settings(max_examples=10)
@given(
    variant=st.sampled_from(sorted(VARIANTS)),
    first=masks,
    second=masks,
    seed=st.integers(0, 999),
)
def test_batch_of_clips_equals_each_alone(networks, variant, first, second, seed):
    """Lengths, tasks, noise levels and captions differ within a batch."""
    frames = max(len(first), len(second))
    one, two = random_clip(first, seed=seed), random_clip(second, seed=seed + 1)
    two = two.replace(text_mask=[torch.tensor([[True, False, False]])])
    both = stacked(one.padded(frames - len(first)), two.padded(frames - len(second)))
    together = both.through(networks[variant])
    two = two.replace(text=[two.text[0][:, :1]], text_mask=[two.text_mask[0][:, :1]])
    for row, (clip, mask) in enumerate([(one, first), (two, second)]):
        alone = clip.through(networks[variant])[0]
        torch.testing.assert_close(together[row, :, : len(mask)], alone, rtol=1e-4, atol=1e-4)


# ------------------------------------------------------------------ what it is told


@every_variant
@pytest.mark.parametrize(
    "change",
    [
        {"t": torch.tensor([0.9])},
        {"mean_duration_ms": torch.tensor([500.0])},
        {"text": [torch.ones(1, 3, TEXT_WIDTH)]},
        {"text_mask": [torch.tensor([[True, False, False]])]},
        {"text": [], "text_mask": []},
    ],
    ids=["level", "duration", "text", "text mask", "no text"],
)
def test_every_condition_matters(networks, variant, change):
    clip = random_clip([True, False, False]).replace(t=torch.tensor([0.5]))
    difference = clip.replace(**change).through(networks[variant]) - clip.through(networks[variant])
    assert difference.abs().max() > 1e-4


@pytest.mark.parametrize("variant", ["velocity", "like the paper"])
def test_noise_is_seen_where_it_is_asked_for(networks, variant):
    """At the highest level as well: it is most of what v and eps are."""
    clip = random_clip([True, False, False]).replace(t=torch.ones(1))
    other = clip.replace(noisy=-clip.noisy)
    difference = other.through(networks[variant]) - clip.through(networks[variant])
    assert difference.std() > 0.1


def test_masked_text_is_no_text(networks):
    clip = random_clip([True, False])
    nothing = clip.replace(text_mask=[torch.zeros(1, 3, dtype=torch.bool)])
    absent = clip.replace(text=[], text_mask=[])
    torch.testing.assert_close(
        nothing.through(networks["plain"]), absent.through(networks["plain"])
    )


def test_missing_duration_is_a_tenth_of_a_second(networks):
    clip = random_clip([True, False])
    absent = clip.replace(mean_duration_ms=None).through(networks["plain"])
    tenth = clip.replace(mean_duration_ms=torch.tensor([100.0])).through(networks["plain"])
    torch.testing.assert_close(absent, tenth)


def test_two_text_encoders_are_both_heard():
    network = tiny_dfgn(text_widths=(TEXT_WIDTH, 6))
    clip = random_clip([True, False])
    states, masks = torch.ones(1, 2, 6), torch.ones(1, 2, dtype=torch.bool)
    both = clip.replace(text=[*clip.text, states], text_mask=[*clip.text_mask, masks])
    out = both.through(network)
    for index in range(2):
        louder = [state * (1 + (index == place)) for place, state in enumerate(both.text)]
        assert (both.replace(text=louder).through(network) - out).abs().max() > 1e-4


# ------------------------------------------------------------------ shapes and start


@every_variant
@pytest.mark.parametrize(("frames", "size"), [(1, (1, 1)), (1, (4, 4)), (3, (5, 7)), (9, (2, 3))])
def test_any_number_of_frames_and_any_grid(networks, variant, frames, size):
    clip = random_clip([False] * frames, size=size)
    out = clip.through(networks[variant])
    assert out.shape == clip.noisy.shape and out.isfinite().all()


@pytest.mark.parametrize("prediction", ["x", "v", "eps"])
def test_generation_starts_at_zero(prediction):
    network = DFGN(channels=(16, 32), compose=False, prediction=prediction, text_widths=(24,))
    assert not random_clip([True, False], channels=64).through(network).any()


with_and_without_stages = pytest.mark.parametrize("widths", [(), (8,)])


def flat_frames(clip: Clip) -> Clip:
    """Every frame of one colour, so that nothing moves."""
    colours = clip.clean[:, :, :, :1, :1]
    return clip.replace(clean=colours.expand_as(clip.clean).contiguous())


@with_and_without_stages
def test_composing_starts_between_the_given_frames(widths):
    network = DFGN(channels=(16, 32), text_widths=(24,), refine_widths=widths)
    # One colour for all pixels of a patch as well.
    clip = random_clip([True, False, True, False], channels=64)
    colours = clip.clean[:, ::16].repeat_interleave(16, dim=1)
    clip = flat_frames(clip.replace(clean=colours))
    out, clean = clip.through(network)[0], clip.clean[0]
    between, after = (clean[:, 0] + clean[:, 2]) / 2, 0.75 * clean[:, 2] + 0.25 * clean[:, 0]
    for frame, blend in ((1, between), (3, after)):
        torch.testing.assert_close(out[:, frame], blend, rtol=1e-4, atol=1e-4)


def gliding_clip(given: list[bool], size: int = 16, fold: int = 4) -> Clip:
    """A smooth picture that moves two pixels right per frame, on a grid of `size` cells."""
    side, frames = size * fold, len(given)
    noise = torch.randn(1, 4, 12, 12, generator=torch.Generator().manual_seed(3))
    wide = nn.functional.interpolate(noise, size=(side + 16,) * 2, mode="bicubic").tanh()
    views = [wide[..., 8 : side + 8, 16 - 2 * k : 16 - 2 * k + side] for k in range(frames)]
    clean = torch.stack([nn.functional.pixel_unshuffle(view, fold) for view in views], dim=2)
    clip = random_clip(given, channels=clean.shape[1], size=(size, size))
    return clip.replace(clean=clean)


@with_and_without_stages
def test_composing_starts_with_what_moved_in_between(widths):
    network = DFGN(channels=(16, 32), text_widths=(24,), refine_widths=widths)
    clip = gliding_clip([True, False, False, False, True])
    hidden = clip.replace(clean=clip.clean * clip.given[:, None, :, None, None])
    out, inside = hidden.through(network), slice(4, -4)
    blend = torch.lerp(clip.clean[:, :, :1], clip.clean[:, :, 4:], 0.5)[:, :, 0]

    def error(frame: torch.Tensor) -> float:
        difference = frame - clip.clean[:, :, 2]
        return difference[..., inside, inside].square().mean().item()

    assert error(out[:, :, 2]) < 0.1 * error(blend)


@with_and_without_stages
def test_beyond_the_given_frames_it_starts_with_what_is_there(widths):
    """How things go on is for the network to say."""
    network = DFGN(channels=(16, 32), text_widths=(24,), refine_widths=widths)
    clip = gliding_clip([True, True, False])
    out, clean = clip.through(network), clip.clean
    blend = clean[:, :, 1] * 2 / 3 + clean[:, :, 0] / 3
    torch.testing.assert_close(out[:, :, 2], blend, rtol=1e-4, atol=1e-4)


# ------------------------------------------------------------------ which frames are made


@pytest.mark.parametrize("variant", ["composed", "refined"])
def test_given_frames_come_back_as_they_are(networks, variant):
    """Where hidden frames alone are made; with all given there is none to make."""
    for mask in ([True, False, True], [True, True, True]):
        clip = random_clip(mask)
        out = clip.through(networks[variant])
        assert torch.equal(out[:, :, mask], clip.clean[:, :, mask])


@every_variant
def test_all_frames_given(networks, variant):
    clip = random_clip([True, True]).padded(1)
    assert clip.through(networks[variant])[:, :, :2].isfinite().all()


@settings(max_examples=15)
@given(variant=st.sampled_from(["composed", "refined"]), mask=masks, slots=st.integers(0, 2))
def test_making_all_frames_gives_the_same_hidden_ones(networks, variant, mask, slots):
    """As on a GPU, where nobody looks at a mask."""
    clip = random_clip(mask).padded(slots)
    some = clip.through(networks[variant])
    blind = partial(patch.object, attribute="_has_values", return_value=False)
    with blind(conditions):
        every = clip.through(networks[variant])
    hidden = clip.valid[0] & ~clip.given[0]
    torch.testing.assert_close(every[:, :, hidden], some[:, :, hidden], rtol=1e-4, atol=1e-4)


def test_composing_needs_x_prediction():
    with pytest.raises(ValueError, match="compose"):
        DFGN(prediction="v", compose=True)


def test_saved_network_is_the_same(tmp_path, networks):
    networks["composed"].save_pretrained(tmp_path)
    loaded = DFGN.from_pretrained(tmp_path)
    clip = random_clip([True, False])
    expected = clip.through(networks["composed"])
    torch.testing.assert_close(clip.through(loaded), expected, rtol=0, atol=0)


# ------------------------------------------------------------------ gradients


def gradients(network: DFGN) -> dict[str, torch.Tensor]:
    network.zero_grad()
    clip = random_clip([True, False, False]).padded(1)
    clip.run(network)[:, :, :3].square().mean().backward()
    return {
        name: parameter.grad.clone()
        for name, parameter in network.named_parameters()
        if parameter.grad is not None
    }


@every_variant
def test_gradient_reaches_every_parameter(variant):
    """One that it never reaches would stop distributed training."""
    network = tiny_dfgn(**VARIANTS[variant]).train()
    gradients(network)
    assert unused_parameters(network) == []
