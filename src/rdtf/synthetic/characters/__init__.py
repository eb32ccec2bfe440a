"""Synthetic animated stickers: endless, reproducible, captioned and free to use."""

from rdtf.synthetic.characters.attributes import KINDS, MOTIONS, Attributes
from rdtf.synthetic.characters.maker import SyntheticStickers

__all__ = ["KINDS", "MOTIONS", "Attributes", "SyntheticStickers"]
