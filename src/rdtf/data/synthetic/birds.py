"""Birds with a beak on an egg-shaped body, and a frog."""

from __future__ import annotations

from rdtf.data.synthetic import shapes as s
from rdtf.data.synthetic.animal import Animal
from rdtf.data.synthetic.character import Character
from rdtf.data.synthetic.faces import Face
from rdtf.data.synthetic.look import Look
from rdtf.data.synthetic.painter import Glow, Painter
from rdtf.data.synthetic.palette import (
    BEAK,
    NIGHT,
    mix,
)
from rdtf.data.synthetic.pose import Pose
from rdtf.data.synthetic.props import Spot


class Frog(Animal):
    colours = {"green": 7, "lime": 4, "teal": 2, "mint": 2}
    ear_height = 18
    head_size = (112.0, 76.0)

    def __init__(self, look: Look) -> None:
        super().__init__(look)
        self.face = Face(
            0,
            self.head_centre,
            0.8 * self.head_x,
            mouth_drop=0.75,
            eye_lift=0.62,
            eye_spread=0.58,
            pale_eyes=True,
        )
        self.hat = Spot(0, self.hat.y + 2, 0.5 * self.hat.width)

    def skull(self) -> str:
        x, y = self.face.eye_spread * self.face.width * self.look.eye_gap, self._eye_height()
        bumps = s.mirrored(
            lambda side: s.ellipse(side * x, y, 36 * (0.6 + 0.4 * self.look.eye_size))
        )
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
        self.face = Face(
            0, -0.7 * h, 0.7 * self.wide, beak=True, mouth_drop=0.26, ink=mix(NIGHT, look.ink, 0.4)
        )
        self.hat = Spot(0, -0.95 * h, 0.62 * self.wide)
        self.neck = Spot(0, -0.47 * h, 0.92 * self.wide)
        self.shoulder, self.arm_length, self.arm_width = (0.84 * self.wide, -0.5 * h), 62, 30
        self.head_pivot = -0.3 * h
        self.foot, self.foot_size = (40, -9), (31, 13)

    def paint_foot(self, p: Painter, x: float, y: float) -> None:
        p.fill(s.ellipse(x, y, *self.foot_size), BEAK)

    def torso(self, p: Painter, pose: Pose) -> None:
        h, w = self.height, self.wide
        body = s.blob(
            (
                (0, -h),
                (0.6 * w, -0.93 * h),
                (0.86 * w, -0.64 * h),
                (w, -0.3 * h),
                (0.78 * w, -0.07 * h),
                (0, -6),
            ),
            0.19,
        )
        p.fill(body, self.look.base, glow=Glow(0, -0.55 * h, 0.6 * h))
        if not pose.from_behind:
            p.fill(s.ellipse(0, -0.29 * h, 0.68 * w, 0.26 * h), (0.98, 0.98, 0.97), outline=False)

    def head(self, p: Painter, pose: Pose) -> None:
        """Part of the torso; the face moves alone."""

    def markings(self, p: Painter, pose: Pose) -> None:
        w, y = self.face.width, self._eye_height()
        mask = s.join(
            s.mirrored(lambda side: s.ellipse(side * 0.4 * w, y, 0.5 * w, 0.5 * w)),
            s.ellipse(0, y + 0.34 * w, 0.66 * w, 0.42 * w),
        )
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
        p.fill(
            s.join(s.ellipse(-10, top - 6, 8, 20, -28), s.ellipse(8, top - 8, 8, 22, 14)),
            self.look.base,
        )
        body = s.blob(
            (
                (0, -h),
                (0.66 * w, -0.9 * h),
                (w, -0.52 * h),
                (0.86 * w, -0.22 * h),
                (0.4 * w, -22),
                (0, -18),
            ),
            0.19,
        )
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
        self.face = Face(
            0,
            face.y,
            face.width,
            beak=True,
            mouth_drop=0.3,
            pale_eyes=True,
            eye_spread=0.48,
            ink=mix(NIGHT, look.ink, 0.4),
        )

    def torso(self, p: Painter, pose: Pose) -> None:
        h, w = self.body_height, self.wide
        tufts = s.mirrored(
            lambda side: s.polygon(
                (
                    (round(side * 0.25 * w, 1), round(-0.92 * h, 1)),
                    (round(side * 0.74 * w, 1), round(-1.1 * h, 1)),
                    (round(side * 0.84 * w, 1), round(-0.72 * h, 1)),
                )
            )
        )
        body = s.blob(
            (
                (0, -0.97 * h),
                (0.7 * w, -0.9 * h),
                (w, -0.52 * h),
                (0.88 * w, -0.2 * h),
                (0.4 * w, -22),
                (0, -18),
            ),
            0.19,
        )
        p.fill(s.join(body, tufts), self.look.base, glow=Glow(0, -0.55 * h, 0.6 * h))
        if not pose.from_behind:
            p.fill(s.ellipse(0, -0.26 * h, 0.6 * w, 0.2 * h), self.look.light, outline=False)
            marks = s.join(
                *(
                    s.arc(x * w, y * h, 0.2 * w, 10)
                    for x, y in ((-0.22, -0.3), (0.22, -0.3), (0, -0.22))
                )
            )
            p.line(marks, self.look.shade, 6, outline=False)

    def markings(self, p: Painter, pose: Pose) -> None:
        w, y = self.face.width, self._eye_height()
        p.fill(
            s.mirrored(lambda side: s.ellipse(side * 0.46 * w, y, 0.46 * w)),
            self.look.light,
            outline=False,
        )


BIRDS: dict[str, type[Character]] = {
    "frog": Frog,
    "penguin": Penguin,
    "chick": Chick,
    "owl": Owl,
}
