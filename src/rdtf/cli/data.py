"""`rdtf data synth | prepare | inspect`."""

from __future__ import annotations

from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Literal

from tyro.conf import Positional, arg

if TYPE_CHECKING:
    from rdtf.data.captions import CaptionOptions
    from rdtf.data.filters import FilterOptions
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
        from rdtf.errors import UserError
        from rdtf.synthetic.characters import SyntheticStickers

        if self.count < 1:
            raise UserError(f"--count is {self.count}; draw at least 1 sticker")
        stickers = SyntheticStickers(self.seed, self.count, self.canvas, self.max_frames)
        if self.files != "none":
            from rdtf.data.animated import write_sticker_files

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
        show(summary.to_dict(), self.json, _describe_summary(summary))


@dataclass
class Prepare:
    """Turn folders of sticker files into a training set. The same command again goes on.

    Reads GIF, WebP, APNG, PNG, JPEG, AVIF, Lottie .json, Telegram .tgs, WebM and MP4, at any depth,
    in zip and tar files, packs (.wastickers) and WebDataset shards too. Captions come from *.jsonl,
    *.csv and *.parquet files beside the stickers (rows with `file` and `captions`), else from file
    names. Files that can't be used are skipped and counted.

    Example: rdtf data prepare my-stickers more-stickers DATA
    """

    paths: Positional[tuple[Path, ...]]
    """Folders, archives, tables or files with stickers, and last the folder to make."""
    canvas: int = 256
    """Side in pixels that stickers are fitted to."""
    max_frames: int = 16
    """Most key frames of a clip."""
    key_frames: Literal["piecewise", "equal", "clusters"] = "piecewise"
    """Best approximation in time, equal spacing, or clusters of alike frames as in the paper."""
    val_fraction: float = 0.1
    """Share of concepts held out for validation."""
    min_motion: float = 0.002
    """Drop animated stickers that move less than this (0 to 1)."""
    keep_all: bool = False
    """Keep blank, nearly still, very long and text-heavy stickers too."""
    cut_background: bool = False
    """Make an even white or black background, or a drawn checkerboard, transparent."""
    duplicates: Literal["near", "exact", "keep"] = "near"
    """Drop stickers that look like an earlier one, whose pixels are equal, or none."""
    captioner: str | None = None
    """Hugging Face image-text model that captions stickers of which only the name is known."""
    trigger: str = ""
    """Word in front of every caption."""
    word_drop: float = 0.0
    """Chance of each word to be missing in one more variant of each caption."""
    paraphrases: Path | None = None
    """JSON file as {"cat": ["kitten", "kitty"]}: one more variant of each caption."""
    add_phrases: bool = False
    """One more variant of each caption with what is known of motion and emotion."""
    sprite: str | None = None
    """Frame size of sprite sheets, as 32x48: stills that are sheets of it become clips."""
    seed: int = 0
    """Settles which concepts are held out."""
    workers: int | None = None
    """Processes; default: one per processor. 0: this one, unprotected from files that crash it."""
    engine: Literal["pool", "ray"] = "pool"
    """Processes of this machine, or a Ray cluster (RAY_ADDRESS; else a local one is started)."""
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
            filters=self._filters(),
            duplicates=self.duplicates,
            captions=self._captions(),
            sprite=_parse_size_px(self.sprite),
            engine=self.engine,
            seed=self.seed,
            workers=self.workers,
            overwrite=self.overwrite,
            finish=None if config is None else partial(_cache, config=config),
        )
        show(summary.to_dict(), self.json, _describe_summary(summary))

    def _filters(self) -> FilterOptions | None:
        from rdtf.data.filters import FilterOptions
        from rdtf.errors import UserError

        if not self.keep_all:
            return FilterOptions(min_motion=self.min_motion, cut_background=self.cut_background)
        if self.cut_background:
            raise UserError("--cut-background is one of the filters that --keep-all turns off")
        return None

    def _captions(self) -> CaptionOptions:
        from rdtf.data.captions import CaptionOptions, read_paraphrases

        paraphrases = {} if self.paraphrases is None else read_paraphrases(self.paraphrases)
        return CaptionOptions(
            self.captioner, self.trigger, self.word_drop, paraphrases, self.add_phrases
        )

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


def _cache(data: Path, config: TrainConfig) -> None:
    from rdtf.training.loader import open_stores

    open_stores(data, config)


@dataclass
class Inspect:
    """Show what is in a training set, as a page with pictures: DATA.html beside the folder.

    Counts by stage, what was left out and why, histograms, colours, words of captions, duplicates,
    contact sheets of concepts, and licences. The page is one file without scripts.

    Example: rdtf data inspect DATA
    """

    data: Positional[Path]
    """Folder made by `rdtf data prepare` or `rdtf data synth`."""
    out: Annotated[Path | None, arg(aliases=["-o"])] = None
    """The page (.html); default: named as the folder, beside it."""
    seed: int = 0
    """Another seed shows other clips."""
    verify: bool = False
    """Check every shard against its hash."""
    json: bool = False
    """Print the numbers as JSON."""

    def run(self) -> None:
        from rdtf.cli.output import check_output, show
        from rdtf.data.dataset import PreparedDataset
        from rdtf.data.inspect import inspect_dataset, write_page

        dataset = PreparedDataset(self.data)
        folder = dataset.path.resolve()
        page = self.out or folder.with_name(f"{folder.name}.html")
        check_output(page, (".html",))
        if self.verify:
            dataset.verify()
        report = inspect_dataset(dataset)
        write_page(dataset, report, page, seed=self.seed)
        values = {**report.to_dict(), "page": page}
        show(values, self.json, f"{report.text()}\npage: {page}")


def _describe_summary(summary: object) -> str:
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


@dataclass
class Animate:
    """Set stills in motion by rules, with captions, to train on where there are no clips.

    Each sticker is a still of the folder that jumps, spins, melts …, as a WebP file with captions
    in OUT/captions.jsonl, ready for `rdtf data prepare`. Sticker N is always the same for a seed
    and the same stills. Names of stills come from *.jsonl files or their own file names.

    Example: rdtf data animate my-stills CLIPS --count 500 --verbs jump,spin
    """

    stills: Positional[Path]
    """Folder of stills, at any depth; what is animated is left out."""
    out: Positional[Path]
    """Folder to make."""
    count: int = 200
    """How many stickers."""
    frames: int = 8
    """Frames of each."""
    seed: int = 0
    """Another seed gives other motions."""
    verbs: str | None = None
    """What they may do, as "jump,spin,slide left"; default: every verb of the grammar."""
    canvas: int = 256
    """Side in pixels that stills are fitted to."""
    json: bool = False
    """Print the summary as JSON."""

    def run(self) -> None:
        from collections import Counter

        from rdtf.cli.output import show
        from rdtf.data.animated import AnimatedStills, write_sticker_files
        from rdtf.data.pool import track
        from rdtf.fileio import check_apart

        check_apart([self.stills], self.out)
        animated = AnimatedStills(
            [self.stills],
            self.count,
            num_frames=self.frames,
            seed=self.seed,
            verbs=self.verbs.split(",") if self.verbs is not None else None,
            canvas=self.canvas,
        )
        write_sticker_files(track(animated, "animate", len(animated)), self.out, "webp")
        skipped = dict(Counter(left_out.kind for left_out in animated.skipped).most_common())
        text = f"{self.count} stickers in {self.out}"
        if skipped:
            reasons = ", ".join(f"{count} {kind}" for kind, count in skipped.items())
            text += f"\nleft out {sum(skipped.values())}: {reasons}"
        values = {"path": self.out, "num_stickers": self.count, "skipped": skipped}
        show(values, self.json, text)


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


def _parse_size_px(text: str | None) -> tuple[int, int] | None:
    """`32x48` -> (32, 48)."""
    from rdtf.errors import UserError

    if text is None:
        return None
    width, _, height = text.lower().partition("x")
    if not (width.isdecimal() and height.isdecimal() and int(width) and int(height)):
        raise UserError(f"sprite {text!r} is no frame size; say for example 32x48")
    return int(width), int(height)


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
