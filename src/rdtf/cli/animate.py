"""`rdtf data animate`."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

from tyro.conf import Positional


@dataclass
class Animate:
    """Set stills in motion by rules, with captions, to train on where there are no clips.

    Each sticker is a still of the folder that jumps, spins, melts …, as a WebP file with captions
    in OUT/captions.jsonl, ready for `rdtf data prepare`. Sticker N is always the same for a seed
    and the same stills. Names of stills come from *.jsonl files or their own file names.

    Example: rdtf data animate my-stills CLIPS --count 500 --verbs jump,spin
    """

    stills: Positional[Path]
    """Folder of stills, at any depth; what is animated is left out."""
    out: Positional[Path]
    """Folder to make."""
    count: int = 200
    """How many stickers."""
    frames: int = 8
    """Frames of each."""
    seed: int = 0
    """Another seed gives other motions."""
    verbs: str | None = None
    """What they may do, as "jump,spin,slide left"; default: every verb of the grammar."""
    canvas: int = 256
    """Side in pixels that stills are fitted to."""
    json: bool = False
    """Print the summary as JSON."""

    def run(self) -> None:
        from collections import Counter

        from rdtf.cli.output import show
        from rdtf.data.animated import AnimatedStills
        from rdtf.data.export import write_sticker_files
        from rdtf.data.progress import track

        animated = AnimatedStills(
            [self.stills],
            self.count,
            num_frames=self.frames,
            seed=self.seed,
            verbs=self.verbs.split(",") if self.verbs is not None else None,
            canvas=self.canvas,
        )
        write_sticker_files(track(animated, "animate", len(animated)), self.out, "webp")
        skipped = dict(Counter(left_out.kind for left_out in animated.skipped).most_common())
        text = f"{self.count} stickers in {self.out}"
        if skipped:
            reasons = ", ".join(f"{count} {kind}" for kind, count in skipped.items())
            text += f"\nleft out {sum(skipped.values())}: {reasons}"
        values = {"path": self.out, "num_stickers": self.count, "skipped": skipped}
        show(values, self.json, text)
