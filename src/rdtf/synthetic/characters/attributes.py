"""What a sticker is: kind, colours, motion, mood, prop, style, timing; and captions that say it."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import asdict, dataclass, replace
from typing import Any

from rdtf.stickers.sticker import DEFAULT_DURATION_MS
from rdtf.synthetic.characters.acting import ACTING, FEELING
from rdtf.synthetic.characters.animal import BIRDS
from rdtf.synthetic.characters.character import Character
from rdtf.synthetic.characters.creatures import CREATURES, MAMMALS
from rdtf.synthetic.characters.details import PROPS
from rdtf.synthetic.characters.faces import EXPRESSIONS
from rdtf.synthetic.characters.motions import MOVING, Beat, Motion, Pose, forms, still
from rdtf.synthetic.characters.palette import COLOURS, Draws
from rdtf.synthetic.characters.things import NATURE, OBJECTS

_STYLES = {
    "outline": ("with bold outlines", "in a cartoon outline style"),
    "flat": ("in a flat style", "in flat colours"),
    "soft": ("with soft shading", "in a soft glossy style"),
}


def with_article(noun: str) -> str:
    """ "orange cat" -> "an orange cat"."""
    return f"{'an' if noun[0].lower() in 'aeiou' else 'a'} {noun}"


def prop_phrase(prop: str | None, accent: str) -> str:
    """ "wearing a red cap", or nothing."""
    if prop is None:
        return ""
    what = PROPS[prop]
    noun = what.noun or prop
    if what.coloured:
        noun = f"{accent} {noun}"
    return what.phrase.format(prop=noun if noun.endswith("glasses") else with_article(noun))


@dataclass(frozen=True)
class _Words:
    """The parts of speech of one sticker."""

    noun: str
    adjective: str
    looks: str
    adverb: str
    verb: str
    gerund: str
    prop: str
    style: str
    border: bool

    @property
    def plain(self) -> str:
        return with_article(self.noun)

    @property
    def dressed(self) -> str:
        return f"{self.plain} {self.prop}".strip()

    @property
    def moody(self) -> str:
        return with_article(f"{self.adjective} {self.noun}")

    @property
    def full(self) -> str:
        return f"{self.moody} {self.prop}".strip()

    @property
    def how(self) -> str:
        """The adverb where it can follow: not after long phrases."""
        return f" {self.adverb}" if self.adverb and len(self.verb.split()) <= 3 else ""

    @property
    def look(self) -> str:
        """The drawing style, after "drawn"."""
        if not self.border:
            return self.style
        joint = "and" if self.style.startswith("with") else "with"
        return f"{self.style} {joint} a white border"


SHORT: tuple[Callable[[_Words], str], ...] = (
    lambda w: f"{w.plain} {w.verb}",
    lambda w: f"{w.noun} {w.gerund}",
    lambda w: f"{w.moody} {w.verb}",
    lambda w: f"{w.plain} {w.verb}{w.how}",
    lambda w: f"{w.adjective} {w.noun}, {w.gerund}",
    lambda w: f"the {w.noun} {w.verb}",
    lambda w: f"a sticker of {w.plain} {w.gerund}",
)
LONG: tuple[Callable[[_Words], str], ...] = (
    lambda w: f"{w.full} {w.verb}",
    lambda w: f"{w.dressed} {w.verb}{w.how}",
    lambda w: f"an animated sticker of {w.full}, {w.gerund}",
    lambda w: f"a cute {w.noun} {w.prop}".strip() + f" is {w.gerund}, it looks {w.looks}",
    lambda w: f"{w.full} {w.verb}, drawn {w.look}",
    lambda w: f"cartoon of {w.dressed} that {w.verb}, {w.adjective} face",
    lambda w: f"this sticker shows {w.full}, {w.gerund}, {w.look}",
    lambda w: f"{w.noun} {w.prop}".strip() + f", {w.adjective}, {w.gerund}, {w.style}",
)


def _write_captions(draws: Draws, about: Attributes, motion: Motion) -> tuple[str, ...]:
    """Two to four different captions; the first is short, the second long."""
    mood = EXPRESSIONS[about.expression]

    def words() -> _Words:
        verb, gerund = draws.choice(motion.phrases)
        return _Words(noun=f"{about.colour} {about.kind}", adjective=mood.adjective,
            looks=mood.looks or mood.adjective, adverb=mood.adverb if motion.adverbs else "",
            verb=verb, gerund=gerund, prop=prop_phrase(about.prop, about.accent),
            style=draws.choice(_STYLES[about.style]), border=about.border)  # fmt: skip

    wanted = 2 + int(draws.uniform(0, 3))
    captions: dict[str, None] = {}
    # Different templates may come to the same words, so there are more of them than needed.
    pairs = zip(draws.sample(SHORT, 4), draws.sample(LONG, 4), strict=True)
    for template in (template for pair in pairs for template in pair):
        if len(captions) < wanted:
            captions[template(words())] = None
    return tuple(captions)


KINDS: dict[str, type[Character]] = {**MAMMALS, **BIRDS, **CREATURES, **NATURE, **OBJECTS}
MOTIONS: dict[str, Motion] = {**MOVING, **ACTING, **FEELING}
STILL = Motion(still, forms("poses/posing", "stays/staying still", "looks/looking at you"))
"""The only motion of stickers with one frame."""


def motion_named(name: str) -> Motion:
    return STILL if name == "still" else MOTIONS[name]


FRAME_WEIGHTS: Mapping[int, float] = {
    1: 5, 2: 4, 3: 5, 4: 7, 5: 8, 6: 12, 7: 12, 8: 15, 9: 9, 10: 8, 11: 4, 12: 4, 13: 2.5,
    14: 2, 15: 1.5, 16: 2,
}  # fmt: skip


@dataclass(frozen=True)
class Attributes:
    """What one synthetic sticker shows; everything here is said or implied by its captions."""

    index: int
    kind: str
    colour: str
    accent: str
    motion: str
    expression: str
    prop: str | None
    style: str
    border: bool
    shadow: bool
    loops: bool
    num_frames: int
    durations_ms: tuple[int, ...]
    captions: tuple[str, ...]

    @property
    def concept(self) -> str:
        """`kind:motion`, for splits that keep combinations apart."""
        return f"{self.kind}:{self.motion}"

    def as_dict(self) -> dict[str, Any]:
        """Plain JSON types, with the concept."""
        values = {k: list(v) if isinstance(v, tuple) else v for k, v in asdict(self).items()}
        return {**values, "concept": self.concept}


def draw_attributes(seed: int, index: int, max_frames: int) -> Attributes:
    """A pure function of its arguments."""
    draws = Draws(seed, index, "attributes")
    num_frames = draws.weighted({n: w for n, w in FRAME_WEIGHTS.items() if n <= max_frames})
    name = _draw_motion(draws, num_frames)
    motion = motion_named(name)
    kind = draws.choice(tuple(KINDS))
    colour, accent = _draw_colours(draws, kind)
    expression = draws.weighted(motion.moods)
    prop = _draw_prop(draws, kind, motion)
    style = _draw_style(draws, colour)
    border, shadow = draws.chance(0.3), draws.chance(0.4)
    hold = [pose.hold for pose in pose_all(seed, index, name, num_frames)]
    about = Attributes(index=index, kind=kind, colour=colour, accent=accent, motion=name,
        expression=expression, prop=prop, style=style, border=border,
        shadow=shadow and motion.grounded, loops=motion.loops, num_frames=num_frames,
        durations_ms=_draw_durations(draws, hold), captions=())  # fmt: skip
    return replace(about, captions=_write_captions(Draws(seed, index, "captions"), about, motion))


def pose_all(seed: int, index: int, motion_name: str, num_frames: int) -> list[Pose]:
    """The key pose of every frame."""
    motion = motion_named(motion_name)
    draws = Draws(seed, index, "motion")
    side, amount, variant = draws.side(), draws.uniform(0.85, 1.2), draws.uniform(0, 1)
    most = max(1, num_frames // motion.frames_per_beat)
    beats = 1 + int(draws.uniform(0, 1) * min(most, 3)) if motion.loops else 1
    start = _loop_start(draws, num_frames) if motion.loops else 0.0
    times = _times(num_frames, motion.loops, start)
    return [motion.pose(Beat(t, k, num_frames, side, amount, beats, variant)) for k,
        t in enumerate(times)]  # fmt: skip


def _times(count: int, loops: bool, start: float) -> list[float]:
    """A loop does not repeat its first moment; a motion that plays once reaches its end."""
    if loops:
        return [(k / count + start) % 1.0 for k in range(count)]
    return [k / max(1, count - 1) for k in range(count)]


def _loop_start(draws: Draws, count: int) -> float:
    """Two frames must hit the extremes of a swing; longer loops may start anywhere."""
    anywhere = draws.uniform(0, 1) if draws.chance(0.45) else 0.0
    return 0.25 if count == 2 else anywhere


def _draw_motion(draws: Draws, num_frames: int) -> str:
    if num_frames == 1:
        return "still"
    return draws.weighted({n: m.weight for n, m in MOTIONS.items() if m.min_frames <= num_frames})


def _draw_colours(draws: Draws, kind: str) -> tuple[str, str]:
    natural = KINDS[kind].colours
    if draws.chance(0.5):
        colour = draws.weighted({name: 1 / (2 + rank) for rank, name in enumerate(natural)})
    else:
        colour = draws.choice(tuple(COLOURS))
    red, green, blue = COLOURS[colour]
    apart = [name for name, (r, g, b) in COLOURS.items() if abs(r - red) + abs(g - green)
        + abs(b - blue) > 0.55 and name not in ("white", "gray", "beige")]  # fmt: skip
    return colour, draws.choice(apart)


def _draw_style(draws: Draws, colour: str) -> str:
    """White without outlines or shading would vanish on a white page."""
    weights = {"outline": 5.0, "flat": 2.7, "soft": 2.3}
    if colour == "white":
        weights.pop("flat")
    return draws.weighted(weights)


def _draw_prop(draws: Draws, kind: str, motion: Motion) -> str | None:
    if draws.chance(0.45):
        return None
    places = KINDS[kind].places - motion.busy
    fitting = [name for name, prop in PROPS.items() if prop.place in places]
    return draws.choice(fitting) if fitting else None


def _draw_durations(draws: Draws, holds: list[float]) -> tuple[int, ...]:
    """Milliseconds of each frame, in tens as in GIF files: 4 to 15 frames a second, some held."""
    count = len(holds)
    if count == 1:
        return (DEFAULT_DURATION_MS,)
    total_ms = draws.uniform(650, 1700)
    base_ms = min(250.0, max(70.0, total_ms / count))
    held, extra = draws.chance(0.65), int(draws.uniform(0, 1) * count)
    uneven = draws.chance(0.25)
    durations = []
    for k, hold in enumerate(holds):
        factor = hold if held else 1.0
        if uneven and k == extra:
            factor *= 2.0
        durations.append(10 * round(base_ms * factor / 10))
    return tuple(durations)
