"""`rdtf export --close generated`: the loop is closed with frames that a model makes."""

from __future__ import annotations

import numpy as np

from rdtf.stickers import Sticker
from stickers.samples import clip


def test_a_model_closes_the_loop(rdtf, tiny_run, tmp_path):
    sticker = clip(4, 32, 90)
    path = sticker.save(tmp_path / "disc.webp")
    ended = rdtf(
        *("export", path, "--to", "webp", "--close", "generated", "--model", tiny_run),
        *("-o", tmp_path / "out", "--json"),
    )
    assert ended.status == 0, ended
    (written,) = ended.json["exported"][0]["paths"]
    made = Sticker.load(written)
    assert made.num_frames > 4 and made.total_ms > sticker.total_ms
    opaque = sticker.frames[..., 3:] > 0
    assert np.array_equal(made.frames[:4] * opaque, sticker.frames * opaque)
    assert ended.json["exported"][0]["seam_error"] < sticker.seam_error()


def test_the_model_that_ships_closes_it_if_none_is_named(rdtf, tmp_path):
    path = clip(4, 32).save(tmp_path / "disc.webp")
    ended = rdtf(
        *("export", path, "--to", "webp", "--close", "generated"),
        *("-o", tmp_path / "out", "--json"),
    )
    assert ended.status == 0, ended
    (written,) = ended.json["exported"][0]["paths"]
    assert Sticker.load(written).num_frames > 4
