"""What modules that are put into a U-Net need to know about the clips that pass through it.

Published U-Nets know neither which frames are given nor which exist, and see the frames of a clip
as rows of a batch. Whoever adds a layer to them has to be told how to fold the rows back.
"""

from __future__ import annotations

import contextlib
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor, nn
from torch.utils.checkpoint import checkpoint

from rdtf.errors import ConfigError


@dataclass(frozen=True)
class Anchors:
    """For each of the `B·F` frames, the given frame that it looks at.

    rows: indices of the frames that are looked at, `[U]`; choice: for each frame the index into
    `rows`, `[B·F]`; exists: whether its clip has a given frame at all, bool `[B·F]`.
    """

    rows: Tensor
    choice: Tensor
    exists: Tensor


@dataclass(frozen=True)
class ClipState:
    """The clips of one pass: frames per clip, latent grid (h, w), and what may be read.

    text_bias: added to the text attention's scores, `[B·F, 1, T]`; None = all tokens count.
    """

    frames: int
    grid: tuple[int, int]
    text_bias: Tensor | None = None
    anchors: Anchors | None = None

    def feature_grid(self, positions: int) -> tuple[int, int]:
        """Height and width of a feature map of `positions` cells, some halvings down."""
        height, width = self.grid
        while height * width > positions:
            height, width = (height + 1) // 2, (width + 1) // 2
        if height * width != positions:
            raise ConfigError(f"{positions} positions are no level of a {self.grid} latent grid")
        return height, width


class ClipContext:
    """Holds the state of the pass that is running; shared by all modules in one base."""

    def __init__(self) -> None:
        self._state: ClipState | None = None

    @property
    def state(self) -> ClipState:
        if self._state is None:
            raise RuntimeError("the U-Net was called directly: call the adapter that holds it")
        return self._state

    def begin(self, state: ClipState) -> None:
        """A new pass. The state outlives it: a backward pass may recompute parts of it."""
        self._state = state

    @contextlib.contextmanager
    def again(self, state: ClipState) -> Iterator[None]:
        """Inside the block, the state of an earlier pass."""
        current, self._state = self._state, state
        try:
            yield
        finally:
            self._state = current


# ------------------------------------------------------------------ recomputing


class _CheckpointedForward:
    """A block's `forward` that stores its inputs only and recomputes the rest when needed.

    Two forward passes may come before the first backward pass (accumulation), so each remembers
    the state of its own clips.
    """

    def __init__(self, block: nn.Module, context: ClipContext) -> None:
        self.block = block
        self.context = context

    def __call__(self, *args: Any, **kwargs: Any) -> Any:
        forward = type(self.block).forward
        if not torch.is_grad_enabled():
            return forward(self.block, *args, **kwargs)
        state = self.context.state

        def run(*args: Any, **kwargs: Any) -> Any:
            with self.context.again(state):
                return forward(self.block, *args, **kwargs)

        return checkpoint(run, *args, use_reentrant=False, **kwargs)


def checkpoint_blocks(base: nn.Module, context: ClipContext, enable: bool) -> None:
    """Switch gradient checkpointing of each down, middle and up block of a diffusers U-Net.

    Whole blocks, with everything that is hooked into them: so that no adapter is left out, and so
    that it works on `UNet3DConditionModel`, for which diffusers has none.
    """
    unet: Any = base
    for block in [*unet.down_blocks, unet.mid_block, *unet.up_blocks]:
        if enable:
            block.forward = _CheckpointedForward(block, context)
        else:
            vars(block).pop("forward", None)


# ------------------------------------------------------------------ lengths, text, given frames


def length_groups(valid: Tensor) -> list[tuple[list[int], int]]:
    """Clips by length: pairs of (rows, number of frames), shortest first.

    Valid frames come first, padding behind them. Costs a copy to the host.
    """
    frames = valid.shape[1]
    lengths = [max((i + 1 for i in range(frames) if row[i]), default=1) for row in valid.tolist()]
    return [
        ([row for row, length in enumerate(lengths) if length == wanted], wanted)
        for wanted in sorted(set(lengths))
    ]


def join_text(
    text: Sequence[Tensor] | Tensor | None,
    text_mask: Sequence[Tensor] | Tensor | None,
    null_text: Tensor,
    batch: int,
) -> tuple[Tensor, Tensor | None]:
    """Token states of all encoders → `[B, T, D]` and mask `[B, T]`; a None mask = all count.

    A clip without text gets `null_text` (`[1, N, D]`) instead: attention needs something to read.

    Raises:
        ConfigError: token states of another width than the U-Net reads.
    """
    states = [text] if isinstance(text, Tensor) else list(text or [])
    masks = [text_mask] if isinstance(text_mask, Tensor) else list(text_mask or [])
    width = null_text.shape[2]
    for state in states:
        if state.shape[2] != width:
            raise ConfigError(
                f"the U-Net reads text states of width {width}, these have {state.shape[2]}; "
                "use the encoder that it was trained with"
            )
    if not states:
        return null_text.expand(batch, -1, -1), None
    joined = torch.cat(states, dim=1).to(null_text.dtype)
    mask = torch.cat(masks, dim=1)
    if bool(mask.all()):
        return joined, None
    absent = ~mask.any(dim=1)
    if bool(absent.any()):
        joined, mask = _with_null(joined, mask, null_text, absent)
    return joined, mask


def _with_null(
    joined: Tensor, mask: Tensor, null_text: Tensor, absent: Tensor
) -> tuple[Tensor, Tensor]:
    tokens = max(joined.shape[1], null_text.shape[1])

    def pad(states: Tensor) -> Tensor:
        return nn.functional.pad(states, (0, 0, 0, tokens - states.shape[1]))

    reads_null = torch.arange(tokens, device=mask.device) < null_text.shape[1]
    joined = torch.where(absent[:, None, None], pad(null_text), pad(joined))
    mask = nn.functional.pad(mask, (0, tokens - mask.shape[1]))
    return joined, torch.where(absent[:, None], reads_null, mask)


def text_bias(mask: Tensor | None, frames: int, dtype: torch.dtype) -> Tensor | None:
    """Mask `[B, T]` → what is added to the scores of each frame's queries, `[B·F, 1, T]`."""
    if mask is None:
        return None
    bias = torch.zeros(mask.shape, dtype=dtype, device=mask.device)
    bias = bias.masked_fill(~mask, torch.finfo(dtype).min / 2)
    return bias.repeat_interleave(frames, dim=0)[:, None]


def nearest_given(given: Tensor) -> Tensor:
    """Index of the given frame that is nearest in time, `[B, F]`; of two, the earlier.

    A clip without given frames gets 0 everywhere.
    """
    places = torch.arange(given.shape[1], device=given.device)
    steps = places[None, None, :] - places[None, :, None]
    cost = steps.abs() + 0.25 * (steps > 0)
    cost = cost.expand(given.shape[0], -1, -1).masked_fill(~given[:, None, :], float("inf"))
    return cost.argmin(dim=2)


def anchors(given: Tensor) -> Anchors:
    """Which given frame each frame of the batch looks at; `given` is bool `[B, F]`."""
    batch, frames = given.shape
    first_rows = torch.arange(batch, device=given.device)[:, None] * frames
    flat = (first_rows + nearest_given(given)).flatten()
    rows, choice = torch.unique(flat, return_inverse=True)
    exists = given.any(dim=1, keepdim=True).expand(-1, frames).flatten()
    return Anchors(rows, choice, exists)
