"""`rdtf generate | interpolate | predict | fill`: a model makes frames."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

from tyro.conf import Positional, arg

if TYPE_CHECKING:
    from rdtf.stickers import Sticker

Output = Annotated[Path, arg(aliases=["-o"])]
WRITABLE = (".webp", ".gif", ".apng", ".png", ".webm")


@dataclass(kw_only=True)
class _Sampling:
    """Options that all four share."""

    out: Output
    """File to write; the format is its suffix (.webp .gif .apng .png .webm)."""
    model: Path | None = None
    """Run directory of `rdtf train`, or a saved pipeline. Default: the model that ships."""
    steps: int | None = None
    """Sampling steps: fewer are faster. Default: the model's for the task; those of the model that
    ships: 1 between given frames, 20 to move a still, 12 to go on, 20 to draw a still from text."""
    guidance_scale: float | None = None
    """How strongly to follow the text; 1 = off. Default: the model's for the task; of the model
    that ships: 3 to draw a still, 2 to move one, else 1."""
    image_guidance_scale: float | None = None
    """How strongly what is drawn follows the given frames; 1 = off. Default: the model's for the
    task. A model that only moves what it is given has none."""
    size: str = "canvas"
    """Size of the result: canvas (the model's), input (that of the given frames, kept as they
    are), or the pixels of a square's side, e.g. 512."""
    motion: str | None = None
    """A motion by name, e.g. jump, spin, wobble. Default: by the words; those of the motion grammar
    ("jumping slowly") are done exactly, others by the network. "network" = all by the network."""
    motion_scale: float = 1.0
    """How far things move beyond the given frames: 0.5 = half as far, 2 = twice."""
    loop: bool = False
    """Make a loop: the last frame leads back to the first, and print how well (seam error)."""
    seed: int = 0
    """The same seed gives the same sticker."""
    sheet: Path | None = None
    """Also write all frames side by side to this PNG."""
    json: bool = False
    """Print the result as JSON."""

    def _prepare(self) -> tuple[Any, dict[str, Any]]:
        """The pipeline and its sampling options; refuses a bad output before loading anything."""
        import torch

        from rdtf.cli.output import check_output, quiet_beside_terminals
        from rdtf.training.run import load_pipeline

        check_output(self.out, WRITABLE)
        if self.sheet is not None:
            check_output(self.sheet, (".png",))
        options: dict[str, Any] = {
            "num_inference_steps": self.steps,
            "guidance_scale": self.guidance_scale,
            "image_guidance_scale": self.image_guidance_scale,
            "output_size": int(self.size) if self.size.isdecimal() else self.size,
            "loop": self.loop,
            "motion": self.motion,
            "motion_scale": self.motion_scale,
            "generator": torch.Generator().manual_seed(self.seed % 2**64),
        }
        return quiet_beside_terminals(load_pipeline(self.model)), options

    def _finish(self, sticker: Sticker) -> None:
        from rdtf.cli.output import show

        path = sticker.save(self.out)
        if self.sheet is not None:
            from rdtf.stickers import write_sheet

            write_sheet(sticker, self.sheet)
        values: dict[str, Any] = {
            "path": path,
            "num_frames": sticker.num_frames,
            "total_ms": sticker.total_ms,
        }
        text = f"{path}: {sticker.num_frames} frames, {sticker.width} px, {sticker.total_ms} ms"
        if self.loop:
            values["seam_error"] = round(sticker.seam_error(), 3)
            text += f", seam error {values['seam_error']}"
        show(values, self.json, text)


@dataclass(kw_only=True)
class Generate(_Sampling):
    """Make a sticker from text, from a still image, or from both.

    Example: rdtf generate "a cat waving" --image cat.png -o cat.webp
    """

    prompt: Positional[str] = ""
    """What to show."""
    image: Path | None = None
    """A still that becomes one frame and comes back unchanged (first frame of a clip)."""
    image_index: int = 0
    """Which frame the still becomes, from 0."""
    frames: int | None = None
    """How many frames; default 8."""
    duration_ms: int = 100
    """How long each frame is shown."""

    def run(self) -> None:
        pipeline, options = self._prepare()
        sticker = pipeline(
            self.prompt,
            self.image,
            num_frames=self.frames,
            image_index=self.image_index,
            duration_ms=self.duration_ms,
            **options,
        )
        self._finish(sticker)


@dataclass(kw_only=True)
class Interpolate(_Sampling):
    """Make new frames between the frames of a clip; its total time stays the same.

    With --loop also between its last and its first.

    Example: rdtf interpolate wave.gif --factor 2 -o smooth.webp
    """

    input: Positional[Path]
    """The clip."""
    factor: int = 2
    """2 = one new frame between any two."""
    prompt: str | None = None
    """What it shows, if that helps."""

    def run(self) -> None:
        pipeline, options = self._prepare()
        self._finish(pipeline.interpolate(self.input, self.factor, prompt=self.prompt, **options))


@dataclass(kw_only=True)
class Predict(_Sampling):
    """Extend a clip: new frames behind it, in front of it, or both.

    With --loop they lead from its end back to its beginning.

    Example: rdtf predict wave.gif --after 4 -o longer.webp
    """

    input: Positional[Path]
    """The clip."""
    after: int = 0
    """How many frames to add behind it."""
    before: int = 0
    """How many frames to add in front of it."""
    prompt: str | None = None
    """What it shows, if that helps."""

    def run(self) -> None:
        pipeline, options = self._prepare()
        sticker = pipeline.predict(
            self.input, self.after, self.before, prompt=self.prompt, **options
        )
        self._finish(sticker)


@dataclass(kw_only=True)
class Fill(_Sampling):
    """Keep the frames that you name, make all others anew.

    If the input holds only the given frames, --frames says how long the clip is to be.

    Example: rdtf fill wave.gif --known 0,2,4,6 -o filled.webp
    """

    input: Positional[Path]
    """The clip."""
    known: str
    """Frames to keep, from 0, with commas between: 0,2,4,6."""
    frames: int | None = None
    """Length of the result; default: that of the input."""
    prompt: str | None = None
    """What it shows, if that helps."""

    def run(self) -> None:
        known = _indices(self.known)
        pipeline, options = self._prepare()
        sticker = pipeline.fill(
            self.input, known, num_frames=self.frames, prompt=self.prompt, **options
        )
        self._finish(sticker)


def _indices(text: str) -> list[int]:
    from rdtf.errors import UserError

    try:
        return sorted({int(part) for part in text.split(",")})
    except ValueError as error:
        raise UserError(f"--known takes numbers with commas between, got {text!r}") from error
