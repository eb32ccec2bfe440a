"""All kinds of characters and all motions, by name."""

from __future__ import annotations

from rdtf.data.synthetic.birds import BIRDS
from rdtf.data.synthetic.character import Character
from rdtf.data.synthetic.creatures import CREATURES
from rdtf.data.synthetic.mammals import MAMMALS
from rdtf.data.synthetic.motion import Motion
from rdtf.data.synthetic.motions_acting import ACTING
from rdtf.data.synthetic.motions_feeling import FEELING
from rdtf.data.synthetic.motions_moving import MOVING, still
from rdtf.data.synthetic.nature import NATURE
from rdtf.data.synthetic.objects import OBJECTS

KINDS: dict[str, type[Character]] = {**MAMMALS, **BIRDS, **CREATURES, **NATURE, **OBJECTS}
MOTIONS: dict[str, Motion] = {**MOVING, **ACTING, **FEELING}
STILL = Motion(
    still,
    (("poses", "posing"), ("stays still", "staying still"), ("looks at you", "looking at you")),
)
"""The only motion of stickers with one frame."""


def motion_named(name: str) -> Motion:
    return STILL if name == "still" else MOTIONS[name]
