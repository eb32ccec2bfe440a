"""`rdtf export --check`: does a file keep to the rules of a platform? The bytes decide.

The same check closes every export. Files may be hostile: size, frames and pixels are held against a
budget before anything is decoded, and a file that is also something else is refused.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from rdtf.errors import UserError
from rdtf.stickers import DEFAULT_BUDGET, Budget, LottieFile
from rdtf.stickers.export.edit import visible_shares
from rdtf.stickers.export.measured import Measured, container_of, measure
from rdtf.stickers.export.platforms import (
    FILE_FORMATS,
    ExportError,
    Limit,
    Platform,
    dated,
    find_platform,
    platforms,
)
from rdtf.stickers.files import damage_as_sticker_error

_FULL_ENOUGH = 0.8  # of what the fullest frame shows


@dataclass(frozen=True)
class Finding:
    """One rule, held against a file."""

    rule: str  # its name
    passed: bool  # whether the file keeps to it
    found: str  # found, asked: what the file has and what the platform asks for, in words
    asked: str
    is_advice: bool = False  # recommended only
    source: str = ""  # source, confidence: who says so; empty for rules that hold for any file
    confidence: str = ""

    def __str__(self) -> str:
        mark = "ok  " if self.passed else "note" if self.is_advice else "FAIL"
        who = f"  [{self.confidence}]" if self.confidence else ""
        wanted = "recommended" if self.is_advice else "required"
        return f"{mark} {self.rule}: {self.found}; {wanted}: {self.asked}{who}"


@dataclass(frozen=True)
class CheckReport:
    """All findings for a file, or for a pack as a whole and for each file in it."""

    name: str
    platform: str
    findings: tuple[Finding, ...]
    dated: str  # when the limits were looked up
    files: tuple[CheckReport, ...] = ()

    @property
    def passed(self) -> bool:
        return not self.failures and all(report.passed for report in self.files)

    @property
    def failures(self) -> tuple[Finding, ...]:
        return tuple(f for f in self.findings if not f.passed and not f.is_advice)

    @property
    def first_failure(self) -> str:
        """The first rule that is broken, in words; "" if none is."""
        of_files = (f"{file.name}: {file.failures[0]}" for file in self.files if not file.passed)
        return next((str(finding) for finding in self.failures), next(of_files, ""))

    @property
    def remarks(self) -> tuple[Finding, ...]:
        """Advice that the file does not follow."""
        return tuple(f for f in self.findings if not f.passed and f.is_advice)

    def to_dict(self) -> dict[str, Any]:
        files = {"files": [report.to_dict() for report in self.files]} if self.files else {}
        own = {"name": self.name, "platform": self.platform}
        findings = [asdict(finding) for finding in self.findings]
        return {**own, "findings": findings, **files, "dated": self.dated, "passed": self.passed}

    def __str__(self) -> str:
        verdict = "passes" if self.passed else "FAILS"
        what = f"{self.platform} packs" if self.files else self.platform
        lines = [f"{self.name}: {verdict} for {what} (limits as of {self.dated})"]
        lines += map(str, self.findings)
        if not self.files:
            sources = dict.fromkeys(finding.source for finding in self.findings if finding.source)
            lines += [f"source: {source}" for source in sources]
        for report in self.files:
            lines.append(f"{'ok  ' if report.passed else 'FAIL'} {report.name}")
            lines += [f"  {finding}" for finding in report.failures]
        return "\n  ".join(lines)


def check_file(
    path: Path | str, platform: str | Platform, budget: Budget = DEFAULT_BUDGET
) -> CheckReport:
    """Hold a file against the rules of `platform`.

    Raises:
        StickerError: there is no such file, or it is larger than the budget.
        ExportError: (option) no such platform, or one without rules for a single file.
    """
    platform = _with_rules(platform)
    data = budget.read(path)
    return check_bytes(data, platform, Path(path).name, budget)


def check_bytes(
    data: bytes, platform: str | Platform, name: str = "sticker", budget: Budget = DEFAULT_BUDGET
) -> CheckReport:
    """Like `check_file`, for bytes. What can't be read at all is a finding, too."""
    return checked(data, platform, name, budget)[0]


def checked(
    data: bytes, platform: str | Platform, name: str, budget: Budget
) -> tuple[CheckReport, Measured | None]:
    """The report and what was measured; None if the file can't be read."""
    platform = _with_rules(platform)
    try:
        container = container_of(data, name)
        if container == "lottie":
            return _lottie(data, name, platform, budget), None
        with damage_as_sticker_error(name, container):
            found = measure(data, name, budget)
    except UserError as error:
        finding = Finding("readable", False, str(error), "a complete file")
        return CheckReport(name, platform.id, (finding,), dated()), None
    findings = tuple(_findings(found, platform))
    return CheckReport(name, platform.id, findings, dated()), found


def _with_rules(name: str | Platform) -> Platform:
    platform = find_platform(name)
    if platform.format in FILE_FORMATS:
        raise ExportError("option", f"{platform.title} has no rules to check a file against")
    return platform


def _lottie(data: bytes, name: str, platform: Platform, budget: Budget) -> CheckReport:
    """No platform here takes Lottie; what an export would leave out is worth knowing."""
    missing = ", ".join(LottieFile(data, name, budget).info.not_drawn)
    formats = " or ".join(platform.formats)
    findings = [Finding("format", False, "Lottie", f"{formats} (rdtf export makes it)")]
    if missing:
        findings.append(Finding("drawn", False, f"not drawn: {missing}", "everything", True))
    return CheckReport(name, platform.id, tuple(findings), dated())


def _findings(found: Measured, platform: Platform) -> Iterator[Finding]:
    formats = " or ".join(platform.formats)
    yield Finding("format", found.info.format in platform.formats, found.info.format, formats)
    alone = "nothing else in the file"
    yield Finding("one file only", not found.foreign, "; ".join(found.foreign) or alone, alone)
    same = "the same in every decoder"
    yield Finding("readable", not found.disagreement, found.disagreement or same, same)
    visible = bool((found.frames[..., 3] > 0).any())
    yield Finding(
        "not empty", visible, "visible" if visible else "fully transparent", "something visible"
    )
    motion = _motion(found, platform)
    if motion is not None:
        yield motion
    if found.info.durations_ms != found.info.stored_ms and found.info.num_frames > 1:
        shown = (
            f"players show very short frames for 100 ms; the clip takes {found.info.total_ms} ms"
        )
        yield Finding("playback", False, shown, "20 ms or more for each frame", True)
    for limits, is_advice in ((platform.limits, False), (platform.advice, True)):
        for name, limit in limits.items():
            if name in RULES:
                title, _, test = RULES[name]
                said = (*test(found, limit), _asked(name, limit))
                yield Finding(title, *said, is_advice, limit.source, limit.confidence)


def _motion(found: Measured, platform: Platform) -> Finding | None:
    if platform.still == "yes":
        return None
    equal = bool((found.frames == found.frames[0]).all())
    words = "no motion" if equal else f"{found.info.num_frames} frames"
    if platform.still == "only":
        passed = found.info.num_frames == 1 and not found.info.is_animated
        return Finding("still", passed, words, "a single frame")
    return Finding("animated", not equal, words, "motion")


# ------------------------------------------------------------ one function a limit: passed, found

_Verdict = tuple[bool, str]


def _canvas(found: Measured, limit: Limit) -> _Verdict:
    wide, high = limit.value
    width, height = found.info.width, found.info.height
    passed = {
        "exact": (width, height) == (wide, high),
        "one side": max(width, height) == wide,
        "height": height == high and width <= wide,
        "square up to": width == height and limit.min <= width <= wide,
    }
    return passed[limit.rule], f"{width} x {height}"


def _canvas_words(limit: Limit) -> str:
    wide, high = limit.value
    words = {
        "exact": f"exactly {wide} x {high}",
        "one side": f"longer side exactly {wide}",
        "height": f"{high} high, at most {wide} wide",
        "square up to": f"square, {limit.min} to {wide}",
    }
    return words[limit.rule]


def _fps(found: Measured, limit: Limit) -> _Verdict:
    count, total_ms = found.info.num_frames, found.total_ms
    if count == 1:
        return True, "one frame"
    if not total_ms:
        return False, "no durations"
    # Times are whole milliseconds, so one more or less is no higher rate.
    passed = count * 1000 <= limit.value * (total_ms + 1)
    return passed, f"{count * 1000 / total_ms:.4g} a second"


def _total(found: Measured, limit: Limit) -> _Verdict:
    plays = max(found.info.loop_count, 1) if "all plays" in limit.note else 1
    total = found.total_ms * plays if found.info.num_frames > 1 else 0
    words = f"{plays} x {found.total_ms / 1000:g} s" if plays > 1 else f"{total / 1000:g} s"
    return total <= limit.value, words


def _plays(found: Measured, limit: Limit) -> _Verdict:
    least, most = limit.value
    count = found.info.loop_count
    passed = least <= count <= most or not found.info.is_animated
    return passed, "forever" if count == 0 else f"{count} times"


def _first_frame(found: Measured, limit: Limit) -> _Verdict:
    hidden = found.info.has_hidden_picture
    return not hidden, "another default picture" if hidden else "shown"


def _full_first_frame(found: Measured, limit: Limit) -> _Verdict:
    shares = visible_shares(found.frames)
    share = float(shares[0] / max(shares.max(), 1e-9))
    return share >= _FULL_ENOUGH, f"shows {share:.0%} of the fullest frame"


def _asked(name: str, limit: Limit) -> str:
    """What a limit asks for, in words."""
    words = RULES[name][1]
    return words.format(limit.value) if isinstance(words, str) else words(limit)


#: By the name of the limit in the data file: the rule's name in a finding; what is asked for, a
#: form that takes the value or a function of the limit; the test of a file.
RULES: dict[
    str, tuple[str, str | Callable[[Limit], str], Callable[[Measured, Limit], _Verdict]]
] = {
    "canvas": ("canvas", _canvas_words, _canvas),
    "max_bytes": (
        "bytes",
        "at most {:,}",
        lambda f, limit: (f.num_bytes <= limit.value, f"{f.num_bytes:,}"),
    ),
    "max_fps": ("frame rate", "at most {} a second", _fps),
    "max_total_ms": ("duration", lambda limit: f"at most {limit.value / 1000:g} s", _total),
    "whole_ms": (
        "whole seconds",
        lambda limit: f"a multiple of {limit.value / 1000:g} s",
        lambda f, limit: (
            f.total_ms > 0 and f.total_ms % limit.value == 0,
            f"{f.total_ms / 1000:g} s",
        ),
    ),
    "min_frames": (
        "fewest frames",
        "at least {}",
        lambda f, limit: (f.info.num_frames >= limit.value, str(f.info.num_frames)),
    ),
    "max_frames": (
        "most frames",
        "at most {}",
        lambda f, limit: (f.info.num_frames <= limit.value, str(f.info.num_frames)),
    ),
    "min_frame_ms": (
        "shortest frame",
        "each {} ms or more",
        lambda f, limit: (
            min(f.info.stored_ms) >= limit.value or f.info.num_frames == 1,
            f"{min(f.info.stored_ms)} ms",
        ),
    ),
    "plays": (
        "plays",
        lambda limit: "{} to {} times".format(*limit.value) if limit.value[1] else "forever",
        _plays,
    ),
    "no_sound": (
        "sound",
        "none",
        lambda f, limit: (not f.has_sound, "sound" if f.has_sound else "none"),
    ),
    "codec": ("video codec", "{}", lambda f, limit: (f.codec == limit.value, f.codec or "none")),
    "animated_format": (
        "animated format",
        "{} for animations",
        lambda f, limit: (f.info.format == limit.value or f.info.num_frames == 1, f.info.format),
    ),
    "first_frame_shown": ("first frame", "the first frame shown", _first_frame),
    "full_first_frame": ("first frame", "the complete picture", _full_first_frame),
}


# ------------------------------------------------- the limits as a table, and those of packs

#: How sure a limit is.
LETTERS = {"official": "o", "secondary": "s", "conflict": "c", "recalled": "r", "unconfirmed": "u"}
_LIMITS = {
    "canvas": ("canvas",),
    "bytes": ("max_bytes",),
    "time": ("max_total_ms", "whole_ms"),
    "frames": ("min_frames", "max_frames", "max_fps", "min_frame_ms"),
    "plays": ("plays",),
}
HEADER = ["--to", "writes", *_LIMITS, "pack"]


def platform_rows() -> list[list[str]]:
    """What `HEADER` names of each platform, as words."""
    return [_row(platform) for platform in platforms().values()]


def _row(platform: Platform) -> list[str]:
    limits = {**platform.advice, **platform.limits}
    still = {"no": "", "yes": ", also still", "only": ", still only"}[platform.still]
    cells = [
        ", ".join(
            _sure(_asked(name, limits[name]), limits[name]) for name in names if name in limits
        )
        for names in _LIMITS.values()
    ]
    cells[0] = cells[0] or "any"
    return [f"`{platform.id}`", platform.format + still, *cells, _pack(platform)]


def _sure(words: str, limit: Limit) -> str:
    return f"{words} ({LETTERS[limit.confidence]})"


def _pack(platform: Platform) -> str:
    if platform.pack is None:
        return ""
    count = platform.pack.limits["count"]
    images = [f"{n} {i.width} x {i.height}" for n, i in platform.pack.images.items()]
    parts = [_sure(check_count(0, count).asked, count), ", ".join(images)]
    return "; ".join(part for part in parts if part)


def check_count(count: int, limit: Limit) -> Finding:
    """Whether a pack may hold so many stickers."""
    if limit.rule == "one of":
        passed, asked = count in limit.value, " or ".join(map(str, limit.value))
    else:
        passed = limit.value[0] <= count <= limit.value[1]
        asked = "{} to {}".format(*limit.value)
    rule = "number of stickers"
    return Finding(rule, passed, str(count), asked, False, limit.source, limit.confidence)
