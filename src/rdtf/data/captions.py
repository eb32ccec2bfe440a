"""Captions from metadata and from file names."""

from __future__ import annotations

import re
import unicodedata
from collections.abc import Iterable
from typing import Any

# Names that cameras, browsers and messengers give; they say nothing about the picture.
_GENERIC_WORDS = frozenset(
    re.findall(
        r"\w+",
        "anim animated animation copy download emoji file gif image images img photo pic picture "
        "screenshot sticker stickers tgs untitled video webp",
    )
)
_HEX_CODE = re.compile(r"(?=.*\d)[0-9a-f]{4,}", re.IGNORECASE)
_LONG_HEX = re.compile(r"[0-9a-f]{12,}", re.IGNORECASE)
_RANDOM_ID = re.compile(r"(?=.*\d)(?=.*[a-z])(?=.*[A-Z])\w{10,}")


def clean_captions(texts: Iterable[Any]) -> tuple[str, ...]:
    """Texts with blanks collapsed; empty ones, doubles and what is not text left out."""
    cleaned = (" ".join(valid_text(text).split()) for text in texts if isinstance(text, str))
    return tuple(dict.fromkeys(text for text in cleaned if text))


def valid_text(text: str) -> str:
    """`text` without lone surrogates (from JSON escapes or file names), which no file can hold."""
    return text.encode("utf-8", "replace").decode("utf-8")


def caption_from_name(stem: str) -> str:
    """`cat_waving-01` -> `cat waving`; a name that is only a number, code or hash -> ``."""
    name = unicodedata.normalize("NFC", stem)
    words = [word for word in re.split(r"[\s_\-.+()\[\]]+", name) if word and not _is_code(word)]
    if all(word.casefold() in _GENERIC_WORDS for word in words):
        return ""
    return " ".join(words)


def _is_code(word: str) -> bool:
    return word.isdigit() or any(
        pattern.fullmatch(word) is not None for pattern in (_HEX_CODE, _LONG_HEX, _RANDOM_ID)
    )
