"""An adapter's own files: adapter.safetensors and adapter.json, without the base."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from safetensors import SafetensorError
from safetensors.torch import save_file
from torch import Tensor

from rdtf.errors import CheckpointError
from rdtf.fileio import atomic_folder, read_json, write_json
from rdtf.models.loading import load_tensors

FORMAT_VERSION = 1
WEIGHTS, CONFIG = "adapter.safetensors", "adapter.json"


@dataclass(frozen=True)
class SavedAdapter:
    """What an adapter's folder holds."""

    name: str
    settings: dict[str, Any]
    base_class: str
    tensors: dict[str, Tensor]


def write_adapter(
    folder: Path | str,
    name: str,
    settings: Mapping[str, Any],
    base_class: str,
    tensors: Mapping[str, Tensor],
    add_files: Callable[[Path], object] | None = None,
) -> None:
    """Write a folder whole or not at all; `add_files` puts more into it."""
    with atomic_folder(folder) as temporary:
        save_file(
            {key: tensor.detach().cpu().contiguous() for key, tensor in tensors.items()},
            temporary / WEIGHTS,
        )
        write_json(
            temporary / CONFIG,
            {
                "version": FORMAT_VERSION,
                "adapter": name,
                "settings": dict(settings),
                "base": base_class,
            },
        )
        if add_files is not None:
            add_files(temporary)


def read_adapter(folder: Path | str, name: str | None = None) -> SavedAdapter:
    """Read a folder that `write_adapter` made; `name` = the only kind that is accepted."""
    folder = Path(folder)
    if not (folder / CONFIG).is_file():
        raise CheckpointError(f"{folder} holds no adapter ({CONFIG} is missing)")
    config = read_json(folder / CONFIG, "adapter config")
    try:
        version, kind = int(config["version"]), str(config["adapter"])
        settings, base_class = dict(config["settings"]), str(config["base"])
    except (KeyError, TypeError, ValueError) as error:
        raise CheckpointError(f"{folder / CONFIG} is damaged: {error!r}; save it anew") from error
    if version > FORMAT_VERSION:
        raise CheckpointError(f"{folder} was written by a newer rdtf; update rdtf")
    if name is not None and kind != name:
        raise CheckpointError(f"{folder} holds a {kind}, not a {name}")
    try:
        tensors = load_tensors(folder / WEIGHTS)
    except (OSError, SafetensorError) as error:
        raise CheckpointError(f"{folder / WEIGHTS} can't be read: {error}; save it anew") from error
    return SavedAdapter(kind, settings, base_class, tensors)
