"""Run a model and the baselines over clips and tasks."""

from __future__ import annotations

import hashlib
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from typing import Any, Protocol

import torch

from rdtf.errors import ConfigError, DataError
from rdtf.evaluation.baselines import BASELINES
from rdtf.evaluation.examples import Example
from rdtf.evaluation.metrics import motion_magnitude, on_white, score_hidden
from rdtf.evaluation.optical_flow import optical_flow_rows
from rdtf.evaluation.records import MODEL, Record
from rdtf.evaluation.results import Evaluation
from rdtf.evaluation.tasks import EVALUATION_TASKS, evaluation_tasks, hidden_frames
from rdtf.evaluation.untrained import UNTRAINED
from rdtf.stickers import Sticker

Progress = Callable[[int, int, str], None]
_Fill = Callable[[Sticker, Sequence[int], str], Sticker]


class Filler(Protocol):
    """All that an evaluation asks of a model: fill the frames of a clip that are not known.

    `known` frames must come back unchanged. If it has a `canvas` (pixels), clips are fitted to it.
    """

    def fill(
        self,
        sticker: Sticker,
        *,
        known: Sequence[int],
        prompt: str | None = ...,
        generator: torch.Generator | None = ...,
        num_inference_steps: int = ...,
        guidance_scale: float = ...,
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
) -> Evaluation:
    """Score `pipe` and the baselines on held-out clips.

    A method sees the known frames only: the hidden ones are blanked before it is asked. Noise
    depends on (seed, clip, task) and on nothing else, so that scores do not change with the order
    or the number of the clips.

    Args:
        pipe: the model.
        stickers: whole true clips, no longer than the model allows. A clip is named by
            `metadata["id"]`, or else by its content; its first caption is the prompt.
        tasks: names from `EVALUATION_TASKS`; a clip too short for a task skips it.
        num_inference_steps, guidance_scale: passed on; None leaves the model's own default.
        seed: of the noise.
        progress: called as `progress(done, total, what)` before each clip and task, and at the end.
        limit: at most so many clips, spread evenly over `stickers`.
        num_examples: so many clips per task are kept, with all results, in `.examples`.
        untrained: the same model before training (`rdtf.evaluation.untrained`), for a row of its
            own: same clips, same noise, same options.

    Raises:
        ConfigError: unknown task, or a model that returns another size or number of frames.
        DataError: no clip fits any task.
    """
    tasks = tuple(dict.fromkeys(tasks))
    clips = _fitted(pipe, spread(stickers, limit))
    jobs = list(_jobs(clips, tasks))
    if not jobs:
        raise DataError(
            f"none of the {len(clips)} clips has frames to hide; give clips of 2 or more"
        )
    options = _given(num_inference_steps=num_inference_steps, guidance_scale=guidance_scale)
    models = {MODEL: pipe} | ({} if untrained is None else {UNTRAINED: untrained})
    methods = _methods(models, options, seed)

    records: list[Record] = []
    examples: dict[str, list[Example]] = {task: [] for task in tasks}
    for done, (truth, task, known) in enumerate(jobs):
        if progress:
            progress(done, len(jobs), task)
        made = {name: _run(name, fill, truth, task, known) for name, fill in methods.items()}
        records += [record for record, _ in made.values()]
        if len(examples[task]) < num_examples:
            examples[task].append(_example(truth, task, known, made))
    if progress:
        progress(len(jobs), len(jobs), "done")

    kept = [example for members in examples.values() for example in members]
    settings = {"tasks": list(tasks), "seed": seed, "num_clips": len(clips), **options}
    return Evaluation(records, settings, tuple(kept))


# ------------------------------------------------------------------------ running


def _fitted(pipe: Filler, stickers: Sequence[Sticker]) -> list[Sticker]:
    canvas = getattr(pipe, "canvas", None)
    return [sticker.fit_canvas(canvas) if canvas else sticker for sticker in stickers]


def spread(stickers: Sequence[Sticker], limit: int | None) -> list[Sticker]:
    """`limit` of the stickers, spread evenly: sets are often sorted, and the first ones alike."""
    if limit is None or limit >= len(stickers):
        return list(stickers)
    if limit < 1:
        raise ConfigError(f"limit is {limit}; evaluate at least 1 clip")
    return [stickers[index * len(stickers) // limit] for index in range(limit)]


def _jobs(
    clips: Sequence[Sticker], tasks: Sequence[str]
) -> Iterator[tuple[Sticker, str, tuple[int, ...]]]:
    unknown = sorted(set(tasks) - set(EVALUATION_TASKS))
    if unknown:
        choices = ", ".join(EVALUATION_TASKS)
        raise ConfigError(f"evaluation task {unknown[0]!r} is unknown; choose from {choices}")
    for clip in clips:
        possible = evaluation_tasks(clip.num_frames)
        yield from ((clip, task, possible[task]) for task in tasks if task in possible)


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

    rows = {**BASELINES, **optical_flow_rows()}
    own = {name: model(pipe) for name, pipe in models.items()}
    return {**own, **{name: baseline(fill) for name, fill in rows.items()}}


def _run(
    method: str, fill: _Fill, truth: Sticker, task: str, known: tuple[int, ...]
) -> tuple[Record, Sticker]:
    clip = clip_id(truth)
    question = _blanked(truth, known)
    start = time.perf_counter()
    result = fill(question, known, f"{clip}/{task}")
    seconds = time.perf_counter() - start
    scores = score_hidden(truth, result, known)
    moved = motion_magnitude(on_white(truth))
    return Record(clip, task, method, truth.num_frames, known, seconds, moved, scores), result


def _blanked(truth: Sticker, known: Sequence[int]) -> Sticker:
    """`truth` with its hidden frames fully transparent: what nobody sees can't leak."""
    frames = truth.frames.copy()
    frames[hidden_frames(truth.num_frames, known)] = 0
    return truth.replace(frames=frames)


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


def _given(**options: Any) -> dict[str, Any]:
    return {name: value for name, value in options.items() if value is not None}
