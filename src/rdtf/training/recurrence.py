"""Trains `RecurrencePredictor` on how far the frames of real clips are from each other."""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
import torch
from torch import Tensor

from rdtf.data.clip_store import StoredClip
from rdtf.errors import DataError
from rdtf.models.recurrence import RecurrencePredictor, frame_distances
from rdtf.models.representation import premultiplied
from rdtf.training.trainables import Resident

_SHORTEST = 4  # frames of a clip: two given, two hidden
_WORST = 4.0  # times the error of the nearest frame; more counts no more
_SCALES = 0.7  # log range of contrast and of durations: clips are told apart by neither
_RECODED = (-6.0, -4.0)  # log10 of the squared error that lossy files add, in half of the samples


class TrainRecurrence(Resident):
    """Squared error of hidden frames by given ones, relative to the nearest given frame.

    Clips are cut to whole ones with fewer frames, or to runs of neighbouring frames, and continued
    forwards or backwards.

    Args:
        frames: RGBA, uint8 `[N, H, W, 4]`, of all clips.
        sources: how often each collection is drawn.
    """

    names = ("chosen",)

    def __init__(
        self,
        network: RecurrencePredictor,
        frames: Tensor,
        clips: Sequence[StoredClip],
        sources: Mapping[str, float],
        batch_size: int,
        seed: int = 0,
    ) -> None:
        super().__init__(network)
        self.batch_size, self.seed = batch_size, seed
        longest = int(network.config_.max_places) + 1
        used = [c for c in clips if c.count >= _SHORTEST and sources.get(c.source, 0) > 0]
        if not used:
            raise DataError(f"no clip has {_SHORTEST} frames or more: nothing can come back")
        self.counts = np.array([min(clip.count, longest) for clip in used])
        self.distances = torch.zeros(len(used), longest, longest)
        self.ends_ms = np.zeros((len(used), longest + 1))
        for row, (clip, count) in enumerate(zip(used, self.counts.tolist(), strict=True)):
            pixels = premultiplied(frames[clip.start : clip.start + count])
            self.distances[row, :count, :count] = frame_distances(pixels).cpu()
            self.ends_ms[row, 1 : count + 1] = np.cumsum(clip.durations_ms[:count])
        sizes = Counter(clip.source for clip in used)
        share = np.array([sources[clip.source] / sizes[clip.source] for clip in used])
        self.shares = share / share.sum()

    def draw(self, index: int, progress: float) -> dict[str, Tensor]:
        generator = np.random.Generator(np.random.Philox(key=[self.seed, index]))
        size, places = self.batch_size, self.distances.shape[1] - 1
        rows = generator.choice(len(self.shares), size, p=self.shares)
        chance = generator.random((6, size))
        total = self.counts[rows]
        length = _SHORTEST + (chance[0] * (total - _SHORTEST + 1)).astype(int)
        step = np.arange(places + 1)[None].repeat(size, 0)
        spread = np.round(step * ((total - 1) / (length - 1))[:, None]).astype(int)
        run = step + (chance[1] * (total - length + 1)).astype(int)[:, None]
        whole = (chance[2] < 0.5)[:, None]
        slots = np.where(whole, spread, run).clip(0, (total - 1)[:, None])
        following = np.where(step + 1 < length[:, None], np.roll(slots, -1, 1), slots + 1)
        ends = self.ends_ms[rows[:, None], following.clip(0, total[:, None])]
        durations = ends - self.ends_ms[rows[:, None], slots]
        backwards = chance[3] < 0.5
        given = 2 + (chance[4] * (length - 2)).astype(int)
        # Position in the clip of each place, counted from the border.
        back, ahead = given[:, None] - 1 - step[:, :places], given[:, None] + step[:, :places]
        is_given, is_hidden = back >= 0, ahead < length[:, None]
        position = np.concatenate([back, ahead], 1).clip(0, (length - 1)[:, None])
        position = np.where(backwards[:, None], length[:, None] - 1 - position, position)
        there = np.concatenate([is_given, is_hidden], 1)
        slot = torch.from_numpy(np.take_along_axis(slots, position, 1))
        taken = self.distances[
            torch.from_numpy(rows)[:, None, None], slot[:, :, None], slot[:, None]
        ]
        shown_ms = np.take_along_axis(durations, position, 1)
        contrast, pace = np.exp(generator.uniform(-_SCALES, _SCALES, (2, size)))
        exponent = generator.uniform(*_RECODED, size)
        noise = np.where(chance[5] < 0.5, 10.0**exponent, 0.0)
        return {
            "distances": taken * torch.from_numpy(contrast).float()[:, None, None],
            "there": torch.from_numpy(there),
            "durations_ms": torch.from_numpy(shown_ms * pace[:, None]).float(),
            "backwards": torch.from_numpy(backwards),
            "noise": torch.from_numpy(noise).float(),
        }

    def loss(self, batch: Any) -> tuple[Tensor, Tensor]:
        index, drawn = batch
        device = next(self.network.parameters()).device
        drawn = {name: value.to(device) for name, value in drawn.items()}
        given, hidden = drawn["there"].chunk(2, dim=1)
        places = given.shape[1]
        seen, truth = drawn["distances"].split(places, dim=1)
        seen, truth = seen[:, :, :places], truth[:, :, :places]  # [B, hidden, given]
        seen = seen + drawn["noise"][:, None, None] * (1 - torch.eye(places, device=device))
        both = given[:, :, None] & given[:, None, :]
        with torch.random.fork_rng(devices=[device] if device.type == "cuda" else []):
            torch.manual_seed(self.seed * 1_000_003 + index)  # of dropout
            found = self.forward(
                seen * both, given, hidden, drawn["durations_ms"], drawn["backwards"]
            ).float()
        nearest = (truth[:, :, 0] * hidden).sum(1) / hidden.sum(1)
        aim = (truth / (nearest[:, None, None] + 1e-4)).clamp(max=_WORST) - 1
        pairs = (hidden[:, :, None] & given[:, None, :]).float()
        share = pairs / pairs.sum((1, 2), keepdim=True)
        loss = ((found - aim).square() * share).sum() / len(found)
        masked = found.detach().masked_fill(~given[:, None], torch.inf).argmin(2, keepdim=True)
        chosen = ((aim.gather(2, masked)[:, :, 0] * hidden).sum(1) / hidden.sum(1)).mean()
        return loss, chosen[None]
