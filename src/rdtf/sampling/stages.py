"""What has to be done for one sticker, in order: draw a still, move it, fill in between."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass

import numpy as np

from rdtf.sampling.defaults import family_of
from rdtf.sampling.moving import MotionWindow, plan_motion
from rdtf.sampling.windows import Window, plan_windows


@dataclass(frozen=True)
class Stage:
    """One act.

    family: whose steps and guidance it takes: "drawing" or a family of tasks;
    window: None = draw the first frame; else what is moved or filled.
    """

    family: str
    window: MotionWindow | Window | None


def plan_stages(
    known: np.ndarray,
    *,
    longest: int,
    longest_motion: int | None,
    loop: bool,
) -> Iterator[Stage]:
    """The stages until every frame is there.

    Args:
        known: given frames, bool `[F]`.
        longest: most frames of a window of the denoiser.
        longest_motion: most frames of a window of the motion network; None = there is none, and the
            denoiser makes every frame.
        loop: the clip is a circle.
    """
    done = known.copy()
    if longest_motion is None:
        family = family_of(known)
        for window in plan_windows(done.tolist(), longest, loop):
            yield Stage(family, window)
        return
    if not done.any():
        yield Stage("drawing", None)
        done[0] = True
    family = "generation" if done.sum() == 1 else "prediction"
    for move in plan_motion(done.tolist(), longest_motion, loop):
        yield Stage(family, move)
        done[[slot % len(done) for slot in move.make]] = True
    for window in plan_windows(done.tolist(), longest, loop):
        yield Stage("interpolation", window)
