"""Stickers as files: the Sticker, budgets for untrusted input, reading and writing."""

from rdtf.errors import StickerError
from rdtf.stickers.files import (
    SUPPORTED_SUFFIXES,
    StickerInfo,
    decode_sticker,
    encode_sticker,
    probe,
    read_sticker,
    write_sticker,
)
from rdtf.stickers.formats.lottie import LottieFile
from rdtf.stickers.sheet import contact_sheet, write_sheet
from rdtf.stickers.sticker import DEFAULT_BUDGET, Budget, Sticker

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
