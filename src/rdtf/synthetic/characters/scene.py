"""From what a sticker shows to painted frames: character, effects, shadow, seen by a camera."""

from __future__ import annotations

from rdtf.synthetic.characters.attributes import Attributes, pose_all
from rdtf.synthetic.characters.camera import frame_camera
from rdtf.synthetic.characters.character import Frame
from rdtf.synthetic.characters.draws import Draws
from rdtf.synthetic.characters.effects import draw_shadow, draw_stage_effects
from rdtf.synthetic.characters.kinds import KINDS
from rdtf.synthetic.characters.look import draw_look
from rdtf.synthetic.characters.painter import Painter
from rdtf.synthetic.characters.palette import COLOURS, Colour
from rdtf.synthetic.characters.pose import Pose
from rdtf.synthetic.characters.props import PROPS

_CONFETTI = ("red", "yellow", "teal", "blue", "pink", "orange", "purple")


def paint_scene(seed: int, about: Attributes) -> list[tuple[str, float]]:
    """Lottie shapes and opacity (0..1) of every frame."""
    look = draw_look(about.colour, about.accent, about.style, Draws(seed, about.index, "look"))
    draws = Draws(seed, about.index, "scene")
    character = KINDS[about.kind](look)
    prop_side = draws.side()
    poses = pose_all(seed, about.index, about.motion, about.num_frames)
    if about.prop is not None and PROPS[about.prop].place == "hand":
        for pose in poses:
            _raise_hand(pose, prop_side)
    line_width = draws.uniform(4.5, 7.5) if about.style == "outline" else 0.0
    border_width = draws.uniform(9, 14) if about.border else 0.0
    margin = line_width + border_width + 2
    camera = frame_camera(character, poses, about.prop, prop_side, margin, draws)
    colours = _effect_colours(about, draws)
    frames = []
    for pose in poses:
        painter = Painter(look.ink, about.style, line_width, border_width)
        frame = Frame(
            p=painter,
            pose=pose,
            expression=about.expression,
            prop=about.prop,
            prop_side=prop_side,
            accent=COLOURS[about.accent],
            effect_colours=colours,
        )
        with painter.group(camera.x, camera.y, scale_x=camera.scale):
            if about.shadow:
                draw_shadow(painter, character, pose)
            character.paint(frame)
            draw_stage_effects(frame, character)
        frames.append((painter.shapes(), pose.opacity * character.opacity))
    return frames


def _raise_hand(pose: Pose, side: int) -> None:
    """A held thing is lifted into view."""
    if side > 0:
        pose.right_arm = max(pose.right_arm, 72.0)
    else:
        pose.left_arm = max(pose.left_arm, 72.0)


def _effect_colours(about: Attributes, draws: Draws) -> tuple[Colour, ...]:
    names = [about.accent, *draws.sample(_CONFETTI, len(_CONFETTI))]
    return tuple(COLOURS[name] for name in names)
