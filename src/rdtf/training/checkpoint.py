"""Checkpoints: a folder per step, complete or absent, verified before it is used.

    RUN/checkpoints/step-00000250/
        model.safetensors  ema.safetensors  optimizer.safetensors
        state.json         step, curriculum, counters, data fingerprint, version
        MANIFEST.json      size and sha256 of each file

Weights are safetensors and everything else is JSON: nothing here can run code when it is loaded.
"""

from __future__ import annotations

import hashlib
import json
import re
import shutil
import sys
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from safetensors.torch import load_file, save_file
from torch import Tensor

from rdtf.errors import CheckpointError
from rdtf.fileio import atomic_folder, read_json, write_json

FORMAT_VERSION = 1
_FILES = ("model.safetensors", "ema.safetensors", "optimizer.safetensors", "state.json")
_NAME = re.compile(r"step-(\d{8})")


@dataclass(frozen=True)
class Checkpoint:
    """One loaded checkpoint."""

    step: int
    model: dict[str, Tensor]
    ema: dict[str, Tensor]
    optimizer: dict[str, Tensor]
    state: dict[str, Any]


def save_checkpoint(
    run: Path,
    step: int,
    *,
    model: Mapping[str, Tensor],
    ema: Mapping[str, Tensor],
    optimizer: torch.optim.Optimizer,
    state: Mapping[str, Any],
    keep: int,
) -> Path:
    """Write the checkpoint of `step` whole, then delete all but the newest `keep`."""
    folder = run / "checkpoints" / f"step-{step:08d}"
    for torn in folder.parent.glob(".tmp-step-*"):  # left by a process that was killed
        shutil.rmtree(torn, ignore_errors=True)
    with atomic_folder(folder) as temporary:
        _save_tensors(temporary / "model.safetensors", model)
        _save_tensors(temporary / "ema.safetensors", ema)
        _save_tensors(temporary / "optimizer.safetensors", optimizer_tensors(optimizer))
        write_json(temporary / "state.json", {"version": FORMAT_VERSION, "step": step, **state})
        manifest = {file.name: _describe(file) for file in sorted(temporary.iterdir())}
        write_json(temporary / "MANIFEST.json", manifest)
    # Folders of later steps are damaged (or we would not be here) and no reason to delete an older.
    folders = [path for path in checkpoint_folders(run) if path <= folder]
    for old in folders[:-keep] if keep > 0 else []:
        shutil.rmtree(old, ignore_errors=True)
    return folder


def checkpoint_folders(run: Path) -> list[Path]:
    """Checkpoint folders of a run, oldest first."""
    root = run / "checkpoints"
    if not root.is_dir():
        return []
    return sorted(path for path in root.iterdir() if _NAME.fullmatch(path.name))


def load_latest(run: Path) -> Checkpoint | None:
    """The newest intact checkpoint of a run, or None if it has none at all.

    Damaged ones are named on stderr and passed over; if all are damaged, `CheckpointError`. One
    that a newer version wrote is no damage: going on from an older would undo it, so it is refused.
    """
    folders = checkpoint_folders(run)
    problems = []
    for folder in reversed(folders):
        problem = check(folder)
        if not problem:
            for text in problems:
                print(f"rdtf: {text}; going on from {folder.name}", file=sys.stderr)
            return load_checkpoint(folder)
        problems.append(f"checkpoint {folder.name} is damaged ({problem})")
    if folders:
        raise CheckpointError(f"no intact checkpoint in {run / 'checkpoints'}: {problems[0]}")
    return None


def check(folder: Path) -> str:
    """What is wrong with a checkpoint folder, or an empty string; a newer format is refused."""
    try:
        manifest = json.loads((folder / "MANIFEST.json").read_text("utf-8"))
        for name in sorted({*_FILES, *manifest}):
            if not (folder / name).is_file():
                return f"{name} is missing"
            if _describe(folder / name) != manifest[name]:
                return f"{name} does not match its checksum"
        version = int(json.loads((folder / "state.json").read_text("utf-8"))["version"])
    except (OSError, ValueError, KeyError, TypeError) as error:
        return f"unreadable: {error}"
    if version > FORMAT_VERSION:
        raise CheckpointError(
            f"{folder} was written by a newer rdtf (format {version}, this one reads "
            f"{FORMAT_VERSION}); update rdtf"
        )
    return ""


def load_checkpoint(folder: Path) -> Checkpoint:
    """Load one checkpoint that `check` found intact."""
    state = read_json(folder / "state.json", "checkpoint state")
    return Checkpoint(
        step=int(state["step"]),
        model=load_file(folder / "model.safetensors"),
        ema=load_file(folder / "ema.safetensors"),
        optimizer=load_file(folder / "optimizer.safetensors"),
        state=state,
    )


def load_weights(model: torch.nn.Module, weights: Mapping[str, Tensor], what: str) -> None:
    """Copy `weights` into `model`; another architecture is a `CheckpointError`."""
    own = dict(model.named_parameters()) | dict(model.named_buffers())
    shapes = {name: tensor.shape for name, tensor in own.items()}
    for name in sorted({*own, *weights}):
        if name not in weights or weights[name].shape != shapes.get(name):
            raise CheckpointError(
                f"{what} is of another model: {name} does not fit; use the preset it was made with"
            )
    with torch.no_grad():
        for name, tensor in own.items():
            tensor.copy_(weights[name])


# ---------------------------------------------------------------- optimizer ↔ tensors


def optimizer_tensors(optimizer: torch.optim.Optimizer) -> dict[str, Tensor]:
    """The optimizer's state as flat named tensors, `<parameter>.<slot>`."""
    return {
        f"{index}.{slot}": value
        for index, slots in optimizer.state_dict()["state"].items()
        for slot, value in slots.items()
    }


def load_optimizer(optimizer: torch.optim.Optimizer, tensors: Mapping[str, Tensor]) -> None:
    """The reverse of `optimizer_tensors`; the groups' settings stay those of the config."""
    state: dict[int, dict[str, Tensor]] = {}
    for name, value in tensors.items():
        index, slot = name.split(".", 1)
        state.setdefault(int(index), {})[slot] = value
    optimizer.load_state_dict({**optimizer.state_dict(), "state": state})


def _save_tensors(path: Path, tensors: Mapping[str, Tensor]) -> None:
    save_file({name: tensor.detach().cpu().contiguous() for name, tensor in tensors.items()}, path)


def _describe(file: Path) -> dict[str, Any]:
    with file.open("rb") as handle:
        digest = hashlib.file_digest(handle, "sha256").hexdigest()
    return {"bytes": file.stat().st_size, "sha256": digest}
