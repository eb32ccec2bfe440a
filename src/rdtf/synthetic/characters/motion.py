"""What a motion is: a pose for every moment, and the words for it."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field

from rdtf.synthetic.characters.pose import Beat, Pose

ANY_MOOD: Mapping[str, float] = {
    "happy": 5, "joyful": 2, "sad": 1.5, "angry": 1.5, "surprised": 1.5, "sleepy": 1,
    "in love": 0.8, "winking": 1.2, "silly": 1, "shy": 1, "scared": 0.8, "calm": 1.2,
    "excited": 1.2, "dizzy": 0.4, "grumpy": 1, "cheeky": 1,
}  # fmt: skip
GOOD_MOOD: Mapping[str, float] = {
    "happy": 5, "joyful": 3, "excited": 2, "winking": 1.5, "silly": 1, "cheeky": 1, "calm": 0.5,
}  # fmt: skip
OPEN_EYES: Mapping[str, float] = {
    "happy": 4, "sad": 1.5, "angry": 1.5, "grumpy": 1, "cheeky": 1, "surprised": 1, "scared": 1,
}  # fmt: skip


@dataclass(frozen=True)
class Motion:
    """One way to move.

    `pose(beat)` gives the key pose of a moment. `phrases` are pairs of third person and gerund:
    ("waves hello", "waving hello").
    """

    pose: Callable[[Beat], Pose]
    phrases: tuple[tuple[str, str], ...]
    weight: float = 1.0
    loops: bool = True
    min_frames: int = 2
    frames_per_beat: int = 4
    """Fewest frames that show one repetition; longer clips may repeat."""
    moods: Mapping[str, float] = field(default_factory=lambda: ANY_MOOD)
    busy: frozenset[str] = frozenset()
    """Places where no prop may be: hands that clap, eyes that blink."""
    adverbs: bool = True
    """Whether the mood can be said as an adverb: "waves happily", but not "faints happily"."""
    grounded: bool = True
    """Whether a shadow on the ground makes sense."""
