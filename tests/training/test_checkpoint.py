from __future__ import annotations

import hashlib
import json
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import nn

from rdtf.errors import CheckpointError
from rdtf.training.checkpoint import (
    Checkpoint,
    Retention,
    best_step,
    check,
    checkpoint_folders,
    load_latest,
    load_step,
    load_weights,
    mark_best,
    save_checkpoint,
)
from rdtf.training.config import OptimizerConfig
from rdtf.training.distributed import Ranks
from rdtf.training.optimizer import Optimizer

FILES = (
    "MANIFEST.json",
    "ema-0.safetensors",
    "model.safetensors",
    "optimizer.safetensors",
    "state.json",
)
ALL = Retention(last=0)


def small_model() -> nn.Module:
    return nn.Sequential(nn.Linear(3, 5), nn.BatchNorm1d(5), nn.Linear(5, 2))


def trained_model(steps: int = 3) -> tuple[nn.Module, Optimizer]:
    torch.manual_seed(0)
    model = small_model()
    optimizer = Optimizer(dict(model.named_parameters()), OptimizerConfig(learning_rate=1e-2))
    take_steps(model, optimizer, range(steps))
    return model, optimizer


def take_steps(model: nn.Module, optimizer: Optimizer, steps: range) -> None:
    for step in steps:
        torch.manual_seed(step)
        model(torch.randn(4, 3)).square().sum().backward()
        optimizer.step(torch.zeros(()))
        optimizer.zero_grad()


def save(run: Path, step: int, retention: Retention = ALL) -> Path:
    model, optimizer = trained_model()
    tensors = {
        "model": model.state_dict(),
        "ema-0": dict(model.named_parameters()),
        "optimizer": optimizer.state_tensors(Ranks()),
    }
    state = {"ema_updates": step, "curriculum": {"quantile": 0.1 + 0.2}}
    return save_checkpoint(run, step, tensors, state, retention)


def save_tiny(run: Path, step: int, retention: Retention = ALL) -> Path:
    tensors = {"model": {"a": torch.full((2,), float(step))}}
    return save_checkpoint(run, step, tensors, {"counter": step}, retention)


@pytest.fixture(scope="module")
def intact(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return save(tmp_path_factory.mktemp("run"), 7)


def opened(folder: Path) -> Checkpoint:
    return load_step(folder.parent.parent, int(folder.name[5:]))


def steps_of(run: Path) -> list[int]:
    return [int(folder.name[5:]) for folder in checkpoint_folders(run)]


def flip(path: Path, place: int = -1, bits: int = 0x10) -> None:
    data = bytearray(path.read_bytes())
    data[place] ^= bits
    path.write_bytes(bytes(data))


def cut(path: Path) -> None:
    path.write_bytes(path.read_bytes()[:-7])


def empty(path: Path) -> None:
    path.write_bytes(b"")


# ------------------------------------------------------------------------- intact


def test_what_is_saved_comes_back(intact):
    model, optimizer = trained_model()
    loaded = opened(intact)
    assert loaded.step == 7 and loaded.folder == intact
    assert loaded.state == {"ema_updates": 7, "curriculum": {"quantile": 0.1 + 0.2}}
    assert loaded.stems == ("ema-0", "model", "optimizer")
    weights, moments = loaded.load("model"), loaded.load("optimizer")
    assert weights.keys() == model.state_dict().keys()
    for name, value in model.state_dict().items():
        assert torch.equal(weights[name], value) and weights[name].dtype == value.dtype
    for name, value in optimizer.state_tensors(Ranks()).items():
        assert torch.equal(moments[name], value)


def test_only_safetensors_and_json_for_all_to_read(intact):
    assert sorted(path.name for path in intact.iterdir()) == sorted(FILES)
    assert {path.stat().st_mode & 0o777 for path in intact.iterdir()} == {0o644}


def test_training_goes_on_exactly(intact):
    model, optimizer = trained_model()
    loaded = opened(intact)
    torch.manual_seed(99)
    other = small_model()
    other_optimizer = Optimizer(dict(other.named_parameters()), OptimizerConfig(learning_rate=1e-2))
    load_weights(other.state_dict(), loaded.load("model"), "checkpoint")
    other_optimizer.load_state_tensors(loaded.load("optimizer"))
    take_steps(model, optimizer, range(3, 6))
    take_steps(other, other_optimizer, range(3, 6))
    for name, value in model.state_dict().items():
        assert torch.equal(other.state_dict()[name], value), name


@pytest.mark.parametrize(
    "dtype", [torch.float32, torch.bfloat16, torch.float16, torch.float64, torch.int64, torch.bool]
)
def test_any_layout_and_type(tmp_path, dtype):
    base = torch.arange(24).reshape(4, 6).to(dtype)
    tensors = {
        "base": base,
        "transposed": base.T,
        "column": base[:, 2],
        "row": base[1],
        "same": base,
        "expanded": base[:1].expand(3, 6),
        "number": base[2, 3],
        "nothing": base[:0],
        "parameter": nn.Parameter(base.double()),
    }
    save_checkpoint(tmp_path, 1, {"things": tensors, "none": {}}, {}, ALL)
    loaded = load_step(tmp_path, 1)
    back = loaded.load("things")
    assert back.keys() == tensors.keys() and loaded.load("none") == {}
    for name, value in tensors.items():
        assert torch.equal(back[name], value) and back[name].dtype == value.dtype, name


def test_a_name_that_was_not_saved(intact):
    with pytest.raises(CheckpointError, match=r"no 'ema-1'; it has ema-0, model, optimizer"):
        opened(intact).load("ema-1")


@pytest.mark.parametrize("stem", ["../model", "a/b", "", ".hidden", "/etc/passwd"])
def test_names_stay_inside(tmp_path, stem):
    with pytest.raises(ValueError, match="no name for a file"):
        save_checkpoint(tmp_path, 1, {stem: {}}, {}, ALL)
    assert steps_of(tmp_path) == [] and list((tmp_path / "checkpoints").iterdir()) == []


def test_a_run_without_checkpoints(tmp_path):
    assert load_latest(tmp_path) is None and best_step(tmp_path) is None
    (tmp_path / "checkpoints" / "notes").mkdir(parents=True)
    assert load_latest(tmp_path) is None


def test_steps_of_nine_digits_come_last(tmp_path):
    for step in (99_999_999, 100_000_000):
        save_tiny(tmp_path, step)
    loaded = load_latest(tmp_path)
    assert loaded is not None and loaded.step == 100_000_000


# ------------------------------------------------------------------------ explicit steps


def test_a_step_by_its_number(tmp_path):
    for step in (2, 4, 6):
        save_tiny(tmp_path, step)
    loaded = load_step(tmp_path, 4)
    assert loaded.step == 4 and loaded.load("model")["a"].tolist() == [4.0, 4.0]


def test_a_step_that_is_missing_or_damaged_names_the_others(tmp_path):
    for step in (2, 4, 6):
        save_tiny(tmp_path, step)
    flip(tmp_path / "checkpoints" / "step-00000004" / "model.safetensors")
    for step, why in ((3, "there is none; available: 2, 4, 6"), (4, r"checksum; available: 2, 6")):
        with pytest.raises(CheckpointError, match=why) as caught:
            load_step(tmp_path, step)
        assert "\n" not in str(caught.value)
    with pytest.raises(CheckpointError, match="available: no other"):
        load_step(tmp_path / "elsewhere", 1)


# ------------------------------------------------------------------------ what is kept


@pytest.mark.parametrize(
    ("retention", "expected"),
    [
        (Retention(last=2), [8, 9]),
        (Retention(last=1), [9]),
        (Retention(last=0), [0, 1, 2, 3, 4, 5, 6, 7, 8, 9]),
        (Retention(last=1, every=4), [4, 8, 9]),
        (Retention(last=3, every=5), [5, 7, 8, 9]),
    ],
)
def test_what_stays(tmp_path, retention, expected):
    for step in range(10):
        save_tiny(tmp_path, step, retention)
    assert steps_of(tmp_path) == expected
    assert not list((tmp_path / "checkpoints").glob(".*"))


def test_the_best_is_never_pruned(tmp_path):
    losses = {1: 0.9, 2: 0.5, 3: 0.7, 4: float("nan"), 5: 0.5, 6: 0.4, 7: 0.6, 8: 0.8}
    best_after = [1, 2, 2, 2, 2, 6, 6, 6]
    for (step, loss), best in zip(losses.items(), best_after, strict=True):
        save_tiny(tmp_path, step, Retention(last=1))
        mark_best(tmp_path, step, loss)
        assert best_step(tmp_path) == (best, losses[best])
    assert steps_of(tmp_path) == [6, 8]
    save_tiny(tmp_path, 9, Retention(last=1, keep_best=False))
    assert steps_of(tmp_path) == [9] and best_step(tmp_path) is None
    mark_best(tmp_path, 9, 3.0)  # the recorded one is gone, so this is the lowest that is there
    assert best_step(tmp_path) == (9, 3.0)


def test_only_what_was_saved_can_be_the_best(tmp_path):
    save_tiny(tmp_path, 1)
    with pytest.raises(CheckpointError, match=r"step 2 .* has no checkpoint"):
        mark_best(tmp_path, 2, 0.1)
    mark_best(tmp_path, 1, float("nan"))
    assert best_step(tmp_path) is None


@pytest.mark.parametrize("text", ["", "{", "[]", "3", '{"step": "x", "loss": 1}', '{"step": 1}'])
def test_a_damaged_record_of_the_best_is_none(tmp_path, text):
    save_tiny(tmp_path, 1)
    (tmp_path / "checkpoints" / "best.json").write_text(text)
    assert best_step(tmp_path) is None
    save_tiny(tmp_path, 2, Retention(last=1))
    mark_best(tmp_path, 2, 0.5)
    assert best_step(tmp_path) == (2, 0.5)


def test_what_killed_processes_left_is_no_checkpoint_and_goes(tmp_path):
    root = tmp_path / "checkpoints"
    for name in (".tmp-step-00000004-abc", ".tmp-step-00000003-abc-old"):
        (root / name).mkdir(parents=True)
        (root / name / "model.safetensors").write_bytes(b"half")
    (root / ".tmp-best-abc.json").write_text("{")
    assert load_latest(tmp_path) is None
    save_tiny(tmp_path, 5)
    assert [path.name for path in root.iterdir()] == ["step-00000005"]


def test_a_damaged_one_does_not_take_the_place_of_a_good_one(tmp_path):
    for step in (2, 4, 6):
        save_tiny(tmp_path, step)
    cut(tmp_path / "checkpoints" / "step-00000006" / "model.safetensors")
    save_tiny(tmp_path, 7, Retention(last=2))
    assert steps_of(tmp_path) == [4, 7]


# ------------------------------------------------------------------------ damaged


@settings(max_examples=60)
@given(st.sampled_from(FILES), st.integers(1, 255), st.data())
def test_any_changed_byte_is_found(intact, tmp_path_factory, name, bits, data):
    folder = tmp_path_factory.mktemp("flipped") / intact.name
    shutil.copytree(intact, folder)
    flip(folder / name, data.draw(st.integers(0, (folder / name).stat().st_size - 1)), bits)
    assert check(folder)


@pytest.mark.parametrize("name", FILES)
@pytest.mark.parametrize("damage", [flip, cut, empty, Path.unlink])
def test_the_older_one_takes_over(
    intact, tmp_path, capsys, name: str, damage: Callable[[Path], None]
):
    save(tmp_path, 4)
    shutil.copytree(intact, tmp_path / "checkpoints" / "step-00000007")
    damage(tmp_path / "checkpoints" / "step-00000007" / name)
    loaded = load_latest(tmp_path)
    assert loaded is not None and loaded.step == 4
    warning = capsys.readouterr().err.splitlines()
    assert len(warning) == 1
    assert "step-00000007 is damaged" in warning[0] and "step-00000004" in warning[0]
    if damage is Path.unlink and name != "MANIFEST.json":
        assert f"{name} is missing" in warning[0]


def test_all_damaged_is_an_error(tmp_path):
    for step in (4, 6):
        flip(save(tmp_path, step) / "model.safetensors")
    with pytest.raises(
        CheckpointError, match=r"no intact checkpoint.*model\.safetensors"
    ) as caught:
        load_latest(tmp_path)
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize("manifest", ["{}", "[]", "null", "17", '{"state.json": 3}', "{"])
def test_a_manifest_that_names_nothing_vouches_for_nothing(tmp_path, manifest):
    folder = save(tmp_path, 4)
    (folder / "MANIFEST.json").write_text(manifest)
    assert check(folder)


def test_a_manifest_that_leaves_a_file_out_is_found(tmp_path):
    folder = save(tmp_path, 4)
    rewrite_manifest(folder, lambda rows: rows.pop("ema-0.safetensors"))
    assert "other files" in check(folder)


def test_a_manifest_that_points_outside_is_found(tmp_path):
    folder = save(tmp_path, 4)
    (tmp_path / "outside").write_bytes(b"x")
    rewrite_manifest(folder, lambda rows: rows.update({"../../outside": row(tmp_path / "outside")}))
    assert check(folder)


def test_a_checkpoint_under_another_name_is_found(tmp_path):
    save_tiny(tmp_path, 4)
    save_tiny(tmp_path, 6).rename(tmp_path / "checkpoints" / "step-00000008")
    assert "of step 6" in check(tmp_path / "checkpoints" / "step-00000008")
    loaded = load_latest(tmp_path)
    assert loaded is not None and loaded.step == 4


def row(path: Path) -> dict[str, object]:
    data = path.read_bytes()
    return {"bytes": len(data), "sha256": hashlib.sha256(data).hexdigest()}


def rewrite_manifest(folder: Path, change: Callable[[dict[str, Any]], object]) -> None:
    rows = json.loads((folder / "MANIFEST.json").read_text())
    change(rows)
    (folder / "MANIFEST.json").write_text(json.dumps(rows, indent=2) + "\n")


def set_version(folder: Path, version: int) -> None:
    state = json.loads((folder / "state.json").read_text())
    (folder / "state.json").write_text(json.dumps({**state, "version": version}))
    rewrite_manifest(folder, lambda rows: rows.update({"state.json": row(folder / "state.json")}))


@pytest.mark.parametrize(
    ("version", "message"),
    [(3, "newer rdtf.*format 3.*update"), (1, "older rdtf.*format 1.*pipeline.* loads")],
)
def test_another_format_is_refused_and_not_passed_over(tmp_path, version, message):
    """Going on from an older one would in the end delete what the other program has made."""
    save(tmp_path, 4)
    set_version(save(tmp_path, 6), version)
    for use in (lambda: load_latest(tmp_path), lambda: load_step(tmp_path, 6)):
        with pytest.raises(CheckpointError, match=message) as caught:
            use()
        assert "\n" not in str(caught.value)


def test_saving_again_over_a_damaged_one_mends_it(tmp_path):
    save(tmp_path, 4)
    damaged = save(tmp_path, 6)
    empty(damaged / "ema-0.safetensors")
    save(tmp_path, 5, Retention(last=1))
    assert steps_of(tmp_path) == [5, 6]
    save(tmp_path, 6, Retention(last=1))
    assert steps_of(tmp_path) == [6] and not check(damaged)


# --------------------------------------------------------------- another architecture


@pytest.mark.parametrize(
    "other",
    [
        nn.Sequential(nn.Linear(3, 6), nn.BatchNorm1d(6), nn.Linear(6, 2)),
        nn.Sequential(nn.Linear(3, 5), nn.BatchNorm1d(5), nn.Linear(5, 2), nn.Linear(2, 2)),
        nn.Sequential(nn.Linear(3, 5), nn.BatchNorm1d(5)),
    ],
    ids=["wider", "deeper", "shallower"],
)
def test_weights_of_another_model_are_refused_and_change_nothing(intact, other):
    before = {name: value.clone() for name, value in other.state_dict().items()}
    with pytest.raises(CheckpointError, match="of another model"):
        load_weights(other.state_dict(), opened(intact).load("model"), "checkpoint of RUN")
    assert all(torch.equal(value, before[name]) for name, value in other.state_dict().items())
