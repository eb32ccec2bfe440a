"""`rdtf data bundle`."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

from tyro.conf import Positional


@dataclass
class Bundle:
    """Put a training set into one folder that a rented GPU can train on.

    Takes what `rdtf data prepare` or `rdtf data synth` made, or folders of stickers. The folder
    holds the training clips as WebP, the text encoder in half precision with the words that occur,
    and the code: the other side needs torch, numpy, pillow, safetensors, diffusers and
    transformers, and no network. Held-out clips stay at home.

    Example: rdtf data bundle DATA BUNDLE --part-size 60MB
    """

    paths: Positional[tuple[Path, ...]]
    """A training set or folders of stickers, and last the folder to make."""
    canvas: int = 128
    """Side in pixels, a multiple of 16."""
    part_size: str | None = None
    """Split into folders of at most this size each, e.g. 60MB."""
    workers: int | None = None
    """Processes; default: one per processor."""
    overwrite: bool = False
    """Replace an existing bundle."""
    json: bool = False
    """Print the summary as JSON."""

    def run(self) -> None:
        from rdtf.cli.output import show
        from rdtf.data.bundle import write_bundle
        from rdtf.errors import UserError

        if len(self.paths) < 2:
            raise UserError("name a training set or folders of stickers, and the folder to make")
        *inputs, out = self.paths
        summary = write_bundle(
            inputs,
            out,
            canvas=self.canvas,
            part_bytes=None if self.part_size is None else parse_size(self.part_size),
            workers=self.workers,
            overwrite=self.overwrite,
        )
        show(summary.to_dict(), self.json, describe(summary))


def parse_size(text: str) -> int:
    """`60MB`, `1.5 GB` or plain bytes."""
    from rdtf.errors import UserError

    number, factor = text.strip().upper(), 1.0
    for unit, size in (("KB", 1e3), ("MB", 1e6), ("GB", 1e9)):
        if number.endswith(unit):
            number, factor = number.removesuffix(unit), size
    try:
        size = float(number) * factor
    except ValueError:
        size = 0.0
    if not 0 < size < 1e15:
        raise UserError(f"size {text!r} is none; say for example 60MB")
    return int(size)


def describe(summary: object) -> str:
    """A few lines for people."""
    from rdtf.fileio import size_text

    values = vars(summary)
    kinds = ", ".join(f"{name} {size_text(size)}" for name, size in values["files"].items())
    lossy = 1 - values["lossless_share"]
    loss = "all without loss"
    if values["lossy_psnr_db"] is not None:
        loss = f"{lossy:.0%} of them with loss, at {values['lossy_psnr_db']:.1f} dB"
    counts = f"{_counted(values['num_clips'], 'clip')}, {_counted(values['num_frames'], 'frame')}"
    lines = [
        f"{counts} of {values['canvas']} px, {loss}; "
        f"{size_text(values['num_bytes'])} in {values['path']} ({kinds})"
    ]
    if values["num_held_out"]:
        lines.append(
            f"left out: {_counted(values['num_held_out'], 'clip')} held out for validation"
        )
    if len(values["parts"]) > 1:
        lines += [f"  {part}" for part in values["parts"]]
    return "\n".join(lines)


def _counted(count: int, noun: str) -> str:
    return f"{count} {noun}" if count == 1 else f"{count} {noun}s"
