"""Checks of single arguments: a wrong one is a `UserError` that names it."""

from __future__ import annotations

import math
from numbers import Real
from pathlib import Path
from typing import Any, cast

import numpy as np

from rdtf.errors import CheckpointError, UserError


def whole(name: str, value: Any, least: int | None = None) -> int:
    """`value` as an int; whole numbers of any numeric type are taken."""
    number = _number(value)
    if number is None or not number.is_integer():
        raise UserError(f"{name} must be a whole number, got {_short(value)}")
    _within(name, number, least, None)
    return int(value)


def real(name: str, value: Any, least: float | None = None, most: float | None = None) -> float:
    """`value` as a finite float."""
    number = _number(value)
    if number is None:
        raise UserError(f"{name} must be a number, got {_short(value)}")
    _within(name, number, least, most)
    return number


def _number(value: Any) -> float | None:
    """A finite number of any numeric type; None if it is none."""
    if isinstance(value, bool) or not isinstance(value, (Real, np.number)):
        return None
    number = float(cast(Any, value))
    return number if math.isfinite(number) else None


def _within(name: str, number: float, least: float | None, most: float | None) -> None:
    if least is not None and number < least:
        raise UserError(f"{name} must be at least {least:g}, got {number:g}")
    if most is not None and number > most:
        raise UserError(f"{name} must be at most {most:g}, got {number:g}")


def text(name: str, value: Any) -> str:
    """`value` if it is a text; None is none."""
    if value is not None and not isinstance(value, str):
        raise UserError(f"{name} must be text, got {_short(value)}")
    return value or ""


def _short(value: Any) -> str:
    shown = repr(value)
    return shown if len(shown) <= 40 else f"{shown[:40]}… ({type(value).__name__})"


def check_model(path: Path) -> None:
    """Refuse a model that is not there; needs no torch.

    Raises:
        CheckpointError: neither a run directory nor a saved pipeline.
    """
    if any((path / name).is_file() for name in ("model_index.json", "config.json")):
        return
    what = "is neither a run directory nor a saved pipeline" if path.exists() else "does not exist"
    raise CheckpointError(
        f"model {path} {what}; make one with: rdtf train nano --data DATA --out RUN"
    )
