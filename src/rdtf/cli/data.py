"""`rdtf data synth | prepare | inspect`."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Literal

from tyro.conf import Positional, arg

if TYPE_CHECKING:
    from rdtf.training.config import TrainConfig


@dataclass
class Synth:
    """Make synthetic stickers: sticker N is always the same for a seed.

    By default the result is a training set, ready for `rdtf train`; with --files it is a folder of
    animated sticker files with their captions.
    """

    out: Positional[Path]
    """Folder to make."""
    count: int = 2000
    """How many stickers."""
    seed: int = 0
    """Another seed gives other stickers."""
    canvas: int = 128
    """Side in pixels."""
    max_frames: int = 16
    """Most frames of a sticker."""
    files: Literal["none", "webp", "gif", "apng"] = "none"
    """Write sticker files of this format instead of a training set."""
    overwrite: bool = False
    """Replace an existing training set."""
    json: bool = False
    """Print the summary as JSON."""

    def run(self) -> None:
        from rdtf.cli.output import show
        from rdtf.synthetic.characters import SyntheticStickers

        stickers = SyntheticStickers(self.seed, self.count, self.canvas, self.max_frames)
        if self.files != "none":
            from rdtf.data.export import write_sticker_files

            write_sticker_files(stickers, self.out, self.files)
            text = f"{self.count} stickers in {self.out}"
            show({"path": self.out, "num_stickers": self.count}, self.json, text)
            return
        from rdtf.data.prepare import prepare

        summary = prepare(
            stickers,
            self.out,
            canvas=self.canvas,
            max_frames=self.max_frames,
            overwrite=self.overwrite,
        )
        show(summary.to_dict(), self.json, describe_summary(summary))


@dataclass
class Prepare:
    """Turn folders of sticker files into a training set.

    Reads GIF, WebP, APNG, PNG, Lottie .json, Telegram .tgs and WebM, at any depth. Captions come
    from *.jsonl files beside the stickers (rows with `file` and `captions`), else from file names.
    Files that can't be used are skipped and counted.

    Example: rdtf data prepare my-stickers more-stickers DATA
    """

    paths: Positional[tuple[Path, ...]]
    """Folders or files with stickers, and last the folder to make."""
    canvas: int = 256
    """Side in pixels that stickers are fitted to."""
    max_frames: int = 16
    """Most key frames of a clip."""
    key_frames: Literal["piecewise", "equal"] = "piecewise"
    """Best approximation in time, or equal spacing."""
    val_fraction: float = 0.1
    """Share of concepts held out for validation."""
    min_motion: float = 0.0
    """Skip animated stickers that move less than this (0 to 1)."""
    keep_duplicates: bool = False
    """Keep stickers whose pixels are equal."""
    seed: int = 0
    """Settles which concepts are held out."""
    workers: int | None = None
    """Processes; default: one per processor."""
    preset: str = "nano"
    """Also cache frames and text states for this preset ("none": on first training)."""
    overwrite: bool = False
    """Replace an existing training set."""
    json: bool = False
    """Print the summary as JSON."""

    def run(self) -> None:
        from rdtf.cli.output import show
        from rdtf.data.prepare import prepare
        from rdtf.errors import UserError

        if len(self.paths) < 2:
            raise UserError("name at least one folder of stickers and the folder to make")
        config = None if self.preset == "none" else self._preset_config()
        *inputs, out = self.paths
        summary = prepare(
            inputs,
            out,
            canvas=self.canvas,
            max_frames=self.max_frames,
            keyframe_method=self.key_frames,
            val_fraction=self.val_fraction,
            min_motion=self.min_motion,
            dedupe=not self.keep_duplicates,
            seed=self.seed,
            workers=self.workers,
            overwrite=self.overwrite,
        )
        if config is not None:
            from rdtf.training.loader import open_stores

            open_stores(out, config)
        show(summary.to_dict(), self.json, describe_summary(summary))

    def _preset_config(self) -> TrainConfig:
        """Refuses what could not be cached in the end, before hours of preparing."""
        from rdtf.errors import UserError
        from rdtf.training.presets import preset

        config = preset(self.preset)
        if config.representation.kind != "pixels":
            raise UserError(
                f"preset {self.preset} needs models that only training names; use --preset none"
            )
        if self.canvas < config.canvas:
            raise UserError(
                f"canvas {self.canvas} is smaller than the {config.canvas} pixels of preset "
                f"{self.preset}; raise --canvas or use --preset none"
            )
        return config


@dataclass
class Inspect:
    """Show what is in a training set: counts, lengths, durations, what was skipped and why."""

    data: Positional[Path]
    """Folder made by `rdtf data prepare` or `rdtf data synth`."""
    sheet: Annotated[Path | None, arg(aliases=["-o"])] = None
    """Write a contact sheet of some clips to this PNG."""
    clips: int = 8
    """Clips of each split on the sheet."""
    seed: int = 0
    """Another seed shows other clips."""
    verify: bool = False
    """Check every shard against its hash."""
    json: bool = False
    """Print the report as JSON."""

    def run(self) -> None:
        from rdtf.cli.output import check_output, show
        from rdtf.data.dataset import PreparedDataset
        from rdtf.data.inspect import inspect_dataset, write_clip_sheet

        if self.sheet is not None:
            check_output(self.sheet, (".png",))
        report = inspect_dataset(self.data, verify=self.verify)
        if self.sheet is not None:
            dataset = PreparedDataset(self.data)
            write_clip_sheet(dataset, self.sheet, clips_per_split=self.clips, seed=self.seed)
        if self.json:
            show(report.to_dict(), True, "")
            return
        from rich.console import Console

        Console().print(report.tables())


def describe_summary(summary: object) -> str:
    """A few lines for people."""
    values = vars(summary)
    skipped = values["skipped"]
    lines = [
        f"{values['num_clips']} clips ({values['num_animated']} animated, "
        f"{values['num_frames']} frames, {values['num_captions']} captions) in {values['path']}, "
        f"{values['num_bytes'] / 1e6:.0f} MB, {values['seconds']:.0f} s",
        "splits: " + ", ".join(f"{name} {count}" for name, count in values["splits"].items()),
    ]
    if skipped:
        total = sum(skipped.values())
        reasons = ", ".join(f"{count} {reason}" for reason, count in skipped.items())
        lines.append(f"skipped {total}: {reasons} (each named in skipped.jsonl)")
    if values["not_drawn"]:
        parts = ", ".join(f"{part} ({count})" for part, count in values["not_drawn"].items())
        lines.append(f"not drawn in Lottie files: {parts} (each named in clips.jsonl)")
    return "\n".join(lines)
