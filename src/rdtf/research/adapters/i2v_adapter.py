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

Size at Stable Diffusion 1.5: 2·d² + d in each of 16 blocks, 24,793,280 parameters (paper: 24M).
"""

from __future__ import annotations

from typing import Any, ClassVar

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from rdtf.errors import ConfigError
from rdtf.research.adapters.common import AdaptedUNet, spatial_blocks
from rdtf.research.adapters.prior import Anchors, ClipContext, anchors


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
        settings: `null_text`, `num_train_timesteps`, see `AdaptedUNet`.

    The paper's content branch (a frozen IP-Adapter) is not built. Frame-similarity prior:
    `rdtf.research.adapters.prior`.
    """

    name: ClassVar[str] = "i2v-adapter"
    base_kinds: ClassVar[tuple[str, ...]] = ("motion",)

    def __init__(self, base: nn.Module, **settings: Any) -> None:
        super().__init__(base, **settings)
        if self.given_frames != "clean":
            raise ConfigError("i2v-adapter reads the clean given frame: given_frames must be clean")
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
        return anchors(given)
