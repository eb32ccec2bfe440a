"""Steps and guidance that a model samples with unless it is told otherwise, by kind of task.

One table per model, stored in its `model_index.json`. Command line, REST, studio, ComfyUI and
evaluation leave the values unset, so that all of them sample alike.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import asdict, dataclass
from typing import Any

import numpy as np

from rdtf.errors import ConfigError
from rdtf.method.tasks import FAMILIES
from rdtf.sampling.checks import real, whole


@dataclass(frozen=True)
class TaskSampling:
    """How one family of tasks is sampled.

    num_inference_steps: of the scheduler, per window; guidance_scale, image_guidance_scale: of the
    text and of the given frames, 1 = off; eta: noise that DDIM adds in its steps, 0 to 1.
    """

    num_inference_steps: int
    guidance_scale: float = 1.0
    image_guidance_scale: float = 1.0
    eta: float = 0.0

    def __post_init__(self) -> None:
        whole("num_inference_steps", self.num_inference_steps, 1)
        real("guidance_scale", self.guidance_scale, 0)
        real("image_guidance_scale", self.image_guidance_scale, 0)
        real("eta", self.eta, 0, 1)


#: Of a text without a still, by a network that draws it first.
DRAWING = "drawing"
#: Family of tasks, or DRAWING → how it is sampled; see `rdtf.method.tasks.FAMILIES`.
SamplingTable = dict[str, TaskSampling]

# Frames between given ones are settled by them, and going on from several is nearly so; from one
# still or text alone motion has to be drawn. docs/model.md says what more or less steps give.
_COMPOSED: SamplingTable = {
    "generation": TaskSampling(20, guidance_scale=2.0),
    "interpolation": TaskSampling(1),
    "prediction": TaskSampling(2),
}
# Without a composer every frame is drawn from noise, also between given ones.
_DRAWN: SamplingTable = {
    "generation": TaskSampling(20, guidance_scale=2.0),
    "interpolation": TaskSampling(20),
    "prediction": TaskSampling(20),
}
# Table 6 of the paper: DDIM, 50 steps, eta 1, guidance 7.5 by text and by image.
_PAPER: SamplingTable = dict.fromkeys(
    FAMILIES, TaskSampling(50, guidance_scale=7.5, image_guidance_scale=7.5, eta=1.0)
)


# A motion network takes few steps; frames between given ones are settled by them.
_MOVED: SamplingTable = {
    "generation": TaskSampling(20, guidance_scale=2.0),
    "interpolation": TaskSampling(1),
    "prediction": TaskSampling(12),
    DRAWING: TaskSampling(20, guidance_scale=3.0),
}


def default_sampling(process: str, compose: bool, moves: bool = False) -> SamplingTable:
    """The table of a new model: the paper's for its DDPM process, else by what it has.

    Args:
        compose: the denoiser composes; moves: there is a motion network.
    """
    if moves:
        return dict(_MOVED)
    if process == "ddpm":
        return dict(_PAPER)
    return dict(_COMPOSED if compose else _DRAWN)


def table_to_dict(table: SamplingTable) -> dict[str, dict[str, Any]]:
    """Plain values, for JSON."""
    return {family: asdict(sampling) for family, sampling in table.items()}


def table_from_dict(values: Mapping[str, Any]) -> SamplingTable:
    """The table that a model was stored with.

    Raises:
        ConfigError: a family is missing, or a value is unknown or out of range.
    """
    try:
        table = {family: TaskSampling(**values[family]) for family in FAMILIES}
        if DRAWING in values:
            table[DRAWING] = TaskSampling(**values[DRAWING])
        return table
    except (KeyError, TypeError, ValueError) as error:
        raise ConfigError(f"sampling defaults of the model can't be read: {error}") from error


def family_of(known: np.ndarray) -> str:
    """The family of completing a clip of which the frames `known`, bool `[F]`, are given."""
    given, hidden = np.flatnonzero(known), np.flatnonzero(~known)
    if len(given) < 2:
        return "generation"
    between = (hidden > given[0]) & (hidden < given[-1])
    return "interpolation" if between.sum() > len(hidden) / 2 else "prediction"
