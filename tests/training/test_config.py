from __future__ import annotations

import dataclasses
import json
import math

import pytest
from hypothesis import given
from hypothesis import strategies as st

from rdtf.errors import ConfigError
from rdtf.models.text import DEFAULT_ENCODER
from rdtf.training.config import (
    ModelConfig,
    OptimizerConfig,
    TrainConfig,
    from_dict,
    override,
    to_dict,
)
from rdtf.training.presets import PRESETS

through_json = st.builds(
    TrainConfig,
    steps=st.integers(1, 10**7),
    seed=st.integers(0, 2**63),
    given_frame_weight=st.floats(0, 10),
    model=st.builds(
        ModelConfig,
        channels=st.lists(st.integers(1, 999), min_size=1, max_size=5).map(tuple),
        attention_levels=st.lists(st.integers(0, 4), max_size=3).map(tuple),
        extra_up_stage=st.booleans(),
    ),
    optimizer=st.builds(
        OptimizerConfig,
        learning_rate=st.floats(0, 1),
        betas=st.tuples(st.floats(0, 0.999), st.floats(0, 0.999)),
    ),
)


# ------------------------------------------------------------------ to a dict and back


@given(config=through_json)
def test_config_survives_json(config):
    assert from_dict(TrainConfig, json.loads(json.dumps(to_dict(config)))) == config


@pytest.mark.parametrize("name", PRESETS)
def test_presets_survive_json(name):
    config = PRESETS[name]
    assert from_dict(TrainConfig, json.loads(json.dumps(to_dict(config)))) == config


def test_fields_that_are_missing_keep_their_defaults():
    config = from_dict(TrainConfig, {"steps": 7, "model": {"channels": [8, 16]}})
    assert config == TrainConfig(steps=7, model=ModelConfig(channels=(8, 16)))


@pytest.mark.parametrize(
    ("values", "message"),
    [
        ({"stepz": 7}, "config has unknown field 'stepz'"),
        ({"optimizer": {"lr": 1}}, "optimizer has unknown field 'lr'"),
        ({"optimizer": {"betas": [0.9]}}, r"optimizer\.betas takes 2 values, not 1"),
    ],
)
def test_fields_that_do_not_fit_are_named(values, message):
    with pytest.raises(ConfigError, match=message):
        from_dict(TrainConfig, values)


def test_config_can_not_be_changed_in_place():
    with pytest.raises(dataclasses.FrozenInstanceError):
        TrainConfig().steps = 7  # pyright: ignore[reportAttributeAccessIssue]


# ------------------------------------------------------------------ settings by name


def test_values_are_set_by_name():
    changes = {"steps": 5, "model.channels": (4, 8), "model.compose": False, "data.still_share": 0}
    config = override(TrainConfig(), changes)
    assert (config.steps, config.model.channels) == (5, (4, 8))
    assert config.model.compose is False and config.data.still_share == 0


def test_override_leaves_the_rest_and_the_original():
    original = TrainConfig()
    changed = override(original, {"optimizer.learning_rate": 1e-5, "seed": 9})
    assert original == TrainConfig()
    assert override(changed, {"optimizer.learning_rate": 1e-3, "seed": 0}) == original
    assert override(original, {}) == original


@pytest.mark.parametrize(
    "name",
    ["stepz", "optimizer.lr", "optimiser.learning_rate", "steps.more", "", "model.", "optimizer"],
)
def test_unknown_setting(name):
    with pytest.raises(ConfigError, match=f"there is no setting '{name}'; see .*--help"):
        override(TrainConfig(), {name: 1})


# ------------------------------------------------------------------ what makes no sense


@pytest.mark.parametrize(
    ("name", "value"),
    [
        ("steps", 0),
        ("batch_size", 0),
        ("engine.micro_batch_size", -1),
        ("seed", -1),
        ("max_frames", 1),
        ("data.text_dropout", 1.5),
        ("data.reverse_probability", -0.5),
        ("relative_loss_floor", -0.1),
        ("model.refine_widths", (24, 0)),
        ("optimizer.learning_rate", -1e-3),
        ("optimizer.learning_rate", math.nan),
        ("engine.precision", "fp8"),
        ("model.temporal_layer", "mamba"),
        ("curriculum.mode", "steep"),
        ("objective.kind", "score"),
        ("representation.kind", "voxels"),
    ],
)
def test_values_out_of_range_are_named(name, value):
    with pytest.raises(ConfigError, match=f"setting {name} is"):
        override(TrainConfig(), {name: value})


def test_composing_needs_x_prediction():
    with pytest.raises(ConfigError, match=r"by --model\.no-compose"):
        override(TrainConfig(), {"objective.prediction": "v"})
    settings = {"objective.prediction": "v", "model.compose": False}
    assert not override(TrainConfig(), settings).model.compose


def test_an_average_is_needed():
    with pytest.raises(ConfigError, match="ema_decays is empty"):
        dataclasses.replace(TrainConfig(), optimizer=OptimizerConfig(ema_decays=()))
    with pytest.raises(ConfigError, match=r"optimizer\.ema_decays is 1\.5"):
        override(TrainConfig(), {"optimizer.ema_decays": (0.9, 1.5)})


def test_a_level_is_needed():
    with pytest.raises(ConfigError, match=r"model\.channels is empty"):
        override(TrainConfig(), {"model.channels": ()})


def test_the_default_encoder_is_that_of_the_text_encoders():
    assert TrainConfig().text.encoders == (DEFAULT_ENCODER,)
