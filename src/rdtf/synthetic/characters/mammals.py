"""Cats, dogs and other mammals, told apart by ears, muzzle, tail and markings."""

from __future__ import annotations

from rdtf.synthetic.characters import shapes as s
from rdtf.synthetic.characters.animal import Animal
from rdtf.synthetic.characters.character import Character
from rdtf.synthetic.characters.faces import Face
from rdtf.synthetic.characters.look import Look
from rdtf.synthetic.characters.painter import Glow, Painter
from rdtf.synthetic.characters.palette import (
    BLUSH,
    NIGHT,
    Colour,
    deepen,
    from_hex,
    is_dark,
    mix,
    tint,
)
from rdtf.synthetic.characters.pose import Pose
from rdtf.synthetic.characters.props import Spot


class Cat(Animal):
    colours = ("orange", "gray", "black", "white", "beige", "brown")
    nose = "cat"
    ear_height = 34

    def behind(self, p: Painter, pose: Pose) -> None:
        self.curved_tail(p, pose, self.look.limb, 24, 112)

    def ears(self, p: Painter, pose: Pose) -> None:
        self.pointed_ears(p, pose.ears, 62, 62, mix(self.look.light, BLUSH, 0.5))

    def crest(self, p: Painter, pose: Pose) -> None:
        if self.look.markings == 1:
            top = self.head_centre - self.head_y
            stripes = [
                s.limb((x, top + 8 + abs(x) * 0.2), (0.9 * x, top + 34 - 0.2 * abs(x)), 0)
                for x in (-26, 0, 26)
            ]
            p.line(s.join(*stripes), self.look.shade, 10, outline=False)

    def muzzle(self, p: Painter) -> None:
        x, y = self.mouth_spot
        w = self.face.width
        if self.look.markings == 2:
            p.fill(s.ellipse(x, y + 0.02 * w, 0.36 * w, 0.24 * w), self.look.light, outline=False)
        whiskers = [
            s.limb((side * 0.82 * w, y + dy * w), (side * 1.22 * w, y + 1.9 * dy * w), 0)
            for side in (-1, 1)
            for dy in (-0.07, 0.07)
        ]
        p.line(s.join(*whiskers), self.look.eye_ink, 3.5, outline=False, opacity=0.7)


class Dog(Animal):
    colours = ("brown", "beige", "white", "orange", "gray", "black")
    nose = "dog"
    ear_height = 6

    def behind(self, p: Painter, pose: Pose) -> None:
        with p.group(rotation=pose.tail, pivot=(46, -40)):
            p.line(s.limb((44, -38), (96, -82), -12), self.look.limb, 25)

    def crest(self, p: Painter, pose: Pose) -> None:
        x, y = 0.84 * self.head_x, self.head_centre - 0.55 * self.head_y
        h = 84 * self.look.ears
        for side in (-1, 1):
            with p.group(side * x, y, rotation=-side * (16 + 1.2 * pose.ears)):
                p.fill(s.ellipse(0, 0.42 * h, 25, 0.56 * h), deepen(self.look.base))

    def muzzle(self, p: Painter) -> None:
        x, y = self.mouth_spot
        w = self.face.width
        if self.look.markings:
            side = 1 if self.look.markings == 1 else -1
            patch = self.look.light if is_dark(self.look.base) else tint(self.look.base, 0.4)
            spot = (side * 0.45 * w, self.eye_height)
            p.fill(s.ellipse(*spot, 0.34 * w, 0.4 * w, side * 14), patch, outline=False)
        p.fill(s.ellipse(x, y + 0.02 * w, 0.44 * w, 0.31 * w), self.look.light, outline=False)


class Bear(Animal):
    colours = ("brown", "beige", "white", "black")
    nose = "dog"
    ear_height = 14

    def behind(self, p: Painter, pose: Pose) -> None:
        if pose.from_behind:
            p.fill(s.ellipse(0, -30, 20), self.look.limb)

    def ears(self, p: Painter, pose: Pose) -> None:
        self.round_ears(p, pose.ears, 34, self.look.base, self.look.light)

    def muzzle(self, p: Painter) -> None:
        x, y = self.mouth_spot
        w = self.face.width
        p.fill(s.ellipse(x, y, 0.38 * w, 0.28 * w), self.look.light, outline=False)


class Bunny(Animal):
    colours = ("white", "pink", "gray", "beige", "brown")
    nose = "cat"
    ear_height = 88
    head_size = (100.0, 84.0)

    def __init__(self, look: Look) -> None:
        super().__init__(look)
        self.hat = Spot(0, self.hat.y + 4, 0.66 * self.hat.width)

    def behind(self, p: Painter, pose: Pose) -> None:
        if pose.from_behind:
            p.fill(s.ellipse(0, -34, 25), tint(self.look.base, 0.5))

    def ears(self, p: Painter, pose: Pose) -> None:
        h = 58 * self.look.ears
        y = self.head_centre - 0.8 * self.head_y
        inner = mix(self.look.light, BLUSH, 0.55)
        for side in (-1, 1):
            with p.group(side * 0.4 * self.head_x, y, rotation=side * (9 + 1.6 * pose.ears)):
                p.fill(s.ellipse(0, -0.7 * h, 26, h), self.look.base)
                p.fill(s.ellipse(0, -0.7 * h, 13, 0.72 * h), inner, outline=False)


class Fox(Animal):
    colours = ("orange", "red", "white", "gray")
    nose = "dog"
    ear_height = 36
    _TAIL = ((30, -20), (82, -22), (124, -66), (112, -122), (84, -92), (56, -70))
    _TIP = ((118, -84), (122, -112), (112, -122), (94, -104), (104, -90))
    _MASK = ((0, 0.2), (0.34, 0.2), (0.98, 0.12), (0.86, 0.52), (0.4, 0.8), (0, 0.88))

    @property
    def belly_colour(self) -> Colour:
        return tint(self.look.base, 0.86)

    def behind(self, p: Painter, pose: Pose) -> None:
        with p.group(rotation=pose.tail, pivot=(36, -26)):
            p.fill(s.smooth(self._TAIL), self.look.limb)
            p.fill(s.smooth(self._TIP), self.belly_colour, outline=False)

    def ears(self, p: Painter, pose: Pose) -> None:
        self.pointed_ears(p, pose.ears, 66, 66, mix(self.look.base, NIGHT, 0.7))

    def markings(self, p: Painter, pose: Pose) -> None:
        w = self.face.width
        with p.group(self.face.x, self.face.y + 0.1 * w):
            p.fill(s.blob(s.scaled(self._MASK, w, w), 0.16), self.belly_colour, outline=False)


class Pig(Animal):
    colours = ("pink", "coral", "beige", "white")
    nose = "pig"
    ear_height = 12
    _CURL = ((52, -44), (76, -50), (84, -66), (70, -70), (72, -54), (94, -52))

    def behind(self, p: Painter, pose: Pose) -> None:
        with p.group(rotation=pose.tail, pivot=(56, -46)):
            p.line(s.smooth(self._CURL, False), self.look.limb, 9)

    def ears(self, p: Painter, pose: Pose) -> None:
        x, y = 0.64 * self.head_x, self.head_centre - 0.78 * self.head_y
        h = 34 * self.look.ears
        ear = s.smooth(s.scaled(((-27, 24), (-16, -h), (22, -0.5 * h), (27, 24))), True, 0.12)
        for side in (-1, 1):
            with p.group(side * x, y, rotation=side * (36 + pose.ears)):
                p.fill(ear, self.look.shade)


class Mouse(Animal):
    colours = ("gray", "white", "brown", "beige")
    nose = "cat"
    ear_height = 36
    head_size = (94.0, 80.0)

    def __init__(self, look: Look) -> None:
        super().__init__(look)
        self.half_width = max(self.half_width, 0.72 * self.head_x + 50 * look.ears)

    def behind(self, p: Painter, pose: Pose) -> None:
        self.curved_tail(p, pose, mix(self.look.light, BLUSH, 0.6), 10, 124)

    def ears(self, p: Painter, pose: Pose) -> None:
        self.round_ears(p, pose.ears, 50, self.look.base, mix(self.look.light, BLUSH, 0.5))


class Panda(Animal):
    """White, with patches in its colour."""

    colours = ("black", "brown", "navy", "pink")
    nose = "dog"
    ear_height = 14
    _FUR: Colour = (0.985, 0.975, 0.96)
    _BAND = ((0, -126), (0.6, -119), (0.84, -92), (0.4, -82), (0, -80))

    def __init__(self, look: Look) -> None:
        super().__init__(look)
        ink = mix(NIGHT, look.ink, 0.4)
        self.face = Face(0, self.face.y, self.face.width, nose="dog", ink=ink, pale_eyes=True)

    def torso(self, p: Painter, pose: Pose) -> None:
        p.fill(self.trunk(), self._FUR, glow=Glow(0, -70, 78))
        p.fill(s.blob(s.scaled(self._BAND, self.body_width)), self.look.base, outline=False)

    def ears(self, p: Painter, pose: Pose) -> None:
        self.round_ears(p, pose.ears, 35, self.look.base, self.look.shade)

    def head(self, p: Painter, pose: Pose) -> None:
        self.ears(p, pose)
        p.fill(self.skull(), self._FUR, glow=Glow(0, self.head_centre, self.head_x))

    def markings(self, p: Painter, pose: Pose) -> None:
        w, y = self.face.width, self.eye_height
        x = (self.face.eye_spread * self.look.eye_gap + 0.05) * w

        def patch(side: int) -> str:
            return s.ellipse(side * x, y + 0.05 * w, 0.27 * w, 0.34 * w, side * 28)

        p.fill(s.mirrored(patch), self.look.base, outline=False)


class Lion(Animal):
    colours = ("yellow", "orange", "beige")
    nose = "dog"
    ear_height = 34

    def __init__(self, look: Look) -> None:
        super().__init__(look)
        self.half_width = max(self.half_width, self.head_x + 24)
        self.mane = deepen(mix(look.base, from_hex("#ff9a2e"), 0.3))

    @property
    def clearance(self) -> float:
        return self.half_width + 18

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
        w = self.face.width
        p.fill(s.ellipse(x, y + 2, 0.36 * w, 0.26 * w), self.look.light, outline=False)


MAMMALS: dict[str, type[Character]] = {
    "cat": Cat,
    "dog": Dog,
    "bear": Bear,
    "bunny": Bunny,
    "fox": Fox,
    "pig": Pig,
    "mouse": Mouse,
    "panda": Panda,
    "lion": Lion,
}
