"""Tiny Hugging Face text encoders, saved in a folder as anyone would save them."""

from __future__ import annotations

from pathlib import Path

import torch
from transformers import BertConfig, BertModel, BertTokenizer, T5Config, T5EncoderModel

_WORDS = ["[PAD]", "[UNK]", "[CLS]", "[SEP]", "[MASK]", "a", "red", "cat", "dog", "waving", "##s"]


def save_tiny_bert(folder: Path, seed: int = 0) -> Path:
    """An encoder of width 32."""
    torch.manual_seed(seed)
    config = BertConfig(
        vocab_size=len(_WORDS),
        hidden_size=32,
        num_hidden_layers=1,
        num_attention_heads=2,
        intermediate_size=32,
        max_position_embeddings=64,
    )
    BertModel(config).save_pretrained(folder)
    return _save_tokenizer(folder)


def save_tiny_t5(folder: Path) -> Path:
    """An encoder of width 24; its config calls that `d_model`."""
    torch.manual_seed(0)
    config = T5Config(
        vocab_size=len(_WORDS), d_model=24, d_kv=8, d_ff=32, num_layers=1, num_heads=2
    )
    T5EncoderModel(config).save_pretrained(folder)
    return _save_tokenizer(folder)


def _save_tokenizer(folder: Path) -> Path:
    vocabulary = folder / "vocab.txt"
    vocabulary.write_text("\n".join(_WORDS) + "\n", encoding="utf-8")
    BertTokenizer(str(vocabulary)).save_pretrained(folder)
    return folder
