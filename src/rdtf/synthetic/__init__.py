"""Motion grammar: parametric motions with captions, laid over any still (no torch)."""

from rdtf.synthetic.grammar import VERBS, MotionDraw, Verb, draw_motion, motion_parameters
from rdtf.synthetic.phrases import draw_caption

__all__ = ["VERBS", "MotionDraw", "Verb", "draw_caption", "draw_motion", "motion_parameters"]
