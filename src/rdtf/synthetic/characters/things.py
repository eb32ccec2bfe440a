"""Things: of sky and garden (star, sun, cloud, flower, mushroom …), and objects."""

from __future__ import annotations

import math

from rdtf.synthetic.characters import painter as s
from rdtf.synthetic.characters import palette as c
from rdtf.synthetic.characters.character import Character, Thing
from rdtf.synthetic.characters.faces import Face
from rdtf.synthetic.characters.motions import Pose
from rdtf.synthetic.characters.painter import Glow, Painter

_STEM = c.mix(c.CREAM, c.WOOD, 0.08)


class _Star(Thing):
    colours = ("yellow", "orange", "pink", "sky blue")
    wide, tall, legs = 124.0, 236.0, 20.0
    face_height, face_width, shoulder_height = 0.5, 0.42, 0.36
    hat_width, hat_height, shoulder_reach = 0.3, 0.9, 0.5

    def body(self, p: Painter, pose: Pose) -> None:
        points = []
        for k in range(10):
            angle, reach = math.pi * k / 5, 0.56 if k % 2 else 1.0
            points.append((1.04 * reach * math.sin(angle), -0.46 - 0.54 * reach * math.cos(angle)))
        p.fill(self.curve(*points, tension=0.075), self.look.base, glow=self.glow())
        self.shine(p, -0.16, -0.72)


class _Heart(Thing):
    colours = ("red", "pink", "magenta", "purple")
    wide, tall, legs = 116.0, 204.0, 22.0
    face_height, face_width, shoulder_height = 0.6, 0.5, 0.5
    hat_width, hat_height, shoulder_reach = 0.5, 0.86, 0.82

    def __init__(self, look: c.Look) -> None:
        super().__init__(look)
        self.foot = (0.24 * self.w, -8)
        self.hip = -self.legs - 26

    def body(self, p: Painter, pose: Pose) -> None:
        with p.group(0, -0.49 * self.h, scale_x=self.w / 100, scale_y=self.h / 190):
            p.fill(s.heart(0, 0, 200), self.look.base, glow=Glow(0, -10, 118))
        self.shine(p, -0.6, -0.76, 1.2)


class _Sun(Thing):
    colours = ("yellow", "orange", "coral")
    hovers = True
    wide, tall, legs = 126.0, 252.0, 16.0
    face_height, face_width, shoulder_height = 0.52, 0.5, 0.4
    hat_width, hat_height, shoulder_reach = 0.45, 0.84, 0.86

    def body(self, p: Painter, pose: Pose) -> None:
        h, w = self.h, self.w
        rays = s.star(0, 0, round(1.06 * w, 1), 10 + 2 * self.look.markings, 0.78)
        with p.group(0, -0.5 * h, rotation=0.8 * pose.tail):
            p.fill(rays, c.mix(self.look.base, c.from_hex("#ff7a1a"), 0.4))
        p.fill(s.ellipse(0, -0.5 * h, 0.78 * w), self.look.base, glow=Glow(0, -0.5 * h, 0.78 * w))


class _Moon(Thing):
    colours = ("yellow", "white", "lavender", "sky blue")
    hovers = True
    wide, tall, legs = 108.0, 220.0, 16.0
    face_height, face_width, shoulder_height = 0.5, 0.62, 0.4

    def body(self, p: Painter, pose: Pose) -> None:
        h, w = self.h, self.w
        p.fill(s.ellipse(0, -0.5 * h, w, 0.5 * h), self.look.base, glow=self.glow())
        craters = self.spots(
            (0.58, -0.72, 17, 14), (-0.66, -0.26, 13, 11), (0.36, -0.87, 9, 7), (0.6, -0.2, 10, 9)
        )
        p.mark(craters, self.look.shade)


class _Cloud(Thing):
    colours = ("white", "sky blue", "gray", "pink", "lavender")
    hovers = True
    wide, tall, legs = 130.0, 180.0, 30.0
    face_height, face_width, shoulder_height = 0.42, 0.48, 0.26
    hat_width, hat_height, shoulder_reach = 0.46, 0.92, 0.82

    def __init__(self, look: c.Look) -> None:
        super().__init__(look)
        self.arm_length = 42
        self.half_width = 1.04 * self.w

    def body(self, p: Painter, pose: Pose) -> None:
        h, w = self.h, self.w
        puffs = s.join(s.ellipse(-0.56 * w, -0.34 * h, 0.46 * w, 0.34 * h), s.ellipse(0.58 * w,
            -0.32 * h, 0.43 * w, 0.32 * h), s.ellipse(0.02 * w, -0.58 * h, 0.58 * w, 0.43 * h),
            s.rectangle(0, -0.2 * h, 1.5 * w, 0.4 * h, 0.19 * h))  # fmt: skip
        p.fill(puffs, self.look.base)
        if not self.look.outlined:
            belly = s.ellipse(0, -0.09 * h, 0.62 * w, 0.07 * h)
            p.mark(belly, self.look.shade, opacity=0.5)


class _Drop(Thing):
    """A drop of water."""

    colours = ("sky blue", "blue", "teal", "mint")
    opacity = 0.9
    wide, tall, legs = 90.0, 226.0, 22.0
    face_height, face_width, shoulder_height = 0.38, 0.66, 0.3
    hat_width, hat_height = 0.36, 0.86

    def body(self, p: Painter, pose: Pose) -> None:
        outline = ((0, -1), (0.3, -0.76), (0.86, -0.5), (0.9, -0.2), (0.5, -0.02), (0, 0))
        p.fill(self.blob(*outline, tension=0.15), self.look.base, glow=self.glow())
        glint = s.ellipse(-0.48 * self.w, -0.5 * self.h, 9, 20, 28)
        p.mark(glint, c.tint(c.WATER, 0.8), opacity=0.8)


class _Flower(Thing):
    colours = ("pink", "red", "yellow", "white", "purple", "sky blue")
    wide, tall, legs = 100.0, 200.0, 100.0
    face_height, face_width, shoulder_height = 0.5, 0.48, -0.2
    hat_width, hat_height, shoulder_reach = 0.5, 0.8, 0.04
    torso_turns = False

    def __init__(self, look: c.Look) -> None:
        super().__init__(look)
        self.face = Face(0, self.face.y, self.face.width, ink=c.mix(c.NIGHT, c.WOOD, 0.2))
        self.disc = c.CREAM if c.similar(look.base, c.GOLD) else c.GOLD
        self.foot, self.foot_size, self.hip = (17, -8), (20, 9), None
        self.arm_length, self.arm_width = 50, 23
        self.arm_colour, self.foot_colour = c.LEAF, c.shade(c.LEAF, 0.12)

    def hand(self, pose: Pose, side: int) -> s.Point:
        """Leaves start low and never hang straight down."""
        x, y = super().hand(pose, side)
        return x + side * 18, y - 18

    def behind(self, p: Painter, pose: Pose) -> None:
        p.line(s.limb((0, -14), (0, -self.legs - 40), 0.5 * pose.tail), c.LEAF, 17)

    def top(self, p: Painter, pose: Pose) -> None:
        count, y, w = 6 + self.look.markings, -0.5 * self.h, self.w
        for k in range(count):
            with p.group(0, y, rotation=360 * k / count + 0.5 * pose.tail):
                p.fill(s.ellipse(0, -0.64 * w, 0.4 * w, 0.42 * w), self.look.base)
        p.fill(s.ellipse(0, y, 0.6 * w), self.disc, glow=Glow(0, y, 0.6 * w))


class _Mushroom(Thing):
    colours = ("red", "brown", "purple", "teal", "orange")
    wide, tall, legs = 118.0, 236.0, 14.0
    face_height, face_width, shoulder_height = 0.26, 0.42, 0.2
    hat_width, hat_height, shoulder_reach = 0.5, 0.95, 0.5

    def __init__(self, look: c.Look) -> None:
        super().__init__(look)
        self.face = Face(0, self.face.y, self.face.width, ink=c.mix(c.NIGHT, c.WOOD, 0.2))
        self.foot, self.foot_size = (0.24 * self.w, -9), (22, 11)
        self.arm_colour = self.foot_colour = _STEM if look.outlined else c.mix(_STEM, c.WOOD, 0.3)

    def body(self, p: Painter, pose: Pose) -> None:
        stem = self.blob(
            (0, -0.6), (0.5, -0.5), (0.56, -0.14), (0.4, 0.01), (0, 0.02), tension=0.17
        )
        p.fill(stem, _STEM, glow=Glow(0, -0.3 * self.h, 70))

    def top(self, p: Painter, pose: Pose) -> None:
        outline = ((0, -1), (0.66, -0.88), (1.02, -0.5), (0.86, -0.38), (0, -0.42))
        cap = self.blob(*outline, tension=0.17)
        p.fill(cap, self.look.base, glow=Glow(0, -0.66 * self.h, self.w))
        dots = self.spots((-0.46, -0.66, 20, 17), (0.1, -0.78, 24, 20), (0.64, -0.56, 16, 14),
            (-0.06, -0.52, 11, 9))  # fmt: skip
        p.mark(dots, c.CREAM)


class _Cactus(Thing):
    colours = ("green", "teal", "mint", "lime")
    wide, tall, legs = 74.0, 244.0, 0.0
    face_height, face_width, shoulder_height = 0.66, 0.74, 0.5
    hat_width, hat_height = 0.66, 0.96
    has_feet = False

    def __init__(self, look: c.Look) -> None:
        super().__init__(look)
        self.half_width = self.w + 54
        self.arm_width = 31

    def body(self, p: Painter, pose: Pose) -> None:
        h, w = self.h, self.w
        stem = s.rectangle(0, -0.58 * h, 1.76 * w, 0.84 * h, 0.84 * w)
        p.fill(stem, self.look.base, glow=Glow(0, -0.62 * h, 0.5 * h))
        ribs = ((-0.5, -0.42), (0, -0.4), (0.5, -0.42))
        grooves = s.join(*(s.limb((x * w, -0.28 * h), (x * w, y * h), 0) for x, y in ribs))
        p.stroke(grooves, self.look.shade, 5)
        pot = self.curve((-0.98, -0.24), (0.98, -0.24), (0.74, 0), (-0.74, 0), tension=0.02)
        p.fill(pot, c.from_hex("#d97b4f"))
        p.fill(s.rectangle(0, -0.25 * h, 2.14 * w, 0.1 * h, 8), c.from_hex("#e58d60"))


class _Pumpkin(Thing):
    colours = ("orange", "white", "green")
    wide, tall, legs = 118.0, 178.0, 24.0
    face_height, face_width, shoulder_height = 0.48, 0.52, 0.4
    hat_width, hat_height = 0.46, 0.94
    extra_height = 24.0

    def body(self, p: Painter, pose: Pose) -> None:
        h, w, look = self.h, self.w, self.look
        p.line(s.limb((0, -0.92 * h), (14, -1.12 * h), 6), c.shade(c.LEAF, 0.25), 19)
        outer = s.mirrored(lambda side: s.ellipse(side * 0.6 * w, -0.47 * h, 0.4 * w, 0.44 * h))
        inner = s.mirrored(lambda side: s.ellipse(side * 0.32 * w, -0.48 * h, 0.43 * w, 0.47 * h))
        p.fill(outer, c.mix(look.base, look.shade, 0.8))
        p.fill(inner, c.mix(look.base, look.shade, 0.4))
        p.mark(s.ellipse(0, -0.48 * h, 0.46 * w, 0.49 * h), look.base)


class _Berry(Thing):
    """A strawberry."""

    colours = ("red", "pink", "white")
    wide, tall, legs = 102.0, 206.0, 20.0
    face_height, face_width, shoulder_height = 0.52, 0.54, 0.5
    hat_width, hat_height, shoulder_reach = 0.46, 0.97, 0.86
    extra_height = 18.0
    _SEEDS = (
        (-0.62, -0.72), (0.62, -0.72), (-0.72, -0.46), (0.72, -0.46), (-0.36, -0.2), (0.36, -0.2),
        (0, -0.12), (-0.24, -0.82), (0.26, -0.82),
    )  # fmt: skip

    def __init__(self, look: c.Look) -> None:
        super().__init__(look)
        self.foot = (0.24 * self.w, -8)

    def body(self, p: Painter, pose: Pose) -> None:
        berry = self.blob(
            (0, -0.96), (0.66, -0.94), (1, -0.62), (0.62, -0.16), (0, 0), tension=0.19
        )
        p.fill(berry, self.look.base, glow=self.glow())
        seeds = self.spots(*((x, y, 4, 6) for x, y in self._SEEDS))
        p.mark(seeds, c.tint(c.GOLD, 0.45))

    def top(self, p: Painter, pose: Pose) -> None:
        y = -0.94 * self.h
        p.line(s.limb((0, y), (4, y - 26), 3), c.LEAF, 13)
        leaves = (
            s.ellipse(30 * x, y + 7 * abs(x) + 4, 32, 12, 32 * x) for x in (-1.3, -0.5, 0.5, 1.3)
        )
        p.fill(s.join(*leaves), c.LEAF)


NATURE: dict[str, type[Character]] = {"star": _Star, "heart": _Heart, "sun": _Sun, "moon": _Moon,
    "cloud": _Cloud, "water drop": _Drop, "flower": _Flower, "mushroom": _Mushroom,
    "cactus": _Cactus, "pumpkin": _Pumpkin, "strawberry": _Berry}  # fmt: skip


class _Balloon(Thing):
    colours = ("red", "blue", "pink", "yellow", "green", "purple")
    hovers = True
    wide, tall, legs = 92.0, 214.0, 72.0
    face_height, face_width, shoulder_height = 0.54, 0.6, 0.38

    def behind(self, p: Painter, pose: Pose) -> None:
        sway, y = 0.8 * pose.tail + 7, -self.legs
        string = ((0, y), (sway, 0.68 * y), (-sway, 0.34 * y), (0.4 * sway, 0))
        p.stroke(s.smooth(s.scaled(string), False), c.shade(c.STEEL, 0.25), 6)

    def body(self, p: Painter, pose: Pose) -> None:
        p.fill(s.polygon(((0, -10), (15, 14), (-15, 14))), self.look.shade)
        skin = self.blob((0, -1), (0.72, -0.86), (1, -0.54), (0.62, -0.18), (0, -0.01))
        p.fill(skin, self.look.base, glow=self.glow())
        self.shine(p, -0.56, -0.8, 1.3)


class _Cup(Thing):
    colours = ("white", "teal", "red", "yellow", "brown", "lavender")
    wide, tall, legs = 88.0, 176.0, 26.0
    face_height, face_width, shoulder_height = 0.48, 0.62, 0.34
    extra_height = 44.0
    places = frozenset({"eyes", "hand"})
    torso_turns = False

    def __init__(self, look: c.Look) -> None:
        super().__init__(look)
        self.half_width = self.w + 40

    def body(self, p: Painter, pose: Pose) -> None:
        h, w = self.h, self.w
        p.line(s.ellipse(0.98 * w, -0.5 * h, 28, 0.24 * h), self.look.limb, 17)
        mug = ((-1, -0.94), (1, -0.94), (0.9, -0.2), (0.5, 0), (-0.5, 0), (-0.9, -0.2))
        p.fill(self.curve(*mug, tension=0.08), self.look.base, glow=self.glow())
        p.fill(s.ellipse(0, -0.93 * h, w, 0.11 * h), self.look.light)
        p.mark(s.ellipse(0, -0.92 * h, 0.84 * w, 0.075 * h), c.from_hex("#7a4a2e"))
        self._steam(p, 0.4 * pose.tail)

    def _steam(self, p: Painter, drift: float) -> None:
        h = self.h
        wisp = ((0, -1.02 * h), (9 + drift, -1.12 * h), (-7 - drift, -1.2 * h), (3, -1.28 * h))
        for x in (-26, 22):
            with p.group(x):
                p.stroke(s.smooth(s.scaled(wisp), False), c.STEEL, 9, opacity=0.65)


class _Gift(Thing):
    colours = ("red", "green", "blue", "purple", "pink", "teal")
    wide, tall, legs = 94.0, 184.0, 24.0
    face_height, face_width, shoulder_height = 0.38, 0.6, 0.34
    extra_height = 50.0
    places = frozenset({"eyes", "hand"})
    torso_turns = False
    _LOOP = ((2, 4), (47, -48), (64, -22), (43, 6))

    def __init__(self, look: c.Look) -> None:
        super().__init__(look)
        self.ribbon = c.GOLD if c.similar(look.accent, look.base) else look.accent

    def body(self, p: Painter, pose: Pose) -> None:
        h, w = self.h, self.w
        p.fill(s.rectangle(0, -0.38 * h, 1.8 * w, 0.76 * h, 14), self.look.base, glow=self.glow())
        p.mark(s.rectangle(0, -0.1 * h, 0.3 * w, 0.19 * h), self.ribbon)

    def top(self, p: Painter, pose: Pose) -> None:
        h, w = self.h, self.w
        p.fill(s.both_sides(self._LOOP, 0.15, y=-0.98 * h), self.ribbon)
        lid = self.look.base if self.look.outlined else self.look.shade
        p.fill(s.rectangle(0, -0.85 * h, 2.06 * w, 0.24 * h, 12), lid)
        band = s.rectangle(0, -0.85 * h, 0.34 * w, 0.24 * h - 2)
        p.mark(band, self.ribbon)
        p.fill(s.ellipse(0, -0.98 * h, 15, 13), c.shade(self.ribbon, 0.2))


class _Rocket(Thing):
    colours = ("white", "red", "blue", "gray", "orange", "teal")
    hovers = True
    wide, tall, legs = 78.0, 252.0, 40.0
    face_height, face_width, shoulder_height = 0.5, 0.68, 0.28
    places = frozenset({"eyes", "hand"})
    _FIN = ((0.5, -0.42), (1.36, -0.12), (1.4, 0.04), (0.4, -0.06))

    def __init__(self, look: c.Look) -> None:
        super().__init__(look)
        self.half_width = self.w + 42
        self.trim = c.LOVE if c.similar(look.accent, look.base) else look.accent

    def behind(self, p: Painter, pose: Pose) -> None:
        reach = self.legs + 0.9 * pose.tail
        with p.group(0, -self.legs):
            for share, colour in ((1.0, c.from_hex("#ff8a2b")), (0.6, c.GOLD)):
                tip, mid = reach * share, 0.55 * reach * share
                flame = ((-30, -8), (30, -8), (19, mid), (0, tip), (-19, mid))
                tongue = s.smooth(s.scaled(flame, share), True, 0.14)
                p.fill(tongue, colour, outline=share == 1.0)
            p.fill(s.both_sides(s.scaled(self._FIN, self.w, self.h), 0.1), self.trim)

    def body(self, p: Painter, pose: Pose) -> None:
        hull = ((0, -1), (0.56, -0.84), (1, -0.46), (0.78, -0.08), (0.4, 0), (0, 0))
        p.fill(self.blob(*hull, tension=0.17), self.look.base, glow=self.glow())
        nose = self.blob((0, -0.985), (0.4, -0.9), (0.56, -0.79), (0, -0.75), tension=0.16)
        p.mark(nose, self.trim)


class _Egg(Thing):
    colours = ("white", "beige", "mint", "pink", "sky blue")
    wide, tall, legs = 90.0, 222.0, 22.0
    face_height, face_width, shoulder_height = 0.46, 0.66, 0.34

    def body(self, p: Painter, pose: Pose) -> None:
        shell = self.blob((0, -1), (0.68, -0.8), (1, -0.38), (0.72, -0.07), (0, 0))
        p.fill(shell, self.look.base, glow=self.glow())
        if self.look.markings != 1:
            self.shine(p, -0.5, -0.76, 1.2)
            return
        freckles = self.spots((0.4, -0.8, 8, 7), (-0.5, -0.72, 6, 5), (-0.26, -0.86, 5, 5), (0.66,
            -0.24, 7, 6), (-0.6, -0.2, 8, 7))  # fmt: skip
        p.mark(freckles, self.look.shade)


class _Cupcake(Thing):
    colours = ("pink", "mint", "lavender", "brown", "yellow")
    wide, tall, legs = 96.0, 218.0, 22.0
    face_height, face_width, shoulder_height = 0.24, 0.58, 0.26
    shoulder_reach = 0.72
    extra_height = 16.0
    places = frozenset({"eyes", "hand"})

    def __init__(self, look: c.Look) -> None:
        super().__init__(look)
        self.face = Face(0, self.face.y, self.face.width, ink=c.mix(c.NIGHT, c.WOOD, 0.2))

    def body(self, p: Painter, pose: Pose) -> None:
        h, w, paper = self.h, self.w, c.from_hex("#f3d9a8")
        case = self.curve((-0.86, -0.46), (0.86, -0.46), (0.62, 0), (-0.62, 0), tension=0.04)
        p.fill(case, paper)
        pleats = (
            s.limb((0.86 * x * w, -0.4 * h), (0.64 * x * w, -6), 0) for x in (-0.8, -0.5, 0.5, 0.8)
        )
        p.stroke(s.join(*pleats), c.shade(paper, 0.25), 5)

    def top(self, p: Painter, pose: Pose) -> None:
        h, w = self.h, self.w
        layers = ((-0.52, 1.0, 0.14), (-0.68, 0.76, 0.14), (-0.83, 0.5, 0.13), (-0.94, 0.22, 0.08))
        swirl = s.join(*(s.ellipse(0, y * h, rx * w, ry * h) for y, rx, ry in layers))
        p.fill(swirl, self.look.base, glow=Glow(0, -0.65 * h, w))
        folds = s.join(s.arc(0, -0.585 * h, 1.2 * w, 12), s.arc(0, -0.74 * h, 0.8 * w, 10))
        p.stroke(folds, self.look.shade, 6)
        p.fill(s.ellipse(0, -h, 17), c.LOVE)
        p.mark(s.ellipse(-5, -1.02 * h, 4), c.WHITE, opacity=0.8)


class _Bulb(Thing):
    """A light bulb."""

    colours = ("yellow", "white", "sky blue")
    wide, tall, legs = 90.0, 232.0, 18.0
    face_height, face_width, shoulder_height = 0.62, 0.6, 0.4
    hat_width, hat_height, shoulder_reach = 0.6, 0.95, 0.62
    _GLASS = ((0, -1), (0.72, -0.88), (1, -0.6), (0.62, -0.3), (0.46, -0.2), (0, -0.19))

    def body(self, p: Painter, pose: Pose) -> None:
        h, w = self.h, self.w
        p.fill(s.rectangle(0, -0.11 * h, 0.84 * w, 0.23 * h, 12), c.STEEL)
        thread = (s.limb((-0.32 * w, y * h), (0.32 * w, y * h - 4), 0) for y in (-0.06, -0.13))
        p.stroke(s.join(*thread), c.shade(c.STEEL, 0.5), 6)
        p.fill(self.blob(*self._GLASS, tension=0.19), self.look.base, glow=Glow(0, -0.6 * h, w))
        self.shine(p, -0.56, -0.8, 1.2)


OBJECTS: dict[str, type[Character]] = {"balloon": _Balloon, "cup": _Cup, "gift": _Gift,
    "rocket": _Rocket, "egg": _Egg, "cupcake": _Cupcake, "light bulb": _Bulb}  # fmt: skip
