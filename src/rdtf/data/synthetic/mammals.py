"""Cats, dogs and other mammals, told apart by ears, muzzle, tail and markings."""

from __future__ import annotations

from rdtf.data.synthetic import shapes as s
from rdtf.data.synthetic.animal import Animal
from rdtf.data.synthetic.character import Character
from rdtf.data.synthetic.faces import Face
from rdtf.data.synthetic.look import Look
from rdtf.data.synthetic.painter import Glow, Painter
from rdtf.data.synthetic.palette import (
    BLUSH,
    NIGHT,
    Colour,
    is_dark,
    luminance,
    mix,
    shade,
    tint,
)
from rdtf.data.synthetic.pose import Pose
from rdtf.data.synthetic.props import Spot


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
            stripes = s.join(
                *(
                    s.limb((x, top + 8 + abs(x) * 0.2), (0.9 * x, top + 34 - 0.2 * abs(x)), 0)
                    for x in (-26, 0, 26)
                )
            )
            p.line(stripes, self.look.shade, 10, outline=False)

    def muzzle(self, p: Painter) -> None:
        x, y = self.mouth_spot
        w = self.face.width
        if self.look.markings == 2:
            p.fill(s.ellipse(x, y + 0.02 * w, 0.36 * w, 0.24 * w), self.look.light, outline=False)
        whiskers = s.join(
            *(
                s.limb((side * 0.82 * w, y + dy * w), (side * 1.22 * w, y + 1.9 * dy * w), 0)
                for side in (-1, 1)
                for dy in (-0.07, 0.07)
            )
        )
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
            p.fill(
                s.ellipse(*eye, 0.34 * w, 0.4 * w, side * 14),
                self.look.light if is_dark(self.look.base) else tint(self.look.base, 0.4),
                outline=False,
            )
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
        p.fill(
            s.ellipse(x, y, 0.38 * self.face.width, 0.28 * self.face.width),
            self.look.light,
            outline=False,
        )


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
                p.fill(
                    s.ellipse(0, -0.7 * h, 12, 0.72 * h),
                    mix(self.look.light, BLUSH, 0.55),
                    outline=False,
                )

    def __init__(self, look: Look) -> None:
        super().__init__(look)
        self.hat = Spot(0, self.hat.y + 4, 0.66 * self.hat.width)


class Fox(Animal):
    colours = {"orange": 7, "red": 3, "white": 2, "gray": 1}
    nose = "dog"
    ear_height = 36

    def behind(self, p: Painter, pose: Pose) -> None:
        with p.group(rotation=pose.tail, pivot=(36, -26)):
            p.fill(
                s.smooth(((30, -20), (82, -22), (124, -66), (112, -122), (84, -92), (56, -70))),
                self.look.limb,
            )
            p.fill(
                s.smooth(((118, -84), (122, -112), (112, -122), (94, -104), (104, -90))),
                tint(self.look.base, 0.85),
                outline=False,
            )

    def ears(self, p: Painter, pose: Pose) -> None:
        self.pointed_ears(p, pose.ears, 66, 66, mix(self.look.base, NIGHT, 0.7))

    def markings(self, p: Painter, pose: Pose) -> None:
        w, x, y = self.face.width, self.face.x, self.face.y + 0.1 * self.face.width
        mask = s.mirrored(
            lambda side: s.smooth(
                tuple(
                    (round(x + side * u * w, 1), round(y + v * w, 1))
                    for u, v in (
                        (0, 0.12),
                        (0.34, 0.2),
                        (0.98, 0.12),
                        (0.86, 0.52),
                        (0.4, 0.8),
                        (0, 0.86),
                    )
                ),
                True,
                0.16,
            )
        )
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
            curl = s.smooth(
                ((52, -44), (76, -50), (84, -66), (70, -70), (72, -54), (94, -52)), False, 0.2
            )
            p.line(curl, self.look.limb, 9)

    def ears(self, p: Painter, pose: Pose) -> None:
        x, y, h = 0.64 * self.head_x, self.head_centre - 0.78 * self.head_y, 34 * self.look.ears
        for side in (-1, 1):
            with p.group(side * x, y, rotation=side * (36 + pose.ears)):
                p.fill(
                    s.smooth(
                        ((-27, 24), (-16, round(-h, 1)), (22, round(-0.5 * h, 1)), (27, 24)),
                        True,
                        0.12,
                    ),
                    self.look.shade,
                )


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
        self.face = Face(
            0,
            self.face.y,
            self.face.width,
            nose="dog",
            ink=mix(NIGHT, look.ink, 0.4),
            pale_eyes=True,
        )

    @property
    def fur(self) -> Colour:
        return (0.985, 0.975, 0.96)

    def torso(self, p: Painter, pose: Pose) -> None:
        w = self.body_width
        body = s.blob(
            ((0, -132), (0.62 * w, -122), (0.95 * w, -70), (0.92 * w, -26), (0.5 * w, -6), (0, -4))
        )
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
        patches = s.mirrored(
            lambda side: s.ellipse(
                side * (self.patch + 0.05 * w), y + 0.05 * w, 0.27 * w, 0.34 * w, side * 28
            )
        )
        p.fill(patches, self.look.base, outline=False)


class Lion(Animal):
    colours = {"yellow": 5, "orange": 4, "beige": 3}
    nose = "dog"
    ear_height = 34

    def __init__(self, look: Look) -> None:
        super().__init__(look)
        self.half_width = max(self.half_width, self.head_x + 24)
        self.mane = (
            mix(look.base, (0.6, 0.25, 0.05), 0.5)
            if luminance(look.base) > 0.3
            else shade(look.accent, 0.1)
        )

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
        p.fill(
            s.ellipse(x, y + 2, 0.36 * self.face.width, 0.26 * self.face.width),
            self.look.light,
            outline=False,
        )


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
