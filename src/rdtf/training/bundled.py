"""Train a network on a bundle: the same on a rented GPU and at home.

The run's folder holds `checkpoints/`, `run.json` (what it was begun with), `metrics.jsonl`, and
`component/`, the averaged weights as `from_pretrained` loads them.
"""

from __future__ import annotations

import math
import os
import sys
import time
from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, fields, replace
from pathlib import Path
from types import SimpleNamespace
from typing import Any, Literal

import numpy as np
import torch
from safetensors.torch import save_file
from torch import Tensor

from rdtf.data.bundle import read_text
from rdtf.data.clip_store import Bundle, ClipStore
from rdtf.errors import ConfigError, UserError
from rdtf.fileio import (
    atomic_path,
    check_own_folder,
    ensure_folder,
    read_json,
    write_json,
)
from rdtf.models.loading import load_tensors
from rdtf.models.motion_dfgn import MotionDFGN
from rdtf.models.motion_latents import alpha_box
from rdtf.models.motion_predictor import MotionPredictor
from rdtf.models.recurrence import RecurrencePredictor
from rdtf.training.config import OptimizerConfig, plain_engine
from rdtf.training.distributed import Ranks
from rdtf.training.motion import FlowTable, MotionAssembler, MotionDrawer, MotionMix
from rdtf.training.parts import write_component, write_parts
from rdtf.training.progress import check_times
from rdtf.training.recurrence import TrainRecurrence
from rdtf.training.trainables import (
    FlowConfig,
    Resident,
    TextFeed,
    TrainDrawing,
    TrainMotion,
    TrainPrediction,
)
from rdtf.training.trainer import Trainer

Kind = Literal["motion", "prediction", "recurrence", "drawing"]
RUN_FILE, COMPONENT_FOLDER, PARTS_FOLDER = "run.json", "component", "parts"
FLOWS_FILE = "flows.safetensors"
PRECISIONS = ("fp32", "amp", "bf16")
_LONG_CLIP = 16  # frames; a fifth of the batches of motion has such clips, the rest half as long
_DRAWING_PATCH = 4
_FOREVER = 10**9  # steps of a run that its time ends
_PREDICTION_TASKS = {
    "post_frame_prediction": 0.66, "pre_frame_prediction": 0.17, "it2v": 0.12, "i2v": 0.05,
}  # fmt: skip
_FIXED = ("kind", "bundle", "channels", "seed")  # a run can't change them when it goes on


@dataclass(frozen=True)
class BundledConfig:
    """A run. What is None follows from the kind and the device, or is as the run was begun.

    seconds: of training that warm-up, decay and curriculum are planned for, over all calls;
    steps: instead of seconds. channels: width of each level, finest first. weights: how often each
    collection of stickers (`source` of its clips) is drawn; default: by its number of clips.
    grammar_share: of motion batches, motions of the grammar over stills. precision: "fp32", "amp"
    (autocast to bf16) or "bf16" (a copy in bf16, masters in fp32).
    """

    kind: Kind
    seconds: float | None = None
    steps: int | None = None
    batch_size: int | None = None
    channels: tuple[int, ...] | None = None
    learning_rate: float | None = None
    weights: Mapping[str, float] | None = None
    grammar_share: float | None = None
    seed: int | None = None
    workers: int | None = None
    precision: str | None = None
    compile: bool | None = None


@dataclass(frozen=True)
class BundledResult:
    """reason: as in `TrainResult`; component: a folder for `from_pretrained`."""

    reason: str
    step: int
    spent_seconds: float
    component: Path
    parts: tuple[Path, ...]


def train_from_options(kind: Kind, given: Any) -> BundledResult:
    """`train_on_bundle` with what a command line gave, under the names of its options."""
    names = {field.name for field in fields(BundledConfig)} - {"kind", "weights", "compile"}
    config = BundledConfig(
        kind=kind,
        weights=_weights_of(given.weight) or None,
        compile=given.compile or None,
        **{name: getattr(given, name) for name in names},
    )
    return train_on_bundle(
        config,
        given.bundle,
        given.out,
        slice_seconds=given.slice,
        store=given.store,
        device=given.device,
        part_bytes=None if given.parts is None else int(given.parts * 1e6),
    )


def train_on_bundle(
    config: BundledConfig,
    folders: Sequence[Path | str],
    out: Path | str,
    *,
    slice_seconds: float = math.inf,
    store: Path | str | None = None,
    device: str | None = None,
    part_bytes: int | None = None,
) -> BundledResult:
    """Train, or go on; the same call again goes on from where it was.

    Args:
        folders: of the bundle.
        out: the run's folder.
        slice_seconds: this call saves and returns when they are over, start-up included.
        store: where decoded frames are kept; default: beside the bundle.
        device: of the network; default: a GPU if there is one.
        part_bytes: also write the weights in half precision as parts of at most this size.

    Raises:
        UserError: something makes no sense, or the run was begun with something else.
    """
    started = time.monotonic()
    os.environ.setdefault("TOKENIZERS_PARALLELISM", "false")  # workers draw, one thread each
    out = Path(out)
    check_own_folder(out, RUN_FILE)
    check_times(None, slice_seconds)
    if part_bytes is not None and part_bytes <= 0:
        raise UserError("parts must be of more than 0 MB")
    on = torch.device(device or ("cuda" if torch.cuda.is_available() else "cpu"))
    bundle = Bundle.find(folders)
    plan = _settled(config, bundle, out, on)
    clips = bundle.store(store)
    _say(f"{len(clips.clips)} clips, {len(clips.frames)} frames of {clips.canvas} px")
    _set_up(on, plan.compile)
    torch.manual_seed(plan.seed)
    flows = bundle.store_folder(store) / FLOWS_FILE
    trainable = _trainable(plan, clips, bundle, on, flows)
    network = trainable.network
    count = sum(p.numel() for p in network.parameters())
    _settle(trainable, plan)
    trainer = Trainer(trainable, out, ranks=Ranks(device=on))
    _say(f"{plan.kind}: {count / 1e6:.2f} M parameters, on {on} from step {trainer.step}")
    left = max(slice_seconds - (time.monotonic() - started), 0.0)
    done = trainer.train(plan.seconds or math.inf, left)
    with trainer.ema.swapped(network):
        write_component(network, {}, out / COMPONENT_FOLDER)
    parts: list[Path] = []
    if part_bytes is not None:
        parts = write_parts(out / COMPONENT_FOLDER, out / PARTS_FOLDER, part_bytes)
    _say(f"{done.reason} at step {done.step}, {trainer.seconds:.0f} s trained")
    component = out / COMPONENT_FOLDER
    return BundledResult(done.reason, done.step, trainer.seconds, component, tuple(parts))


# ---------------------------------------------------------------------------- what is trained


def _trainable(
    plan: SimpleNamespace, clips: ClipStore, bundle: Bundle, device: torch.device, flows: Path
) -> Resident:
    tokenizer, encoder = read_text(bundle.text_folder)
    text = TextFeed(tokenizer, encoder.to(device))
    width = int(encoder.get_input_embeddings().embedding_dim)  # pyright: ignore[reportCallIssue]
    frames = torch.from_numpy(clips.frames).to(device)
    make = {"drawing": _drawing, "recurrence": _recurrence}.get(plan.kind, _motion)
    return make(plan, clips, frames, text, width, flows)


def _motion(
    plan: SimpleNamespace,
    clips: ClipStore,
    frames: Tensor,
    text: TextFeed,
    text_width: int,
    flows: Path,
) -> TrainMotion:
    boxes = torch.cat([alpha_box(part[..., 3].float() / 255) for part in frames.split(1024)])
    table = FlowTable(
        frames,
        np.array([clip.start for clip in clips.clips]),
        np.array([clip.count for clip in clips.clips]),
    )
    if frames.device.type == "cuda":
        fill_flows(table, flows)
    predicts = plan.kind == "prediction"
    mix = MotionMix(grammar_share=plan.grammar_share, sources=plan.weights)
    if predicts:
        mix = replace(mix, tasks=_PREDICTION_TASKS, whole_share=0.45, reverse=0.2)
    drawer = MotionDrawer(clips.clips, boxes.cpu().numpy(), mix, plan.seed)
    short, long = _LONG_CLIP // 2, _LONG_CLIP
    assembler = MotionAssembler(frames, table)
    sizes: dict[str, Any] = {
        "channels": plan.channels,
        "text_dim": plan.channels[-1],
        "text_widths": (text_width,),
        "canvas": clips.canvas,
    }
    network: Any
    if predicts:
        network = MotionPredictor(**sizes, max_frames=short)
        flow, lengths = FlowConfig(least_sigma=1.0), ((short, plan.batch_size, 1.0),)
        network = network.to(frames.device)
        return TrainPrediction(network, drawer, assembler, text, flow, lengths, plan.seed)
    network = MotionDFGN(**sizes, max_frames=long)
    network = network.to(frames.device)
    flow = FlowConfig(0.6, 1.2, 0.5, plan.near_noise)
    lengths = ((short, plan.batch_size, 0.8), (long, max(1, plan.batch_size // 2), 0.2))
    return TrainMotion(network, drawer, assembler, text, flow, lengths, plan.seed)


def _drawing(
    plan: SimpleNamespace,
    clips: ClipStore,
    frames: Tensor,
    text: TextFeed,
    text_width: int,
    flows: Path,
) -> TrainDrawing:
    from rdtf.models.dfgn import DFGN

    network: Any = DFGN(
        latent_channels=4 * _DRAWING_PATCH**2,
        channels=plan.channels,
        text_dim=plan.channels[-1],
        text_widths=(text_width,),
        compose=False,
        patch=_DRAWING_PATCH,
        latent_size=clips.canvas // _DRAWING_PATCH,
        max_frames=1,
    )
    flow = FlowConfig(0.5, 1.1, 0.1)
    return TrainDrawing(
        network.to(frames.device),
        frames,
        clips.clips,
        text,
        flow,
        _shares(plan, clips),
        plan.batch_size,
        _DRAWING_PATCH,
        seed=plan.seed,
    )


def _recurrence(
    plan: SimpleNamespace,
    clips: ClipStore,
    frames: Tensor,
    text: TextFeed,
    text_width: int,
    flows: Path,
) -> TrainRecurrence:
    network: Any = RecurrencePredictor(width=plan.channels[0])
    network, weights = network.to(frames.device), _shares(plan, clips)
    return TrainRecurrence(network, frames, clips.clips, weights, plan.batch_size, plan.seed)


def _shares(plan: SimpleNamespace, clips: ClipStore) -> Mapping[str, float]:
    """How often each collection is drawn; by default as often as it has clips."""
    return plan.weights or Counter(clip.source for clip in clips.clips)


def fill_flows(table: FlowTable, file: Path) -> None:
    """All flows of the table, kept in `file` for the next slice and for other runs."""
    if file.is_file():
        table.take(load_tensors(file)["flows"])
        return
    with torch.no_grad():
        table.fill()
    with atomic_path(file) as temporary:
        save_file({"flows": table.flows.cpu()}, temporary)


# ------------------------------------------------------------------------------ its settings


def _defaults(kind: Kind, device: torch.device) -> dict[str, Any]:
    """What trained the model that ships, on a GPU, but near_noise; smaller batches elsewhere."""
    gpu = device.type == "cuda"
    common: dict[str, Any] = {
        "weights": None,
        "seconds": 0.0,
        "steps": 0,
        "seed": 0,
        "workers": 4 if gpu else 0,
        "precision": "bf16" if gpu else "fp32",
        "compile": False,
        "grammar_share": 0.45,
        "near_noise": 0.5,  # see docs/LOG.md, 2026-11-27
    }
    own: dict[Kind, dict[str, Any]] = {
        "motion": {"channels": (64, 128, 192), "batch_size": 256, "learning_rate": 1.2e-3},
        "prediction": {
            "channels": (96, 160, 224), "batch_size": 32, "learning_rate": 1e-3,
            "grammar_share": 0.1,
        },
        "recurrence": {"channels": (512,), "batch_size": 256, "learning_rate": 1e-3},
        "drawing": {"channels": (96, 192, 288), "batch_size": 128, "learning_rate": 8e-4},
    }  # fmt: skip
    values = {**common, **own[kind]}
    if not gpu:
        values["batch_size"] = {"recurrence": 256, "prediction": 32}.get(kind, 16)
    return values


def _settled(
    config: BundledConfig, bundle: Bundle, out: Path, device: torch.device
) -> SimpleNamespace:
    """`config` with what the run was begun with, or defaults, where it says nothing; written.

    near_noise, motion only: see `FlowConfig`.
    """
    asked = {name: value for name, value in asdict(config).items() if value is not None}
    asked["bundle"] = bundle.id
    known: dict[str, Any] = {}
    if (out / RUN_FILE).is_file():
        # Runs of before knew no near_noise: they had none.
        known = {"near_noise": 0.0, **read_json(out / RUN_FILE, "run")}
        known["channels"] = tuple(known["channels"])
        for name in _FIXED:
            if name in asked and asked[name] != known[name]:
                raise ConfigError(
                    f"run {out} was begun with {name} {known[name]}, not {asked[name]}; "
                    "name another folder"
                )
    if asked.get("seconds"):
        asked["steps"] = 0
    elif asked.get("steps"):
        asked["seconds"] = 0.0
    defaults = {"kind": config.kind, **_defaults(config.kind, device)}
    values = {**defaults, **known, **asked}
    plan = SimpleNamespace(**{name: values[name] for name in defaults})
    _check(plan)
    ensure_folder(out, "run folder")
    write_json(out / RUN_FILE, {**vars(plan), "bundle": bundle.id})
    return plan


def _check(plan: SimpleNamespace) -> None:
    for name in ("seconds", "steps"):
        if not getattr(plan, name) >= 0:
            raise UserError(f"{name} is {getattr(plan, name)}; it must be more than 0")
    if not plan.seconds + plan.steps > 0:
        raise UserError("say how long the whole run may take: --seconds, or --steps")
    for name, high in (("learning_rate", math.inf), ("grammar_share", 1.0)):
        if not 0 <= getattr(plan, name) <= high:
            raise UserError(f"{name} is {getattr(plan, name)}; it must be from 0 to {high:g}")
    if not all(0 <= weight < math.inf for weight in (plan.weights or {}).values()):
        raise UserError("weights must be numbers of at least 0")
    if plan.precision not in PRECISIONS:
        raise UserError(f"precision {plan.precision!r} is none of {', '.join(PRECISIONS)}")
    if plan.batch_size < 1 or plan.workers < 0:
        raise UserError("batch_size must be 1 or more, workers 0 or more")
    if not plan.channels or any(width < 32 or width % 32 for width in plan.channels):
        raise UserError(f"channels {plan.channels} must be multiples of 32, finest level first")


def _settle(trainable: Resident, plan: SimpleNamespace) -> None:
    """How the run is planned and computed."""
    motion = plan.kind != "drawing"
    steps = _FOREVER if plan.seconds else plan.steps
    warmup = 300 if motion else 500
    trainable.lengths, trainable.batch_size = (steps,), plan.batch_size
    trainable.optimizer = OptimizerConfig(
        learning_rate=plan.learning_rate,
        warmup_steps=min(warmup, max(steps // 10, 1)),
        decay_share=0.35 if motion else 0.3,
        ema_decays=(0.999 if motion else 0.9995,),
    )
    precision = "bf16" if plan.precision == "amp" else "fp32"
    trainable.engine = plain_engine(
        num_workers=plan.workers, precision=precision, skip_nonfinite=10, log_every=100
    )
    trainable.label = plan.kind
    if plan.precision == "bf16":
        trainable.compute_in_bf16()
    if plan.compile:
        trainable.forward = torch.compile(trainable.forward, dynamic=False)


# ------------------------------------------------------------------------------- its surroundings


def _set_up(device: torch.device, compiles: bool) -> None:
    if device.type == "cuda":
        torch.backends.cuda.matmul.allow_tf32 = True
        torch.backends.cudnn.allow_tf32 = True
        torch.backends.cudnn.benchmark = True
    if compiles:
        from torch._dynamo import config

        limits: Any = config
        limits.recompile_limit = 64  # every stage of every level has its own shapes


def _say(line: str) -> None:
    print(line, file=sys.stderr, flush=True)


def _weights_of(pairs: Sequence[str]) -> dict[str, float]:
    """`NAME=NUMBER` pairs as a mapping."""
    weights = {}
    for pair in pairs:
        name, _, value = pair.rpartition("=")
        try:
            weights[name] = float(value)
        except ValueError:
            raise UserError(f"--weight takes NAME=NUMBER, got {pair!r}") from None
    return weights
