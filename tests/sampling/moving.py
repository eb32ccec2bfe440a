"""A tiny pipeline with all parts: drawer, motion network, composer."""

from __future__ import annotations

import torch
from diffusers import FlowMatchEulerDiscreteScheduler

from models.networks import perturb
from rdtf.models.dfgn import DFGN
from rdtf.models.motion_dfgn import MotionDFGN
from rdtf.models.motion_predictor import MotionPredictor
from rdtf.models.representation import PixelPatches
from rdtf.models.text import TextEncoders
from rdtf.sampling.pipeline import StickerPipeline

CANVAS = 32
_SMALL = {
    "channels": (16, 32),
    "attention_levels": (1,),
    "attention_head_dim": 8,
    "embedding_dim": 32,
    "text_dim": 16,
    "sti_heads": 2,
    "sti_head_dim": 8,
}


def _predictor() -> MotionPredictor:
    small = {name: value for name, value in _SMALL.items() if not name.startswith("sti")}
    return perturb(MotionPredictor(**small, stem_width=8, canvas=CANVAS), std=0.05).eval()


def whole_pipeline(max_frames: int = 16, predicts: bool = False) -> StickerPipeline:
    """Untrained, with perturbed weights: everything moves and is drawn, wildly."""
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(0)
        pipe = StickerPipeline(
            DFGN(**_SMALL, latent_channels=16, patch=2, latent_size=16, max_frames=8),
            PixelPatches(2),
            TextEncoders(),
            FlowMatchEulerDiscreteScheduler(shift=2.0),
            motion=perturb(
                MotionDFGN(**_SMALL, stem_width=8, canvas=CANVAS, max_frames=max_frames), std=0.05
            ).eval(),
            predictor=_predictor() if predicts else None,
            drawer=DFGN(
                **_SMALL, latent_channels=16, patch=2, latent_size=16, compose=False, max_frames=1
            ).eval(),
        )
    pipe.set_progress_bar_config(disable=True)
    return pipe
