from __future__ import annotations

from cli.conftest import rdtf, refused

__all__ = ["rdtf", "refused"]
