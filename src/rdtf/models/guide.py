"""What the given frames say about every frame: its references, and what matching makes of them."""

from __future__ import annotations

from dataclasses import dataclass

import torch
import torch.nn.functional as F
from torch import Tensor

from rdtf.models.composer import NUM_REFERENCES, gather_references, reference_frames
from rdtf.models.matching import match
from rdtf.models.motion import beyond_given

# What matching says of each cell: flow to both references, and how well they agree.
NUM_HINTS = 2 * NUM_REFERENCES + 1
# Beyond the given frames the second nearest lies so much farther back than it does: moved by the
# same motion, it would be a ghost of the nearest.
_SECOND_FARTHER = 150.0


@dataclass(frozen=True)
class Guide:
    """What the given frames say about each frame, `N = B·F`.

    references: latents `[N, 2, c, h, w]`, zero where nothing is given; distances: `[N, 2]`,
    infinite there; flow: as matched, `[N, 2, 2, h', w']`, zero beyond the references; hints:
    `[N, 5, h, w]`; between: whether the frame lies between its references, bool `[N]`; beyond:
    whether motion latents say where it comes from, bool `[N]`; motion_scale: `[N]`.
    """

    references: Tensor
    distances: Tensor
    flow: Tensor
    hints: Tensor
    between: Tensor
    beyond: Tensor
    motion_scale: Tensor


@dataclass(frozen=True)
class Known:
    """What is known of the conditions before the network runs, so that it need not be found again.

    padded: whether there are slots without a frame; a GPU can't be asked without waiting for it,
    and where there may be, attention gets masks that rule out its fastest kernels. guide: of these
    conditions. None: not known.
    """

    padded: bool | None = None
    guide: Guide | None = None


@torch.no_grad()
def guide_by(
    clean: Tensor, given: Tensor, valid: Tensor, motion_scale: float, *, patch: int, moves: bool
) -> Guide:
    """The references of each frame, and what plain matching makes of them.

    Frames that are not hidden get no hints, whether or not they are left out.

    Args:
        clean: latents `[B, C, F, h, w]`, pixels folded by `patch`; given, valid: bool `[B, F]`.
        motion_scale: of frames that do not lie between given ones.
        moves: whether motion latents say where frames beyond the given ones come from.
    """
    references, distances, offsets = _references(clean, given)
    height, width = references.shape[-2:]
    hidden = (valid & ~given).flatten()
    between = offsets[:, 0] * offsets[:, 1] < 0
    hints = references.new_zeros(len(references), NUM_HINTS, height, width)
    flow = hints[:, :-1].unflatten(1, (NUM_REFERENCES, 2)).float()
    two = offsets[:, 0] != offsets[:, 1]  # of one frame nothing can be learned
    rows = rows_of(hidden & two)
    if isinstance(rows, slice) or len(rows) > 0:
        finest = width * min(patch, 4)
        found, disagreement = match(
            F.pixel_shuffle(references[rows].float(), patch), offsets[rows], finest
        )
        facts = torch.cat([found.flatten(1, 2) * width, disagreement], dim=1)
        facts = F.adaptive_avg_pool2d(facts, (height, width)).to(hints.dtype)
        hints[rows] = torch.where(hidden[rows, None, None, None], facts, 0.0)
        # Beyond the references things may turn or stop: there the network gets the hint only.
        found = torch.where(between[rows, None, None, None, None], found, 0.0)
        flow = found.new_zeros(len(references), *found.shape[1:])
        flow[rows] = found
    scale = torch.where(between, 1.0, motion_scale)
    beyond = (beyond_given(given) & valid).flatten()
    if moves:
        farther = torch.stack([distances[:, 0], distances[:, 0] * _SECOND_FARTHER], dim=1)
        distances = torch.where(beyond[:, None], farther, distances)
    return Guide(references, distances, flow, hints, between, beyond, scale)


def rows_of(hidden: Tensor) -> Tensor | slice:
    """Which of the flattened frames `[B·F]` to make; all, where a mask can't be looked at."""
    return hidden.flatten().nonzero()[:, 0] if has_values(hidden) else slice(None)


def has_values(mask: Tensor) -> bool:
    """Whether a mask can be looked at for nothing: not on a GPU, nor where a cost is counted."""
    on_host = mask.device.type == "cpu" and not torch.compiler.is_compiling()
    return on_host and type(mask) is Tensor


def may_be_padded(valid: Tensor, known: Known | None = None) -> bool:
    """Whether masks are needed."""
    if known is not None and known.padded is not None:
        return known.padded
    return not (has_values(valid) and bool(valid.all()))


def without_padding(
    given: Tensor, valid: Tensor, noisy: Tensor, clean: Tensor, padded: bool
) -> tuple[Tensor, Tensor, Tensor]:
    """Nothing is given in padded slots, and their latents are zero."""
    if padded:
        exists = valid[:, None, :, None, None]
        noisy, clean = torch.where(exists, noisy, 0.0), torch.where(exists, clean, 0.0)
    return given & valid, noisy, clean


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
