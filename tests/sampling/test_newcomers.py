"""What somebody who knows diffusers tries in the first hour."""

from __future__ import annotations

import copy
import logging

import numpy as np
import pytest
import torch

from rdtf.errors import UserError
from rdtf.sampling.pipeline import StickerPipeline
from rdtf.stickers import Sticker


def test_a_missing_folder_is_not_looked_for_on_the_hub(tmp_path):
    with pytest.raises(UserError, match="does not exist"):
        StickerPipeline.from_pretrained(tmp_path / "nothing")


def test_interrupting_ends_the_call_after_the_step(pipeline):
    steps = []

    def stop(pipe, index, timestep, tensors):
        steps.append(index)
        pipe._interrupt = True
        return tensors

    made = pipeline("a cat", num_frames=3, num_inference_steps=5, callback_on_step_end=stop)
    assert steps == [0] and made.num_frames == 3
    steps.clear()
    pipeline("a cat", num_frames=3, num_inference_steps=2)  # the next call is not interrupted


def test_casting_is_silent(pipeline):
    records = []
    logger, handler = logging.getLogger("diffusers.models.modeling_utils"), logging.Handler()
    handler.emit = records.append
    logger.addHandler(handler)
    try:
        copy.deepcopy(pipeline).to(torch.bfloat16)
    finally:
        logger.removeHandler(handler)
    assert [record.getMessage() for record in records] == []


def test_a_fully_transparent_picture_is_refused(pipeline):
    empty = Sticker(np.zeros((2, 8, 8, 4), np.uint8), np.array([100, 100]))
    calls = (
        lambda: pipeline("a cat", empty),
        lambda: pipeline.fill(empty, [0]),
        lambda: pipeline.interpolate(empty),
        lambda: pipeline.predict(empty, after=1),
    )
    for call in calls:
        with pytest.raises(UserError, match="fully transparent"):
            call()


@pytest.mark.parametrize("scale", [1e9, -1.0])
def test_motion_scale_has_bounds(pipeline, scale):
    with pytest.raises(UserError, match="motion_scale must be at"):
        pipeline("a cat", motion_scale=scale)


def test_weights_loaded_from_8_bits_are_saved_in_8_bits_without_loss(tmp_path):
    from rdtf.models.loading import COMPACT_FILE

    shipped = StickerPipeline.from_pretrained()
    shipped.save_pretrained(tmp_path / "saved")
    again = StickerPipeline.from_pretrained(tmp_path / "saved")
    for part in ("denoiser", "motion", "drawer"):
        assert (tmp_path / "saved" / part / COMPACT_FILE).is_file()
        before, after = (getattr(pipe, part).state_dict() for pipe in (shipped, again))
        assert all(torch.equal(before[name], after[name]) for name in before)


def test_weights_that_8_bits_do_not_hold_are_saved_whole(pipeline, tmp_path):
    pipeline.save_pretrained(tmp_path / "saved")
    again = StickerPipeline.from_pretrained(tmp_path / "saved")
    before, after = (pipe.denoiser.state_dict() for pipe in (pipeline, again))
    assert all(torch.equal(before[name], after[name]) for name in before)
