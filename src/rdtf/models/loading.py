"""Weights from safetensors files, in memory of their own.

`safetensors` gives views of the file, and the length of the file's header decides at which
addresses they lie: multiples of 8 bytes. Matrix products of MKL add in another order where an
address is no multiple of 64, so a loaded model would differ from the saved one in the last bits of
a float. All weights are therefore copied to where torch puts new tensors.
The file may then be replaced or deleted, too.
"""

from __future__ import annotations

import logging
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import torch
from safetensors.torch import load_file, save_file
from torch import Tensor, nn

# Addresses of new tensors in torch's CPU allocator are multiples of this.
ALIGNMENT_BYTES = 64


def load_tensors(file: Path | str) -> dict[str, Tensor]:
    """The named tensors of a safetensors file, on the CPU.

    Raises:
        OSError, SafetensorError: no such file, or a damaged one.
    """
    return {name: tensor.clone() for name, tensor in load_file(file).items()}


def load_pretrained(kind: Any, location: Path | str, **options: Any) -> Any:
    """`kind.from_pretrained(location, ...)` of diffusers or transformers. Safetensors only.

    Raises:
        OSError, RuntimeError, TypeError, ValueError: what the library says of missing files,
            damaged ones and those of another class.
    """
    from diffusers.models.modeling_utils import ModelMixin

    if issubclass(kind, ModelMixin):
        # Without the second, diffusers asks on stderr for a package that these sizes don't need.
        options = {"use_safetensors": True, "low_cpu_mem_usage": False, **options}
    return own_memory(kind.from_pretrained(str(location), **options))


class OwnMemory:
    """Put before `ModelMixin`: `from_pretrained` gives weights in memory of their own.

    From safetensors files, unless told otherwise. `save_pretrained` stores weights that 8 bits hold
    exactly, such as those that were loaded from them, in 8 bits again.
    """

    def save_pretrained(self, save_directory: Any, *args: Any, **kwargs: Any) -> Any:
        """As diffusers' own; options of its own files are passed on to it."""
        model: Any = self
        own_files = kwargs.get("variant") or kwargs.get("push_to_hub") or args
        if not own_files and kwargs.get("is_main_process", True) and _is_compact(model):
            return _save_compact(model, save_directory)
        return super().save_pretrained(save_directory, *args, **kwargs)  # pyright: ignore[reportAttributeAccessIssue]

    @classmethod
    def from_pretrained(cls, *args: Any, **kwargs: Any) -> Any:
        compact = _compact_file(args[0], kwargs.get("subfolder")) if args else None
        if compact is not None:
            return _load_compact(cls, compact, kwargs.get("torch_dtype"))
        loaded = super().from_pretrained(*args, **{"use_safetensors": True, **kwargs})  # pyright: ignore[reportAttributeAccessIssue]
        own_memory(loaded[0] if isinstance(loaded, tuple) else loaded)  # with its loading info
        return loaded


def own_memory(loaded: Any) -> Any:
    """Copy a module's weights on the CPU to new memory, in place; gives back what it is given."""
    if isinstance(loaded, nn.Module):
        for tensor in (*loaded.parameters(), *loaded.buffers()):
            if tensor.device.type == "cpu":
                tensor.data = tensor.data.clone()
    return loaded


# ------------------------------------------------------------------ weights in 8 bits

COMPACT_FILE = "compact.safetensors"
_SCALE = ":scale"
_SMALLEST = 4096  # elements; smaller tensors stay in 16 bits


def _save_compact(model: Any, folder: Path | str) -> None:
    """Store a model's weights in 8 bits: each row of a matrix with a scale of its own.

    A quarter of the size; `from_pretrained` gives float32 again, each weight off by at most 1/254
    of the largest in its row.
    """
    folder = Path(folder)
    model.save_config(folder)
    tensors: dict[str, Tensor] = {}
    for name, tensor in model.state_dict().items():
        tensors |= _packed(name, tensor.detach().float().cpu())
    save_file(tensors, folder / COMPACT_FILE)


def _is_compact(model: Any) -> bool:
    """Whether `_save_compact` would lose nothing of a model's weights."""
    tensors = model.state_dict()
    has_matrix = any(_in_bytes(tensor) for tensor in tensors.values())
    return has_matrix and all(
        tensor.dtype == torch.float32
        and torch.equal(_unpack(_packed(name, tensor.cpu()), name), tensor.cpu())
        for name, tensor in tensors.items()
    )


def _in_bytes(tensor: Tensor) -> bool:
    return tensor.ndim >= 2 and tensor.numel() >= _SMALLEST


def _packed(name: str, tensor: Tensor) -> dict[str, Tensor]:
    """A tensor as it is stored: bytes and scales, or 16 bits.

    The scale of rows that were bytes before is found again, to the last bit.
    """
    if not _in_bytes(tensor):
        return {name: tensor.half().contiguous()}
    rows = tensor.flatten(1)
    largest = rows.abs().amax(1)
    scale = (largest / 127).clamp(min=1e-12)
    nearest = [torch.nextafter(scale, torch.full_like(scale, end)) for end in (0.0, torch.inf)]
    values = (rows / scale[:, None]).round()
    for other in nearest:
        better = (values * other[:, None] == rows).all(1) & ~(values * scale[:, None] == rows).all(
            1
        )
        scale = torch.where(better, other, scale)
    return {name: values.to(torch.int8).view(tensor.shape), name + _SCALE: scale}


def _compact_file(location: Any, subfolder: str | None) -> Path | None:
    file = Path(str(location)) / (subfolder or "") / COMPACT_FILE
    return file if file.is_file() else None


def load_weights_of(folder: Path | str) -> dict[str, Tensor]:
    """The weights that a component's folder holds, whichever way they are stored, in float32.

    Raises:
        OSError, SafetensorError: there are none, or they are damaged.
    """
    compact = _compact_file(folder, None)
    if compact is not None:
        return _unpacked(compact)
    tensors = load_tensors(Path(folder) / "diffusion_pytorch_model.safetensors")
    return {name: tensor.float() for name, tensor in tensors.items()}


def _unpacked(file: Path) -> dict[str, Tensor]:
    stored = load_tensors(file)
    tensors = {}
    for name in stored:
        if name.endswith(_SCALE):
            continue
        tensors[name] = _unpack(stored, name)
    return tensors


def _unpack(stored: dict[str, Tensor], name: str) -> Tensor:
    tensor, scale = stored[name].float(), stored.get(name + _SCALE)
    return tensor if scale is None else tensor * scale.view(-1, *[1] * (tensor.ndim - 1))


def _load_compact(kind: Any, file: Path, dtype: torch.dtype | None) -> Any:
    model = kind.from_config(kind.load_config(str(file.parent)))
    model.load_state_dict(_unpacked(file))
    if dtype not in (None, torch.float32):
        model = model.to(dtype)
    return model.eval()


@contextmanager
def quiet(logger_name: str) -> Iterator[None]:
    """Warnings of this logger are not shown inside."""
    logger = logging.getLogger(logger_name)
    level = logger.level
    logger.setLevel(logging.ERROR)
    try:
        yield
    finally:
        logger.setLevel(level)
