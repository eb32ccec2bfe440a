"""A step whose loss is no number can be looked at again, and the cause is named."""

from __future__ import annotations

import json
import math
import resource
import shutil
from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import Tensor

from fixtures_runs import tiny_config
from rdtf.errors import CheckpointError, UserError
from rdtf.training.packing import Batch, unpack
from rdtf.training.repro import load_repro, replay, write_repro
from rdtf.training.run import save_config
from rdtf.training.trainer import Trainer

from .stores import MemoryStore

STEP = 12


@pytest.fixture
def trainer(tmp_path: Path) -> Trainer:
    """A run of two micro-batches per step, a step or two old."""
    config = tiny_config(steps=20, batch_size=4, micro_batch_size=2, given_frame_weight=0.5)
    config = replace(config, relative_loss_floor=0.0)  # which would take large sizes away again
    run = tmp_path / "run"
    run.mkdir()
    save_config(run, config, "")
    trainer = Trainer(config, MemoryStore((2, 4, 3, 4, 2, 3)), run, quiet=True)
    trainer.train_one_step()
    return trainer


def batches_of(trainer: Trainer) -> list[Batch]:
    """The batches of the step that comes next."""
    weights = trainer.foresight.task_weights(trainer.step)
    packed = trainer.batches.step_batches(trainer.step, weights)
    return [unpack(batch, trainer.store, trainer.device) for batch in packed]


def written(trainer: Trainer, batches: Sequence[Batch]) -> Path:
    return write_repro(trainer.run, STEP, batches, trainer.model.state_dict(), {"what": "nan"})


def spoiled(batch: Batch, row: int, value: float = math.nan) -> Batch:
    clean = batch.clean.clone()
    clean[row, 0, 0, 0, 0] = value
    return replace(batch, clean=clean)


def same(a: Any, b: Any) -> bool:
    if isinstance(a, Tensor):
        return isinstance(b, Tensor) and a.dtype == b.dtype and torch.equal(a, b)
    if isinstance(a, (list, tuple)):
        return type(a) is type(b) and len(a) == len(b) and all(map(same, a, b))
    return a == b


# ----------------------------------------------------------------------- there and back


def test_everything_comes_back(trainer):
    batches = batches_of(trainer)
    folder = written(trainer, batches)
    assert folder == trainer.run / "nonfinite" / "step-00000012"
    names = {"batch-0.safetensors", "batch-1.safetensors", "model.safetensors", "info.json"}
    assert {path.name for path in folder.iterdir()} == names
    repro = load_repro(str(folder))
    assert repro.step == STEP and repro.info == {"what": "nan"} and len(repro.batches) == 2
    for batch, loaded in zip(batches, repro.batches, strict=True):
        assert loaded.keys() == vars(batch).keys()
        for name, value in vars(batch).items():
            assert same(loaded[name], value), name


@dataclass(frozen=True)
class OtherBatch:
    """What batches may become: the writer goes by what fields hold and not by their names."""

    half: Tensor
    many: list[Tensor]
    none_of_them: list[Tensor]
    names: tuple[str, ...]
    number: float
    nothing: None


def test_any_fields_come_back(tmp_path):
    shared = torch.arange(6.0)
    batch: Any = OtherBatch(
        torch.randn(2, 3).T.half(), [shared, shared[2:]], [], ("a", "b"), math.inf, None
    )
    folder = write_repro(tmp_path, 1, [batch], {}, {"tensor": torch.ones(1)})
    loaded = load_repro(folder)
    assert all(same(loaded.batches[0][name], value) for name, value in vars(batch).items())
    assert "tensor" in loaded.info["tensor"]  # no JSON: told as text


def test_few_are_kept(tmp_path):
    for step in (5, 7, 9, 30, 8):
        write_repro(tmp_path, step, [], {}, {})
    left = sorted(path.name for path in (tmp_path / "nonfinite").iterdir())
    assert left == ["step-00000008", "step-00000009", "step-00000030"]


# ------------------------------------------------------------------------------- replay


def test_a_sound_step_is_repeated(trainer):
    folder = written(trainer, batches_of(trainer))
    measured = trainer.train_one_step().fetch()
    found = replay(folder)
    assert found["step"] == STEP and found["first"] is None and found["module"] is None
    assert found["inputs"] == found["weights"] == found["gradients"] == []
    samples = sorted(found["samples"], key=lambda row: row["position"])
    assert sorted(row["batch"] for row in samples) == [0, 0, 1, 1]
    assert [row["clip"] for row in samples] == measured.clips
    assert [row["task"] for row in samples] == measured.tasks
    assert [row["level"] for row in samples] == measured.levels
    assert [row["loss"] for row in samples] == pytest.approx(measured.losses, rel=1e-6)


def test_an_input_that_is_no_number(trainer):
    first, second = batches_of(trainer)
    found = replay(written(trainer, [first, spoiled(second, row=1)]))
    clip = second.clips[1]
    assert found["inputs"] == [{"batch": 1, "tensor": "clean", "clips": [clip]}]
    assert found["first"] == f"input clean of batch 1, clips [{clip}]" and found["weights"] == []
    finite = [math.isfinite(row["loss"]) for row in found["samples"]]
    assert finite == [True, True, True, False] and found["samples"][3]["clip"] == clip


@pytest.mark.parametrize("value", [math.nan, math.inf])
def test_a_weight_that_is_no_number(trainer, value):
    with torch.no_grad():
        trainer.model.conv_in.weight[0, 0] = value
    found = replay(written(trainer, batches_of(trainer)))
    assert found["first"] == "weight conv_in.weight" and found["weights"] == ["conv_in.weight"]
    assert found["inputs"] == [] and found["module"] == "conv_in"


def test_a_module_that_overflows(trainer):
    name = "middle.1.residual.conv_in.weight"
    with torch.no_grad():
        dict(trainer.model.named_parameters())[name].fill_(3e38)
    found = replay(written(trainer, batches_of(trainer)))
    assert found["first"] == "output of module middle.1.residual.conv_in"
    assert found["inputs"] == found["weights"] == []


def test_a_loss_that_overflows(trainer):
    first, second = batches_of(trainer)
    batches = [replace(first, clean=torch.full_like(first.clean, 1e38)), second]
    found = replay(written(trainer, batches))
    assert found["inputs"] == found["weights"] == [] and found["first"]
    finite = [math.isfinite(row["loss"]) for row in found["samples"]]
    assert finite == [False, False, True, True]


def test_a_gradient_that_overflows(trainer):
    """Huge features that the heads do not look at yet: only the heads' gradient is too large."""
    composer = trainer.model.composer
    with torch.no_grad():
        composer.norm.weight.fill_(1e36)
        for head in (composer.head, *(stage.conv_out for stage in composer.stages)):
            head.weight.zero_()
    batches = [replace(batch, clean=batch.clean * 1e6) for batch in batches_of(trainer)]
    found = replay(written(trainer, batches))
    assert all(math.isfinite(row["loss"]) for row in found["samples"]) and found["module"] is None
    assert "composer.head.weight" in found["gradients"]
    assert found["first"] == f"gradient of {found['gradients'][0]}"


# -------------------------------------------------------------------------- what is wrong


@pytest.mark.parametrize("name", ["batch-1.safetensors", "model.safetensors", "info.json"])
@pytest.mark.parametrize("how", ["missing", "cut", "empty"])
def test_a_damaged_one_is_told_in_one_line(trainer, name, how):
    folder = written(trainer, batches_of(trainer))
    data = (folder / name).read_bytes()
    (folder / name).unlink()
    if how != "missing":
        (folder / name).write_bytes(data[: len(data) // 2] if how == "cut" else b"")
    with pytest.raises(UserError, match=str(folder)) as caught:
        replay(folder)
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize("head", [[], {}, {"version": 2}, {"version": 1, "batches": 3}])
def test_a_head_that_says_something_else(tmp_path, head):
    folder = write_repro(tmp_path, 1, [], {}, {})
    (folder / "info.json").write_text(json.dumps(head))
    with pytest.raises(CheckpointError, match=r"damaged|newer"):
        load_repro(folder)


def test_replay_needs_the_run_and_a_batch(trainer, tmp_path):
    folder = written(trainer, batches_of(trainer))
    shutil.copytree(folder, tmp_path / "elsewhere" / "nonfinite" / folder.name)
    with pytest.raises(CheckpointError, match="no run directory"):
        replay(tmp_path / "elsewhere" / "nonfinite" / folder.name)
    with pytest.raises(CheckpointError, match="holds no batch"):
        replay(written(trainer, []))


def test_weights_of_another_model(trainer):
    folder = written(trainer, batches_of(trainer))
    config = tiny_config(steps=20, model__channels=(16, 24))
    save_config(trainer.run, config, "")
    with pytest.raises(CheckpointError, match="of another model"):
        replay(folder)


def test_no_room_for_it(trainer):
    soft, hard = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (50_000, hard))
    try:
        with pytest.raises(UserError, match=r"step-00000012 can't be written: .* make room"):
            written(trainer, batches_of(trainer))
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, (soft, hard))
    assert list((trainer.run / "nonfinite").iterdir()) == []
