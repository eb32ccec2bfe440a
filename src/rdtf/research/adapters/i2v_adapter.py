"""I2V-Adapter (arXiv 2312.16693, §3.2): a still leads the frames of a motion U-Net.

The still enters as a noise-free frame of the clip. Beside every spatial self-attention there is a
second one: its query is a trainable copy of the frozen query, its keys and values are those of the
still (through the frozen projections), its output projection starts at zero, and its result is
added. Only the copied queries and the new output projections are trained; the loss leaves out the
still (that is the package's loss on hidden frames).

The paper gives one still, the first frame. Here every frame looks at the *given frame nearest in
time* (the earlier of two), which is the paper's rule where only the first is given, and extends it
to a still at any place, to interpolation and to prediction. A clip without given frames passes as
through the base alone.

**Frame-similarity prior** (§3.3): where sampling starts. At high noise, a noised first frame is
much like the noised frames that follow it. So sampling may start at a level t0 < T from the given
frame, degraded and then noised to t0: few steps are left in which large changes can happen, and the
still's layout is kept. Two numbers trade stability for motion: t0, and how much of the still is
replaced by a blurred copy of it. The paper's text and its formula disagree on which way its p
mixes; its Table 2 shows more motion for larger p, so `blur_share` is named for what it does.

Size at Stable Diffusion 1.5: 2·d² + d in each of 16 blocks, 24,793,280 parameters (paper: 24M).
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, ClassVar

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from rdtf.errors import ConfigError
from rdtf.method.objective import Objective
from rdtf.models.conditions import Conditions
from rdtf.research.adapters.common import AdaptedUNet, Anchors, ClipContext, spatial_blocks
from rdtf.sampling.sampling import sample
from rdtf.sampling.schedulers import set_timesteps


class _FirstFrameBranch(nn.Module):
    """Attention from every frame to the clean given frame, beside one self-attention.

    Args:
        attention: the frozen self-attention (diffusers' `Attention`), whose keys and values it
            shares; not a part of this module.
        context: says which given frame each frame looks at.
    """

    def __init__(self, attention: Any, context: ClipContext) -> None:
        super().__init__()
        width = attention.to_q.in_features
        self.to_q = nn.Linear(width, attention.to_q.out_features, bias=False)
        self.to_out = nn.Linear(attention.to_q.out_features, width)
        place = attention.to_q.weight
        self.to(device=place.device)
        with torch.no_grad():
            self.to_q.weight.copy_(place)
        nn.init.zeros_(self.to_out.weight)
        nn.init.zeros_(self.to_out.bias)
        self._context = context

    def add(self, attention: Any, args: Any, kwargs: dict[str, Any], output: Tensor) -> Tensor:
        """Forward hook of the self-attention: its output, with the branch's added."""
        clip = self._context.state.anchors
        if clip is None:
            return output
        hidden = args[0] if args else kwargs["hidden_states"]
        return output + self(attention, hidden, clip).to(output.dtype)

    def forward(self, attention: Any, hidden: Tensor, clip: Anchors) -> Tensor:
        """`hidden` is the normalised input of the self-attention, `[B·F, N, D]`; same shape out."""

        def heads(x: Tensor) -> Tensor:
            return x.unflatten(2, (attention.heads, -1)).transpose(1, 2)

        source = hidden[clip.rows]
        query = heads(self.to_q(hidden.to(self.to_q.weight.dtype)))
        # Each given frame is projected once, however many frames look at it.
        key = heads(attention.to_k(source)).to(query.dtype)[clip.choice]
        value = heads(attention.to_v(source)).to(query.dtype)[clip.choice]
        read = F.scaled_dot_product_attention(query, key, value)
        out = self.to_out(read.transpose(1, 2).flatten(2))
        return torch.where(clip.exists[:, None, None], out, 0.0)


class I2VAdapter(AdaptedUNet):
    """First-frame branches on a frozen `UNetMotionModel`.

    Args:
        base: the motion U-Net (Stable Diffusion with AnimateDiff's motion modules).
        settings: `null_text`, see `AdaptedUNet`.

    The paper's content branch (a frozen IP-Adapter) is not built.
    """

    name: ClassVar[str] = "i2v-adapter"
    base_kinds: ClassVar[tuple[str, ...]] = ("motion",)

    def __init__(self, base: nn.Module, **settings: Any) -> None:
        super().__init__(base, **settings)
        self.branches = nn.ModuleDict()
        for name, block in spatial_blocks(base).items():
            branch = _FirstFrameBranch(block.attn1, self.context)
            block.attn1.register_forward_hook(branch.add, with_kwargs=True)
            self.branches[name.replace(".", "-")] = branch
        self.begin("tune")

    def _anchors(self, given: Tensor) -> Anchors | None:
        # With gradients, branches run even where nothing is given: distributed training waits for
        # a gradient (a zero then) of every parameter.
        if not torch.is_grad_enabled() and not bool(given.any()):
            return None
        return _anchors(given)


def _nearest_given(given: Tensor) -> Tensor:
    """Index of the given frame that is nearest in time, `[B, F]`; of two, the earlier.

    A clip without given frames gets 0 everywhere.
    """
    places = torch.arange(given.shape[1], device=given.device)
    steps = places[None, None, :] - places[None, :, None]
    cost = steps.abs() + 0.25 * (steps > 0)
    cost = cost.expand(given.shape[0], -1, -1).masked_fill(~given[:, None, :], float("inf"))
    return cost.argmin(dim=2)


def _anchors(given: Tensor) -> Anchors:
    """Which given frame each frame of the batch looks at; `given` is bool `[B, F]`."""
    batch, frames = given.shape
    first_rows = torch.arange(batch, device=given.device)[:, None] * frames
    flat = (first_rows + _nearest_given(given)).flatten()
    rows, choice = torch.unique(flat, return_inverse=True)
    exists = given.any(dim=1, keepdim=True).expand(-1, frames).flatten()
    return Anchors(rows, choice, exists)


# ------------------------------------------------------------------ where sampling starts


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
        index = _nearest_given(given)[:, None, :, None, None].expand_as(clean)
        frames = clean.gather(2, index)
        device = clean.device if generator is None else generator.device
        draw = torch.rand(clean.shape, generator=generator, device=device).to(clean.device)
        blurred = _gaussian_blur(frames, self.kernel_size, self.sigma)
        return torch.where(draw < self.blur_share, blurred, frames)


def _gaussian_blur(frames: Tensor, kernel_size: int, sigma: float) -> Tensor:
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
