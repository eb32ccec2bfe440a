"""Drawing what a sticker is: kind, colours, motion, mood, prop, style and timing."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import asdict, dataclass
from typing import Any

from rdtf.stickers.sticker import DEFAULT_DURATION_MS
from rdtf.synthetic.characters.animal import BIRDS
from rdtf.synthetic.characters.captions import write_captions
from rdtf.synthetic.characters.character import Character
from rdtf.synthetic.characters.creatures import CREATURES, MAMMALS
from rdtf.synthetic.characters.draws import Draws
from rdtf.synthetic.characters.motions_acting import ACTING
from rdtf.synthetic.characters.motions_feeling import FEELING
from rdtf.synthetic.characters.motions_moving import MOVING, still
from rdtf.synthetic.characters.palette import COLOURS
from rdtf.synthetic.characters.pose import Beat, Motion, Pose, forms
from rdtf.synthetic.characters.props import PROPS
from rdtf.synthetic.characters.things import NATURE, OBJECTS

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
    return Attributes(
        index=index,
        kind=kind,
        colour=colour,
        accent=accent,
        motion=name,
        expression=expression,
        prop=prop,
        style=style,
        border=border,
        shadow=shadow and motion.grounded,
        loops=motion.loops,
        num_frames=num_frames,
        durations_ms=_draw_durations(draws, hold),
        captions=write_captions(
            Draws(seed, index, "captions"),
            colour=colour,
            kind=kind,
            accent=accent,
            expression=expression,
            phrases=motion.phrases,
            adverbs=motion.adverbs,
            prop=prop,
            style=style,
            border=border,
        ),
    )


def pose_all(seed: int, index: int, motion_name: str, num_frames: int) -> list[Pose]:
    """The key pose of every frame."""
    motion = motion_named(motion_name)
    draws = Draws(seed, index, "motion")
    side, amount, variant = draws.side(), draws.uniform(0.85, 1.2), draws.uniform(0, 1)
    most = max(1, num_frames // motion.frames_per_beat)
    beats = 1 + int(draws.uniform(0, 1) * min(most, 3)) if motion.loops else 1
    start = _loop_start(draws, num_frames) if motion.loops else 0.0
    times = _times(num_frames, motion.loops, start)
    return [
        motion.pose(Beat(t, k, num_frames, side, amount, beats, variant))
        for k, t in enumerate(times)
    ]


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
    apart = [
        name
        for name, (r, g, b) in COLOURS.items()
        if abs(r - red) + abs(g - green) + abs(b - blue) > 0.55
        and name not in ("white", "gray", "beige")
    ]
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
