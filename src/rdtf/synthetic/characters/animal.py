"""What animals share: a big head on a small body, with room for ears, muzzle and tail."""

from __future__ import annotations

from rdtf.synthetic.characters import painter as s
from rdtf.synthetic.characters.character import Character
from rdtf.synthetic.characters.details import Spot
from rdtf.synthetic.characters.faces import Face
from rdtf.synthetic.characters.motions import Pose
from rdtf.synthetic.characters.painter import Glow, Painter
from rdtf.synthetic.characters.palette import BEAK, NIGHT, Colour, Look, mix


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
            p.mark(s.ellipse(0, -58, 0.6 * self.body_width, 44), self.belly_colour)

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
                p.mark(s.smooth(inside, True, 0.07), inner)

    def round_ears(
        self, p: Painter, flop: float, radius: float, outer: Colour, inner: Colour
    ) -> None:
        x, y = 0.72 * self.head_x, self.head_centre - 0.7 * self.head_y
        r = radius * self.look.ears
        y += 0.25 * abs(flop)
        p.fill(s.mirrored(lambda side: s.ellipse(side * x, y, r)), outer)
        p.mark(s.mirrored(lambda side: s.ellipse(side * x, y, 0.55 * r)), inner)

    def curved_tail(
        self, p: Painter, pose: Pose, colour: Colour, width: float, reach: float
    ) -> None:
        curve = ((30, -26), (0.8 * reach, -28), (reach, -74), (0.86 * reach, -108))
        with p.group(rotation=pose.tail, pivot=(40, -30)):
            p.line(s.smooth(s.scaled(curve), False), colour, width)


_DOWN: Colour = (0.98, 0.98, 0.97)
"""White plumage."""


class _Frog(Animal):
    colours = ("green", "lime", "teal", "mint")
    ear_height = 18
    head_size = (112.0, 76.0)

    def __init__(self, look: Look) -> None:
        super().__init__(look)
        self.face = Face(0, self.head_centre, 0.8 * self.head_x, mouth_drop=0.75, eye_lift=0.62,
            eye_spread=0.58, pale_eyes=True)  # fmt: skip
        self.hat = Spot(0, self.hat.y + 2, 0.5 * self.hat.width)

    def skull(self) -> str:
        x = self.face.eye_spread * self.face.width * self.look.eye_gap
        size = 36 * (0.6 + 0.4 * self.look.eye_size)
        bumps = s.mirrored(lambda side: s.ellipse(side * x, self.eye_height, size))
        return s.join(super().skull(), bumps)


class _Bird(Animal):
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


class _Penguin(_Bird):
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
            p.mark(s.ellipse(0, -0.29 * h, 0.68 * w, 0.26 * h), _DOWN)

    def markings(self, p: Painter, pose: Pose) -> None:
        w, y = self.face.width, self.eye_height
        rounds = s.mirrored(lambda side: s.ellipse(side * 0.4 * w, y, 0.5 * w))
        chin = s.ellipse(0, y + 0.34 * w, 0.66 * w, 0.42 * w)
        p.mark(s.join(rounds, chin), _DOWN)


class _Chick(_Bird):
    colours = ("yellow", "orange", "white", "brown")

    def torso(self, p: Painter, pose: Pose) -> None:
        h, w = self.h, self.w
        p.fill(s.join(s.ellipse(-10, -h - 6, 8, 20, -28), s.ellipse(8, -h - 8, 8, 22, 14)),
            self.look.base)  # fmt: skip
        body = self.blob((0, -1), (0.66, -0.9), (1, -0.52), (0.86, -0.22), (0.4, -0.1), (0, -0.08))
        p.fill(body, self.look.base, glow=self.glow())
        if self.look.belly and not pose.from_behind:
            p.mark(s.ellipse(0, -0.26 * h, 0.56 * w, 0.17 * h), self.look.light)


class _Owl(_Bird):
    colours = ("brown", "purple", "gray", "beige", "white")
    crest_height, beak_drop = 26.0, 0.3
    _TUFT = ((0.25, -0.9), (0.74, -1.1), (0.84, -0.7))

    def __init__(self, look: Look) -> None:
        super().__init__(look)
        face, ink = self.face, mix(NIGHT, look.ink, 0.4)
        self.face = Face(0, face.y, face.width, beak=True, mouth_drop=0.3, eye_spread=0.48,
            pale_eyes=True, ink=ink)  # fmt: skip

    def torso(self, p: Painter, pose: Pose) -> None:
        h, w = self.h, self.w
        body = self.blob((0, -0.97), (0.7, -0.9), (1, -0.52), (0.88, -0.2), (0.4, -0.1), (0, -0.08))
        tufts = s.both_sides(s.scaled(self._TUFT, w, h), 0.05)
        p.fill(s.join(body, tufts), self.look.base, glow=self.glow())
        if not pose.from_behind:
            p.mark(s.ellipse(0, -0.26 * h, 0.6 * w, 0.18 * h), self.look.light)
            spots = ((-0.22, -0.3), (0.22, -0.3), (0, -0.22))
            feathers = s.join(*(s.arc(x * w, y * h, 0.2 * w, 10) for x, y in spots))
            p.stroke(feathers, self.look.shade, 6)

    def markings(self, p: Painter, pose: Pose) -> None:
        w = self.face.width
        discs = s.mirrored(lambda side: s.ellipse(side * 0.46 * w, self.eye_height, 0.46 * w))
        p.mark(discs, self.look.light)


BIRDS: dict[str, type[Character]] = {"frog": _Frog, "penguin": _Penguin, "chick": _Chick,
    "owl": _Owl}  # fmt: skip
