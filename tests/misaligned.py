"""Safetensors files whose data start where no new tensor would lie."""

from __future__ import annotations

from pathlib import Path

from torch import nn

from rdtf.models.loading import ALIGNMENT_BYTES


def misalign(path: Path, offset_bytes: int = 8) -> None:
    """Lengthen the headers of a file, or of all in a folder: data at 64·n + `offset_bytes`."""
    files = [path] if path.is_file() else sorted(path.rglob("*.safetensors"))
    assert files
    for file in files:
        content = file.read_bytes()
        end = 8 + int.from_bytes(content[:8], "little")
        header = content[8:end].rstrip()
        # The format allows spaces at the header's end, for this very purpose.
        header += b" " * ((offset_bytes - 8 - len(header)) % ALIGNMENT_BYTES)
        file.write_bytes(len(header).to_bytes(8, "little") + header + content[end:])


def misaligned(module: nn.Module) -> list[str]:
    """Names of the weights that do not lie like new tensors."""
    tensors = [*module.named_parameters(), *module.named_buffers()]
    return [name for name, tensor in tensors if tensor.data_ptr() % ALIGNMENT_BYTES]
