"""All of a base trained: full fine-tuning, the comparison's upper row, and pre-training."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any, ClassVar, cast

from torch import Tensor, nn

from rdtf.research.adapters.bases import load_base
from rdtf.research.adapters.common import AdaptedUNet, copy_tensors
from rdtf.research.adapters.files import read_adapter, write_adapter


class FullFineTuning(AdaptedUNet):
    """Every parameter of the base is trained; nothing is added.

    For *pre-training* a base, give it text-to-video samples only (task `t2v`): then nothing is
    given and it is the plain U-Net. A text-to-image base treats every frame as an image. The
    folder that `save` writes has the trained U-Net in `unet/`: `load_base(kind, folder)` reads it.
    """

    name: ClassVar[str] = "full-fine-tuning"
    base_kinds: ClassVar[tuple[str, ...]] = ("motion", "image", "video")

    def __init__(self, base: nn.Module, **settings: Any) -> None:
        super().__init__(base, **settings)
        self.begin("tune")

    def adapter_parameters(self) -> dict[str, nn.Parameter]:
        return dict(self.named_parameters())

    def _trained(self, stage: str) -> Sequence[nn.Parameter]:
        return [] if stage == "sampling" else list(self.base.parameters())

    def train(self, mode: bool = True) -> FullFineTuning:
        """Dropout works in training, as in any training of such a U-Net."""
        nn.Module.train(self, mode)
        return self

    def save(self, folder: Path | str) -> None:
        """Write adapter.json and the whole U-Net, as diffusers does, in `unet/`."""
        base = cast(Any, self.base)
        write_adapter(
            folder,
            self.name,
            self.settings,
            type(base).__name__,
            {"null_text": self.get_buffer("null_text")},
            lambda place: base.save_pretrained(place / "unet", safe_serialization=True),
        )

    def load(self, folder: Path | str) -> None:
        saved = read_adapter(folder, self.name)
        trained = load_base(self.base_kind, Path(folder))
        copy_tensors(
            dict(self.base.named_parameters()), dict(trained.named_parameters()), f"{folder}"
        )
        self.null_text = saved.tensors["null_text"].to(cast(Tensor, self.null_text))
