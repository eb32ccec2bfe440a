"""Birds with a beak on an egg-shaped body, and a frog."""

from __future__ import annotations

from rdtf.synthetic.characters import shapes as s
from rdtf.synthetic.characters.animal import Animal
from rdtf.synthetic.characters.character import Character
from rdtf.synthetic.characters.faces import Face
from rdtf.synthetic.characters.look import Look
from rdtf.synthetic.characters.painter import Glow, Painter
from rdtf.synthetic.characters.palette import BEAK, NIGHT, Colour, mix
from rdtf.synthetic.characters.pose import Pose
from rdtf.synthetic.characters.props import Spot

_DOWN: Colour = (0.98, 0.98, 0.97)
"""White plumage."""


class Frog(Animal):
    colours = ("green", "lime", "teal", "mint")
    ear_height = 18
    head_size = (112.0, 76.0)

    def __init__(self, look: Look) -> None:
        super().__init__(look)
        self.face = Face(
            0,
            self.head_centre,
            0.8 * self.head_x,
            mouth_drop=0.75,
            eye_lift=0.62,
            eye_spread=0.58,
            pale_eyes=True,
        )
        self.hat = Spot(0, self.hat.y + 2, 0.5 * self.hat.width)

    def skull(self) -> str:
        x = self.face.eye_spread * self.face.width * self.look.eye_gap
        size = 36 * (0.6 + 0.4 * self.look.eye_size)
        bumps = s.mirrored(lambda side: s.ellipse(side * x, self.eye_height, size))
        return s.join(super().skull(), bumps)


class Bird(Animal):
    """An egg-shaped body without a head of its own, flippers and a beak."""

    wide = 104.0
    tall = 230.0
    crest_height = 18.0
    """How far a tuft stands above the body."""
    face_height = 0.64
    beak_drop = 0.25

    def __init__(self, look: Look) -> None:
        super().__init__(look)
        self.w, self.h = self.wide * look.width, self.tall * look.head
        self.half_width, self.height = self.w + 22, self.h + self.crest_height
        self.face = Face(
            0, -self.face_height * self.h, 0.72 * self.w, beak=True, mouth_drop=self.beak_drop
        )
        self.hat = Spot(0, -0.93 * self.h, 0.62 * self.w)
        self.neck = Spot(0, -0.34 * self.h, 0.98 * self.w)
        self.shoulder = (0.9 * self.w, -0.42 * self.h)
        self.arm_length, self.arm_width = 44, 38
        self.head_pivot = -0.3 * self.h
        self.foot, self.foot_size, self.hip = (34, -7), (22, 9), -34
        self.foot_colour = BEAK

    @property
    def clearance(self) -> float:
        return self.half_width + 4

    def blob(self, *points: s.Point, tension: float = 0.19) -> str:
        """Right half of an outline, in half widths and heights of the body."""
        return s.blob(s.scaled(points, self.w, self.h), tension)

    def head(self, p: Painter, pose: Pose) -> None:
        """Part of the torso; the face moves alone."""

    def glow(self) -> Glow:
        return Glow(0, -0.55 * self.h, 0.6 * self.h)


class Penguin(Bird):
    colours = ("black", "navy", "blue", "gray")
    wide, tall, crest_height = 96.0, 262.0, 0.0
    face_height, beak_drop = 0.7, 0.26

    def __init__(self, look: Look) -> None:
        super().__init__(look)
        face, ink = self.face, mix(NIGHT, look.ink, 0.4)
        self.face = Face(0, face.y, face.width, beak=True, mouth_drop=face.mouth_drop, ink=ink)
        self.hat = Spot(0, -0.95 * self.h, 0.62 * self.w)
        self.neck = Spot(0, -0.47 * self.h, 0.92 * self.w)
        self.shoulder = (0.84 * self.w, -0.5 * self.h)
        self.arm_length, self.arm_width = 62, 30
        self.foot, self.foot_size, self.hip = (40, -9), (31, 13), None

    def torso(self, p: Painter, pose: Pose) -> None:
        h, w = self.h, self.w
        body = self.blob((0, -1), (0.6, -0.93), (0.86, -0.64), (1, -0.3), (0.78, -0.07), (0, -0.02))
        p.fill(body, self.look.base, glow=self.glow())
        if not pose.from_behind:
            p.fill(s.ellipse(0, -0.29 * h, 0.68 * w, 0.26 * h), _DOWN, outline=False)

    def markings(self, p: Painter, pose: Pose) -> None:
        w, y = self.face.width, self.eye_height
        rounds = s.mirrored(lambda side: s.ellipse(side * 0.4 * w, y, 0.5 * w))
        chin = s.ellipse(0, y + 0.34 * w, 0.66 * w, 0.42 * w)
        p.fill(s.join(rounds, chin), _DOWN, outline=False)


class Chick(Bird):
    colours = ("yellow", "orange", "white", "brown")

    def torso(self, p: Painter, pose: Pose) -> None:
        h, w = self.h, self.w
        p.fill(
            s.join(s.ellipse(-10, -h - 6, 8, 20, -28), s.ellipse(8, -h - 8, 8, 22, 14)),
            self.look.base,
        )
        body = self.blob((0, -1), (0.66, -0.9), (1, -0.52), (0.86, -0.22), (0.4, -0.1), (0, -0.08))
        p.fill(body, self.look.base, glow=self.glow())
        if self.look.belly and not pose.from_behind:
            p.fill(s.ellipse(0, -0.26 * h, 0.56 * w, 0.17 * h), self.look.light, outline=False)


class Owl(Bird):
    colours = ("brown", "purple", "gray", "beige", "white")
    crest_height, beak_drop = 26.0, 0.3
    _TUFT = ((0.25, -0.9), (0.74, -1.1), (0.84, -0.7))

    def __init__(self, look: Look) -> None:
        super().__init__(look)
        face, ink = self.face, mix(NIGHT, look.ink, 0.4)
        self.face = Face(
            0,
            face.y,
            face.width,
            beak=True,
            mouth_drop=0.3,
            eye_spread=0.48,
            pale_eyes=True,
            ink=ink,
        )

    def torso(self, p: Painter, pose: Pose) -> None:
        h, w = self.h, self.w
        body = self.blob((0, -0.97), (0.7, -0.9), (1, -0.52), (0.88, -0.2), (0.4, -0.1), (0, -0.08))
        tufts = s.both_sides(s.scaled(self._TUFT, w, h), 0.05)
        p.fill(s.join(body, tufts), self.look.base, glow=self.glow())
        if not pose.from_behind:
            p.fill(s.ellipse(0, -0.26 * h, 0.6 * w, 0.18 * h), self.look.light, outline=False)
            spots = ((-0.22, -0.3), (0.22, -0.3), (0, -0.22))
            feathers = s.join(*(s.arc(x * w, y * h, 0.2 * w, 10) for x, y in spots))
            p.line(feathers, self.look.shade, 6, outline=False)

    def markings(self, p: Painter, pose: Pose) -> None:
        w = self.face.width
        discs = s.mirrored(lambda side: s.ellipse(side * 0.46 * w, self.eye_height, 0.46 * w))
        p.fill(discs, self.look.light, outline=False)


BIRDS: dict[str, type[Character]] = {
    "frog": Frog,
    "penguin": Penguin,
    "chick": Chick,
    "owl": Owl,
}
