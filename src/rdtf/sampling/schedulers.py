"""What the sampling loop asks of diffusers' schedulers, which differ in small things.

Any of them will do that knows the model's process and prediction: made with `from_config` from the
scheduler that the model came with, which carries both over.
"""

from __future__ import annotations

import inspect
from typing import Any, Literal

import torch
from torch import Tensor

from rdtf.errors import ConfigError
from rdtf.method.objective import Objective, ObjectiveConfig, build_objective

PREDICTION_TYPES = {"eps": "epsilon", "v": "v_prediction", "x": "sample"}


def is_flow(scheduler: Any) -> bool:
    """Whether it solves a rectified flow: flow-match schedulers, and others that are set to one."""
    by_config = scheduler.config.get("prediction_type") == "flow_prediction"
    return by_config or "FlowMatch" in type(scheduler).__name__


def objective_of(scheduler: Any, prediction: Literal["x", "v", "eps"], kind: str) -> Objective:
    """The training objective of a model, read back from its scheduler.

    Args:
        prediction: what the network predicts: "x", "v" or "eps".
        kind: the process that the model was trained on: "flow" or "ddpm".

    Raises:
        ConfigError: a scheduler of another process or prediction.
    """
    name, config = type(scheduler).__name__, scheduler.config
    if is_flow(scheduler) != (kind == "flow"):
        process = {"flow": "a rectified flow", "ddpm": "the DDPM process"}[kind]
        raise ConfigError(f"{name} does not fit: this model was trained on {process}")
    if kind == "flow":
        return build_objective(ObjectiveConfig("flow", prediction))
    expected = {"prediction_type": PREDICTION_TYPES[prediction], "beta_schedule": "scaled_linear"}
    for setting, value in expected.items():
        if config.get(setting) != value:
            raise ConfigError(
                f"{name} has {setting} {config.get(setting)!r}, this model needs {value!r}; "
                "make it with from_config(pipeline.scheduler.config)"
            )
    return build_objective(
        ObjectiveConfig(
            "ddpm",
            prediction,
            num_train_timesteps=config["num_train_timesteps"],
            beta_start=config["beta_start"],
            beta_end=config["beta_end"],
        )
    )


def set_timesteps(scheduler: Any, steps: int, device: torch.device | str | None = None) -> int:
    """Plan `steps` steps and begin with the first; returns how often the network is asked.

    Flow schedulers get N noise levels from 1 down to 1/N, before their shift: left alone, they
    space them down to .001, and the last evaluation would see nearly finished latents.
    """
    takes_sigmas = "sigmas" in inspect.signature(scheduler.set_timesteps).parameters
    if takes_sigmas and "FlowMatch" in type(scheduler).__name__:
        sigmas = [1 - index / steps for index in range(steps)]
        scheduler.set_timesteps(sigmas=sigmas, device=device)
    else:
        scheduler.set_timesteps(steps, device=device)
    if hasattr(scheduler, "set_begin_index"):
        scheduler.set_begin_index(0)  # or it searches for the timestep, and the host waits
    return len(scheduler.timesteps)


def noise_levels(scheduler: Any, device: torch.device) -> Tensor:
    """The noise level that the network is told at each step, float32 `[steps]` in [0, 1].

    Of a flow it is the sigma: some schedulers round their timesteps to whole ones.
    """
    timesteps = scheduler.timesteps
    if not is_flow(scheduler):
        levels = timesteps / float(scheduler.config.num_train_timesteps)
    else:
        first = getattr(scheduler, "begin_index", None) or 0
        levels = scheduler.sigmas[first : first + len(timesteps)]
    return levels.to(device=device, dtype=torch.float32)


def step_options(scheduler: Any, generator: torch.Generator | None, eta: float) -> dict[str, Any]:
    """What else its `step` takes: a generator, DDIM's eta."""
    takes = inspect.signature(scheduler.step).parameters
    options = {"generator": generator, "eta": eta}
    return {name: value for name, value in options.items() if name in takes}
