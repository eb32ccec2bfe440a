"""What a denoiser is told besides the noisy latents and t, and what follows from the given frames.

Every network is called `model(noisy, t, conditions)`: DFGN, MotionDFGN and adapted U-Nets alike.
"""

from __future__ import annotations

from dataclasses import dataclass, field, fields, replace
from typing import TypeVar

import torch
import torch.nn.functional as F
from torch import Tensor

from rdtf.method.dual_mask import (
    NUM_REFERENCES,
    extrapolated_frames,
    gather_references,
    reference_frames,
)
from rdtf.models.matching import match

# What matching says of each cell: flow to both references, and how well they agree.
MATCH_CHANNELS = 2 * NUM_REFERENCES + 1
# The second nearest reference of an extrapolated frame counts as so much farther away: moved by the
# same motion, it would be a ghost of the nearest.
_SECOND_FARTHER = 150.0

Rows = TypeVar("Rows")


@dataclass(frozen=True, eq=False)
class ReferenceFeatures:
    """What the given frames say about each frame, `N = B·F`.

    references: latents of the two reference frames, `[N, 2, c, h, w]`, zero where nothing is given;
    distances: of the references in time, `[N, 2]`, infinite there; flow: as matched,
    `[N, 2, 2, h', w']`, zero in extrapolated frames; matches: flow and disagreement per cell,
    `[N, 5, h, w]`; interpolated: whether the frame lies between its references, bool `[N]`;
    extrapolated: whether motion latents say where it comes from, bool `[N]`; motion_scale: `[N]`.
    """

    references: Tensor
    distances: Tensor
    flow: Tensor
    matches: Tensor
    interpolated: Tensor
    extrapolated: Tensor
    motion_scale: Tensor


@dataclass(frozen=True, eq=False, kw_only=True)
class Conditions:
    """What a denoiser is told besides the noisy latents and t.

    clean: clean latents `[B, C, F, h, w]`, read where given; given, valid: condition and validity
    mask, bool `[B, F]`; text, text_mask: token states `[B, T, D]` and bool `[B, T]` per encoder, a
    row of the mask that is all False means no text; mean_duration_ms: mean frame duration, `[B]`,
    100 ms if None; motion_scale: how much further than predicted things move in extrapolated
    frames.

    padded: whether there are slots without a frame. A GPU can't be asked without waiting for it,
    and where there may be, attention gets masks that rule out its fastest kernels. None: not known.
    features: what `DFGN.prepare` found in these given frames; None: not yet.
    """

    clean: Tensor
    given: Tensor
    valid: Tensor
    text: list[Tensor] = field(default_factory=list)
    text_mask: list[Tensor] = field(default_factory=list)
    mean_duration_ms: Tensor | None = None
    motion_scale: float = 1.0
    padded: bool | None = None
    features: ReferenceFeatures | None = None

    @property
    def may_be_padded(self) -> bool:
        """Whether masks over frames are needed."""
        return may_be_masked(self.valid) if self.padded is None else self.padded

    def with_text(self, text: list[Tensor], text_mask: list[Tensor]) -> Conditions:
        """The same with another text."""
        return replace(self, text=text, text_mask=text_mask)

    def without_given(self) -> Conditions:
        """The same with nothing given."""
        return replace(self, given=torch.zeros_like(self.given), features=None)


def pick_rows(batch: Rows, index: Tensor | slice) -> Rows:
    """A copy of a dataclass of tensors with these rows of each."""
    picked = {part.name: getattr(batch, part.name)[index] for part in fields(batch)}  # type: ignore[arg-type]
    return replace(batch, **picked)  # type: ignore[type-var]


@torch.no_grad()
def reference_features(conditions: Conditions, patch: int, moves: bool) -> ReferenceFeatures:
    """The references of each frame, and what plain matching makes of them.

    Args:
        conditions: clean latents are pixels folded by `patch`; given ≤ valid.
        moves: whether motion latents say where extrapolated frames come from.
    """
    clean, given, valid = conditions.clean, conditions.given, conditions.valid
    references, distances, offsets = _references(clean, given)
    height, width = references.shape[-2:]
    hidden = (valid & ~given).flatten()
    interpolated = offsets[:, 0] * offsets[:, 1] < 0
    matches = references.new_zeros(len(references), MATCH_CHANNELS, height, width)
    flow = matches[:, :-1].unflatten(1, (NUM_REFERENCES, 2)).float()
    two = offsets[:, 0] != offsets[:, 1]  # of one frame nothing can be learned
    rows = rows_of(hidden & two)
    if isinstance(rows, slice) or len(rows) > 0:
        finest = width * min(patch, 4)
        found, disagreement = match(
            F.pixel_shuffle(references[rows].float(), patch), offsets[rows], finest
        )
        facts = torch.cat([found.flatten(1, 2) * width, disagreement], dim=1)
        facts = F.adaptive_avg_pool2d(facts, (height, width)).to(matches.dtype)
        matches[rows] = torch.where(hidden[rows, None, None, None], facts, 0.0)
        # Extrapolated things may turn or stop: the network gets what was matched, the decoder not.
        found = torch.where(interpolated[rows, None, None, None, None], found, 0.0)
        flow = found.new_zeros(len(references), *found.shape[1:])
        flow[rows] = found
    scale = torch.where(interpolated, 1.0, conditions.motion_scale)
    extrapolated = (extrapolated_frames(given) & valid).flatten()
    if moves:
        farther = torch.stack([distances[:, 0], distances[:, 0] * _SECOND_FARTHER], dim=1)
        distances = torch.where(extrapolated[:, None], farther, distances)
    return ReferenceFeatures(
        references, distances, flow, matches, interpolated, extrapolated, scale
    )


def rows_of(hidden: Tensor) -> Tensor | slice:
    """Which of the flattened frames `[B·F]` to make; all, where a mask can't be looked at."""
    return hidden.flatten().nonzero()[:, 0] if _has_values(hidden) else slice(None)


def _has_values(mask: Tensor) -> bool:
    """Whether a mask can be looked at for nothing: not on a GPU, nor where a cost is counted."""
    on_host = mask.device.type == "cpu" and not torch.compiler.is_compiling()
    return on_host and type(mask) is Tensor


def may_be_masked(mask: Tensor) -> bool:
    """Whether a mask has to be applied: some of it is False, or it can't be looked at."""
    return not (_has_values(mask) and bool(mask.all()))


def by_frame(x: Tensor) -> Tensor:
    """`[B, C, F, h, w]` → `[B·F, C, h, w]`."""
    return x.transpose(1, 2).flatten(0, 1)


def _references(clean: Tensor, given: Tensor) -> tuple[Tensor, Tensor, Tensor]:
    """Reference latents `[B·F, 2, C, h, w]` (zero where nothing is given), their distances and
    signed offsets in time, `[B·F, 2]` each."""
    indices, distances = reference_frames(given)
    references = gather_references(clean, indices)
    exists = distances.isfinite()
    references = torch.where(exists[..., None, None, None], references, 0.0)
    frames = torch.arange(given.shape[1], device=given.device)
    offsets = torch.where(exists, (indices - frames[:, None]).float(), 0.0)
    return references.flatten(0, 1), distances.flatten(0, 1), offsets.flatten(0, 1)
