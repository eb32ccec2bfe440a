from __future__ import annotations

import math
from typing import Any

import pytest
import torch
import torch.nn.functional as F
from hypothesis import given
from hypothesis import strategies as st
from torch import Tensor

from rdtf.method.dual_mask import gather_references, reference_frames
from rdtf.models.conditions import ReferenceFeatures
from rdtf.models.warp import TRANSPARENT, Composition, WarpDecoder

from .networks import perturb, unused_parameters

CHANNELS, LATENT_CHANNELS, PATCH, SIZE = 16, 8, 2, 8
INF = math.inf
GENERATED_SHARE = math.exp(-5) / (1 + math.exp(-5))
# Patch and widths of decoders without stages, with one and with two.
SHAPES = {"plain": (2, ()), "one stage": (4, (6,)), "two stages": (8, (6, 5)), "wide": (8, (6,))}
every_shape = pytest.mark.parametrize(("patch", "widths"), SHAPES.values(), ids=SHAPES)


def brute_force(given_frames: list[int], frame: int) -> list[tuple[int, int]]:
    """(reference, distance) of both references, straight from what the docstring promises."""
    before = [index for index in given_frames if index <= frame]
    after = [index for index in given_frames if index > frame]
    if before and after:
        chosen = [max(before), min(after)]
    else:
        nearest = sorted(given_frames, key=lambda index: abs(index - frame))
        chosen = (nearest * 2)[:2] if len(nearest) == 1 else nearest[:2]
    return [(index, abs(index - frame)) for index in chosen]


@given(mask=st.lists(st.booleans(), min_size=1, max_size=12).filter(any))
def test_references_are_the_nearest_given_frames(mask):
    indices, distances = reference_frames(torch.tensor([mask]))
    given_frames = [index for index, is_given in enumerate(mask) if is_given]
    for frame in range(len(mask)):
        expected = brute_force(given_frames, frame)
        found = zip(indices[0, frame].tolist(), distances[0, frame].tolist(), strict=True)
        assert list(found) == expected


@given(frames=st.integers(1, 8))
def test_nothing_given_is_infinitely_far(frames):
    indices, distances = reference_frames(torch.zeros(2, frames, dtype=torch.bool))
    assert distances.isinf().all()
    assert ((indices >= 0) & (indices < frames)).all()


def test_gathered_references():
    clean = torch.arange(2 * 3.0).view(2, 1, 3, 1, 1).expand(2, 4, 3, 2, 2)
    indices = torch.tensor([[[0, 2], [1, 1], [2, 0]], [[2, 2], [0, 1], [1, 0]]])
    gathered = gather_references(clean, indices)
    assert gathered.shape == (2, 3, 2, 4, 2, 2)
    torch.testing.assert_close(
        gathered[..., 0, 0, 0], indices + torch.tensor([0.0, 3.0])[:, None, None]
    )


# ------------------------------------------------------------------ composing


class Scene:
    """One frame of 8 pixels a side to compose, with what the decoder is given.

    base: flow as matched, (x, y) in pixels, for each reference.
    """

    def __init__(
        self,
        distances: list[float],
        patch: int = PATCH,
        channels: int = LATENT_CHANNELS,
        base: list[list[float]] | None = None,
        interpolated: bool = False,
        motion_scale: float = 1.0,
    ) -> None:
        generator = torch.Generator().manual_seed(0)
        grid = (SIZE // patch, SIZE // patch)
        self.patch = patch
        self.features = torch.randn(1, CHANNELS, *grid, generator=generator)
        self.references = torch.randn(1, 2, channels, *grid, generator=generator)
        self.noisy = torch.randn(1, channels, *grid, generator=generator)
        self.distances = torch.tensor([distances])
        self.interpolated = torch.tensor([interpolated])
        self.motion_scale = torch.tensor([motion_scale])
        flow = torch.tensor(base or [[0.0, 0.0]] * 2) * 2 / SIZE
        self.base = flow[None, :, :, None, None].expand(-1, -1, -1, *grid)

    def inputs(self) -> tuple[Tensor, ReferenceFeatures, Tensor]:
        none = torch.zeros(1)  # what the decoder does not read
        found = ReferenceFeatures(
            self.references, self.distances, self.base, none, self.interpolated, none,
            self.motion_scale,
        )  # fmt: skip
        return self.features, found, self.noisy

    @torch.no_grad()
    def composed(self, decoder: WarpDecoder) -> Tensor:
        return decoder(*self.inputs())[0]

    def pixels(self) -> Tensor:
        """Both references unfolded, `[2, c, 8, 8]`."""
        return F.pixel_shuffle(self.references[0], self.patch)


def decoder(
    patch: int = PATCH,
    widths: tuple[int, ...] = (),
    channels: int = LATENT_CHANNELS,
    **biases: Tensor,
) -> WarpDecoder:
    """An untrained decoder, with these values in the biases of what it ends with.

    Keys are flow (in half cells of the finest grid), mask and generate.
    """
    network = WarpDecoder(CHANNELS, channels, patch, widths)
    stages: Any = network.stages
    last = stages[-1].conv_out if widths else network.head
    sizes = [4, 3 * network.cell**2, network.pixel_channels * network.cell**2]
    with torch.no_grad():
        parts = last.bias[: sum(sizes)].split(sizes)
        for name, part in zip(("flow", "mask", "generate"), parts, strict=True):
            part.copy_(biases.get(name, torch.zeros(())))
    return network


def shares(first: float, second: float, generated: float, cell: int = PATCH) -> Tensor:
    """Logits for the mask that add to the starting ones."""
    return torch.tensor([first, second, generated]).repeat_interleave(cell**2)


REFERENCES_ONLY = shares(0, 0, -1e4)


@every_shape
@pytest.mark.parametrize(
    ("distances", "weights"),
    [([1, 1], (0.5, 0.5)), ([1, 3], (0.75, 0.25)), ([4, 1], (0.2, 0.8)), ([2, 2], (0.5, 0.5))],
)
def test_starts_as_the_blend_by_distance_in_time(distances, weights, patch, widths):
    scene = Scene(distances, patch, patch**2)
    blend = weights[0] * scene.references[0, 0] + weights[1] * scene.references[0, 1]
    start = scene.composed(decoder(patch, widths, patch**2))
    torch.testing.assert_close(start, blend, rtol=1e-4, atol=1e-5)


def test_what_is_generated_has_its_small_share_from_the_first_step():
    scene, generated = Scene([1, 3]), torch.linspace(-1, 1, LATENT_CHANNELS)
    added = scene.composed(decoder(generate=generated)) - scene.composed(decoder())
    expected = (GENERATED_SHARE * generated)[:, None, None].expand_as(added)
    torch.testing.assert_close(added, expected, rtol=1e-3, atol=1e-5)


@every_shape
def test_starts_with_references_moved_as_matched(patch, widths):
    """The first one pixel to the right, seen from the new frame, the second two up."""
    scene = Scene([1, 1], patch, patch**2, base=[[1.0, 0.0], [0.0, -2.0]])
    start = F.pixel_shuffle(scene.composed(decoder(patch, widths, patch**2)), patch)
    first, second = scene.pixels()
    blend = (torch.roll(first, -1, 2) + torch.roll(second, 2, 1)) / 2
    torch.testing.assert_close(start[:, 2:, :-1], blend[:, 2:, :-1], rtol=1e-4, atol=1e-4)


@every_shape
def test_identity_flow_leaves_references_untouched(patch, widths):
    scene = Scene([1, 1], patch, patch**2)
    scene.references[:, 1] = scene.references[:, 0]
    composed = scene.composed(decoder(patch, widths, patch**2))
    torch.testing.assert_close(composed, scene.references[0, 0], rtol=1e-5, atol=1e-5)


def test_nothing_given_leaves_only_the_generated_part():
    """Whatever the mask and the flow say."""
    scene, generated = Scene([INF, INF]), torch.linspace(-1, 1, LATENT_CHANNELS)
    scene.references.zero_()
    only = generated[:, None, None].expand(-1, SIZE // PATCH, SIZE // PATCH)
    torch.testing.assert_close(scene.composed(decoder(generate=generated)), only)
    insisting = decoder(generate=generated, mask=shares(50.0, 50.0, -50.0), flow=torch.ones(4))
    torch.testing.assert_close(scene.composed(insisting), only)


@pytest.mark.parametrize(("patch", "widths"), [(4, (6,)), (8, (6, 5))])
def test_nothing_given_leaves_only_what_the_stages_add(patch, widths):
    scene = Scene([INF, INF], patch, patch**2)
    scene.references.zero_()
    insisting = decoder(
        patch, widths, patch**2, generate=torch.tensor(0.3), mask=shares(50.0, 50.0, -50.0)
    )
    only = torch.full_like(scene.noisy[0], 0.3)
    torch.testing.assert_close(scene.composed(insisting), only)


@pytest.mark.parametrize(("patch", "widths"), [(2, ()), (4, (6,)), (8, (6, 5))])
@pytest.mark.parametrize(
    ("bias", "shift"),
    [((1.0, 0.0), (0, 1)), ((-2.0, 0.0), (0, -2)), ((0.0, 1.0), (1, 0)), ((0.0, -3.0), (-3, 0))],
)
def test_flow_says_where_each_pixel_comes_from(bias, shift, patch, widths):
    """(x, y) in half cells of the finest grid, one pixel here, seen from the new frame."""
    scene = Scene([1, 1], patch, patch**2)
    scene.references[:, 1] = scene.references[:, 0]
    flow = torch.tensor([*bias, *bias])
    network = decoder(patch, widths, patch**2, mask=REFERENCES_ONLY, flow=flow)
    moved = F.pixel_shuffle(scene.composed(network), patch)
    down, right = shift
    rows = slice(max(0, -down), SIZE - max(0, down))
    columns = slice(max(0, -right), SIZE - max(0, right))
    came_from = torch.roll(scene.pixels()[0], (-down, -right), (1, 2))
    torch.testing.assert_close(
        moved[:, rows, columns], came_from[:, rows, columns], rtol=1e-4, atol=1e-4
    )


def test_references_move_on_their_own():
    """Flow of the first reference is for the first alone."""
    scene, first_moves = Scene([1, 1]), torch.tensor([2.0, 2.0, 0.0, 0.0])
    second_only = decoder(mask=shares(-1e4, 0, -1e4), flow=first_moves)
    torch.testing.assert_close(
        scene.composed(second_only), scene.references[0, 1], rtol=1e-4, atol=1e-5
    )
    first_only = decoder(mask=shares(0, -1e4, -1e4), flow=first_moves)
    assert not torch.allclose(scene.composed(first_only), scene.references[0, 0], atol=0.1)


@pytest.mark.parametrize(
    ("patch", "widths", "cell"), [(2, (), 2), (4, (), 4), (4, (6,), 2), (8, (6,), 4)]
)
def test_mask_is_finer_than_its_grid(patch, widths, cell):
    """The first pixel of every cell from the first reference, the others from the second."""
    first = torch.zeros(cell**2)
    first[0] = 1e4
    logits = torch.cat([first, 1e4 - first, torch.full_like(first, -1e4)])
    if widths:
        logits = logits / 2 * (SIZE // cell) / 1e3  # stay finite in units of the grid
    scene = Scene([1, 1], patch, 2 * patch**2)
    network = decoder(patch, widths, 2 * patch**2, mask=logits)
    composed = F.pixel_shuffle(scene.composed(network), patch)
    one, two = scene.pixels()
    two[:, ::cell, ::cell] = one[:, ::cell, ::cell]
    torch.testing.assert_close(composed, two, rtol=1e-3, atol=1e-3)


def test_learned_latents_are_composed_cell_by_cell():
    scene = Scene([1, 1], patch=1)
    composed = scene.composed(decoder(1, mask=shares(-1e4, 0, -1e4, cell=1)))
    torch.testing.assert_close(composed, scene.references[0, 1], rtol=1e-4, atol=1e-5)


@pytest.mark.parametrize(("patch", "widths"), [(2, (8,)), (4, (8, 8)), (6, (8,)), (1, (8,))])
def test_more_stages_than_a_patch_has_room_for(patch, widths):
    with pytest.raises(ValueError, match=f"{len(widths)} refinement stages .* not of {patch}"):
        WarpDecoder(CHANNELS, 2 * patch**2, patch, widths)


@every_shape
def test_rows_do_not_mix(patch, widths):
    network = perturb(decoder(patch, widths, patch**2))
    one, two = Scene([1, 2], patch, patch**2), Scene([3, 1], patch, patch**2)
    two.references, two.features = -two.references, two.features.flip(1)
    (h, features, noisy), (other_h, other, other_noisy) = one.inputs(), two.inputs()
    both = {name: torch.cat([x, getattr(other, name)]) for name, x in vars(features).items()}
    with torch.no_grad():
        together = network(
            torch.cat([h, other_h]), ReferenceFeatures(**both), torch.cat([noisy, other_noisy])
        )
    for row, scene in enumerate((one, two)):
        torch.testing.assert_close(together[row], scene.composed(network), rtol=1e-4, atol=1e-5)


# ------------------------------------------------------------------ training


@every_shape
def test_gradients_reach_every_parameter_after_a_step(patch, widths):
    """What starts at zero lets none through at first."""
    scene, network = Scene([1, 2], patch, patch**2), decoder(patch, widths, patch**2)
    optimizer = torch.optim.SGD(network.parameters(), lr=0.1)
    for _ in range(2):
        optimizer.zero_grad()
        (network(*scene.inputs()) - scene.noisy).square().mean().backward()
        optimizer.step()
    assert unused_parameters(network) == []


@every_shape
def test_learns_where_a_picture_went(patch, widths):
    """From features that say nothing but which frame it is."""
    scene = Scene([1, 1], patch, patch**2)
    smooth = F.interpolate(torch.randn(1, 1, 3, 3), size=(SIZE, SIZE), mode="bicubic")
    scene.references = F.pixel_unshuffle(smooth, patch).expand(1, 2, -1, -1, -1)
    target = F.pixel_unshuffle(torch.roll(smooth, 1, 3), patch)
    network = decoder(patch, widths, patch**2)
    optimizer = torch.optim.Adam(network.parameters(), lr=1e-2)
    losses = []
    for _ in range(30):
        optimizer.zero_grad()
        loss = (network(*scene.inputs()) - target).square().mean()
        loss.backward()
        optimizer.step()
        losses.append(loss.item())
    assert losses[-1] < 0.5 * losses[0]


@every_shape
@pytest.mark.parametrize("spoiled", ["features", "references", "base", "noisy"])
def test_not_a_number_shows_and_does_not_crash(patch, widths, spoiled):
    """A model that diverges must end in an error that names it."""
    scene, network = Scene([1, 1], patch, patch**2), perturb(decoder(patch, widths, patch**2))
    scene.base = scene.base.clone()
    getattr(scene, spoiled).view(-1)[0] = torch.nan
    out = network(*scene.inputs())
    assert out.isnan().any() or spoiled != "features"
    out.sum().backward()


# ------------------------------------------------------------------ any resolution


def smooth(*shape: int, seed: int = 0) -> Tensor:
    """Noise of long waves, `[*shape, 16, 16]`."""
    generator = torch.Generator().manual_seed(seed)
    coarse = torch.randn(math.prod(shape), 1, 3, 3, generator=generator)
    return F.interpolate(coarse, size=(16, 16), mode="bicubic").view(*shape, 16, 16)


def doubled(x: Tensor) -> Tensor:
    flat = F.interpolate(x.flatten(0, -4), scale_factor=2, mode="bilinear")
    return flat.view(*x.shape[:-2], *flat.shape[-2:])


def test_composes_smooth_references_alike_at_twice_the_resolution():
    composition = Composition(
        flow=0.1 * smooth(1, 2, 2),
        weights=smooth(1, 3, seed=1).softmax(dim=1),
        share=torch.tensor([0.3]),
        added=smooth(1, 4, seed=2),
        interpolated=torch.tensor([False]),
    )
    references = smooth(1, 2, 4, seed=3)
    small, large = composition.apply(references), composition.apply(doubled(references))
    assert large.shape == (1, 4, 32, 32)
    inside = slice(4, -4)
    error = (large - doubled(small))[..., inside, inside].abs()
    assert error.max() < 0.1 and error.mean() < 0.02


def test_copies_sharply_at_twice_the_resolution():
    """Where the mask picks a reference that does not move, every pixel is its own."""
    weights = torch.zeros(1, 3, 16, 16)
    weights[:, 0, :, :8], weights[:, 1, :, 8:] = 1, 1
    composition = Composition(
        torch.zeros(1, 2, 2, 4, 4),
        weights,
        torch.tensor([0.5]),
        torch.randn(1, 4, 16, 16),
        torch.tensor([False]),
    )
    references = torch.randn(1, 2, 4, 32, 32)
    out = composition.apply(references)
    expected = torch.cat([references[:, 0, ..., :16], references[:, 1, ..., 16:]], dim=-1)
    outside_the_seam = torch.ones(32, dtype=torch.bool)
    outside_the_seam[15:17] = False
    torch.testing.assert_close(
        out[..., outside_the_seam], expected[..., outside_the_seam], rtol=1e-4, atol=1e-4
    )


def test_what_both_sides_agree_on_stays():
    """Between two alike references nothing is moved, masked or drawn; where they differ, it is."""
    references = torch.zeros(1, 2, 4, 64, 64)
    references[:, 1, :, :, :16] = 1.0

    def applied(interpolated: bool) -> Tensor:
        composition = Composition(
            flow=torch.full((1, 2, 2, 8, 8), 0.2),
            weights=torch.tensor([0.0, 0.0, 1.0])[None, :, None, None].expand(1, 3, 64, 64),
            share=torch.tensor([0.5]),
            added=torch.full((1, 4, 64, 64), 0.7),
            interpolated=torch.tensor([interpolated]),
        )
        return composition.apply(references)

    assert (applied(True)[..., 20:] == 0).all()
    assert (applied(True)[..., :8] > 0.6).all()
    assert (applied(False)[..., 20:] > 0.6).all()


def test_motion_is_scaled():
    """Twice the scale looks twice as far."""
    moved = {}
    for scale in (1.0, 2.0):
        scene = Scene([1, 2], base=[[1.0, 0.0], [1.0, 0.0]], motion_scale=scale)
        moved[scale] = decoder().compose(*scene.inputs()).flow
    torch.testing.assert_close(moved[2.0], 2 * moved[1.0])


def moved_right(alphas: tuple[float, float], flow_x: tuple[float, float]) -> Tensor:
    """Alpha of a frame between two full canvases that are shifted by `flow_x`, `[8, 8]`."""
    references = torch.tensor(alphas).view(1, 2, 1, 1, 1).expand(1, 2, 4, 8, 8).clone()
    flow = torch.zeros(1, 2, 2, 8, 8)
    flow[0, 0, 0], flow[0, 1, 0] = flow_x
    composition = Composition(
        flow=flow,
        weights=torch.tensor([0.5, 0.5, 0.0]).view(1, 3, 1, 1).expand(1, 3, 8, 8),
        share=torch.full((1,), 0.5),
        added=torch.zeros(1, 4, 8, 8),
        interpolated=torch.ones(1, dtype=torch.bool),
    )
    return composition.apply(references, TRANSPARENT)[0, 3]


def test_what_comes_from_beyond_the_canvas_is_transparent():
    """Border pixels used to be smeared into it."""
    alpha = moved_right((1.0, 0.2), (-0.5, -0.5))
    assert torch.equal(alpha[:, :1], torch.full((8, 1), -1.0))
    assert alpha[:, 3:].allclose(torch.tensor(0.6))


def test_what_one_reference_does_not_show_comes_from_the_other():
    alpha = moved_right((1.0, 0.2), (-0.5, 0.5))
    assert alpha[:, 0].allclose(torch.tensor(0.2)) and alpha[:, -1].allclose(torch.tensor(1.0))
    assert alpha[:, 3:5].allclose(torch.tensor(0.6))
