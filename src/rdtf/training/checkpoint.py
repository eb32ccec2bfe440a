"""Checkpoints: a folder per step, complete or absent, verified before it is used.

    RUN/checkpoints/step-00000250/
        model.safetensors  ema-0.safetensors  optimizer.safetensors ...    what the trainer names
        state.json         format version, step, names of the files, counters, curriculum
        MANIFEST.json      size and sha256 of each file, written last
    RUN/checkpoints/best.json                                              step and loss of the best

Weights are safetensors and everything else is JSON: nothing here can run code when it is loaded.
"""

from __future__ import annotations

import errno
import hashlib
import json
import math
import os
import re
import shutil
import sys
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from safetensors import SafetensorError
from safetensors.torch import save_file
from torch import Tensor

from rdtf.errors import CheckpointError, UserError
from rdtf.fileio import (
    atomic_folder,
    delete_folder,
    ensure_folder,
    no_room,
    remove_leftovers,
    size_text,
    write_json,
    write_text,
)
from rdtf.models.loading import load_tensors

FORMAT_VERSION = 2
MEASURE = "objective"  # what losses that say which checkpoint is best are losses of
_STATE, _MANIFEST, _SUFFIX = "state.json", "MANIFEST.json", ".safetensors"
_FOLDER = re.compile(r"step-(\d{8,})")
_STEM = re.compile(r"[\w-][\w.-]*")
_JSON_BYTES = 1 << 16  # room for state.json, the manifest and the headers, with much to spare


@dataclass(frozen=True)
class Retention:
    """Which checkpoints stay when a new one is saved; one is enough to stay.

    last: the newest so many; 0 keeps all.
    every: those whose step is a multiple of it; 0 for none.
    keep_best: the one that `mark_best` named.
    """

    last: int = 2
    every: int = 0
    keep_best: bool = True


@dataclass(frozen=True)
class Checkpoint:
    """A verified checkpoint. Its tensors are read when they are asked for.

    state: what `save_checkpoint` was given; stems: names that `load` takes.
    """

    step: int
    state: dict[str, Any]
    folder: Path
    stems: tuple[str, ...]

    def load(self, stem: str) -> dict[str, Tensor]:
        """The tensors saved as `stem`, on the CPU; one that is not there is a `CheckpointError`."""
        if stem not in self.stems:
            raise CheckpointError(
                f"checkpoint {self.folder} has no {stem!r}; it has {', '.join(self.stems)}"
            )
        try:
            return load_tensors(self.folder / f"{stem}{_SUFFIX}")
        except (OSError, SafetensorError) as error:
            raise CheckpointError(
                f"{stem} of checkpoint {self.folder} can't be read: {error}"
            ) from error


class _OldCheckpoint(Checkpoint):
    """What runs on bundles and autoencoders left before they had checkpoints like all others."""

    @classmethod
    def find(cls, run: Path) -> Checkpoint | None:
        if not (run / _STATE).is_file():
            return None
        try:
            about = json.loads((run / _STATE).read_text("utf-8"))
            step, state = int(about["step"]), {"seconds": float(about["spent_seconds"])}
        except (OSError, ValueError, KeyError, TypeError) as error:
            raise CheckpointError(f"checkpoint in {run} is damaged: {error}") from error
        return cls(step, {**state, "ema_updates": step}, run, ("model", "optimizer", "ema-0"))

    def load(self, stem: str) -> dict[str, Tensor]:
        try:
            file = self.folder / f"{stem.replace('ema-0', 'average')}{_SUFFIX}"
            tensors = load_tensors(file)
        except (OSError, SafetensorError) as error:
            raise CheckpointError(
                f"{stem} of checkpoint {self.folder} can't be read: {error}"
            ) from error
        if stem != "optimizer":
            return tensors
        slots = {"first": "exp_avg", "second": "exp_avg_sq"}
        moments = {}
        for name, tensor in tensors.items():
            parameter, _, which = name.rpartition("/")
            moments[f"{parameter}:{slots[which]}"] = tensor
            moments[f"{parameter}:step"] = torch.tensor(float(self.step))
        return moments


# --------------------------------------------------------------------------------- saving


def save_checkpoint(
    run: Path,
    step: int,
    tensors: Mapping[str, Mapping[str, Tensor]],
    state: Mapping[str, Any],
    retention: Retention,
) -> Path:
    """Write the checkpoint of `step` whole, then delete those that `retention` does not keep.

    Only the process that holds the run's lock may save: leftovers of killed ones are deleted too.

    Args:
        tensors: file stem → named tensors, of any device and layout; they may share memory.
        state: what JSON can hold.

    Raises:
        CheckpointError: it can't be written, because the disk is full, say. Nothing of it is left
            then, and all other checkpoints are as they were.
    """
    root, needed = run / "checkpoints", _needed_bytes(tensors)
    try:
        ensure_folder(root, "checkpoint folder")
        remove_leftovers(root)
        if shutil.disk_usage(root).free < needed:
            raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))
        with atomic_folder(_folder(run, step)) as temporary:
            _write(temporary, step, tensors, state)
    except Exception as error:
        if isinstance(error, (OSError, UserError)) or no_room(error):
            raise _cannot_save(run, step, needed, error) from error
        raise
    _prune(run, step, retention)
    return _folder(run, step)


def _write_tensors(path: Path, tensors: Mapping[str, Tensor]) -> None:
    """Write tensors of any device and layout as safetensors.

    The format has no sharing of memory between tensors, so those that do are copied apart.
    """
    written: dict[str, Tensor] = {}
    storages: set[int] = set()
    for name, tensor in tensors.items():
        plain = tensor.detach().cpu().contiguous()
        if plain.untyped_storage().data_ptr() in storages:
            plain = plain.clone()
        storages.add(plain.untyped_storage().data_ptr())
        written[name] = plain
    save_file(written, path)


def _write(
    folder: Path, step: int, tensors: Mapping[str, Mapping[str, Tensor]], state: Mapping[str, Any]
) -> None:
    for stem in tensors:
        if not _STEM.fullmatch(stem):
            raise ValueError(f"{stem!r} is no name for a file of a checkpoint")
        _write_tensors(folder / f"{stem}{_SUFFIX}", tensors[stem])
    head = {"version": FORMAT_VERSION, "step": step, "stems": sorted(tensors), "state": dict(state)}
    write_json(folder / _STATE, head)
    manifest = {file.name: _describe(file) for file in sorted(folder.iterdir())}
    write_text(folder / _MANIFEST, _manifest_text(manifest))


def _needed_bytes(tensors: Mapping[str, Mapping[str, Tensor]]) -> int:
    """What a checkpoint takes on the disk, at most."""
    values = sum(t.numel() * t.element_size() for group in tensors.values() for t in group.values())
    return int(values * 1.05) + _JSON_BYTES


def _cannot_save(run: Path, step: int, needed: int, error: Exception) -> CheckpointError:
    """One line: what, where, why, what is left to go on from, and what to do."""
    root, reason, advice = run / "checkpoints", no_room(error), "see to it"
    if reason:
        advice = "make room"
        reason += f", it needs {size_text(needed)}"
        if root.is_dir():
            reason += f" and {size_text(shutil.disk_usage(root).free)} are free"
    intact = next((f for f in reversed(checkpoint_folders(run)) if not _problem(f)), None)
    newest = "there is none yet" if intact is None else f"the newest intact one is {intact.name}"
    return CheckpointError(
        f"checkpoint of step {step} can't be saved in {root}: {reason or error}; {newest}; "
        f"{advice} and run the same command again"
    )


def _prune(run: Path, step: int, retention: Retention) -> None:
    """Delete what `retention` does not keep.

    Folders of later steps are damaged (or we would not be here), and so is one whose files are not
    as long as they should be: neither is a reason to delete an older one.
    """
    if retention.last == 0:
        return
    folders = {_step(folder): folder for folder in checkpoint_folders(run)}
    earlier = [number for number in folders if number <= step]
    whole = [number for number in earlier if not _problem(folders[number], hashes=False)]
    kept = set(whole[-retention.last :])
    best = best_step(run)
    for number in earlier:
        due = retention.every > 0 and number > 0 and number % retention.every == 0
        marked = retention.keep_best and best is not None and number == best[0]
        if number in kept or due or marked:
            continue
        try:
            delete_folder(folders[number])
        except OSError as error:
            text = f"old checkpoint {folders[number]} can't be deleted: {error.strerror}"
            print(f"rdtf: {text}", file=sys.stderr)


# ----------------------------------------------------------------------------------- best


def mark_best(run: Path, step: int, loss: float) -> None:
    """Record the saved checkpoint of `step` as the best, if its held-out `loss` is the lowest yet.

    One recorded before counts only while its folder is there.

    Raises:
        UserError: `step` has no checkpoint, or the disk is full.
    """
    if not _folder(run, step).is_dir():
        raise CheckpointError(f"step {step} of {run} can't be the best: it has no checkpoint")
    best = best_step(run)
    if math.isfinite(loss) and (best is None or loss < best[1]):
        record = {"step": step, "loss": float(loss), "measure": MEASURE}
        write_json(run / "checkpoints" / "best.json", record)


def best_step(run: Path) -> tuple[int, float] | None:
    """Step and loss of the checkpoint that `mark_best` recorded; None if it is not there.

    The loss is infinite if an older rdtf measured it in another way: any other one is better.
    """
    try:
        best = json.loads((run / "checkpoints" / "best.json").read_text("utf-8"))
        step, loss = int(best["step"]), float(best["loss"])
        loss = loss if best.get("measure") == MEASURE else math.inf
    except (OSError, ValueError, KeyError, TypeError, AttributeError):
        return None
    return (step, loss) if _folder(run, step).is_dir() else None


# -------------------------------------------------------------------------------- loading


def checkpoint_folders(run: Path) -> list[Path]:
    """Checkpoint folders of a run, oldest first; nothing is said about what is in them."""
    root = run / "checkpoints"
    if not root.is_dir():
        return []
    return sorted((path for path in root.iterdir() if _FOLDER.fullmatch(path.name)), key=_step)


def load_latest(run: Path) -> Checkpoint | None:
    """The newest intact checkpoint of a run, or None if it has none at all.

    Damaged ones are named on stderr and passed over; if all are damaged, `CheckpointError`. One
    that another version wrote is no damage: going on from an older would undo it, so it is refused.
    """
    folders = checkpoint_folders(run)
    if not folders:
        return _OldCheckpoint.find(run)
    problems = []
    for folder in reversed(folders):
        problem = check(folder)
        if not problem:
            for text in problems:
                print(f"rdtf: {text}; going on from {folder.name}", file=sys.stderr)
            return _open(folder)
        problems.append(f"checkpoint {folder.name} is damaged ({problem})")
    raise CheckpointError(f"no intact checkpoint in {run / 'checkpoints'}: {problems[0]}")


def load_step(run: Path, step: int) -> Checkpoint:
    """The checkpoint of this very step; missing or damaged, it is a `CheckpointError`."""
    folder, steps = _folder(run, step), [_step(folder) for folder in checkpoint_folders(run)]
    problem = check(folder) if step in steps else "there is none"
    if problem:
        others = ", ".join(str(number) for number in steps if number != step) or "no other"
        raise CheckpointError(
            f"checkpoint of step {step} of {run} can't be used: {problem}; available: {others}"
        )
    return _open(folder)


def check(folder: Path) -> str:
    """What is wrong with a checkpoint folder, or an empty string; another format is refused."""
    problem = _problem(folder)
    if problem:
        return problem
    try:
        head = json.loads((folder / _STATE).read_text("utf-8"))
        version = int(head["version"])
        if version == FORMAT_VERSION:
            return _inconsistency(folder, head)
    except (OSError, ValueError, KeyError, TypeError) as error:
        return f"unreadable: {error}"
    if version > FORMAT_VERSION:
        raise CheckpointError(
            f"{folder} was written by a newer rdtf (format {version}, this one reads "
            f"{FORMAT_VERSION}); update rdtf"
        )
    raise CheckpointError(
        f"{folder} was made by an older rdtf (format {version}, this one reads {FORMAT_VERSION}) "
        "and can't be gone on from; the pipeline in its run still loads; train with another --out"
    )


def _open(folder: Path) -> Checkpoint:
    head = json.loads((folder / _STATE).read_text("utf-8"))
    return Checkpoint(head["step"], head["state"], folder, tuple(head["stems"]))


def _problem(folder: Path, hashes: bool = True) -> str:
    """How the files differ from the manifest, or an empty string; without `hashes` only in size."""
    try:
        text = (folder / _MANIFEST).read_text("utf-8")
        manifest = json.loads(text)
        if _manifest_text(manifest) != text or _STATE not in manifest:
            return f"{_MANIFEST} was changed"
        for name, row in manifest.items():
            if Path(name).name != name or not (folder / name).is_file():
                return f"{name} is missing"
            fits = (folder / name).stat().st_size == row["bytes"]
            if not fits or (hashes and _describe(folder / name) != row):
                return f"{name} does not match its checksum"
    except (OSError, ValueError, KeyError, TypeError) as error:
        return f"unreadable: {error}"
    return ""


def _inconsistency(folder: Path, head: dict[str, Any]) -> str:
    """Files that are whole, but not those of this checkpoint."""
    manifest = json.loads((folder / _MANIFEST).read_text("utf-8"))
    if head["step"] != _step(folder):
        return f"it is of step {head['step']}"
    if {_STATE, *(f"{stem}{_SUFFIX}" for stem in head["stems"])} != set(manifest):
        return f"{_STATE} and {_MANIFEST} name other files"
    return "" if isinstance(head["state"], dict) else f"{_STATE} has no state"


def _folder(run: Path, step: int) -> Path:
    return run / "checkpoints" / f"step-{step:08d}"


def _step(folder: Path) -> int:
    return int(folder.name.removeprefix("step-"))


def _manifest_text(manifest: Mapping[str, Any]) -> str:
    return json.dumps(manifest, indent=2) + "\n"


def _describe(file: Path) -> dict[str, Any]:
    with file.open("rb") as handle:
        digest = hashlib.file_digest(handle, "sha256").hexdigest()
    return {"bytes": file.stat().st_size, "sha256": digest}


# ----------------------------------------------------------------------- weights ↔ modules


def load_weights(own: Mapping[str, Tensor], weights: Mapping[str, Tensor], what: str) -> None:
    """Copy `weights` into the tensors `own`; those of another model are a `CheckpointError`."""
    shapes = {name: tensor.shape for name, tensor in own.items()}
    for name in sorted({*own, *weights}):
        if name not in weights or weights[name].shape != shapes.get(name):
            raise CheckpointError(
                f"{what} is of another model: {name} does not fit; use the preset it was made with"
            )
    with torch.no_grad():
        for name, tensor in own.items():
            tensor.copy_(weights[name])
