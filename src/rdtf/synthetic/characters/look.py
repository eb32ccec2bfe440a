"""How one sticker differs from the next of its kind: colours and proportions."""

from __future__ import annotations

from dataclasses import dataclass

from rdtf.synthetic.characters.draws import Draws
from rdtf.synthetic.characters.palette import (
    COLOURS,
    CREAM,
    NIGHT,
    WHITE,
    Colour,
    ink_for,
    is_dark,
    mix,
    shade,
    tint,
)


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
    return Look(
        base=base,
        shade=shade(base),
        light=tint(base, 0.62) if colour != "white" else mix(WHITE, COLOURS[accent], 0.25),
        ink=ink_for(base),
        accent=COLOURS[accent],
        limb=base if outlined else shade(base, 0.13),
        outlined=outlined,
        width=draws.uniform(0.9, 1.12),
        head=draws.uniform(0.93, 1.08),
        ears=draws.uniform(0.82, 1.22),
        limbs=draws.uniform(0.88, 1.15),
        eye_size=draws.uniform(0.85, 1.25),
        eye_gap=draws.uniform(0.88, 1.12),
        eye_height=draws.uniform(-0.06, 0.08),
        eye_style=draws.weighted({"dot": 5.0, "shiny": 4.0, "round": 2.0}),
        markings=int(draws.uniform(0, 3)),
        cheeks=draws.chance(0.6),
        belly=draws.chance(0.7),
    )
