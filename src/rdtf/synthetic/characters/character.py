"""What all characters share: attachment points, limbs, and the order of painting; `Thing` is the
base of those with one body, a face and thin limbs.

A subclass sets the geometry in `__init__` and paints its own torso, head and extras. Units: x
right, y down, the ground at y = 0, about 300 from feet to head.
"""

from __future__ import annotations

import math
from dataclasses import dataclass, field

from rdtf.synthetic.characters import painter as s
from rdtf.synthetic.characters.details import PROPS, Spot, draw_face_effects
from rdtf.synthetic.characters.faces import EXPRESSIONS, Face, draw_face
from rdtf.synthetic.characters.motions import CENTRE, Pose
from rdtf.synthetic.characters.painter import Glow, Painter
from rdtf.synthetic.characters.palette import WHITE, Colour, Look


@dataclass
class Frame:
    """Everything that one frame of one sticker needs besides the character itself."""

    p: Painter
    pose: Pose
    expression: str
    prop: str | None = None
    prop_side: int = 1
    accent: Colour = (1.0, 1.0, 1.0)
    effect_colours: tuple[Colour, ...] = field(default_factory=tuple)


class Character:
    """Base of all kinds. Geometry is set per sticker, because proportions vary."""

    colours: tuple[str, ...] = ()
    """Natural colours, most common first; the other colours stay possible."""
    opacity: float = 1.0
    """Less for what one can see through."""
    places: frozenset[str] = frozenset({"head", "eyes", "neck", "hand"})
    """Where it can wear or hold something."""
    hovers: bool = False
    """Has no feet on the ground."""
    has_feet: bool = True
    torso_turns: bool = True

    half_width: float = 100.0
    height: float = 300.0
    face: Face
    hat: Spot = Spot(0, -290, 60)
    neck: Spot = Spot(0, -110, 60)
    shoulder: tuple[float, float] = (60, -95)
    arm_length: float = 60
    arm_width: float = 30
    foot: tuple[float, float] = (36, -12)
    foot_size: tuple[float, float] = (30, 18)
    hip: float | None = None
    """Height of the hips of stick legs; None for feet right under the body."""
    head_pivot: float = -120.0

    def __init__(self, look: Look) -> None:
        self.look = look
        self.arm_colour = self.foot_colour = look.limb

    # --- what subclasses paint --------------------------------------------------------------------

    def behind(self, p: Painter, pose: Pose) -> None:
        """Tails, wings, flames."""

    def torso(self, p: Painter, pose: Pose) -> None:
        """The body, and for things without a head everything."""

    def head(self, p: Painter, pose: Pose) -> None:
        """The head with ears, without the face."""

    def markings(self, p: Painter, pose: Pose) -> None:
        """On the face side of the head: muzzle, patches. Hidden from behind."""

    # --- painting ---------------------------------------------------------------------------------

    @property
    def middle(self) -> float:
        return -self.height / 2

    @property
    def clearance(self) -> float:
        """How far from the axis raised hands can be seen."""
        return self.half_width + 3

    def paint(self, frame: Frame) -> None:
        """Paint one frame, back to front, moved and squashed as the pose says."""
        p, pose = frame.p, frame.pose
        pivot = (0.0, self.middle if pose.pivot == CENTRE else 0.0)
        wide = pose.scale / math.sqrt(max(0.2, 1 + pose.stretch))
        with (
            p.group(pose.dx, pose.dy, rotation=pose.rotation, pivot=pivot),
            p.group(scale_x=wide, scale_y=pose.scale * (1 + pose.stretch), pivot=pivot),
        ):
            self._paint_layers(frame)

    def _paint_layers(self, frame: Frame) -> None:
        p, pose = frame.p, frame.pose
        back = pose.from_behind
        if not back:
            self.behind(p, pose)
        self._legs(p, pose)
        if not pose.arms_front:
            self._arms(p, pose)
        slim = 1 - 0.14 * abs(math.sin(math.radians(pose.turn)))
        with p.group(scale_x=slim if self.torso_turns else 1.0):
            self.torso(p, pose)
        self._wear(frame, "neck", self.neck)
        with p.group(
            pose.head_dx, pose.head_dy, rotation=pose.head_tilt, pivot=(0, self.head_pivot)
        ):
            with p.group(scale_x=slim):
                self.head(p, pose)
            if not back:
                self._face(frame)
            self._wear(frame, "head", self.hat)
        if back:
            self.behind(p, pose)
        if pose.arms_front:
            self._arms(p, pose)
        self._hold(frame)

    def _face(self, frame: Frame) -> None:
        p, pose, face = frame.p, frame.pose, self.face
        angle = math.radians(pose.turn + pose.head_turn)
        # A turned face slides to the side of a round head and gets narrower.
        slide, narrow = math.sin(angle) * 0.6 * face.width, max(0.35, math.cos(angle))
        with p.group(slide, 0, scale_x=narrow, scale_y=1, pivot=(face.x, face.y)):
            self.markings(p, pose)
            draw_face(p, face, self.look, pose, EXPRESSIONS[frame.expression])
            self._wear(frame, "eyes", Spot(face.x, self.eye_height, face.width))
            draw_face_effects(frame, face)

    @property
    def eye_height(self) -> float:
        """The y of the eyes."""
        return self.face.y + (self.look.eye_height - self.face.eye_lift) * self.face.width

    def _wear(self, frame: Frame, place: str, spot: Spot) -> None:
        if frame.prop is not None and PROPS[frame.prop].place == place:
            PROPS[frame.prop].draw(frame.p, spot, frame.accent)

    # --- limbs ------------------------------------------------------------------------------------

    def hand(self, pose: Pose, side: int) -> tuple[float, float]:
        """Where the left (-1) or right (1) hand is."""
        angle = _arm(pose, side)
        x, y = self.shoulder
        length = self.arm_length * self.look.limbs
        if angle < 0:
            # Across the body, up to the middle however short the arm is: hands must meet.
            reach = min(1.0, -angle / 46)
            return (side * (x + (13 - x) * reach), y + length * (1 - 0.65 * reach))
        squeeze = math.cos(math.radians(pose.turn))
        along = math.radians(angle)
        out, down = x * squeeze + length * math.sin(along), length * math.cos(along)
        # A raised hand goes round the head instead of behind it.
        raised = min(1.0, max(0.0, (angle - 85) / 40))
        out += raised * max(0.0, abs(squeeze) * self.clearance - out)
        return side * out, y + (1 + 0.35 * raised) * down

    def _arms(self, p: Painter, pose: Pose) -> None:
        squeeze = math.cos(math.radians(pose.turn))
        x, y = self.shoulder

        def arm(side: int) -> str:
            bend = side * 0.1 * self.arm_length
            return s.limb((side * x * squeeze, y), self.hand(pose, side), bend)

        p.line(s.mirrored(arm), self.arm_colour, self.arm_width)

    def _legs(self, p: Painter, pose: Pose) -> None:
        if self.hovers or not self.has_feet:
            return
        squeeze = 0.55 + 0.45 * abs(math.cos(math.radians(pose.turn)))
        feet, legs = [], []
        for side, (dx, dy) in ((-1, pose.left_foot), (1, pose.right_foot)):
            foot = (side * self.foot[0] * squeeze + dx, self.foot[1] + dy)
            feet.append(s.ellipse(*foot, *self.foot_size))
            if self.hip is not None:
                hip = (side * 0.8 * self.foot[0] * squeeze, self.hip)
                legs.append(s.limb(hip, foot, 0.12 * abs(dy) * side))
        if legs:
            p.line(s.join(*legs), self.look.limb, 0.62 * self.arm_width)
        p.fill(s.join(*feet), self.foot_colour)

    def _hold(self, frame: Frame) -> None:
        if frame.prop is None or PROPS[frame.prop].place != "hand":
            return
        x, y = self.hand(frame.pose, frame.prop_side)
        side = frame.prop_side
        tilt = 0.3 * (_arm(frame.pose, side) - 70) + 8
        with frame.p.group(x, y, rotation=side * tilt, scale_x=side, scale_y=1):
            PROPS[frame.prop].draw(frame.p, Spot(0, 0, 40), frame.accent)
        frame.p.fill(s.ellipse(x, y, 0.5 * self.arm_width), self.arm_colour)


def _arm(pose: Pose, side: int) -> float:
    return pose.left_arm if side < 0 else pose.right_arm


class Thing(Character):
    """A body `2 * wide` across and `tall` high that stands on thin legs, or hovers.

    `self.w` is half its width and `self.h` its height with this sticker's proportions; heights of
    parts are given from the bottom of the body (0) to its top (1).
    """

    wide = 100.0
    tall = 200.0
    legs = 30.0
    """How far the body is above the ground."""
    face_height = 0.5
    face_width = 0.6
    """Half width of the face, in half widths of the body."""
    hat_width = 0.6
    hat_height = 0.95
    shoulder_height = 0.4
    shoulder_reach = 0.9
    extra_height = 0.0
    """What stands out above the body: stalks, bows, steam."""
    places = frozenset({"head", "eyes", "hand"})

    def __init__(self, look: Look) -> None:
        super().__init__(look)
        self.w, self.h = self.wide * look.width, self.tall * look.head
        if not self.hovers:
            self.legs = self.legs * look.limbs
        self.half_width, self.height = self.w + 26, self.h + self.legs + self.extra_height
        self.face = Face(0, -self.legs - self.face_height * self.h, self.face_width * self.w)
        self.hat = Spot(0, -self.legs - self.hat_height * self.h, self.hat_width * self.w)
        self.shoulder = (self.shoulder_reach * self.w, -self.legs - self.shoulder_height * self.h)
        self.arm_length, self.arm_width = 54, 19
        self.foot, self.foot_size = (0.36 * self.w, -8), (19, 10)
        self.hip = -self.legs - 12
        self.head_pivot = -self.legs
        self.neck = Spot(0, -self.legs - 0.16 * self.h, 0.5 * self.w)

    def torso(self, p: Painter, pose: Pose) -> None:
        with p.group(0, -self.legs):
            self.body(p, pose)

    def head(self, p: Painter, pose: Pose) -> None:
        with p.group(0, -self.legs):
            self.top(p, pose)

    def body(self, p: Painter, pose: Pose) -> None:
        """Paint the body with its bottom at y = 0."""

    def top(self, p: Painter, pose: Pose) -> None:
        """Paint what moves with the face, also with the bottom of the body at y = 0."""

    def blob(self, *points: s.Point, tension: float = 0.2) -> str:
        """Right half of an outline, in half widths and heights of the body."""
        return s.blob(s.scaled(points, self.w, self.h), tension)

    def curve(self, *points: s.Point, tension: float = 0.1) -> str:
        """A closed outline, in half widths and heights of the body."""
        return s.smooth(s.scaled(points, self.w, self.h), True, tension)

    def spots(self, *spots: tuple[float, float, float, float]) -> str:
        """Ellipses at (x, y) in half widths and heights, with radii in units."""
        return s.join(*(s.ellipse(x * self.w, y * self.h, rx, ry) for x, y, rx, ry in spots))

    def glow(self) -> Glow:
        return Glow(0, -0.5 * self.h, 0.62 * max(self.w, 0.5 * self.h))

    def shine(self, p: Painter, x: float, y: float, size: float = 1.0) -> None:
        """The highlight of smooth surfaces."""
        glint = s.ellipse(x * self.w, y * self.h, 9 * size, 17 * size, 32)
        p.mark(glint, WHITE, opacity=0.55)
