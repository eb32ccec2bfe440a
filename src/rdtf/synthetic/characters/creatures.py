"""Creatures: ghost, octopus, monster, robot, snowman, fish."""

from __future__ import annotations

import math

from rdtf.synthetic.characters import shapes as s
from rdtf.synthetic.characters.character import Character
from rdtf.synthetic.characters.faces import Face
from rdtf.synthetic.characters.look import Look
from rdtf.synthetic.characters.painter import Glow, Painter
from rdtf.synthetic.characters.palette import (
    CREAM,
    LOVE,
    NIGHT,
    STEEL,
    WHITE,
    WOOD,
    from_hex,
    shade,
)
from rdtf.synthetic.characters.pose import Pose
from rdtf.synthetic.characters.props import Spot
from rdtf.synthetic.characters.thing import Thing


class Ghost(Thing):
    colours = ("white", "lavender", "mint", "sky blue")
    hovers = True
    opacity = 0.88
    wide, tall, legs = 92.0, 226.0, 22.0
    face_height, face_width, hat_height, shoulder_height = 0.62, 0.66, 0.95, 0.42

    def __init__(self, look: Look) -> None:
        super().__init__(look)
        self.arm_width = 27

    def body(self, p: Painter, pose: Pose) -> None:
        h, w, wave = self.h, self.w, 0.5 * pose.tail
        right = ((0.7 * w, -0.86 * h), (0.98 * w, -0.5 * h), (1.04 * w, -8))
        left = tuple((-x, y) for x, y in reversed(right))
        hem = ((0.7 * w, 8 - wave), (0.36 * w, -18), (0, 8 + wave), (-0.36 * w, -18))
        outline = s.scaled(((0, -h), *right, *hem, (-0.7 * w, 8 - wave), *left))
        p.fill(s.smooth(outline, True, 0.18), self.look.base, glow=self.glow())


class Octopus(Thing):
    """Its tentacles take the part of feet."""

    colours = ("purple", "coral", "pink", "teal", "red")
    wide, tall, legs = 96.0, 160.0, 66.0
    face_height, face_width, hat_height, shoulder_height = 0.4, 0.7, 0.95, 0.12
    shoulder_reach = 0.82
    has_feet = False

    def __init__(self, look: Look) -> None:
        super().__init__(look)
        self.arm_width, self.arm_length = 27, 66

    def behind(self, p: Painter, pose: Pose) -> None:
        tentacles = []
        for x in (-0.72, -0.26, 0.26, 0.72):
            side = 1 if x > 0 else -1
            foot = pose.right_foot if side > 0 else pose.left_foot
            start = (0.8 * x * self.w, -self.legs - 12)
            end = (1.18 * x * self.w, -13 + foot[1] * (1 if abs(x) > 0.5 else 0.4))
            tentacles.append(s.limb(start, end, -side * (14 + 0.6 * pose.tail)))
        p.line(s.join(*tentacles), self.look.limb, 29)

    def body(self, p: Painter, pose: Pose) -> None:
        dome = self.blob((0, -1), (0.74, -0.88), (1, -0.46), (0.8, -0.04), (0, 0.04))
        p.fill(dome, self.look.base, glow=self.glow())
        if self.look.markings:
            spots = self.spots((0.55, -0.76, 11, 9), (0.74, -0.58, 7, 6), (0.36, -0.88, 6, 5))
            p.fill(spots, self.look.shade, outline=False)


class Monster(Thing):
    colours = ("purple", "green", "teal", "blue", "magenta", "orange")
    wide, tall, legs = 94.0, 210.0, 26.0
    face_height, face_width, hat_height, shoulder_height = 0.62, 0.66, 0.93, 0.4
    extra_height = 36.0
    _HORN = ((0.3, -0.88), (0.6, -1.16), (0.76, -0.72))

    def __init__(self, look: Look) -> None:
        super().__init__(look)
        self.arm_width = 26

    def fur(self, tufts: int = 15) -> str:
        """A round outline with tufts."""
        points = []
        for k in range(2 * tufts):
            angle, reach = math.pi * k / tufts, 1.0 if k % 2 else 0.91
            points.append((reach * math.sin(angle), -0.5 - 0.52 * reach * math.cos(angle)))
        return self.curve(*points, tension=0.12)

    def body(self, p: Painter, pose: Pose) -> None:
        h, w = self.h, self.w
        p.fill(s.both_sides(s.scaled(self._HORN, w, h), 0.1), CREAM)
        p.fill(self.fur(), self.look.base, glow=self.glow())
        if not pose.from_behind:
            p.fill(s.ellipse(0, -0.2 * h, 0.5 * w, 0.16 * h), self.look.light, outline=False)

    def markings(self, p: Painter, pose: Pose) -> None:
        if self.look.markings == 2:
            w = self.face.width
            fang = s.scaled(((0.2, 0), (0.08, 0), (0.14, 0.16)), w, w)
            y = self.face.y + (0.42 + self.look.eye_height) * w
            p.fill(s.both_sides(fang, y=y), WHITE, outline=False)


class Robot(Thing):
    colours = ("gray", "sky blue", "teal", "red", "yellow", "white")
    wide, tall, legs = 94.0, 216.0, 26.0
    face_height, face_width, hat_height, shoulder_height = 0.68, 0.62, 0.97, 0.24
    shoulder_reach = 0.66
    extra_height = 30.0
    torso_turns = False
    places = frozenset({"hand", "neck", "head"})

    def __init__(self, look: Look) -> None:
        super().__init__(look)
        self.face = Face(0, self.face.y, self.face.width, ink=from_hex("#8ff5ff"))
        self.neck = Spot(0, -self.legs - 0.36 * self.h, 0.5 * self.w)
        self.head_pivot = self.neck.y

    def body(self, p: Painter, pose: Pose) -> None:
        h, w, look = self.h, self.w, self.look
        metal = look.limb if look.outlined else look.shade
        p.fill(s.rectangle(0, -0.2 * h, 1.32 * w, 0.4 * h, 18), metal)
        if not pose.from_behind:
            p.fill(s.rectangle(0, -0.18 * h, 0.66 * w, 0.2 * h, 8), look.light, outline=False)
            lamps = self.spots((-0.18, -0.18, 7, 7), (0.18, -0.18, 7, 7))
            p.fill(lamps, look.accent, outline=False)
            p.fill(s.ellipse(0, -0.18 * h, 7), LOVE, outline=False)

    def top(self, p: Painter, pose: Pose) -> None:
        h, w, look = self.h, self.w, self.look
        tip = (0.6 * pose.ears, -h - 16)
        p.line(s.limb((0, -0.95 * h), tip, 0), STEEL, 8)
        p.fill(s.ellipse(tip[0], tip[1] - 4, 12), look.accent)
        p.fill(s.mirrored(lambda side: s.rectangle(side * w, -0.68 * h, 22, 46, 8)), look.accent)
        skull = s.rectangle(0, -0.69 * h, 1.9 * w, 0.6 * h, 34)
        p.fill(skull, look.base, glow=Glow(0, -0.69 * h, w))

    def markings(self, p: Painter, pose: Pose) -> None:
        screen = s.rectangle(0, self.face.y + 4, 2.4 * self.face.width, 0.44 * self.h, 24)
        p.fill(screen, NIGHT, outline=False)


class Snowman(Thing):
    colours = ("white", "sky blue", "mint", "lavender")
    wide, tall, legs = 94.0, 262.0, 0.0
    face_height, face_width, hat_height, shoulder_height = 0.74, 0.6, 0.96, 0.42
    places = frozenset({"head", "eyes", "neck", "hand"})
    has_feet = False

    def __init__(self, look: Look) -> None:
        super().__init__(look)
        self.neck = Spot(0, -0.5 * self.h, 0.56 * self.w)
        self.head_pivot = self.neck.y
        self.shoulder = (0.76 * self.w, -0.36 * self.h)
        self.half_width = self.w + 34
        self.arm_colour, self.arm_width = shade(WOOD, 0.3), 11

    def body(self, p: Painter, pose: Pose) -> None:
        h, w = self.h, self.w
        p.fill(s.ellipse(0, -0.26 * h, w, 0.26 * h), self.look.base, glow=Glow(0, -0.26 * h, w))
        if not pose.from_behind:
            buttons = self.spots((0, -0.38, 8, 8), (0, -0.25, 8, 8))
            p.fill(buttons, self.look.accent, outline=False)

    def top(self, p: Painter, pose: Pose) -> None:
        ball = s.ellipse(0, -0.71 * self.h, 0.8 * self.w, 0.28 * self.h)
        p.fill(ball, self.look.base, glow=Glow(0, -0.71 * self.h, 0.8 * self.w))

    def markings(self, p: Painter, pose: Pose) -> None:
        y = self.face.y + (0.16 + self.look.eye_height) * self.face.width
        carrot = s.polygon(s.scaled(((-5, y - 9), (38, y + 3), (-5, y + 9))))
        p.fill(carrot, from_hex("#ff8a2b"), outline=False)


class Fish(Thing):
    colours = ("orange", "blue", "teal", "yellow", "purple")
    hovers = True
    wide, tall, legs = 112.0, 176.0, 50.0
    face_height, face_width, shoulder_height = 0.52, 0.52, 0.3
    hat_width, hat_height, shoulder_reach = 0.46, 0.94, 0.8
    places = frozenset({"head", "eyes"})
    _TAIL = ((0.8, -0.5), (1.36, -0.92), (1.28, -0.5), (1.36, -0.08))
    _FIN = ((-0.3, -0.86), (0.1, -1.24), (0.52, -0.84))

    def __init__(self, look: Look) -> None:
        super().__init__(look)
        self.half_width = 1.4 * self.w
        self.height = self.legs + 1.14 * self.h
        self.arm_width, self.arm_length = 26, 36

    @property
    def clearance(self) -> float:
        return self.w

    def behind(self, p: Painter, pose: Pose) -> None:
        with p.group(0, -self.legs):
            with p.group(rotation=0.7 * pose.tail, pivot=(0.8 * self.w, -0.5 * self.h)):
                p.fill(self.curve(*self._TAIL), self.look.limb)
            p.fill(self.curve(*self._FIN), self.look.limb)

    def body(self, p: Painter, pose: Pose) -> None:
        h, w = self.h, self.w
        p.fill(s.ellipse(0, -0.5 * h, w, 0.5 * h), self.look.base, glow=self.glow())
        places = ((0.66, -0.6), (0.74, -0.42), (0.5, -0.24))
        scales = s.join(*(s.arc(x * w, y * h, 0.24 * w, 12) for x, y in places))
        p.line(scales, self.look.shade, 6, outline=False)


CREATURES: dict[str, type[Character]] = {
    "ghost": Ghost,
    "octopus": Octopus,
    "monster": Monster,
    "robot": Robot,
    "snowman": Snowman,
    "fish": Fish,
}
