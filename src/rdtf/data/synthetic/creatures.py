"""Creatures: ghost, octopus, monster, robot, snowman, fish."""

from __future__ import annotations

import math

from rdtf.data.synthetic import shapes as s
from rdtf.data.synthetic.character import Character
from rdtf.data.synthetic.faces import Face
from rdtf.data.synthetic.look import Look
from rdtf.data.synthetic.painter import Glow, Painter
from rdtf.data.synthetic.palette import (
    CREAM,
    LOVE,
    NIGHT,
    STEEL,
    WHITE,
    WOOD,
    from_hex,
    shade,
)
from rdtf.data.synthetic.pose import Pose
from rdtf.data.synthetic.props import Spot
from rdtf.data.synthetic.thing import Thing


class Ghost(Thing):
    colours = {"white": 7, "lavender": 3, "mint": 2, "sky blue": 2}
    hovers = True
    wide, tall, legs = 92.0, 226.0, 22.0
    face_height, face_width, hat_height, shoulder_height = 0.62, 0.66, 0.95, 0.42

    def body(self, p: Painter, pose: Pose) -> None:
        h, w, wave = self.h, self.w, 0.5 * pose.tail
        right = ((0, -h), (0.7 * w, -0.86 * h), (0.98 * w, -0.5 * h), (1.04 * w, -8))
        hem = (
            (0.7 * w, 8 - wave),
            (0.36 * w, -18),
            (0, 8 + wave),
            (-0.36 * w, -18),
            (-0.7 * w, 8 - wave),
        )
        left = tuple((-x, y) for x, y in reversed(right[1:]))
        p.fill(
            s.smooth(s.scaled((*right, *hem, *left)), True, 0.18),
            self.look.base,
            opacity=0.93,
            glow=self.round_glow(),
        )

    def paint_arm(self, p: Painter, path: str) -> None:
        p.line(path, self.look.limb, 27)


class Octopus(Thing):
    colours = {"purple": 4, "coral": 4, "pink": 3, "teal": 3, "red": 2}
    wide, tall, legs = 96.0, 160.0, 66.0
    face_height, face_width, hat_height, shoulder_height = 0.4, 0.7, 0.95, 0.12
    shoulder_reach = 0.82

    def __init__(self, look: Look) -> None:
        super().__init__(look)
        self.arm_width, self.arm_length = 27, 66
        self.hip, self.foot = None, (0.5 * self.w, -13)

    def behind(self, p: Painter, pose: Pose) -> None:
        paths = []
        for x in (-0.72, -0.26, 0.26, 0.72):
            side = 1 if x > 0 else -1
            curl = side * (14 + 0.6 * pose.tail)
            lift = (pose.right_foot if side > 0 else pose.left_foot)[1] * (
                1 if abs(x) > 0.5 else 0.4
            )
            paths.append(
                s.limb((0.8 * x * self.w, -self.legs - 12), (1.18 * x * self.w, -13 + lift), -curl)
            )
        p.line(s.join(*paths), self.look.limb, 29)

    def paint_foot(self, p: Painter, x: float, y: float) -> None:
        """Tentacles are drawn behind the body."""

    def body(self, p: Painter, pose: Pose) -> None:
        h, w = self.h, self.w
        p.fill(
            s.blob(
                s.scaled(
                    ((0, -h), (0.74 * w, -0.88 * h), (w, -0.46 * h), (0.8 * w, -0.04 * h), (0, 6))
                ),
                0.2,
            ),
            self.look.base,
            glow=self.round_glow(),
        )
        if self.look.markings:
            spots = s.join(
                s.ellipse(0.55 * w, -0.76 * h, 11, 9),
                s.ellipse(0.74 * w, -0.58 * h, 7, 6),
                s.ellipse(0.36 * w, -0.88 * h, 6, 5),
            )
            p.fill(spots, self.look.shade, outline=False)


class Monster(Thing):
    colours = {"purple": 3, "green": 3, "teal": 3, "blue": 2, "magenta": 2, "orange": 2}
    wide, tall, legs = 94.0, 214.0, 26.0
    face_height, face_width, hat_height, shoulder_height = 0.62, 0.66, 0.93, 0.4

    def __init__(self, look: Look) -> None:
        super().__init__(look)
        self.arm_width = 26
        self.height += 18

    def body(self, p: Painter, pose: Pose) -> None:
        h, w = self.h, self.w
        for side in (-1, 1):
            horn = ((0.34, -0.9), (0.62, -1.16), (0.74, -0.76))
            p.fill(
                s.smooth(
                    tuple((round(side * x * w, 1), round(y * h, 1)) for x, y in horn), True, 0.1
                ),
                CREAM,
            )
        bumps = [
            (math.cos(a), math.sin(a)) for a in (2 * math.pi * (k + 0.5) / 22 for k in range(22))
        ]
        points = tuple(
            (
                round(x * w * (1 if k % 2 else 0.94), 1),
                round(-0.5 * h + y * 0.52 * h * (1 if k % 2 else 0.95), 1),
            )
            for k, (x, y) in enumerate(bumps)
        )
        p.fill(s.smooth(points, True, 0.12), self.look.base, glow=self.round_glow())
        if not pose.from_behind:
            p.fill(s.ellipse(0, -0.2 * h, 0.5 * w, 0.16 * h), self.look.light, outline=False)

    def markings(self, p: Painter, pose: Pose) -> None:
        if self.look.markings == 2:
            w, y = self.face.width, self.face.y + (0.42 + self.look.eye_height) * self.face.width
            teeth = s.mirrored(
                lambda side: s.polygon(
                    s.scaled(
                        ((side * 0.2 * w, y), (side * 0.08 * w, y), (side * 0.14 * w, y + 0.16 * w))
                    )
                )
            )
            p.fill(teeth, WHITE, outline=False)


class Robot(Thing):
    colours = {"gray": 5, "sky blue": 3, "teal": 2, "red": 2, "yellow": 2, "white": 2}
    wide, tall, legs = 94.0, 216.0, 26.0
    face_height, face_width, hat_height, shoulder_height = 0.68, 0.62, 0.97, 0.24
    shoulder_reach = 0.66
    torso_turns = False
    places = frozenset({"hand", "neck", "head"})

    def __init__(self, look: Look) -> None:
        super().__init__(look)
        self.face = Face(0, self.face.y, self.face.width, ink=from_hex("#8ff5ff"))
        self.height += 26
        self.neck = Spot(0, -self.legs - 0.36 * self.h, 0.5 * self.w)
        self.head_pivot = -self.legs - 0.36 * self.h

    def body(self, p: Painter, pose: Pose) -> None:
        h, w = self.h, self.w
        p.fill(
            s.rectangle(0, -0.2 * h, 1.32 * w, 0.4 * h, 18),
            self.look.limb if self.look.outlined else self.look.shade,
        )
        if not pose.from_behind:
            p.fill(s.rectangle(0, -0.18 * h, 0.66 * w, 0.2 * h, 8), self.look.light, outline=False)
            lamps = s.join(*(s.ellipse(dx * w, -0.18 * h, 7) for dx in (-0.18, 0.18)))
            p.fill(lamps, self.look.accent, outline=False)
            p.fill(s.ellipse(0, -0.18 * h, 7), LOVE, outline=False)

    def head(self, p: Painter, pose: Pose) -> None:
        h, w, base = self.h, self.w, -self.legs
        p.line(s.limb((0, base - 0.95 * h), (0.6 * pose.ears, base - h - 16), 0), STEEL, 8)
        p.fill(s.ellipse(0.6 * pose.ears, base - h - 20, 12), self.look.accent)
        p.fill(
            s.mirrored(lambda side: s.rectangle(side * w, base - 0.68 * h, 22, 46, 8)),
            self.look.accent,
        )
        p.fill(
            s.rectangle(0, base - 0.69 * h, 1.9 * w, 0.6 * h, 34),
            self.look.base,
            glow=Glow(0, base - 0.69 * h, w),
        )

    def markings(self, p: Painter, pose: Pose) -> None:
        p.fill(
            s.rectangle(0, self.face.y + 4, 2.4 * self.face.width, 0.44 * self.h, 24),
            NIGHT,
            outline=False,
        )


class Snowman(Thing):
    colours = {"white": 9, "sky blue": 2, "mint": 1, "lavender": 1}
    wide, tall, legs = 88.0, 270.0, 0.0
    face_height, face_width, hat_height, shoulder_height = 0.76, 0.52, 0.96, 0.46
    places = frozenset({"head", "eyes", "neck", "hand"})

    def __init__(self, look: Look) -> None:
        super().__init__(look)
        self.neck = Spot(0, -0.52 * self.h, 0.56 * self.w)
        self.head_pivot = -0.5 * self.h
        self.shoulder = (0.74 * self.w, -0.4 * self.h)
        self.half_width = self.w + 34

    def paint_arm(self, p: Painter, path: str) -> None:
        p.line(path, shade(WOOD, 0.25), 11)

    def paint_foot(self, p: Painter, x: float, y: float) -> None:
        """It has none."""

    def body(self, p: Painter, pose: Pose) -> None:
        h, w = self.h, self.w
        p.fill(s.ellipse(0, -0.26 * h, w, 0.27 * h), self.look.base, glow=Glow(0, -0.26 * h, w))
        if not pose.from_behind:
            p.fill(
                s.join(s.ellipse(0, -0.38 * h, 8), s.ellipse(0, -0.24 * h, 8)),
                self.look.accent,
                outline=False,
            )

    def head(self, p: Painter, pose: Pose) -> None:
        p.fill(
            s.ellipse(0, -0.74 * self.h, 0.76 * self.w, 0.25 * self.h),
            self.look.base,
            glow=Glow(0, -0.74 * self.h, 0.76 * self.w),
        )

    def markings(self, p: Painter, pose: Pose) -> None:
        y = self.face.y + (0.14 + self.look.eye_height) * self.face.width
        p.fill(
            s.polygon(s.scaled(((-5, y - 8), (34, y + 3), (-5, y + 8)))),
            from_hex("#ff8a2b"),
            outline=False,
        )


class Fish(Thing):
    colours = {"orange": 5, "blue": 4, "teal": 3, "yellow": 3, "purple": 2}
    hovers = True
    wide, tall, legs = 112.0, 176.0, 50.0
    face_height, face_width, shoulder_height = 0.52, 0.52, 0.3
    hat_width, hat_height, shoulder_reach = 0.46, 0.94, 0.8
    places = frozenset({"head", "eyes"})

    def behind(self, p: Painter, pose: Pose) -> None:
        y = -self.legs - 0.5 * self.h
        with p.group(rotation=0.7 * pose.tail, pivot=(0.8 * self.w, y)):
            tail = (
                (0.8 * self.w, y),
                (1.36 * self.w, y - 0.42 * self.h),
                (1.28 * self.w, y),
                (1.36 * self.w, y + 0.42 * self.h),
            )
            p.fill(s.smooth(s.scaled(tail), True, 0.12), self.look.limb)
        fin = (
            (-0.3 * self.w, y - 0.36 * self.h),
            (0.1 * self.w, y - 0.74 * self.h),
            (0.52 * self.w, y - 0.34 * self.h),
        )
        p.fill(s.smooth(s.scaled(fin), True, 0.12), self.look.limb)

    def __init__(self, look: Look) -> None:
        super().__init__(look)
        self.half_width = 1.4 * self.w
        self.height = self.h + self.legs + 0.12 * self.h
        self.arm_width, self.arm_length = 26, 36

    def body(self, p: Painter, pose: Pose) -> None:
        h, w = self.h, self.w
        p.fill(s.ellipse(0, -0.5 * h, w, 0.5 * h), self.look.base, glow=self.round_glow())
        scales = s.join(
            *(
                s.arc(x * w, -y * h, 0.24 * w, 12)
                for x, y in ((0.66, 0.6), (0.74, 0.42), (0.5, 0.24))
            )
        )
        p.line(scales, self.look.shade, 6, outline=False)


CREATURES: dict[str, type[Character]] = {
    "ghost": Ghost,
    "octopus": Octopus,
    "monster": Monster,
    "robot": Robot,
    "snowman": Snowman,
    "fish": Fish,
}
