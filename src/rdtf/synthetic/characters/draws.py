"""Random draws that depend on nothing but their key.

Only `random.Random.random` is used: its sequence for a given seed is promised by Python for all
versions, which `choice`, `gauss` and NumPy's generators do not promise.
"""

from __future__ import annotations

import random
from collections.abc import Mapping, Sequence
from typing import TypeVar

Item = TypeVar("Item")


class Draws:
    """A stream of draws named by its key, e.g. `Draws(seed, index, "look")`."""

    def __init__(self, *key: int | str) -> None:
        # Text seeds are hashed with SHA-512, so that neighbouring keys give unrelated streams.
        self._random = random.Random("/".join(map(str, key))).random

    def uniform(self, low: float, high: float) -> float:
        return low + (high - low) * self._random()

    def chance(self, probability: float) -> bool:
        return self._random() < probability

    def side(self) -> int:
        """-1 or 1."""
        return 1 if self._random() < 0.5 else -1

    def choice(self, items: Sequence[Item]) -> Item:
        return items[int(self._random() * len(items))]

    def weighted(self, weights: Mapping[Item, float]) -> Item:
        """A key of `weights`, as often as its weight says."""
        left = self._random() * sum(weights.values())
        for item, weight in weights.items():
            left -= weight
            if left < 0:
                return item
        return next(reversed(list(weights)))

    def sample(self, items: Sequence[Item], count: int) -> list[Item]:
        """`count` different items, in random order."""
        pool = list(items)
        return [pool.pop(int(self._random() * len(pool))) for _ in range(min(count, len(pool)))]
