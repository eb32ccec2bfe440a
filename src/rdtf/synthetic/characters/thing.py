"""What creatures and things share: one body with a face, thin limbs."""

from __future__ import annotations

from rdtf.synthetic.characters import shapes as s
from rdtf.synthetic.characters.character import Character
from rdtf.synthetic.characters.faces import Face
from rdtf.synthetic.characters.look import Look
from rdtf.synthetic.characters.painter import Glow, Painter
from rdtf.synthetic.characters.palette import WHITE
from rdtf.synthetic.characters.pose import Pose
from rdtf.synthetic.characters.props import Spot


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
        p.fill(glint, WHITE, outline=False, opacity=0.55)
