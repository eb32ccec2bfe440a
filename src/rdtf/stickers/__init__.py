"""Stickers as files: the Sticker, budgets for untrusted input, reading and writing."""

from rdtf.errors import StickerError
from rdtf.stickers.budget import DEFAULT_BUDGET, Budget
from rdtf.stickers.formats.lottie import LottieFile
from rdtf.stickers.read import SUPPORTED_SUFFIXES, StickerInfo, decode_sticker, probe, read_sticker
from rdtf.stickers.sheet import contact_sheet, write_sheet
from rdtf.stickers.sticker import Sticker
from rdtf.stickers.write import encode_sticker, write_sticker

__all__ = [
    "DEFAULT_BUDGET",
    "SUPPORTED_SUFFIXES",
    "Budget",
    "LottieFile",
    "Sticker",
    "StickerError",
    "StickerInfo",
    "contact_sheet",
    "decode_sticker",
    "encode_sticker",
    "probe",
    "read_sticker",
    "write_sheet",
    "write_sticker",
]
