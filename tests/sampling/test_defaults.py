"""Steps and guidance that nobody named: the model's, by the task, from every front end."""

from __future__ import annotations

import json
from typing import Any

import numpy as np
import pytest
import torch

from fixtures_runs import CANVAS, tiny_config
from fixtures_service import moving_disc
from models.networks import perturb
from rdtf.errors import CheckpointError, ConfigError
from rdtf.evaluation.evaluate import evaluate
from rdtf.method.tasks import FAMILIES, FAMILY, TASKS, condition_mask
from rdtf.sampling.options import SamplingTable, TaskSampling
from rdtf.sampling.pipeline import SHIPPED_MODEL, StickerPipeline
from rdtf.sampling.windows import family_of
from rdtf.stickers import Sticker
from rdtf.training.presets import PRESETS, build_models, build_scheduler
from rdtf.training.run import load_pipeline


def clip(num_frames: int, **fields: Any) -> Sticker:
    """Half transparent: in pixel art small differences would be lost."""
    disc = moving_disc(CANVAS, num_frames)
    return disc.replace(frames=np.minimum(disc.frames, 200), **fields)


def mask(text: str) -> np.ndarray:
    return np.array([letter == "1" for letter in text])


@pytest.mark.parametrize("task", TASKS)
def test_the_mask_tells_the_family_of_a_task(task):
    """One given frame is a still, whoever drew it; beyond the outer given ones a clip goes on."""
    generator = np.random.default_rng(0)
    for num_frames in range(5, 17):
        given = condition_mask(task, num_frames, generator)
        inner = np.flatnonzero(given)
        family = FAMILY[task]
        if len(inner) < 2:
            family = "generation"
        elif family == "interpolation":
            hidden = np.flatnonzero(~given)
            between = (hidden > inner[0]) & (hidden < inner[-1])
            family = "interpolation" if between.mean() > 0.5 else "prediction"
        assert family_of(given) == family


FAMILY_OF_MASK = {
    "0000": "generation",
    "0100": "generation",
    "1001": "interpolation",
    "10101": "interpolation",
    "0101010": "prediction",
    "1100": "prediction",
    "0011": "prediction",
}


@pytest.mark.parametrize(("known", "family"), FAMILY_OF_MASK.items())
def test_families(known, family):
    assert family_of(mask(known)) == family


def test_the_table_survives_json():
    for process in ("flow", "ddpm"):
        table = SamplingTable.default(process, compose=False)
        assert set(table) == set(FAMILIES)
        assert SamplingTable.from_dict(json.loads(json.dumps(table.to_dict()))) == table


def test_only_a_composer_interpolates_in_one_step():
    assert SamplingTable.default("flow", compose=True)["interpolation"].num_inference_steps == 1
    for process in ("flow", "ddpm"):
        table = SamplingTable.default(process, compose=False)
        assert min(sampling.num_inference_steps for sampling in table.values()) >= 20


def test_paper_samples_as_the_paper_does():
    config = PRESETS["paper"]
    table = SamplingTable.default(config.objective.kind, config.model.compose)
    assert set(table.values()) == {TaskSampling(50, 7.5, 7.5, eta=1.0)}


@pytest.mark.parametrize(
    "changes",
    [
        {"generation": {"num_inference_steps": 0}},
        {"generation": {"num_inference_steps": 4, "eta": 2}},
        {"generation": {"num_inference_steps": 4, "guidance_scale": "much"}},
        {"generation": {"steps": 4}},
        {"generation": None},
        {},
    ],
)
def test_a_damaged_table_is_one_clear_error(changes):
    values: dict[str, Any] = {**SamplingTable.default("flow", True).to_dict(), **changes}
    if not changes:
        del values["prediction"]
    with pytest.raises(ConfigError, match="sampling defaults") as caught:
        SamplingTable.from_dict(values)
    assert "\n" not in str(caught.value)


# --------------------------------------------------------------------- stored with the model


@pytest.fixture(scope="module")
def ddpm_pipeline() -> StickerPipeline:
    """A tiny model of the paper's process that has learned nothing."""
    config = tiny_config(objective__kind="ddpm", objective__prediction="eps", model__compose=False)
    denoiser, autoencoder, text_encoders = build_models(config)
    denoiser = perturb(denoiser, std=0.05).eval()
    return StickerPipeline(denoiser, autoencoder, text_encoders, build_scheduler(config))


def test_the_defaults_are_stored_with_the_model(pipeline, tmp_path):
    own = {family: {"num_inference_steps": 3} for family in FAMILIES}
    StickerPipeline(**pipeline.components, sampling=own).save_pretrained(tmp_path)
    stored = json.loads((tmp_path / "model_index.json").read_text())
    assert stored["sampling"]["interpolation"]["num_inference_steps"] == 3
    loaded = StickerPipeline.from_pretrained(tmp_path)
    assert set(loaded.sampling_defaults.values()) == {TaskSampling(3)}
    stored["sampling"]["interpolation"]["num_inference_steps"] = "many"
    (tmp_path / "model_index.json").write_text(json.dumps(stored))
    with pytest.raises(CheckpointError, match="sampling defaults"):
        load_pipeline(tmp_path)


def test_the_shipped_model_stores_its_own():
    stored = json.loads((SHIPPED_MODEL / "model_index.json").read_text())
    assert stored["process"] == "flow"
    table = SamplingTable.from_dict(stored["sampling"])
    assert table == StickerPipeline.from_pretrained().sampling_defaults


def test_a_model_of_the_papers_process_stores_the_papers(ddpm_pipeline, tmp_path):
    ddpm_pipeline.save_pretrained(tmp_path)
    stored = json.loads((tmp_path / "model_index.json").read_text())
    assert stored["process"] == "ddpm"
    assert SamplingTable.from_dict(stored["sampling"]) == SamplingTable.default(
        "ddpm", compose=False
    )


# ---------------------------------------------------------------------------- and taken


def own_table(**changes: Any) -> dict[str, dict[str, Any]]:
    """Few steps, other ones and another guidance for each family."""
    table = {"generation": 3, "interpolation": 4, "prediction": 2}
    return {
        family: {"num_inference_steps": steps, "guidance_scale": steps / 2, **changes}
        for family, steps in table.items()
    }


CALLS: dict[str, Any] = {
    "generation": lambda pipe, **options: pipe("a cat", num_frames=3, **options),
    "interpolation": lambda pipe, **options: pipe.fill(clip(3), [0, 2], prompt="a cat", **options),
    "prediction": lambda pipe, **options: pipe.predict(clip(2), 2, prompt="a cat", **options),
}


@pytest.mark.parametrize("family", FAMILIES)
def test_what_is_not_named_is_taken_from_the_table(pipeline, family):
    own = StickerPipeline(**pipeline.components, sampling=own_table())
    call, steps = CALLS[family], own_table()[family]["num_inference_steps"]

    def made(**options: Any) -> np.ndarray:
        return call(own, generator=torch.Generator().manual_seed(0), **options).frames

    plain = made()
    assert own.num_timesteps == steps
    named = made(num_inference_steps=steps, guidance_scale=steps / 2, image_guidance_scale=1.0)
    assert np.array_equal(plain, named)
    for other in ({"num_inference_steps": 5}, {"guidance_scale": 4.0}):
        assert not np.array_equal(plain, made(**other))


def test_eta_of_the_table_reaches_ddim(ddpm_pipeline):
    """With noise in its steps the generator goes on drawing, and another sticker comes out."""
    made = []
    for eta in (0.0, 1.0):
        table = own_table(eta=eta, guidance_scale=1.0)
        pipe = StickerPipeline(**ddpm_pipeline.components, sampling=table)
        made.append(pipe.fill(clip(3), [0, 2], generator=torch.Generator().manual_seed(0)).frames)
    assert not np.array_equal(*made)


def test_evaluation_takes_the_defaults(pipeline):
    own = StickerPipeline(**pipeline.components, sampling=own_table())
    own.set_progress_bar_config(disable=True)
    stickers = [clip(4, captions=("a disc rolls",))]
    tasks = ("interpolation", "it2v")
    plain = evaluate(own, stickers, tasks=tasks)
    assert "num_inference_steps" not in plain.settings and "guidance_scale" not in plain.settings
    for task in tasks:
        theirs = [record for record in plain.records if record.task == task]
        known = np.isin(np.arange(4), theirs[0].known)
        named = evaluate(own, stickers, tasks=(task,), **own_table()[family_of(known)])
        assert [record.scores for record in named.records] == [record.scores for record in theirs]
