from __future__ import annotations

import math
from collections.abc import Sequence

import numpy as np
import pytest

from rdtf.errors import ConfigError, DataError
from rdtf.evaluation.evaluate import nearest_training_clips, text_memorisation
from rdtf.stickers import Sticker
from rdtf.synthetic.characters import SyntheticStickers


@pytest.fixture(scope="module")
def drawn() -> list[Sticker]:
    stickers = SyntheticStickers(seed=3, canvas=40, max_frames=4)
    return [s for s in (stickers[index] for index in range(60)) if s.num_frames > 1][:24]


class Copier:
    """A pipeline that answers every prompt with a clip that it has seen, a little brighter."""

    def __init__(self, seen: Sequence[Sticker]) -> None:
        self.seen = list(seen)
        self.calls: list[dict] = []

    def __call__(self, prompt: str, **options) -> Sticker:
        self.calls.append({"prompt": prompt, **options})
        clip = self.seen[len(self.calls) - 1]
        bright = np.clip(clip.premultiplied() * np.float32([1.02, 1.02, 1.02, 1]), 0, 1)
        return Sticker.from_premultiplied(bright, clip.durations_ms)


def test_copies_are_nearer_than_new_clips(drawn):
    training, held_out, others = drawn[:12], drawn[12:18], drawn[18:]
    copies = nearest_training_clips(training[:6], held_out, training)
    assert all(near.ratio < 1e-3 and near.generated < 1e-3 < near.truth for near in copies)
    new = nearest_training_clips(others, held_out, training)
    assert 0.4 < float(np.median([near.ratio for near in new])) < 2.5
    assert [near.prompt for near in new] == [clip.captions[0] for clip in held_out]


def test_a_true_clip_that_is_in_the_training_set_tells_nothing(drawn):
    near = nearest_training_clips(drawn[6:7], drawn[:1], drawn[:5])
    assert math.isnan(near[0].ratio)


def test_prompts_reach_the_pipeline_and_the_training_clips_are_read_once(drawn):
    training, held_out = drawn[:12], [*drawn[12:18], drawn[0].replace(captions=())]
    pipeline, told = Copier(training), []
    found = text_memorisation(
        pipeline,
        held_out,
        iter(training),
        limit=3,
        num_inference_steps=5,
        progress=lambda *state: told.append(state),
    )
    assert [call["prompt"] for call in pipeline.calls] == [
        clip.captions[0] for clip in held_out[:6:2]
    ]
    assert [call["num_frames"] for call in pipeline.calls] == [
        clip.num_frames for clip in held_out[:6:2]
    ]
    assert all(call["num_inference_steps"] == 5 for call in pipeline.calls)
    seeds = {call["generator"].initial_seed() for call in pipeline.calls}
    assert len(seeds) == 3
    assert max(near.ratio for near in found) < 0.5
    assert told[-1] == (3, 3, "done") and len(told) == 4


def test_what_can_not_be_compared_is_refused(drawn):
    with pytest.raises(ConfigError, match="1 generated clips for 2 true ones"):
        nearest_training_clips(drawn[:1], drawn[:2], drawn)
    with pytest.raises(ConfigError, match="0 clips has no spread"):
        nearest_training_clips(drawn[:1], drawn[:1], [])
    with pytest.raises(DataError, match="has a caption"):
        text_memorisation(Copier([]), [drawn[0].replace(captions=())], drawn, limit=1)
