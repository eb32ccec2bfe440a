"""The frame-similarity prior of I2V-Adapter (arXiv 2312.16693, §3.3): where sampling starts.

At high noise, a noised first frame is much like the noised frames that follow it. So sampling may
start at a level t0 < T from the given frame, degraded and then noised to t0: few steps are left in
which large changes can happen, and the still's layout is kept. Two numbers trade stability for
motion: t0, and how much of the still is replaced by a blurred copy of it.

The paper's text and its formula disagree on which way its p mixes. Its Table 2 shows more motion
for larger p, so `blur_share` is named for what it does: the share of latent elements, drawn at
random, that come from the blurred copy. (Table 2, t0 = T: p .1/.5/.9 have flow scores .69/.80/.99;
p = 1: t0 = .6/.8/1 have .14/.27/.84.)
"""

from __future__ import annotations

import contextlib
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor, nn
from torch.utils.checkpoint import checkpoint

from rdtf.errors import ConfigError
from rdtf.method.objective import Objective
from rdtf.models.conditions import Conditions
from rdtf.sampling.sampling import sample
from rdtf.sampling.schedulers import set_timesteps


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


def checkpoint_blocks(base: nn.Module, context: ClipContext) -> None:
    """Gradient checkpointing of each down, middle and up block of a diffusers U-Net.

    Whole blocks, with everything that is hooked into them: so that no adapter is left out, and so
    that it works on `UNet3DConditionModel`, for which diffusers has none.
    """
    unet: Any = base
    for block in [*unet.down_blocks, unet.mid_block, *unet.up_blocks]:
        block.forward = _CheckpointedForward(block, context)


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


@dataclass(frozen=True)
class FrameSimilarityPrior:
    """How sampling starts.

    start_t: t0 / T in (0, 1]. At 1 only what the schedule leaves of the signal at its last
        step tells the start from noise: a little on the DDPM schedule, nothing in rectified flow.
    blur_share: share of elements from the blurred copy, in [0, 1].
    kernel_size, sigma: the blur in latent cells; defaults as in the official inference code, for
        latents of 64 × 64. The kernel is cut to what smaller latents allow.
    """

    start_t: float = 1.0
    blur_share: float = 0.5
    kernel_size: int = 9
    sigma: float = 18.0

    def __post_init__(self) -> None:
        if not 0 < self.start_t <= 1:
            raise ConfigError(f"start_t is {self.start_t}; it must be in (0, 1]")
        if not 0 <= self.blur_share <= 1:
            raise ConfigError(f"blur_share is {self.blur_share}; it must be in [0, 1]")
        if self.kernel_size < 1 or self.kernel_size % 2 == 0 or self.sigma <= 0:
            raise ConfigError(
                f"kernel_size must be odd and sigma positive, not {self.kernel_size}, {self.sigma}"
            )

    def degrade(
        self, clean: Tensor, given: Tensor, generator: torch.Generator | None = None
    ) -> Tensor:
        """For every frame the nearest given one, degraded: `[B, C, F, h, w]`."""
        index = nearest_given(given)[:, None, :, None, None].expand_as(clean)
        frames = clean.gather(2, index)
        device = clean.device if generator is None else generator.device
        draw = torch.rand(clean.shape, generator=generator, device=device).to(clean.device)
        blurred = gaussian_blur(frames, self.kernel_size, self.sigma)
        return torch.where(draw < self.blur_share, blurred, frames)


def gaussian_blur(frames: Tensor, kernel_size: int, sigma: float) -> Tensor:
    """Blur each channel of each frame of `[B, C, F, h, w]`, mirrored at the edges."""
    flat = frames.flatten(0, 2)[:, None]
    for axis in (2, 3):
        radius = min(kernel_size // 2, flat.shape[axis] - 1)
        offsets = torch.arange(-radius, radius + 1, device=flat.device, dtype=flat.dtype)
        weights = (-0.5 * (offsets / sigma).square()).exp()
        weights = weights / weights.sum()
        edge = (0, 0, radius, radius) if axis == 2 else (radius, radius, 0, 0)
        shape = (1, 1, -1, 1) if axis == 2 else (1, 1, 1, -1)
        flat = F.conv2d(F.pad(flat, edge, mode="reflect"), weights.view(shape))
    return flat[:, 0].view_as(frames)


class _LateStart:
    """A scheduler that leaves out its steps above a noise level, as image-to-image does."""

    def __init__(self, scheduler: Any, start_t: float) -> None:
        self._scheduler = scheduler
        self._start_t = start_t
        self.init_noise_sigma = 1.0  # the start is already at its level
        self.timesteps: Any = None
        self.skipped = 0

    def __getattr__(self, name: str) -> Any:
        return getattr(self._scheduler, name)

    def set_timesteps(self, num_inference_steps: int, device: Any = None) -> None:
        set_timesteps(self._scheduler, num_inference_steps, device)
        timesteps = self._scheduler.timesteps
        limit = self._start_t * float(self._scheduler.config.num_train_timesteps)
        above = int((timesteps > limit + 1e-4).sum())
        self.skipped = min(above, len(timesteps) - 1)
        self.timesteps = timesteps[self.skipped :]
        self.set_begin_index(0)

    def set_begin_index(self, index: int) -> None:
        """Where to begin among the steps that are left."""
        if hasattr(self._scheduler, "set_begin_index"):
            self._scheduler.set_begin_index(self.skipped + index)

    @property
    def first_t(self) -> float:
        return float(self.timesteps[0]) / float(self._scheduler.config.num_train_timesteps)


def sample_with_prior(
    model: Any,
    objective: Objective,
    scheduler: Any,
    conditions: Conditions,
    noise: Tensor,
    prior: FrameSimilarityPrior,
    *,
    num_inference_steps: int,
    generator: torch.Generator | None = None,
    **sampling: Any,
) -> Tensor:
    """`rdtf.sampling.sampling.sample`, started from the given frames; same result.

    Args:
        num_inference_steps: steps of the whole schedule; those above `start_t` are left out.
        sampling: guidance scales and callback, see `sample`.

    Raises:
        ConfigError: a clip without given frames, and a start below full noise.
    """
    late = _LateStart(scheduler, prior.start_t)
    late.set_timesteps(num_inference_steps, device=noise.device)
    exists = conditions.given.any(dim=1)
    if late.skipped and not bool(exists.all()):
        raise ConfigError("a clip without given frames can't start late: set start_t to 1")
    level = torch.full((len(noise),), late.first_t, device=noise.device)
    degraded = prior.degrade(conditions.clean, conditions.given, generator)
    start = objective.add_noise(degraded, noise, level)
    # What the sampler noises the given frames with stays plain noise.
    hidden = (exists[:, None] & ~conditions.given)[:, None, :, None, None]
    start = torch.where(hidden, start, noise)
    return sample(
        model,
        objective,
        late,
        conditions,
        start,
        num_inference_steps=num_inference_steps,
        generator=generator,
        **sampling,
    )
