"""Faces: eyes, brows, mouths and cheeks, and the expressions that combine them."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

from rdtf.synthetic.characters import painter as s
from rdtf.synthetic.characters import palette as c
from rdtf.synthetic.characters.motions import Pose
from rdtf.synthetic.characters.painter import Painter


@dataclass(frozen=True)
class _Expression:
    """A mood: what the face does, and the words for it."""

    eyes: str
    mouth: str
    adjective: str
    adverb: str
    brows: str = ""
    blush: bool = False
    looks: str = ""
    """After "it looks", where that is not the adjective."""


EXPRESSIONS: dict[str, _Expression] = {
    "happy": _Expression("open", "smile", "happy", "happily"),
    "joyful": _Expression("arched", "grin", "joyful", "joyfully"),
    "sad": _Expression("open", "frown", "sad", "sadly", brows="sad"),
    "angry": _Expression("open", "frown", "angry", "angrily", brows="angry"),
    "surprised": _Expression("wide", "o", "surprised", "in surprise", brows="raised"),
    "sleepy": _Expression("half", "flat", "sleepy", "sleepily"),
    "in love": _Expression("heart", "smile", "lovestruck", "lovingly", blush=True),
    "winking": _Expression("wink", "smile", "winking", "with a wink", looks="playful"),
    "silly": _Expression("wink", "tongue", "silly", "playfully"),
    "shy": _Expression("shut", "small", "shy", "shyly", brows="sad", blush=True),
    "scared": _Expression("wide", "wavy", "scared", "nervously", brows="sad"),
    "calm": _Expression("shut", "smile", "calm", "calmly"),
    "excited": _Expression("star", "grin", "excited", "excitedly"),
    "dizzy": _Expression("cross", "wavy", "dizzy", "dizzily"),
    "grumpy": _Expression("half", "frown", "grumpy", "grumpily", brows="angry"),
    "cheeky": _Expression("open", "tongue", "cheeky", "cheekily", brows="raised"),
}


@dataclass(frozen=True)
class Face:
    """Where a face sits: centre and half width, in character units."""

    x: float
    y: float
    width: float
    beak: bool = False
    nose: str = ""
    """`cat`, `dog`, `pig` or none."""
    mouth_drop: float = 0.36
    """Mouth below the eyes, in half widths."""
    eye_lift: float = 0.0
    """Eyes above the centre, in half widths."""
    eye_spread: float = 0.45
    ink: c.Colour | None = None
    """For faces that sit on another colour than the base."""
    pale_eyes: bool = False
    """Always white eyeballs (frogs, masks)."""


def draw_face(p: Painter, face: Face, look: c.Look, pose: Pose, expression: _Expression) -> None:
    """Paint the face of one frame; the pose may override what the expression says."""
    ink = face.ink or look.eye_ink
    eyes, mouth = pose.eyes or expression.eyes, pose.mouth or expression.mouth
    brows = expression.brows if pose.brows is None else pose.brows
    if eyes in ("open", "wide", "half") and pose.openness < 0.3:
        eyes = "shut"
    y = face.y + look.eye_height * face.width - face.eye_lift * face.width
    if expression.blush or pose.blush or look.cheeks:
        _cheeks(p, face, y, strong=expression.blush or pose.blush)
    pen = _Pen(p, face, look, pose, ink, y)
    for side in (-1, 1):
        _EYES[_one_eye(eyes, side)](pen, side)
    if brows:
        _brows(pen, brows)
    if face.nose:
        _nose(pen)
    if face.beak:
        _beak(pen, mouth)
    else:
        _MOUTHS[mouth](pen)


def _one_eye(eyes: str, side: int) -> str:
    if eyes == "wink":
        return "open" if side < 0 else "arched"
    return eyes


@dataclass(frozen=True)
class _Pen:
    p: Painter
    face: Face
    look: c.Look
    pose: Pose
    ink: c.Colour
    y: float

    @property
    def radius(self) -> float:
        return 0.15 * self.face.width * self.look.eye_size

    @property
    def line(self) -> float:
        return max(5.0, 0.075 * self.face.width)

    @property
    def on_dark(self) -> bool:
        """A pale pen means a dark face: eyes need white eyeballs there."""
        return not c.is_dark(self.ink)

    def draw(self, paths: str) -> None:
        """Lines in ink."""
        self.p.stroke(paths, self.ink, self.line)

    def eye_x(self, side: int) -> float:
        return self.face.x + side * self.face.eye_spread * self.face.width * self.look.eye_gap

    @property
    def mouth_y(self) -> float:
        return self.y + self.face.mouth_drop * self.face.width


def _cheeks(p: Painter, face: Face, y: float, strong: bool) -> None:
    w = face.width
    spots = s.mirrored(
        lambda side: s.ellipse(face.x + side * 0.72 * w, y + 0.27 * w, 0.15 * w, 0.1 * w)
    )
    p.mark(spots, c.BLUSH, opacity=0.8 if strong else 0.5)


# --- eyes -----------------------------------------------------------------------------------------


def _open_eye(pen: _Pen, side: int) -> None:
    x, r, openness = pen.eye_x(side), pen.radius, pen.pose.openness
    gx, gy = pen.pose.gaze[0] * r * 0.45, pen.pose.gaze[1] * r * 0.45
    style = pen.look.eye_style
    if pen.face.pale_eyes or style == "round" or pen.on_dark:
        pen.p.fill(s.ellipse(x, pen.y, 1.25 * r, 1.45 * r * openness), c.WHITE, outline=True)
        pen.p.mark(s.ellipse(x + gx, pen.y + gy, 0.78 * r, 0.92 * r * openness), c.NIGHT)
        size = 0.26
    else:
        tall = 1.3 if style == "dot" else 1.45
        x, size = x + 0.8 * gx, 0.3 if style == "dot" else 0.4
        pen.p.mark(s.ellipse(x, pen.y + gy, 1.06 * r, tall * r * openness), pen.ink)
        gx = 0.0
    if openness > 0.5:
        shine = s.ellipse(x + gx - 0.3 * r, pen.y + gy - 0.5 * r * openness, size * r * 1.15)
        if style == "shiny":
            shine = s.join(
                shine, s.ellipse(x + gx + 0.35 * r, pen.y + gy + 0.5 * r * openness, 0.2 * r)
            )
        pen.p.mark(shine, c.WHITE)


def _wide_eye(pen: _Pen, side: int) -> None:
    x, r = pen.eye_x(side), pen.radius
    gx, gy = pen.pose.gaze[0] * r * 0.6, pen.pose.gaze[1] * r * 0.6
    edge = s.ellipse(x, pen.y, 1.6 * r, 1.75 * r)
    pen.p.mark(edge, c.WHITE)
    pen.p.stroke(edge, c.NIGHT, 0.6 * pen.line)
    pen.p.mark(s.ellipse(x + gx, pen.y + gy, 0.62 * r, 0.7 * r), c.NIGHT)


def _half_eye(pen: _Pen, side: int) -> None:
    x, r = pen.eye_x(side), pen.radius
    if pen.on_dark or pen.face.pale_eyes:
        pen.p.mark(s.half_disc(x, pen.y, 2.7 * r, 1.4 * r), c.WHITE)
        pen.p.mark(s.half_disc(x, pen.y, 1.5 * r, 1.0 * r), c.NIGHT)
    else:
        pen.p.mark(s.half_disc(x, pen.y, 2.3 * r, 1.35 * r), pen.ink)
    lid = s.polygon(((round(x - 1.45 * r, 1), round(pen.y, 1)), (round(x + 1.45 * r, 1),
        round(pen.y, 1))), False)  # fmt: skip
    pen.p.stroke(lid, pen.ink, 0.85 * pen.line)


def _squeezed_eye(pen: _Pen, side: int) -> None:
    x, y, r = pen.eye_x(side), pen.y, 1.25 * pen.radius
    points = tuple((round(x + side * dx * r, 1), round(y + dy * r, 1)) for dx, dy in ((1, -0.8),
        (-0.8, 0), (1, 0.8)))  # fmt: skip
    pen.draw(s.polygon(points, False))


def _cross_eye(pen: _Pen, side: int) -> None:
    x, y, r = round(pen.eye_x(side), 1), round(pen.y, 1), round(1.05 * pen.radius, 1)
    strokes = s.join(s.polygon(((x - r, y - r), (x + r, y + r)), False), s.polygon(((x - r, y + r),
        (x + r, y - r)), False))  # fmt: skip
    pen.draw(strokes)


def _heart_eye(pen: _Pen, side: int) -> None:
    size = 3.5 * pen.radius * (0.85 + 0.15 * pen.pose.openness)
    shape = s.heart(pen.eye_x(side), pen.y, size)
    if c.similar(pen.look.base, c.LOVE):
        pen.p.stroke(shape, c.WHITE, 0.8 * pen.radius)
    pen.p.mark(shape, c.LOVE)


def _star_eye(pen: _Pen, side: int) -> None:
    x, r = pen.eye_x(side), pen.radius
    pen.p.mark(s.ellipse(x, pen.y, 1.5 * r, 1.65 * r), c.NIGHT)
    pen.p.mark(s.star(round(x, 1), round(pen.y, 1), round(1.25 * r, 1)), c.GOLD)


_EYES: dict[str, Callable[[_Pen, int], None]] = {
    "open": _open_eye,
    "wide": _wide_eye,
    "half": _half_eye,
    "shut": lambda q, side: q.draw(s.arc(q.eye_x(side), q.y + 2, 2.9 * q.radius, 0.9 * q.radius)),
    "arched": lambda q, side: q.draw(s.arc(q.eye_x(side), q.y, 2.9 * q.radius, -1.5 * q.radius)),
    "squeezed": _squeezed_eye,
    "cross": _cross_eye,
    "heart": _heart_eye,
    "star": _star_eye,
}


def _brows(pen: _Pen, kind: str) -> None:
    slope = {"angry": 0.55, "sad": -0.5, "raised": -0.1}[kind]
    lift = {"angry": 1.75, "sad": 2.2, "raised": 2.75}[kind] * pen.radius

    def brow(side: int) -> str:
        x, half = pen.eye_x(side), 1.35 * pen.radius
        inner, outer = ((x - side * half, pen.y - lift + slope * half), (x + side * half,
            pen.y - lift - slope * half))  # fmt: skip
        return s.limb(inner, outer, -side * 0.12 * half)

    pen.p.stroke(s.mirrored(brow), pen.ink, 1.05 * pen.line)


# --- mouths ---------------------------------------------------------------------------------------


def _nose(pen: _Pen) -> None:
    x, y, w = pen.face.x, pen.mouth_y - 0.13 * pen.face.width, pen.face.width
    if pen.face.nose == "pig":
        pen.p.fill(s.ellipse(x, y + 0.02 * w, 0.27 * w, 0.19 * w), c.shade(pen.look.base, 0.16))
        nostrils = s.mirrored(
            lambda side: s.ellipse(x + side * 0.1 * w, y + 0.02 * w, 0.045 * w, 0.075 * w)
        )
        pen.p.mark(nostrils, c.shade(pen.look.base, 0.55))
        return
    width = {"cat": 0.085, "dog": 0.15}[pen.face.nose] * w
    pen.p.mark(s.ellipse(x, y, width, 0.72 * width), c.NIGHT if pen.face.nose == "dog"
        else c.shade(c.BLUSH, 0.1))  # fmt: skip


def _mouth_base(pen: _Pen) -> float:
    """Where mouths hang: lower where a snout takes the room."""
    return pen.mouth_y + (0.22 * pen.face.width if pen.face.nose == "pig" else 0.0)


def _smile(pen: _Pen) -> None:
    w = pen.face.width
    if pen.face.nose in ("cat", "dog"):
        double = s.mirrored(lambda side: s.arc(pen.face.x + side * 0.12 * w, pen.mouth_y + 0.04 * w,
            0.24 * w, 0.13 * w))  # fmt: skip
        pen.draw(double)
    else:
        pen.draw(s.arc(pen.face.x, _mouth_base(pen), 0.42 * w, 0.17 * w))


def _small(pen: _Pen) -> None:
    w = pen.face.width
    pen.draw(s.arc(pen.face.x, _mouth_base(pen), 0.2 * w, 0.07 * w))


def _frown(pen: _Pen) -> None:
    w = pen.face.width
    pen.draw(s.arc(pen.face.x, _mouth_base(pen) + 0.08 * w, 0.4 * w, -0.17 * w))


def _flat(pen: _Pen) -> None:
    w, y = pen.face.width, _mouth_base(pen) + 0.03 * pen.face.width
    pen.draw(s.limb((pen.face.x - 0.14 * w, y), (pen.face.x + 0.14 * w, y), 0))


def _wavy(pen: _Pen) -> None:
    x, y, w = pen.face.x, _mouth_base(pen) + 0.05 * pen.face.width, pen.face.width
    points = tuple((round(x + dx * w, 1), round(y + dy * w, 1)) for dx, dy in ((-0.26, 0.03),
        (-0.13, -0.05), (0, 0.05), (0.13, -0.05), (0.26, 0.03)))  # fmt: skip
    pen.draw(s.smooth(points, False))


def _grin(pen: _Pen) -> None:
    w, depth = pen.face.width, (0.16 + 0.26 * pen.pose.mouth_open) * pen.face.width
    y = _mouth_base(pen) - 0.05 * w
    pen.p.mark(s.half_disc(pen.face.x, y, 0.56 * w, depth), c.MOUTH)
    pen.p.mark(s.ellipse(pen.face.x, y + 0.72 * depth, 0.15 * w, 0.2 * depth), c.TONGUE)


def _round_mouth(pen: _Pen) -> None:
    w, size = pen.face.width, 0.35 + 0.65 * pen.pose.mouth_open
    pen.p.mark(s.ellipse(pen.face.x, _mouth_base(pen) + 0.06 * w, 0.13 * w * size, 0.17 * w * size),
        c.MOUTH)  # fmt: skip


def _wail(pen: _Pen) -> None:
    """The upside-down D of a crying or shouting mouth."""
    w, depth = pen.face.width, (0.14 + 0.24 * pen.pose.mouth_open) * pen.face.width
    y = _mouth_base(pen) + 0.24 * w
    pen.p.mark(s.half_disc(pen.face.x, y, 0.46 * w, -depth), c.MOUTH)
    pen.p.mark(s.ellipse(pen.face.x, y - 0.16 * depth, 0.13 * w, 0.16 * depth), c.TONGUE)


def _tongue(pen: _Pen) -> None:
    w, y = pen.face.width, _mouth_base(pen)
    tongue = s.rectangle(pen.face.x + 0.06 * w, y + 0.12 * w, 0.17 * w, 0.24 * w, 0.085 * w)
    pen.p.mark(tongue, c.TONGUE)
    pen.draw(s.arc(pen.face.x, y, 0.44 * w, 0.12 * w))


_MOUTHS: dict[str, Callable[[_Pen], None]] = {"smile": _smile, "small": _small, "frown": _frown,
    "flat": _flat, "wavy": _wavy, "grin": _grin, "o": _round_mouth, "wail": _wail,
    "tongue": _tongue}  # fmt: skip


def _beak(pen: _Pen, mouth: str) -> None:
    """Birds: a diamond, open for the mouths that are open."""
    x, y, w = round(pen.face.x, 1), round(pen.mouth_y, 1), pen.face.width
    wide, tall = round(0.24 * w, 1), round(0.12 * w, 1)
    if mouth in ("grin", "o", "wail", "tongue"):
        gape = round((0.08 + 0.2 * pen.pose.mouth_open) * w, 1)
        lower = s.smooth(
            ((x - 0.8 * wide, y), (x + 0.8 * wide, y), (x, y + tall + gape)), True, 0.1
        )
        pen.p.fill(lower, c.shade(c.BEAK, 0.3))
    droop = round({"frown": 0.7, "wavy": 0.6, "wail": 0.5}.get(mouth, 0.0) * tall, 1)
    upper = s.smooth(
        ((x, y - tall), (x + wide, y + droop), (x, y + tall), (x - wide, y + droop)), True, 0.12
    )
    pen.p.fill(upper, c.BEAK)
