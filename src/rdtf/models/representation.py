"""What the denoiser works on: pixels folded into patches, or the latents of an autoencoder.

All take premultiplied RGBA in [-1, 1], `[N, 4, H, W]`, and give latents `[N, C, h, w]`. The
denoiser does not know which one it is.
"""

from __future__ import annotations

import hashlib
import json
from typing import Any, cast

import torch
import torch.nn.functional as F
from diffusers.configuration_utils import ConfigMixin, register_to_config
from diffusers.models.autoencoders.autoencoder_kl import AutoencoderKL
from diffusers.models.modeling_utils import ModelMixin
from diffusers.utils.accelerate_utils import apply_forward_hook
from torch import Tensor, nn

from rdtf.errors import ConfigError
from rdtf.models.loading import OwnMemory


class PixelPatches(ModelMixin, ConfigMixin):
    """Pixels folded into channels: exact both ways, nothing to train, no ceiling on sharpness.

    `[N, 4, H, W]` ↔ `[N, 4·patch², H/patch, W/patch]`.
    """

    name = "pixels"

    @register_to_config
    def __init__(self, patch: int = 4) -> None:
        super().__init__()
        self.patch = patch
        # diffusers and accelerate read a model's dtype and device off a parameter.
        self.anchor = nn.Parameter(torch.zeros(1), requires_grad=False)

    @property
    def fingerprint(self) -> str:
        return f"pixels-{self.patch}"

    @property
    def latent_channels(self) -> int:
        return 4 * self.patch**2

    @property
    def downsampling(self) -> int:
        return self.patch

    @apply_forward_hook
    def encode(self, pixels: Tensor) -> tuple[Tensor, Tensor | None]:
        """Pixels `[N, 4, H, W]` → (latents, None): there is no posterior to sample."""
        return F.pixel_unshuffle(pixels, self.patch), None

    @apply_forward_hook
    def decode(self, latents: Tensor) -> Tensor:
        """Latents `[N, C, h, w]` → pixels `[N, 4, H, W]`."""
        return F.pixel_shuffle(latents, self.patch)


class RGBAAutoencoder(OwnMemory, AutoencoderKL):
    """A KL autoencoder over premultiplied RGBA, trained from scratch (`rdtf train-autoencoder`).

    `[N, 4, H, W]` ↔ `[N, latent_channels, H/8, W/8]`. Latents come out scaled to unit variance by
    `scaling_factor`, which training measures and stores.
    """

    name = "rgba-autoencoder"

    @classmethod
    def create(
        cls,
        channels: tuple[int, ...] = (32, 64, 128, 128),
        layers_per_block: int = 1,
        latent_channels: int = 8,
        sample_size: int = 128,
    ) -> RGBAAutoencoder:
        """An untrained one; four levels make it 8× down, about 4 M parameters."""
        build: Any = cls  # diffusers annotates these tuples as being of length one
        return build(
            in_channels=4,
            out_channels=4,
            down_block_types=("DownEncoderBlock2D",) * len(channels),
            up_block_types=("UpDecoderBlock2D",) * len(channels),
            block_out_channels=channels,
            layers_per_block=layers_per_block,
            latent_channels=latent_channels,
            norm_num_groups=min(16, channels[0]),
            sample_size=sample_size,
            scaling_factor=1.0,
            mid_block_add_attention=False,
        )

    def posterior(self, pixels: Tensor) -> tuple[Tensor, Tensor]:
        """Unscaled mean and log-variance, each `[N, C, h, w]`."""
        distribution = cast(Any, AutoencoderKL.encode(self, pixels)).latent_dist
        return distribution.mean, distribution.logvar

    def reconstruct(self, latents: Tensor) -> Tensor:
        """Unscaled latents → pixels."""
        return cast(Any, AutoencoderKL.decode(self, cast(Any, latents))).sample


class _KLLatents:
    """A frozen `AutoencoderKL` as a `Representation`: latents scaled to unit variance."""

    name: str

    def __init__(self, autoencoder: AutoencoderKL) -> None:
        self.autoencoder = autoencoder.eval().requires_grad_(False)
        self._config = cast(Any, autoencoder.config)
        self.scale = float(self._config.scaling_factor)

    @property
    def fingerprint(self) -> str:
        return f"{self.name}-{_weights_digest(self.autoencoder)}"

    @property
    def latent_channels(self) -> int:
        return self._config.latent_channels

    @property
    def downsampling(self) -> int:
        return 2 ** (len(self._config.block_out_channels) - 1)

    @torch.no_grad()
    def encode(self, pixels: Tensor) -> tuple[Tensor, Tensor | None]:
        """Scaled mean and log-variance of the posterior."""
        encoded: Any = self.autoencoder.encode(pixels.to(self.autoencoder.dtype))
        mean, logvar = encoded.latent_dist.mean.float(), encoded.latent_dist.logvar.float()
        return mean * self.scale, logvar + 2 * torch.log(torch.tensor(self.scale))

    @torch.no_grad()
    def decode(self, latents: Tensor) -> Tensor:
        latents = (latents / self.scale).to(self.autoencoder.dtype)
        decoded: Any = self.autoencoder.decode(cast(Any, latents))
        return decoded.sample.float().clamp(-1, 1)


class LearnedLatents(_KLLatents):
    """An `RGBAAutoencoder` as a `Representation`: alpha included."""

    name = "rgba-autoencoder"


class _PublicLatents(_KLLatents):
    """A public RGB `AutoencoderKL` (as in the paper): stickers on white, alpha by a matte.

    Decoded frames get their transparency back by `_white_matte`, so pure white that touches the
    border becomes transparent: a limit of RGB latents, not of this program's other two ways.
    """

    name = "public-autoencoder"

    def __init__(self, autoencoder: AutoencoderKL) -> None:
        if cast(Any, autoencoder.config).in_channels != 3:
            raise ConfigError("a public autoencoder must take RGB; use RGBAAutoencoder for RGBA")
        super().__init__(autoencoder)

    def encode(self, pixels: Tensor) -> tuple[Tensor, Tensor | None]:
        """Premultiplied RGBA in [-1, 1] → RGB on white → scaled mean and log-variance."""
        color, alpha = (pixels[:, :3] + 1) / 2, (pixels[:, 3:] + 1) / 2
        return super().encode((color + (1 - alpha)) * 2 - 1)

    def decode(self, latents: Tensor) -> Tensor:
        return _white_matte((super().decode(latents) + 1) / 2) * 2 - 1


#: What training, caching and sampling work with.
Representation = PixelPatches | LearnedLatents | _PublicLatents


def _white_matte(rgb: Tensor, softness: float = 0.1, iterations: int = 512) -> Tensor:
    """Premultiplied RGBA from RGB on white, both in [0, 1]: `[N, 3, H, W]` → `[N, 4, H, W]`.

    A pixel is background if it is near white and connected to the border through such pixels, side
    by side: a thin outline keeps the paper out. Edge pixels next to the background get twice the
    smallest alpha that explains their colour on white.
    """
    needed_alpha = (1 - rgb).amax(dim=1, keepdim=True)
    whitish = needed_alpha < softness
    background = whitish & _border(whitish)
    for _ in range(iterations):
        grown = whitish & _side_by_side(background)
        if torch.equal(grown, background):
            break
        background = grown
    near = F.max_pool2d(background.float(), 5, 1, 2) > 0
    alpha = torch.where(background, (needed_alpha / softness) ** 2 * softness, 1.0)
    alpha = torch.where(near & ~whitish, (needed_alpha * 2).clamp(max=1), alpha)
    color = (rgb - (1 - alpha)).clamp(min=0)
    return torch.cat([torch.minimum(color, alpha), alpha], dim=1)


def _side_by_side(mask: Tensor) -> Tensor:
    """The mask and its neighbours above, below, left and right."""
    mask = mask.float()
    rows, columns = F.max_pool2d(mask, (3, 1), 1, (1, 0)), F.max_pool2d(mask, (1, 3), 1, (0, 1))
    return torch.maximum(rows, columns) > 0


def _border(mask: Tensor) -> Tensor:
    border = torch.zeros_like(mask)
    border[..., 0, :] = border[..., -1, :] = True
    border[..., :, 0] = border[..., :, -1] = True
    return border


def _weights_digest(module: nn.Module) -> str:
    """Short sha256 over names, shapes and bytes of all weights."""
    digest = hashlib.sha256()
    for name, tensor in sorted(module.state_dict().items()):
        digest.update(json.dumps([name, list(tensor.shape), str(tensor.dtype)]).encode())
        digest.update(tensor.detach().cpu().contiguous().view(-1).view(torch.uint8).numpy().data)
    return digest.hexdigest()[:16]


def as_representation(module: nn.Module) -> Representation:
    """Wrap whatever a saved pipeline holds as its `autoencoder` component."""
    if isinstance(module, PixelPatches):
        return module
    if isinstance(module, RGBAAutoencoder):
        return LearnedLatents(module)
    if isinstance(module, AutoencoderKL):
        return _PublicLatents(module)
    raise ConfigError(f"{type(module).__name__} is no known representation")


def premultiplied(frames: Tensor) -> Tensor:
    """uint8 `[..., S, S, 4]` straight → `[..., 4, S, S]` premultiplied in [−1, 1]."""
    pixels = frames.float() / 255
    rgb, alpha = pixels.split([3, 1], dim=-1)
    return (torch.cat([rgb * alpha, alpha], dim=-1) * 2 - 1).movedim(-1, -3)
