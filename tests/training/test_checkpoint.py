from __future__ import annotations

import hashlib
import json
import shutil
from collections.abc import Callable
from pathlib import Path

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import nn

from rdtf.errors import CheckpointError
from rdtf.training.checkpoint import (
    check,
    checkpoint_folders,
    load_checkpoint,
    load_latest,
    load_optimizer,
    load_weights,
    optimizer_tensors,
    save_checkpoint,
)

FILES = (
    "MANIFEST.json",
    "ema.safetensors",
    "model.safetensors",
    "optimizer.safetensors",
    "state.json",
)


def trained_model(steps: int = 3) -> tuple[nn.Module, torch.optim.Optimizer]:
    torch.manual_seed(0)
    model = nn.Sequential(nn.Linear(3, 5), nn.BatchNorm1d(5), nn.Linear(5, 2))
    optimizer = torch.optim.AdamW(model.parameters(), lr=1e-2, fused=True)
    take_steps(model, optimizer, range(steps))
    return model, optimizer


def take_steps(model: nn.Module, optimizer: torch.optim.Optimizer, steps: range) -> None:
    for step in steps:
        torch.manual_seed(step)
        model(torch.randn(4, 3)).square().sum().backward()
        optimizer.step()
        optimizer.zero_grad()


def save(run: Path, step: int, keep: int = 2) -> Path:
    model, optimizer = trained_model()
    ema = dict(model.named_parameters())
    state = {"ema_updates": step, "curriculum": {"quantile": 0.1 + 0.2}}
    return save_checkpoint(
        run, step, model=model.state_dict(), ema=ema, optimizer=optimizer, state=state, keep=keep
    )


@pytest.fixture(scope="module")
def intact(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return save(tmp_path_factory.mktemp("run"), 7)


def names(run: Path) -> list[str]:
    return [folder.name for folder in checkpoint_folders(run)]


def flip(path: Path, place: int = -1) -> None:
    data = bytearray(path.read_bytes())
    data[place] ^= 0x10
    path.write_bytes(bytes(data))


def cut(path: Path) -> None:
    path.write_bytes(path.read_bytes()[:-7])


def empty(path: Path) -> None:
    path.write_bytes(b"")


# ------------------------------------------------------------------------- intact


def test_what_is_saved_comes_back(intact):
    model, optimizer = trained_model()
    loaded = load_checkpoint(intact)
    assert loaded.step == 7 and loaded.state["curriculum"]["quantile"] == 0.1 + 0.2
    assert loaded.model.keys() == model.state_dict().keys()
    for name, value in model.state_dict().items():
        assert torch.equal(loaded.model[name], value) and loaded.model[name].dtype == value.dtype
    for name, value in optimizer_tensors(optimizer).items():
        assert torch.equal(loaded.optimizer[name], value)


def test_only_safetensors_and_json(intact):
    assert sorted(path.name for path in intact.iterdir()) == sorted(FILES)


def test_training_goes_on_exactly(intact):
    model, optimizer = trained_model()
    loaded = load_checkpoint(intact)
    torch.manual_seed(99)
    other = nn.Sequential(nn.Linear(3, 5), nn.BatchNorm1d(5), nn.Linear(5, 2))
    other_optimizer = torch.optim.AdamW(other.parameters(), lr=1e-2, fused=True)
    load_weights(other, loaded.model, "checkpoint")
    load_optimizer(other_optimizer, loaded.optimizer)
    take_steps(model, optimizer, range(3, 6))
    take_steps(other, other_optimizer, range(3, 6))
    for name, value in model.state_dict().items():
        assert torch.equal(other.state_dict()[name], value), name


def test_only_the_newest_are_kept(tmp_path):
    for step in (0, 2, 4, 6):
        save(tmp_path, step, keep=2)
    assert names(tmp_path) == ["step-00000004", "step-00000006"]
    for step in (8, 10):
        save(tmp_path, step, keep=0)
    assert len(names(tmp_path)) == 4


def test_a_run_without_checkpoints(tmp_path):
    assert load_latest(tmp_path) is None
    (tmp_path / "checkpoints" / "notes").mkdir(parents=True)
    assert load_latest(tmp_path) is None


def test_what_a_killed_process_left_is_no_checkpoint_and_goes(tmp_path):
    torn = tmp_path / "checkpoints" / ".tmp-step-00000004-abc"
    torn.mkdir(parents=True)
    assert load_latest(tmp_path) is None
    save(tmp_path, 5)
    assert not torn.exists() and names(tmp_path) == ["step-00000005"]


# ------------------------------------------------------------------------ damaged


@settings(max_examples=40)
@given(st.sampled_from(FILES), st.data())
def test_any_flipped_bit_is_found(intact, tmp_path_factory, name, data):
    folder = tmp_path_factory.mktemp("flipped") / intact.name
    shutil.copytree(intact, folder)
    flip(folder / name, data.draw(st.integers(0, (folder / name).stat().st_size - 1)))
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


def test_a_newer_format_is_refused_and_not_passed_over(tmp_path):
    """Going on from the older one would in the end delete what the newer program has made."""
    save(tmp_path, 4)
    newer = save(tmp_path, 6)
    manifest = json.loads((newer / "MANIFEST.json").read_text())
    state = json.loads((newer / "state.json").read_text())
    (newer / "state.json").write_text(json.dumps({**state, "version": 2}))
    manifest["state.json"] = _manifest_row(newer / "state.json")
    (newer / "MANIFEST.json").write_text(json.dumps(manifest))
    with pytest.raises(CheckpointError, match=r"newer rdtf.*update"):
        load_latest(tmp_path)


def _manifest_row(path: Path) -> dict[str, object]:
    data = path.read_bytes()
    return {"bytes": len(data), "sha256": hashlib.sha256(data).hexdigest()}


def test_saving_again_over_a_damaged_one_mends_it(tmp_path):
    save(tmp_path, 4)
    damaged = save(tmp_path, 6)
    empty(damaged / "ema.safetensors")
    save(tmp_path, 5, keep=1)
    assert names(tmp_path) == ["step-00000005", "step-00000006"]
    save(tmp_path, 6, keep=1)
    assert names(tmp_path) == ["step-00000006"] and not check(damaged)


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
        load_weights(other, load_checkpoint(intact).model, "checkpoint of RUN")
    assert all(torch.equal(value, before[name]) for name, value in other.state_dict().items())
