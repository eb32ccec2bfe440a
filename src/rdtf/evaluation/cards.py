"""One card per example: the clips side by side, moving, and their film strips below."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from urllib.parse import quote

from rdtf.evaluation.examples import Example
from rdtf.evaluation.markup import element, text
from rdtf.evaluation.metrics import METRICS
from rdtf.evaluation.pictures import animation_uri, still_uri, strip_uri
from rdtf.stickers import Sticker

CAPTION_METRICS = {"psnr": "PSNR {} dB", "line_distance": "lines {}% off"}


def example_cards(examples: Sequence[Example]) -> str:
    """Markup of all examples, grouped by task; empty if there are none."""
    if not examples:
        return ""
    by_task: dict[str, list[Example]] = {}
    for example in examples:
        by_task.setdefault(example.task, []).append(example)
    parts = [_legend()]
    for members in by_task.values():
        parts.append(_heading(members[0]))
        parts.append(element("div", map(_card, members), class_="examples"))
    return "\n".join(parts)


def _heading(example: Example) -> str:
    """The task in words, and its name as the tables print it."""
    label = example.task_label
    return element("h3", text(label[:1].upper() + label[1:]), element("code", text(example.task)))


def _legend() -> str:
    key = element("span", class_="key", role="img", aria_label="a coloured border")
    return element(
        "p", f"In the film strips, frames in {key} were given; each method had to make the others."
    )


def _card(example: Example) -> str:
    prompt = f"“{example.prompt}”" if example.prompt else "no text"
    clips = [_clip(example, name, clip) for name, clip in example.clips().items()]
    return element(
        "article",
        element("p", text(prompt), class_="prompt"),
        element("div", clips, class_="clips"),
        _strips(example),
        _credit(example.truth),
        class_="card example",
    )


# -------------------------------------------------------------------- animations


def _clip(example: Example, name: str, clip: Sticker) -> str:
    still = element("source", media="(prefers-reduced-motion: reduce)", srcset=still_uri(clip))
    # Browsers play equal images in step with the first of them on the page; the fragment makes
    # each its own, so that the clips of a card start together.
    own = "#" + quote(f"{example.task} {name}")
    moving = element(
        "img",
        src=animation_uri(clip) + own,
        alt=f"Animation, {name}: {example.prompt or 'no text'} ({clip.num_frames} frames)",
        width=clip.width,
        height=clip.height,
        decoding="sync",
        class_=_picture_class(clip),
    )
    caption = element("figcaption", text(name), _scores(example.scores.get(name, {})))
    return element("figure", element("picture", still, moving), caption)


def _scores(scores: Mapping[str, float]) -> list[str]:
    return [
        element("span", text(template.format(_one_digit(scores[metric], metric))), class_="score")
        for metric, template in CAPTION_METRICS.items()
        if metric in scores
    ]


def _one_digit(value: float, metric: str) -> str:
    return f"{value:.{min(METRICS[metric].digits, 1)}f}"


def _picture_class(clip: Sticker) -> str:
    """Small canvases are shown with hard pixels, not blurred."""
    return "checker pixels" if max(clip.width, clip.height) < 128 else "checker"


# ------------------------------------------------------------------- film strips


def _strips(example: Example) -> str:
    """A film strip for each clip, frame under frame, the given frames marked."""
    given = [index in set(example.known) for index in range(example.truth.num_frames)]
    numbers = element(
        "div", map(_number, range(len(given)), given), class_="numbers", aria_hidden="true"
    )
    rows = [_strip(example, name, clip, given) for name, clip in example.clips().items()]
    grid = element("div", numbers, rows, style=f"--frames:{len(given)}")
    return element(
        "div", grid, class_="strips scroll", tabindex=0, role="group", aria_label="Film strips"
    )


def _number(index: int, given: bool) -> str:
    badge = element("b", "given", class_="badge") if given else ""
    return element("span", badge, str(index))


def _strip(example: Example, name: str, clip: Sticker, given: Sequence[bool]) -> str:
    known = ", ".join(map(str, sorted(example.known))) or "none"
    picture = element(
        "img",
        src=strip_uri(clip),
        alt=f"Film strip, {name}: frames 0 to {clip.num_frames - 1}; given: {known}",
        class_=_picture_class(clip),
    )
    marks = (element("span", class_="given" if mark else None) for mark in given)
    overlay = element("div", marks, class_="marks", aria_hidden="true")
    label = element("p", text(name), class_="strip-label")
    return label + element("div", picture, overlay, class_="strip")


def _credit(truth: Sticker) -> str:
    known = [part for part in (truth.attribution, truth.license, truth.source) if part]
    return element("p", text(" · ".join(known)), class_="credit") if known else ""
