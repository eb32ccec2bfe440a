from cli.conftest import rdtf
from fixtures_runs import pipeline, tiny_run, training_set
from fixtures_service import core, make_core

__all__ = ["core", "make_core", "pipeline", "rdtf", "tiny_run", "training_set"]
