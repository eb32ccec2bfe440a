"""The benchmarks run; what they measure depends on the machine and is not tested."""

from __future__ import annotations

import json
import os
import re
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
import torch
from benchmarks.common import Table, machine
from benchmarks.duplicates import Duplicates
from benchmarks.memory import Memory
from benchmarks.percentile import TRENDS, Percentile
from benchmarks.pile import Pile
from benchmarks.rivals import count, our_denoiser, preset_latents, their_unet
from benchmarks.sampling import Sampling
from benchmarks.throughput import Throughput

ROOT = Path(__file__).resolve().parents[1]


def benchmark(*arguments: str) -> dict[str, Any]:
    environment = {**os.environ, "PYTHONPATH": f"{ROOT / 'src'}{os.pathsep}{ROOT}"}
    done = subprocess.run(
        [sys.executable, "-m", "benchmarks", *arguments, "--json"],
        capture_output=True, text=True, check=True, cwd=ROOT, env=environment,
    )  # fmt: skip
    return json.loads(done.stdout)


def test_a_pile_and_an_index():
    parts = ("prepare", "slices", "index", "mutated")
    table = Pile(parts=parts, counts=(20,), entries=2000, mutated=30, workers=1).run()
    assert table.values["index_drawn"] > 0 and len(table.rows) == 4
    assert table.values["mutated_crashes"] == 0


def test_the_rival_is_of_equal_size():
    latents = preset_latents("nano", 1)
    ours, theirs = count(our_denoiser("nano", latents)), count(their_unet(5_705_204, latents, 2))
    assert theirs == pytest.approx(ours, rel=0.03)


def test_throughput():
    options = ("--presets", "nano", "--precisions", "fp32", "--runs", "1", "--batch", "1")
    values = benchmark("throughput", *options, "--layers", "1")["throughput"]["nano fp32"]
    assert set(values) == {"rdtf", "UNet3D, 1 a level"}
    assert all(one["clips_per_second"] > 0 for one in values.values())


def test_bf16_is_never_emulated(monkeypatch):
    """Where the processor has no bf16 units it is left out, and asking for it alone is refused."""
    for name in ("_is_avx512_bf16_supported", "_is_amx_tile_supported"):
        monkeypatch.setattr(torch.cpu, name, lambda: False, raising=False)
    options: dict[str, Any] = {"presets": ("nano",), "batch": 1, "runs": 1}
    table = Throughput(**options, layers=()).run()
    assert set(table.values) == {"nano fp32"} and "bf16 is left out" in table.notes[-1]
    for benchmark in (Sampling(precision="bf16"), Memory(precision="bf16")):
        with pytest.raises(SystemExit, match="has no bf16 units"):
            benchmark.run()
    assert ", no bf16, " in machine(torch.device("cpu"))


def test_the_processor_stands_beside_every_number():
    """Its name, its vector units, and what else it was doing."""
    where = machine(torch.device("cpu"))
    assert torch.backends.cpu.get_cpu_capability() in where and "threads" in where
    assert re.search(r"load \d", where) and re.search(r"\d{4}-\d\d-\d\d", where)
    text = Table("Speed", ("network", "ms"), [("ours", "3")], {}).text(where)
    assert text.splitlines()[:2] == ["Speed", f"on {where}"]


def test_sampling_and_curriculum():
    values = benchmark("sampling", "--presets", "nano", "--runs", "1")["sampling"]
    assert values["nano"]["ours_is_faster_by"] > 0
    values = benchmark("curriculum", "--batch", "1", "--runs", "1")["curriculumcost"]
    assert set(values["parts_seconds"]) == {
        "draw tasks and masks", "feed the curriculum", "condition mask", "loss mask"
    }  # fmt: skip


def test_percentile():
    values = Percentile(seeds=1, steps=200).run().values
    assert set(values) == set(TRENDS)
    assert all(len(one["quarters"]) == 4 for one in values.values())


def test_duplicates():
    table = Duplicates(most=8, edited=4, entries=500).run()
    assert table.values["recall"]["mirrored"] == table.values["recall"]["64 pixels"] == 1
    assert table.values["precision"] > 0.9 and table.values["merged"] == 0


@pytest.mark.slow
def test_export():
    values = benchmark("export", "--runs", "1", "--to", "telegram-emoji", "whatsapp")["exporttime"]
    names = {
        f"{clip} {to}"
        for clip in ("drawn", "photographic")
        for to in ("telegram-emoji", "whatsapp")
    }
    assert set(values) == names
    assert all(one["processor_seconds"][0] > 0 for one in values.values())


@pytest.mark.slow
def test_memory_and_loading():
    values = benchmark("memory", "--presets", "nano", "--batch", "1")["memory"]["nano"]
    assert values["ours_to_theirs"] > 0
    options = ("--stickers", "20", "--steps", "4", "--train-steps", "1", "--workers", "0", "1")
    values = benchmark("loading", *options)["loading"]
    assert [row["workers"] for row in values["loading"]] == [0, 1]
