"""Two domains that share no kind and no style: where the U-Nets come from, and what is wanted.

The target are synthetic stickers of plants, heavenly bodies and things with outlines. The source,
which the larger U-Nets are pre-trained on, are animals and creatures without outlines. They share
motions, faces and colours: they are much closer to each other than photographs are to stickers,
which favours tuning.
"""

from __future__ import annotations

import shutil
from collections.abc import Callable, Collection, Iterator, Sequence
from dataclasses import dataclass
from itertools import islice
from pathlib import Path

from rdtf.data.animated import write_sticker_files
from rdtf.data.dataset import PreparedDataset
from rdtf.data.prepare import prepare
from rdtf.data.sources import SPLITS, Split
from rdtf.errors import ConfigError, DataError
from rdtf.research.comparison.settings import Budget
from rdtf.stickers import Sticker
from rdtf.synthetic.characters import Attributes, SyntheticStickers
from rdtf.synthetic.characters.birds import BIRDS
from rdtf.synthetic.characters.creatures import CREATURES
from rdtf.synthetic.characters.mammals import MAMMALS
from rdtf.synthetic.characters.nature import NATURE
from rdtf.synthetic.characters.objects import OBJECTS

_VAL_FRACTION = 0.15
Say = Callable[[str], None]


@dataclass(frozen=True)
class Domain:
    """A part of all synthetic stickers: which kinds, in which styles."""

    name: str
    kinds: frozenset[str]
    styles: frozenset[str]
    seed: int

    def __contains__(self, about: Attributes) -> bool:
        """Whether a sticker belongs to it; only those that move do."""
        return about.num_frames > 1 and about.kind in self.kinds and about.style in self.styles

    def stickers(self, count: int, budget: Budget) -> Iterator[Sticker]:
        """The first `count` of them, at the budget's canvas, with at most its captions."""
        drawn = self._all(budget)
        for about in self._first(count, drawn):
            sticker = drawn[about.index]
            yield sticker.replace(captions=sticker.captions[: budget.captions])

    def concepts(self, count: int, budget: Budget) -> set[str]:
        """Concepts of the first `count`, without drawing them."""
        return {about.concept for about in self._first(count, self._all(budget))}

    def _all(self, budget: Budget) -> SyntheticStickers:
        return SyntheticStickers(self.seed, canvas=budget.canvas, max_frames=budget.max_frames)

    def _first(self, count: int, drawn: SyntheticStickers) -> Iterator[Attributes]:
        described = (drawn.describe(index) for index in range(len(drawn)))
        return islice((about for about in described if about in self), count)


SOURCE = Domain(
    "source", frozenset({*MAMMALS, *BIRDS, *CREATURES}), frozenset({"flat", "soft"}), seed=1000
)
TARGET = Domain("target", frozenset({*NATURE, *OBJECTS}), frozenset({"outline"}), seed=0)


@dataclass(frozen=True)
class Domains:
    """The two prepared training sets, and what each is in words."""

    source: PreparedDataset
    target: PreparedDataset
    source_text: str
    target_text: str


def open_domains(
    folder: Path, budget: Budget, source: Path | None, target: Path | None, say: Say
) -> Domains:
    """Open the named training sets; draw synthetic ones into `folder` for those not named.

    Raises:
        UserError: a named set can't be used, or what is held out of the target is in the source.
    """
    named_target = None if target is None else _named("target", target, budget, ("train", "val"))
    named_source = None if source is None else _named("source", source, budget, ("train",))
    wanted = named_target or _synthetic(folder, TARGET, budget.target_count, budget, say)
    if named_source is None:
        check_disjoint(SOURCE.concepts(budget.source_count, budget), "the default source", wanted)
    else:
        concepts = {clip.concept for clip in named_source.clips("train")}
        check_disjoint(concepts, f"source {named_source.path}", wanted)
    other = named_source or _synthetic(folder, SOURCE, budget.source_count, budget, say)
    return Domains(
        source=other,
        target=wanted,
        source_text=_text(other, None if named_source else SOURCE),
        target_text=_text(wanted, None if named_target else TARGET),
    )


def _named(name: str, path: Path, budget: Budget, splits: Sequence[Split]) -> PreparedDataset:
    """A training set of the user's, after checks of what the comparison needs of it."""
    dataset = PreparedDataset(path)
    if dataset.canvas < budget.canvas:
        raise DataError(
            f"{name} {path} was prepared at {dataset.canvas} pixels, this budget needs "
            f"{budget.canvas}; prepare it again or --set canvas={dataset.canvas}"
        )
    for split in splits:
        if not any(clip.num_frames > 1 for clip in dataset.clips(split)):
            raise DataError(
                f"{name} {path} has no animated clips in its {split} split; prepare one that has"
            )
    return dataset


def _text(dataset: PreparedDataset, domain: Domain | None) -> str:
    train, val = (sum(clip.num_frames > 1 for clip in dataset.clips(split)) for split in SPLITS)
    counts = f"{train} clips to train on" + (f", {val} held out" if val else "")
    if domain is None:
        return f"training set {dataset.path.name}, {counts}"
    return (
        f"synthetic stickers, {len(domain.kinds)} kinds ({', '.join(sorted(domain.kinds))}), "
        f"style {' and '.join(sorted(domain.styles))}, {counts}"
    )


def _synthetic(
    folder: Path, domain: Domain, count: int, budget: Budget, say: Say
) -> PreparedDataset:
    """Draw a domain once; it is found there the next time."""
    out = folder / domain.name
    if not out.exists():
        say(f"drawing {count} stickers of the {domain.name} domain")
        files = folder / f"{domain.name}-files"
        if files.exists():  # of a call that was killed
            shutil.rmtree(files)
        write_sticker_files(domain.stickers(count, budget), files, "webp")
        prepare(
            files,
            out,
            canvas=budget.canvas,
            max_frames=budget.max_frames,
            val_fraction=_VAL_FRACTION if domain is TARGET else 0.0,
        )
        shutil.rmtree(files)
    return PreparedDataset(out)


def check_disjoint(concepts: Collection[str], source: str, target: PreparedDataset) -> None:
    """Refuse a source that knows what is held out of the target.

    Raises:
        ConfigError: a held-out concept of the target is among the source's `concepts`.
    """
    held_out = {clip.concept for clip in target.clips("val")}
    shared = sorted(held_out & set(concepts))
    if shared:
        raise ConfigError(
            f"{source} has {len(shared)} of the {len(held_out)} concepts that are held out of "
            f"target {target.path} ({shared[0]!r} is one): pre-training would have seen them; "
            "name a --source without them"
        )
