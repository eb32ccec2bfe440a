"""Whether each metric orders known corruptions correctly, on the clips that it is used on.

The true held-out clips are corrupted in their hidden frames, at two strengths or more where there
are strengths. A metric is valid for a corruption if truth scores better than the mild one and the
mild one better than the strong one.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from itertools import pairwise

import numpy as np
from scipy.ndimage import gaussian_filter

from rdtf.evaluation.tasks import hidden_frames
from rdtf.research.comparison.clips import TASKS, HeldOutClip
from rdtf.research.comparison.scoring import (
    COMPARED,
    MOTION_DISTANCE,
    SET_DISTANCE,
    TEXT,
    Judge,
    Scores,
)
from rdtf.stickers import Sticker

# (the clip's premultiplied frames, hidden indices, another clip's frames, a generator) → frames
_Change = Callable[[np.ndarray, list[int], np.ndarray, np.random.Generator], np.ndarray]


def _blur(sigma: float) -> _Change:
    return lambda frames, *_: gaussian_filter(frames, sigma, axes=(1, 2))


def _noise(sigma: float) -> _Change:
    def change(
        frames: np.ndarray, _: list[int], __: np.ndarray, draw: np.random.Generator
    ) -> np.ndarray:
        return np.clip(frames + sigma * draw.standard_normal(frames.shape, np.float32), 0, 1)

    return change


def _freeze(frames: np.ndarray, *_: object) -> np.ndarray:
    """Every frame is the first one."""
    return frames[:1].repeat(len(frames), axis=0)


def _shuffle(
    frames: np.ndarray, hidden: list[int], _: np.ndarray, draw: np.random.Generator
) -> np.ndarray:
    """The hidden frames in another order; a single one becomes the frame that differs most."""
    made = frames.copy()
    if len(hidden) < 2:
        far = np.abs(frames - frames[hidden[0]]).mean(axis=(1, 2, 3)).argmax()
        made[hidden] = frames[far]
        return made
    order = np.roll(draw.permutation(len(hidden)), 1)
    while (order == np.arange(len(hidden))).all():
        order = draw.permutation(len(hidden))
    made[hidden] = frames[np.array(hidden)[order]]
    return made


def _wrong_clip(frames: np.ndarray, _: list[int], other: np.ndarray, *__: object) -> np.ndarray:
    return other[np.linspace(0, len(other) - 1, len(frames)).round().astype(int)]


CORRUPTIONS: dict[str, tuple[_Change, ...]] = {
    "blur": (_blur(0.5), _blur(1.5)),
    "noise": (_noise(0.05), _noise(0.2)),
    "freeze": (_freeze,),
    "shuffle": (_shuffle,),
    "wrong clip": (_wrong_clip,),
}
# Distances of sets do not see which clip is which; the classifier tells what is shown only.
_ALL = tuple(CORRUPTIONS)
EXPECTED: dict[str, tuple[str, ...]] = {
    "psnr": _ALL,
    "ssim": _ALL,
    "line_distance": _ALL,
    SET_DISTANCE: ("blur", "noise", "freeze", "shuffle"),
    MOTION_DISTANCE: ("noise", "freeze", "shuffle"),
    TEXT: ("wrong clip",),
}


def corrupted(clips: Sequence[HeldOutClip], change: _Change) -> dict[tuple[str, int], Sticker]:
    """The true clips, changed where they are hidden."""
    made = {}
    for task in TASKS:
        for index, clip in enumerate(clips):
            draw = np.random.default_rng([index, TASKS.index(task)])
            truth, hidden = clip.truth, hidden_frames(clip.num_frames, clip.known(task))
            other = clips[(index + len(clips) // 2) % len(clips)].truth.premultiplied()
            changed = change(truth.premultiplied(), hidden, other, draw)
            frames = truth.frames.copy()
            frames[hidden] = Sticker.from_premultiplied(changed, truth.durations_ms).frames[hidden]
            made[task, index] = truth.replace(frames=frames)
    return made


def check_metrics(judge: Judge) -> dict[str, dict[str, dict[str, list[float]]]]:
    """Task → metric → corruption → means of truth, mild, strong; "captions": own, others'."""
    clips = judge.clips
    truth = judge(corrupted(clips, lambda frames, *_: frames))
    found: dict[str, dict[str, dict[str, list[float]]]] = {
        task: {metric: {} for metric in EXPECTED} for task in TASKS
    }
    for name, changes in CORRUPTIONS.items():
        scores = [truth, *(judge(corrupted(clips, change)) for change in changes)]
        for task, metrics in found.items():
            for metric in metrics:
                metrics[metric][name] = [_mean(one, task, metric) for one in scores]
    shift = len(clips) // 2
    others = [clips[(i + shift) % len(clips)].truth.captions for i in range(len(clips))]
    shuffled = judge(corrupted(clips, lambda frames, *_: frames), captions=others)
    for task, metrics in found.items():
        metrics[TEXT]["captions"] = [_mean(one, task, TEXT) for one in (truth, shuffled)]
    return found


def is_ordered(metric: str, means: Sequence[float]) -> bool:
    """Whether they get worse, strictly, from one to the next."""
    sign = 1 if COMPARED[metric].better == "higher" else -1
    return all(sign * (b - a) < 0 for a, b in pairwise(means))


def _mean(scores: Scores, task: str, metric: str) -> float:
    values = [value for value in scores[task][metric] if value is not None]
    return float(f"{np.mean(values):.4g}") if values else float("nan")
