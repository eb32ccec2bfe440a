"""Stills set in motion by the grammar, with captions: for people who have no animated stickers."""

from __future__ import annotations

import json
import operator
from collections.abc import Iterable, Iterator, Sequence
from pathlib import Path
from typing import Any, SupportsIndex

import numpy as np

from rdtf.data.decode import open_item
from rdtf.data.listing import collect_folders
from rdtf.data.sources import Skipped, SourceItem, clean_captions
from rdtf.errors import ConfigError, StickerError, UserError
from rdtf.fileio import atomic_folder
from rdtf.stickers import DEFAULT_BUDGET, LottieFile, Sticker
from rdtf.synthetic import (
    animate,
    as_shown,
    draw_action,
    draw_caption,
    draw_duration_ms,
    draw_motion,
)
from rdtf.synthetic.verbs import TRAINED, find_verb


def write_sticker_files(stickers: Iterable[Sticker], out: Path, suffix: str) -> int:
    """Write each sticker to `out` as `000000.SUFFIX` and all captions to `captions.jsonl`.

    Returns how many. The folder appears whole or not at all; one that holds something is refused.
    """
    if out.exists() and not out.is_dir():
        raise UserError(f"output {out} is a file; name a folder")
    if out.is_dir() and any(out.iterdir()):
        raise UserError(f"{out} is not empty; name a new folder")
    rows = []
    with atomic_folder(out) as folder:
        for number, sticker in enumerate(stickers):
            name = f"{number:06d}.{suffix}"
            sticker.save(folder / name)
            rows.append(json.dumps(_row(name, sticker), ensure_ascii=False))
        (folder / "captions.jsonl").write_text("\n".join(rows) + "\n", "utf-8")
    return len(rows)


def _row(name: str, sticker: Sticker) -> dict[str, Any]:
    """What is known of a sticker, in the words that `rdtf data prepare` reads."""
    about = {
        "concept": sticker.metadata.get("concept"),
        "motion": sticker.metadata.get("motion"),
        "license": sticker.license,
        "attribution": sticker.attribution,
    }
    known = {key: value for key, value in about.items() if isinstance(value, str)}
    return {"file": name, "captions": list(sticker.captions), **known}


_ORDER, _MOTION = 0, 1  # streams of random numbers
_PHRASINGS = 3


class AnimatedStills:
    """A sequence of `count` stickers, each a still of a folder in motion.

    `animated[i]` is a pure function of (seed, i, the stills, num_frames): every still comes once
    before any comes again. Files that are animated, empty or unreadable are passed over, and
    named in `skipped` once they have been met.

    Args:
        stills: folders or files, with captions as `rdtf data prepare` reads them.
        verbs: names or phrasings of what they may do; None = all that training draws from.
        canvas: side in pixels that stills are fitted to.

    Raises:
        UserError: no still there, an unknown verb, or a number out of range.
    """

    def __init__(
        self,
        stills: Sequence[Path | str],
        count: int,
        *,
        num_frames: int = 8,
        seed: int = 0,
        verbs: Sequence[str] | None = None,
        canvas: int = 256,
    ) -> None:
        if count < 1:
            raise ConfigError(f"count of animated stills is {count}; use 1 or more")
        if not 2 <= num_frames <= 64:
            raise ConfigError(f"frames of animated stills is {num_frames}; use 2 to 64")
        if not 8 <= canvas <= 2048:
            raise ConfigError(f"canvas of animated stills is {canvas}; use 8 to 2048 pixels")
        if seed < 0:
            raise ConfigError(f"seed of animated stills is {seed}; use 0 or more")
        self.verbs = (
            [find_verb(verb, TRAINED).name for verb in verbs] if verbs is not None else None
        )
        self.count, self.num_frames, self.seed, self.canvas = count, num_frames, seed, canvas
        self.folders = tuple(stills)
        self.items, self._lines = collect_folders(stills)
        self._unusable: dict[int, Skipped] = {}

    @property
    def skipped(self) -> list[Skipped]:
        """Lines of captions files without use, and files met so far that are no stills."""
        return [*self._lines, *(self._unusable[number] for number in sorted(self._unusable))]

    def __len__(self) -> int:
        return self.count

    def __iter__(self) -> Iterator[Sticker]:
        return (self[index] for index in range(self.count))

    def __getitem__(self, index: SupportsIndex) -> Sticker:
        """Make one sticker; `IndexError` outside 0..len-1 (negative indices too)."""
        number = operator.index(index)
        if not 0 <= number < self.count:
            raise IndexError(f"no animated still {number}; there are {self.count}")
        item, still = self._still(number)
        generator = self._stream(_MOTION, number)
        draw = as_shown(draw_motion(generator, self.verbs), self.num_frames)
        duration_ms = draw_duration_ms(draw, self.num_frames, generator)
        drops = float(generator.random())
        motion = draw_action(draw, generator)
        names = item.captions or ("",)
        captions = [
            draw_caption(draw, names[generator.integers(len(names))], generator)
            for _ in range(_PHRASINGS)
        ]
        clip = animate(still, draw, self.num_frames, duration_ms, deform_seed=drops)
        return clip.replace(
            captions=clean_captions(captions),
            source=item.source,
            license=item.license,
            attribution=item.attribution,
            metadata={"concept": item.concept, "motion": motion, "verbs": list(draw.verbs)},
        )

    def _still(self, number: int) -> tuple[SourceItem, Sticker]:
        """The still of sticker `number`: the next in the epoch's order that can be used."""
        epoch, place = divmod(number, len(self.items))
        order = self._stream(_ORDER, epoch).permutation(len(self.items))
        for chosen in np.roll(order, -place):
            still = self._load(int(chosen))
            if still is not None:
                return self.items[chosen], still
        first = next(iter(self._unusable.values()))
        where = ", ".join(str(folder) for folder in self.folders)
        raise UserError(
            f"none of the {len(self.items)} stickers in {where} is a still that can be used; "
            f"{first.file}: {first.reason}"
        )

    def _load(self, number: int) -> Sticker | None:
        """One still on the canvas; None if it can't be used."""
        if number in self._unusable:
            return None
        item = self.items[number]
        try:
            opened = open_item(item, DEFAULT_BUDGET)
            if (frames := opened.num_frames) > 1:
                raise _NoStillError("animated", f"{frames} frames; only stills are set in motion")
            if isinstance(opened, LottieFile):
                still = Sticker(opened.render(0, self.canvas)[None], np.array([100]))
            else:
                still = opened.fit_canvas(self.canvas)
            if not still.frames[..., 3].any():
                raise _NoStillError("empty", "nothing but transparent pixels")
        except _NoStillError as error:
            self._unusable[number] = Skipped(item.file, error.kind, str(error))
        except StickerError as error:
            self._unusable[number] = Skipped(item.file, "unreadable", str(error))
        else:
            return still
        return None

    def _stream(self, purpose: int, position: int) -> np.random.Generator:
        sequence = np.random.SeedSequence(self.seed, spawn_key=(purpose, position))
        return np.random.Generator(np.random.Philox(sequence))


class _NoStillError(StickerError):
    """A sticker that can be read but not animated."""

    def __init__(self, kind: str, message: str) -> None:
        super().__init__(message)
        self.kind = kind
