"""Does text draw it? Kind and colour of stills that were drawn from words, told by a classifier.

A small convolutional network learns kind and colour from synthetic stickers: any of their frames,
turned, shifted, scaled and a little blurred or noised, so that it does not ask for clean edges. It
is told nothing about drawn stills. Its own error is that on stickers of another seed; what it says
of a model's stills is to be read beside it. Prompts are "a COLOUR KIND", for stickers of a third
seed.
"""

from __future__ import annotations

from dataclasses import dataclass
from itertools import pairwise
from pathlib import Path
from typing import Any

import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor, nn

from benchmarks.common import Table, say
from rdtf.evaluation.results import Estimate, interval
from rdtf.stickers import Sticker
from rdtf.synthetic.characters import SyntheticStickers

_SIDE, _FRAMES, _BATCH, _HELD_OUT = 64, 4, 64, 600
_TRAIN_SEED, _TEST_SEED, _PROMPT_SEED = 70_001, 70_002, 70_003


@dataclass(frozen=True)
class Drawing:
    """Share of prompts whose kind and colour a classifier finds in what was drawn."""

    model: Path | None = None
    """A saved pipeline that draws; default: the model that ships."""
    count: int = 80
    """How many prompts."""
    stickers: int = 6000
    """Synthetic stickers that the classifier learns from."""
    steps: int = 1500
    """Of its training, 64 frames each."""
    seed: int = 0
    sheet: Path | None = None
    """Also write what was drawn, with its prompts, to this PNG."""

    def run(self) -> Table:
        """The classifier's own score, then the model's and that of the same network untrained."""
        from rdtf import StickerPipeline
        from rdtf.evaluation.evaluate import untrained_copy

        classify = _trained(self.stickers, self.steps, self.seed)
        prompts = SyntheticStickers(_PROMPT_SEED, self.count, _SIDE, _FRAMES)
        asked = [prompts.describe(index) for index in range(self.count)]
        labels = _labels([about.kind for about in asked], [about.colour for about in asked])
        found = {"true stickers": classify.hits(*_drawn(_TEST_SEED, _HELD_OUT))}
        pipe = StickerPipeline.from_pretrained(self.model)
        pipe.set_progress_bar_config(disable=True)
        for name, model in (("model", pipe), ("untrained", untrained_copy(pipe, self.seed))):
            stills = []
            for number, about in enumerate(asked):
                say(f"{name}: {number} of {self.count}")
                generator = torch.Generator().manual_seed(self.seed + number)
                words = f"a {about.colour} {about.kind}"
                stills.append(model(words, num_frames=1, generator=generator))
            found[name] = classify.hits(_pixels(stills), labels)
            if self.sheet is not None and name == "model":
                _write_sheet(stills, [f"{a.colour} {a.kind}" for a in asked], self.sheet)
        rows, values = [], {}
        for name, hits in found.items():
            shares = [_share(hits[:, part]) for part in (0, 1)]
            values[name] = {"kind": shares[0].value, "colour": shares[1].value}
            texts = [f"{s.value:.2f} [{s.low:.2f}, {s.high:.2f}]" for s in shares]
            rows.append([name, *texts, str(len(hits))])
        return Table(
            f"kind and colour found by a classifier, prompts 'a COLOUR KIND', seed {self.seed}",
            ["stills", "kind", "colour", "n"],
            rows,
            values,
            [f"chance {1 / len(_KINDS):.2f} and {1 / len(_COLOURS):.2f}; aims .70 and .85"],
        )


def _share(hits: np.ndarray) -> Estimate:
    return Estimate(float(hits.mean()), *interval(hits, lambda rows: rows.mean(axis=1)))


def _write_sheet(stills: list[Sticker], words: list[str], path: Path) -> None:
    from rdtf.stickers import write_sheet

    write_sheet(stills, path, words)


# ---------------------------------------------------------------------------- classifier


def _names() -> tuple[list[str], list[str]]:
    """All kinds and colours."""
    drawn = SyntheticStickers(_TRAIN_SEED, 3000, _SIDE, _FRAMES)
    about = [drawn.describe(index) for index in range(len(drawn))]
    return sorted({one.kind for one in about}), sorted({one.colour for one in about})


_KINDS, _COLOURS = _names()


def _labels(kinds: list[str], colours: list[str]) -> Tensor:
    """`[N, 2]`."""
    pairs = zip(kinds, colours, strict=True)
    return torch.tensor([[_KINDS.index(kind), _COLOURS.index(colour)] for kind, colour in pairs])


def _pixels(stickers: list[Sticker]) -> Tensor:
    """First frames, premultiplied, `[N, 4, 64, 64]` in [0, 1]."""
    frames = np.stack([s.select([0]).fit_canvas(_SIDE).premultiplied()[0] for s in stickers])
    return torch.from_numpy(frames).permute(0, 3, 1, 2)


def _drawn(seed: int, count: int) -> tuple[Tensor, Tensor]:
    """One frame of each of so many stickers, and their labels."""
    makers = SyntheticStickers(seed, count, _SIDE, _FRAMES)
    about = [makers.describe(index) for index in range(count)]
    stickers = []
    for index in range(count):
        if index % 500 == 0:
            say(f"drawing stickers: {index} of {count}")
        sticker = makers[index]
        stickers.append(sticker.select([index % sticker.num_frames]))
    return _pixels(stickers), _labels([a.kind for a in about], [a.colour for a in about])


class _Classifier(nn.Module):
    """Four levels of convolutions; mean and maximum over places; kind and colour."""

    def __init__(self) -> None:
        super().__init__()
        widths, layers = (4, 32, 64, 96, 128), list[nn.Module]()
        for into, out in pairwise(widths):
            layers += [nn.Conv2d(into, out, 3, 2, 1), nn.BatchNorm2d(out), nn.ReLU()]
            layers += [nn.Conv2d(out, out, 3, 1, 1), nn.BatchNorm2d(out), nn.ReLU()]
        self.body = nn.Sequential(*layers)
        self.head = nn.Linear(2 * widths[-1], len(_KINDS) + len(_COLOURS))

    def forward(self, pixels: Tensor) -> tuple[Tensor, Tensor]:
        h = self.body(pixels)
        scores = self.head(torch.cat([h.mean(dim=(2, 3)), h.amax(dim=(2, 3))], dim=1))
        return scores[:, : len(_KINDS)], scores[:, len(_KINDS) :]

    @torch.no_grad()
    def hits(self, pixels: Tensor, labels: Tensor) -> np.ndarray:
        """Whether kind and colour are found, `[N, 2]`."""
        found = torch.stack([scores.argmax(dim=1) for scores in self(pixels)], dim=1)
        return (found == labels).double().numpy()


def _trained(stickers: int, steps: int, seed: int) -> Any:
    pixels, labels = _drawn(_TRAIN_SEED, stickers)
    torch.manual_seed(seed)
    network = _Classifier()
    optimizer = torch.optim.AdamW(network.parameters(), lr=2e-3, weight_decay=1e-2)
    schedule = torch.optim.lr_scheduler.OneCycleLR(optimizer, 2e-3, total_steps=steps)
    for step in range(steps):
        chosen = torch.randint(len(pixels), (_BATCH,))
        kind, colour = network(_augmented(pixels[chosen]))
        loss = F.cross_entropy(kind, labels[chosen, 0]) + F.cross_entropy(colour, labels[chosen, 1])
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
        schedule.step()
        if step % 100 == 0:
            say(f"classifier: step {step} of {steps}, loss {loss.item():.2f}")
    return network.eval()


def _augmented(pixels: Tensor) -> Tensor:
    """Each mirrored or not, turned, scaled, moved; then blurred and noised by chance."""
    count = len(pixels)
    angle, size = 0.25 * torch.randn(count), torch.exp(0.15 * torch.randn(count))
    mirror = 1 - 2 * (torch.rand(count) < 0.5).float()
    rows = torch.stack([
        torch.stack([mirror * size * angle.cos(), -size * angle.sin(), 0.15 * torch.randn(count)]),
        torch.stack([mirror * size * angle.sin(), size * angle.cos(), 0.15 * torch.randn(count)]),
    ])  # fmt: skip
    grid = F.affine_grid(rows.permute(2, 0, 1), list(pixels.shape), align_corners=False)
    moved = F.grid_sample(pixels, grid, align_corners=False)
    blurred = F.avg_pool2d(moved, 3, 1, 1, count_include_pad=False)
    share = torch.rand(count, 1, 1, 1) * (torch.rand(count, 1, 1, 1) < 0.5)
    noise = 0.06 * torch.rand(count, 1, 1, 1) * torch.randn_like(moved)
    return torch.lerp(moved, blurred, share) + noise
