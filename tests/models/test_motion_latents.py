"""Motion latents: there and back, noise with the spectrum of motion, boxes of what is there."""

from __future__ import annotations

import pytest
import torch
import torch.nn.functional as F

from rdtf.models.motion_latents import (
    GRID,
    LATENT_DIM,
    NUM_PARAMETERS,
    _residual_of_latents,
    affine_of_latents,
    alpha_box,
    backward_flow,
    flow_of_latents,
    latents_of_affine,
    latents_of_residual,
    motion_noise,
    pack,
    unpack,
)


def test_affine_latents_invert():
    parameters = torch.randn(5, 7, NUM_PARAMETERS, dtype=torch.float64) * 0.5
    parameters[0, 0] = 0
    latents = latents_of_affine(parameters)
    assert torch.allclose(affine_of_latents(latents), parameters)
    assert latents[0, 0].abs().max() == 0
    turned = torch.tensor([0, 0, 2 * torch.pi, 0, 0, 0])  # a whole turn is within bounds
    assert torch.allclose(affine_of_latents(latents_of_affine(turned)), turned, atol=1e-4)


def test_residual_latents_invert_and_are_on_one_scale():
    flow = torch.tensor([0, 1e-4, -0.01, 0.1, -1.0], dtype=torch.float64)
    latents = latents_of_residual(flow)
    assert torch.allclose(_residual_of_latents(latents), flow)
    assert latents[0] == 0 and latents[3] / latents[2].abs() < 10
    assert torch.equal(latents.sign(), flow.sign())


@pytest.mark.parametrize("scale", [1e3, 1e30])
def test_anything_drawn_can_be_decoded(scale):
    latents = torch.randn(4, 3, LATENT_DIM) * scale
    affine, residual = unpack(latents)
    assert affine_of_latents(affine).isfinite().all()
    assert _residual_of_latents(residual).isfinite().all()
    assert flow_of_latents(latents, torch.zeros(4, 2)).isfinite().all()


def test_pack_inverts():
    affine, residual = torch.randn(2, 3, 6), torch.randn(2, 3, 2, GRID, GRID)
    packed = pack(affine, residual)
    assert packed.shape == (2, 3, LATENT_DIM)
    for part, back in zip((affine, residual), unpack(packed), strict=True):
        assert torch.equal(part, back)


def test_flow_is_affine_part_and_residual():
    parameters, centre = torch.randn(2, 3, 6) * 0.2, torch.randn(2, 2) * 0.1
    residual = torch.randn(2, 3, 2, 1, 1).expand(-1, -1, -1, GRID, GRID) * 0.05
    latents = pack(latents_of_affine(parameters), latents_of_residual(residual))
    middle = centre[:, None].expand(2, 3, 2)
    for size in ((GRID, GRID), (40, 40)):
        expected = backward_flow(parameters, middle, *size) + residual[..., :1, :1]
        assert torch.allclose(flow_of_latents(latents, centre, size), expected, atol=1e-4)


def test_flow_scale_moves_less():
    latents = pack(latents_of_affine(torch.randn(1, 2, 6) * 0.1), torch.zeros(1, 2, 2, GRID, GRID))
    centre = torch.zeros(1, 2)
    assert flow_of_latents(latents, centre, scale=0.0).abs().max() < 1e-6
    whole, half = (flow_of_latents(latents, centre, scale=s).abs().mean() for s in (1.0, 0.5))
    assert 0.35 < (half / whole).item() < 0.65


# ---------------------------------------------------------------------------------- noise


@pytest.fixture(scope="module")
def noise() -> tuple[torch.Tensor, torch.Tensor]:
    """Noise `[512, 8, D]` and its anchors `[512]`."""
    generator = torch.Generator().manual_seed(0)
    anchor = torch.randint(8, (512,), generator=generator)
    return motion_noise(torch.randn(512, 8, LATENT_DIM, generator=generator), anchor), anchor


def test_noise_has_spread_1(noise):
    affine, residual = unpack(noise[0])
    for part in (affine, residual):
        assert part.mean().abs() < 0.05
        assert part.std(unbiased=False) == pytest.approx(1, abs=0.05)
    # In every frame and for every one of the six parameters.
    assert affine.std((0,)).sub(1).abs().max() < 0.15
    assert residual.std((0, 2, 3, 4)).sub(1).abs().max() < 0.1


def test_noise_is_smooth_in_space(noise):
    _, residual = unpack(noise[0])
    step = residual.diff(dim=-1).square().mean() / 2  # 1 for white noise
    assert step < 0.2
    across = (residual[..., 0] * residual[..., -1]).mean()
    assert across.abs() < 0.5


def test_noise_is_like_its_neighbour_outwards_from_the_anchor(noise):
    drawn, anchor = noise
    affine, residual = unpack(drawn)
    for part, likeness in ((affine, 0.8), (residual, 0.65)):
        neighbours = part[:, 1:] * part[:, :-1]
        crosses = torch.arange(1, 8) == anchor[:, None]  # the pair before the anchor
        inside = neighbours[~crosses].mean()
        assert inside == pytest.approx(likeness, abs=0.06)


def test_noise_after_the_anchor_does_not_depend_on_the_frames_before():
    """So that a clip may be longer at its other end without another draw."""
    white = torch.randn(1, 6, LATENT_DIM)
    other = white.clone()
    other[:, :1] = 0
    anchor = torch.tensor([0])
    assert torch.equal(motion_noise(white, anchor)[:, 0], motion_noise(white[:, :3], anchor)[:, 0])
    assert torch.allclose(motion_noise(white, anchor)[:, :3], motion_noise(white[:, :3], anchor))


# ---------------------------------------------------------------------------------- boxes


def test_box_of_a_rectangle():
    alpha = torch.zeros(1, 20, 40)
    alpha[0, 5:10, 10:30] = 1  # rows −.5 to 0, columns −.5 to .5
    x, y, left, top, right, bottom = alpha_box(alpha)[0].tolist()
    assert (x, y) == pytest.approx((0, -0.25), abs=1e-6)
    edges = (left, right, top, bottom)  # of cell centres
    expected = (-0.5 + 1 / 40, 0.5 - 1 / 40, -0.5 + 1 / 20, 0 - 1 / 20)
    assert edges == pytest.approx(expected)


def test_box_of_a_disc_and_of_one_pixel():
    y, x = torch.meshgrid(*[torch.linspace(-1, 1, 101)] * 2, indexing="ij")
    disc = ((x - 0.3).hypot(y + 0.2) < 0.4).float()
    box = alpha_box(F.avg_pool2d(disc[None], 1))[0]
    expected = torch.tensor([0.3, -0.2, -0.1, -0.6, 0.7, 0.2])
    assert (box - expected).abs().max() < 0.03
    pixel = torch.zeros(1, 8, 8)
    pixel[0, 2, 5] = 1
    assert alpha_box(pixel)[0].tolist() == [0.375, -0.375, 0.375, -0.375, 0.375, -0.375]


def test_box_centre_is_where_the_weight_is():
    alpha = torch.zeros(1, 4, 4)
    alpha[0, :, 0], alpha[0, :, 3] = 1.0, 0.5
    x, y = alpha_box(alpha)[0, :2].tolist()
    assert x == pytest.approx(-0.25) and y == pytest.approx(0)


def test_box_of_nothing_is_the_canvas():
    batch = torch.zeros(2, 6, 6)
    batch[1] = 1
    boxes = alpha_box(batch)
    assert boxes[0].tolist() == [0, 0, -1, -1, 1, 1]
    assert boxes[1, :2].abs().max() < 1e-6 and boxes.isfinite().all()


def test_box_of_something_faint_is_finite():
    faint = torch.full((1, 6, 6), 0.05)  # seen by the centre, below the threshold of edges
    assert alpha_box(faint).isfinite().all()
