"""Run a model and the baselines over clips and tasks."""

from __future__ import annotations

import copy
import hashlib
import time
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any, Protocol, TypeVar

import numpy as np
import torch

from rdtf.data.dataset import PreparedDataset
from rdtf.data.sources import Split
from rdtf.errors import ConfigError, DataError
from rdtf.evaluation.baselines import (
    BASELINES,
    WAY_BACK,
    is_continued,
    optical_flow_rows,
    way_back,
)
from rdtf.evaluation.metrics import Distance, motion_magnitude, on_white, score_hidden
from rdtf.evaluation.perceptual import frechet_distance
from rdtf.evaluation.results import MODEL, Evaluation, Example, Nearness, Record
from rdtf.evaluation.sets import (
    FeatureScale,
    clip_features,
    clip_maps,
    clip_shares,
    nearest_distances,
    pair_terms,
)
from rdtf.evaluation.tasks import (
    CLOSE_TASKS,
    EVALUATION_TASKS,
    evaluation_tasks,
    hidden_frames,
)
from rdtf.randomness import Purpose, stream
from rdtf.stickers import Sticker

UNTRAINED = "untrained"
_T = TypeVar("_T")


def untrained_copy(pipeline: Any, seed: int = 0) -> Any:
    """A pipeline with the same parts, but fresh weights in its networks.

    Each is built anew from the config of the given one, on the same device and in the same dtype.
    Autoencoder, text encoders and scheduler are shared.

    Args:
        pipeline: a `StickerPipeline` over a denoiser that is built from a config.
        seed: settles the weights, on every device alike; torch's own generator is left as it is.
    """
    made = copy.copy(pipeline)
    for name in ("denoiser", "motion", "predictor", "recurrence", "drawer"):
        old = getattr(pipeline, name, None)
        if old is not None:
            setattr(made, name, _fresh(old, seed))
    return made


def _fresh(old: Any, seed: int) -> Any:
    """A network of the same config, device and dtype, as training begins with it."""
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(int(stream(seed, Purpose.INIT).integers(2**31)))
        fresh = type(old).from_config(old.config)
    if fresh.dtype != old.dtype:  # diffusers warns of any cast
        fresh = fresh.to(old.dtype)
    return fresh.to(old.device).eval()


def held_out_stickers(
    data: Path | str, pipeline: Any, split: Split = "val", *, close: bool = False
) -> list[Sticker]:
    """The animated clips of a split as the model sees them: its canvas, its length.

    Clips longer than the model's window are spread to it evenly, as half of them are in training.

    Args:
        close: only those, cut to the frames in their middle: small steps instead of large ones.

    Raises:
        DataError: the split has no animated clip.
    """
    return list(each_sticker(data, pipeline, split, close=close))


def each_sticker(
    data: Path | str, pipeline: Any, split: Split, *, close: bool = False
) -> Iterator[Sticker]:
    """The same one by one, for a split that need not fit into memory."""
    dataset, window = PreparedDataset(data), pipeline.max_frames
    clips = [clip for clip in dataset.clips(split) if clip.num_frames > 1]
    if not clips:
        raise DataError(f"training set {data} has no animated clips in its {split} split")
    if close:
        clips = [clip for clip in clips if clip.num_frames > window]
    shorten = _middle_frames if close else spread_frames
    stickers = (dataset.read_sticker(clip.index) for clip in clips)
    return (shorten(sticker, window).fit_canvas(pipeline.canvas) for sticker in stickers)


def _middle_frames(sticker: Sticker, max_frames: int) -> Sticker:
    """At most `max_frames` frames that follow each other, from the middle."""
    count = min(max_frames, sticker.num_frames)
    start = (sticker.num_frames - count) // 2
    return sticker.select(range(start, start + count))


def spread_frames(sticker: Sticker, max_frames: int) -> Sticker:
    """At most `max_frames` frames, evenly spread; those left out lend their time to the others."""
    if sticker.num_frames <= max_frames:
        return sticker
    frames = np.linspace(0, sticker.num_frames - 1, max_frames).round().astype(int)
    ends = np.append(frames[1:], sticker.num_frames)
    durations = [sticker.durations_ms[a:b].sum() for a, b in zip(frames, ends, strict=True)]
    return sticker.select(frames).with_durations(np.array(durations))


def score_model(
    pipeline: Any,
    stickers: list[Sticker],
    *,
    close: Sequence[Sticker] = (),
    untrained: bool = True,
    **options: Any,
) -> Evaluation:
    """`evaluate` without the progress bars of diffusers, beside the same model `untrained`.

    Args:
        close: clips of neighbouring frames for `CLOSE_TASKS`, see `held_out_stickers`.
    """
    pipeline.set_progress_bar_config(disable=True)
    fresh = untrained_copy(pipeline) if untrained else None
    found = evaluate(pipeline, stickers, untrained=fresh, **options)
    if not close:
        return found
    options["tasks"] = tuple(CLOSE_TASKS)
    more = evaluate(pipeline, close, untrained=fresh, **options)
    tasks = [*found.settings["tasks"], *more.settings["tasks"]]
    return replace(
        found,
        records=[*found.records, *more.records],
        examples=(*found.examples, *more.examples),
        settings={**found.settings, "tasks": tasks},
    )


Progress = Callable[[int, int, str], None]
Features = Callable[[Sticker], np.ndarray]
_Fill = Callable[[Sticker, Sequence[int], str], Sticker]


class Filler(Protocol):
    """All that an evaluation asks of a model: fill the frames of a clip that are not known.

    `known` frames must come back unchanged. If it has a `canvas` (pixels), clips are fitted to it.
    """

    def fill(
        self, sticker: Sticker, *, known: Sequence[int], prompt: str | None, generator: Any
    ) -> Sticker: ...


def evaluate(
    pipe: Filler,
    stickers: Sequence[Sticker],
    *,
    tasks: Sequence[str] = EVALUATION_TASKS,
    num_inference_steps: int | None = None,
    guidance_scale: float | None = None,
    seed: int = 0,
    progress: Progress | None = None,
    limit: int | None = None,
    num_examples: int = 0,
    untrained: Filler | None = None,
    lpips: Distance | None = None,
    features: Features | None = None,
) -> Evaluation:
    """Score `pipe` and the baselines on held-out clips.

    A method sees the known frames only: the hidden ones are blanked before it is asked. Noise
    depends on (seed, clip, task) and on nothing else, so that scores do not change with the order
    or the number of the clips.

    Args:
        pipe: the model.
        stickers: whole true clips, no longer than the model allows. A clip is named by
            `metadata["id"]`, or else by its content; its first caption is the prompt.
        tasks: names from `EVALUATION_TASKS` or `CLOSE_TASKS`; a clip too short for a task skips
            it.
        num_inference_steps, guidance_scale: passed on; None leaves the model's own default.
        seed: of the noise.
        progress: called as `progress(done, total, what)` before each clip and task, and at the end.
        limit: at most so many clips, spread evenly over `stickers`.
        num_examples: so many clips per task are kept, with all results, in `.examples`.
        untrained: the same model before training (`rdtf.evaluation.evaluate`), for a row of its
            own: same clips, same noise, same options.
        lpips: adds LPIPS; features: of a clip for FVD, adds KVD and FVD
            (`rdtf.evaluation.perceptual`).

    Raises:
        ConfigError: unknown task, or a model that returns another size or number of frames.
        DataError: no clip fits any task.
    """
    tasks = tuple(dict.fromkeys(tasks))
    canvas, clips = getattr(pipe, "canvas", None), spread(stickers, limit)
    clips = [clip.fit_canvas(canvas) for clip in clips] if canvas else clips
    jobs = list(_jobs(clips, tasks))
    if not jobs:
        raise DataError(
            f"none of the {len(clips)} clips has frames to hide; give clips of 2 or more"
        )
    options = {"num_inference_steps": num_inference_steps, "guidance_scale": guidance_scale}
    options = {name: value for name, value in options.items() if value is not None}
    models = {MODEL: pipe} | ({} if untrained is None else {UNTRAINED: untrained})
    methods = _methods(models, options, seed)

    records: list[Record] = []
    seen: list[tuple[Record, np.ndarray, np.ndarray]] = []
    examples: dict[str, list[Example]] = {task: [] for task in tasks}
    for done, (truth, task, known) in enumerate(jobs):
        if progress:
            progress(done, len(jobs), task)
        made = {
            name: _run(name, fill, truth, task, known, lpips)
            for name, fill in methods.items()
            if name != WAY_BACK or is_continued(known)
        }
        records += [record for record, _ in made.values()]
        if features is not None:
            true_features = features(truth)
            seen += [(record, features(result), true_features) for record, result in made.values()]
        if len(examples[task]) < num_examples:
            examples[task].append(_example(truth, task, known, made))
    if progress:
        progress(len(jobs), len(jobs), "done")
    if seen:
        records = _with_set_scores(seen)

    kept = [example for members in examples.values() for example in members]
    settings = {"tasks": list(tasks), "seed": seed, "num_clips": len(clips), **options}
    return Evaluation(records, settings, tuple(kept))


# ------------------------------------------------------------------------ running


def spread(stickers: Sequence[_T], limit: int | None) -> list[_T]:
    """`limit` of the stickers, spread evenly: sets are often sorted, and the first ones alike."""
    if limit is None or limit >= len(stickers):
        return list(stickers)
    if limit < 1:
        raise ConfigError(f"limit is {limit}; evaluate at least 1 clip")
    return [stickers[index * len(stickers) // limit] for index in range(limit)]


def _jobs(
    clips: Sequence[Sticker], tasks: Sequence[str]
) -> Iterator[tuple[Sticker, str, tuple[int, ...]]]:
    unknown = sorted(set(tasks) - {*EVALUATION_TASKS, *CLOSE_TASKS})
    if unknown:
        choices = ", ".join((*EVALUATION_TASKS, *CLOSE_TASKS))
        raise ConfigError(f"evaluation task {unknown[0]!r} is unknown; choose from {choices}")
    for clip in clips:
        possible = evaluation_tasks(clip.num_frames)
        for task in tasks:
            pattern = CLOSE_TASKS.get(task, task)
            if pattern in possible:
                yield clip, task, possible[pattern]


def _methods(
    models: Mapping[str, Filler], options: Mapping[str, Any], seed: int
) -> dict[str, _Fill]:
    """Name → function of (clip with blanked frames, known, task); models come first."""

    def model(pipe: Filler) -> _Fill:
        def fill(clip: Sticker, known: Sequence[int], noise_key: str) -> Sticker:
            prompt = clip.captions[0] if clip.captions else None
            generator = torch.Generator().manual_seed(noise_seed(seed, noise_key))
            return pipe.fill(clip, known=known, prompt=prompt, generator=generator, **options)

        return fill

    def baseline(fill: Callable[[Sticker, Sequence[int]], Sticker]) -> _Fill:
        return lambda clip, known, noise_key: fill(clip, known)

    rows = {**BASELINES, WAY_BACK: way_back, **optical_flow_rows()}
    own = {name: model(pipe) for name, pipe in models.items()}
    return {**own, **{name: baseline(fill) for name, fill in rows.items()}}


def _run(
    method: str,
    fill: _Fill,
    truth: Sticker,
    task: str,
    known: tuple[int, ...],
    lpips: Distance | None,
) -> tuple[Record, Sticker]:
    clip = clip_id(truth)
    hidden = hidden_frames(truth.num_frames, known)
    frames = truth.frames.copy()
    frames[hidden] = 0  # fully transparent: what nobody sees can't leak
    visible = truth.replace(frames=frames)
    start = time.perf_counter()
    result = fill(visible, known, f"{clip}/{task}")
    seconds = time.perf_counter() - start
    scores = score_hidden(truth, result, known, lpips)
    moved = motion_magnitude(on_white(truth))
    return Record(clip, task, method, truth.num_frames, known, seconds, moved, scores), result


def _with_set_scores(seen: Sequence[tuple[Record, np.ndarray, np.ndarray]]) -> list[Record]:
    """The records with KVD, to which each clip has its share, and FVD, the same for all of them."""
    groups: dict[tuple[str, str], list[tuple[Record, np.ndarray, np.ndarray]]] = {}
    for one in seen:
        groups.setdefault((one[0].task, one[0].method), []).append(one)
    records = []
    for members in groups.values():
        made, truth = np.stack([one[1] for one in members]), np.stack([one[2] for one in members])
        shares = clip_shares(pair_terms(made, truth)) if len(members) > 1 else [float("nan")]
        fvd = frechet_distance(made, truth)
        for (record, *_), share in zip(members, shares, strict=True):
            scores = {**record.scores, "kvd": float(share), "fvd": fvd}
            records.append(replace(record, scores=scores))
    return records


def _example(
    truth: Sticker, task: str, known: tuple[int, ...], made: Mapping[str, tuple[Record, Sticker]]
) -> Example:
    results = {name: result for name, (_, result) in made.items()}
    scores = {name: record.scores for name, (record, _) in made.items()}
    prompt = truth.captions[0] if truth.captions else None
    return Example(task, prompt, truth, known, results, scores)


def clip_id(sticker: Sticker) -> str:
    """`metadata["id"]` if there is one, else a hash of the frames: the same in any set."""
    if "id" in sticker.metadata:
        return str(sticker.metadata["id"])
    content = hashlib.sha256(repr(sticker.frames.shape).encode())
    content.update(sticker.frames.tobytes() + sticker.durations_ms.tobytes())
    return content.hexdigest()[:16]


def noise_seed(seed: int, key: str) -> int:
    """A seed for torch in [0, 2^63) from the run's `seed` and the name of clip and task."""
    digest = hashlib.sha256(f"{seed}/{key}".encode()).digest()
    return int.from_bytes(digest[:8], "little") >> 1


# -------------------------------------------------------------------------- memorisation


def nearest_training_clips(
    generated: Sequence[Sticker],
    truth: Sequence[Sticker],
    training: Iterable[Sticker],
    known: Sequence[int] = (),
) -> list[Nearness]:
    """One `Nearness` for each generated clip.

    Args:
        generated: clips of any canvas and length.
        truth: the held-out clip that each of them was made for.
        training: two or more clips; read once, one by one.
        known: frames that the model was given; they do not count.

    Raises:
        ConfigError: unequal numbers, or fewer than two training clips.
    """
    if len(generated) != len(truth):
        raise ConfigError(f"{len(generated)} generated clips for {len(truth)} true ones")

    def features(clips: Iterable[Sticker]) -> np.ndarray:
        return np.array([clip_features(clip_maps(clip), known) for clip in clips])

    reference = features(clip for clip in training if clip.num_frames > len(known))
    scale = FeatureScale.of(reference)
    scaled = scale(reference)
    distances = [nearest_distances(scale(features(clips)), scaled) for clips in (generated, truth)]
    return [
        Nearness(clip_id(clip), clip.captions[0] if clip.captions else "", *map(float, pair))
        for clip, *pair in zip(truth, *distances, strict=True)
    ]


def text_memorisation(
    pipeline: Any,
    stickers: Sequence[Sticker],
    training: Iterable[Sticker],
    *,
    limit: int,
    num_inference_steps: int | None = None,
    seed: int = 0,
    progress: Progress | None = None,
) -> list[Nearness]:
    """Generate `limit` of the stickers again from their captions alone, and compare.

    A model that moves and does not draw is given their first frames too, which then don't count.
    Text guidance is the pipeline's own default, as in `rdtf generate`.

    Raises:
        DataError: no sticker has a caption.
    """
    named = [clip for clip in stickers if clip.captions and clip.captions[0].strip()]
    if not named:
        raise DataError("none of the held-out clips has a caption to generate it from")
    draws = getattr(pipeline, "draws", True)
    known = [] if draws else [0]
    chosen = spread([clip for clip in named if clip.num_frames > len(known)], limit)
    generated = []
    for done, clip in enumerate(chosen):
        if progress:
            progress(done, len(chosen), "text alone" if draws else "text and first frame")
        generated.append(
            pipeline(
                clip.captions[0],
                num_frames=clip.num_frames,
                duration_ms=max(1, round(clip.total_ms / clip.num_frames)),
                num_inference_steps=num_inference_steps,
                generator=torch.Generator().manual_seed(noise_seed(seed, f"{clip_id(clip)}/t2v")),
                **({} if draws else {"image": clip.select([0])}),
            )
        )
    if progress:
        progress(len(chosen), len(chosen), "done")
    return nearest_training_clips(generated, chosen, training, known)
