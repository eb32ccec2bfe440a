"""Networks of the model that ships, on frames that the device holds as a whole.

Motion, prediction, and drawing of stills: what a batch is made of is drawn on the host, and put
together where the frames are. Needs no more than torch, numpy, diffusers and safetensors.
"""

from __future__ import annotations

import copy
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor, nn

from rdtf.data.clip_store import StoredClip
from rdtf.models.conditions import Conditions
from rdtf.models.motion_dfgn import MotionConditions
from rdtf.models.motion_latents import LATENT_DIM, motion_noise, unpack
from rdtf.training.motion import (
    MotionAssembler,
    MotionBatch,
    MotionDrawer,
    MotionDraws,
    premultiplied,
)
from rdtf.training.step import Trainable

_ROUND = 0.1  # of latents; below it the absolute error is a squared one
_NEAR = 0.9  # σ from which on latents are nearly pure noise


@dataclass(frozen=True)
class FlowConfig:
    """Rectified flow: σ = sigmoid(N(mean, std)); errors of x count (least / max(σ, least))².

    near_noise: share of samples that get σ evenly in [0.9, 1); if there is one, all errors there
    count fully. The noisy latents say next to nothing there: only text and given frames help.
    """

    logit_mean: float = 0.6
    logit_std: float = 1.2
    least_sigma: float = 0.5
    near_noise: float = 0.0

    def draw(self, count: int, generator: torch.Generator) -> Tensor:
        device = generator.device
        normal = torch.randn(count, generator=generator, device=device)
        sigma = (normal * self.logit_std + self.logit_mean).sigmoid()
        if self.near_noise == 0:
            return sigma
        which, place = torch.rand(2, count, generator=generator, device=device)
        return torch.where(which < self.near_noise, _NEAR + (1 - _NEAR) * place, sigma)

    def weight(self, sigma: Tensor) -> Tensor:
        weight = (self.least_sigma / sigma.clamp(min=self.least_sigma)).square()
        return torch.where((sigma >= _NEAR) & (self.near_noise > 0), 1.0, weight)


class TextFeed:
    """Captions → token states of one frozen encoder, padded to a fixed length.

    Args:
        tokenizer, model: as `transformers` loads them.
        length: tokens; longer captions are cut.
    """

    def __init__(self, tokenizer: Any, model: nn.Module, length: int = 24) -> None:
        self.tokenizer, self.model, self.length = tokenizer, model, length

    def tokens(self, captions: Sequence[str]) -> dict[str, np.ndarray]:
        found = self.tokenizer(
            list(captions),
            padding="max_length",
            truncation=True,
            max_length=self.length,
            return_tensors="np",
        )
        has_text = np.array([bool(caption.strip()) for caption in captions])
        return {
            "input_ids": found["input_ids"],
            "attention_mask": found["attention_mask"],
            "has_text": has_text,
        }

    @torch.no_grad()
    def states(
        self, tokens: Mapping[str, np.ndarray], device: torch.device
    ) -> tuple[Tensor, Tensor]:
        """States `[N, T, D]` and mask bool `[N, T]`."""
        ids = torch.from_numpy(tokens["input_ids"]).to(device, non_blocking=True)
        mask = torch.from_numpy(tokens["attention_mask"]).to(device, non_blocking=True)
        with torch.autocast(device.type, enabled=False):
            states = self.model(input_ids=ids, attention_mask=mask).last_hidden_state
        has_text = torch.from_numpy(tokens["has_text"]).to(device, non_blocking=True)
        return states, mask.bool() & has_text[:, None]


class Resident(Trainable):
    """A network on what the device holds: batch after batch a pure function of seed and step.

    A subclass defines `draw`, `loss`, and names of the values that it logs.
    """

    names: tuple[str, ...] = ()
    decays_vectors = False

    def __init__(self, network: nn.Module) -> None:
        self.network = network
        self.forward: Any = network

    def compute_in_bf16(self) -> None:
        """Train through a copy in bf16; the network keeps its weights in fp32."""
        self.forward = copy.deepcopy(self.network).bfloat16()
        own: list[Tensor] = list(self.network.parameters())
        copies: list[Tensor] = list(self.forward.parameters())
        self._pairs = own, copies
        for fast, master in zip(copies, own, strict=True):

            def give(fast: Tensor, own: Tensor = master) -> None:
                own.grad = None if fast.grad is None else fast.grad.float()
                fast.grad = None

            fast.register_post_accumulate_grad_hook(give)

    def tensors(self) -> dict[str, Tensor]:
        return {name: value.detach() for name, value in self.network.named_parameters()}

    def prepare(self) -> None:
        if hasattr(self, "_pairs"):
            with torch.no_grad():
                torch._foreach_copy_(self._pairs[1], self._pairs[0])

    def draw(self, index: int, progress: float) -> Any:
        """What batch `index` is made of; a pure function of its arguments."""
        raise NotImplementedError

    def build(self, request: tuple[int, float]) -> tuple[int, Any]:
        return request[0], self.draw(*request)

    def facts(self, batches: Sequence[Any]) -> Sequence[str]:
        return self.names


class TrainMotion(Resident):
    """Motion latents under the dual mask.

    Errors are relative to how much the clip moves, and count where something is.

    Args:
        lengths: (frames, batch size, share) of the kinds of batches.
    """

    names = ("affine_real", "residual_real", "affine_grammar", "residual_grammar")

    def __init__(
        self,
        network: nn.Module,
        drawer: MotionDrawer,
        assembler: MotionAssembler,
        text: TextFeed,
        flow: FlowConfig,
        lengths: Sequence[tuple[int, int, float]] = ((8, 32, 1.0),),
        seed: int = 0,
    ) -> None:
        super().__init__(network)
        self.drawer, self.assembler = drawer, assembler
        self.text, self.flow, self.kinds, self.seed = text, flow, lengths, seed

    def draw(self, index: int, progress: float) -> tuple[MotionDraws, dict[str, np.ndarray]]:
        generator = np.random.Generator(np.random.Philox(key=[self.seed + 1, index]))
        shares = np.array([share for *_, share in self.kinds])
        kind = generator.choice(len(shares), p=shares / shares.sum())
        frames, count, _ = self.kinds[kind]
        draws = self.drawer.batch(index, count, frames, progress)
        return draws, self.text.tokens(draws.captions)

    def loss(self, batch: Any) -> tuple[Tensor, Tensor]:
        index, (drawn, tokens) = batch
        with torch.autocast(self.assembler.frames.device.type, enabled=False):
            batch = self.assembler(drawn)
        device = batch.clean.device
        states, mask = self.text.states(tokens, device)
        generator = torch.Generator(device).manual_seed(self.seed * 1_000_003 + index)
        sigma = self.flow.draw(len(batch.clean), generator)
        per_sample = self.errors(batch, states, mask, sigma, generator)
        weighted = per_sample * self.flow.weight(sigma)[:, None]
        loss = weighted.sum(1).mean()
        real = batch.real.float()
        count = real.sum().clamp(min=1)
        other = (1 - real).sum().clamp(min=1)
        parts = per_sample.detach()
        of_real = (parts * real[:, None]).sum(0) / count
        of_grammar = (parts * (1 - real[:, None])).sum(0) / other
        return loss, torch.cat([of_real, of_grammar])

    def errors(
        self,
        batch: MotionBatch,
        states: Tensor,
        mask: Tensor,
        sigma: Tensor,
        generator: torch.Generator,
    ) -> Tensor:
        """Relative squared error of the affine part and of the residual, `[N, 2]`."""
        shape = (*batch.valid.shape, LATENT_DIM)
        white = torch.randn(shape, generator=generator, device=sigma.device)
        noise = motion_noise(white, batch.anchor)
        t = sigma[:, None, None]
        noisy = (1 - t) * batch.clean + t * noise
        told = self._told(batch, states, mask, generator)
        predicted = self.forward(noisy, sigma, told)
        found = _of_hidden((predicted.float() - batch.clean).square(), batch)
        return found / (_of_hidden(batch.clean.square(), batch) + 0.01).sqrt()

    def _told(
        self, batch: MotionBatch, states: Tensor, mask: Tensor, generator: torch.Generator
    ) -> MotionConditions:
        """What the network is told besides noise; given motion a little off."""
        device = batch.clean.device
        jitter = torch.randn(batch.clean.shape, generator=generator, device=device)
        is_anchor = torch.arange(jitter.shape[1], device=device) == batch.anchor[:, None]
        jitter = torch.where(is_anchor[..., None], 0.0, jitter * self.drawer.mix.given_noise)
        return MotionConditions(
            clean=batch.clean + jitter,
            given=batch.given,
            valid=batch.valid,
            reference=batch.reference,
            centre=batch.centre,
            times_ms=batch.times_ms,
            text=[states],
            text_mask=[mask],
        )


class TrainPrediction(TrainMotion):
    """How a movement goes on, in one pass (`models/motion_predictor.py`).

    By the absolute error, rounded below a tenth, relative to how much the clip moves. `flow` must
    weight all samples alike: there is no noise.
    """

    def errors(
        self,
        batch: MotionBatch,
        states: Tensor,
        mask: Tensor,
        sigma: Tensor,
        generator: torch.Generator,
    ) -> Tensor:
        """Relative error of the affine part and of the residual, `[N, 2]`."""
        told = self._told(batch, states, mask, generator)
        predicted = self.forward(told, batch.anchor)
        error = ((predicted.float() - batch.clean).square() + _ROUND**2).sqrt() - _ROUND
        return _of_hidden(error, batch) / (_of_hidden(batch.clean.abs(), batch) + 0.15)


def _of_hidden(values: Tensor, batch: MotionBatch) -> Tensor:
    """Means over hidden frames of the affine part and of the residual where something is, `[N, 2]`.

    Args:
        values: `[N, F, D]`.
    """
    hidden = (batch.valid & ~batch.given).float()
    affine, residual = unpack(values)
    cover = (0.05 + 0.95 * batch.cover)[:, :, None]
    of_residual = (residual * cover).sum((2, 3, 4)) / (2 * cover.sum((2, 3, 4)))
    both = torch.stack([affine.mean(-1), of_residual], dim=1) * hidden[:, None]
    return both.sum(2) / hidden.sum(1, keepdim=True).clamp(min=1)


class TrainDrawing(Resident):
    """Text → still: a clip of one frame, in pixel patches, rectified flow with x-prediction."""

    names = ("x",)

    def __init__(
        self,
        network: nn.Module,
        frames: Tensor,
        clips: Sequence[StoredClip],
        text: TextFeed,
        flow: FlowConfig,
        sources: Mapping[str, float],
        batch_size: int = 64,
        patch: int = 4,
        text_dropout: float = 0.1,
        seed: int = 0,
    ) -> None:
        super().__init__(network)
        self.frames, self.clips, self.text = frames, clips, text
        self.flow, self.batch_size, self.patch = flow, batch_size, patch
        self.text_dropout, self.seed = text_dropout, seed
        by_source: dict[str, list[int]] = {}
        for index, clip in enumerate(clips):
            by_source.setdefault(clip.source, []).append(index)
        names = [name for name in by_source if sources.get(name, 0) > 0]
        self.rows = [by_source[name] for name in names]
        shares = np.array([sources[name] for name in names])
        self.shares = shares / shares.sum()

    def draw(self, index: int, progress: float) -> dict[str, Any]:
        generator = np.random.Generator(np.random.Philox(key=[self.seed, index]))
        rows, captions, flips = [], [], []
        for _ in range(self.batch_size):
            group = self.rows[generator.choice(len(self.shares), p=self.shares)]
            clip = self.clips[group[generator.integers(len(group))]]
            rows.append(clip.start + int(generator.integers(clip.count)))
            said = clip.captions[generator.integers(len(clip.captions))] if clip.captions else ""
            captions.append("" if generator.random() < self.text_dropout else said)
            sided = any(word in said.lower() for word in ("left", "right"))
            flips.append(generator.random() < 0.5 and not sided)
        place = np.stack(
            [
                np.exp(generator.uniform(-0.15, 0.12, self.batch_size)),
                generator.uniform(-0.08, 0.08, self.batch_size),
                generator.uniform(-0.08, 0.08, self.batch_size),
            ],
            axis=1,
        ).astype(np.float32)
        place[generator.random(self.batch_size) < 0.5] = (1, 0, 0)
        return {
            "rows": np.array(rows),
            "flips": np.array(flips),
            "place": place,
            "tokens": self.text.tokens(captions),
        }

    def loss(self, batch: Any) -> tuple[Tensor, Tensor]:
        index, draws = batch
        device = self.frames.device
        states, mask = self.text.states(draws["tokens"], device)
        with torch.autocast(device.type, enabled=False):
            pixels = self._pixels(draws, device)
        clean = F.pixel_unshuffle(pixels, self.patch)[:, :, None]
        generator = torch.Generator(device).manual_seed(self.seed * 1_000_003 + index)
        sigma = self.flow.draw(len(clean), generator)
        noise = torch.randn(clean.shape, generator=generator, device=device)
        t = sigma.view(-1, 1, 1, 1, 1)
        valid = torch.ones(len(clean), 1, dtype=torch.bool, device=device)
        noisy = ((1 - t) * clean + t * noise).to(self.forward.dtype)
        told = Conditions(
            clean=torch.zeros_like(noisy),
            given=~valid,
            valid=valid,
            text=[states],
            text_mask=[mask],
            padded=False,
        )
        predicted = self.forward(noisy, sigma, told)
        error = (predicted.float() - clean).square().mean((1, 2, 3, 4))
        return (error * self.flow.weight(sigma)).mean(), error.detach().mean()[None]

    def _pixels(self, draws: Mapping[str, Any], device: torch.device) -> Tensor:
        """Pictures, some of them mirrored, scaled and shifted a little, `[N, 4, S, S]`."""
        pixels = premultiplied(self.frames[torch.from_numpy(draws["rows"]).to(device)])
        flips = torch.from_numpy(draws["flips"]).to(device)[:, None, None, None]
        pixels = torch.where(flips, pixels.flip(-1), pixels)
        place = torch.from_numpy(draws["place"]).to(device)
        scale, shift = place[:, :1, None], place[:, 1:, None]
        eye = torch.eye(2, device=device).expand(len(pixels), 2, 2)
        theta = torch.cat([eye * scale, shift], dim=2)
        grid = F.affine_grid(theta, list(pixels.shape), align_corners=False)
        placed = F.grid_sample(pixels + 1, grid, align_corners=False) - 1
        same = (place == place.new_tensor([1.0, 0.0, 0.0])).all(1)[:, None, None, None]
        return torch.where(same, pixels, placed)
