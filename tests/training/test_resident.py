from __future__ import annotations

import json
from dataclasses import fields, replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from safetensors.torch import save_file

from rdtf.models.motion_latents import LATENT_DIM
from rdtf.training.checkpoint import load_latest
from rdtf.training.config import EngineConfig, OptimizerConfig
from rdtf.training.trainables import FlowConfig, TextFeed
from rdtf.training.trainer import Trainer

from .resident_parts import flow_table, motion_drawer, small_store, text_feed
from .resident_parts import train_drawing as make_drawing
from .resident_parts import train_motion as make_motion
from .resident_parts import train_prediction as make_prediction

STORE = small_store()
MAKERS = {"motion": make_motion, "prediction": make_prediction, "drawing": make_drawing}


@pytest.fixture(scope="module")
def text(tmp_path_factory: pytest.TempPathFactory) -> TextFeed:
    return text_feed(tmp_path_factory.mktemp("encoder"))


def same(first: Any, second: Any) -> bool:
    """Whether two draws are equal, value by value."""
    if isinstance(first, np.ndarray):
        return np.array_equal(first, second)
    if isinstance(first, dict):
        return all(same(first[key], second[key]) for key in first)
    if isinstance(first, list | tuple):
        return all(same(one, other) for one, other in zip(first, second, strict=True))
    if hasattr(first, "__dataclass_fields__"):
        return all(same(getattr(first, f.name), getattr(second, f.name)) for f in fields(first))
    return first == second


# ----------------------------------------------------------------------------------- draws


@pytest.mark.parametrize("kind", MAKERS)
def test_draws_depend_on_seed_and_index_only(kind, text):
    first, second = MAKERS[kind](STORE, text), MAKERS[kind](STORE, text)
    forwards = [first.draw(index, 0.5) for index in range(4)]
    backwards = [second.draw(index, 0.5) for index in (3, 2, 1, 0)][::-1]
    assert all(same(one, other) for one, other in zip(forwards, backwards, strict=True))
    assert not same(forwards[0], forwards[1])
    second.seed += 1
    if kind == "drawing":
        assert not same(first.draw(0, 0.5), second.draw(0, 0.5))
    else:
        other_seed = motion_drawer(STORE, seed=4).batch(0, 4, 4, 0.5)
        assert not same(first.drawer.batch(0, 4, 4, 0.5), other_seed)


def test_something_is_given_and_something_hidden_in_every_draw():
    drawer = motion_drawer(STORE)
    for index in range(20):
        draws = drawer.batch(index, 8, 6, index / 20)
        assert (draws.given <= draws.valid).all()
        assert draws.given[np.arange(8), draws.anchor].all()
        assert (draws.valid & ~draws.given).any(1).all()


# ----------------------------------------------------------------------------------- flows


def test_a_table_filled_bit_by_bit_is_the_table_filled_at_once():
    lazy, whole = flow_table(STORE), flow_table(STORE)
    whole.fill(batch=7)
    for clip, reference in ((2, 1), (3, 0), (5, 6), (5, 2), (3, 3)):
        local = np.arange(STORE.clips[clip].count)[None]
        rows = (np.array([clip]), local, np.array([reference]))
        assert torch.equal(lazy.rows(*rows), whole.rows(*rows))
    assert 0 < int(lazy._known.sum()) < len(lazy.flows)
    taken = flow_table(STORE)
    taken.take(whole.flows)
    assert torch.equal(taken.rows(*rows), whole.rows(*rows))


def test_a_table_of_stills_is_empty():
    stills = replace(STORE, clips=STORE.clips[:2])
    table = flow_table(stills)
    table.fill()
    assert len(table.flows) == 0


# ------------------------------------------------------------------------------------ loss


def test_the_loss_counts_hidden_frames_only(text):
    trainable = make_motion(STORE, text, grammar_share=0.0)
    drawn, tokens = trainable.draw(0, 0.5)
    batch = trainable.assembler(drawn)
    states, mask = text.states(tokens, torch.device("cpu"))
    sigma = torch.full((len(batch.clean),), 0.7)

    def errors(clean: torch.Tensor, cover: torch.Tensor) -> torch.Tensor:
        generator = torch.Generator().manual_seed(5)
        changed = replace(batch, clean=clean, cover=cover)
        return trainable.errors(changed, states, mask, sigma, generator).detach()

    # A network that has not learned says of each frame what that frame's noisy latents say.
    hidden = batch.valid & ~batch.given
    expected = errors(batch.clean, batch.cover)
    assert (expected > 0).any()
    noise = torch.randn(batch.clean.shape, generator=torch.Generator().manual_seed(1))
    elsewhere = torch.where(hidden[..., None], batch.clean, noise)
    cover = torch.where(hidden[..., None, None], batch.cover, 0.5)
    assert torch.allclose(errors(elsewhere, cover), expected, atol=1e-6)
    there = torch.where(hidden[..., None], batch.clean + 1, batch.clean)
    assert not torch.allclose(errors(there, batch.cover), expected, atol=1e-3)
    assert batch.clean.shape[-1] == LATENT_DIM


def test_a_batch_where_nothing_is_hidden_has_no_error(text):
    trainable = make_motion(STORE, text, grammar_share=0.0)
    drawn, tokens = trainable.draw(0, 0.5)
    batch = trainable.assembler(drawn)
    batch = replace(batch, given=batch.valid)
    states, mask = text.states(tokens, torch.device("cpu"))
    sigma = torch.full((len(batch.clean),), 0.7)
    found = trainable.errors(batch, states, mask, sigma, torch.Generator().manual_seed(5))
    assert torch.equal(found, torch.zeros_like(found))


# ---------------------------------------------------------------------------------- resuming


def run_of(kind: str, text: TextFeed, folder: Path, workers: int = 0, steps: int = 6) -> Trainer:
    trainable = MAKERS[kind](STORE, text)
    trainable.lengths = (steps,)
    trainable.optimizer = OptimizerConfig(learning_rate=2e-3, warmup_steps=2, ema_decays=(0.999,))
    trainable.engine = EngineConfig(
        num_workers=workers, precision="fp32", save_every=0, log_every=1, track="none"
    )
    return Trainer(trainable, folder, quiet=True)


def stop_at(trainer: Trainer, step: int) -> str:
    return trainer.train(stop=lambda: "stopped" if trainer.step == step else "").reason


def saved(folder: Path) -> dict[str, torch.Tensor]:
    checkpoint = load_latest(folder)
    assert checkpoint is not None
    return {f"{stem} {k}": t for stem in checkpoint.stems for k, t in checkpoint.load(stem).items()}


def assert_same_files(first: Path, second: Path) -> None:
    whole, halves = saved(first), saved(second)
    assert whole.keys() == halves.keys()
    assert all(torch.equal(whole[key], halves[key]) for key in whole)


@pytest.mark.parametrize(("kind", "workers"), [("motion", 0), ("prediction", 0), ("drawing", 1)])
def test_three_and_three_steps_are_six_bit_for_bit(kind, workers, text, tmp_path):
    assert run_of(kind, text, tmp_path / "whole").train().reason == "finished"
    assert stop_at(run_of(kind, text, tmp_path / "halves", workers), 3) == "stopped"
    second = run_of(kind, text, tmp_path / "halves", workers)
    assert second.step == 3 and second.train().reason == "finished"
    assert_same_files(tmp_path / "whole", tmp_path / "halves")
    fresh = run_of(kind, text, tmp_path / "fresh").trainable.tensors()
    trained = saved(tmp_path / "halves")
    assert any(not torch.equal(trained[f"model {name}"], fresh[name]) for name in fresh)


def test_a_run_folder_of_before_goes_on(text, tmp_path):
    """Three files of tensors and a state.json, without folders of steps."""
    run_of("motion", text, tmp_path / "whole").train()
    stop_at(run_of("motion", text, tmp_path / "new"), 3)
    checkpoint, old = load_latest(tmp_path / "new"), tmp_path / "old"
    assert checkpoint is not None
    old.mkdir()
    slots = {"exp_avg": "first", "exp_avg_sq": "second"}
    moments = {
        f"{name}/{slots[slot]}": value
        for name, slot, value in (
            (*key.rsplit(":", 1), value) for key, value in checkpoint.load("optimizer").items()
        )
        if slot in slots
    }
    save_file(moments, old / "optimizer.safetensors")
    save_file(checkpoint.load("model"), old / "model.safetensors")
    save_file(checkpoint.load("ema-0"), old / "average.safetensors")
    about = {"step": 3, "spent_seconds": checkpoint.state["seconds"], "config": {}}
    (old / "state.json").write_text(json.dumps(about))
    assert run_of("motion", text, old).train().step == 6
    assert_same_files(old, tmp_path / "whole")


def test_training_through_a_copy_in_bf16_moves_the_network(text, tmp_path):
    run = run_of("motion", text, tmp_path / "half")
    run.trainable.compute_in_bf16()
    before = {name: value.clone() for name, value in run.trainable.tensors().items()}
    assert run.train().reason == "finished"
    after = run.trainable.tensors()
    assert all(value.dtype == torch.float32 and value.isfinite().all() for value in after.values())
    assert sum(not torch.equal(after[name], before[name]) for name in after) > len(after) / 2
    assert all(p.grad is None for p in run.trainable.forward.parameters())


def test_progress_of_a_run_by_steps_follows_from_the_index(text, tmp_path):
    """Workers draw ahead: what they draw must not depend on how far the training is."""
    run = run_of("motion", text, tmp_path)
    seen: list[tuple[int, float]] = []
    draw = run.trainable.draw

    def watched(index: int, progress: float) -> Any:
        seen.append((index, progress))
        return draw(index, progress)

    run.trainable.draw = watched
    run.train()
    assert seen[:6] == [(index, index / 6) for index in range(6)]


@pytest.mark.parametrize("kind", MAKERS)
def test_the_whole_network_is_one_graph(kind, text):
    """`--compile`: nothing of it falls back to Python."""
    trainable = MAKERS[kind](STORE, text)
    expected, _ = trainable.loss(trainable.build((0, 0.5)))
    trainable.forward = torch.compile(trainable.network, backend="eager", fullgraph=True)
    found, _ = trainable.loss(trainable.build((0, 0.5)))
    assert torch.allclose(found, expected, rtol=1e-5)
    found.backward()


def test_a_share_of_the_samples_is_near_full_noise_and_counts_fully():
    """There only text and given frames help; without it predictions were not learned."""
    flow = FlowConfig(0.6, 1.2, 0.5, near_noise=0.5)
    sigma = flow.draw(20_000, torch.Generator().manual_seed(0))
    assert ((sigma > 0.95) & (sigma < 1)).float().mean() > 0.25
    assert (sigma < 0.5).float().mean() > 0.1
    assert (flow.weight(sigma)[sigma >= 0.9] == 1).all()
    plain = FlowConfig(0.6, 1.2, 0.5)
    assert (plain.draw(20_000, torch.Generator().manual_seed(0)) > 0.95).float().mean() < 0.05
    assert plain.weight(torch.tensor([1.0])) == 0.25
