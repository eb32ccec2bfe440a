"""What every export promises, held against random clips, platforms and edits.

A case is a number: the same number is the same clip, platform and options for ever. As a program
it works through a range of cases, says how they ended, and where to go on if it is stopped:

    cd tests && python -m export.promises --first 0 --count 2000
"""

from __future__ import annotations

import argparse
import sys
import time
from collections import Counter
from collections.abc import Iterable
from dataclasses import dataclass, replace
from typing import Any

import numpy as np

from rdtf.stickers import Budget, Sticker
from rdtf.stickers.export import (
    Export,
    ExportError,
    ExportOptions,
    check_bytes,
    export_sticker,
    platforms,
)
from rdtf.stickers.export.measured import decode_by_others
from rdtf.stickers.export.platforms import FILE_FORMATS, Platform

from .clips import random_clip

EVERYWHERE = list(platforms())
#: What a clip may be refused for; "validation" would be our mistake.
REASONS = {"option", "empty", "still", "moving", "duration", "frames", "bytes", "quality"}
POLICIES = ("refuse", "trim", "hold", "speed")
#: Clips may play for minutes here.
BUDGET = Budget(max_duration_ms=2 * 10**6)


@dataclass(frozen=True)
class Case:
    """One export to try."""

    number: int
    clip: Sticker
    platform: Platform
    options: ExportOptions

    def __str__(self) -> str:
        shape = "x".join(map(str, self.clip.frames.shape[:3]))
        return f"case {self.number}: {shape} to {self.platform.id} with {self.options}"


def case(number: int, max_frames: int = 60, large: bool = True) -> Case:
    """Platforms take turns, and so does what happens to a length that is not taken."""
    turn, place = divmod(number, len(EVERYWHERE))
    clip = random_clip(number, max_frames, large)
    platform = platforms()[EVERYWHERE[(place + turn) % len(EVERYWHERE)]]
    random = np.random.default_rng([number, 1])
    options = ExportOptions(time=POLICIES[turn % 4])
    if random.random() < 0.3:
        options = replace(options, **_edits(random, clip, platform))
    return Case(number, clip, platform, options)


def _edits(random: np.random.Generator, clip: Sticker, platform: Platform) -> dict[str, Any]:
    """Some of what can be asked for; not all of it fits every clip."""
    known: dict[str, Any] = {
        "trim": True,
        "pad": int(random.integers(0, 9)),
        "outline_px": float(random.choice([0.5, 2, 8, 20])),
        "first": random.choice([0, int(random.integers(0, clip.num_frames)), "fullest"]),
        "close": str(random.choice(["ping-pong", "cross-fade", "boomerang"])),
        "speed": float(random.choice([0.5, 1.5, 3])),
        "background": tuple(random.integers(0, 256, 3).tolist()),
        "max_bytes": int(random.choice([2_000, 20_000, 100_000])),
    }
    if platform.canvas() is None:
        known["size"] = int(random.integers(1, 200))
    chosen = random.choice(sorted(known), int(random.integers(1, 4)), replace=False)
    edits = {name: known[name] for name in chosen.tolist()}
    if edits.get("first") not in (None, "fullest"):
        edits["first"] = int(edits["first"])
    return edits


def outcome(case: Case) -> str:
    """ "done", or the reason of the refusal.

    Raises:
        AssertionError: a promise is broken; the case is named.
    """
    try:
        export = export_sticker(case.clip, case.platform, case.options)
        _assert_kept(case, export)
    except ExportError as error:
        assert error.reason in REASONS, f"{case}: {error.reason}: {error}"
        assert str(error) and "\n" not in str(error), f"{case}: {error!r}"
        _assert_refused_rightly(case, error.reason)
        return error.reason
    except Exception as error:
        raise AssertionError(f"{case}: {type(error).__name__}: {error}") from error
    return "done"


def _assert_kept(case: Case, export: Export) -> None:
    report, platform = export.report, case.platform
    if platform.format not in FILE_FORMATS:
        again = check_bytes(export.data, platform, budget=BUDGET)
        assert again.passed, str(again)
        _assert_plays_as_long(case, export)
    limit = case.options.byte_limit(platform)
    assert report.max_bytes == (None if platform.format in FILE_FORMATS else limit)
    assert report.max_bytes is None or len(export.data) <= report.max_bytes
    canvas = platform.canvas()
    if canvas is not None and canvas.rule == "exact":
        assert [report.width, report.height] == canvas.value
    assert report.loss.psnr_white_db >= 14 and report.loss.alpha_psnr_db >= 8
    assert report.source_frames >= report.num_frames or any("repeated" in e for e in report.edits)


def _assert_plays_as_long(case: Case, export: Export) -> None:
    """To another decoder, and compared with the clip itself: nothing is changed in silence."""
    container = {"apng": "png"}.get(case.platform.id, case.platform.format)
    frames, durations_ms = decode_by_others(export.data, container, BUDGET)
    total, report = int(durations_ms.sum()), export.report
    assert len(frames) == report.num_frames
    assert frames.shape[1] - report.height in ((0, 1) if container == "mp4" else (0,))
    if report.num_frames == 1:
        return
    assert abs(total - report.source_ms) <= 10, f"{total} ms, {report}"
    if not report.edits:
        assert abs(total - case.clip.total_ms) <= 10, f"{total} ms, {report}"


def _assert_refused_rightly(case: Case, reason: str) -> None:
    """As far as that can be told without the exporter."""
    frames, platform = case.clip.frames, case.platform
    shown = np.where(frames[..., 3:] > 0, frames, 0)
    if reason == "moving":
        assert platform.still == "only" and (shown != shown[0]).any(), str(case)
    if reason == "still":
        assert platform.still == "no", str(case)
    if reason == "empty":
        assert (frames[..., 3] > 0).mean() < 0.1, str(case)
    if reason == "bytes":
        assert case.options.byte_limit(platform) is not None, str(case)
    if reason == "option":
        assert case.options != ExportOptions(time=case.options.time), str(case)


def work_through(numbers: Iterable[int]) -> Counter[str]:
    """How the cases ended, counted.

    Raises:
        AssertionError: one of them broke a promise.
    """
    return Counter(outcome(case(number)) for number in numbers)


def main() -> int:
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("--first", type=int, default=0)
    parser.add_argument("--count", type=int, default=2000)
    chosen = parser.parse_args()
    counts: Counter[str] = Counter()
    places: Counter[tuple[str, str]] = Counter()
    broken, started = 0, time.process_time()
    for number in range(chosen.first, chosen.first + chosen.count):
        try:
            ended = outcome(case(number))
            places[case(number).platform.id, ended] += 1
        except AssertionError as error:
            ended, broken = "BROKEN", broken + 1
            print(error, flush=True)
        counts[ended] += 1
        if (number + 1) % 50 == 0:
            spent = time.process_time() - started
            print(f"up to {number}: {dict(counts)}, {spent:.0f} s of CPU", flush=True)
    for place in EVERYWHERE:
        ends = {reason: n for (name, reason), n in sorted(places.items()) if name == place}
        print(f"{place:16} {ends}")
    return 1 if broken else 0


if __name__ == "__main__":
    sys.exit(main())
