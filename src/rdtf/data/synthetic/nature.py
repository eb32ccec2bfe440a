"""Things of sky and garden: star, sun, cloud, flower, mushroom and others."""

from __future__ import annotations

import math

from rdtf.data.synthetic import shapes as s
from rdtf.data.synthetic.character import Character
from rdtf.data.synthetic.faces import Face
from rdtf.data.synthetic.look import Look
from rdtf.data.synthetic.painter import Glow, Painter
from rdtf.data.synthetic.palette import (
    CREAM,
    GOLD,
    LEAF,
    NIGHT,
    WATER,
    WOOD,
    from_hex,
    mix,
    shade,
    similar,
    tint,
)
from rdtf.data.synthetic.pose import Pose
from rdtf.data.synthetic.thing import Thing


class Star(Thing):
    colours = {"yellow": 8, "orange": 2, "pink": 2, "sky blue": 1}
    wide, tall, legs = 124.0, 236.0, 20.0
    face_height, face_width, shoulder_height = 0.5, 0.42, 0.36
    hat_width, hat_height, shoulder_reach = 0.3, 0.9, 0.5

    def body(self, p: Painter, pose: Pose) -> None:
        h, w = self.h, self.w
        points = []
        for k in range(10):
            angle, reach = math.pi * k / 5, 1.0 if k % 2 == 0 else 0.56
            points.append(
                (1.04 * w * reach * math.sin(angle), -0.46 * h - 0.54 * h * reach * math.cos(angle))
            )
        p.fill(
            s.smooth(s.scaled(tuple(points)), True, 0.075), self.look.base, glow=self.round_glow()
        )
        self.shine(p, -0.16, 0.72)


class Heart(Thing):
    colours = {"red": 8, "pink": 6, "magenta": 2, "purple": 2}
    wide, tall, legs = 116.0, 204.0, 22.0
    face_height, face_width, shoulder_height = 0.6, 0.5, 0.5
    hat_width, hat_height = 0.5, 0.86
    shoulder_reach = 0.82

    def __init__(self, look: Look) -> None:
        super().__init__(look)
        self.foot = (0.24 * self.w, -8)
        self.hip = -self.legs - 26

    def body(self, p: Painter, pose: Pose) -> None:
        with p.group(0, -0.49 * self.h, scale_x=self.w / 100, scale_y=self.h / 190):
            p.fill(s.heart(0, 0, 200), self.look.base, glow=Glow(0, -10, 118))
        self.shine(p, -0.6, 0.76, 1.2)


class Sun(Thing):
    colours = {"yellow": 8, "orange": 5, "coral": 1}
    hovers = True
    wide, tall, legs = 126.0, 252.0, 16.0
    face_height, face_width, shoulder_height = 0.52, 0.46, 0.46
    hat_width, hat_height, shoulder_reach = 0.45, 0.84, 0.74

    def body(self, p: Painter, pose: Pose) -> None:
        h, w = self.h, self.w
        rays = 10 + 2 * self.look.markings
        with p.group(0, -0.5 * h, rotation=0.8 * pose.tail):
            p.fill(
                s.star(0, 0, round(1.06 * w, 1), rays, 0.76),
                mix(self.look.base, from_hex("#ff7a1a"), 0.4),
            )
        p.fill(s.ellipse(0, -0.5 * h, 0.76 * w), self.look.base, glow=Glow(0, -0.5 * h, 0.76 * w))


class Moon(Thing):
    colours = {"yellow": 6, "white": 3, "lavender": 2, "sky blue": 2}
    hovers = True
    wide, tall, legs = 108.0, 220.0, 16.0
    face_height, face_width, shoulder_height = 0.5, 0.62, 0.4

    def body(self, p: Painter, pose: Pose) -> None:
        h, w = self.h, self.w
        p.fill(s.ellipse(0, -0.5 * h, w, 0.5 * h), self.look.base, glow=self.round_glow())
        craters = s.join(
            s.ellipse(0.58 * w, -0.72 * h, 17, 14),
            s.ellipse(-0.66 * w, -0.26 * h, 13, 11),
            s.ellipse(0.36 * w, -0.87 * h, 9, 7),
            s.ellipse(0.6 * w, -0.2 * h, 10, 9),
        )
        p.fill(craters, self.look.shade, outline=False)


class Cloud(Thing):
    colours = {"white": 8, "sky blue": 4, "gray": 3, "pink": 2, "lavender": 2}
    hovers = True
    wide, tall, legs = 134.0, 168.0, 30.0
    face_height, face_width, shoulder_height = 0.42, 0.44, 0.3
    hat_width, hat_height = 0.46, 0.92
    shoulder_reach = 0.88

    def body(self, p: Painter, pose: Pose) -> None:
        h, w = self.h, self.w
        puffs = s.join(
            s.ellipse(-0.56 * w, -0.34 * h, 0.46 * w, 0.34 * h),
            s.ellipse(0.58 * w, -0.32 * h, 0.43 * w, 0.32 * h),
            s.ellipse(0.02 * w, -0.58 * h, 0.58 * w, 0.43 * h),
            s.rectangle(0, -0.2 * h, 1.5 * w, 0.4 * h, 0.19 * h),
        )
        p.fill(puffs, self.look.base)
        if not self.look.outlined:
            p.fill(
                s.ellipse(0, -0.09 * h, 0.62 * w, 0.07 * h),
                self.look.shade,
                outline=False,
                opacity=0.5,
            )


class Drop(Thing):
    """A drop of water."""

    colours = {"sky blue": 7, "blue": 5, "teal": 2, "mint": 1}
    wide, tall, legs = 88.0, 230.0, 22.0
    face_height, face_width, shoulder_height = 0.38, 0.66, 0.3
    hat_width, hat_height = 0.36, 0.86

    def body(self, p: Painter, pose: Pose) -> None:
        h, w = self.h, self.w
        p.fill(
            s.blob(
                s.scaled(
                    (
                        (0, -h),
                        (0.3 * w, -0.76 * h),
                        (0.86 * w, -0.5 * h),
                        (0.9 * w, -0.2 * h),
                        (0.5 * w, -0.02 * h),
                        (0, 0),
                    )
                ),
                0.15,
            ),
            self.look.base,
            opacity=0.95,
            glow=self.round_glow(),
        )
        p.fill(
            s.ellipse(-0.48 * w, -0.5 * h, 9, 20, 28), tint(WATER, 0.8), outline=False, opacity=0.8
        )


class Flower(Thing):
    colours = {"pink": 5, "red": 3, "yellow": 3, "white": 3, "purple": 3, "sky blue": 2}
    wide, tall, legs = 100.0, 200.0, 92.0
    face_height, face_width, shoulder_height = 0.5, 0.45, -0.14
    hat_width, hat_height, shoulder_reach = 0.5, 0.8, 0.03
    torso_turns = False

    def __init__(self, look: Look) -> None:
        super().__init__(look)
        self.height = self.h + self.legs
        self.face = Face(0, self.face.y, self.face.width, ink=mix(NIGHT, WOOD, 0.2))
        self.disc = CREAM if similar(look.base, GOLD) else GOLD
        self.foot, self.foot_size = (17, -8), (20, 9)
        self.head_pivot = -self.legs

    def behind(self, p: Painter, pose: Pose) -> None:
        p.line(s.limb((0, -14), (0, -self.legs - 40), 0.5 * pose.tail), LEAF, 17)

    def paint_arm(self, p: Painter, path: str) -> None:
        p.line(path, LEAF, 23)

    def paint_foot(self, p: Painter, x: float, y: float) -> None:
        p.fill(s.ellipse(x, y, *self.foot_size), shade(LEAF, 0.12))

    def _legs(self, p: Painter, pose: Pose) -> None:
        self.hip = None
        super()._legs(p, pose)

    def head(self, p: Painter, pose: Pose) -> None:
        count, y, w = 6 + self.look.markings, -self.legs - 0.5 * self.h, self.w
        for k in range(count):
            angle = 360 * k / count + 0.5 * pose.tail
            with p.group(0, y, rotation=angle):
                p.fill(s.ellipse(0, -0.64 * w, 0.4 * w, 0.42 * w), self.look.base)
        p.fill(s.ellipse(0, y, 0.6 * w), self.disc, glow=Glow(0, y, 0.6 * w))


class Mushroom(Thing):
    colours = {"red": 7, "brown": 4, "purple": 3, "teal": 2, "orange": 2}
    wide, tall, legs = 118.0, 236.0, 14.0
    face_height, face_width, shoulder_height = 0.26, 0.42, 0.2
    hat_width, hat_height, shoulder_reach = 0.5, 0.95, 0.5

    def __init__(self, look: Look) -> None:
        super().__init__(look)
        self.face = Face(0, self.face.y, self.face.width, ink=mix(NIGHT, WOOD, 0.2))
        self.foot = (0.24 * self.w, -9)

    def paint_arm(self, p: Painter, path: str) -> None:
        p.line(path, shade(CREAM, 0.06), 20)

    def paint_foot(self, p: Painter, x: float, y: float) -> None:
        p.fill(s.ellipse(x, y, 22, 11), shade(CREAM, 0.12))

    def body(self, p: Painter, pose: Pose) -> None:
        h, w = self.h, self.w
        p.fill(
            s.blob(
                s.scaled(
                    (
                        (0, -0.6 * h),
                        (0.5 * w, -0.5 * h),
                        (0.56 * w, -0.14 * h),
                        (0.4 * w, 2),
                        (0, 4),
                    )
                ),
                0.17,
            ),
            CREAM,
            glow=Glow(0, -0.3 * h, 70),
        )

    def head(self, p: Painter, pose: Pose) -> None:
        h, w, base = self.h, self.w, -self.legs
        cap = s.blob(
            s.scaled(
                (
                    (0, base - h),
                    (0.66 * w, base - 0.88 * h),
                    (1.02 * w, base - 0.5 * h),
                    (0.86 * w, base - 0.38 * h),
                    (0, base - 0.42 * h),
                )
            ),
            0.17,
        )
        p.fill(cap, self.look.base, glow=Glow(0, base - 0.66 * h, w))
        spots = s.join(
            s.ellipse(-0.46 * w, base - 0.66 * h, 20, 17),
            s.ellipse(0.1 * w, base - 0.78 * h, 24, 20),
            s.ellipse(0.64 * w, base - 0.56 * h, 16, 14),
            s.ellipse(-0.06 * w, base - 0.52 * h, 11, 9),
        )
        p.fill(spots, CREAM, outline=False)


class Cactus(Thing):
    colours = {"green": 8, "teal": 3, "mint": 3, "lime": 2}
    wide, tall, legs = 74.0, 244.0, 0.0
    face_height, face_width, shoulder_height = 0.66, 0.74, 0.5
    hat_width, hat_height = 0.66, 0.96

    def __init__(self, look: Look) -> None:
        super().__init__(look)
        self.half_width = self.w + 54
        self.arm_width = 31

    def paint_foot(self, p: Painter, x: float, y: float) -> None:
        """It stands in a pot."""

    def body(self, p: Painter, pose: Pose) -> None:
        h, w = self.h, self.w
        stem = s.rectangle(0, -0.58 * h, 1.76 * w, 0.84 * h, 0.84 * w)
        p.fill(stem, self.look.base, glow=Glow(0, -0.62 * h, 0.5 * h))
        ridges = s.join(
            *(
                s.limb((x * w, -0.28 * h), (x * w, y * h), 0)
                for x, y in ((-0.5, -0.42), (0, -0.4), (0.5, -0.42))
            )
        )
        p.line(ridges, self.look.shade, 5, outline=False)
        p.fill(
            s.polygon(
                s.scaled(
                    ((-0.98 * w, -0.24 * h), (0.98 * w, -0.24 * h), (0.74 * w, 0), (-0.74 * w, 0))
                )
            ),
            from_hex("#d97b4f"),
        )
        p.fill(s.rectangle(0, -0.25 * h, 2.14 * w, 0.1 * h, 8), from_hex("#e58d60"))


class Pumpkin(Thing):
    colours = {"orange": 9, "white": 1, "green": 1}
    wide, tall, legs = 120.0, 178.0, 24.0
    face_height, face_width, shoulder_height = 0.48, 0.52, 0.4
    hat_width, hat_height = 0.46, 0.94

    def __init__(self, look: Look) -> None:
        super().__init__(look)
        self.height = self.h + self.legs + 24

    def body(self, p: Painter, pose: Pose) -> None:
        h, w = self.h, self.w
        p.line(s.limb((0, -0.92 * h), (14, -1.12 * h), 6), shade(LEAF, 0.25), 19)
        p.fill(
            s.mirrored(lambda side: s.ellipse(side * 0.62 * w, -0.47 * h, 0.38 * w, 0.44 * h)),
            self.look.shade,
        )
        p.fill(
            s.mirrored(lambda side: s.ellipse(side * 0.34 * w, -0.48 * h, 0.42 * w, 0.47 * h)),
            mix(self.look.base, self.look.shade, 0.45),
        )
        p.fill(s.ellipse(0, -0.48 * h, 0.46 * w, 0.49 * h), self.look.base, outline=False)


class Berry(Thing):
    """A strawberry."""

    colours = {"red": 9, "pink": 3, "white": 1}
    wide, tall, legs = 102.0, 206.0, 20.0
    face_height, face_width, shoulder_height = 0.52, 0.54, 0.5
    hat_width, hat_height = 0.46, 0.97
    shoulder_reach = 0.86

    def __init__(self, look: Look) -> None:
        super().__init__(look)
        self.height = self.h + self.legs + 18
        self.foot = (0.24 * self.w, -8)

    def body(self, p: Painter, pose: Pose) -> None:
        h, w = self.h, self.w
        p.fill(
            s.blob(
                s.scaled(
                    (
                        (0, -0.96 * h),
                        (0.66 * w, -0.94 * h),
                        (w, -0.62 * h),
                        (0.62 * w, -0.16 * h),
                        (0, 0),
                    )
                ),
                0.19,
            ),
            self.look.base,
            glow=self.round_glow(),
        )
        seeds = s.join(
            *(
                s.ellipse(x * w, -y * h, 4, 6)
                for x, y in (
                    (-0.62, 0.72),
                    (0.62, 0.72),
                    (-0.72, 0.46),
                    (0.72, 0.46),
                    (-0.36, 0.2),
                    (0.36, 0.2),
                    (0, 0.12),
                    (-0.24, 0.82),
                    (0.26, 0.82),
                )
            )
        )
        p.fill(seeds, tint(GOLD, 0.45), outline=False)

    def head(self, p: Painter, pose: Pose) -> None:
        y = -self.legs - 0.94 * self.h
        p.line(s.limb((0, y), (4, y - 26), 3), LEAF, 13)
        p.fill(
            s.join(
                *(
                    s.ellipse(30 * x, y + 7 * abs(x) + 4, 32, 12, 32 * x)
                    for x in (-1.3, -0.5, 0.5, 1.3)
                )
            ),
            LEAF,
        )


NATURE: dict[str, type[Character]] = {
    "star": Star,
    "heart": Heart,
    "sun": Sun,
    "moon": Moon,
    "cloud": Cloud,
    "water drop": Drop,
    "flower": Flower,
    "mushroom": Mushroom,
    "cactus": Cactus,
    "pumpkin": Pumpkin,
    "strawberry": Berry,
}
