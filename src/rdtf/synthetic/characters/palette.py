"""Random draws, named colours and how they mix, and how stickers of one kind differ.

Every sticker is drawn from one base colour and one accent, both named, so that a caption can say
them. Shades, tints and the outline ink are mixed from the base, which keeps a sticker harmonious.
"""

from __future__ import annotations

import random
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import TypeVar

Item = TypeVar("Item")


class Draws:
    """A stream of draws named by its key, e.g. `Draws(seed, index, "look")`."""

    def __init__(self, *key: int | str) -> None:
        # Text seeds are hashed with SHA-512, so that neighbouring keys give unrelated streams.
        self._random = random.Random("/".join(map(str, key))).random

    def uniform(self, low: float, high: float) -> float:
        return low + (high - low) * self._random()

    def chance(self, probability: float) -> bool:
        return self._random() < probability

    def side(self) -> int:
        """-1 or 1."""
        return 1 if self._random() < 0.5 else -1

    def choice(self, items: Sequence[Item]) -> Item:
        return items[int(self._random() * len(items))]

    def weighted(self, weights: Mapping[Item, float]) -> Item:
        """A key of `weights`, as often as its weight says."""
        left = self._random() * sum(weights.values())
        for item, weight in weights.items():
            left -= weight
            if left < 0:
                return item
        return next(reversed(list(weights)))

    def sample(self, items: Sequence[Item], count: int) -> list[Item]:
        """`count` different items, in random order."""
        pool = list(items)
        return [pool.pop(int(self._random() * len(pool))) for _ in range(min(count, len(pool)))]


Colour = tuple[float, float, float]
"""Red, green, blue in [0, 1], sRGB."""


def from_hex(code: str) -> Colour:
    """`"#ff8040"` -> (1.0, 0.502, 0.251)."""
    value = int(code.lstrip("#"), 16)
    return ((value >> 16) / 255, (value >> 8 & 255) / 255, (value & 255) / 255)


def mix(first: Colour, second: Colour, share: float) -> Colour:
    """`first` with `share` (0..1) of `second` in it."""
    return (first[0] + (second[0] - first[0]) * share, first[1] + (second[1] - first[1]) * share,
        first[2] + (second[2] - first[2]) * share)  # fmt: skip


def _luminance(colour: Colour) -> float:
    """Perceived lightness in [0, 1] (Rec. 601 weights)."""
    return 0.299 * colour[0] + 0.587 * colour[1] + 0.114 * colour[2]


WHITE: Colour = (1.0, 1.0, 1.0)
NIGHT: Colour = from_hex("#2b2440")
BLUSH: Colour = from_hex("#ff7f8e")
TONGUE: Colour = from_hex("#ff7d86")
MOUTH: Colour = from_hex("#8a2b45")
WATER: Colour = from_hex("#6fc4ff")
LOVE: Colour = from_hex("#ff4d6d")
GOLD: Colour = from_hex("#ffcf3f")
LEAF: Colour = from_hex("#5cb85a")
WOOD: Colour = from_hex("#a9744a")
CREAM: Colour = from_hex("#fff1dc")
BEAK: Colour = from_hex("#ff9f2e")
STEEL: Colour = from_hex("#c3cedb")

COLOURS: dict[str, Colour] = {name: from_hex(code) for name, code in {"red": "#ee4f4f",
    "coral": "#ff8370", "orange": "#fb9a3c", "yellow": "#ffd34d", "lime": "#b5dc4e",
    "green": "#62bf68", "mint": "#9fe6c4", "teal": "#2fb3aa", "sky blue": "#7fcdf7",
    "blue": "#4d8df0", "navy": "#3a4a86", "purple": "#8f6ade", "lavender": "#c9b6f7",
    "pink": "#ffa6c6", "magenta": "#e65bb0", "brown": "#a9724c", "beige": "#ecd2aa",
    "white": "#f8f6f2", "gray": "#a9b2bf", "black": "#4a4656"}.items()}  # fmt: skip


def shade(colour: Colour, share: float = 0.2) -> Colour:
    """Darker: richer by multiplying with itself, and a little cooler; mere gray looks dirty."""
    red, green, blue = colour
    return mix(
        mix(colour, (red * red, green * green, blue * blue), 1.5 * share), NIGHT, 0.55 * share
    )


def deepen(colour: Colour) -> Colour:
    """A clearly darker and warmer companion, for ears and manes."""
    red, green, blue = colour
    return (0.68 * red, 0.56 * green, 0.54 * blue)


def tint(colour: Colour, share: float = 0.6) -> Colour:
    return mix(colour, WHITE, share)


def _ink_for(colour: Colour) -> Colour:
    """The outline colour: nearly black, with a hint of what it surrounds."""
    return mix(mix(colour, NIGHT, 0.82), (0.0, 0.0, 0.0), 0.12)


def is_dark(colour: Colour) -> bool:
    """Whether dark eyes and mouths would vanish on it."""
    return _luminance(colour) < 0.36


def similar(first: Colour, second: Colour) -> bool:
    """Too close to tell apart at a glance."""
    return sum(abs(a - b) for a, b in zip(first, second, strict=True)) < 0.5


@dataclass(frozen=True)
class Look:
    """Colours and proportions of a character; proportions are factors around 1."""

    base: Colour
    shade: Colour
    light: Colour
    ink: Colour
    accent: Colour
    limb: Colour
    """Arms and legs: a little darker where no outline sets them off."""
    outlined: bool
    width: float
    head: float
    ears: float
    limbs: float
    eye_size: float
    eye_gap: float
    eye_height: float
    """Shift of the face, in half widths of the face, down positive."""
    eye_style: str
    markings: int
    cheeks: bool
    belly: bool

    @property
    def eye_ink(self) -> Colour:
        """Eyes and mouth drawn straight on the base colour."""
        return CREAM if is_dark(self.base) else mix(NIGHT, self.ink, 0.4)


def draw_look(colour: str, accent: str, style: str, draws: Draws) -> Look:
    """Draw the proportions; `colour` and `accent` are names in `COLOURS`."""
    base = COLOURS[colour]
    outlined = style == "outline"
    return Look(base=base, shade=shade(base), light=tint(base, 0.62) if colour != "white"
        else mix(WHITE, COLOURS[accent], 0.25), ink=_ink_for(base), accent=COLOURS[accent],
        limb=base if outlined else shade(base, 0.13), outlined=outlined, width=draws.uniform(0.9,
        1.12), head=draws.uniform(0.93, 1.08), ears=draws.uniform(0.82, 1.22),
        limbs=draws.uniform(0.88, 1.15), eye_size=draws.uniform(0.85, 1.25),
        eye_gap=draws.uniform(0.88, 1.12), eye_height=draws.uniform(-0.06, 0.08),
        eye_style=draws.weighted({"dot": 5.0, "shiny": 4.0, "round": 2.0}),
        markings=int(draws.uniform(0, 3)), cheeks=draws.chance(0.6),
        belly=draws.chance(0.7))  # fmt: skip
