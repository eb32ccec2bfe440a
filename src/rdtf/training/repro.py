"""What made a loss or gradient that is no number: kept, so that it can be looked at again.

    RUN/nonfinite/step-00000123/
        batch-0.safetensors ...    the tensors of each micro-batch by field; lists: NAME.0, NAME.1
        model.safetensors          the weights before the step
        info.json                  step, what was seen, and the other fields of the batches

`replay` repeats the step from these files and says where the first such number comes from.
"""

from __future__ import annotations

import contextlib
import json
import math
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, fields
from pathlib import Path
from typing import TYPE_CHECKING, Any

from safetensors import SafetensorError
from torch import Tensor, nn

from rdtf.errors import CheckpointError
from rdtf.fileio import atomic_folder, delete_folder, ensure_folder, read_json, write_json
from rdtf.models.loading import load_tensors
from rdtf.training.checkpoint import load_weights, write_tensors

if TYPE_CHECKING:
    from rdtf.training.packing import Batch

FOLDER = "nonfinite"
KEPT = 3
_VERSION = 1
_MODEL, _INFO = "model.safetensors", "info.json"


@dataclass(frozen=True)
class Repro:
    """A step as it was written.

    batches: fields of each micro-batch by name, tensors on the CPU; info: what was seen.
    """

    step: int
    batches: list[dict[str, Any]]
    info: dict[str, Any]


# --------------------------------------------------------------------------------- writing


def write_repro(
    run: Path,
    step: int,
    batches: Sequence[Batch],
    model_state: Mapping[str, Tensor],
    info: Mapping[str, Any],
) -> Path:
    """Write `RUN/nonfinite/step-N` whole; only the newest few are kept.

    Raises:
        UserError: it can't be written, because the disk is full, say.
    """
    root = ensure_folder(run / FOLDER, "folder")
    folder = root / f"step-{step:08d}"
    with atomic_folder(folder) as temporary:
        rows = []
        for index, batch in enumerate(batches):
            tensors, row = _take_apart(batch)
            write_tensors(temporary / f"batch-{index}.safetensors", tensors)
            rows.append(row)
        write_tensors(temporary / _MODEL, model_state)
        head = {"version": _VERSION, "step": step, "info": dict(info), "batches": rows}
        # Anything that is no JSON is told as text: a repro must not fail for a number's type.
        write_json(temporary / _INFO, json.loads(json.dumps(head, default=str)))
    written = sorted(path for path in root.glob("step-*") if path != folder)
    for old in written[: -(KEPT - 1)]:
        with contextlib.suppress(OSError):
            delete_folder(old)
    return folder


def _take_apart(batch: Batch) -> tuple[dict[str, Tensor], dict[str, Any]]:
    """A batch's tensors by name, and the fields that JSON holds; lists of tensors by their length.

    Works by what the fields hold and not by their names, so that it holds whatever a batch has.
    """
    tensors: dict[str, Tensor] = {}
    plain: dict[str, Any] = {}
    lists: dict[str, int] = {}
    for field in fields(batch):
        value = getattr(batch, field.name)
        if isinstance(value, Tensor):
            tensors[field.name] = value
        elif isinstance(value, list) and all(isinstance(item, Tensor) for item in value):
            lists[field.name] = len(value)
            tensors |= {f"{field.name}.{index}": item for index, item in enumerate(value)}
        else:
            plain[field.name] = value
    return tensors, {"fields": plain, "lists": lists}


# --------------------------------------------------------------------------------- reading


def load_repro(folder: Path | str) -> Repro:
    """Read a folder that `write_repro` made; a damaged one is a `CheckpointError`."""
    folder = Path(folder)
    head = read_json(folder / _INFO, "repro")
    try:
        if head["version"] > _VERSION:
            raise CheckpointError(f"{folder} was written by a newer rdtf; update rdtf")
        batches = [
            _put_together(load_tensors(folder / f"batch-{index}.safetensors"), row)
            for index, row in enumerate(head["batches"])
        ]
        return Repro(int(head["step"]), batches, head["info"])
    except (OSError, KeyError, TypeError, AttributeError, SafetensorError) as error:
        raise CheckpointError(f"repro {folder} is damaged: {error!r}") from error


def _put_together(tensors: Mapping[str, Tensor], row: Mapping[str, Any]) -> dict[str, Any]:
    batch: dict[str, Any] = {name: value for name, value in tensors.items() if "." not in name}
    for name, count in row["lists"].items():
        batch[name] = [tensors[f"{name}.{index}"] for index in range(count)]
    for name, value in row["fields"].items():
        batch[name] = tuple(value) if isinstance(value, list) else value
    return batch


# ------------------------------------------------------------------------------- replaying


def replay(folder: Path | str) -> dict[str, Any]:
    """Repeat the step of a repro, on the GPU if there is one, and say where it goes wrong.

    Returns:
        step; `first`: the earliest thing that is not finite, in words, or None;
        `inputs`: tensors of the batches that are not finite, with their clips;
        `weights`: parameters that are not; `module`: the first whose output is not;
        `samples`: batch, position, clip, task, noise level and loss of each;
        `gradients`: parameters whose gradient is not, if the losses are all finite.

    Raises:
        CheckpointError: the folder is damaged, of another model, or no longer in its run.
    """
    from rdtf.training.device import autocast, default_device, resolve_precision
    from rdtf.training.run import load_config

    folder = Path(folder)
    repro, config, device = load_repro(folder), load_config(folder.parent.parent), default_device()
    if not repro.batches:
        raise CheckpointError(f"repro {folder} holds no batch: there is nothing to repeat")
    batches = [_rebuild(batch).to(device) for batch in repro.batches]
    model = _build_model(folder, config, batches[0]).to(device)
    context = autocast(resolve_precision(config.engine.precision, device), device)

    inputs = [row for index, batch in enumerate(batches) for row in _bad_inputs(index, batch)]
    weights = [name for name, value in model.named_parameters() if not is_finite(value)]
    with _watched(model) as modules:
        samples = _samples(model, config, batches, context)
    finite = all(math.isfinite(row["loss"]) for row in samples)
    gradients = [
        name
        for name, value in model.named_parameters()
        if finite and value.grad is not None and not is_finite(value.grad)
    ]
    return {
        "step": repro.step,
        "first": _first(inputs, weights, modules, samples, gradients),
        "inputs": inputs,
        "weights": weights,
        "module": modules[0] if modules else None,
        "samples": samples,
        "gradients": gradients,
    }


def is_finite(tensor: Tensor) -> bool:
    """Whether every element is a number; anything but floating point always is."""
    return not tensor.is_floating_point() or bool(tensor.isfinite().all())


def _rebuild(saved: Mapping[str, Any]) -> Batch:
    """The batch of these fields; those of a later version are left out."""
    from rdtf.training.packing import Batch

    names = {field.name for field in fields(Batch)}
    return Batch(**{name: value for name, value in saved.items() if name in names})


def _build_model(folder: Path, config: Any, batch: Batch) -> nn.Module:
    """The denoiser with the saved weights; the batch tells what it was built over.

    So neither the autoencoder nor the text encoders have to be there.
    """
    from rdtf.training.presets import build_denoiser

    _, channels, _, _, side = batch.clean.shape
    model = build_denoiser(
        config,
        latent_channels=channels,
        downsampling=config.canvas // side,
        text_widths=tuple(states.shape[-1] for states in batch.text),
    )
    try:
        weights = load_tensors(folder / _MODEL)
    except (OSError, SafetensorError) as error:
        raise CheckpointError(f"repro {folder} is damaged: {error!r}") from error
    load_weights(model, weights, f"repro {folder}")
    if config.engine.gradient_checkpointing:
        model.enable_gradient_checkpointing()
    return model.train()


def _bad_inputs(index: int, batch: Batch) -> list[dict[str, Any]]:
    """Tensors of a batch that are not finite, with the clips of the rows where they are not."""
    found = []
    for name, tensor in _take_apart(batch)[0].items():
        if not is_finite(tensor):
            clips = {
                clip for clip, row in zip(batch.clips, tensor, strict=True) if not is_finite(row)
            }
            found.append({"batch": index, "tensor": name, "clips": sorted(clips)})
    return found


@contextlib.contextmanager
def _watched(model: nn.Module) -> Iterator[list[str]]:
    """Names of modules whose output is not finite, in the order in which they were left."""
    seen: list[str] = []

    def watch(name: str) -> Any:
        def hook(_module: nn.Module, _inputs: Any, output: Any) -> None:
            if not all(is_finite(tensor) for tensor in _tensors_in(output)):
                seen.append(name)

        return hook

    handles = [m.register_forward_hook(watch(name or "model")) for name, m in model.named_modules()]
    try:
        yield seen
    finally:
        for handle in handles:
            handle.remove()


def _tensors_in(value: Any) -> Iterator[Tensor]:
    if isinstance(value, Tensor):
        yield value
    elif isinstance(value, Mapping):
        yield from _tensors_in(list(value.values()))
    elif isinstance(value, (list, tuple)):
        for item in value:
            yield from _tensors_in(item)


def _samples(
    model: nn.Module,
    config: Any,
    batches: Sequence[Batch],
    context: contextlib.AbstractContextManager[Any],
) -> list[dict[str, Any]]:
    """Losses as training computes them; the gradient too, as long as they are finite."""
    from rdtf.method.objective import build_objective
    from rdtf.training.step import batch_errors, element_count, loss_options

    objective = build_objective(config.objective)
    total = element_count(batches, config.given_frame_weight).clamp(min=1.0)
    rows = []
    for index, batch in enumerate(batches):
        with context:
            weighted, errors, counts = batch_errors(model, objective, batch, **loss_options(config))
        losses = (errors / counts.clamp(min=1)).tolist()
        if is_finite(weighted):
            (weighted.sum() / total).backward()
        names = ("position", "clip", "task", "level", "loss")
        values = zip(batch.positions, batch.clips, batch.tasks, batch.levels, losses, strict=True)
        rows += [{"batch": index, **dict(zip(names, row, strict=True))} for row in values]
    return rows


def _first(
    inputs: Sequence[Mapping[str, Any]],
    weights: Sequence[str],
    modules: Sequence[str],
    samples: Sequence[Mapping[str, Any]],
    gradients: Sequence[str],
) -> str | None:
    if inputs:
        row = inputs[0]
        return f"input {row['tensor']} of batch {row['batch']}, clips {row['clips']}"
    if weights:
        return f"weight {weights[0]}"
    if modules:
        return f"output of module {modules[0]}"
    if not all(math.isfinite(row["loss"]) for row in samples):
        return "loss"
    return f"gradient of {gradients[0]}" if gradients else None
