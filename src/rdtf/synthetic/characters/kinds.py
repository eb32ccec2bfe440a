"""All kinds of characters and all motions, by name."""

from __future__ import annotations

from rdtf.synthetic.characters.animal import BIRDS
from rdtf.synthetic.characters.character import Character
from rdtf.synthetic.characters.creatures import CREATURES, MAMMALS
from rdtf.synthetic.characters.motion import Motion
from rdtf.synthetic.characters.motions_acting import ACTING
from rdtf.synthetic.characters.motions_feeling import FEELING
from rdtf.synthetic.characters.motions_moving import MOVING, still
from rdtf.synthetic.characters.things import NATURE, OBJECTS

KINDS: dict[str, type[Character]] = {**MAMMALS, **BIRDS, **CREATURES, **NATURE, **OBJECTS}
MOTIONS: dict[str, Motion] = {**MOVING, **ACTING, **FEELING}
STILL = Motion(
    still,
    (("poses", "posing"), ("stays still", "staying still"), ("looks at you", "looking at you")),
)
"""The only motion of stickers with one frame."""


def motion_named(name: str) -> Motion:
    return STILL if name == "still" else MOTIONS[name]
