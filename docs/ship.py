"""Put a run's model into the package, as the one that ships: `python docs/ship.py RUN`.

Weights in 16 bits, halves of what training keeps; the averaged ones that the run shows. `--shift`
sets the noise scheduler's shift for sampling.
"""

from __future__ import annotations

import argparse
import shutil
from pathlib import Path

import torch

from rdtf.fileio import atomic_folder, read_json, write_json
from rdtf.sampling.pipeline import SHIPPED_MODEL
from rdtf.training.run import load_pipeline

LARGEST_BYTES = 60 * 1000 * 1000


def ship(run: Path, target: Path = SHIPPED_MODEL, shift: float | None = None) -> int:
    """Save the pipeline of `run` to `target`, which is replaced; returns its size in bytes."""
    pipeline = load_pipeline(run).to("cpu")
    if shift is not None:
        kind = type(pipeline.scheduler)
        pipeline.scheduler = kind.from_config(pipeline.scheduler.config, shift=shift)
    pipeline.denoiser.to(torch.float16)
    about = target / "README.md"
    with atomic_folder(target) as folder:
        pipeline.save_pretrained(folder, safe_serialization=True)
        _forget_origin(folder)
        if about.is_file():
            shutil.copy(about, folder / "README.md")
    size = sum(file.stat().st_size for file in target.rglob("*") if file.is_file())
    if size > LARGEST_BYTES:
        raise SystemExit(
            f"{target} holds {size / 1e6:.0f} MB; at most {LARGEST_BYTES / 1e6:.0f} ship"
        )
    return size


def _forget_origin(folder: Path) -> None:
    """Remove where each part was loaded from: it means nothing elsewhere."""
    for path in folder.glob("*/config.json"):
        values = read_json(path, "model config")
        assert isinstance(values, dict)
        values.pop("_name_or_path", None)
        write_json(path, values)


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("run", type=Path)
    parser.add_argument("--shift", type=float)
    arguments = parser.parse_args()
    size = ship(arguments.run, shift=arguments.shift)
    print(f"{SHIPPED_MODEL}: {size / 1e6:.1f} MB")
