"""Train the RGBA autoencoder from scratch: L1 + gradient loss, a light KL term.

Flat art lives on its edges, so the loss also compares differences between neighbouring pixels.
The result is a folder that `RGBAAutoencoder.from_pretrained` reads; training goes on from the
checkpoint in its folder `training`.
"""

from __future__ import annotations

import math
import shutil
import time
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor, nn

from rdtf.data.caches import PixelCache, ensure_pixels_cache
from rdtf.data.dataset import PreparedDataset
from rdtf.errors import CheckpointError, ConfigError, DataError
from rdtf.fileio import atomic_folder, check_own_folder, ensure_folder, read_json, write_json
from rdtf.models.representation import LearnedLatents, RGBAAutoencoder
from rdtf.randomness import DataOrder, Purpose, normal, stream
from rdtf.training.config import OptimizerConfig, plain_engine
from rdtf.training.device import default_device
from rdtf.training.distributed import Ranks
from rdtf.training.progress import check_times, planned_seconds
from rdtf.training.trainables import Resident
from rdtf.training.trainer import Trainer

_SETTINGS_FILE, _RUN = "training.json", "training"
_KL_WEIGHT = 1e-6
_FOREVER = 10**9  # steps of a run that its time ends


@dataclass(frozen=True)
class AutoencoderConfig:
    """A run of the autoencoder's training."""

    canvas: int = 128
    steps: int = 20_000
    batch_size: int = 8
    channels: tuple[int, ...] = (32, 64, 128, 128)
    latent_channels: int = 8
    seed: int = 0

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
    """Held-out quality: PSNR of frames on white in dB, mean alpha error in 1/255.

    reason: how the call ended, see `TrainResult`.
    """

    reason: str
    step: int
    psnr_db: float
    alpha_error: float
    seconds: float


class _Frames(Resident):
    """The autoencoder on frames of a training set."""

    label = "the autoencoder"

    def __init__(
        self,
        network: RGBAAutoencoder,
        pixels: PixelCache,
        rows: np.ndarray,
        config: AutoencoderConfig,
        planned: float | None,
    ) -> None:
        super().__init__(network)
        steps = config.steps if planned is None else _FOREVER
        self.lengths, self.batch_size = (steps,), config.batch_size
        warmup = min(200, max(steps // 10, 1))
        self.optimizer = OptimizerConfig(warmup_steps=warmup, decay_share=0.3, ema_decays=())
        self.engine = plain_engine(num_workers=0, skip_nonfinite=10, log_every=100)
        self._pixels, self._rows, self._config = pixels, rows, config
        self._order = DataOrder(len(rows), config.seed)

    def draw(self, index: int, progress: float) -> Tensor:
        """Frames of batch `index`, premultiplied RGBA `[N, 4, H, W]` in [-1, 1]."""
        size = self._config.batch_size
        positions = range(index * size, (index + 1) * size)
        return _batch(self._pixels, self._rows[[self._order[p] for p in positions]])

    def loss(self, batch: Any) -> tuple[Tensor, Tensor]:
        """L1 + L1 of spatial differences + KL."""
        index, draws = batch
        frames = draws.to(next(self.network.parameters()).device)
        mean, logvar = self.network.posterior(frames)
        noise = normal(tuple(mean.shape), self._config.seed, Purpose.POSTERIOR, index)
        result = self.network.reconstruct(mean + (0.5 * logvar).exp() * noise.to(mean.device))
        error = F.l1_loss(result.float(), frames)
        for axis in (2, 3):
            error = error + F.l1_loss(result.float().diff(dim=axis), frames.diff(dim=axis))
        kl = 0.5 * (mean.square() + logvar.exp() - 1 - logvar).float().sum() / len(frames)
        return error + _KL_WEIGHT * kl, error.new_zeros(0)


def train_autoencoder(
    config: AutoencoderConfig,
    data: Path | str,
    out: Path | str,
    *,
    max_seconds: float | None = None,
    stop_after: float | None = None,
    began: float | None = None,
    quiet: bool = False,
) -> AutoencoderResult:
    """Train to `config.steps` or to the end of its time, save to `out`, score on held-out frames.

    Args:
        max_seconds: training time over all calls that the schedule is planned for, instead of
            `config.steps`; kept until another is given, `math.inf` for the steps again.
        stop_after: seconds after which this call saves and stops, whatever is left to do.
        began: see `Trainer.train`.

    Raises:
        UserError: the data can't be used, or `out` holds something else, which is never replaced.
    """
    out, started = Path(out), time.monotonic() if began is None else began
    check_times(max_seconds, stop_after)
    planned = _check_output(out, config)
    dataset = PreparedDataset(data)
    pixels = ensure_pixels_cache(dataset, config.canvas)
    train_frames, val_frames = _frame_rows(dataset, "train"), _frame_rows(dataset, "val")
    if len(train_frames) == 0:
        raise DataError(f"training set {data} has no frames to train on")
    if max_seconds is not None:
        planned = planned_seconds(max_seconds)

    torch.manual_seed(int(stream(config.seed, Purpose.INIT).integers(2**31)))
    device = default_device()
    model = RGBAAutoencoder.create(
        config.channels, latent_channels=config.latent_channels, sample_size=config.canvas
    )
    nn.Module.to(model.train(), device)
    frames = _Frames(model, pixels, train_frames, config, planned)
    try:
        trainer = Trainer(frames, out / _RUN, ranks=Ranks(device=device), quiet=quiet)
    except (OSError, KeyError, CheckpointError) as error:
        raise CheckpointError(
            f"autoencoder {out} is damaged: {error}; use another --out"
        ) from error
    ensure_folder(out)
    settings = {"config": asdict(config), "max_seconds": planned}
    write_json(out / _SETTINGS_FILE, settings)
    done = trainer.train(planned or math.inf, stop_after, began=started)

    model.eval()
    _measure_scale(model, _batch(pixels, train_frames[:64]).to(device))
    psnr, alpha = _score(model, pixels, val_frames if len(val_frames) else train_frames)
    with atomic_folder(out) as folder:
        model.save_pretrained(folder, safe_serialization=True)
        shutil.copytree(out / _RUN, folder / _RUN)
        write_json(folder / _SETTINGS_FILE, settings)
    return AutoencoderResult(done.reason, done.step, psnr, alpha, time.monotonic() - started)


@torch.no_grad()
def _score(
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


@torch.no_grad()
def _measure_scale(model: RGBAAutoencoder, frames: Tensor) -> None:
    """Store the factor that gives latents unit variance."""
    mean, _ = model.posterior(frames)
    model.register_to_config(scaling_factor=float(1 / mean.std().clamp(min=1e-6)))


def _check_output(out: Path, config: AutoencoderConfig) -> float | None:
    """The time that the run in `out` is planned for, if there is one; refuse what it can't be."""
    if not (out / _SETTINGS_FILE).is_file():
        check_own_folder(out, _SETTINGS_FILE)
        ensure_folder(out.parent)
        return None
    saved = read_json(out / _SETTINGS_FILE, "autoencoder settings")
    if not isinstance(saved, dict) or "config" not in saved:
        raise CheckpointError(f"autoencoder {out} is damaged; use another --out")
    if "step" in saved:
        raise CheckpointError(
            f"autoencoder {out} is of an older rdtf: it loads, but can't be trained on; "
            "use another --out"
        )
    mine = {**asdict(config), "channels": list(config.channels)}
    if {**saved["config"], "steps": config.steps} != mine:
        raise CheckpointError(f"{out} holds an autoencoder of other settings; use another --out")
    return saved.get("max_seconds")
