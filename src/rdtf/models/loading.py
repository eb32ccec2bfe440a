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

from safetensors.torch import load_file
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
