"""Two domains that share no kind and no style: where the U-Nets come from, and what is wanted.

The target are synthetic stickers of plants, heavenly bodies and things with outlines. The source,
which the larger U-Nets are pre-trained on, are animals and creatures without outlines. They share
motions, faces and colours: they are much closer to each other than photographs are to stickers,
which favours tuning.
"""

from __future__ import annotations

import shutil
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path

from rdtf.comparison.settings import Budget
from rdtf.data.dataset import PreparedDataset
from rdtf.data.export import write_sticker_files
from rdtf.data.prepare import prepare
from rdtf.data.splits import Split
from rdtf.data.synthetic import Attributes, SyntheticStickers
from rdtf.data.synthetic.birds import BIRDS
from rdtf.data.synthetic.creatures import CREATURES
from rdtf.data.synthetic.mammals import MAMMALS
from rdtf.data.synthetic.nature import NATURE
from rdtf.data.synthetic.objects import OBJECTS
from rdtf.errors import ConfigError, DataError
from rdtf.stickers import Sticker

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
        drawn = SyntheticStickers(self.seed, canvas=budget.canvas, max_frames=budget.max_frames)
        index = found = 0
        while found < count:
            if drawn.describe(index) in self:
                sticker = drawn[index]
                yield sticker.replace(captions=sticker.captions[: budget.captions])
                found += 1
            index += 1


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
    named = {name: PreparedDataset(path) for name, path in (("source", source), ("target", target))
             if path is not None}  # fmt: skip
    for name, dataset in named.items():
        if dataset.canvas < budget.canvas:
            raise DataError(
                f"{name} {dataset.path} was prepared at {dataset.canvas} pixels, this budget needs "
                f"{budget.canvas}; prepare it again or --set canvas={dataset.canvas}"
            )
    sets, texts = {}, {}
    for domain, count in ((TARGET, budget.target_count), (SOURCE, budget.source_count)):
        if domain.name in named:
            dataset = sets[domain.name] = named[domain.name]
            texts[domain.name] = f"training set {dataset.path.name}, {_counts(dataset)}"
            continue
        dataset = sets[domain.name] = _synthetic(folder, domain, count, budget, say)
        texts[domain.name] = (
            f"synthetic stickers, {len(domain.kinds)} kinds ({', '.join(sorted(domain.kinds))}), "
            f"style {' and '.join(sorted(domain.styles))}, {_counts(dataset)}"
        )
    check_disjoint(sets["source"], sets["target"])
    return Domains(sets["source"], sets["target"], texts["source"], texts["target"])


def _counts(dataset: PreparedDataset) -> str:
    train, val = (
        sum(clip.num_frames > 1 for clip in dataset.clips(split)) for split in ("train", "val")
    )
    return f"{train} clips to train on" + (f", {val} held out" if val else "")


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


def check_disjoint(source: PreparedDataset, target: PreparedDataset) -> None:
    """Refuse a source that knows what is held out of the target, and sets without what is needed.

    Raises:
        ConfigError: a held-out concept of the target is among the source's training clips.
        DataError: no animated clip to train on in one of them, or none held out of the target.
    """
    needed: list[tuple[PreparedDataset, Split]] = [
        (source, "train"), (target, "train"), (target, "val")
    ]  # fmt: skip
    for dataset, split in needed:
        if not any(clip.num_frames > 1 for clip in dataset.clips(split)):
            raise DataError(
                f"training set {dataset.path} has no animated clips in its {split} split; "
                "prepare one that has"
            )
    held_out = {clip.concept for clip in target.clips("val")}
    shared = sorted(held_out & {clip.concept for clip in source.clips("train")})
    if shared:
        raise ConfigError(
            f"source {source.path} has {len(shared)} of the {len(held_out)} concepts that are held "
            f"out of target {target.path} ({shared[0]!r} is one): pre-training would have seen "
            "them; name a source without them, or none"
        )
