from __future__ import annotations

import json
import math
from collections.abc import Sequence

import numpy as np
import pytest
import torch

from rdtf.errors import ConfigError, DataError
from rdtf.evaluation.baselines import BASELINES, WAY_BACK, linear_blend, optical_flow_rows
from rdtf.evaluation.evaluate import _middle_frames, evaluate, spread
from rdtf.evaluation.results import MODEL, Evaluation, _summarise, as_cell
from rdtf.evaluation.tasks import (
    CLOSE_TASKS,
    EVALUATION_TASKS,
    evaluation_tasks,
    hidden_frames,
)
from rdtf.stickers import Sticker

from .drawings import moving_ball

METHODS = (MODEL, *BASELINES, *optical_flow_rows())


def methods(task: str) -> tuple[str, ...]:
    """Rows of a task, in order."""
    own = (WAY_BACK,) if "prediction" in task else ()
    return (MODEL, *BASELINES, *own, *optical_flow_rows())


class NoisyBlend:
    """A real `Filler`: the linear blend plus noise from the generator that it is handed."""

    def __init__(self, noise: float = 0.0, canvas: int | None = None) -> None:
        self.noise = noise
        self.canvas = canvas
        self.calls: list[dict] = []

    def fill(
        self,
        sticker: Sticker,
        *,
        known: Sequence[int],
        prompt: str | None = None,
        generator: torch.Generator | None = None,
        num_inference_steps: int = 20,
        guidance_scale: float = 2.0,
    ) -> Sticker:
        self.calls.append({"steps": num_inference_steps, "scale": guidance_scale, "text": prompt})
        blend = linear_blend(sticker, known)
        hidden = hidden_frames(sticker.num_frames, known)
        noise = torch.randn(blend.frames[hidden].shape, generator=generator).numpy()
        noisy = blend.premultiplied()[hidden] + self.noise * noise
        frames = blend.frames.copy()
        frames[hidden] = Sticker.from_premultiplied(noisy, 100).frames
        return blend.replace(frames=frames)


class Peeker(NoisyBlend):
    """Returns what it was shown: perfect, if it were shown the hidden frames."""

    def fill(self, sticker: Sticker, **_) -> Sticker:
        return sticker


def clips(count: int = 4, num_frames: int = 6) -> list[Sticker]:
    return [
        moving_ball(num_frames, 32, step=0.3 + index / 5, captions=(f"ball {index}",))
        for index in range(count)
    ]


def test_rows_cover_tasks_and_methods_and_the_blend_equals_itself():
    result = evaluate(NoisyBlend(), clips())
    assert [(row.task, row.method) for row in result.rows] == [
        (task, method) for task in EVALUATION_TASKS for method in methods(task)
    ]
    for task in EVALUATION_TASKS:
        model, _, blend, *_ = (row for row in result.rows if row.task == task)
        assert model.num_clips == blend.num_clips == 4
        assert model.scores["psnr"] == blend.scores["psnr"]
        assert model.scores["given_error"].mean == 0


def test_perceptual_scores_have_columns_where_they_were_measured():
    """With made-up networks: KVD has a share for each clip, FVD is the whole set's."""
    options = {"lpips": lambda a, b: float(np.abs(a - b).mean()), "tasks": ["it2v"]}
    result = evaluate(
        NoisyBlend(0.3),
        clips(),
        features=lambda s: s.premultiplied()[:, ::8, ::8].ravel(),
        **options,
    )
    model = [record.scores for record in result.records if record.method == MODEL]
    assert len({scores["fvd"] for scores in model}) == 1 and model[0]["fvd"] > 0
    assert len({scores["kvd"] for scores in model}) == 4
    table = result.score_table()
    assert "LPIPS" in table.text() and "looped to 16" in table.note
    kvd, fvd = (as_cell(cell).text for cell in table.rows[0][7:9])
    assert "[" in kvd and "[" not in fvd
    assert Evaluation.from_dict(result.to_dict()).table() == result.table()
    assert "FVD" not in result.comparison_table().text()
    assert "LPIPS" not in evaluate(NoisyBlend(), clips(), tasks=["it2v"]).table()


def test_scores_do_not_depend_on_order_or_number_of_clips():
    scores = {}
    for stickers in (clips(), clips()[::-1], clips()[2:3]):
        result = evaluate(NoisyBlend(0.1), stickers, tasks=["it2v"], seed=3)
        for record in result.records:
            known = scores.setdefault((record.clip, record.method), record.scores["psnr"])
            assert known == record.scores["psnr"]
    other = evaluate(NoisyBlend(0.1), clips(), tasks=["it2v"], seed=4)
    model = [record for record in other.records if record.method == MODEL]
    assert all(record.scores["psnr"] != scores[record.clip, MODEL] for record in model)


def test_hidden_frames_are_not_shown():
    result = evaluate(Peeker(), clips(), tasks=["interpolation"])
    assert all(r.scores["psnr"] < 20 for r in result.records if r.method == MODEL)


def test_options_reach_the_model_and_none_leaves_its_defaults():
    pipe = NoisyBlend()
    evaluate(pipe, clips(1), tasks=["it2v"])
    evaluate(pipe, clips(1), tasks=["it2v"], num_inference_steps=5, guidance_scale=1.5)
    assert pipe.calls == [
        {"steps": 20, "scale": 2.0, "text": "ball 0"},
        {"steps": 5, "scale": 1.5, "text": "ball 0"},
    ]


def test_clips_are_fitted_to_the_canvas_of_the_model():
    result = evaluate(NoisyBlend(canvas=16), clips(1), tasks=["it2v"], num_examples=1)
    assert result.examples[0].truth.width == result.examples[0].results[MODEL].width == 16


def test_examples_are_kept_for_each_task():
    result = evaluate(NoisyBlend(), clips(), num_examples=2)
    assert [example.task for example in result.examples] == [
        task for task in EVALUATION_TASKS for _ in range(2)
    ]
    example = result.examples[0]
    assert example.prompt == "ball 0" and example.known == (0, 2, 4, 5)
    assert set(example.results) == set(example.scores) == set(METHODS)


def test_neighbouring_frames_have_rows_of_their_own():
    """Two windows of one long clip: spread over it, and cut from its middle."""
    long = moving_ball(24, 32, step=0.3)
    assert _middle_frames(long, 8).frames.tolist() == long.frames[8:16].tolist()
    result = evaluate(NoisyBlend(), [_middle_frames(long, 8)], tasks=tuple(CLOSE_TASKS))
    assert {row.task for row in result.rows} == set(CLOSE_TASKS)
    assert {record.num_frames for record in result.records} == {8}
    for record in result.records:
        assert record.known == evaluation_tasks(8)[CLOSE_TASKS[record.task]]


def test_limit_spreads_over_the_set_and_progress_is_told():
    seen = []
    evaluate(
        NoisyBlend(),
        clips(6),
        tasks=["it2v"],
        limit=2,
        progress=lambda done, total, what: seen.append((done, total, what)),
    )
    assert seen == [(0, 2, "it2v"), (1, 2, "it2v"), (2, 2, "done")]
    stickers = clips(6)
    assert spread(stickers, 3) == stickers[::2]
    assert spread(stickers, 99) == spread(stickers, None) == stickers


def test_short_clips_skip_tasks_and_stills_are_no_clips():
    result = evaluate(NoisyBlend(), [*clips(1, num_frames=1), *clips(1, num_frames=2)])
    assert {row.task for row in result.rows} == set(EVALUATION_TASKS[3:])
    with pytest.raises(DataError, match="none of the 1 clips"):
        evaluate(NoisyBlend(), clips(1, num_frames=1))


def test_mistakes_are_named():
    with pytest.raises(ConfigError, match="'tv2' is unknown; choose from interpolation"):
        evaluate(NoisyBlend(), clips(1), tasks=["tv2"])
    with pytest.raises(ConfigError, match="limit is 0"):
        evaluate(NoisyBlend(), clips(1), limit=0)


# -------------------------------------------------------------------- summing up


def test_to_dict_is_strict_json():
    still = moving_ball(6, 32, step=0.0)
    result = evaluate(NoisyBlend(0.1), [still], guidance_scale=1.5)
    loaded = json.loads(json.dumps(result.to_dict(), allow_nan=False))
    assert loaded["settings"]["guidance_scale"] == 1.5
    assert loaded["rows"][0]["scores"]["motion_ratio"]["mean"] is None
    assert loaded["clips"][0]["known"] == [0, 2, 4, 5]
    assert loaded["clips"][0]["true_motion"] == 0


def test_scores_come_back_from_their_json():
    result = evaluate(NoisyBlend(0.1), [moving_ball(6, 32, step=0.0), *clips(2)])
    loaded = json.loads(json.dumps(result.to_dict()))
    again = Evaluation.from_dict(loaded)
    assert json.loads(json.dumps(again.to_dict())) == loaded
    assert again.table() == result.table()


def test_tables_name_the_best_of_each_task():
    table = evaluate(NoisyBlend(0.2), clips()).score_table()
    assert table.headers[:4] == ["task", "method", "PSNR (dB)\u00a0↑", "SSIM\u00a0↑"]
    for task in EVALUATION_TASKS:
        model, *baselines = (as_cell(row[2]) for row in table.rows if row[0] == task)
        assert any(cell.best for cell in baselines)
        assert not model.best
    text = evaluate(NoisyBlend(), clips(2)).table()
    assert "interpolation_3" in text and "line distance (%)" in text and "*" in text


def test_differences_are_paired():
    """Clips differ by many dB, yet the loss on each of them is certain."""
    result = evaluate(NoisyBlend(0.05), clips(6), tasks=["interpolation"])
    model, _, blend, *_ = (row.scores["psnr"] for row in result.rows)
    assert model.ci_high > blend.ci_low
    difference = result.difference("interpolation", "psnr", MODEL, "linear blend")
    assert difference.n == 6 and difference.ci_high < 0
    cell = as_cell(result.comparison_table().rows[1][2])
    assert cell.text.startswith("-") and not cell.best


def test_summary_of_known_values():
    summary = _summarise([1.0, 2.0, 3.0, 10.0, math.nan, math.inf])
    assert (summary.n, summary.mean, summary.median) == (4, 4.0, 2.5)
    assert 1 <= summary.ci_low < 4 < summary.ci_high <= 10
    assert _summarise([1.0, 2.0]) == _summarise([1.0, 2.0])
    single = _summarise([7.0])
    assert single.ci_low == single.ci_high == single.mean == 7
    assert _summarise([]).n == 0 and math.isnan(_summarise([]).mean)


def test_interval_covers_the_mean_about_as_often_as_it_says():
    random = np.random.default_rng(0)
    summaries = [_summarise(random.normal(size=40).tolist()) for _ in range(100)]
    assert 85 <= sum(s.ci_low <= 0 <= s.ci_high for s in summaries) <= 100
