"""Synthetic animated stickers: endless, reproducible, captioned and free to use."""

from rdtf.data.synthetic.attributes import Attributes
from rdtf.data.synthetic.kinds import KINDS, MOTIONS
from rdtf.data.synthetic.maker import SyntheticStickers

__all__ = ["KINDS", "MOTIONS", "Attributes", "SyntheticStickers"]
