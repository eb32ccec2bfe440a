"""What the adapters have in common: one calling convention over three kinds of published U-Net.

An adapter is a module that holds a U-Net of diffusers (the *base*) and adds to it. It is called
like `rdtf.models.dfgn.DFGN`, so the objective, batches, training step and sampler of this package
train and sample it too. How the two differ:

- **Given frames.** These U-Nets have no input for a condition mask. The given frames' clean latents
  stand in place of the noisy ones, in training and in sampling alike (so I2V-Adapter does with the
  first frame; here it is done at any position, which makes interpolation and prediction the same
  thing). The RDTF paper's Table 2 scores I2V-Adapter and SimDA on interpolation and prediction
  without saying how it was done; this is the stronger of the two ways that leave the U-Net as it is
  (the other leaves them to the sampler's replacement), so that no baseline is weakened by it.
- **Padding.** They have no validity mask either: attention over time, temporal convolutions and
  the norms over time would read padded slots. A batch of clips of several lengths is therefore
  run in one pass per length, each cut to its frames: exact, but slower than clips of one length.
- **Text.** A clip without text reads `null_text`: states of the empty prompt for a published
  model, a zero token (attention then yields its output bias) for one trained here.
- The frame duration is not read.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, ClassVar

import torch
from diffusers import UNet2DConditionModel, UNet3DConditionModel, UNetMotionModel
from diffusers.models.transformers.transformer_2d import Transformer2DModel
from safetensors import SafetensorError
from safetensors.torch import save_file
from torch import Tensor, nn

from rdtf.errors import CheckpointError, ConfigError
from rdtf.fileio import atomic_folder, read_json, write_json
from rdtf.models.conditions import Conditions
from rdtf.models.loading import load_tensors

_FORMAT_VERSION = 1
_WEIGHTS, _CONFIG = "adapter.safetensors", "adapter.json"
_TRAIN_TIMESTEPS = 1000  # the base's timestep at noise level 1
# Settings of earlier versions that have no other value now.
_FORMER_SETTINGS = ("given_frames", "num_train_timesteps", "latent_shift", "include_input",
                    "appearance_rank")  # fmt: skip
SAMPLING = "sampling"

BASE_CLASSES: dict[str, type[nn.Module]] = {
    "motion": UNetMotionModel,
    "image": UNet2DConditionModel,
    "video": UNet3DConditionModel,
}


# ------------------------------------------------------------------ state of a pass


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
        """A new pass."""
        self._state = state


def write_adapter(
    folder: Path | str,
    adapter: AdaptedUNet,
    tensors: Mapping[str, Tensor],
    add_files: Callable[[Path], object] = lambda place: None,
) -> None:
    """Write an adapter's folder, without its base, whole or not at all; `add_files` adds to it."""
    with atomic_folder(folder) as temporary:
        save_file(
            {key: tensor.detach().cpu().contiguous() for key, tensor in tensors.items()},
            temporary / _WEIGHTS,
        )
        write_json(
            temporary / _CONFIG,
            {
                "version": _FORMAT_VERSION,
                "adapter": adapter.name,
                "settings": adapter.settings,
                "base": type(adapter.base).__name__,
            },
        )
        add_files(temporary)


def read_adapter(
    folder: Path | str, name: str | None = None
) -> tuple[str, dict[str, Any], dict[str, Tensor]]:
    """Name, settings and tensors of a folder; `name` = the only kind that is accepted."""
    folder = Path(folder)
    if not (folder / _CONFIG).is_file():
        raise CheckpointError(f"{folder} holds no adapter ({_CONFIG} is missing)")
    config = read_json(folder / _CONFIG, "adapter config")
    try:
        version, kind = int(config["version"]), str(config["adapter"])
        saved = dict(config["settings"])
        settings = {key: value for key, value in saved.items() if key not in _FORMER_SETTINGS}
    except (KeyError, TypeError, ValueError) as error:
        raise CheckpointError(f"{folder / _CONFIG} is damaged: {error!r}; save it anew") from error
    if version > _FORMAT_VERSION:
        raise CheckpointError(f"{folder} was written by a newer rdtf; update rdtf")
    if name is not None and kind != name:
        raise CheckpointError(f"{folder} holds a {kind}, not a {name}")
    try:
        tensors = load_tensors(folder / _WEIGHTS)
    except (OSError, SafetensorError) as error:
        raise CheckpointError(
            f"{folder / _WEIGHTS} can't be read: {error}; save it anew"
        ) from error
    return kind, settings, tensors


class AdaptedUNet(nn.Module):
    """A frozen U-Net and what is trained beside it.

    Args:
        base: the U-Net; it is changed in place (hooks), so each adapter needs one of its own.
        null_text: what a clip without text reads, `[N, D]` or `[1, N, D]`; one zero token if None.

    Subclasses put their modules beside `base` and say in `_trained` what a stage trains.
    """

    name: ClassVar[str]
    base_kinds: ClassVar[tuple[str, ...]]
    stages: ClassVar[tuple[str, ...]] = ("tune",)

    def __init__(self, base: nn.Module, *, null_text: Tensor | None = None) -> None:
        super().__init__()
        self.base = base
        self.base_kind = _base_kind(base)
        if self.base_kind not in self.base_kinds:
            raise ConfigError(
                f"{self.name} adapts {' or '.join(self.base_kinds)} U-Nets, not "
                f"{type(base).__name__}; see rdtf.research.adapters.bases.load_base"
            )
        self.context = ClipContext()
        if null_text is None:
            null_text = torch.zeros(1, 1, _text_width(base))
        self.register_buffer("null_text", null_text.reshape(1, *null_text.shape[-2:]))
        for block in spatial_blocks(base).values():
            if block.attn2 is not None:
                block.attn2.register_forward_pre_hook(self._mask_text, with_kwargs=True)

    # ------------------------------------------------------------------ what is trained

    @property
    def settings(self) -> dict[str, Any]:
        """Constructor arguments that are saved with the weights; plain values."""
        return {}

    def begin(self, stage: str) -> None:
        """Make ready for a stage: one of `stages`, or "sampling", where nothing is trained.

        Sets which parameters have gradients; build the optimizer afterwards.
        """
        if stage not in (*self.stages, SAMPLING):
            raise ConfigError(
                f"{self.name} has no stage {stage!r}; choose {', '.join(self.stages)} or sampling"
            )
        self.requires_grad_(False)
        for parameter in self._trained(stage):
            parameter.requires_grad_(True)
        self.train(stage != SAMPLING)

    def _trained(self, stage: str) -> Sequence[nn.Parameter]:
        """Parameters that `stage` trains: all that do not belong to the base."""
        return [] if stage == SAMPLING else list(self.adapter_parameters().values())

    def adapter_parameters(self) -> dict[str, nn.Parameter]:
        """Everything that the adapter adds, by name: what is saved."""
        return {
            name: parameter
            for name, parameter in self.named_parameters()
            if not name.startswith("base.")
        }

    def trainable_parameters(self) -> list[nn.Parameter]:
        """Parameters with gradients in the present stage."""
        return [parameter for parameter in self.parameters() if parameter.requires_grad]

    def train(self, mode: bool = True) -> AdaptedUNet:
        """The base stays in evaluation mode (no dropout) as long as all of it is frozen."""
        super().train(mode)
        if not any(parameter.requires_grad for parameter in self._base_parameters()):
            self.base.eval()
        return self

    def _base_parameters(self) -> list[nn.Parameter]:
        return list(self.base.parameters())

    @property
    def device(self) -> torch.device:
        """Where it is; pipelines of diffusers ask for it."""
        return self.get_buffer("null_text").device

    @property
    def dtype(self) -> torch.dtype:
        """Type of what the adapter adds."""
        return self.get_buffer("null_text").dtype

    # ------------------------------------------------------------------ forward

    def forward(self, noisy: Tensor, t: Tensor, conditions: Conditions) -> Tensor:
        """What the U-Net predicts for every frame (eps, v or x, as the objective trains it).

        Args:
            noisy: latents at noise level t, `[B, C, F, h, w]`.
            t: noise level in [0, 1], `[B]`; times 1000 it is the timestep.
            conditions: valid frames come first; the frame duration is not read.

        Returns:
            `[B, C, F, h, w]`; zero outside the clips.
        """
        frames = noisy.shape[2]
        clean, valid = conditions.clean, conditions.valid
        given = conditions.given & valid
        null_text = self.get_buffer("null_text")
        states, mask = _join_text(conditions.text, conditions.text_mask, null_text, len(noisy))
        outputs, order = [], []
        for rows, length in _length_groups(valid):
            whole = len(rows) == len(noisy)
            pick = slice(None) if whole else torch.tensor(rows, device=noisy.device)
            out = self._predict(
                noisy[pick][:, :, :length],
                t[pick],
                clean[pick][:, :, :length],
                given[pick][:, :length],
                states[pick],
                None if mask is None else mask[pick],
            )
            outputs.append(nn.functional.pad(out, (0, 0, 0, 0, 0, frames - length)))
            order += rows
        if len(outputs) == 1:
            return outputs[0]
        back = torch.tensor(order, device=noisy.device).argsort()
        return torch.cat(outputs)[back]

    def _predict(
        self,
        noisy: Tensor,
        t: Tensor,
        clean: Tensor,
        given: Tensor,
        text: Tensor,
        text_mask: Tensor | None,
    ) -> Tensor:
        """One pass through the base; all clips have the same length."""
        seen = torch.where(given[:, None, :, None, None], clean, noisy)
        dtype = next(self.base.parameters()).dtype
        frames, height, width = noisy.shape[2:]
        self.context.begin(
            ClipState(
                frames=frames,
                grid=(height, width),
                text_bias=_text_bias(text_mask, frames, dtype),
                anchors=self._anchors(given),
            )
        )
        timestep = t.float() * _TRAIN_TIMESTEPS
        return _run_base(self.base, seen.to(dtype), timestep, text.to(dtype)).to(noisy.dtype)

    def _anchors(self, given: Tensor) -> Anchors | None:
        """Which given frames the inserted modules read; none unless a subclass says."""
        return None

    def _mask_text(self, module: nn.Module, args: Any, kwargs: dict[str, Any]) -> Any:
        """Before each text attention: tokens outside the mask do not count."""
        bias = self.context.state.text_bias
        if bias is not None:
            kwargs["attention_mask"] = bias
        return args, kwargs

    # ------------------------------------------------------------------ files

    def save(self, folder: Path | str) -> None:
        """Write what the adapter added, without the base: adapter.safetensors, adapter.json."""
        tensors = {**self.adapter_parameters(), "null_text": self.get_buffer("null_text")}
        write_adapter(folder, self, tensors)

    def load(self, folder: Path | str) -> None:
        """Read what `save` wrote into this adapter.

        Raises:
            CheckpointError: no adapter there, one of another kind, or for a base of another size.
        """
        _, _, tensors = read_adapter(folder, self.name)
        null_text = tensors.pop("null_text", None)
        if null_text is not None:
            self.null_text = null_text.to(self.get_buffer("null_text"))
        copy_tensors(self.adapter_parameters(), tensors, f"adapter {folder}")


# ------------------------------------------------------------------ lengths and text


def _length_groups(valid: Tensor) -> list[tuple[list[int], int]]:
    """Clips by length: pairs of (rows, number of frames), shortest first.

    Valid frames come first, padding behind them. Costs a copy to the host.
    """
    frames = valid.shape[1]
    lengths = [max((i + 1 for i in range(frames) if row[i]), default=1) for row in valid.tolist()]
    return [
        ([row for row, length in enumerate(lengths) if length == wanted], wanted)
        for wanted in sorted(set(lengths))
    ]


def _join_text(
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


def _text_bias(mask: Tensor | None, frames: int, dtype: torch.dtype) -> Tensor | None:
    """Mask `[B, T]` → what is added to the scores of each frame's queries, `[B·F, 1, T]`."""
    if mask is None:
        return None
    bias = torch.zeros(mask.shape, dtype=dtype, device=mask.device)
    bias = bias.masked_fill(~mask, torch.finfo(dtype).min / 2)
    return bias.repeat_interleave(frames, dim=0)[:, None]


# ---------------------------------------------------------------------- the three bases


def _base_kind(base: nn.Module) -> str:
    """ "motion", "image" or "video"; anything else is a `ConfigError`."""
    for kind, base_class in BASE_CLASSES.items():
        if isinstance(base, base_class):
            return kind
    known = ", ".join(base_class.__name__ for base_class in BASE_CLASSES.values())
    raise ConfigError(f"a base is one of diffusers' {known}, not {type(base).__name__}")


def _text_width(base: Any) -> int:
    """Width of the token states that a base reads."""
    width = base.config.cross_attention_dim
    return int(width if isinstance(width, int) else width[0])


def spatial_blocks(base: nn.Module) -> dict[str, Any]:
    """Transformer blocks within the frame, by their name in the base; those over time are left out.

    They are the same in all three kinds: self-attention `attn1`, text attention `attn2`, `ff`.
    """
    return {
        f"{name}.transformer_blocks.{index}": block
        for name, module in base.named_modules()
        if isinstance(module, Transformer2DModel)
        for index, block in enumerate(module.transformer_blocks)
    }


def _run_base(base: Any, noisy: Tensor, timestep: Tensor, text: Tensor) -> Tensor:
    """Call a diffusers U-Net on clips `[B, C, F, h, w]`; same shape out.

    A text-to-image U-Net sees the frames as a batch (inflated: what happens over time is up to
    the modules put into it). `text` is `[B, T, D]`, `timestep` is `[B]`.
    """
    batch, _, frames = noisy.shape[:3]
    if isinstance(base, UNet3DConditionModel):
        return base(noisy, timestep, text, return_dict=False)[0]
    per_frame = text.repeat_interleave(frames, dim=0)
    if isinstance(base, UNetMotionModel):
        config: Any = base.config
        limit = int(config.motion_max_seq_length)
        if frames > limit:
            raise ConfigError(f"this motion U-Net knows {limit} frames, the clip has {frames}")
        return base(noisy, timestep, per_frame, return_dict=False)[0]
    out = base(
        noisy.transpose(1, 2).flatten(0, 1),
        timestep.repeat_interleave(frames),
        per_frame,
        return_dict=False,
    )[0]
    return out.unflatten(0, (batch, frames)).transpose(1, 2)


def in_own_dtype(module: nn.Module, x: Tensor) -> Tensor:
    """A small float32 module beside a half-precision base: computed in its own type."""
    return module(x.to(next(module.parameters()).dtype)).to(x.dtype)


def copy_tensors(own: Mapping[str, Tensor], saved: Mapping[str, Tensor], what: str) -> None:
    """Copy `saved` into `own`; other names or shapes are a `CheckpointError`."""
    for name in sorted({*own, *saved}):
        if name not in own or name not in saved or own[name].shape != saved[name].shape:
            raise CheckpointError(f"{what} does not fit this base: {name}; use the base it had")
    with torch.no_grad():
        for name, tensor in own.items():
            tensor.copy_(saved[name])
