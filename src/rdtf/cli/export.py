"""`rdtf export`: stickers to messengers, and files held against their rules."""

from __future__ import annotations

from dataclasses import asdict, dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, Literal

from tyro.conf import Positional, arg

from rdtf.cli.output import note, progress_of, show
from rdtf.errors import UserError

if TYPE_CHECKING:
    from rdtf.stickers import Sticker
    from rdtf.stickers.export import Export, ExportOptions, PackItem, Platform

Output = Annotated[Path | None, arg(aliases=["-o"])]
_LOTTIE_SIDE = 512


@dataclass(kw_only=True)
class ExportCommand:
    """Make the files that a messenger takes, or check files against its rules.

    Within the byte limit quality or colours are given up first, then frames; never the canvas and
    never the speed. What was given up is printed. A clip that can't comply is refused (status 2).

    Example: rdtf export wave.gif --to telegram -o out

    Example: rdtf export a.gif b.gif c.gif --to whatsapp --pack "My cats" --author Me -o out

    Example: rdtf export --check sticker.webm --to telegram
    """

    files: Positional[tuple[Path, ...]] = ()
    """Sticker files, or folders of frames."""
    to: str | None = None
    """Platform or format; --list shows all."""
    out: Output = None
    """Folder to write into."""
    check: bool = False
    """Check files (or packs) against the platform's rules; nothing is written."""
    list: bool = False
    """Show all platforms with their limits."""
    pack: str | None = None
    """Name of a pack: put all files into one."""
    author: str = ""
    """Who made the pack."""
    emoji: tuple[str, ...] = ()
    """Emojis of the stickers in a pack, separated by commas: one text for all, or one for each
    file."""
    time: Literal["refuse", "trim", "hold", "speed"] = "refuse"
    """If the platform does not take the clip's length: refuse, cut the end, hold the last frame,
    or play faster or slower."""
    speed: float = 1.0
    """Playback speed; 2 = twice as fast."""
    close: Literal["none", "ping-pong", "cross-fade", "boomerang", "generated"] = "none"
    """Close the loop. ping-pong: forward and back; cross-fade: the end fades into the beginning;
    boomerang: forward and back in the same time; generated: new frames by a model."""
    model: Path | None = None
    """Run or saved pipeline that makes the frames for --close generated."""
    first: str = "0"
    """First frame of the loop, from 0, or "fullest"; some platforms show it as a still."""
    trim: bool = False
    """Trim transparent borders."""
    pad: int = 0
    """Transparent border to add, in pixels of the source."""
    outline: float = 0.0
    """White stroke around the picture, in pixels of the result; 8 is usual on 512."""
    outline_color: str = "#ffffff"
    """Colour of the stroke."""
    background: str | None = None
    """Opaque background colour, such as #ffffff; default: transparent (MP4: white)."""
    size: int | None = None
    """Longer side in pixels; for plain formats only."""
    max_bytes: int | None = None
    """A stricter limit than the platform's."""
    json: bool = False
    """Print the result as JSON."""

    def run(self) -> int:
        from rdtf.stickers.export import find_platform

        if self.list:
            return self._list()
        if self.to is None:
            raise UserError("name a platform with --to; rdtf export --list shows all")
        if not self.files:
            raise UserError("name at least one sticker file")
        platform = find_platform(self.to)
        if self.check:
            return self._check(platform)
        if self.out is None:
            raise UserError("name the folder to write into with -o")
        if self.pack is not None:
            return self._export_pack(platform, self.out, self.pack)
        return self._export_each(platform, self.out)

    # ---------------------------------------------------------------------------- modes

    def _list(self) -> int:
        from rdtf.stickers.export.platforms import dated, platforms

        if self.json:
            values = {id: asdict(platform) for id, platform in platforms().items()}
            show({"dated": dated(), "platforms": values}, True, "")
        else:
            _print_table()
        return 0

    def _check(self, platform: Platform) -> int:
        from rdtf.stickers.export import check_file, check_pack
        from rdtf.stickers.export.packs import is_pack

        reports = [
            (check_pack if is_pack(path) else check_file)(path, platform) for path in self.files
        ]
        passed = all(report.passed for report in reports)
        values = {"passed": passed, "reports": [report.to_dict() for report in reports]}
        show(values, self.json, "\n".join(map(str, reports)))
        return 0 if passed else 2

    def _export_pack(self, platform: Platform, out: Path, name: str) -> int:
        from rdtf.fileio import ensure_folder
        from rdtf.stickers.export import export_pack

        options = self._options()
        ensure_folder(out)
        pack = export_pack(
            self._items(platform), platform, name=name, author=self.author, options=options
        )
        path = pack.save(out)
        values = {
            "path": path,
            "platform": platform.id,
            "num_stickers": len(pack.exports),
            "stickers": [export.report.to_dict() for export in pack.exports],
        }
        lines = [
            f"{path}: {len(pack.exports)} stickers, checked by the rules of {pack.check.dated}"
        ]
        for file, export in zip(self.files, pack.exports, strict=True):
            lines += [f"{file.name}: {_indented(export)}"]
        show(values, self.json, "\n".join(lines))
        return 0

    def _export_each(self, platform: Platform, out: Path) -> int:
        """Each file on its own; one that is refused does not keep the others back."""
        from rdtf.fileio import ensure_folder
        from rdtf.stickers.export import export_sticker

        options = self._options()
        ensure_folder(out)
        done: list[dict[str, Any]] = []
        lines: list[str] = []
        refused: list[dict[str, Any]] = []
        stems = _stems(self.files)
        for path, stem in zip(self.files, stems, strict=True):
            try:
                export = export_sticker(self._read(path, platform), platform, options)
                written = export.save(out, stem)
            except UserError as error:
                if len(self.files) == 1:
                    raise
                reason = getattr(error, "reason", "unreadable")
                refused.append({"file": path, "reason": reason, "message": str(error)})
                note(f"rdtf: {path}: {error}")
                continue
            done.append({"file": path, "paths": written, **export.report.to_dict()})
            lines.append(f"{written[0]}: {_indented(export)}")
        show({"exported": done, "refused": refused}, self.json, "\n".join(lines))
        return 2 if refused else 0

    # ---------------------------------------------------------------------------- input

    def _options(self) -> ExportOptions:
        from rdtf.stickers.export import ExportOptions
        from rdtf.stickers.export.edit import parse_color

        first: Any = self.first
        if first != "fullest":
            try:
                first = int(first)
            except ValueError as error:
                raise UserError(f"--first takes a number or fullest, got {first!r}") from error
        return ExportOptions(
            trim=self.trim,
            pad=self.pad,
            outline_px=self.outline,
            outline_color=parse_color(self.outline_color),
            first=first,
            close="none" if self.close == "generated" else self.close,
            speed=self.speed,
            time=self.time,
            background=None if self.background is None else parse_color(self.background),
            size=self.size,
            max_bytes=self.max_bytes,
        )

    def _read(self, path: Path, platform: Platform) -> Any:
        """Lottie has no pixels of its own: it is rendered at the size of the export."""
        from rdtf.stickers import read_sticker

        canvas = platform.canvas()
        side = self.size or (max(canvas.value) if canvas else _LOTTIE_SIDE)
        sticker = read_sticker(path, lottie_size=min(max(side, 16), 2048))
        return self._closed(sticker) if self.close == "generated" else sticker

    def _closed(self, sticker: Sticker) -> Sticker:
        """The clip with frames behind it that lead back to its first; the same ones every time."""
        import torch

        generator = torch.Generator().manual_seed(0)
        return self._pipeline().close_loop(sticker, generator=generator)

    def _pipeline(self) -> Any:
        """The model, loaded for the first file that wants it."""
        from rdtf.training.run import load_pipeline

        if not hasattr(self, "_loaded"):
            self._loaded = progress_of(load_pipeline(self.model))
        return self._loaded

    def _items(self, platform: Platform) -> list[PackItem]:
        from rdtf.stickers.export import PackItem
        from rdtf.stickers.export.packs import DEFAULT_EMOJI, split_emojis

        texts = self.emoji or (DEFAULT_EMOJI,)
        if len(texts) not in (1, len(self.files)):
            raise UserError(f"--emoji takes one text, or one for each of {len(self.files)} files")
        texts = texts * len(self.files) if len(texts) == 1 else texts
        return [
            PackItem(self._read(path, platform), path.stem, split_emojis(text))
            for path, text in zip(self.files, texts, strict=True)
        ]


def _stems(files: tuple[Path, ...]) -> list[str]:
    """Names for the results: those of the files, numbered where two are alike."""
    stems: list[str] = []
    for path in files:
        stem, number = path.stem or path.name, 2
        while stem in stems:
            stem, number = f"{path.stem}_{number}", number + 1
        stems.append(stem)
    return stems


def _indented(export: Export) -> str:
    return str(export.report).replace("\n", "\n  ")


def _print_table() -> None:
    from rich.console import Console
    from rich.table import Table

    from rdtf.stickers.export.check import HEADER, platform_rows
    from rdtf.stickers.export.platforms import confidence_levels, dated

    table = Table(*HEADER, title=f"Platforms and their limits, as of {dated()}", show_lines=False)
    for row in platform_rows():
        table.add_row(*(cell.replace("`", "") for cell in row))
    console = Console(width=None if Console().is_terminal else 180)
    console.print(table)
    levels = [f"{name[0]} {meaning}" for name, meaning in confidence_levels().items()]
    console.print("; ".join(levels[:5]))
