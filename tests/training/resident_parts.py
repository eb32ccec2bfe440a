"""Small clips, a tiny text encoder and tiny networks for tests of training on resident data."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import torch

from models.encoders import save_tiny_bert
from rdtf.data.clip_store import ClipStore, StoredClip
from rdtf.models.dfgn import DFGN
from rdtf.models.motion_dfgn import MotionDFGN
from rdtf.models.motion_latents import alpha_box
from rdtf.models.motion_predictor import MotionPredictor
from rdtf.models.text import TextEncoder
from rdtf.training.motion import FlowTable, MotionAssembler, MotionDrawer, MotionMix
from rdtf.training.trainables import (
    FlowConfig,
    TextFeed,
    TrainDrawing,
    TrainMotion,
    TrainPrediction,
)

CANVAS, TEXT_WIDTH = 32, 32
_SMALL = {"channels": (32, 32), "attention_levels": (1,), "embedding_dim": 32, "text_dim": 32}


def small_store() -> ClipStore:
    """Two stills and four clips of 2 to 7 frames: squares that slide over noise-free ground."""
    pixels, clips, start = [], [], 0
    for number, count in enumerate((1, 1, 2, 4, 5, 7)):
        frames = np.zeros((count, CANVAS, CANVAS, 4), np.uint8)
        for frame in range(count):
            left = 4 + number + frame
            frames[frame, 8:20, left : left + 10] = (40 * number, 200 - 30 * number, 90, 255)
            frames[frame, 11:14, left + 2 : left + 5] = (250, 250, 250, 255)
        clip = StoredClip(
            start=start,
            count=count,
            durations_ms=(80,) * count,
            captions=("red cat", "a red cat waving") if number % 2 else ("dog",),
            motion="waving" if count > 1 else "",
            source=("a", "b")[number % 2],
            concept=f"thing {number}",
        )
        pixels.append(frames)
        clips.append(clip)
        start += count
    return ClipStore(np.concatenate(pixels), tuple(clips))


def text_feed(folder: Path) -> TextFeed:
    tokenizer, model = TextEncoder(str(save_tiny_bert(folder))).parts
    return TextFeed(tokenizer, model, length=8)


def small_motion_dfgn(seed: int = 0, **options: object) -> MotionDFGN:
    torch.manual_seed(seed)
    settings = {**_SMALL, "text_widths": (TEXT_WIDTH,), "stem_width": 8, "canvas": CANVAS}
    return MotionDFGN(**{**settings, **options})  # pyright: ignore[reportArgumentType]


def flow_table(store: ClipStore) -> FlowTable:
    starts, counts = (np.array([getattr(c, n) for c in store.clips]) for n in ("start", "count"))
    return FlowTable(torch.from_numpy(store.frames), starts, counts)


def motion_drawer(store: ClipStore, grammar_share: float = 0.5, seed: int = 3) -> MotionDrawer:
    alpha = torch.from_numpy(store.frames)[..., 3].float() / 255
    mix = MotionMix(grammar_share=grammar_share)
    return MotionDrawer(store.clips, alpha_box(alpha).numpy(), mix, seed)


def train_motion(store: ClipStore, text: TextFeed, grammar_share: float = 0.5) -> TrainMotion:
    assembler = MotionAssembler(torch.from_numpy(store.frames), flow_table(store))
    drawer = motion_drawer(store, grammar_share)
    lengths = ((4, 4, 0.7), (6, 2, 0.3))
    return TrainMotion(small_motion_dfgn(), drawer, assembler, text, FlowConfig(), lengths)


def small_predictor(seed: int = 0) -> MotionPredictor:
    torch.manual_seed(seed)
    settings = {**_SMALL, "text_widths": (TEXT_WIDTH,), "stem_width": 8, "canvas": CANVAS}
    return MotionPredictor(**settings, max_offset=6)  # pyright: ignore[reportArgumentType]


def train_prediction(store: ClipStore, text: TextFeed) -> TrainPrediction:
    assembler = MotionAssembler(torch.from_numpy(store.frames), flow_table(store))
    flow, lengths = FlowConfig(least_sigma=1.0), ((4, 4, 1.0),)
    drawer = motion_drawer(store, grammar_share=0.2)
    return TrainPrediction(small_predictor(), drawer, assembler, text, flow, lengths)


def train_drawing(store: ClipStore, text: TextFeed) -> TrainDrawing:
    torch.manual_seed(0)
    network = DFGN(  # pyright: ignore[reportCallIssue]
        latent_channels=64,
        compose=False,
        patch=4,
        latent_size=8,
        max_frames=1,
        text_widths=(TEXT_WIDTH,),
        **_SMALL,  # pyright: ignore[reportArgumentType]
    )
    frames = torch.from_numpy(store.frames)
    sources = {"a": 1.0, "b": 2.0}
    return TrainDrawing(network, frames, store.clips, text, FlowConfig(), sources, 4)
