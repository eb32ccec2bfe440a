"""Frames made by moving a given one: motion latents are sampled, and the reference is warped.

Used beyond the given frames and from a single still, by pipelines with a motion network. A window
that goes round a loop holds its first frame once more at the end, as a given one.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
import torch
from torch import Tensor

from rdtf.models.matching import grid_positions
from rdtf.models.motion_dfgn import MotionConditions, MotionDFGN
from rdtf.models.motion_latents import (
    DEFORMS,
    GRID,
    LATENT_DIM,
    NUM_PARAMETERS,
    affine_of_latents,
    alpha_box,
    backward_flow,
    backward_warp,
    deformation,
    flow_of_latents,
    latents_of_affine,
    latents_of_residual,
    matched_flow,
    motion_noise,
    pack,
    split_flow,
)
from rdtf.models.motion_predictor import MotionPredictor
from rdtf.models.representation import premultiplied
from rdtf.sampling.sampling import own_precision
from rdtf.sampling.schedulers import noise_levels, set_timesteps, step_options
from rdtf.stickers import Sticker
from rdtf.synthetic.grammar import MotionDraw, kept_in_canvas, shown_motion, within_canvas

_MOST_TURN = 4 * np.pi  # radians
_DIRECTIONS = 32  # in which the outermost points are looked for


@dataclass(frozen=True)
class MotionWindow:
    """Slots that are moved together.

    slots: ascending positions in time; in a loop of F frames, F + i is frame i once more.
    given: those that are there already; anchor: the one that is moved; make: those to be made.
    """

    slots: tuple[int, ...]
    given: tuple[int, ...]
    anchor: int

    @property
    def make(self) -> tuple[int, ...]:
        return tuple(slot for slot in self.slots if slot not in self.given)


def plan_motion(known: Sequence[bool], longest: int, loop: bool) -> Iterator[MotionWindow]:
    """Windows for what does not lie between known frames.

    Without a loop: everything before the first and behind the last known frame, each window going
    on from up to half of `longest` frames. In a loop with one known frame: all others, coarsely if
    there are more than `longest`; in a loop with several, every gap has two ends, and nothing is
    left to do here.

    Args:
        known: at least one frame is.
        longest: most frames that the network takes, without the one that closes a loop.
    """
    total, done = len(known), [slot for slot, is_known in enumerate(known) if is_known]
    if loop:
        if len(done) == 1 and total > 1:
            first = done[0]
            stride = -(-total // longest)
            slots = (*range(first, first + total, stride), first + total)
            yield MotionWindow(slots, (first, first + total), first)
        return
    after = list(done)
    while after[-1] < total - 1:
        history = after[-(longest // 2) :]
        new = range(after[-1] + 1, min(after[-1] + 1 + longest - len(history), total))
        yield MotionWindow((*history, *new), tuple(history), history[-1])
        after += new
    before = after
    while before[0] > 0:
        history = before[: longest // 2]
        new = range(max(0, before[0] - (longest - len(history))), before[0])
        yield MotionWindow((*new, *history), tuple(history), history[0])
        before = [*new, *before]


@dataclass(frozen=True)
class Motion:
    """Motion of a window: latents `[1, F, D]`, the reference's centre `[1, 2]`, and how much of
    each frame is seen, in [0, 1], `[F]`; None = all."""

    latents: Tensor
    centre: Tensor
    opacity: Tensor | None = None

    def frames(self, reference: Tensor, rows: Sequence[int], scale: float) -> Tensor:
        """Frames `rows` of the window, made of a reference of any size.

        Args:
            reference: premultiplied in [−1, 1], `[4, H, W]`.

        Returns:
            `[len(rows), 4, H, W]`.
        """
        size = (reference.shape[-2], reference.shape[-1])
        latents = self.latents[:, list(rows)]
        flow = flow_of_latents(latents, self.centre, size, scale)[0]
        made = backward_warp(reference[None].to(flow.device).expand(len(rows), -1, -1, -1), flow)
        if self.opacity is None:
            return made
        return (made + 1) * self.opacity[list(rows), None, None, None] - 1

    def kept_in_canvas(self, reference: Tensor) -> Motion:
        """With the reference `[4, S, S]` kept in the canvas in every frame."""
        affine, residual = self.latents.split([NUM_PARAMETERS, LATENT_DIM - NUM_PARAMETERS], -1)
        found = affine_of_latents(affine)[0].cpu().double().numpy()
        about = self.centre[0].cpu().double().numpy()
        kept = kept_in_canvas(found, outline(reference), about, most_shrinking=1.0)
        moved = torch.from_numpy(kept).to(affine)[None]
        return replace(self, latents=torch.cat([latents_of_affine(moved), residual], -1))


@torch.no_grad()
def sample_motion(
    model: MotionDFGN,
    scheduler: Any,
    frames: Tensor,
    given: Tensor,
    anchor: int,
    times_ms: Tensor,
    text: tuple[list[Tensor], list[Tensor]],
    negative: tuple[list[Tensor], list[Tensor]],
    *,
    num_inference_steps: int,
    guidance_scale: float,
    eta: float = 0.0,
    generator: torch.Generator | None = None,
    callback: Callable[[int, float, Tensor], Tensor] | None = None,
) -> Motion:
    """Motion of one window's frames relative to its anchor.

    Args:
        frames: premultiplied in [−1, 1] at the model's canvas, `[F, 4, S, S]`, read where given.
        given: bool `[F]`; anchor: row of the reference; times_ms: start of each frame, `[F]`.
        text, negative: token states and masks per encoder; empty lists = none.
    """
    device = frames.device
    conditions = _motion_conditions(frames, given, anchor, times_ms, text)
    clean = conditions.clean
    source = torch.device("cpu") if generator is None else generator.device
    white = torch.randn((1, len(frames), LATENT_DIM), generator=generator, device=source)
    noise = motion_noise(white.to(device), torch.tensor([anchor], device=device))
    without_text = replace(conditions, text=negative[0], text_mask=negative[1])

    def predict(latents: Tensor, sigma: Tensor, conditions: MotionConditions) -> Tensor:
        with own_precision(model, device):
            return model(latents, sigma, conditions).float()

    guided = bool(text[0]) and guidance_scale != 1.0
    set_timesteps(scheduler, num_inference_steps, device)
    extra = step_options(scheduler, generator, eta)
    keep = given[None, :, None]
    latents = noise
    levels = noise_levels(scheduler, torch.device("cpu")).tolist()
    for index, (timestep, level) in enumerate(zip(scheduler.timesteps, levels, strict=True)):
        if getattr(callback, "interrupted", False):
            break
        latents = torch.where(keep, (1 - level) * clean + level * noise, latents)
        sigma = torch.full((1,), level, device=device)
        found = predict(latents, sigma, conditions)
        if guided:
            without = predict(latents, sigma, without_text)
            found = without + guidance_scale * (found - without)
        velocity = (latents - found) / max(level, 1e-4)
        latents = scheduler.step(velocity, timestep, latents, **extra).prev_sample
        if callback is not None:
            latents = callback(index, level, latents)
    return Motion(torch.where(keep, clean, latents), conditions.centre)


@torch.no_grad()
def predict_motion(
    model: MotionPredictor,
    frames: Tensor,
    given: Tensor,
    anchor: int,
    times_ms: Tensor,
    text: tuple[list[Tensor], list[Tensor]],
) -> Motion:
    """How the given frames' movement goes on, in one pass and without chance.

    Args:
        as of `sample_motion`.
    """
    conditions = _motion_conditions(frames, given, anchor, times_ms, text)
    with own_precision(model, frames.device):
        found = model(conditions, torch.tensor([anchor], device=frames.device)).float()
    kept = torch.where(given[None, :, None], conditions.clean, found)
    return Motion(kept, conditions.centre)


def _motion_conditions(
    frames: Tensor,
    given: Tensor,
    anchor: int,
    times_ms: Tensor,
    text: tuple[list[Tensor], list[Tensor]],
) -> MotionConditions:
    """What a motion network is told of one window; see `sample_motion`."""
    reference = frames[anchor][None]
    centre = alpha_box((reference[:, 3] + 1) / 2)[:, :2]
    return MotionConditions(
        clean=known_motion(frames, given, reference, centre),
        given=given[None],
        valid=torch.ones_like(given)[None],
        text=text[0],
        text_mask=text[1],
        reference=reference,
        centre=centre,
        times_ms=(times_ms - times_ms[anchor])[None].float(),
        padded=False,
    )


def named_motion(
    draw: MotionDraw,
    reference: Tensor,
    anchor: int,
    times_ms: np.ndarray,
    loop: bool,
    generator: torch.Generator | None,
) -> Motion:
    """A motion of the grammar (`rdtf.synthetic`), exactly, with the reference as its rest.

    The thing is kept in the canvas, unless leaving it is what the words say.

    Args:
        draw: what it does.
        reference: premultiplied in [−1, 1], `[4, S, S]`; anchor: its row.
        times_ms: start of each frame, `[F]`; in a loop the last is the reference once more.
        generator: settles the side if no words do; None = torch's own.
    """
    box = alpha_box((reference[None, 3] + 1) / 2)
    by_chance = int(torch.randint(2, (1,), generator=generator)) * 2 - 1
    draw = replace(draw, side=draw.side if draw.says_side else by_chance, loops=loop)
    about = box[0].cpu().double().numpy()
    affine, strength, opacity = shown_motion(draw, times_ms - times_ms[anchor], about)
    if loop:  # whole turns end where they began
        affine[-1], strength[-1], opacity[-1] = 0.0, 0.0, 1.0
    affine = within_canvas(draw, affine, outline(reference), about[:2])
    turn = affine[:, 2]  # latents hold no more than some turns
    affine[:, 2] = np.where(np.abs(turn) > _MOST_TURN, np.fmod(turn, 2 * np.pi), turn)
    parameters = torch.from_numpy(affine).float().to(reference.device)[None]
    centre = box[:, :2]
    residual = parameters.new_zeros(1, len(times_ms), 2, GRID, GRID)
    if draw.deform:
        where = centre[:, None].expand(1, len(times_ms), 2)
        still = backward_flow(parameters, where, GRID, GRID)
        still = still + grid_positions(GRID, GRID, parameters)
        kind = torch.tensor([DEFORMS.index(draw.deform)], device=reference.device)
        amount = torch.from_numpy(strength).float().to(reference.device)[None]
        seed = torch.rand(1, generator=generator).to(reference.device)
        residual = deformation(still, kind, amount, seed, box)
    seen = torch.from_numpy(opacity).float().to(reference.device)
    latents = pack(latents_of_affine(parameters), latents_of_residual(residual))
    return Motion(latents, centre, None if bool((seen == 1).all()) else seen)


def outline(reference: Tensor) -> np.ndarray:
    """Outermost points (x, y) of what is seen of a reference `[4, S, S]`, `[n, 2]`; those of the
    canvas if it is empty."""
    rows, columns = ((reference[3] + 1) / 2 > 0.1).cpu().numpy().nonzero()
    if len(rows) == 0:
        return np.array([[-1.0, -1.0], [1.0, 1.0]])
    size = np.array([reference.shape[2], reference.shape[1]])
    points = (np.stack([columns, rows], 1) + 0.5) * 2 / size - 1
    angles = np.arange(_DIRECTIONS) * 2 * np.pi / _DIRECTIONS
    return points[(points @ np.stack([np.cos(angles), np.sin(angles)])).argmax(0)]


def known_motion(frames: Tensor, given: Tensor, reference: Tensor, centre: Tensor) -> Tensor:
    """Motion latents `[1, F, D]` of the given frames, by matching; zero where not given.

    Frames equal to the reference have not moved.
    """
    clean = frames.new_zeros(1, len(frames), LATENT_DIM)
    others = given & (frames - reference).abs().flatten(1).amax(1).gt(0)
    rows = others.nonzero()[:, 0]
    if len(rows) == 0:
        return clean
    flow = matched_flow(frames[rows], reference.expand(len(rows), -1, -1, -1))
    alpha = torch.nn.functional.adaptive_avg_pool2d((frames[rows, 3] + 1) / 2, flow.shape[-1])
    affine, residual, _ = split_flow(flow[None], alpha[None], reference, centre)
    clean[:, rows] = pack(latents_of_affine(affine), latents_of_residual(residual))
    return clean


def to_pixels(frames: np.ndarray) -> Tensor:
    """Straight RGBA uint8 `[F, H, W, 4]` → premultiplied in [−1, 1], `[F, 4, H, W]`."""
    return premultiplied(torch.from_numpy(np.ascontiguousarray(frames)))


def to_frames(pixels: Tensor) -> np.ndarray:
    """Premultiplied pixels in [-1, 1], `[F, 4, H, W]` → straight RGBA uint8 `[F, H, W, 4]`."""
    pixels = (pixels.float().clamp(-1, 1) + 1) / 2
    array = pixels.permute(0, 2, 3, 1).cpu().numpy()
    return Sticker.from_premultiplied(array, np.ones(len(array), dtype=np.int64)).frames
