from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest

from fixtures_runs import pipeline, tiny_run, training_set
from fixtures_service import core, make_core

__all__ = ["core", "make_core", "pipeline", "tiny_run", "training_set"]


@pytest.fixture
def client_of() -> Callable[..., Any]:
    """A client that talks to a core's app directly; skips without the extra `studio`."""
    for name in ("fastapi", "prometheus_client", "httpx"):
        pytest.importorskip(name, reason="the extra studio is not installed")
    from starlette.testclient import TestClient

    from rdtf.app.api import create_app

    def make(core: Any, **options: Any) -> TestClient:
        return TestClient(create_app(core), **options)

    return make


@pytest.fixture
def client(core: Any, client_of: Any) -> Any:
    return client_of(core)
