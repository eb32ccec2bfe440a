from __future__ import annotations

import json
from pathlib import Path

import pytest

from rdtf.data.captions import CaptionOptions, read_paraphrases, with_variants
from rdtf.data.dataset import PreparedDataset
from rdtf.data.prepare import prepare
from rdtf.errors import ConfigError, UserError

from .stickers import save_webp, soft_disc, write_rows


def test_variants_depend_on_the_caption_and_the_key_alone():
    options = CaptionOptions(trigger="sks", word_drop=0.5, paraphrases={"cat": ["kitten"]})
    first = with_variants(["a cat waves at you"], {}, options, "0:a.webp")
    assert first[:2] == ("sks a cat waves at you", "sks a kitten waves at you")
    assert 2 < len(first) <= 3 and len(first[2].split()) < 6
    assert with_variants(["a cat waves at you"], {}, options, "0:a.webp") == first
    assert with_variants(["a cat waves at you"], {}, CaptionOptions(), "0:a.webp") == (
        "a cat waves at you",
    )


def test_phrases_of_motion_and_emotion_make_one_more_variant_each():
    about = {"motion_caption": "jumps twice", "emotion": "happy", "motion": 0.25}
    options = CaptionOptions(add_phrases=True)
    assert with_variants(["a happy frog"], about, options, "") == (
        "a happy frog",
        "a happy frog, jumps twice",
    )
    assert with_variants([], about, CaptionOptions(trigger="sks"), "") == ("sks",)


def test_what_makes_no_sense_is_refused(tmp_path):
    with pytest.raises(ConfigError, match="word_drop"):
        CaptionOptions(word_drop=1.0)
    (tmp_path / "p.json").write_text('{"cat": "kitten"}')
    with pytest.raises(UserError, match="must look like"):
        read_paraphrases(tmp_path / "p.json")


@pytest.fixture(scope="module")
def captioner(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A tiny image-text model with random weights, saved as Hugging Face models are."""
    import torch
    from transformers import (
        BertTokenizerFast,
        BlipConfig,
        BlipForConditionalGeneration,
        BlipImageProcessorPil,
        BlipProcessor,
    )

    folder = tmp_path_factory.mktemp("captioner")
    words = ["[PAD]", "[UNK]", "[CLS]", "[SEP]", "[MASK]", "[DEC]", "[ENC]", "red", "disc", "cat"]
    (folder / "vocab.txt").write_text("\n".join(words))
    small = {
        "hidden_size": 16,
        "intermediate_size": 16,
        "num_hidden_layers": 1,
        "num_attention_heads": 2,
    }
    text = small | {"vocab_size": 10, "bos_token_id": 5, "eos_token_id": 3, "pad_token_id": 0}
    text |= {"encoder_hidden_size": 16, "sep_token_id": 3, "projection_dim": 16}
    vision = small | {"image_size": 32, "patch_size": 16, "projection_dim": 16}
    torch.manual_seed(0)
    config = BlipConfig(text_config=text, vision_config=vision, projection_dim=16)
    BlipForConditionalGeneration(config).save_pretrained(folder)
    tokenizer = BertTokenizerFast(str(folder / "vocab.txt"))
    pictures = BlipImageProcessorPil(size={"height": 32, "width": 32})
    BlipProcessor(pictures, tokenizer).save_pretrained(folder)
    return folder


def test_a_model_captions_what_nobody_has_captioned(tmp_path, captioner, monkeypatch):
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "home"))
    for name in ("cat.webp", "told.webp", "1.webp"):
        save_webp(tmp_path / "in" / name, soft_disc(16, (len(name) * 20, 40, 90)))
    write_rows(tmp_path / "in" / "rows.jsonl", [{"file": "told.webp", "text": "a disc"}])

    def captions(out: str, model: Path) -> dict[str, tuple[str, ...]]:
        options = CaptionOptions(captioner=str(model))
        prepare(tmp_path / "in", tmp_path / out, canvas=32, captions=options, workers=0)
        clips = PreparedDataset(tmp_path / out).clips()
        return {clip.file.removeprefix("in/"): clip.captions for clip in clips}

    first = captions("one", captioner)
    assert first["told.webp"] == ("a disc",)
    assert len(first["1.webp"]) == 1 and first["cat.webp"][-1] == "cat"
    # What was said once is not asked again: the weights may be gone.
    (captioner / "model.safetensors").rename(tmp_path / "model.safetensors")
    saved = sorted((tmp_path / "home" / "rdtf" / "captions").iterdir())
    assert len(saved) == 1
    with pytest.raises(UserError, match="can't be loaded"):
        captions("two", captioner)  # other files: another model
    (tmp_path / "model.safetensors").rename(captioner / "model.safetensors")
    assert captions("three", captioner) == first
    head = json.loads((tmp_path / "three" / "dataset.json").read_text())
    assert head["made"]["captions"]["captioner"] == str(captioner)
