"""What animals share: a big head on a small body, with room for ears, muzzle and tail."""

from __future__ import annotations

from rdtf.synthetic.characters import shapes as s
from rdtf.synthetic.characters.character import Character
from rdtf.synthetic.characters.faces import Face
from rdtf.synthetic.characters.look import Look
from rdtf.synthetic.characters.painter import Glow, Painter
from rdtf.synthetic.characters.palette import Colour
from rdtf.synthetic.characters.pose import Pose
from rdtf.synthetic.characters.props import Spot


class Animal(Character):
    """A four-limbed animal standing upright. Subclasses override the parts they differ in."""

    head_size = (104.0, 86.0)
    nose = ""
    ear_height = 30.0
    """How far the ears stand above the head, for the camera."""

    def __init__(self, look: Look) -> None:
        super().__init__(look)
        self.head_x = self.head_size[0] * look.head * (0.5 + 0.5 * look.width)
        self.head_y = self.head_size[1] * look.head
        self.head_centre = -128.0 - 0.72 * self.head_y
        self.body_width = 64 * look.width
        self.half_width = max(self.head_x, self.body_width + 34)
        top = self.head_centre - self.head_y
        self.height = -top + self.ear_height * look.ears
        self.face = Face(
            0, self.head_centre + 0.1 * self.head_y, 0.78 * self.head_x, nose=self.nose
        )
        self.hat = Spot(0, top + 0.1 * self.head_y, 0.74 * self.head_x)
        self.neck = Spot(0, -114, 0.86 * self.body_width)
        self.shoulder = (self.body_width - 12, -96)
        self.arm_length, self.arm_width = 58, 33
        self.foot = (0.55 * self.body_width, -13)
        self.foot_size = (0.47 * self.body_width, 17)

    @property
    def clearance(self) -> float:
        return self.head_x + 24

    def torso(self, p: Painter, pose: Pose) -> None:
        p.fill(self.trunk(), self.look.base, glow=Glow(0, -70, 78))
        if self.look.belly and not pose.from_behind:
            p.fill(s.ellipse(0, -58, 0.6 * self.body_width, 44), self.belly_colour, outline=False)

    def trunk(self) -> str:
        outline = ((0, -132), (0.62, -122), (0.95, -70), (0.92, -26), (0.5, -6), (0, -4))
        return s.blob(s.scaled(outline, self.body_width))

    @property
    def belly_colour(self) -> Colour:
        return self.look.light

    def head(self, p: Painter, pose: Pose) -> None:
        self.ears(p, pose)
        p.fill(self.skull(), self.look.base, glow=Glow(0, self.head_centre, self.head_x))
        self.crest(p, pose)

    def skull(self) -> str:
        return s.ellipse(0, self.head_centre, self.head_x, self.head_y)

    def ears(self, p: Painter, pose: Pose) -> None:
        """Behind the head."""

    def crest(self, p: Painter, pose: Pose) -> None:
        """On the head, also seen from behind."""

    def markings(self, p: Painter, pose: Pose) -> None:
        self.muzzle(p)

    def muzzle(self, p: Painter) -> None:
        """Light patch around the mouth."""

    @property
    def mouth_spot(self) -> tuple[float, float]:
        face = self.face
        return face.x, face.y + (self.look.eye_height + face.mouth_drop) * face.width

    def pointed_ears(
        self, p: Painter, flop: float, spread: float, height: float, inner: Colour
    ) -> None:
        """Triangles at both sides of the head."""
        x, y = 0.62 * self.head_x, self.head_centre - 0.66 * self.head_y
        h = height * self.look.ears
        outside = s.scaled(((-0.62, 22), (-0.08, -h), (0.06, -h), (0.62, 22)), spread)
        inside = s.scaled(((-0.34, 12), (0.0, -0.66 * h), (0.34, 12)), spread)
        for side in (-1, 1):
            with p.group(side * x, y, rotation=side * (20 + flop)):
                p.fill(s.smooth(outside, True, 0.07), self.look.base)
                p.fill(s.smooth(inside, True, 0.07), inner, outline=False)

    def round_ears(
        self, p: Painter, flop: float, radius: float, outer: Colour, inner: Colour
    ) -> None:
        x, y = 0.72 * self.head_x, self.head_centre - 0.7 * self.head_y
        r = radius * self.look.ears
        y += 0.25 * abs(flop)
        p.fill(s.mirrored(lambda side: s.ellipse(side * x, y, r)), outer)
        p.fill(s.mirrored(lambda side: s.ellipse(side * x, y, 0.55 * r)), inner, outline=False)

    def curved_tail(
        self, p: Painter, pose: Pose, colour: Colour, width: float, reach: float
    ) -> None:
        curve = ((30, -26), (0.8 * reach, -28), (reach, -74), (0.86 * reach, -108))
        with p.group(rotation=pose.tail, pivot=(40, -30)):
            p.line(s.smooth(s.scaled(curve), False), colour, width)
