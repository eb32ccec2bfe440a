"""Weights that travel: a trained network as a folder, or in parts small enough for a slow link."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import Any

from safetensors import SafetensorError
from safetensors.torch import save_file
from torch import Tensor, nn

from rdtf.errors import DataError, UserError
from rdtf.fileio import atomic_folder, read_json, size_text, write_json
from rdtf.models.loading import load_tensors

CONFIG_FILE, WEIGHTS_FILE = "config.json", "diffusion_pytorch_model.safetensors"
PARTS_LIST_FILE = "parts.json"
_HEADER_ROOM = 64_000  # of a part


def write_component(network: nn.Module, weights: dict[str, Tensor], folder: Path) -> None:
    """config.json and the weights, fp32.

    Args:
        network: a diffusers model.
        weights: parameters in place of the network's own, by name.
    """
    state = {**network.state_dict(), **weights}
    own: Any = network
    with atomic_folder(folder) as new:
        own.save_config(new)
        kept = {name: tensor.detach().cpu().contiguous() for name, tensor in state.items()}
        save_file(kept, new / WEIGHTS_FILE, metadata={"format": "pt"})


def write_parts(component: Path, folder: Path, part_bytes: int) -> list[Path]:
    """A component in half precision, in files of at most `part_bytes`, and `parts.json`.

    Raises:
        UserError: one tensor is larger than a part.
    """
    weights = {name: tensor.half() for name, tensor in _weights(component / WEIGHTS_FILE).items()}
    files: dict[str, dict[str, Any]] = {}
    with atomic_folder(folder) as new:
        for number, part in enumerate(_portions(weights, part_bytes - _HEADER_ROOM)):
            path = new / f"weights-{number:03d}.safetensors"
            save_file(part, path)
            files[path.name] = {"num_bytes": path.stat().st_size, "sha256": _sha256(path)}
        config = json.loads((component / CONFIG_FILE).read_text("utf-8"))
        write_json(new / PARTS_LIST_FILE, {"config": config, "files": files})
    return [folder / name for name in files]


def join_parts(sources: Sequence[Path | str], out: Path | str) -> Path:
    """Put parts together to a component in fp32.

    Args:
        sources: folders or files; all parts and their parts.json must be among them.
        out: folder to make, or to replace if it is a component.

    Raises:
        DataError: a part is missing or damaged, or parts of several models are mixed.
        UserError: `out` is taken.
    """
    out = Path(out)
    if out.exists() and any(out.iterdir()) and not (out / CONFIG_FILE).is_file():
        raise UserError(f"{out} is taken by something else; name another folder")
    found = list(_files(sources))
    lists = [path for path in found if path.name == PARTS_LIST_FILE]
    if len(lists) != 1:
        raise DataError(f"{len(lists)} files called {PARTS_LIST_FILE} are among the parts, not one")
    about = read_json(lists[0], "list of parts")
    by_name = {path.name: path for path in found}
    weights: dict[str, Tensor] = {}
    for name, known in about["files"].items():
        if name not in by_name:
            raise DataError(f"part {name} is missing")
        if _sha256(by_name[name]) != known["sha256"]:
            raise DataError(f"part {by_name[name]} is damaged; copy it again")
        weights |= _weights(by_name[name])
    with atomic_folder(out) as new:
        write_json(new / CONFIG_FILE, about["config"])
        full = {name: tensor.float() for name, tensor in weights.items()}
        save_file(full, new / WEIGHTS_FILE, metadata={"format": "pt"})
    return out


def _portions(weights: dict[str, Tensor], room: int) -> Iterable[dict[str, Tensor]]:
    part: dict[str, Tensor] = {}
    used = 0
    for name, tensor in sorted(weights.items()):
        if tensor.nbytes > room:
            raise UserError(f"{name} alone has {size_text(tensor.nbytes)}; allow larger parts")
        if used + tensor.nbytes > room:
            yield part
            part, used = {}, 0
        part[name] = tensor
        used += tensor.nbytes
    yield part


def _files(sources: Sequence[Path | str]) -> Iterable[Path]:
    for source in map(Path, sources):
        if source.is_dir():
            yield from sorted(path for path in source.iterdir() if path.is_file())
        elif source.is_file():
            yield source
        else:
            raise DataError(f"{source} does not exist")


def _weights(path: Path) -> dict[str, Tensor]:
    try:
        return load_tensors(path)
    except (OSError, SafetensorError) as error:
        raise DataError(f"weights {path} can't be read: {error}") from error


def _sha256(path: Path) -> str:
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()
