"""What all adapters share: the calling convention, what is frozen, their files."""

from __future__ import annotations

import copy
import json
from pathlib import Path
from typing import Any

import pytest
import torch
from safetensors.torch import load_file, save_file

from rdtf.errors import CheckpointError, ConfigError
from rdtf.research.adapters import (
    ADAPTERS,
    build_adapter,
    load_adapter,
    load_base,
)

from .networks import (
    BASE_OF,
    KINDS,
    PARAMETER_EFFICIENT,
    TEXT_WIDTH,
    clips,
    gradients,
    plain,
    published_base,
    tiny_adapter,
    tiny_base,
)

each_adapter = pytest.mark.parametrize("name", PARAMETER_EFFICIENT)
all_adapters = pytest.mark.parametrize("name", sorted(ADAPTERS))


# ------------------------------------------------------------------ size and start


@pytest.mark.parametrize(
    ("name", "published"),
    [("i2v-adapter", 24_793_280), ("simda", 24_855_680), ("customize-a-video", 798_720)],
)
def test_parameters_at_published_size(name, published):
    adapter = build_adapter(name, published_base(BASE_OF[name]))
    adapter.begin(adapter.stages[-1])
    assert sum(p.numel() for p in adapter.trainable_parameters()) == published


def test_simda_parts_at_published_size():
    adapter: Any = build_adapter("simda", published_base("image"))
    assert sum(p.numel() for p in adapter.blocks.parameters()) == 12_421_600
    assert sum(p.numel() for p in adapter.temporal.parameters()) == 12_434_080


@each_adapter
def test_starts_as_the_base(name):
    """Bit for bit, with nothing given and with all adapters in place; SimDA on single frames."""
    frames = 1 if name == "simda" else 3
    base, batch = tiny_base(BASE_OF[name]), clips([[False] * frames, [False] * frames])
    expected = plain(base, batch)
    adapter = build_adapter(name, base)
    for stage in (*adapter.stages[-1:], "sampling"):
        adapter.begin(stage)
        assert batch.through(adapter).equal(expected)


@pytest.mark.parametrize("kind", KINDS)
def test_full_fine_tuning_starts_as_the_base(kind):
    base, batch = tiny_base(kind), clips([[False] * 3])
    expected = plain(base, batch)
    adapter = build_adapter("full-fine-tuning", base)
    adapter.begin("sampling")
    assert batch.through(adapter).equal(expected)


# ------------------------------------------------------------------ what is trained


@each_adapter
def test_only_the_adapter_is_trained(name):
    adapter = tiny_adapter(name)
    own = {id(parameter) for parameter in adapter.adapter_parameters().values()}
    trained: set[int] = set()
    for stage in adapter.stages:
        adapter.begin(stage)
        trained |= {id(parameter) for parameter in adapter.trainable_parameters()}
        assert not adapter.base.training
    assert trained == own
    adapter.begin("sampling")
    assert adapter.trainable_parameters() == [] and not adapter.training


@each_adapter
def test_gradient_reaches_every_trained_parameter(name):
    adapter = tiny_adapter(name)
    for stage in adapter.stages:
        adapter.begin(stage)
        reached = gradients(adapter, clips([[True, False, False]]))
        wanted = {n for n, p in adapter.named_parameters() if p.requires_grad}
        assert {n for n, gradient in reached.items() if gradient.any()} == wanted


@pytest.mark.parametrize("kind", KINDS)
def test_full_fine_tuning_trains_everything(kind):
    base = tiny_base(kind)
    adapter = build_adapter("full-fine-tuning", base)
    assert sum(p.numel() for p in adapter.trainable_parameters()) == sum(
        parameter.numel() for parameter in base.parameters()
    )
    assert adapter.base.training
    reached = gradients(adapter, clips([[False] * 3, [False] * 3]))
    assert len(reached) == len(list(base.parameters()))


@each_adapter
def test_a_step_lowers_the_loss(name):
    adapter, batch = tiny_adapter(name, awake=False), clips([[True, False, False]])
    target = torch.randn(batch.noisy.shape, generator=torch.Generator().manual_seed(5))
    for stage in adapter.stages:
        adapter.begin(stage)
        optimizer = torch.optim.AdamW(adapter.trainable_parameters(), lr=1e-3)
        losses = []
        for _ in range(4):
            loss = (batch.through(adapter) - target)[:, :, 1:].square().mean()
            loss.backward()
            optimizer.step()
            optimizer.zero_grad()
            losses.append(float(loss.detach()))
        assert losses == sorted(losses, reverse=True) and losses[-1] < losses[0]


def test_unknown_stage_is_refused():
    with pytest.raises(ConfigError, match="stage"):
        tiny_adapter("simda").begin("appearance")


@pytest.mark.parametrize("name", ["i2v-adapter", "simda"])
def test_diffusers_own_checkpointing_leaves_no_adapter_out(name):
    """Where the released SimDA code loses its temporal adapters."""
    adapter, batch = tiny_adapter(name), clips([[True, False, False]])
    expected = gradients(adapter, batch)
    adapter.base.enable_gradient_checkpointing()  # pyright: ignore
    for parameter, gradient in gradients(adapter, batch).items():
        torch.testing.assert_close(gradient, expected[parameter], msg=parameter)


# ------------------------------------------------------------------ given frames, padding, text


@all_adapters
@pytest.mark.parametrize("mask", [[True, False, False], [False, True, False], [True, False, True]])
def test_given_frames_are_read_and_hidden_ones_are_not(name, mask):
    adapter, batch = tiny_adapter(name), clips([mask])
    adapter.begin("sampling")
    out = batch.through(adapter)
    given = batch.given[:, None, :, None, None]
    blind = batch.replace(clean=batch.clean.masked_fill(~given, torch.nan))
    assert blind.through(adapter).equal(out)
    other = batch.replace(clean=batch.clean + given)
    assert (other.through(adapter) - out)[:, :, ~batch.given[0]].abs().max() > 1e-4
    noise = batch.replace(noisy=torch.where(given, 9.0, batch.noisy))
    assert noise.through(adapter).equal(out)


@all_adapters
@pytest.mark.parametrize("content", [0.0, float("nan")])
def test_padding_changes_nothing(name, content):
    """Clips of three lengths in one batch, each as if it were alone."""
    adapter, batch = tiny_adapter(name), clips([[True, False, False]] * 3)
    adapter.begin("sampling")
    valid = torch.tensor([[1, 1, 0], [1, 1, 1], [1, 0, 0]], dtype=torch.bool)
    absent = ~valid[:, None, :, None, None]
    mixed = batch.replace(
        valid=valid,
        noisy=batch.noisy.masked_fill(absent, content),
        clean=batch.clean.masked_fill(absent, content),
    )
    together = mixed.through(adapter)
    assert together.shape == batch.noisy.shape
    assert not together[absent.expand_as(together)].any()
    for row, length in enumerate([2, 3, 1]):
        alone = clips([[True, False, False]] * 3)
        alone = alone.replace(
            **{
                key: value[row : row + 1, :, :length]
                for key, value in vars(alone).items()
                if key in ("noisy", "clean")
            },
            given=alone.given[row : row + 1, :length],
            valid=alone.valid[row : row + 1, :length],
            t=alone.t[row : row + 1],
            text=[alone.text[0][row : row + 1]],
            text_mask=[alone.text_mask[0][row : row + 1]],
        )
        expected = alone.through(adapter)[0]
        torch.testing.assert_close(together[row, :, :length], expected, rtol=1e-4, atol=1e-5)


@all_adapters
@pytest.mark.parametrize("size", [(5, 7), (16, 4)])
def test_any_grid(name, size):
    adapter, batch = tiny_adapter(name), clips([[True, False]], size=size)
    adapter.begin("sampling")
    assert batch.through(adapter).isfinite().all()


@all_adapters
def test_masked_tokens_do_not_count(name):
    adapter, batch = tiny_adapter(name), clips([[False, False]] * 2)
    adapter.begin("sampling")
    one = batch.replace(text_mask=[torch.tensor([[True, False, False], [True, True, True]])])
    out = one.through(adapter)
    changed = one.replace(text=[one.text[0].index_fill(1, torch.tensor([1, 2]), 9.0)])
    torch.testing.assert_close(changed.through(adapter)[0], out[0])
    short = batch.replace(
        text=[batch.text[0][:, :1]], text_mask=[torch.ones(2, 1, dtype=torch.bool)]
    )
    torch.testing.assert_close(short.through(adapter)[0], out[0], rtol=1e-4, atol=1e-5)
    assert (changed.through(adapter)[1] - out[1]).abs().max() > 1e-4


@all_adapters
def test_no_text_reads_the_null_text(name):
    """An empty list, an all-False mask, and the null states themselves are the same."""
    null = torch.randn(5, TEXT_WIDTH, generator=torch.Generator().manual_seed(2))
    adapter, batch = tiny_adapter(name, null_text=null), clips([[False, False]] * 2)
    adapter.begin("sampling")
    absent = batch.replace(text=[], text_mask=[]).through(adapter)
    masked = batch.replace(text_mask=[torch.tensor([[False] * 3, [True] * 3])])
    torch.testing.assert_close(masked.through(adapter)[0], absent[0], rtol=1e-4, atol=1e-5)
    torch.testing.assert_close(
        masked.through(adapter)[1], batch.through(adapter)[1], rtol=1e-4, atol=1e-5
    )
    said = batch.replace(
        text=[null.expand(2, -1, -1)], text_mask=[torch.ones(2, 5, dtype=torch.bool)]
    )
    torch.testing.assert_close(said.through(adapter), absent)


def test_text_of_another_width_is_refused():
    batch = clips([[False, False]])
    with pytest.raises(ConfigError, match="width"):
        batch.replace(text=[torch.zeros(1, 3, 7)]).through(tiny_adapter("simda"))


def test_two_encoders_of_one_width_are_joined():
    adapter, batch = tiny_adapter("simda"), clips([[False, False]])
    joined = batch.replace(
        text=[batch.text[0][:, :1], batch.text[0][:, 1:]],
        text_mask=[batch.text_mask[0][:, :1], batch.text_mask[0][:, 1:]],
    )
    assert joined.through(adapter).equal(batch.through(adapter))


@pytest.mark.parametrize("name", PARAMETER_EFFICIENT)
def test_half_precision_base_keeps_its_adapter_in_single(name):
    base = tiny_base(BASE_OF[name]).to(torch.bfloat16)
    adapter = build_adapter(name, base)
    adapter.begin(adapter.stages[-1])
    batch = clips([[True, False, False]])
    assert batch.through(adapter).dtype == torch.float32
    assert all(p.dtype == torch.float32 for p in adapter.trainable_parameters())
    assert all(gradient.isfinite().all() for gradient in gradients(adapter, batch).values())


def test_copy_is_independent():
    """As an average of the weights would keep one."""
    adapter, batch = tiny_adapter("simda"), clips([[True, False, False]])
    expected = batch.through(adapter).detach()
    twin = copy.deepcopy(adapter)
    with torch.no_grad():
        for parameter in adapter.parameters():
            parameter.zero_()
    assert batch.through(twin).equal(expected)


# ------------------------------------------------------------------ files


@each_adapter
def test_saved_alone_and_loaded_on_the_base(tmp_path: Path, name):
    adapter, batch = tiny_adapter(name), clips([[True, False, False]])
    adapter.begin("sampling")
    expected = batch.through(adapter)
    adapter.save(tmp_path / "adapter")
    assert {file.name for file in (tmp_path / "adapter").iterdir()} == {
        "adapter.safetensors",
        "adapter.json",
    }
    saved = load_file(tmp_path / "adapter" / "adapter.safetensors")
    assert not {key for key in saved if key.startswith("base.")}
    loaded = load_adapter(tmp_path / "adapter", tiny_base(BASE_OF[name]))
    assert batch.through(loaded).equal(expected)


@pytest.mark.parametrize("kind", KINDS)
def test_full_fine_tuning_saves_a_base(tmp_path: Path, kind):
    adapter, batch = build_adapter("full-fine-tuning", tiny_base(kind)), clips([[False, False]])
    adapter.begin("sampling")
    expected = batch.through(adapter)
    adapter.save(tmp_path)
    assert plain(load_base(kind, tmp_path).eval(), batch).equal(expected)
    loaded = load_adapter(tmp_path, tiny_base(kind, seed=9))
    assert batch.through(loaded).equal(expected)


def test_settings_and_null_text_come_back(tmp_path: Path):
    null = torch.randn(2, TEXT_WIDTH)
    adapter = tiny_adapter("customize-a-video", rank=2, keep_appearance=True, null_text=null)
    adapter.save(tmp_path)
    loaded = load_adapter(tmp_path, tiny_base("video"))
    assert loaded.settings == adapter.settings == {"rank": 2, "keep_appearance": True}
    # Of an earlier version, with settings that have one value now.
    config = json.loads((tmp_path / "adapter.json").read_text())
    config["settings"] |= {"given_frames": "clean", "num_train_timesteps": 1000}
    (tmp_path / "adapter.json").write_text(json.dumps(config))
    assert load_adapter(tmp_path, tiny_base("video")).settings == loaded.settings
    assert loaded.get_buffer("null_text").equal(null[None])


def test_saving_fits_in_a_few_megabytes():
    """The rank-4 temporal LoRA of ModelScope's U-Net is 3 MB, its base 5.6 GB."""
    adapter = build_adapter("customize-a-video", published_base("video"))
    added = sum(p.numel() for p in adapter.adapter_parameters().values())
    assert 4 * added < 0.003 * 4 * sum(p.numel() for p in adapter.base.parameters())


def test_what_is_no_fitting_adapter_is_one_clear_line(tmp_path: Path):
    simda = tiny_adapter("simda")
    with pytest.raises(CheckpointError, match="holds no adapter"):
        simda.load(tmp_path)
    simda.save(tmp_path)
    with pytest.raises(CheckpointError, match="not a i2v-adapter"):
        tiny_adapter("i2v-adapter").load(tmp_path)
    wider = build_adapter("simda", tiny_base("image", 500_000))
    with pytest.raises(CheckpointError, match="does not fit"):
        wider.load(tmp_path)
    weights = load_file(tmp_path / "adapter.safetensors")
    weights.pop(sorted(weights)[0])
    save_file(weights, tmp_path / "adapter.safetensors")
    with pytest.raises(CheckpointError, match="does not fit"):
        simda.load(tmp_path)
    (tmp_path / "adapter.safetensors").write_bytes(b"torn")
    with pytest.raises(CheckpointError, match="can't be read"):
        simda.load(tmp_path)
    config = json.loads((tmp_path / "adapter.json").read_text())
    (tmp_path / "adapter.json").write_text(json.dumps({**config, "version": 99}))
    with pytest.raises(CheckpointError, match="newer"):
        simda.load(tmp_path)
    (tmp_path / "adapter.json").write_text(json.dumps({"version": 1}))
    with pytest.raises(CheckpointError, match="damaged"):
        simda.load(tmp_path)


def test_wrong_base_or_name_is_refused():
    with pytest.raises(ConfigError, match="adapts image"):
        build_adapter("simda", tiny_base("video"))
    with pytest.raises(ConfigError, match="a base is one of"):
        build_adapter("simda", torch.nn.Linear(1, 1))
    with pytest.raises(ConfigError, match="unknown"):
        build_adapter("lora", tiny_base("video"))
