"""Animals: a big head on a small body, told apart by ears, muzzle, tail and markings."""

from __future__ import annotations

from rdtf.data.synthetic import shapes as s
from rdtf.data.synthetic.character import Character
from rdtf.data.synthetic.faces import Face
from rdtf.data.synthetic.look import Look
from rdtf.data.synthetic.painter import Glow, Painter
from rdtf.data.synthetic.palette import (
    BEAK,
    BLUSH,
    NIGHT,
    WHITE,
    Colour,
    is_dark,
    luminance,
    mix,
    shade,
    tint,
)
from rdtf.data.synthetic.pose import Pose
from rdtf.data.synthetic.props import Spot


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
        self.face = Face(0, self.head_centre + 0.1 * self.head_y, 0.78 * self.head_x, nose=self.nose)
        self.hat = Spot(0, top + 0.1 * self.head_y, 0.74 * self.head_x)
        self.neck = Spot(0, -114, 0.86 * self.body_width)
        self.shoulder = (self.body_width - 12, -96)
        self.arm_length, self.arm_width = 58, 33
        self.foot = (0.55 * self.body_width, -13)
        self.foot_size = (0.47 * self.body_width, 17)

    def torso(self, p: Painter, pose: Pose) -> None:
        w = self.body_width
        body = s.blob(((0, -132), (0.62 * w, -122), (0.95 * w, -70), (0.92 * w, -26), (0.5 * w, -6), (0, -4)))
        p.fill(body, self.look.base, glow=Glow(0, -70, 78))
        if self.look.belly and not pose.from_behind:
            p.fill(s.ellipse(0, -58, 0.6 * w, 44), self.belly_colour, outline=False)

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

    def pointed_ears(self, p: Painter, flop: float, spread: float, height: float, inner: Colour) -> None:
        """Triangles at both sides of the head."""
        x, y = 0.62 * self.head_x, self.head_centre - 0.66 * self.head_y
        h = height * self.look.ears
        for side in (-1, 1):
            with p.group(side * x, y, rotation=side * (20 + flop)):
                outer = ((-0.62 * spread, 22), (-0.08 * spread, -h), (0.06 * spread, -h), (0.62 * spread, 22))
                p.fill(s.smooth(tuple((round(u, 1), round(v, 1)) for u, v in outer), True, 0.07), self.look.base)
                inside = ((-0.34 * spread, 12), (0.0, -0.66 * h), (0.34 * spread, 12))
                p.fill(s.smooth(tuple((round(u, 1), round(v, 1)) for u, v in inside), True, 0.07), inner, outline=False)

    def round_ears(self, p: Painter, flop: float, radius: float, outer: Colour, inner: Colour) -> None:
        x, y, r = 0.72 * self.head_x, self.head_centre - 0.7 * self.head_y, radius * self.look.ears
        y += 0.25 * abs(flop)
        p.fill(s.mirrored(lambda side: s.ellipse(side * x, y, r)), outer)
        p.fill(s.mirrored(lambda side: s.ellipse(side * x, y, 0.55 * r)), inner, outline=False)

    def curved_tail(self, p: Painter, pose: Pose, colour: Colour, width: float, reach: float) -> None:
        with p.group(rotation=pose.tail, pivot=(40, -30)):
            tail = s.smooth(((30.0, -26.0), (round(0.8 * reach, 1), -28.0), (round(reach, 1), -74.0), (round(0.86 * reach, 1), -108.0)), False, 0.2)
            p.line(tail, colour, width)


class Cat(Animal):
    colours = {"orange": 5, "gray": 4, "black": 3, "white": 3, "beige": 3, "brown": 2}
    nose = "cat"
    ear_height = 34

    def behind(self, p: Painter, pose: Pose) -> None:
        self.curved_tail(p, pose, self.look.limb, 24, 112)

    def ears(self, p: Painter, pose: Pose) -> None:
        self.pointed_ears(p, pose.ears, 62, 62, mix(self.look.light, BLUSH, 0.5))

    def crest(self, p: Painter, pose: Pose) -> None:
        if self.look.markings == 1:
            top = self.head_centre - self.head_y
            stripes = s.join(*(s.limb((x, top + 8 + abs(x) * 0.2), (0.9 * x, top + 34 - 0.2 * abs(x)), 0) for x in (-26, 0, 26)))
            p.line(stripes, self.look.shade, 10, outline=False)

    def muzzle(self, p: Painter) -> None:
        x, y = self.mouth_spot
        w = self.face.width
        if self.look.markings == 2:
            p.fill(s.ellipse(x, y + 0.02 * w, 0.36 * w, 0.24 * w), self.look.light, outline=False)
        whiskers = s.join(*(s.limb((side * 0.82 * w, y + dy * w), (side * 1.22 * w, y + 1.9 * dy * w), 0) for side in (-1, 1) for dy in (-0.07, 0.07)))
        p.line(whiskers, self.look.eye_ink, 3.5, outline=False, opacity=0.7)


class Dog(Animal):
    colours = {"brown": 5, "beige": 4, "white": 3, "orange": 2, "gray": 2, "black": 2}
    nose = "dog"
    ear_height = 6

    def behind(self, p: Painter, pose: Pose) -> None:
        with p.group(rotation=pose.tail, pivot=(46, -40)):
            p.line(s.limb((44, -38), (96, -82), -12), self.look.limb, 25)

    def crest(self, p: Painter, pose: Pose) -> None:
        ear = mix(self.look.shade, NIGHT, 0.3)
        x, y = 0.84 * self.head_x, self.head_centre - 0.55 * self.head_y
        h = 84 * self.look.ears
        for side in (-1, 1):
            with p.group(side * x, y, rotation=-side * (16 + 1.2 * pose.ears)):
                p.fill(s.ellipse(0, 0.42 * h, 25, 0.56 * h), ear)

    def muzzle(self, p: Painter) -> None:
        x, y = self.mouth_spot
        w = self.face.width
        if self.look.markings:
            side = 1 if self.look.markings == 1 else -1
            eye = (side * 0.45 * w, self.face.y + self.look.eye_height * w)
            p.fill(s.ellipse(*eye, 0.34 * w, 0.4 * w, side * 14), self.look.light if is_dark(self.look.base) else tint(self.look.base, 0.4), outline=False)
        p.fill(s.ellipse(x, y + 0.02 * w, 0.44 * w, 0.31 * w), self.look.light, outline=False)


class Bear(Animal):
    colours = {"brown": 6, "beige": 3, "white": 2, "black": 1}
    nose = "dog"
    ear_height = 14

    def behind(self, p: Painter, pose: Pose) -> None:
        if pose.from_behind:
            p.fill(s.ellipse(0, -30, 20), self.look.limb)

    def ears(self, p: Painter, pose: Pose) -> None:
        self.round_ears(p, pose.ears, 34, self.look.base, self.look.light)

    def muzzle(self, p: Painter) -> None:
        x, y = self.mouth_spot
        p.fill(s.ellipse(x, y, 0.38 * self.face.width, 0.28 * self.face.width), self.look.light, outline=False)


class Bunny(Animal):
    colours = {"white": 6, "pink": 3, "gray": 3, "beige": 2, "brown": 2}
    nose = "cat"
    ear_height = 92
    head_size = (96.0, 82.0)

    def behind(self, p: Painter, pose: Pose) -> None:
        if pose.from_behind:
            p.fill(s.ellipse(0, -34, 25), tint(self.look.base, 0.5))

    def ears(self, p: Painter, pose: Pose) -> None:
        h = 62 * self.look.ears
        y = self.head_centre - 0.8 * self.head_y
        for side in (-1, 1):
            with p.group(side * 0.4 * self.head_x, y, rotation=side * (9 + 1.6 * pose.ears)):
                p.fill(s.ellipse(0, -0.7 * h, 25, h), self.look.base)
                p.fill(s.ellipse(0, -0.7 * h, 12, 0.72 * h), mix(self.look.light, BLUSH, 0.55), outline=False)

    def __init__(self, look: Look) -> None:
        super().__init__(look)
        self.hat = Spot(0, self.hat.y + 4, 0.66 * self.hat.width)


class Fox(Animal):
    colours = {"orange": 7, "red": 3, "white": 2, "gray": 1}
    nose = "dog"
    ear_height = 36

    def behind(self, p: Painter, pose: Pose) -> None:
        with p.group(rotation=pose.tail, pivot=(36, -26)):
            p.fill(s.smooth(((30, -20), (82, -22), (124, -66), (112, -122), (84, -92), (56, -70))), self.look.limb)
            p.fill(s.smooth(((118, -84), (122, -112), (112, -122), (94, -104), (104, -90))), tint(self.look.base, 0.85), outline=False)

    def ears(self, p: Painter, pose: Pose) -> None:
        self.pointed_ears(p, pose.ears, 66, 66, mix(self.look.base, NIGHT, 0.7))

    def markings(self, p: Painter, pose: Pose) -> None:
        w, x, y = self.face.width, self.face.x, self.face.y + 0.1 * self.face.width
        mask = s.mirrored(lambda side: s.smooth(tuple((round(x + side * u * w, 1), round(y + v * w, 1)) for u, v in ((0, 0.12), (0.34, 0.2), (0.98, 0.12), (0.86, 0.52), (0.4, 0.8), (0, 0.86))), True, 0.16))
        p.fill(mask, tint(self.look.base, 0.86), outline=False)

    @property
    def belly_colour(self) -> Colour:
        return tint(self.look.base, 0.86)


class Pig(Animal):
    colours = {"pink": 7, "coral": 2, "beige": 1, "white": 1}
    nose = "pig"
    ear_height = 12

    def behind(self, p: Painter, pose: Pose) -> None:
        with p.group(rotation=pose.tail, pivot=(56, -46)):
            curl = s.smooth(((52, -44), (76, -50), (84, -66), (70, -70), (72, -54), (94, -52)), False, 0.2)
            p.line(curl, self.look.limb, 9)

    def ears(self, p: Painter, pose: Pose) -> None:
        x, y, h = 0.64 * self.head_x, self.head_centre - 0.78 * self.head_y, 34 * self.look.ears
        for side in (-1, 1):
            with p.group(side * x, y, rotation=side * (36 + pose.ears)):
                p.fill(s.smooth(((-27, 24), (-16, round(-h, 1)), (22, round(-0.5 * h, 1)), (27, 24)), True, 0.12), self.look.shade)


class Mouse(Animal):
    colours = {"gray": 6, "white": 3, "brown": 2, "beige": 2}
    nose = "cat"
    ear_height = 36
    head_size = (94.0, 80.0)

    def behind(self, p: Painter, pose: Pose) -> None:
        self.curved_tail(p, pose, mix(self.look.light, BLUSH, 0.6), 10, 124)

    def ears(self, p: Painter, pose: Pose) -> None:
        self.round_ears(p, pose.ears, 50, self.look.base, mix(self.look.light, BLUSH, 0.5))

    def __init__(self, look: Look) -> None:
        super().__init__(look)
        self.half_width = max(self.half_width, 0.72 * self.head_x + 50 * look.ears)


class Panda(Animal):
    """White, with patches in its colour."""

    colours = {"black": 8, "brown": 2, "navy": 1, "pink": 1}
    nose = "dog"
    ear_height = 14

    def __init__(self, look: Look) -> None:
        super().__init__(look)
        eye_dx = self.face.eye_spread
        self.patch = eye_dx * look.eye_gap * self.face.width
        self.face = Face(0, self.face.y, self.face.width, nose="dog", ink=mix(NIGHT, look.ink, 0.4), pale_eyes=True)

    @property
    def fur(self) -> Colour:
        return (0.985, 0.975, 0.96)

    def torso(self, p: Painter, pose: Pose) -> None:
        w = self.body_width
        body = s.blob(((0, -132), (0.62 * w, -122), (0.95 * w, -70), (0.92 * w, -26), (0.5 * w, -6), (0, -4)))
        p.fill(body, self.fur, glow=Glow(0, -70, 78))
        band = s.blob(((0, -126), (0.6 * w, -119), (0.84 * w, -92), (0.4 * w, -82), (0, -80)))
        p.fill(band, self.look.base, outline=False)

    def ears(self, p: Painter, pose: Pose) -> None:
        self.round_ears(p, pose.ears, 35, self.look.base, self.look.shade)

    def head(self, p: Painter, pose: Pose) -> None:
        self.ears(p, pose)
        p.fill(self.skull(), self.fur, glow=Glow(0, self.head_centre, self.head_x))

    def markings(self, p: Painter, pose: Pose) -> None:
        w, y = self.face.width, self.face.y + self.look.eye_height * self.face.width
        patches = s.mirrored(lambda side: s.ellipse(side * (self.patch + 0.05 * w), y + 0.05 * w, 0.27 * w, 0.34 * w, side * 28))
        p.fill(patches, self.look.base, outline=False)


class Lion(Animal):
    colours = {"yellow": 5, "orange": 4, "beige": 3}
    nose = "dog"
    ear_height = 34

    def __init__(self, look: Look) -> None:
        super().__init__(look)
        self.half_width = max(self.half_width, self.head_x + 24)
        self.mane = mix(look.base, (0.6, 0.25, 0.05), 0.5) if luminance(look.base) > 0.3 else shade(look.accent, 0.1)

    def behind(self, p: Painter, pose: Pose) -> None:
        self.curved_tail(p, pose, self.look.limb, 13, 116)
        with p.group(rotation=pose.tail, pivot=(40, -30)):
            p.fill(s.ellipse(98, -112, 17, 20), self.mane)

    def ears(self, p: Painter, pose: Pose) -> None:
        tufts = s.star(0.0, round(self.head_centre, 1), round(1.34 * self.head_x, 1), 14, 0.84)
        with p.group(scale_x=1, scale_y=0.92, pivot=(0, self.head_centre)):
            p.fill(tufts, self.mane)
        self.round_ears(p, pose.ears, 25, self.look.base, self.look.light)

    def muzzle(self, p: Painter) -> None:
        x, y = self.mouth_spot
        p.fill(s.ellipse(x, y + 2, 0.36 * self.face.width, 0.26 * self.face.width), self.look.light, outline=False)


class Frog(Animal):
    colours = {"green": 7, "lime": 4, "teal": 2, "mint": 2}
    ear_height = 18
    head_size = (112.0, 76.0)

    def __init__(self, look: Look) -> None:
        super().__init__(look)
        self.face = Face(0, self.head_centre, 0.8 * self.head_x, mouth_drop=0.75, eye_lift=0.62, eye_spread=0.58, pale_eyes=True)
        self.hat = Spot(0, self.hat.y + 2, 0.5 * self.hat.width)

    def skull(self) -> str:
        x, y = self.face.eye_spread * self.face.width * self.look.eye_gap, self._eye_height()
        bumps = s.mirrored(lambda side: s.ellipse(side * x, y, 36 * (0.6 + 0.4 * self.look.eye_size)))
        return s.join(s.ellipse(0, self.head_centre, self.head_x, self.head_y), bumps)


class Penguin(Animal):
    """One egg-shaped body with a white front, flippers and a beak."""

    colours = {"black": 5, "navy": 5, "blue": 3, "gray": 2}
    ear_height = 0
    places = frozenset({"head", "eyes", "neck", "hand"})

    def __init__(self, look: Look) -> None:
        super().__init__(look)
        self.wide = 96 * look.width
        self.half_width, self.height = self.wide + 26, 262 * look.head
        h = self.height
        self.face = Face(0, -0.7 * h, 0.7 * self.wide, beak=True, mouth_drop=0.26, ink=mix(NIGHT, look.ink, 0.4))
        self.hat = Spot(0, -0.95 * h, 0.62 * self.wide)
        self.neck = Spot(0, -0.47 * h, 0.92 * self.wide)
        self.shoulder, self.arm_length, self.arm_width = (0.84 * self.wide, -0.5 * h), 62, 30
        self.head_pivot = -0.3 * h
        self.foot, self.foot_size = (40, -9), (31, 13)

    def paint_foot(self, p: Painter, x: float, y: float) -> None:
        p.fill(s.ellipse(x, y, *self.foot_size), BEAK)

    def torso(self, p: Painter, pose: Pose) -> None:
        h, w = self.height, self.wide
        body = s.blob(((0, -h), (0.6 * w, -0.93 * h), (0.86 * w, -0.64 * h), (w, -0.3 * h), (0.78 * w, -0.07 * h), (0, -6)), 0.19)
        p.fill(body, self.look.base, glow=Glow(0, -0.55 * h, 0.6 * h))
        if not pose.from_behind:
            p.fill(s.ellipse(0, -0.29 * h, 0.68 * w, 0.26 * h), (0.98, 0.98, 0.97), outline=False)

    def head(self, p: Painter, pose: Pose) -> None:
        """Part of the torso; the face moves alone."""

    def markings(self, p: Painter, pose: Pose) -> None:
        w, y = self.face.width, self._eye_height()
        mask = s.join(s.mirrored(lambda side: s.ellipse(side * 0.4 * w, y, 0.5 * w, 0.5 * w)), s.ellipse(0, y + 0.34 * w, 0.66 * w, 0.42 * w))
        p.fill(mask, (0.98, 0.98, 0.97), outline=False)


class Chick(Animal):
    colours = {"yellow": 8, "orange": 2, "white": 2, "brown": 1}
    ear_height = 18

    def __init__(self, look: Look) -> None:
        super().__init__(look)
        self.wide = 104 * look.width
        self.half_width, self.height = self.wide + 20, 248 * look.head
        h = self.height - 18
        self.body_height = h
        self.face = Face(0, -0.64 * h, 0.72 * self.wide, beak=True, mouth_drop=0.25)
        self.hat = Spot(0, -0.93 * h, 0.62 * self.wide)
        self.neck = Spot(0, -0.34 * h, 0.98 * self.wide)
        self.shoulder, self.arm_length, self.arm_width = (0.9 * self.wide, -0.42 * h), 44, 38
        self.head_pivot = -0.3 * h
        self.foot, self.foot_size, self.hip = (34, -7), (22, 9), -34
        self.toe = BEAK

    def paint_foot(self, p: Painter, x: float, y: float) -> None:
        p.fill(s.ellipse(x, y, *self.foot_size), BEAK)

    def torso(self, p: Painter, pose: Pose) -> None:
        h, w = self.body_height, self.wide
        top = -h
        p.fill(s.join(s.ellipse(-10, top - 6, 8, 20, -28), s.ellipse(8, top - 8, 8, 22, 14)), self.look.base)
        body = s.blob(((0, -h), (0.66 * w, -0.9 * h), (w, -0.52 * h), (0.86 * w, -0.22 * h), (0.4 * w, -22), (0, -18)), 0.19)
        p.fill(body, self.look.base, glow=Glow(0, -0.55 * h, 0.6 * h))
        if self.look.belly and not pose.from_behind:
            p.fill(s.ellipse(0, -0.26 * h, 0.56 * w, 0.18 * h), self.look.light, outline=False)

    def head(self, p: Painter, pose: Pose) -> None:
        """Part of the torso; the face moves alone."""


class Owl(Chick):
    colours = {"brown": 5, "purple": 3, "gray": 3, "beige": 2, "white": 2}
    ear_height = 24

    def __init__(self, look: Look) -> None:
        super().__init__(look)
        self.height = 262 * look.head
        face = self.face
        self.face = Face(0, face.y, face.width, beak=True, mouth_drop=0.3, pale_eyes=True, eye_spread=0.48, ink=mix(NIGHT, look.ink, 0.4))

    def torso(self, p: Painter, pose: Pose) -> None:
        h, w = self.body_height, self.wide
        tufts = s.mirrored(lambda side: s.polygon(((round(side * 0.25 * w, 1), round(-0.92 * h, 1)), (round(side * 0.74 * w, 1), round(-1.1 * h, 1)), (round(side * 0.84 * w, 1), round(-0.72 * h, 1)))))
        body = s.blob(((0, -0.97 * h), (0.7 * w, -0.9 * h), (w, -0.52 * h), (0.88 * w, -0.2 * h), (0.4 * w, -22), (0, -18)), 0.19)
        p.fill(s.join(body, tufts), self.look.base, glow=Glow(0, -0.55 * h, 0.6 * h))
        if not pose.from_behind:
            p.fill(s.ellipse(0, -0.26 * h, 0.6 * w, 0.2 * h), self.look.light, outline=False)
            marks = s.join(*(s.arc(x * w, y * h, 0.2 * w, 10) for x, y in ((-0.22, -0.3), (0.22, -0.3), (0, -0.22))))
            p.line(marks, self.look.shade, 6, outline=False)

    def markings(self, p: Painter, pose: Pose) -> None:
        w, y = self.face.width, self._eye_height()
        p.fill(s.mirrored(lambda side: s.ellipse(side * 0.46 * w, y, 0.46 * w)), self.look.light, outline=False)


ANIMALS: dict[str, type[Character]] = {
    "cat": Cat,
    "dog": Dog,
    "bear": Bear,
    "bunny": Bunny,
    "fox": Fox,
    "pig": Pig,
    "mouse": Mouse,
    "panda": Panda,
    "lion": Lion,
    "frog": Frog,
    "penguin": Penguin,
    "chick": Chick,
    "owl": Owl,
}
