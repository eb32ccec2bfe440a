"""Weights from safetensors files, in memory of their own.

`safetensors` gives views of the file, and the length of the file's header decides at which
addresses they lie: multiples of 8 bytes. Matrix products of MKL add in another order where an
address is no multiple of 64, so a loaded model would differ from the saved one in the last bits of
a float. All weights are therefore copied to where torch puts new tensors.
The file may then be replaced or deleted, too.
"""

from __future__ import annotations

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

    From safetensors files, unless told otherwise.
    """

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


def save_compact(model: Any, folder: Path | str) -> None:
    """Store a model's weights in 8 bits: each row of a matrix with a scale of its own.

    A quarter of the size; `from_pretrained` gives float32 again, each weight off by at most 1/254
    of the largest in its row.
    """
    folder = Path(folder)
    model.save_config(folder)
    tensors: dict[str, Tensor] = {}
    for name, tensor in model.state_dict().items():
        tensor = tensor.detach().float().cpu()
        if tensor.ndim < 2 or tensor.numel() < _SMALLEST:
            tensors[name] = tensor.half().contiguous()
            continue
        rows = tensor.flatten(1)
        scale = (rows.abs().amax(1) / 127).clamp(min=1e-12)
        tensors[name] = (rows / scale[:, None]).round().to(torch.int8).view(tensor.shape)
        tensors[name + _SCALE] = scale
    save_file(tensors, folder / COMPACT_FILE)


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
    for name, tensor in stored.items():
        if name.endswith(_SCALE):
            continue
        scale = stored.get(name + _SCALE)
        tensor = tensor.float()
        if scale is not None:
            tensor = tensor * scale.view(-1, *[1] * (tensor.ndim - 1))
        tensors[name] = tensor
    return tensors


def _load_compact(kind: Any, file: Path, dtype: torch.dtype | None) -> Any:
    model = kind.from_config(kind.load_config(str(file.parent)))
    model.load_state_dict(_unpacked(file))
    if dtype not in (None, torch.float32):
        model = model.to(dtype)
    return model.eval()
