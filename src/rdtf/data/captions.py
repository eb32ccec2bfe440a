"""Captions that nobody wrote: by an image-text model, and variants of those that there are."""

from __future__ import annotations

import hashlib
import json
import random
import re
import sqlite3
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
from PIL import Image

from rdtf.data.dataset import user_cache_folder
from rdtf.data.sources import clean_captions
from rdtf.errors import ConfigError, UserError
from rdtf.fileio import ensure_folder, read_json

BATCH = 16  # pictures that a captioner sees at once
_MAX_TOKENS = 40
_PROMPT = "Describe this sticker in one short sentence."
_PHRASES = ("motion_caption", "motion", "emotion")


@dataclass(frozen=True)
class CaptionOptions:
    """What is done to captions.

    Attributes:
        captioner: name or folder of a Hugging Face image-text model, for stickers of which nothing
            but the file's name is known.
        trigger: word in front of every caption.
        word_drop: chance of each word to be missing in one more variant of each caption.
        paraphrases: for a word or phrase, others that mean the same: one more variant.
        add_phrases: one more variant with what is known of motion and emotion.
    """

    captioner: str | None = None
    trigger: str = ""
    word_drop: float = 0.0
    paraphrases: Mapping[str, Sequence[str]] = field(default_factory=dict)
    add_phrases: bool = False

    def __post_init__(self) -> None:
        if not 0 <= self.word_drop < 1:
            raise ConfigError(f"word_drop is {self.word_drop}; it must be at least 0 and below 1")


def read_paraphrases(path: Path) -> dict[str, list[str]]:
    """A JSON file {"cat": ["kitten", "kitty"], ...}."""
    value = read_json(path, "paraphrases")
    is_map = isinstance(value, dict) and all(
        isinstance(others, list) and all(isinstance(other, str) for other in others)
        for others in value.values()
    )
    if not is_map:
        raise UserError(f'paraphrases {path} must look like {{"cat": ["kitten", "kitty"]}}')
    return value


def with_variants(
    captions: Sequence[str], attributes: Mapping[str, Any], options: CaptionOptions, key: str
) -> tuple[str, ...]:
    """`captions` and their variants; draws depend on `key` and the caption alone."""
    made = list(captions)
    for caption in captions:
        draws = random.Random(hashlib.sha256(f"{key}:{caption}".encode()).digest())
        made.append(_paraphrased(caption, options.paraphrases, draws))
        if options.add_phrases:
            made += [f"{caption}, {phrase}" for phrase in _phrases(attributes, caption)]
        if options.word_drop:
            words = caption.split()
            kept = [word for word in words if draws.random() >= options.word_drop]
            made.append(" ".join(kept or words[:1]))
    if options.trigger:
        made = [f"{options.trigger} {caption}" for caption in made or [""]]
    return clean_captions(made)


def _paraphrased(
    caption: str, paraphrases: Mapping[str, Sequence[str]], draws: random.Random
) -> str:
    for phrase, others in sorted(paraphrases.items()):
        if others:
            pattern = rf"\b{re.escape(phrase)}\b"
            other = draws.choice(list(others)).replace("\\", r"\\")
            caption = re.sub(pattern, other, caption, flags=re.IGNORECASE)
    return caption


def _phrases(attributes: Mapping[str, Any], caption: str) -> list[str]:
    known = (attributes.get(name) for name in _PHRASES)
    return [text for text in known if isinstance(text, str) and text and text not in caption]


class Captioner:
    """An image-text model of transformers, and what it said already, in the user's cache folder.

    Raises:
        UserError: there is no such model.
    """

    def __init__(self, name: str) -> None:
        self.name = name
        folder = ensure_folder(user_cache_folder() / "captions", "cache folder")
        identity = name
        if Path(name).is_dir():
            files = sorted(path for path in Path(name).iterdir() if path.is_file())
            stats = [(path.name, path.stat().st_size, path.stat().st_mtime_ns) for path in files]
            identity = json.dumps([str(Path(name).resolve()), stats])
        file = folder / f"{hashlib.sha256(identity.encode()).hexdigest()[:16]}.sqlite"
        self._said = sqlite3.connect(file)
        self._said.execute("CREATE TABLE IF NOT EXISTS said (key TEXT PRIMARY KEY, caption TEXT)")
        self._model: tuple[Any, Any] | None = None

    def __call__(self, keys: Sequence[str], pictures: Sequence[np.ndarray]) -> list[str]:
        """A caption for each straight RGBA uint8 [H,W,4]; `keys` tell pictures apart."""
        sql = "SELECT caption FROM said WHERE key = ?"
        said = [self._said.execute(sql, (key,)).fetchone() for key in keys]
        new = [number for number, found in enumerate(said) if found is None]
        if new:
            captions = self._say([_on_white(pictures[number]) for number in new])
            for number, caption in zip(new, captions, strict=True):
                said[number] = (caption,)
            with self._said:
                rows = [(keys[number], said[number][0]) for number in new]
                self._said.executemany("INSERT OR REPLACE INTO said VALUES (?, ?)", rows)
        return [caption for (caption,) in said]

    def _say(self, pictures: list[Image.Image]) -> list[str]:
        import torch

        if self._model is None:
            self._model = self._load()
        processor, model = self._model
        inputs: dict[str, Any] = {"images": pictures}
        if getattr(processor, "chat_template", None):
            content = [{"type": "image"}, {"type": "text", "text": _PROMPT}]
            chat = [{"role": "user", "content": content}]
            prompt = processor.apply_chat_template(chat, add_generation_prompt=True)
            inputs = {"images": [[picture] for picture in pictures], "padding": True}
            inputs["text"] = [prompt] * len(pictures)
        told = processor(**inputs, return_tensors="pt").to(model.device)
        with torch.no_grad():
            tokens = model.generate(**told, max_new_tokens=_MAX_TOKENS, do_sample=False)
        if "text" in inputs:  # the prompt comes back in front of the answer
            tokens = tokens[:, told["input_ids"].shape[1] :]
        texts = processor.batch_decode(tokens, skip_special_tokens=True)
        return [" ".join(text.split()).rstrip(".") for text in texts]

    def _load(self) -> tuple[Any, Any]:
        import torch
        from transformers import AutoModelForImageTextToText, AutoProcessor

        from rdtf.models.loading import load_pretrained

        try:
            processor = load_pretrained(AutoProcessor, self.name)
            model = load_pretrained(AutoModelForImageTextToText, self.name, use_safetensors=True)
        except (OSError, ValueError) as error:
            raise UserError(f"captioner {self.name} can't be loaded: {error}") from error
        device = "cuda" if torch.cuda.is_available() else "cpu"
        return processor, model.to(device).eval()


def _on_white(frame: np.ndarray) -> Image.Image:
    picture = Image.fromarray(frame)
    white = Image.new("RGBA", picture.size, "white")
    return Image.alpha_composite(white, picture).convert("RGB")
