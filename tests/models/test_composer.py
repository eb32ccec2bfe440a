from __future__ import annotations

import math

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from torch import Tensor

from rdtf.models.composer import FrameComposer, gather_references, reference_frames

from .networks import perturb

CHANNELS, LATENT_CHANNELS, PATCH, SIZE = 16, 8, 2, 8
INF = math.inf
GENERATED_SHARE = math.exp(-2) / (1 + math.exp(-2))


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
    """One frame to compose, with what the composer is given."""

    def __init__(self, distances: list[float], patch: int = PATCH) -> None:
        generator = torch.Generator().manual_seed(0)
        grid = (SIZE // patch, SIZE // patch)
        self.features = torch.randn(1, CHANNELS, *grid, generator=generator)
        self.references = torch.randn(1, 2, LATENT_CHANNELS, *grid, generator=generator)
        self.distances = torch.tensor([distances])

    @torch.no_grad()
    def composed(self, composer: FrameComposer) -> Tensor:
        return composer(self.features, self.references, self.distances)[0]


def composer(patch: int = PATCH, **biases: Tensor) -> FrameComposer:
    """An untrained composer, with these values in the biases of its heads."""
    network = FrameComposer(CHANNELS, LATENT_CHANNELS, patch)
    with torch.no_grad():
        for head, bias in biases.items():
            network.get_submodule(head).bias.copy_(bias)
    return network


def shares(first: float, second: float, generated: float, patch: int = PATCH) -> Tensor:
    """Logits for the mask head that add to the starting ones."""
    return torch.tensor([first, second, generated]).repeat_interleave(patch**2)


REFERENCES_ONLY = shares(0, 0, -1e4)


@pytest.mark.parametrize(
    ("distances", "weights"),
    [([1, 1], (0.5, 0.5)), ([1, 3], (0.75, 0.25)), ([4, 1], (0.2, 0.8)), ([2, 2], (0.5, 0.5))],
)
def test_starts_as_the_blend_by_distance_in_time(distances, weights):
    scene = Scene(distances)
    blend = weights[0] * scene.references[0, 0] + weights[1] * scene.references[0, 1]
    start = scene.composed(composer())
    assert ((start - blend).abs() <= GENERATED_SHARE * blend.abs() + 1e-5).all()
    # What the network generates has its small share from the first step.
    generated = torch.linspace(-1, 1, LATENT_CHANNELS)
    added = scene.composed(composer(generate=generated)) - start
    expected = (GENERATED_SHARE * generated)[:, None, None].expand_as(added)
    torch.testing.assert_close(added, expected, rtol=1e-4, atol=1e-5)


def test_identity_flow_leaves_references_untouched():
    scene = Scene([1, 1])
    scene.references[:, 1] = scene.references[:, 0]
    composed = scene.composed(composer(mask=REFERENCES_ONLY))
    torch.testing.assert_close(composed, scene.references[0, 0], rtol=1e-5, atol=1e-5)


def test_nothing_given_leaves_only_the_generated_part():
    """Whatever the mask and the flow say."""
    scene, generated = Scene([INF, INF]), torch.linspace(-1, 1, LATENT_CHANNELS)
    scene.references.zero_()
    only = generated[:, None, None].expand(-1, SIZE // PATCH, SIZE // PATCH)
    torch.testing.assert_close(scene.composed(composer(generate=generated)), only)
    insisting = composer(generate=generated, mask=shares(50.0, 50.0, -50.0), flow=torch.ones(4))
    torch.testing.assert_close(scene.composed(insisting), only)


def unfolded(latents: Tensor) -> Tensor:
    return torch.nn.functional.pixel_shuffle(latents, PATCH)


@pytest.mark.parametrize(
    ("bias", "shift"),
    [((1.0, 0.0), (0, 1)), ((-2.0, 0.0), (0, -2)), ((0.0, 1.0), (1, 0)), ((0.0, -3.0), (-3, 0))],
)
def test_flow_says_where_each_pixel_comes_from(bias, shift):
    """(x, y) in eighths of the canvas, which is one pixel here, seen from the new frame."""
    scene = Scene([1, 1])
    scene.references[:, 1] = scene.references[:, 0]
    network = composer(mask=REFERENCES_ONLY, flow=torch.tensor([*bias, *bias]))
    moved, reference = unfolded(scene.composed(network)), unfolded(scene.references[0, 0])
    down, right = shift
    rows = slice(max(0, -down), SIZE - max(0, down))
    columns = slice(max(0, -right), SIZE - max(0, right))
    came_from = torch.roll(reference, (-down, -right), (1, 2))
    torch.testing.assert_close(
        moved[:, rows, columns], came_from[:, rows, columns], rtol=1e-4, atol=1e-4
    )


def test_references_move_on_their_own():
    """Flow of the first reference is for the first alone."""
    scene, first_moves = Scene([1, 1]), torch.tensor([2.0, 2.0, 0.0, 0.0])
    second_only = composer(mask=shares(-1e4, 0, -1e4), flow=first_moves)
    torch.testing.assert_close(
        scene.composed(second_only), scene.references[0, 1], rtol=1e-4, atol=1e-5
    )
    first_only = composer(mask=shares(0, -1e4, -1e4), flow=first_moves)
    assert not torch.allclose(scene.composed(first_only), scene.references[0, 0], atol=0.1)


@pytest.mark.parametrize("patch", [2, 4])
def test_mask_is_finer_than_the_latent_grid(patch):
    """The first pixel of every patch from the first reference, the others from the second."""
    first = torch.zeros(patch**2)
    first[0] = 1e4
    scene = Scene([1, 1], patch)
    network = FrameComposer(CHANNELS, 2 * patch**2, patch)
    scene.references = torch.randn(1, 2, 2 * patch**2, SIZE // patch, SIZE // patch)
    with torch.no_grad():
        network.mask.bias.copy_(torch.cat([first, 1e4 - first, torch.full_like(first, -1e4)]))
    composed, one, two = (
        torch.nn.functional.pixel_shuffle(latents, patch)
        for latents in (scene.composed(network), *scene.references[0])
    )
    two[:, ::patch, ::patch] = one[:, ::patch, ::patch]
    torch.testing.assert_close(composed, two, rtol=1e-4, atol=1e-4)


def test_learned_latents_are_composed_cell_by_cell():
    scene = Scene([1, 1], patch=1)
    composed = scene.composed(composer(1, mask=shares(-1e4, 0, -1e4, patch=1)))
    torch.testing.assert_close(composed, scene.references[0, 1], rtol=1e-4, atol=1e-5)


def test_not_a_number_shows_and_does_not_crash():
    """A model that diverges must end in an error that names it."""
    scene, network = Scene([1, 1]), perturb(composer())
    scene.features[0, 0, 1, 1] = torch.nan
    out = network(scene.features, scene.references, scene.distances)
    assert out.isnan().any()
    out.sum().backward()
