"""Batches of motion training: drawn on the host, put together on the device.

Draws hold indices, masks, times and captions, and are a pure function of (seed, index): which
clips, which frames, which task (paper Table 7), which motion of the grammar over which still. No
pixel is touched there; pictures, motion latents and cover are made of them where the frames are.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor

from rdtf.data.clip_store import StoredClip
from rdtf.method.curriculum import Curriculum, CurriculumConfig
from rdtf.method.tasks import draw_task
from rdtf.models.matching import grid_positions
from rdtf.models.motion_latents import (
    DEFORMS,
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
from rdtf.models.representation import premultiplied
from rdtf.synthetic.grammar import as_shown, draw_duration_ms, draw_motion, motion_parameters
from rdtf.synthetic.words import draw_caption

# ------------------------------------------------------------------------------- drawing

_IMAGE_FIRST = 0.7  # of generation draws, those whose given frame is the first


@dataclass(frozen=True)
class MotionMix:
    """How motion batches are mixed.

    grammar_share: motions of the grammar over stills; sources: weight of each collection of real
    clips; text_dropout: samples without text; tasks: their weights, instead of the paper's static
    curriculum; whole_share: of the real clips, those that are seen from end to end, however far
    apart that makes the frames.
    """

    grammar_share: float = 0.5
    sources: Mapping[str, float] | None = None
    text_dropout: float = 0.12
    reverse: float = 0.15
    given_noise: float = 0.05
    tasks: Mapping[str, float] | None = None
    whole_share: float = 0.3


@dataclass
class MotionDraws:
    """Arrays of one batch of N samples with F slots.

    real: bool `[N]`; frame_index: row of the store's frames `[N, F]` (grammar: the still's);
    clip: row of the clip table `[N]`; local: frame within its clip `[N, F]`; anchor: slot of the
    reference `[N]`; given, valid: bool `[N, F]`; times_ms: relative to the anchor `[N, F]`;
    affine: `[N, F, 6]` relative to the still, deform: `[N, F]`, deform_kind, deform_seed: `[N]`
    (grammar only); flip: bool `[N]`; captions: one a sample, "" = no text.
    """

    real: np.ndarray
    frame_index: np.ndarray
    clip: np.ndarray
    local: np.ndarray
    anchor: np.ndarray
    given: np.ndarray
    valid: np.ndarray
    times_ms: np.ndarray
    affine: np.ndarray
    deform: np.ndarray
    deform_kind: np.ndarray
    deform_seed: np.ndarray
    flip: np.ndarray
    captions: list[str]

    @classmethod
    def empty(cls, count: int, slots: int) -> MotionDraws:
        def zeros(*shape: int, kind: type = np.float32) -> np.ndarray:
            return np.zeros((count, *shape), dtype=kind)

        return cls(
            real=zeros(kind=bool),
            frame_index=zeros(slots, kind=np.int64),
            clip=zeros(kind=np.int64),
            local=zeros(slots, kind=np.int64),
            anchor=zeros(kind=np.int64),
            given=zeros(slots, kind=bool),
            valid=zeros(slots, kind=bool),
            times_ms=zeros(slots),
            affine=zeros(slots, 6),
            deform=zeros(slots),
            deform_kind=zeros(kind=np.int64),
            deform_seed=zeros(),
            flip=zeros(kind=bool),
            captions=[""] * count,
        )


class MotionDrawer:
    """Draws batches.

    Args:
        clips: of the store, stills (one frame) and animated ones.
        boxes: alpha box of every frame, `[T, 6]` (`models/motion_latents.alpha_box`).
    """

    def __init__(
        self, clips: Sequence[StoredClip], boxes: np.ndarray, mix: MotionMix, seed: int
    ) -> None:
        self.clips, self.boxes, self.mix, self.seed = clips, boxes, mix, seed
        self.stills = [i for i, clip in enumerate(clips) if clip.count >= 1]
        by_source: dict[str, list[int]] = {}
        for index, clip in enumerate(clips):
            if clip.count > 1:
                by_source.setdefault(clip.source, []).append(index)
        weights = mix.sources or {name: len(rows) for name, rows in by_source.items()}
        self.animated = [(rows, weights.get(name, 0.0)) for name, rows in by_source.items()]
        self.animated = [(rows, weight) for rows, weight in self.animated if weight > 0]
        self.curriculum = Curriculum(CurriculumConfig(mode="static", leave_out=("t2v",)))

    def batch(self, index: int, count: int, frames: int, progress: float) -> MotionDraws:
        """Batch `index` of `count` samples of at most `frames` frames; slots = frames + 1."""
        generator = np.random.Generator(np.random.Philox(key=[self.seed, index]))
        draws = MotionDraws.empty(count, frames + 1)
        weights = self.mix.tasks or self.curriculum.task_weights(progress)
        share = self.mix.grammar_share if self.animated else 1.0
        for row in range(count):
            if generator.random() < share:
                self._grammar(draws, row, frames, weights, generator)
            else:
                self._real(draws, row, frames, weights, generator)
        return draws

    def _real(
        self,
        draws: MotionDraws,
        row: int,
        frames: int,
        weights: Mapping[str, float],
        generator: np.random.Generator,
    ) -> None:
        shares = np.array([weight for _, weight in self.animated])
        rows = self.animated[generator.choice(len(shares), p=shares / shares.sum())][0]
        number = rows[generator.integers(len(rows))]
        clip = self.clips[number]
        local, times_ms, loops = _pick_frames(clip, frames, self.mix, generator)
        draws.real[row], draws.clip[row] = True, number
        draws.flip[row] = generator.random() < 0.5 and not _names_side(clip)
        use_text = self._slots(draws, row, local, times_ms, loops, weights, generator)
        draws.frame_index[row, : len(local)] = clip.start + local
        draws.local[row, : len(local)] = local
        if loops:
            slot = len(local)
            draws.frame_index[row, slot], draws.local[row, slot] = clip.start + local[0], local[0]
        if use_text:
            draws.captions[row] = _caption_of(clip, generator)

    def _grammar(
        self,
        draws: MotionDraws,
        row: int,
        frames: int,
        weights: Mapping[str, float],
        generator: np.random.Generator,
    ) -> None:
        number = self.stills[generator.integers(len(self.stills))]
        clip = self.clips[number]
        still = clip.start + (0 if clip.count == 1 else int(generator.integers(clip.count)))
        motion = draw_motion(generator)
        length = int(generator.integers(max(2, frames // 2), frames + 1))
        motion = as_shown(motion, length)
        step_ms = float(draw_duration_ms(motion, length, generator))
        times_ms = np.arange(length) * step_ms
        local = np.arange(length)
        deforms = motion.deform != ""
        draws.flip[row] = generator.random() < 0.5
        use_text = self._slots(
            draws, row, local, times_ms, motion.loops, weights, generator, still_first=deforms
        )
        box = self.boxes[still].copy()
        if draws.flip[row]:
            box[[0, 2, 4]] = -box[[0, 4, 2]]
        affine, deform = motion_parameters(motion, times_ms, length * step_ms, box)
        draws.affine[row, :length], draws.deform[row, :length] = affine, deform
        draws.deform_kind[row] = DEFORMS.index(motion.deform)
        draws.deform_seed[row] = generator.random()
        draws.clip[row], draws.frame_index[row] = number, still
        if use_text:
            name = clip.captions[0] if clip.captions else ""
            draws.captions[row] = draw_caption(motion, name, generator)

    def _slots(
        self,
        draws: MotionDraws,
        row: int,
        local: np.ndarray,
        times_ms: np.ndarray,
        loops: bool,
        weights: Mapping[str, float],
        generator: np.random.Generator,
        still_first: bool = False,
    ) -> bool:
        """Task, masks, times and anchor of one sample; whether its text is used."""
        length = len(local)
        task = draw_task(length, weights, generator)
        given = task.given
        generated = task.task in ("i2v", "it2v")
        if still_first or (generated and generator.random() < _IMAGE_FIRST):
            given = np.arange(length) == 0
        places = np.flatnonzero(given)
        if generated or still_first:
            anchor = int(places[0])
        elif task.task == "post_frame_prediction":
            anchor = int(places[-1])
        elif task.task == "pre_frame_prediction":
            anchor = int(places[0])
        else:
            anchor = int(places[generator.integers(len(places))])
        slots = length
        closes = loops and bool(given[0])
        draws.valid[row, :length], draws.given[row, :length] = True, given
        draws.times_ms[row, :length] = times_ms - times_ms[anchor]
        if closes:
            step_ms = (times_ms[-1] - times_ms[0]) / max(length - 1, 1)
            draws.valid[row, slots] = draws.given[row, slots] = True
            draws.times_ms[row, slots] = times_ms[-1] + step_ms - times_ms[anchor]
        draws.anchor[row] = anchor
        return task.task != "i2v" and generator.random() >= self.mix.text_dropout


def _pick_frames(
    clip: StoredClip, frames: int, mix: MotionMix, generator: np.random.Generator
) -> tuple[np.ndarray, np.ndarray, bool]:
    """Frames of a clip in order, their times, and whether they go round a loop once."""
    count, times_ms = clip.count, clip.times_ms
    if generator.random() < mix.whole_share:  # evenly
        length = min(count, frames)
        local = np.unique((np.arange(length) * count / length).astype(np.int64))
        loops = generator.random() < 0.5 and len(local) > 2
    else:
        stride = int(generator.choice([1, 2, 3], p=[0.55, 0.3, 0.15]))
        stride = max(1, min(stride, (count - 1) // 2))
        most = min(frames, (count - 1) // stride + 1)
        length = int(generator.integers(max(2, most // 2), most + 1))
        start = int(generator.integers(count - (length - 1) * stride))
        local, loops = start + stride * np.arange(length), False
    times_ms = times_ms[local]
    if generator.random() < mix.reverse and not loops:
        return local[::-1].copy(), (times_ms[-1] - times_ms[::-1]), loops
    return local, times_ms - times_ms[0], loops


def _caption_of(clip: StoredClip, generator: np.random.Generator) -> str:
    if clip.motion and generator.random() < 0.35:
        return clip.motion
    if not clip.captions:
        return clip.motion
    return clip.captions[generator.integers(len(clip.captions))]


def _names_side(clip: StoredClip) -> bool:
    """Whether its words would be wrong of its mirror image."""
    words = f"{clip.motion} {' '.join(clip.captions)}".lower()
    return "left" in words or "right" in words


# ------------------------------------------------------------------- putting together


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
