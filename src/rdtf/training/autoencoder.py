"""Train the RGBA autoencoder from scratch: L1 + gradient loss, a light KL term.

Flat art lives on its edges, so the loss also compares differences between neighbouring pixels.
The result is a folder that `RGBAAutoencoder.from_pretrained` reads; training goes on from it.
"""

from __future__ import annotations

import time
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch
import torch.nn.functional as F
from safetensors import SafetensorError
from safetensors.torch import save_file
from torch import Tensor, nn

from rdtf.data.caches import PixelCache, ensure_pixels_cache
from rdtf.data.dataset import PreparedDataset
from rdtf.errors import CheckpointError, ConfigError, DataError, UserError
from rdtf.fileio import atomic_folder, ensure_folder, read_json, write_json
from rdtf.models.loading import load_pretrained, load_tensors
from rdtf.models.representation import LearnedLatents, RGBAAutoencoder
from rdtf.randomness import DataOrder, Purpose, normal, stream
from rdtf.training.checkpoint import load_optimizer, optimizer_tensors
from rdtf.training.device import autocast, default_device, resolve_precision
from rdtf.training.progress import Progress, planned_seconds

_STATE_FILE = "training.json"
_OPTIMIZER_FILE = "optimizer.safetensors"
_SAVE_EVERY = 500


@dataclass(frozen=True)
class AutoencoderConfig:
    """A run of the autoencoder's training."""

    canvas: int = 128
    steps: int = 20_000
    batch_size: int = 8
    channels: tuple[int, ...] = (32, 64, 128, 128)
    latent_channels: int = 8
    learning_rate: float = 1e-3
    kl_weight: float = 1e-6
    gradient_weight: float = 1.0
    seed: int = 0
    precision: str = "auto"

    def __post_init__(self) -> None:
        cell = 2 ** (len(self.channels) - 1)
        if self.canvas < cell or self.canvas % cell:
            raise ConfigError(f"canvas is {self.canvas}; it must be a multiple of {cell} pixels")
        for name in ("steps", "batch_size", "latent_channels"):
            if getattr(self, name) < 1:
                raise ConfigError(f"{name} is {getattr(self, name)}; it must be at least 1")
        if self.seed < 0:
            raise ConfigError(f"seed is {self.seed}; it must be at least 0")


@dataclass(frozen=True)
class AutoencoderResult:
    """Held-out quality: PSNR of frames on white in dB, mean alpha error in 1/255."""

    step: int
    psnr_db: float
    alpha_error: float
    seconds: float


@dataclass
class _Progress:
    """Steps and seconds of training over all calls, and the time that they are planned for."""

    step: int = 0
    seconds: float = 0.0
    max_seconds: float | None = None

    def share(self, config: AutoencoderConfig) -> float:
        """How much of the run is behind, by its steps or its time, whichever is over first."""
        by_time = 0.0 if self.max_seconds is None else self.seconds / self.max_seconds
        return min(max(self.step / config.steps, by_time), 1.0)


def train_autoencoder(
    config: AutoencoderConfig,
    data: Path | str,
    out: Path | str,
    *,
    max_seconds: float | None = None,
    stop_after: float | None = None,
    quiet: bool = False,
) -> AutoencoderResult:
    """Train to `config.steps` or to the end of its time, save to `out`, score on held-out frames.

    Args:
        max_seconds: training time over all calls that the schedule is planned for; kept until
            another is given.
        stop_after: seconds after which this call saves and stops, whatever is left to do.

    Raises:
        UserError: the data can't be used, or `out` holds something else, which is never replaced.
    """
    out, started = Path(out), time.monotonic()
    _check_output(out)
    dataset = PreparedDataset(data)
    pixels = ensure_pixels_cache(dataset, config.canvas)
    train_frames, val_frames = _frame_rows(dataset, "train"), _frame_rows(dataset, "val")
    if len(train_frames) == 0:
        raise DataError(f"training set {data} has no frames to train on")

    torch.manual_seed(int(stream(config.seed, Purpose.INIT).integers(2**31)))
    device = default_device()
    model, progress, moments = _open(config, out)
    if max_seconds is not None:
        progress.max_seconds = planned_seconds(max_seconds)
    nn.Module.to(model.train(), device)
    optimizer = torch.optim.AdamW(model.parameters(), lr=config.learning_rate, betas=(0.9, 0.99))
    _load_moments(optimizer, moments)
    cast_context = autocast(resolve_precision(config.precision, device), device)
    order = DataOrder(len(train_frames), config.seed)

    earlier, began = progress.seconds, time.monotonic()
    with Progress(progress.step, config.steps, quiet) as bar:
        while progress.share(config) < 1.0:
            if stop_after is not None and time.monotonic() - started >= stop_after:
                break
            step = progress.step
            if step % _SAVE_EVERY == 0 and step > 0:
                _save(model, optimizer, config, progress, out)

            # ------------------------------------------------------------------ step
            positions = range(step * config.batch_size, (step + 1) * config.batch_size)
            frames = _batch(pixels, train_frames[[order[p] for p in positions]]).to(device)
            _set_rate(optimizer, config, progress)
            with cast_context:
                loss = autoencoder_loss(model, frames, config, position=step)
            loss.backward()
            torch.nn.utils.clip_grad_norm_(model.parameters(), 1.0)
            optimizer.step()
            optimizer.zero_grad(set_to_none=True)
            progress.step, progress.seconds = step + 1, earlier + time.monotonic() - began
            bar.update(progress.step, float(loss.detach()))

    model.eval()
    _measure_scale(model, _batch(pixels, train_frames[:64]).to(device))
    psnr, alpha = score_autoencoder(model, pixels, val_frames if len(val_frames) else train_frames)
    _save(model, optimizer, config, progress, out)
    return AutoencoderResult(progress.step, psnr, alpha, time.monotonic() - started)


def autoencoder_loss(
    model: RGBAAutoencoder, frames: Tensor, config: AutoencoderConfig, position: int
) -> Tensor:
    """L1 + L1 of spatial differences + KL, on premultiplied RGBA `[N, 4, H, W]` in [-1, 1]."""
    mean, logvar = model.posterior(frames)
    noise = normal(tuple(mean.shape), config.seed, Purpose.POSTERIOR, position).to(mean.device)
    result = model.reconstruct(mean + (0.5 * logvar).exp() * noise).float()
    differences = sum(
        (F.l1_loss(result.diff(dim=axis), frames.diff(dim=axis)) for axis in (2, 3)),
        start=torch.zeros((), device=frames.device),
    )
    kl = 0.5 * (mean.square() + logvar.exp() - 1 - logvar).float().sum() / len(frames)
    return F.l1_loss(result, frames) + config.gradient_weight * differences + config.kl_weight * kl


@torch.no_grad()
def score_autoencoder(
    model: RGBAAutoencoder, pixels: PixelCache, rows: np.ndarray, limit: int = 128
) -> tuple[float, float]:
    """PSNR on white in dB and mean alpha error in 1/255 over up to `limit` spread frames."""
    chosen = rows[np.linspace(0, len(rows) - 1, min(limit, len(rows))).astype(int)]
    representation = LearnedLatents(model)
    device = next(model.parameters()).device
    errors, alpha_errors = [], []
    for start in range(0, len(chosen), 16):
        frames = _batch(pixels, chosen[start : start + 16]).to(device)
        result = representation.decode(representation.encode(frames)[0])
        truth_white, result_white = _on_white(frames), _on_white(result)
        errors += (truth_white - result_white).square().mean(dim=(1, 2, 3)).tolist()
        alpha_errors.append(float((frames[:, 3] - result[:, 3]).abs().mean()) * 127.5)
    model.requires_grad_(True)
    psnr = -10 * np.log10(np.maximum(errors, 1e-10))
    return float(np.mean(psnr)), float(np.mean(alpha_errors))


def _on_white(frames: Tensor) -> Tensor:
    color, alpha = (frames[:, :3] + 1) / 2, (frames[:, 3:] + 1) / 2
    return (color + 1 - alpha).clamp(0, 1)


def _frame_rows(dataset: PreparedDataset, split: Any) -> np.ndarray:
    offsets = dataset.frame_offsets.tolist()
    indices = dataset.clips(split).indices.tolist()
    rows = [np.arange(offsets[index], offsets[index + 1]) for index in indices]
    return np.concatenate(rows) if rows else np.empty(0, dtype=np.int64)


def _batch(pixels: PixelCache, rows: np.ndarray) -> Tensor:
    frames = torch.from_numpy(np.ascontiguousarray(pixels.rows[rows]))
    return frames.permute(0, 3, 1, 2).float() / 127.5 - 1


def _set_rate(
    optimizer: torch.optim.Optimizer, config: AutoencoderConfig, progress: _Progress
) -> None:
    """Warm-up over 100 steps, then a cosine to a twentieth."""
    cosine = 0.5 * (1 + np.cos(np.pi * progress.share(config)))
    rate = config.learning_rate * min(1, (progress.step + 1) / 100) * (0.05 + 0.95 * cosine)
    for group in optimizer.param_groups:
        group["lr"] = rate


@torch.no_grad()
def _measure_scale(model: RGBAAutoencoder, frames: Tensor) -> None:
    """Store the factor that gives latents unit variance."""
    mean, _ = model.posterior(frames)
    model.register_to_config(scaling_factor=float(1 / mean.std().clamp(min=1e-6)))


# -------------------------------------------------------------------------- files


def _check_output(out: Path) -> None:
    if not (out / _STATE_FILE).is_file() and out.exists():
        if not out.is_dir():
            raise UserError(f"output {out} is a file; name a folder")
        if any(out.iterdir()):
            raise UserError(f"output {out} holds something else; name a new or empty folder")
    ensure_folder(out.parent)


def _open(
    config: AutoencoderConfig, out: Path
) -> tuple[RGBAAutoencoder, _Progress, dict[str, Tensor]]:
    """The autoencoder in `out` with its progress and the optimizer's tensors, or a new one."""
    if not (out / _STATE_FILE).is_file():
        model = RGBAAutoencoder.create(
            config.channels, latent_channels=config.latent_channels, sample_size=config.canvas
        )
        return model, _Progress(), {}
    state = read_json(out / _STATE_FILE, "autoencoder state")
    try:
        saved = {**state["config"], "steps": config.steps}
        # An older rdtf did not keep the time.
        progress = _Progress(
            int(state["step"]), float(state.get("seconds", 0.0)), state.get("max_seconds")
        )
        model = load_pretrained(RGBAAutoencoder, out)
        moments = load_tensors(out / _OPTIMIZER_FILE)
    except (OSError, KeyError, TypeError, ValueError, SafetensorError) as error:
        raise CheckpointError(
            f"autoencoder {out} is damaged: {error}; use another --out"
        ) from error
    if saved != {**asdict(config), "channels": list(config.channels)}:
        raise CheckpointError(f"{out} holds an autoencoder of other settings; use another --out")
    return model, progress, moments


def _save(
    model: RGBAAutoencoder,
    optimizer: torch.optim.Optimizer,
    config: AutoencoderConfig,
    progress: _Progress,
    out: Path,
) -> None:
    with atomic_folder(out) as folder:
        model.save_pretrained(folder, safe_serialization=True)
        save_file(optimizer_tensors(optimizer), folder / _OPTIMIZER_FILE)
        write_json(folder / _STATE_FILE, {**asdict(progress), "config": asdict(config)})


def _load_moments(optimizer: torch.optim.Optimizer, moments: dict[str, Tensor]) -> None:
    if moments:
        load_optimizer(optimizer, moments)
