"""Motion batches on the training device: pictures, motion latents and masks, from draws."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor

from rdtf.models.matching import grid_positions
from rdtf.models.motion_dfgn import MotionConditions
from rdtf.models.motion_latents import (
    GRID,
    alpha_box,
    backward_flow,
    backward_warp,
    deformation,
    latents_of_affine,
    latents_of_residual,
    matched_flow,
    pack,
    relative_to,
    split_flow,
)
from rdtf.training.motion_draws import MotionDraws


@dataclass(frozen=True)
class MotionBatch:
    """What the motion network is trained on.

    reference: premultiplied in [−1, 1], `[N, 4, S, S]`; centre: `[N, 2]`; clean: latents
    `[N, F, D]`; cover: how much of each cell holds something, `[N, F, h, w]`; the rest as in
    `MotionDraws`.
    """

    reference: Tensor
    centre: Tensor
    clean: Tensor
    cover: Tensor
    given: Tensor
    valid: Tensor
    times_ms: Tensor
    anchor: Tensor
    real: Tensor


def premultiplied(frames: Tensor) -> Tensor:
    """uint8 `[..., S, S, 4]` straight → `[..., 4, S, S]` premultiplied in [−1, 1]."""
    pixels = frames.float() / 255
    rgb, alpha = pixels.split([3, 1], dim=-1)
    return (torch.cat([rgb * alpha, alpha], dim=-1) * 2 - 1).movedim(-1, -3)


class FlowTable:
    """Backward flows between any two frames of a clip, found by matching; computed once.

    On a GPU the whole table is filled in one go; elsewhere each row when it is first needed.
    """

    def __init__(self, frames: Tensor, starts: np.ndarray, counts: np.ndarray) -> None:
        self.frames = frames
        self.starts, self.counts = starts, counts
        offsets = np.concatenate([[0], np.cumsum(np.where(counts > 1, counts * counts, 0))])
        self.offsets = offsets
        device = frames.device
        self.flows = torch.zeros(
            int(offsets[-1]), 2, GRID, GRID, dtype=torch.float16, device=device
        )
        self._known = np.zeros(len(self.flows), dtype=bool)
        self._whole = False

    def fill(self, batch: int = 1024) -> None:
        """Compute everything."""
        pairs = []
        for clip, count in enumerate(self.counts):
            if count > 1:
                frame, reference = np.divmod(np.arange(count * count), count)
                pairs.append(np.stack([frame, reference]) + self.starts[clip])
        frame, reference = np.concatenate(pairs or [np.zeros((2, 0), np.int64)], axis=1)
        for at in range(0, len(frame), batch):
            part = slice(at, at + batch)
            self.flows[part] = self._match(frame[part], reference[part])
        self._whole = True

    def take(self, flows: Tensor) -> None:
        """Fill the table with what another one of the same clips has computed."""
        self.flows.copy_(flows)
        self._whole = True

    def _match(self, frame: np.ndarray, reference: np.ndarray) -> Tensor:
        """Row-wise flows of global frame indices, `[n, 2, h, w]`."""
        pictures, references = (
            premultiplied(self.frames[torch.from_numpy(index).to(self.frames.device)])
            for index in (frame, reference)
        )
        return matched_flow(pictures, references).half()

    def rows(self, clip: np.ndarray, local: np.ndarray, reference: np.ndarray) -> Tensor:
        """Flows `[N, F, 2, h, w]` of frames `local [N, F]` from frame `reference [N]`."""
        rows = self.offsets[clip][:, None] + local * self.counts[clip][:, None]
        rows = rows + reference[:, None]
        if not self._whole:
            wanted = np.unique(rows)
            missing = wanted[~self._known[wanted]]
            if len(missing):
                owner = np.searchsorted(self.offsets, missing, side="right") - 1
                inner = missing - self.offsets[owner]
                frame, other = np.divmod(inner, self.counts[owner])
                start = self.starts[owner]
                self.flows[torch.from_numpy(missing).to(self.flows.device)] = self._match(
                    frame + start, other + start
                )
                self._known[missing] = True
        return self.flows[torch.from_numpy(rows).to(self.flows.device)].float()


class MotionAssembler:
    """Turns draws into batches.

    Args:
        frames: uint8 `[T, S, S, 4]` straight, on the device.
        table: flows between the frames of each animated clip.
    """

    def __init__(self, frames: Tensor, table: FlowTable) -> None:
        self.frames, self.table = frames, table

    @torch.no_grad()
    def __call__(self, draws: MotionDraws) -> MotionBatch:
        device = self.frames.device

        def on_device(array: np.ndarray) -> Tensor:
            return torch.from_numpy(array).to(device, non_blocking=True)

        anchor, real = on_device(draws.anchor), on_device(draws.real)
        rows = np.arange(len(draws.real))
        index = on_device(draws.frame_index[rows, draws.anchor])
        reference = premultiplied(self.frames[index])
        flip = on_device(draws.flip)
        reference = torch.where(flip[:, None, None, None], reference.flip(-1), reference)
        affine = on_device(draws.affine)
        then = affine[torch.arange(len(affine), device=device), anchor]
        rest_box = alpha_box((reference[:, 3] + 1) / 2)
        posed = backward_warp(
            reference, backward_flow(then, rest_box[:, :2], *reference.shape[-2:])
        )
        moved = (then.abs().amax(1) > 0)[:, None, None, None]
        reference = torch.where(moved, posed, reference)
        centre = alpha_box((reference[:, 3] + 1) / 2)[:, :2]

        truth = relative_to(affine, then, rest_box[:, :2], centre)
        residual = self._deformation(draws, truth, centre, rest_box)
        cover = self._cover_by_motion(reference, truth, centre, residual)
        if draws.real.any():
            self._matched(draws, flip, reference, centre, truth, residual, cover)
        clean = pack(latents_of_affine(truth), latents_of_residual(residual))
        return MotionBatch(
            reference=reference,
            centre=centre,
            clean=clean,
            cover=cover,
            given=on_device(draws.given),
            valid=on_device(draws.valid),
            times_ms=on_device(draws.times_ms),
            anchor=anchor,
            real=real,
        )

    def _matched(
        self,
        draws: MotionDraws,
        flip: Tensor,
        reference: Tensor,
        centre: Tensor,
        truth: Tensor,
        residual: Tensor,
        cover: Tensor,
    ) -> None:
        """Motion of real clips, in place: affine fit of the matched flow, and what is left."""
        device = reference.device
        which = np.flatnonzero(draws.real)
        rows = torch.from_numpy(which).to(device)
        anchor_local = draws.local[which, draws.anchor[which]]
        flow = self.table.rows(draws.clip[which], draws.local[which], anchor_local)
        frames = self.frames[torch.from_numpy(draws.frame_index[which]).to(device)]
        alpha = frames[..., 3].float().div_(255)
        alpha = F.adaptive_avg_pool2d(alpha, GRID)
        mirrored = flip[rows]
        sign = flow.new_tensor([-1.0, 1.0]).view(1, 1, 2, 1, 1)
        flow = torch.where(mirrored[:, None, None, None, None], flow.flip(-1) * sign, flow)
        alpha = torch.where(mirrored[:, None, None, None], alpha.flip(-1), alpha)
        truth[rows], residual[rows], cover[rows] = split_flow(
            flow, alpha, reference[rows], centre[rows]
        )

    def _deformation(
        self, draws: MotionDraws, truth: Tensor, centre: Tensor, box: Tensor
    ) -> Tensor:
        """Residual flow of the grammar's deformations, `[N, F, 2, h, w]`."""
        count, slots = draws.deform.shape
        residual = truth.new_zeros(count, slots, 2, GRID, GRID)
        which = np.flatnonzero(draws.deform_kind > 0)
        if len(which) == 0:
            return residual
        rows = torch.from_numpy(which).to(truth.device)

        def of(array: np.ndarray) -> Tensor:
            return torch.from_numpy(array[which]).to(truth.device)

        middle = centre[rows][:, None].expand(len(which), slots, 2)
        here = grid_positions(GRID, GRID, truth)
        still = backward_flow(truth[rows], middle, GRID, GRID) + here  # places on the still
        fields = deformation(
            still, of(draws.deform_kind), of(draws.deform), of(draws.deform_seed), box[rows]
        )
        residual[rows] = fields
        return residual

    def _cover_by_motion(
        self, reference: Tensor, truth: Tensor, centre: Tensor, residual: Tensor
    ) -> Tensor:
        """Where each frame holds something, by moving the reference's alpha, `[N, F, h, w]`."""
        count, slots = truth.shape[:2]
        middle = centre[:, None].expand(count, slots, 2)
        flow = backward_flow(truth, middle, GRID, GRID) + residual
        small = F.adaptive_avg_pool2d(reference[:, 3:], 2 * GRID)
        repeated = small[:, None].expand(-1, slots, -1, -1, -1).flatten(0, 1)
        cover = (backward_warp(repeated, flow.flatten(0, 1))[:, 0] + 1) / 2
        near = F.max_pool2d(cover[:, None], 3, stride=1, padding=1)
        return near[:, 0].unflatten(0, (count, slots)).clamp(0, 1)


def batch_inputs(batch: MotionBatch, **changes: Any) -> MotionConditions:
    """What the network is told of a batch, with some of it changed."""
    told = {
        "clean": batch.clean,
        "given": batch.given,
        "valid": batch.valid,
        "reference": batch.reference,
        "centre": batch.centre,
        "times_ms": batch.times_ms,
    }
    return MotionConditions(**{**told, **changes})
