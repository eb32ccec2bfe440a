"""`rdtf generate | interpolate | predict | fill`: a model makes frames."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

from tyro.conf import Positional, arg

from rdtf.cli.output import check_output, draws, progress_of, show
from rdtf.errors import UserError
from rdtf.sampling.options import SamplingOptions, option_help

if TYPE_CHECKING:
    from rdtf.sampling.requests import ClipRequest
    from rdtf.stickers import Sticker

Output = Annotated[Path, arg(aliases=["-o"])]


def _help(option: str) -> Any:
    """The help of a flag is that of the sampling option."""
    return arg(help=option_help(option))


WRITABLE = (".webp", ".gif", ".apng", ".png", ".webm")


@dataclass(kw_only=True)
class _Sampling:
    """Options that all four share."""

    out: Output
    """File to write; the format is its suffix (.webp .gif .apng .png .webm)."""
    model: Path | None = None
    """Run directory of `rdtf train`, or a saved pipeline. Default: the model that ships."""
    steps: Annotated[int | None, _help("num_inference_steps")] = None
    guidance_scale: Annotated[float | None, _help("guidance_scale")] = None
    image_guidance_scale: Annotated[float | None, _help("image_guidance_scale")] = None
    motion: Annotated[str | None, _help("motion")] = None
    motion_scale: Annotated[float, _help("motion_scale")] = 1.0
    loop: Annotated[bool, _help("loop")] = False
    size: Annotated[str, _help("output_size")] = str(SamplingOptions.output_size)
    seed: int = 0
    """The same seed gives the same sticker."""
    sheet: Path | None = None
    """Also write all frames side by side to this PNG."""
    json: bool = False
    """Print the result as JSON."""

    def _check(self) -> dict[str, Any]:
        """The options, checked together with outputs and model: all that needs no torch."""
        from rdtf.sampling.options import check_model

        check_output(self.out, WRITABLE)
        if self.sheet is not None:
            check_output(self.sheet, (".png",))
        if self.model is not None:
            check_model(self.model)
        options = SamplingOptions(
            num_inference_steps=self.steps,
            guidance_scale=self.guidance_scale,
            image_guidance_scale=self.image_guidance_scale,
            motion=self.motion,
            motion_scale=self.motion_scale,
            loop=self.loop,
            output_size=int(self.size) if self.size.isdecimal() else self.size,
        )
        return options.arguments()

    def _make(self, make: Callable[[Any, dict[str, Any]], Sticker], options: Any) -> None:
        """Load the model, make the sticker with `make(pipeline, options)`, and write it."""
        import torch

        from rdtf.training.run import load_pipeline

        options["generator"] = torch.Generator().manual_seed(self.seed % 2**64)
        sticker = make(progress_of(load_pipeline(self.model)), options)
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
        if told := sticker.metadata.get("motion"):
            values["motion"] = told
            text += f", motion: {told}"
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
        from rdtf.sampling.options import CANNOT_DRAW
        from rdtf.sampling.requests import ClipRequest, visible
        from rdtf.stickers import Sticker

        options = self._check()
        num_frames = 8 if self.frames is None else self.frames
        still = None
        if self.image is not None:
            still = visible(Sticker.load(self.image).select([0]))
            at_least = self.image_index + 1 if self.frames is None else 0
            ClipRequest.place(
                still, [self.image_index], max(num_frames, at_least), self.duration_ms
            )
        elif not self.prompt.strip():
            raise UserError("nothing to start from: give a prompt, an image, or both")
        else:
            ClipRequest.blank(num_frames, (1, 1), self.duration_ms)
            if not draws(self.model):
                raise UserError(f"{CANNOT_DRAW} with --image")
        self._make(
            lambda pipeline, how: pipeline(
                self.prompt,
                still,
                num_frames=self.frames,
                image_index=self.image_index,
                duration_ms=self.duration_ms,
                **how,
            ),
            options,
        )


@dataclass(kw_only=True)
class _Completion(_Sampling):
    """Of those that complete a clip."""

    input: Positional[Path]
    """The clip."""
    prompt: str | None = None
    """Text that describes the clip; optional."""

    def _request(self, clip: Sticker) -> ClipRequest:
        raise NotImplementedError

    def run(self) -> None:
        from rdtf.sampling.requests import visible
        from rdtf.stickers import Sticker

        options = self._check()
        request = self._request(visible(Sticker.load(self.input)))
        self._make(lambda pipeline, how: pipeline.complete(request, self.prompt, **how), options)


@dataclass(kw_only=True)
class Interpolate(_Completion):
    """Make new frames between the frames of a clip; its total time stays the same.

    With --loop also between its last and its first.

    Example: rdtf interpolate wave.gif --factor 2 -o smooth.webp
    """

    factor: int = 2
    """2 = one new frame between any two."""

    def _request(self, clip: Sticker) -> ClipRequest:
        from rdtf.sampling.requests import ClipRequest

        return ClipRequest.interpolate(clip, self.factor, self.loop)


@dataclass(kw_only=True)
class Predict(_Completion):
    """Extend a clip: new frames behind it, in front of it, or both.

    With --loop they lead from its end back to its beginning.

    Example: rdtf predict wave.gif --after 4 -o longer.webp
    """

    after: int = 0
    """How many frames to add behind it."""
    before: int = 0
    """How many frames to add in front of it."""

    def _request(self, clip: Sticker) -> ClipRequest:
        from rdtf.sampling.requests import ClipRequest

        return ClipRequest.predict(clip, self.after, self.before)


@dataclass(kw_only=True)
class Fill(_Completion):
    """Keep the frames that you name and make all others.

    If the input holds only the given frames, --frames says how long the clip is to be.

    Example: rdtf fill wave.gif --known 0,2,4,6 -o filled.webp
    """

    known: str
    """Frames to keep, from 0, separated by commas: 0,2,4,6."""
    frames: int | None = None
    """Length of the result; default: that of the input."""

    def _request(self, clip: Sticker) -> ClipRequest:
        from rdtf.sampling.requests import ClipRequest

        try:
            known = sorted({int(part) for part in self.known.split(",")})
        except ValueError as error:
            message = f"--known takes numbers separated by commas, got {self.known!r}"
            raise UserError(message) from error
        return ClipRequest.fill(clip, known, self.frames)
