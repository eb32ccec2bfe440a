"""Any length: a long clip is filled window by window, each given what is already there."""

from __future__ import annotations

from collections.abc import Iterator, Sequence


def plan_windows(known: Sequence[bool], window: int) -> Iterator[tuple[int, int]]:
    """Yield `(start, stop)` of the windows to fill, in order, until every frame is there.

    Each window is the one that adds most new frames while at least half of it (or all that there
    is) is given; before anything is known, the first window starts the clip.
    """
    done = list(known)
    window = min(window, len(done))
    while not all(done):
        starts = range(len(done) - window + 1)
        start = max(starts, key=lambda s: _usefulness(done[s : s + window], s))
        yield start, start + window
        done[start : start + window] = [True] * window


def _usefulness(done: list[bool], start: int) -> tuple[bool, int, int, int]:
    given, missing = sum(done), len(done) - sum(done)
    if missing == 0:
        return (False, -1, -1, -start)
    enough = given >= len(done) // 2
    return (enough, missing if enough else given, given, -start)
