"""Target and source domain; batches of one length; held-out clips as every method gets them."""

from __future__ import annotations

import shutil
from collections.abc import Callable, Collection, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from itertools import islice
from pathlib import Path

import numpy as np
import torch
from torch import Tensor

from rdtf.data.animated import write_sticker_files
from rdtf.data.dataset import PreparedDataset
from rdtf.data.prepare import prepare
from rdtf.data.sources import SPLITS, Split
from rdtf.errors import ConfigError, DataError
from rdtf.evaluation.evaluate import spread, spread_frames
from rdtf.evaluation.tasks import evaluation_tasks
from rdtf.method.objective import Objective
from rdtf.method.tasks import TaskDraw
from rdtf.models.conditions import Conditions
from rdtf.research.comparison.methods import Budget
from rdtf.stickers import Sticker
from rdtf.synthetic.characters import Attributes, SyntheticStickers
from rdtf.synthetic.characters.animal import BIRDS
from rdtf.synthetic.characters.creatures import CREATURES, MAMMALS
from rdtf.synthetic.characters.things import NATURE, OBJECTS
from rdtf.training.batches import BatchBuilder, ClipStore, PackedBatch, Sample, pack, pad_text
from rdtf.training.config import TrainConfig
from rdtf.training.loader import PreparedStore


class EqualLengthBatches(BatchBuilder):
    """Each step's clips are neighbours in length, cut to the shortest of them.

    (Clips longer than a batch's length are cut as those longer than `max_frames` are: to a stretch
    of neighbours, or evenly spread.)
    """

    def __init__(self, store: ClipStore, config: TrainConfig, objective: Objective) -> None:
        super().__init__(store, config, objective)
        self._of_length: dict[int, BatchBuilder] = {}

    def step_batches(
        self, step: int, task_weights: Mapping[str, float], rank: int = 0, world_size: int = 1
    ) -> list[PackedBatch]:
        """One batch; there are no other ranks."""
        positions = self.positions(step)
        clips = [self.order[position] for position in positions]
        length = min(int(self.store.num_frames[clip]) for clip in clips)
        builder = self._builder(min(length, self.config.max_frames))
        samples = [builder.sample(position, task_weights) for position in positions]
        return [pack(samples, self.store.text_widths)]

    def _builder(self, length: int) -> BatchBuilder:
        if length not in self._of_length:
            config = replace(self.config, max_frames=max(length, 2))
            self._of_length[length] = BatchBuilder(self.store, config, self.objective)
        return self._of_length[length]


class PaddedBatches(BatchBuilder):
    """As without the dual mask: one task, and every clip padded to `max_frames` frames.

    The first frame and the text are given. A shorter clip repeats its last frame, and the
    repetitions count as frames: the network can't tell them, and the loss has no mask.
    """

    def step_batches(
        self, step: int, task_weights: Mapping[str, float], rank: int = 0, world_size: int = 1
    ) -> list[PackedBatch]:
        """One batch; there are no other ranks."""
        samples = [
            self._padded(self.sample(position, {"it2v": 1.0})) for position in self.positions(step)
        ]
        return [pack(samples, self.store.text_widths)]

    def _padded(self, sample: Sample) -> Sample:
        frames = torch.arange(self.config.max_frames).clamp(max=sample.num_frames - 1)
        given = np.zeros(self.config.max_frames, dtype=bool)
        given[0] = bool(sample.draw.given.any())  # at times dropped, for guidance
        return replace(
            sample,
            stored={name: values[frames] for name, values in sample.stored.items()},
            draw=TaskDraw(sample.draw.task, given, sample.draw.use_text),
        )


_VAL_FRACTION = 0.15
Say = Callable[[str], None]


@dataclass(frozen=True)
class _Domain:
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


SOURCE = _Domain(
    "source", frozenset({*MAMMALS, *BIRDS, *CREATURES}), frozenset({"flat", "soft"}), seed=1000
)
TARGET = _Domain("target", frozenset({*NATURE, *OBJECTS}), frozenset({"outline"}), seed=0)


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
        _check_disjoint(SOURCE.concepts(budget.source_count, budget), "the default source", wanted)
    else:
        concepts = {clip.concept for clip in named_source.clips("train")}
        _check_disjoint(concepts, f"source {named_source.path}", wanted)
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


def _text(dataset: PreparedDataset, domain: _Domain | None) -> str:
    train, val = (sum(clip.num_frames > 1 for clip in dataset.clips(split)) for split in SPLITS)
    counts = f"{train} clips to train on" + (f", {val} held out" if val else "")
    if domain is None:
        return f"training set {dataset.path.name}, {counts}"
    return (
        f"synthetic stickers, {len(domain.kinds)} kinds ({', '.join(sorted(domain.kinds))}), "
        f"style {' and '.join(sorted(domain.styles))}, {counts}"
    )


def _synthetic(
    folder: Path, domain: _Domain, count: int, budget: Budget, say: Say
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


def _check_disjoint(concepts: Collection[str], source: str, target: PreparedDataset) -> None:
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


# The paper's: its Table 1 and 3 (image and text), and the two halves of its Table 2.
TASKS = ("it2v", "interpolation", "post_frame_prediction")
_MIN_FRAMES = 4  # below that some task has next to nothing to do


@dataclass(frozen=True)
class HeldOutClip:
    """A true clip at the budget's canvas and length.

    latents: `[C, F, h, w]`; text: token states `[T, D]` per encoder, empty without a caption.
    """

    name: str
    truth: Sticker
    latents: Tensor
    text: list[Tensor]

    @property
    def num_frames(self) -> int:
        return self.truth.num_frames

    def known(self, task: str) -> tuple[int, ...]:
        """Indices of the frames that are given in a task."""
        return evaluation_tasks(self.num_frames)[task]


def read_clips(store: PreparedStore, budget: Budget, limit: int) -> list[HeldOutClip]:
    """At most `limit` clips of a split with 4 frames or more, spread evenly over it.

    Raises:
        DataError: fewer than two of them: nothing could be said about a set.
    """
    rows = [row for row, count in enumerate(store.num_frames) if count >= _MIN_FRAMES]
    if len(rows) < 2:
        raise DataError(
            f"training set {store.dataset.path} has {len(rows)} clips of {_MIN_FRAMES} frames or "
            f"more in its {store.clips[0].split} split; at least 2 are needed to compare"
        )
    return [_read(store, row, budget) for row in spread(rows, limit)]


def _read(store: PreparedStore, row: int, budget: Budget) -> HeldOutClip:
    clip = store.clips[row]
    truth = store.dataset.read_sticker(clip.index)
    truth = spread_frames(truth, budget.max_frames).fit_canvas(budget.canvas)
    pixels = torch.from_numpy(truth.premultiplied()).permute(0, 3, 1, 2) * 2 - 1
    latents = store.representation.encode(pixels)[0].transpose(0, 1).contiguous()
    return HeldOutClip(clip.id, truth, latents, [s.float() for s in store.text(row, 0.0)])


def batches_of(
    clips: Sequence[HeldOutClip], task: str, size: int
) -> Iterator[tuple[list[int], list[HeldOutClip]]]:
    """Clips of equal length together, at most `size`: (their indices, they)."""
    by_length: dict[int, list[int]] = {}
    for index, clip in enumerate(clips):
        by_length.setdefault(clip.num_frames, []).append(index)
    for _, indices in sorted(by_length.items()):
        for start in range(0, len(indices), size):
            chosen = indices[start : start + size]
            yield chosen, [clips[index] for index in chosen]


def conditions(
    clips: Sequence[HeldOutClip],
    task: str,
    text_widths: Sequence[int],
    device: torch.device,
    pad_to: int | None = None,
) -> Conditions:
    """What a network is told about clips of one length; hidden frames are zero.

    pad_to: so many frames instead; the added ones are to be made as well.
    """
    frames = clips[0].num_frames
    slots = max(frames, pad_to or 0)
    clean = torch.stack([clip.latents for clip in clips])
    clean = torch.nn.functional.pad(clean, (0, 0, 0, 0, 0, slots - frames))
    given = torch.zeros(len(clips), slots, dtype=torch.bool)
    given[:, list(clips[0].known(task))] = True
    text, mask = pad_text([clip.text for clip in clips], text_widths)
    durations = [float(clip.truth.durations_ms.mean()) for clip in clips]
    return Conditions(
        clean=torch.where(given[:, None, :, None, None], clean, 0.0).to(device),
        given=given.to(device),
        valid=torch.ones_like(given, device=device),
        mean_duration_ms=torch.tensor(durations, device=device),
        text=[states.to(device) for states in text],
        text_mask=[row.to(device) for row in mask],
    )


def read_training_stickers(store: PreparedStore, budget: Budget) -> list[Sticker]:
    """At most `reference_clips` true training clips, as long as those that are scored."""
    clips = [clip for clip in store.clips if clip.num_frames >= _MIN_FRAMES]
    if len(clips) < 2:
        raise DataError(
            f"training set {store.dataset.path} has {len(clips)} clips of {_MIN_FRAMES} frames or "
            "more to train on; at least 2 are needed to compare"
        )
    read = store.dataset.read_sticker
    chosen = clips[:: max(len(clips) // budget.reference_clips, 1)][: budget.reference_clips]
    stickers = [spread_frames(read(clip.index), budget.max_frames) for clip in chosen]
    return [sticker.fit_canvas(budget.canvas) for sticker in stickers]
