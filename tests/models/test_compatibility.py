"""What a state dict computes must not change: numbers that earlier versions of the code gave.

Weights and inputs are sines, so that no random number generator has a say.
"""

from __future__ import annotations

from typing import Any

import pytest
import torch
from torch import Tensor

from rdtf.models.dfgn import DFGN

from .networks import TEXT_WIDTH, Clip

COMMON: dict[str, Any] = {
    "latent_channels": 8,
    "channels": (16, 32),
    "attention_levels": (1,),
    "embedding_dim": 16,
    "text_dim": 16,
    "text_widths": (TEXT_WIDTH,),
    "sti_heads": 2,
    "sti_head_dim": 8,
    "patch": 2,
}
VARIANTS: dict[str, dict[str, Any]] = {
    "composed": {},
    "refined": {"latent_channels": 16, "patch": 4, "refine_widths": (8,)},
    "eps": {"compose": False, "prediction": "eps", "extra_up_stage": True},
    "conv3d": {"temporal_layer": "conv3d", "sti_kernel": (3, 3, 3)},
}
GRIDS = {"even": (4, 6), "odd": (5, 3)}
# What `summary` gave; patches since warps are transparent beyond the canvas.
EXPECTED = {
    ("composed", "even"): [-0.02579035, 0.4885177, -0.5449845, 0.4464011, -0.5185038],
    ("composed", "odd"): [-0.3232442, 0.5632873, 0.8851492, -0.3502977, -0.8796443],
    ("refined", "even"): [-0.02307722, 0.4981631, -0.5449845, 0.5724639, -0.2785861],
    ("refined", "odd"): [0.02215583, 0.5785372, 0.8851492, -0.3737957, 0.8679429],
    ("eps", "even"): [0.3598486, 1.205648, 2.765227, 0.636106, -0.9315785],
    ("eps", "odd"): [0.3428748, 1.099008, 2.845703, 0.4437636, -1.439879],
    ("conv3d", "even"): [-0.04798848, 0.4418873, -0.5449845, 0.00727733, -0.284655],
    ("conv3d", "odd"): [-0.3225719, 0.6393039, 0.8851492, 0.1032217, -0.7401772],
}


def sines(shape: tuple[int, ...], pace: float) -> Tensor:
    count = torch.Size(shape).numel()
    return torch.sin(torch.arange(count, dtype=torch.float64) * pace).float().view(shape)


def network(**changes: Any) -> DFGN:
    model = DFGN(**{**COMMON, **changes}).eval()
    with torch.no_grad():
        for index, parameter in enumerate(model.parameters()):
            parameter.copy_(sines(parameter.shape, 1.0 + 0.37 * index) * 0.3)
    return model


def clips(grid: tuple[int, int], channels: int) -> Clip:
    """Two clips, the second of which is padded; interpolation and prediction."""
    shape = (2, channels, 4, *grid)
    return Clip(
        noisy=sines(shape, 0.7),
        t=torch.tensor([0.3, 0.8]),
        clean=sines(shape, 0.11),
        given=torch.tensor([[True, False, True, False], [True, False, False, False]]),
        valid=torch.tensor([[True] * 4, [True, True, True, False]]),
        text=[sines((2, 3, TEXT_WIDTH), 0.9)],
        text_mask=[torch.tensor([[True, True, True], [True, False, False]])],
        mean_duration_ms=torch.tensor([80.0, 200.0]),
    )


def summary(out: Tensor) -> list[float]:
    """Mean, mean magnitude, and single elements of the frames that exist."""
    second = out[1, :, :3]
    values = torch.cat([out[0].flatten(), second.flatten()])
    return [
        values.mean().item(),
        values.abs().mean().item(),
        out[0, 1, 0, 2, 1].item(),
        out[0, 2, -1, 1, 2].item(),
        second[3, 2, 3, 0].item(),
    ]


@pytest.mark.parametrize("grid", GRIDS)
@pytest.mark.parametrize("variant", VARIANTS)
def test_same_weights_give_the_same_frames(variant, grid):
    model = network(**VARIANTS[variant])
    out = clips(GRIDS[grid], model.config["latent_channels"]).through(model)
    expected = torch.tensor(EXPECTED[variant, grid])
    torch.testing.assert_close(torch.tensor(summary(out)), expected, rtol=1e-4, atol=1e-5)
