from __future__ import annotations

from pathlib import Path

import pytest

from cli.conftest import rdtf, refused
from rdtf.research.comparison.clips import open_domains
from rdtf.research.comparison.experiment import Experiment, compare
from rdtf.research.comparison.fit import Watch
from rdtf.training.progress import StopSignals

from .micro import BUDGET, TWO

__all__ = ["rdtf", "refused"]


@pytest.fixture(scope="session")
def finished(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A finished comparison of two methods, at two points."""
    out = tmp_path_factory.mktemp("comparison") / "out"
    compare(BUDGET, out, methods=TWO, say=lambda line: None)
    return out


@pytest.fixture(scope="session")
def experiment(finished: Path) -> Experiment:
    """Everything that runs share, over the data and bases of `finished`."""
    domains = open_domains(finished / "data", BUDGET, None, None, lambda line: None)
    watch = Watch(StopSignals())
    return Experiment(finished, "synthetic", BUDGET, domains, watch, lambda line: None)
