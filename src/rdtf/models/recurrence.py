"""Which given frame comes back: clips that swing or loop go on through frames that were there.

The network sees no pictures, only how far given frames are from each other (a recurrence plot) and
how long frames are shown. For each hidden frame and each given one it says the squared error that
showing the given frame once more would make, relative to repeating the nearest given frame. Frames
that come back are copied, pixel for pixel; only where none does is a movement predicted.
"""

from __future__ import annotations

from typing import Any, cast

import torch
import torch.nn.functional as F
from diffusers.configuration_utils import ConfigMixin, register_to_config
from diffusers.models.modeling_utils import ModelMixin
from torch import Tensor, nn

from rdtf.models.layers import zero_init
from rdtf.models.loading import OwnMemory

_SIDE = 64  # pixels that frames are compared at
_FLOOR = 1e-5  # of squared differences: less is the same picture
_DURATION_UNIT_MS = 100.0


class RecurrencePredictor(OwnMemory, ModelMixin, ConfigMixin):
    """Expected error of every hidden frame if a given one is shown for it.

    Places count from the border between given and hidden frames: given frame 0 is the nearest to
    the hidden ones, hidden frame 0 is next to it. Clips that are continued backwards are mirrored.

    Args:
        max_places: most given frames that it looks at, and most hidden frames that it judges.
        width: of the hidden layers.
        dropout: in training.
        min_gain: share of the error that a frame has to save to be shown again.
    """

    @register_to_config
    def __init__(
        self,
        max_places: int = 15,
        width: int = 512,
        dropout: float = 0.15,
        min_gain: float = 0.1,
    ) -> None:
        super().__init__()
        self.places = max_places
        pairs = max_places * (max_places - 1) // 2
        self.layers = nn.Sequential(
            nn.LayerNorm(features := 2 * pairs + 4 * max_places + 4),
            nn.Linear(features, width), nn.GELU(), nn.Dropout(dropout),
            nn.LayerNorm(width), nn.Linear(width, width), nn.GELU(), nn.Dropout(dropout),
            zero_init(nn.Linear(width, max_places**2)),
        )  # fmt: skip

    @property
    def config_(self) -> Any:
        """The registered config, untyped."""
        return cast(Any, self.config)

    def forward(
        self,
        distances: Tensor,
        given: Tensor,
        hidden: Tensor,
        durations_ms: Tensor,
        backwards: Tensor,
    ) -> Tensor:
        """Errors relative to that of the nearest given frame, minus 1: negative is better.

        Args:
            distances: mean squared difference of given frames, `[B, P, P]`; zero where none is.
            given, hidden: which places there are, bool `[B, P]`, those of a clip first.
            durations_ms: of given and then of hidden places, `[B, 2 P]`.
            backwards: whether time runs towards the hidden frames backwards, bool `[B]`.

        Returns:
            `[B, P hidden, P given]`.
        """
        seen = given.float()
        pair = seen[:, :, None] * seen[:, None, :]
        relative = distances / (distances.amax((1, 2), keepdim=True) + _FLOOR)
        logarithm = ((distances + _FLOOR).log() + 5) / 3 * pair
        rows, columns = torch.triu_indices(self.places, self.places, 1, device=given.device)
        there = torch.cat([seen, hidden.float()], dim=1)
        times = (durations_ms.clamp(min=1) / _DURATION_UNIT_MS).log() * there
        counts = torch.stack([seen.sum(1) / 8 - 1, hidden.float().sum(1) / 8 - 1], dim=1)
        about = [
            backwards[:, None].float(),
            counts,
            times.sum(1, keepdim=True) / there.sum(1)[:, None],
        ]
        x = [logarithm[:, rows, columns], (relative * pair)[:, rows, columns], there, times, *about]
        return self.layers(torch.cat(x, dim=1)).unflatten(1, (self.places, self.places))

    @torch.no_grad()
    def choose(
        self, frames: Tensor, durations_ms: Tensor, hidden_ms: Tensor, *, backwards: bool = False
    ) -> list[int | None]:
        """For each hidden frame the given one that comes back, or None.

        Args:
            frames: given ones, the nearest to the hidden ones first, premultiplied in [−1, 1],
                `[G, 4, H, W]`; those beyond `max_places` are not looked at.
            durations_ms: how long each is shown, `[G]`; hidden_ms: the same of the hidden ones,
                nearest first; those beyond `max_places` have none that comes back.

        Returns:
            An index into `frames` or None for each of `hidden_ms`. The nearest frame, which would
            have to move on, is never chosen, and no step is larger than the largest given one.
        """
        frames, durations_ms = frames[: self.places], durations_ms[: self.places]
        ahead = hidden_ms[: self.places]
        device, places = next(self.parameters()).device, self.places
        distances = torch.zeros(1, places, places, device=device)
        distances[0, : len(frames), : len(frames)] = frame_distances(frames.to(device))
        index = torch.arange(places, device=device)
        times = torch.zeros(1, 2 * places, device=device)
        times[0, : len(frames)] = durations_ms.to(times)
        times[0, places : places + len(ahead)] = ahead.to(times)
        errors = self(
            distances,
            (index < len(frames))[None],
            (index < len(ahead))[None],
            times,
            torch.tensor([backwards], device=device),
        )[0, : len(ahead), : len(frames)].float()
        errors[:, 1:] += self.config_.min_gain
        between = distances[0, : len(frames), : len(frames)]
        chosen = [index or None for index in _cheapest_path(errors, between)]
        return chosen + [None] * (len(hidden_ms) - len(ahead))


def _cheapest_path(errors: Tensor, distances: Tensor) -> list[int]:
    """The given frame for each hidden one, of the least sum of errors, by dynamic programming.

    It begins at given frame 0, and no step is larger than the largest between neighbours that are
    given: nothing jumps that did not jump before.

    Args:
        errors: `[H, G]`; distances: of given frames, `[G, G]`.
    """
    largest = distances.diagonal(1).max() if len(distances) > 1 else distances.new_zeros(())
    step = torch.where(distances <= largest + _FLOOR, 0.0, torch.inf)
    cost = torch.full_like(errors[0], torch.inf)
    cost[0] = 0.0
    origins = []
    for row in errors:
        cost, origin = (cost[:, None] + step).min(0)
        cost = cost + row
        origins.append(origin)
    place = int(cost.argmin())
    path = []
    for origin in reversed(origins):
        path.append(place)
        place = int(origin[place])
    return path[::-1]


def frame_distances(frames: Tensor) -> Tensor:
    """Mean squared difference between any two frames on white, in [0, 1], `[F, F]`.

    Args:
        frames: premultiplied in [−1, 1], `[F, 4, H, W]`.
    """
    rgb, alpha = (frames.float() + 1).div(2).split([3, 1], dim=1)
    small = F.interpolate(rgb + 1 - alpha, size=(_SIDE, _SIDE), mode="area").flatten(1)
    small = small - small.mean(0)
    product = small @ small.T
    norm = product.diagonal()
    return ((norm[:, None] + norm[None] - 2 * product) / small.shape[1]).clamp(min=0)
