"""Settings and fixtures for all tests."""

from __future__ import annotations

import os
from pathlib import Path

# Before anything imports torch: threads that spin, or one set of threads for each test worker,
# make the tests slower and not faster.
os.environ.setdefault("OMP_WAIT_POLICY", "PASSIVE")
if "PYTEST_XDIST_WORKER" in os.environ:
    os.environ.setdefault("OMP_NUM_THREADS", "1")

import pytest
from hypothesis import settings

# A busy machine is slow now and then; that is no failure.
settings.register_profile("rdtf", deadline=None, max_examples=60)
settings.load_profile("rdtf")


@pytest.fixture(scope="session")
def real_stickers() -> Path:
    """A folder of real stickers beside the repository; tests that need it are skipped without."""
    folder = Path(__file__).resolve().parents[2] / "shared" / "data" / "stickers"
    if not folder.is_dir():
        pytest.skip("no real stickers beside the repository")
    return folder
