"""Adapters by themselves: tuned on a prepared set, sampled as a pipeline, kept and loaded again."""

from __future__ import annotations

import os
import signal

import pytest
import torch

from fixtures_runs import CANVAS, MAX_FRAMES, tiny_config, training_set
from rdtf.errors import ConfigError
from rdtf.research.adapters import build_adapter, load_adapter, load_base, sticker_pipeline, tune
from rdtf.stickers import Sticker
from rdtf.synthetic.characters import SyntheticStickers

from .networks import BASE_OF, PARAMETER_EFFICIENT, tiny_base

__all__ = ["training_set"]
CONFIG = tiny_config(steps=3, representation__patch=4, optimizer__learning_rate=3e-3)


def base_folder(kind, folder):
    """A published base is a folder like this one."""
    base = tiny_base(kind, latent_channels=64, text_width=384, latent_size=CANVAS // 4)
    base.save_pretrained(folder)
    return folder


def clip() -> Sticker:
    drawn = SyntheticStickers(seed=5, canvas=CANVAS, max_frames=MAX_FRAMES)
    index = next(i for i in range(99) if drawn.describe(i).num_frames == MAX_FRAMES)
    return drawn[index]


@pytest.mark.parametrize("name", PARAMETER_EFFICIENT)
def test_tune_sample_save_and_load(name, training_set, tmp_path):
    base = base_folder(BASE_OF[name], tmp_path / "base")
    adapter = build_adapter(name, load_base(BASE_OF[name], base))
    said: list[str] = []
    losses = tune(adapter, training_set, CONFIG, say=said.append)
    assert list(losses) == list(adapter.stages) and all(
        len(steps) == 3 for steps in losses.values()
    )
    assert len(said) == 3 * len(adapter.stages)

    pipe, given = sticker_pipeline(adapter, CONFIG), clip()
    options = {"prompt": "a cat", "num_inference_steps": 2}
    filled = pipe.fill(given, [0, 2], generator=torch.Generator().manual_seed(1), **options)
    assert filled.num_frames == MAX_FRAMES and pipe.canvas == CANVAS
    assert (filled.frames[[0, 2]] == given.frames[[0, 2]]).all()
    made = pipe("a cat", image=given, num_frames=3, num_inference_steps=2)
    assert made.num_frames == 3

    adapter.save(tmp_path / "adapter")
    again = load_adapter(tmp_path / "adapter", load_base(BASE_OF[name], base))
    same = sticker_pipeline(again, CONFIG).fill(
        given, [0, 2], generator=torch.Generator().manual_seed(1), **options
    )
    assert (same.frames == filled.frames).all()


class Terminate:
    """What is said; at a step it sends this process what a scheduler would."""

    def __init__(self, words: str) -> None:
        self.words = words

    def __call__(self, line: str) -> None:
        if self.words in line:
            os.kill(os.getpid(), signal.SIGTERM)


def test_tuning_that_was_stopped_goes_on_bit_for_bit(training_set, tmp_path):
    base = base_folder("video", tmp_path / "base")
    results = []
    for stops in ((), ("appearance step 2/", "motion step 1/")):
        for words in (*stops, "no such line"):
            torch.manual_seed(0)
            adapter = build_adapter("customize-a-video", load_base("video", base))
            run = tmp_path / ("parts" if stops else "whole")
            losses = tune(adapter, training_set, CONFIG, run=run, say=Terminate(words))
        results.append((losses, adapter.adapter_parameters()))
    (whole, expected), (parts, found) = results
    assert parts == whole and all(len(losses) == 3 for losses in whole.values())
    assert all(found[name].equal(value) for name, value in expected.items())


def test_a_base_with_another_autoencoder_or_text_encoder_is_refused(training_set):
    latents = build_adapter("simda", tiny_base("image", latent_channels=4, text_width=384))
    with pytest.raises(ConfigError, match="reads latents of 4 channels, this representation has"):
        tune(latents, training_set, CONFIG)
    text = build_adapter("simda", tiny_base("image", latent_channels=64, text_width=24))
    with pytest.raises(ConfigError, match=r"text states of width 24, text\.encoders gives 384"):
        sticker_pipeline(text, CONFIG)
