"""Made things: balloon, cup, gift, rocket, egg, cupcake, light bulb."""

from __future__ import annotations

from rdtf.data.synthetic import shapes as s
from rdtf.data.synthetic.character import Character
from rdtf.data.synthetic.faces import Face
from rdtf.data.synthetic.look import Look
from rdtf.data.synthetic.painter import Glow, Painter
from rdtf.data.synthetic.palette import (
    GOLD,
    LOVE,
    NIGHT,
    STEEL,
    WHITE,
    WOOD,
    from_hex,
    mix,
    shade,
    similar,
)
from rdtf.data.synthetic.pose import Pose
from rdtf.data.synthetic.thing import Thing


class Balloon(Thing):
    colours = {"red": 6, "blue": 3, "pink": 3, "yellow": 2, "green": 2, "purple": 2}
    hovers = True
    wide, tall, legs = 92.0, 214.0, 72.0
    face_height, face_width, shoulder_height = 0.54, 0.6, 0.38

    def behind(self, p: Painter, pose: Pose) -> None:
        sway = 0.8 * pose.tail + 7
        string = s.smooth(
            s.scaled(
                (
                    (0, -self.legs),
                    (sway, -0.68 * self.legs),
                    (-sway, -0.34 * self.legs),
                    (0.4 * sway, 0),
                )
            ),
            False,
            0.2,
        )
        p.line(string, shade(STEEL, 0.25), 6, outline=False)

    def body(self, p: Painter, pose: Pose) -> None:
        h, w = self.h, self.w
        p.fill(s.polygon(s.scaled(((0, -10), (15, 14), (-15, 14)))), self.look.shade)
        p.fill(
            s.blob(
                s.scaled(
                    ((0, -h), (0.72 * w, -0.86 * h), (w, -0.54 * h), (0.62 * w, -0.18 * h), (0, -2))
                ),
                0.2,
            ),
            self.look.base,
            glow=self.round_glow(),
        )
        self.shine(p, -0.56, 0.8, 1.3)


class Cup(Thing):
    colours = {"white": 4, "teal": 3, "red": 3, "yellow": 2, "brown": 2, "lavender": 2}
    wide, tall, legs = 88.0, 176.0, 26.0
    face_height, face_width, shoulder_height = 0.48, 0.62, 0.34
    hat_height = 0.98
    places = frozenset({"eyes", "hand"})
    torso_turns = False

    def __init__(self, look: Look) -> None:
        super().__init__(look)
        self.half_width = self.w + 40
        self.height = self.h + self.legs + 44

    def body(self, p: Painter, pose: Pose) -> None:
        h, w = self.h, self.w
        p.line(s.ellipse(0.98 * w, -0.5 * h, 28, 0.24 * h), self.look.limb, 17)
        p.fill(
            s.smooth(
                s.scaled(
                    (
                        (-w, -0.94 * h),
                        (w, -0.94 * h),
                        (0.9 * w, -0.2 * h),
                        (0.5 * w, 0),
                        (-0.5 * w, 0),
                        (-0.9 * w, -0.2 * h),
                    )
                ),
                True,
                0.08,
            ),
            self.look.base,
            glow=self.round_glow(),
        )
        p.fill(s.ellipse(0, -0.93 * h, w, 0.11 * h), self.look.light)
        p.fill(s.ellipse(0, -0.92 * h, 0.84 * w, 0.075 * h), from_hex("#7a4a2e"), outline=False)
        steam = s.join(
            *(
                s.smooth(
                    s.scaled(
                        (
                            (x, -1.02 * h),
                            (x + 9 + 0.4 * pose.tail, -1.12 * h),
                            (x - 7 - 0.4 * pose.tail, -1.2 * h),
                            (x + 3, -1.28 * h),
                        )
                    ),
                    False,
                    0.2,
                )
                for x in (-26, 22)
            )
        )
        p.line(steam, STEEL, 9, outline=False, opacity=0.65)


class Gift(Thing):
    colours = {"red": 5, "green": 3, "blue": 3, "purple": 3, "pink": 3, "teal": 2}
    wide, tall, legs = 94.0, 184.0, 24.0
    face_height, face_width, shoulder_height = 0.38, 0.6, 0.34
    hat_height = 1.0
    places = frozenset({"eyes", "hand"})
    torso_turns = False

    def __init__(self, look: Look) -> None:
        super().__init__(look)
        self.height = self.h + self.legs + 50
        self.ribbon = look.accent if not similar(look.accent, look.base) else GOLD

    def body(self, p: Painter, pose: Pose) -> None:
        h, w = self.h, self.w
        p.fill(
            s.rectangle(0, -0.38 * h, 1.8 * w, 0.76 * h, 14), self.look.base, glow=self.round_glow()
        )
        p.fill(s.rectangle(0, -0.1 * h, 0.3 * w, 0.19 * h), self.ribbon, outline=False)

    def head(self, p: Painter, pose: Pose) -> None:
        h, w, base = self.h, self.w, -self.legs
        top = base - 0.98 * h
        loops = s.mirrored(
            lambda side: s.smooth(
                tuple(
                    (round(side * x * w, 1), round(top + y, 1))
                    for x, y in ((0.02, 4), (0.5, -48), (0.68, -22), (0.46, 6))
                ),
                True,
                0.15,
            )
        )
        p.fill(loops, self.ribbon)
        p.fill(
            s.rectangle(0, base - 0.85 * h, 2.06 * w, 0.24 * h, 12),
            self.look.shade if not self.look.outlined else self.look.base,
        )
        p.fill(s.rectangle(0, base - 0.85 * h, 0.34 * w, 0.24 * h - 2), self.ribbon, outline=False)
        p.fill(s.ellipse(0, top, 15, 13), shade(self.ribbon, 0.2))


class Rocket(Thing):
    colours = {"white": 4, "red": 4, "blue": 3, "gray": 3, "orange": 2, "teal": 2}
    hovers = True
    wide, tall, legs = 76.0, 256.0, 40.0
    face_height, face_width, shoulder_height = 0.5, 0.66, 0.28
    hat_width, hat_height = 0.4, 0.99
    shoulder_reach = 0.94
    places = frozenset({"eyes", "hand"})

    def __init__(self, look: Look) -> None:
        super().__init__(look)
        self.half_width = self.w + 42
        self.trim = look.accent if not similar(look.accent, look.base) else LOVE

    def behind(self, p: Painter, pose: Pose) -> None:
        reach = self.legs + 0.9 * pose.tail
        for share, colour in ((1.0, from_hex("#ff8a2b")), (0.6, GOLD)):
            flame = (
                (-30 * share, -self.legs - 8),
                (30 * share, -self.legs - 8),
                (19 * share, -self.legs + 0.55 * reach * share),
                (0, -self.legs + reach * share),
                (-19 * share, -self.legs + 0.55 * reach * share),
            )
            p.fill(s.smooth(s.scaled(flame), True, 0.14), colour, outline=share == 1.0)
        fins = s.mirrored(
            lambda side: s.smooth(
                tuple(
                    (round(side * x * self.w, 1), round(-self.legs + y * self.h, 1))
                    for x, y in ((0.5, -0.42), (1.36, -0.12), (1.4, 0.04), (0.4, -0.06))
                ),
                True,
                0.1,
            )
        )
        p.fill(fins, self.trim)

    def body(self, p: Painter, pose: Pose) -> None:
        h, w = self.h, self.w
        p.fill(
            s.blob(
                s.scaled(
                    (
                        (0, -h),
                        (0.56 * w, -0.84 * h),
                        (w, -0.46 * h),
                        (0.78 * w, -0.08 * h),
                        (0.4 * w, 0),
                        (0, 0),
                    )
                ),
                0.17,
            ),
            self.look.base,
            glow=self.round_glow(),
        )
        p.fill(
            s.blob(
                s.scaled(
                    ((0, -0.985 * h), (0.4 * w, -0.9 * h), (0.56 * w, -0.79 * h), (0, -0.75 * h))
                ),
                0.16,
            ),
            self.trim,
            outline=False,
        )


class Egg(Thing):
    colours = {"white": 6, "beige": 5, "mint": 2, "pink": 2, "sky blue": 2}
    wide, tall, legs = 90.0, 222.0, 22.0
    face_height, face_width, shoulder_height = 0.46, 0.66, 0.34

    def body(self, p: Painter, pose: Pose) -> None:
        h, w = self.h, self.w
        p.fill(
            s.blob(
                s.scaled(
                    ((0, -h), (0.68 * w, -0.8 * h), (w, -0.38 * h), (0.72 * w, -0.07 * h), (0, 0))
                ),
                0.2,
            ),
            self.look.base,
            glow=self.round_glow(),
        )
        if self.look.markings == 1:
            freckles = s.join(
                s.ellipse(0.4 * w, -0.8 * h, 8, 7),
                s.ellipse(-0.5 * w, -0.72 * h, 6, 5),
                s.ellipse(-0.26 * w, -0.86 * h, 5),
                s.ellipse(0.66 * w, -0.24 * h, 7, 6),
                s.ellipse(-0.6 * w, -0.2 * h, 8, 7),
            )
            p.fill(freckles, self.look.shade, outline=False)
        else:
            self.shine(p, -0.5, 0.76, 1.2)


class Cupcake(Thing):
    colours = {"pink": 6, "mint": 3, "lavender": 3, "brown": 3, "yellow": 2}
    wide, tall, legs = 96.0, 218.0, 22.0
    face_height, face_width, shoulder_height = 0.24, 0.56, 0.26
    hat_width, hat_height, shoulder_reach = 0.4, 0.99, 0.72
    places = frozenset({"eyes", "hand"})

    def __init__(self, look: Look) -> None:
        super().__init__(look)
        self.height = self.h + self.legs + 16
        self.face = Face(0, self.face.y, self.face.width, ink=mix(NIGHT, WOOD, 0.2))

    def body(self, p: Painter, pose: Pose) -> None:
        h, w = self.h, self.w
        case = from_hex("#f3d9a8")
        p.fill(
            s.smooth(
                s.scaled(
                    ((-0.86 * w, -0.46 * h), (0.86 * w, -0.46 * h), (0.62 * w, 0), (-0.62 * w, 0))
                ),
                True,
                0.04,
            ),
            case,
        )
        pleats = s.join(
            *(
                s.limb((0.86 * x * w, -0.4 * h), (0.64 * x * w, -6), 0)
                for x in (-0.8, -0.5, 0.5, 0.8)
            )
        )
        p.line(pleats, shade(case, 0.16), 5, outline=False)

    def head(self, p: Painter, pose: Pose) -> None:
        h, w, base = self.h, self.w, -self.legs
        swirl = s.join(
            s.ellipse(0, base - 0.52 * h, w, 0.14 * h),
            s.ellipse(0, base - 0.68 * h, 0.76 * w, 0.14 * h),
            s.ellipse(0, base - 0.83 * h, 0.5 * w, 0.13 * h),
            s.ellipse(0, base - 0.94 * h, 0.22 * w, 0.08 * h),
        )
        p.fill(swirl, self.look.base, glow=Glow(0, base - 0.65 * h, w))
        swoosh = s.join(
            s.arc(0, base - 0.585 * h, 1.2 * w, 12), s.arc(0, base - 0.74 * h, 0.8 * w, 10)
        )
        p.line(swoosh, self.look.shade, 6, outline=False)
        p.fill(s.ellipse(0, base - 1.0 * h, 17), LOVE)
        p.fill(s.ellipse(-5, base - 1.02 * h, 4), WHITE, outline=False, opacity=0.8)


class Bulb(Thing):
    """A light bulb."""

    colours = {"yellow": 9, "white": 2, "sky blue": 1}
    wide, tall, legs = 90.0, 232.0, 18.0
    face_height, face_width, shoulder_height = 0.62, 0.58, 0.4
    hat_width, hat_height, shoulder_reach = 0.6, 0.95, 0.62

    def body(self, p: Painter, pose: Pose) -> None:
        h, w = self.h, self.w
        p.fill(s.rectangle(0, -0.11 * h, 0.84 * w, 0.23 * h, 12), STEEL)
        p.line(
            s.join(*(s.limb((-0.32 * w, -y * h), (0.32 * w, -y * h - 4), 0) for y in (0.06, 0.13))),
            shade(STEEL, 0.35),
            6,
            outline=False,
        )
        p.fill(
            s.blob(
                s.scaled(
                    (
                        (0, -h),
                        (0.72 * w, -0.88 * h),
                        (w, -0.6 * h),
                        (0.62 * w, -0.3 * h),
                        (0.46 * w, -0.2 * h),
                        (0, -0.19 * h),
                    )
                ),
                0.19,
            ),
            self.look.base,
            glow=Glow(0, -0.6 * h, w),
        )
        self.shine(p, -0.56, 0.8, 1.2)


OBJECTS: dict[str, type[Character]] = {
    "balloon": Balloon,
    "cup": Cup,
    "gift": Gift,
    "rocket": Rocket,
    "egg": Egg,
    "cupcake": Cupcake,
    "light bulb": Bulb,
}
