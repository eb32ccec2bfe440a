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

from collections.abc import Callable
from pathlib import Path
from typing import Any, ClassVar, cast

import torch
import torch.nn.functional as F
from safetensors import SafetensorError
from torch import Tensor, nn

from rdtf.errors import ConfigError
from rdtf.models.loading import load_tensors
from rdtf.research.adapters.common import AdaptedUNet, cast_config, spatial_blocks
from rdtf.research.adapters.prior import Anchors, ClipContext, anchors

ContentEncoder = Callable[[Tensor], Tensor]


class FirstFrameBranch(nn.Module):
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
        content_encoder: for the content branch, a frozen IP-Adapter that is already in the base
            (`load_content_branch`): turns the clean latents of each clip's first given frame,
            `[B, C, h, w]`, into image embeddings as that IP-Adapter reads them, `[B, E]` or, for
            the "plus" kinds, `[B, T, E]` (decode, CLIP image encoder). Clips without a given frame
            get zeros.
        settings: `null_text`, `num_train_timesteps`, see `AdaptedUNet`.

    Frame-similarity prior: `rdtf.research.adapters.prior`.
    """

    name: ClassVar[str] = "i2v-adapter"
    base_kinds: ClassVar[tuple[str, ...]] = ("motion",)

    def __init__(
        self, base: nn.Module, *, content_encoder: ContentEncoder | None = None, **settings: Any
    ) -> None:
        super().__init__(base, **settings)
        if self.given_frames != "clean":
            raise ConfigError("i2v-adapter reads the clean given frame: given_frames must be clean")
        if has_content_branch(base) != (content_encoder is not None):
            raise ConfigError(
                "the content branch needs both: an IP-Adapter in the base (load_content_branch) "
                "and a content_encoder"
            )
        # In a tuple it is no submodule: it is neither trained nor saved with the adapter.
        self._content_encoder = (content_encoder,)
        self.branches = nn.ModuleDict()
        for name, block in spatial_blocks(base).items():
            branch = FirstFrameBranch(block.attn1, self.context)
            block.attn1.register_forward_hook(branch.add, with_kwargs=True)
            self.branches[name.replace(".", "-")] = branch
        self.begin("tune")

    def _anchors(self, given: Tensor) -> Anchors | None:
        # With gradients, branches run even where nothing is given: distributed training waits for
        # a gradient (a zero then) of every parameter.
        if not torch.is_grad_enabled() and not bool(given.any()):
            return None
        return anchors(given)

    def _extra_conditions(self, clean: Tensor, given: Tensor) -> dict[str, Any] | None:
        (encoder,) = self._content_encoder
        if encoder is None:
            return None
        first = given.int().argmax(dim=1)
        stills = clean[torch.arange(len(clean), device=clean.device), :, first]
        with torch.no_grad():
            embeddings = encoder(stills)
        shown = given.any(dim=1).view(-1, *[1] * (embeddings.ndim - 1))
        embeddings = torch.where(shown, embeddings, 0.0).to(next(self.base.parameters()).dtype)
        return {"image_embeds": [embeddings[:, None]]}


def has_content_branch(base: nn.Module) -> bool:
    """Whether an IP-Adapter has been loaded into the base."""
    return getattr(cast_config(base), "encoder_hid_dim_type", None) == "ip_image_proj"


def load_content_branch(base: nn.Module, file: Path | str) -> None:
    """Put a published IP-Adapter for Stable Diffusion into a motion U-Net's text attention.

    Args:
        file: its safetensors file, with `image_proj.*` and `ip_adapter.*`. Local, never pickle.

    Raises:
        ConfigError: no such file, or not an IP-Adapter for this base.
    """
    parts: dict[str, dict[str, Tensor]] = {"image_proj": {}, "ip_adapter": {}}
    try:
        for name, tensor in load_tensors(file).items():
            part, rest = name.split(".", 1)
            parts[part][rest] = tensor
        cast(Any, base)._load_ip_adapter_weights([parts], low_cpu_mem_usage=False)
    except (OSError, SafetensorError) as error:
        raise ConfigError(f"content branch {file} can't be read: {error}") from error
    except (KeyError, RuntimeError, ValueError) as error:
        raise ConfigError(f"{file} is no IP-Adapter for this base: {error}") from error
