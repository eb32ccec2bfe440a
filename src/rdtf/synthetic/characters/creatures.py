"""Creatures: ghost, octopus, monster, robot, snowman, fish."""

from __future__ import annotations

import math

from rdtf.synthetic.characters import painter as s
from rdtf.synthetic.characters import palette as c
from rdtf.synthetic.characters.animal import Animal
from rdtf.synthetic.characters.character import Character, Thing
from rdtf.synthetic.characters.details import Spot
from rdtf.synthetic.characters.faces import Face
from rdtf.synthetic.characters.motions import Pose
from rdtf.synthetic.characters.painter import Glow, Painter


class _Ghost(Thing):
    colours = ("white", "lavender", "mint", "sky blue")
    hovers = True
    opacity = 0.88
    wide, tall, legs = 92.0, 226.0, 22.0
    face_height, face_width, hat_height, shoulder_height = 0.62, 0.66, 0.95, 0.42

    def __init__(self, look: c.Look) -> None:
        super().__init__(look)
        self.arm_width = 27

    def body(self, p: Painter, pose: Pose) -> None:
        h, w, wave = self.h, self.w, 0.5 * pose.tail
        right = ((0.7 * w, -0.86 * h), (0.98 * w, -0.5 * h), (1.04 * w, -8))
        left = tuple((-x, y) for x, y in reversed(right))
        hem = ((0.7 * w, 8 - wave), (0.36 * w, -18), (0, 8 + wave), (-0.36 * w, -18))
        outline = s.scaled(((0, -h), *right, *hem, (-0.7 * w, 8 - wave), *left))
        p.fill(s.smooth(outline, True, 0.18), self.look.base, glow=self.glow())


class _Octopus(Thing):
    """Its tentacles take the part of feet."""

    colours = ("purple", "coral", "pink", "teal", "red")
    wide, tall, legs = 96.0, 160.0, 66.0
    face_height, face_width, hat_height, shoulder_height = 0.4, 0.7, 0.95, 0.12
    shoulder_reach = 0.82
    has_feet = False

    def __init__(self, look: c.Look) -> None:
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
            p.mark(spots, self.look.shade)


class _Monster(Thing):
    colours = ("purple", "green", "teal", "blue", "magenta", "orange")
    wide, tall, legs = 94.0, 210.0, 26.0
    face_height, face_width, hat_height, shoulder_height = 0.62, 0.66, 0.93, 0.4
    extra_height = 36.0
    _HORN = ((0.3, -0.88), (0.6, -1.16), (0.76, -0.72))

    def __init__(self, look: c.Look) -> None:
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
        p.fill(s.both_sides(s.scaled(self._HORN, w, h), 0.1), c.CREAM)
        p.fill(self.fur(), self.look.base, glow=self.glow())
        if not pose.from_behind:
            p.mark(s.ellipse(0, -0.2 * h, 0.5 * w, 0.16 * h), self.look.light)

    def markings(self, p: Painter, pose: Pose) -> None:
        if self.look.markings == 2:
            w = self.face.width
            fang = s.scaled(((0.2, 0), (0.08, 0), (0.14, 0.16)), w, w)
            y = self.face.y + (0.42 + self.look.eye_height) * w
            p.mark(s.both_sides(fang, y=y), c.WHITE)


class _Robot(Thing):
    colours = ("gray", "sky blue", "teal", "red", "yellow", "white")
    wide, tall, legs = 94.0, 216.0, 26.0
    face_height, face_width, hat_height, shoulder_height = 0.68, 0.62, 0.97, 0.24
    shoulder_reach = 0.66
    extra_height = 30.0
    torso_turns = False
    places = frozenset({"hand", "neck", "head"})

    def __init__(self, look: c.Look) -> None:
        super().__init__(look)
        self.face = Face(0, self.face.y, self.face.width, ink=c.from_hex("#8ff5ff"))
        self.neck = Spot(0, -self.legs - 0.36 * self.h, 0.5 * self.w)
        self.head_pivot = self.neck.y

    def body(self, p: Painter, pose: Pose) -> None:
        h, w, look = self.h, self.w, self.look
        metal = look.limb if look.outlined else look.shade
        p.fill(s.rectangle(0, -0.2 * h, 1.32 * w, 0.4 * h, 18), metal)
        if not pose.from_behind:
            p.mark(s.rectangle(0, -0.18 * h, 0.66 * w, 0.2 * h, 8), look.light)
            lamps = self.spots((-0.18, -0.18, 7, 7), (0.18, -0.18, 7, 7))
            p.mark(lamps, look.accent)
            p.mark(s.ellipse(0, -0.18 * h, 7), c.LOVE)

    def top(self, p: Painter, pose: Pose) -> None:
        h, w, look = self.h, self.w, self.look
        tip = (0.6 * pose.ears, -h - 16)
        p.line(s.limb((0, -0.95 * h), tip, 0), c.STEEL, 8)
        p.fill(s.ellipse(tip[0], tip[1] - 4, 12), look.accent)
        p.fill(s.mirrored(lambda side: s.rectangle(side * w, -0.68 * h, 22, 46, 8)), look.accent)
        skull = s.rectangle(0, -0.69 * h, 1.9 * w, 0.6 * h, 34)
        p.fill(skull, look.base, glow=Glow(0, -0.69 * h, w))

    def markings(self, p: Painter, pose: Pose) -> None:
        screen = s.rectangle(0, self.face.y + 4, 2.4 * self.face.width, 0.44 * self.h, 24)
        p.mark(screen, c.NIGHT)


class _Snowman(Thing):
    colours = ("white", "sky blue", "mint", "lavender")
    wide, tall, legs = 94.0, 262.0, 0.0
    face_height, face_width, hat_height, shoulder_height = 0.74, 0.6, 0.96, 0.42
    places = frozenset({"head", "eyes", "neck", "hand"})
    has_feet = False

    def __init__(self, look: c.Look) -> None:
        super().__init__(look)
        self.neck = Spot(0, -0.5 * self.h, 0.56 * self.w)
        self.head_pivot = self.neck.y
        self.shoulder = (0.76 * self.w, -0.36 * self.h)
        self.half_width = self.w + 34
        self.arm_colour, self.arm_width = c.shade(c.WOOD, 0.3), 11

    def body(self, p: Painter, pose: Pose) -> None:
        h, w = self.h, self.w
        p.fill(s.ellipse(0, -0.26 * h, w, 0.26 * h), self.look.base, glow=Glow(0, -0.26 * h, w))
        if not pose.from_behind:
            buttons = self.spots((0, -0.38, 8, 8), (0, -0.25, 8, 8))
            p.mark(buttons, self.look.accent)

    def top(self, p: Painter, pose: Pose) -> None:
        ball = s.ellipse(0, -0.71 * self.h, 0.8 * self.w, 0.28 * self.h)
        p.fill(ball, self.look.base, glow=Glow(0, -0.71 * self.h, 0.8 * self.w))

    def markings(self, p: Painter, pose: Pose) -> None:
        y = self.face.y + (0.16 + self.look.eye_height) * self.face.width
        carrot = s.polygon(s.scaled(((-5, y - 9), (38, y + 3), (-5, y + 9))))
        p.mark(carrot, c.from_hex("#ff8a2b"))


class _Fish(Thing):
    colours = ("orange", "blue", "teal", "yellow", "purple")
    hovers = True
    wide, tall, legs = 112.0, 176.0, 50.0
    face_height, face_width, shoulder_height = 0.52, 0.52, 0.3
    hat_width, hat_height, shoulder_reach = 0.46, 0.94, 0.8
    places = frozenset({"head", "eyes"})
    _TAIL = ((0.8, -0.5), (1.36, -0.92), (1.28, -0.5), (1.36, -0.08))
    _FIN = ((-0.3, -0.86), (0.1, -1.24), (0.52, -0.84))

    def __init__(self, look: c.Look) -> None:
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
        p.stroke(scales, self.look.shade, 6)


CREATURES: dict[str, type[Character]] = {"ghost": _Ghost, "octopus": _Octopus, "monster": _Monster,
    "robot": _Robot, "snowman": _Snowman, "fish": _Fish}  # fmt: skip


class _Cat(Animal):
    colours = ("orange", "gray", "black", "white", "beige", "brown")
    nose = "cat"
    ear_height = 34

    def behind(self, p: Painter, pose: Pose) -> None:
        self.curved_tail(p, pose, self.look.limb, 24, 112)

    def ears(self, p: Painter, pose: Pose) -> None:
        self.pointed_ears(p, pose.ears, 62, 62, c.mix(self.look.light, c.BLUSH, 0.5))

    def crest(self, p: Painter, pose: Pose) -> None:
        if self.look.markings == 1:
            top = self.head_centre - self.head_y
            stripes = [s.limb((x, top + 8 + abs(x) * 0.2), (0.9 * x, top + 34 - 0.2 * abs(x)), 0)
                for x in (-26, 0, 26)]  # fmt: skip
            p.stroke(s.join(*stripes), self.look.shade, 10)

    def muzzle(self, p: Painter) -> None:
        x, y = self.mouth_spot
        w = self.face.width
        if self.look.markings == 2:
            p.mark(s.ellipse(x, y + 0.02 * w, 0.36 * w, 0.24 * w), self.look.light)
        whiskers = [s.limb((side * 0.82 * w, y + dy * w), (side * 1.22 * w, y + 1.9 * dy * w), 0)
            for side in (-1, 1) for dy in (-0.07, 0.07)]  # fmt: skip
        p.stroke(s.join(*whiskers), self.look.eye_ink, 3.5, opacity=0.7)


class _Dog(Animal):
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
                p.fill(s.ellipse(0, 0.42 * h, 25, 0.56 * h), c.deepen(self.look.base))

    def muzzle(self, p: Painter) -> None:
        x, y = self.mouth_spot
        w = self.face.width
        if self.look.markings:
            side = 1 if self.look.markings == 1 else -1
            patch = self.look.light if c.is_dark(self.look.base) else c.tint(self.look.base, 0.4)
            spot = (side * 0.45 * w, self.eye_height)
            p.mark(s.ellipse(*spot, 0.34 * w, 0.4 * w, side * 14), patch)
        p.mark(s.ellipse(x, y + 0.02 * w, 0.44 * w, 0.31 * w), self.look.light)


class _Bear(Animal):
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
        p.mark(s.ellipse(x, y, 0.38 * w, 0.28 * w), self.look.light)


class _Bunny(Animal):
    colours = ("white", "pink", "gray", "beige", "brown")
    nose = "cat"
    ear_height = 88
    head_size = (100.0, 84.0)

    def __init__(self, look: c.Look) -> None:
        super().__init__(look)
        self.hat = Spot(0, self.hat.y + 4, 0.66 * self.hat.width)

    def behind(self, p: Painter, pose: Pose) -> None:
        if pose.from_behind:
            p.fill(s.ellipse(0, -34, 25), c.tint(self.look.base, 0.5))

    def ears(self, p: Painter, pose: Pose) -> None:
        h = 58 * self.look.ears
        y = self.head_centre - 0.8 * self.head_y
        inner = c.mix(self.look.light, c.BLUSH, 0.55)
        for side in (-1, 1):
            with p.group(side * 0.4 * self.head_x, y, rotation=side * (9 + 1.6 * pose.ears)):
                p.fill(s.ellipse(0, -0.7 * h, 26, h), self.look.base)
                p.mark(s.ellipse(0, -0.7 * h, 13, 0.72 * h), inner)


class _Fox(Animal):
    colours = ("orange", "red", "white", "gray")
    nose = "dog"
    ear_height = 36
    _TAIL = ((30, -20), (82, -22), (124, -66), (112, -122), (84, -92), (56, -70))
    _TIP = ((118, -84), (122, -112), (112, -122), (94, -104), (104, -90))
    _MASK = ((0, 0.2), (0.34, 0.2), (0.98, 0.12), (0.86, 0.52), (0.4, 0.8), (0, 0.88))

    @property
    def belly_colour(self) -> c.Colour:
        return c.tint(self.look.base, 0.86)

    def behind(self, p: Painter, pose: Pose) -> None:
        with p.group(rotation=pose.tail, pivot=(36, -26)):
            p.fill(s.smooth(self._TAIL), self.look.limb)
            p.mark(s.smooth(self._TIP), self.belly_colour)

    def ears(self, p: Painter, pose: Pose) -> None:
        self.pointed_ears(p, pose.ears, 66, 66, c.mix(self.look.base, c.NIGHT, 0.7))

    def markings(self, p: Painter, pose: Pose) -> None:
        w = self.face.width
        with p.group(self.face.x, self.face.y + 0.1 * w):
            p.mark(s.blob(s.scaled(self._MASK, w, w), 0.16), self.belly_colour)


class _Pig(Animal):
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


class _Mouse(Animal):
    colours = ("gray", "white", "brown", "beige")
    nose = "cat"
    ear_height = 36
    head_size = (94.0, 80.0)

    def __init__(self, look: c.Look) -> None:
        super().__init__(look)
        self.half_width = max(self.half_width, 0.72 * self.head_x + 50 * look.ears)

    def behind(self, p: Painter, pose: Pose) -> None:
        self.curved_tail(p, pose, c.mix(self.look.light, c.BLUSH, 0.6), 10, 124)

    def ears(self, p: Painter, pose: Pose) -> None:
        self.round_ears(p, pose.ears, 50, self.look.base, c.mix(self.look.light, c.BLUSH, 0.5))


class _Panda(Animal):
    """White, with patches in its colour."""

    colours = ("black", "brown", "navy", "pink")
    nose = "dog"
    ear_height = 14
    _FUR = (0.985, 0.975, 0.96)
    _BAND = ((0, -126), (0.6, -119), (0.84, -92), (0.4, -82), (0, -80))

    def __init__(self, look: c.Look) -> None:
        super().__init__(look)
        ink = c.mix(c.NIGHT, look.ink, 0.4)
        self.face = Face(0, self.face.y, self.face.width, nose="dog", ink=ink, pale_eyes=True)

    def torso(self, p: Painter, pose: Pose) -> None:
        p.fill(self.trunk(), self._FUR, glow=Glow(0, -70, 78))
        p.mark(s.blob(s.scaled(self._BAND, self.body_width)), self.look.base)

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

        p.mark(s.mirrored(patch), self.look.base)


class _Lion(Animal):
    colours = ("yellow", "orange", "beige")
    nose = "dog"
    ear_height = 34

    def __init__(self, look: c.Look) -> None:
        super().__init__(look)
        self.half_width = max(self.half_width, self.head_x + 24)
        self.mane = c.deepen(c.mix(look.base, c.from_hex("#ff9a2e"), 0.3))

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
        p.mark(s.ellipse(x, y + 2, 0.36 * w, 0.26 * w), self.look.light)


MAMMALS: dict[str, type[Character]] = {"cat": _Cat, "dog": _Dog, "bear": _Bear, "bunny": _Bunny,
    "fox": _Fox, "pig": _Pig, "mouse": _Mouse, "panda": _Panda, "lion": _Lion}  # fmt: skip
