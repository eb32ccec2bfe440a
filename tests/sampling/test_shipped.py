"""The model that ships: there without a download, small, and of use on stickers it never saw."""

from __future__ import annotations

import json

import numpy as np
import pytest
import torch

from rdtf import StickerPipeline
from rdtf.errors import UserError
from rdtf.evaluation.evaluate import evaluate
from rdtf.evaluation.results import MODEL
from rdtf.sampling.pipeline import SHIPPED_MODEL
from rdtf.synthetic.characters import SyntheticStickers


@pytest.fixture(scope="module")
def pipeline() -> StickerPipeline:
    pipe = StickerPipeline.from_pretrained()
    pipe.set_progress_bar_config(disable=True)
    return pipe


def test_it_is_small_and_holds_only_safetensors_and_text():
    files = [path for path in SHIPPED_MODEL.rglob("*") if path.is_file()]
    assert sum(path.stat().st_size for path in files) <= 60_000_000
    assert {path.suffix for path in files} <= {".json", ".safetensors", ".md"}


def test_its_files_name_no_place_they_were_made_at():
    for path in SHIPPED_MODEL.rglob("*.json"):
        assert "_name_or_path" not in json.loads(path.read_text()), path


def test_it_computes_in_full_precision(pipeline):
    assert {parameter.dtype for parameter in pipeline.denoiser.parameters()} == {torch.float32}


def test_a_large_still_is_animated_at_its_own_size(pipeline):
    still = SyntheticStickers(seed=5, count=1, canvas=256, max_frames=8)[0].select([0])
    made = pipeline(
        image=still,
        num_frames=4,
        num_inference_steps=2,
        output_size="input",
        generator=torch.Generator().manual_seed(0),
    )
    assert made.frames.shape == (4, 256, 256, 4)
    np.testing.assert_array_equal(made.frames[0], still.frames[0])


def test_from_text_alone_it_draws_and_moves(pipeline):
    """Pink things come out pink, blue ones blue, on an empty canvas, and they move."""
    for colour, strong, weak in (("red", 0, 2), ("blue", 2, 0)):
        generator = torch.Generator().manual_seed(0)
        made = pipeline(f"a {colour} cat jumping", num_inference_steps=8, generator=generator)
        first = made.premultiplied()[0]
        alpha = first[..., 3]
        assert 0.05 < (alpha > 0.5).mean() < 0.8
        mean = first[..., :3][alpha > 0.5].mean(0)
        assert mean[strong] > mean[weak] + 0.15
        assert np.abs(made.premultiplied()[1:] - first).max() > 0.3


def test_words_move_it(pipeline):
    """What the words say, and not the noise, decides what becomes of a still."""
    still = SyntheticStickers(seed=5, count=60, canvas=pipeline.canvas)[7].select([0])

    def shape(words: str) -> tuple[float, float]:
        """How much there is of it at the end, and how far down, in shares of the canvas."""
        made = pipeline(words, image=still, generator=torch.Generator().manual_seed(1))
        alpha = made.frames[-3:, ..., 3].astype(float) / 255
        rows = (np.arange(pipeline.canvas) + 0.5) / pipeline.canvas
        return alpha.mean(), (alpha.sum((0, 2)) * rows).sum() / max(alpha.sum(), 1e-6)

    assert shape("growing")[0] > 1.3 * shape("shrinking")[0]
    assert shape("vanishing")[0] < 0.5 * shape("breathing")[0]
    assert shape("jumping")[1] < shape("squashing")[1] - 0.05


def test_it_refuses_to_guide_by_the_image(pipeline):
    """Of motion, guidance by the given frames would be a factor."""
    still = SyntheticStickers(seed=5, count=1, canvas=pipeline.canvas)[0].select([0])
    with pytest.raises(UserError, match="image guidance"):
        pipeline(image=still, image_guidance_scale=2.0)


def test_a_still_moves_and_stays_what_it_is(pipeline):
    """Each frame is the still moved: about as much of it, elsewhere."""
    still = SyntheticStickers(seed=5, count=60, canvas=pipeline.canvas)[7].select([0])
    generator = torch.Generator().manual_seed(0)
    made = pipeline("swaying", image=still, num_frames=8, generator=generator)
    frames = made.premultiplied()
    np.testing.assert_array_equal(made.frames[0], still.frames[0])
    assert np.abs(frames[1:-1] - frames[0]).max((1, 2, 3)).min() > 0.5
    for frame in frames[1:]:
        assert frame[..., 3].sum() == pytest.approx(frames[0][..., 3].sum(), rel=0.4)


def test_what_stands_still_keeps_the_lines_of_the_large_frames(pipeline):
    """Composed at 256 px a frame between two equal ones is them, not the canvas enlarged."""
    still = SyntheticStickers(seed=8, count=1, canvas=256, max_frames=5)[0].select([0, 0, 0])
    made = pipeline.fill(still, [0, 2], prompt="", output_size="input")
    difference = made.premultiplied()[1] - still.premultiplied()[0]
    assert np.abs(difference).max() < 3 / 255


def test_it_interpolates_unseen_stickers_better_than_their_neighbours(pipeline):
    makers = SyntheticStickers(seed=11, count=6, canvas=pipeline.canvas, max_frames=8)
    stickers = [makers[index] for index in range(6)]
    scores = evaluate(pipeline, stickers, tasks=("interpolation",))
    means = {row.method: row.scores["psnr"].mean for row in scores.rows}
    assert means[MODEL] > means["nearest frame"]
