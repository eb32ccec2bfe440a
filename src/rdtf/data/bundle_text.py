"""The text encoder of a bundle: half precision, and only the tokens that its captions use.

The embeddings of a vocabulary are half of a small encoder's weights, and captions of stickers use
a few thousand of its 30,000 tokens.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import torch
from safetensors.torch import save_file
from torch import Tensor, nn

from rdtf.data.clip_store import StoredClip
from rdtf.errors import DataError
from rdtf.models.loading import load_pretrained, load_tensors
from rdtf.synthetic.grammar import draw_motion
from rdtf.synthetic.phrases import draw_caption

if TYPE_CHECKING:
    from rdtf.models.text import TextEncoder

_WEIGHTS_FILE = "encoder.safetensors"
_GRAMMAR_CAPTIONS = 6000  # drawn to know the grammar's words: each occurs many times


def write_text(encoder: TextEncoder, clips: Sequence[StoredClip], folder: Path) -> None:
    """Save the encoder with the tokens of the clips' captions and of the motion grammar."""
    tokenizer, model = encoder.parts
    ids = _token_ids(tokenizer, _captions(clips))
    table = model.get_input_embeddings().weight.detach()
    weights = {
        name: _half(tensor)
        for name, tensor in model.state_dict().items()
        if tensor.data_ptr() != table.data_ptr()  # T5 has it under two names
    }
    weights["ids"], weights["rows"] = torch.from_numpy(ids), _half(table[torch.from_numpy(ids)])
    folder.mkdir(parents=True)
    tokenizer.save_pretrained(folder)
    model.config.save_pretrained(folder)
    save_file(weights, folder / _WEIGHTS_FILE)


def read_text(folder: Path) -> tuple[Any, nn.Module]:
    """Tokenizer and frozen encoder (fp32) as `write_text` saved them.

    Tokens that were not saved read as the unknown token.

    Raises:
        DataError: the folder holds no such encoder.
    """
    from transformers import AutoConfig, AutoModelForTextEncoding, AutoTokenizer

    try:
        tokenizer: Any = load_pretrained(AutoTokenizer, folder)
        config = load_pretrained(AutoConfig, folder)
        weights = load_tensors(folder / _WEIGHTS_FILE)
    except (OSError, ValueError) as error:
        raise DataError(f"text encoder in {folder} can't be loaded: {error}") from error
    model: Any = AutoModelForTextEncoding.from_config(config)
    ids, rows = weights.pop("ids"), weights.pop("rows").float()
    table = torch.zeros_like(model.get_input_embeddings().weight)
    table[ids] = rows
    if tokenizer.unk_token_id is not None:
        unknown = torch.ones(len(table), dtype=torch.bool)
        unknown[ids] = False
        table[unknown] = table[tokenizer.unk_token_id].clone()
    full = {name: tensor.float() for name, tensor in weights.items()}
    for name, tensor in model.state_dict().items():
        if tensor.data_ptr() == model.get_input_embeddings().weight.data_ptr():
            full[name] = table
    model.load_state_dict(full)
    return tokenizer, model.eval().requires_grad_(False).float()


def _half(tensor: Tensor) -> Tensor:
    kept = tensor.detach().cpu()
    return (kept.half() if kept.is_floating_point() else kept).contiguous().clone()


def _captions(clips: Sequence[StoredClip]) -> Iterable[str]:
    for clip in clips:
        yield from clip.captions
        yield clip.motion
    generator = np.random.Generator(np.random.Philox(key=[0, 0]))
    for number in range(_GRAMMAR_CAPTIONS):
        name = "thing" if number % 2 else ""
        yield draw_caption(draw_motion(generator), name, generator)


def _token_ids(tokenizer: Any, captions: Iterable[str]) -> np.ndarray:
    """Sorted, int64; a word may have another token at a caption's start than within one."""
    different = list(dict.fromkeys(captions))
    ids = set(tokenizer.all_special_ids)
    for texts in (different, [f"a {caption}" for caption in different]):
        for found in tokenizer(texts)["input_ids"]:
            ids.update(found)
    return np.array(sorted(ids), dtype=np.int64)
