"""Training and validation sets, split by concept and never by file.

Skin tones of one emoji, or its still and its moving version, share a concept: with one of them in
the training set, the other measures memory and not skill.
"""

from __future__ import annotations

import hashlib
from collections.abc import Collection
from typing import Literal

from rdtf.errors import ConfigError

Split = Literal["train", "val"]
SPLITS: tuple[Split, ...] = ("train", "val")


def concept_position(concept: str, seed: int) -> float:
    """A number in [0,1) that depends on nothing else: new stickers never move old ones."""
    digest = hashlib.sha256(f"{seed}:{concept}".encode()).digest()
    return int.from_bytes(digest[:8], "big") / 2**64


def split_concepts(concepts: Collection[str], val_fraction: float, seed: int) -> dict[str, Split]:
    """The side of each concept; about `val_fraction` of them are for validation.

    Both sides get at least one concept where there are two and `val_fraction` is not 0.
    """
    if not 0 <= val_fraction < 1:
        raise ConfigError(f"val_fraction is {val_fraction}; it must be at least 0 and below 1")
    ranked = sorted(set(concepts), key=lambda concept: (concept_position(concept, seed), concept))
    count = sum(concept_position(concept, seed) < val_fraction for concept in ranked)
    if val_fraction > 0:
        count = max(count, 1)
    count = min(count, max(len(ranked) - 1, 0))
    return {concept: "val" if rank < count else "train" for rank, concept in enumerate(ranked)}
