"""The tasks that a model is scored on: fixed patterns of given frames, some for each family.

Training draws its patterns at random; scores need the same pattern for every model and every run.
Interpolation gives the last frame too, as `rdtf interpolate` does: a frame beyond the given ones is
predicted. With the last one open it is a task of its own, interpolation and prediction mixed.
"""

from __future__ import annotations

from collections.abc import Sequence

from rdtf.errors import ConfigError

TASK_LABELS = {
    "interpolation": "interpolation, every 2nd frame and the last given",
    "interpolation_3": "interpolation, every 3rd frame and the last given",
    "interpolation_open": "every 2nd frame given, the last one open",
    "post_frame_prediction": "prediction, first half given",
    "pre_frame_prediction": "prediction, last half given",
    "it2v": "image and text to clip, first frame given",
    "interpolation_close": "interpolation of neighbouring key frames, every 2nd given",
    "post_frame_prediction_close": "prediction of neighbouring key frames, first half given",
}
# The same patterns on frames that follow each other, where a clip is longer than the model's window
# and the others spread the window over all of it.
CLOSE_TASKS = {
    "interpolation_close": "interpolation",
    "post_frame_prediction_close": "post_frame_prediction",
}
EVALUATION_TASKS = tuple(task for task in TASK_LABELS if task not in CLOSE_TASKS)


def evaluation_tasks(num_frames: int) -> dict[str, tuple[int, ...]]:
    """Task → indices of the given frames, for a clip of `num_frames` frames.

    Tasks that would be degenerate at this length are left out: nothing hidden, or, for
    interpolation, only one frame given, which leaves nothing to be in between. A single image has
    no task.
    """
    frames = range(num_frames)
    given = {
        "interpolation": tuple(sorted({*frames[::2], *frames[-1:]})),
        "interpolation_3": tuple(sorted({*frames[::3], *frames[-1:]})),
        "interpolation_open": tuple(frames[::2]) if num_frames % 2 == 0 else (),
        "post_frame_prediction": tuple(frames[: (num_frames + 1) // 2]),
        "pre_frame_prediction": tuple(frames[num_frames // 2 :]),
        "it2v": tuple(frames[:1]),
    }
    fewest = {"interpolation": 2, "interpolation_3": 2, "interpolation_open": 2}
    return {
        task: known
        for task, known in given.items()
        if fewest.get(task, 1) <= len(known) < num_frames
    }


def hidden_frames(num_frames: int, known: Sequence[int]) -> list[int]:
    """Indices, ascending, of the frames that are not `known`.

    Raises `ConfigError` for an index outside the clip, a repeated one, or if nothing is hidden.
    """
    given = set(known)
    outside = sorted(index for index in given if not 0 <= index < num_frames)
    if outside:
        raise ConfigError(
            f"known frame {outside[0]} does not exist in a clip of {num_frames} frames; "
            f"use 0 to {num_frames - 1}"
        )
    if len(given) != len(known):
        raise ConfigError(f"known frames {list(known)} name a frame twice; name each once")
    hidden = [index for index in range(num_frames) if index not in given]
    if not hidden:
        raise ConfigError(f"all {num_frames} frames are known; leave at least one to generate")
    return hidden
