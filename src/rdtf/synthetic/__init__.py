"""Motion grammar: parametric motions with captions, laid over any still (no torch)."""

from rdtf.synthetic.animate import animate
from rdtf.synthetic.grammar import (
    VERBS,
    MotionDraw,
    Verb,
    as_shown,
    draw_duration_ms,
    draw_motion,
    motion_parameters,
)
from rdtf.synthetic.verbs import find_verb
from rdtf.synthetic.words import draw_action, draw_caption, motion_of

__all__ = [
    "VERBS",
    "MotionDraw",
    "Verb",
    "animate",
    "as_shown",
    "draw_action",
    "draw_caption",
    "draw_duration_ms",
    "draw_motion",
    "find_verb",
    "motion_of",
    "motion_parameters",
]
