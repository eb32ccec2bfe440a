"""Training on data that the device holds as a whole: no shards, no loader between data and network.

One loop for several trainables (motion, drawing, frames in between). It plans learning rate and
curriculum for the time or the steps that it is given, stops at any time, and goes on from its
checkpoint. It needs torch, numpy and safetensors only.
"""

from __future__ import annotations

import copy
import json
import math
import multiprocessing
import time
from collections.abc import Callable, Iterable
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any, Protocol

import torch
from safetensors.torch import save_file
from torch import Tensor, nn

from rdtf.models.loading import load_tensors

_LONGEST_WARMUP = 0.1  # of the run


class Trainable(Protocol):
    """What the loop needs: a network, host-side draws, and a loss of them."""

    network: nn.Module
    forward: Any

    def draw(self, index: int, progress: float) -> Any:
        """What batch `index` is made of; runs in a worker, a pure function of its arguments."""
        ...

    def loss(self, draws: Any, index: int) -> tuple[Tensor, dict[str, Tensor]]:
        """Loss of a batch, and numbers for the log."""
        ...


@dataclass(frozen=True)
class RunConfig:
    """One run.

    seconds: time of training that the schedule is planned for, over all calls; 0 = plan by steps.
    steps: with seconds = 0, the length of the run.
    learning_rate, warmup_steps, decay_share: rises, over a tenth of the run at most, stays, and
    falls to 0 over the last share.
    ema: horizon of the averaged weights, as a decay per step.
    """

    seconds: float = 0.0
    steps: int = 1000
    learning_rate: float = 1e-3
    warmup_steps: int = 200
    decay_share: float = 0.3
    weight_decay: float = 0.01
    beta2: float = 0.99
    clip_norm: float = 1.0
    ema: float = 0.999
    workers: int = 0
    precision: str = "fp32"  # "amp" = autocast to bf16; "bf16" = a copy in bf16, masters in fp32
    compile: bool = False
    log_seconds: float = 15.0
    save_seconds: float = 120.0
    seed: int = 0


class _Draws(torch.utils.data.Dataset):
    """Batches by index.

    In a run planned by steps progress follows from the index, however far workers are ahead; in one
    planned by time it is read when the batch is drawn.
    """

    def __init__(self, draw: Callable[[int, float], Any], progress: Any, steps: int) -> None:
        self.draw, self.progress, self.steps = draw, progress, steps

    def __getitem__(self, index: int) -> Any:
        if torch.utils.data.get_worker_info() is not None:
            torch.set_num_threads(1)
        progress = min(index / self.steps, 1.0) if self.steps else self.progress.value
        return self.draw(index, progress)

    def __len__(self) -> int:
        return 1 << 40


class ResidentRun:
    """A training run in a folder: model.safetensors, average.safetensors, optimizer, state.json.

    Args:
        trainable: what is trained.
        config: see `RunConfig`.
        folder: where checkpoints go; if it holds one, the run goes on from it.
        device: of the network.
    """

    def __init__(
        self, trainable: Trainable, config: RunConfig, folder: Path, device: torch.device
    ) -> None:
        self.trainable, self.config, self.folder, self.device = trainable, config, folder, device
        network = trainable.network
        self.names = [name for name, _ in network.named_parameters()]
        self.parameters: list[Tensor] = list(network.parameters())
        decayed = [p for p in self.parameters if p.ndim > 1]
        plain = [p for p in self.parameters if p.ndim <= 1]
        groups = [
            {"params": decayed, "weight_decay": config.weight_decay},
            {"params": plain, "weight_decay": 0.0},
        ]
        self.optimizer = torch.optim.AdamW(
            groups,
            lr=config.learning_rate,
            betas=(0.9, config.beta2),
            fused=device.type == "cuda",
        )
        self.copies: list[Tensor]
        if config.precision == "bf16":
            trainable.forward = copy.deepcopy(network).bfloat16()
            self.copies = list(trainable.forward.parameters())
        else:
            self.copies = self.parameters
        if config.compile:
            trainable.forward = torch.compile(trainable.forward, dynamic=False)
        self.average = [p.detach().clone() for p in self.parameters]
        self.step, self.spent_seconds = 0, 0.0
        self.progress = multiprocessing.Value("d", 0.0)
        if (folder / "state.json").is_file():
            self._load()

    # ------------------------------------------------------------------ the loop

    def train(
        self,
        max_seconds: float = math.inf,
        log: Callable[[str], None] = print,
        stop: Callable[[], bool] = lambda: False,
    ) -> bool:
        """Train until the plan ends, `max_seconds` are over or `stop()` holds after a step.

        Returns:
            Whether the plan is done. What was trained is saved in any case.
        """
        start, before = time.monotonic(), self.spent_seconds
        saved = logged = start
        numbers: dict[str, Tensor] = {}
        counted = 0
        for draws in self._batches():
            now = time.monotonic()
            self.spent_seconds = before + now - start
            if self._done or stop() or now - start > max_seconds:
                break
            found = self._one_step(draws)
            counted += 1
            for name, value in found.items():
                numbers[name] = numbers.get(name, 0.0) + value.detach()
            if now - logged > self.config.log_seconds:
                line = " ".join(f"{k} {float(v) / counted:.4f}" for k, v in numbers.items())
                rate = counted / (now - logged)
                log(f"step {self.step} {self._progress:.3f} {rate:.2f}/s {line}")
                numbers, counted, logged = {}, 0, now
            if now - saved > self.config.save_seconds:
                self.save()
                saved = now
        self.save()
        return self._done

    def _batches(self) -> Iterable[Any]:
        self.progress.value = self._progress
        planned_steps = 0 if self.config.seconds > 0 else self.config.steps
        dataset = _Draws(self.trainable.draw, self.progress, planned_steps)
        workers = self.config.workers
        return torch.utils.data.DataLoader(
            dataset,
            batch_size=None,
            sampler=_CountFrom(self.step),
            num_workers=workers,
            prefetch_factor=3 if workers else None,
            collate_fn=_same,
        )

    def _one_step(self, draws: Any) -> dict[str, Tensor]:
        rate = self.config.learning_rate * self._rate_factor()
        for group in self.optimizer.param_groups:
            group["lr"] = rate
        autocast = torch.autocast(
            self.device.type, torch.bfloat16, enabled=self.config.precision == "amp"
        )
        if self.copies is not self.parameters:
            with torch.no_grad():
                torch._foreach_copy_(self.copies, self.parameters)
        with autocast:
            loss, numbers = self.trainable.loss(draws, self.step)
        for parameter in self.copies:
            parameter.grad = None
        loss.backward()
        if self.copies is not self.parameters:
            for parameter, fast in zip(self.parameters, self.copies, strict=True):
                parameter.grad = None if fast.grad is None else fast.grad.float()
        norm = nn.utils.clip_grad_norm_(self.parameters, self.config.clip_norm)
        # A step whose gradient is not finite is left out; the host need not wait to know.
        for parameter in self.parameters:
            if parameter.grad is not None:
                parameter.grad.nan_to_num_(0.0, 0.0, 0.0)
        self.optimizer.step()
        self.step += 1
        self.progress.value = self._progress
        decay = min(self.config.ema, (1 + self.step) / (10 + self.step))
        with torch.no_grad():
            torch._foreach_lerp_(self.average, self.parameters, 1 - decay)
        return {"loss": loss, "norm": norm, **numbers}

    @property
    def _progress(self) -> float:
        if self.config.seconds > 0:
            return min(self.spent_seconds / self.config.seconds, 1.0)
        return min(self.step / self.config.steps, 1.0)

    @property
    def _done(self) -> bool:
        return self._progress >= 1.0

    def _rate_factor(self) -> float:
        by_step = (self.step + 1) / self.config.warmup_steps
        rise = min(1.0, max(by_step, self._progress / _LONGEST_WARMUP))
        left = (1 - self._progress) / max(self.config.decay_share, 1e-6)
        return rise * min(1.0, left)

    # --------------------------------------------------------------- checkpoints

    def save(self) -> None:
        """Write the checkpoint; state.json last and each file whole or not at all."""
        self.folder.mkdir(parents=True, exist_ok=True)
        state = self.optimizer.state
        moments = {}
        for name, parameter in zip(self.names, self.parameters, strict=True):
            if parameter in state:
                moments[f"{name}/first"] = state[parameter]["exp_avg"]
                moments[f"{name}/second"] = state[parameter]["exp_avg_sq"]
        parts = {
            "model": dict(zip(self.names, self.parameters, strict=True)),
            "average": dict(zip(self.names, self.average, strict=True)),
            "optimizer": moments,
        }
        for part, tensors in parts.items():
            kept = {name: tensor.detach().cpu().contiguous() for name, tensor in tensors.items()}
            save_file(kept, self.folder / f"{part}.part")
            (self.folder / f"{part}.part").rename(self.folder / f"{part}.safetensors")
        about = {
            "step": self.step,
            "spent_seconds": self.spent_seconds,
            "config": asdict(self.config),
        }
        (self.folder / "state.part").write_text(json.dumps(about))
        (self.folder / "state.part").rename(self.folder / "state.json")

    def _load(self) -> None:
        about = json.loads((self.folder / "state.json").read_text())
        self.step, self.spent_seconds = int(about["step"]), float(about["spent_seconds"])
        model = load_tensors(self.folder / "model.safetensors")
        average = load_tensors(self.folder / "average.safetensors")
        moments = load_tensors(self.folder / "optimizer.safetensors")
        with torch.no_grad():
            for name, parameter, mean in zip(
                self.names, self.parameters, self.average, strict=True
            ):
                parameter.copy_(model[name])
                mean.copy_(average[name])
                if f"{name}/first" in moments:
                    on_host = self.device.type == "cpu"
                    self.optimizer.state[parameter] = {
                        "step": torch.tensor(
                            float(self.step), device="cpu" if on_host else self.device
                        ),
                        "exp_avg": moments[f"{name}/first"].to(self.device),
                        "exp_avg_sq": moments[f"{name}/second"].to(self.device),
                    }


class _CountFrom(torch.utils.data.Sampler):
    def __init__(self, start: int) -> None:
        self.start = start

    def __iter__(self):
        index = self.start
        while True:
            yield index
            index += 1


def _same(item: Any) -> Any:
    return item
