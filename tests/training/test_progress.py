from __future__ import annotations

import math
import os
import pty
import subprocess
import sys

import pytest
import torch

from rdtf.training.progress import (
    Progress,
    count_text,
    eta_text,
    log_line,
    memory_in_use,
)

VALUES = {
    "step": 1200,
    "steps": 60_000,
    "loss": 0.0421,
    "loss_by_family": {"generation": 0.051, "interpolation": 0.032, "prediction": 0.043},
    "loss_by_task": {"t2v": 0.05},
    "grad_norm": 0.5,
    "learning_rate": 1e-3,
    "task_weights": {"generation": 0.1},
    "quantile": 0.4,
    "clips": 76_800,
    "clips_per_second": 312.4,
    "padding_share": 0.04,
    "memory_bytes": 21.3e9,
    "eta_seconds": 12_000.0,
    "seconds": 250.0,
}


def test_the_line():
    assert log_line(VALUES) == (
        "step 1200/60000  76.8k clips  loss 0.0421 (gen .051 int .032 pred .043)  312 clips/s  "
        "mem 21.3 GB  ETA 3 h 20 min"
    )


@pytest.mark.parametrize("missing", VALUES)
def test_what_is_missing_is_left_out(missing):
    line = log_line({name: value for name, value in VALUES.items() if name != missing})
    assert line and "None" not in line and "   " not in line
    assert log_line({**VALUES, missing: None}) == line


def test_little_and_odd_values():
    assert log_line({}) == ""
    assert log_line({"step": 3}) == "step 3"
    line = log_line({"loss": float("nan"), "loss_by_family": {"prediction": 12.0}})
    assert line == "loss nan (pred 12.)"
    assert log_line({"loss": 2e-5}) == "loss 2.00e-05"
    assert log_line({"clips_per_second": 0.534}) == "0.53 clips/s"


@pytest.mark.parametrize(
    "seconds, text",
    [
        (0, "0 s"),
        (-3, "0 s"),
        (45.2, "45 s"),
        (59.6, "1 min"),
        (3570, "1 h"),
        (12_000, "3 h 20 min"),
        (2 * 86400 - 1, "2 d"),
        (200_000, "2 d 8 h"),
        (math.inf, "?"),
        (math.nan, "?"),
    ],
)
def test_eta(seconds, text):
    assert eta_text(seconds) == text


def test_counts_and_bytes():
    assert [count_text(n) for n in (950, 76_800, 1_234_567, 2e9)] == ["950", "76.8k", "1.23M", "2G"]
    assert count_text(999_999) == "1M"


def test_memory_of_this_process():
    before = memory_in_use(torch.device("cpu"))
    assert before > 50e6  # torch alone is more
    held = torch.ones(64_000_000)
    assert memory_in_use(torch.device("cpu")) >= max(before, held.nbytes)


def test_lines_where_stderr_is_no_terminal(capsys):
    with Progress(10, 40, lines=True) as progress:
        progress.update(11, float("nan"))
        progress.update(12, 0.5)
        progress.line({"loss": 0.5, "clips": 96})
    captured = capsys.readouterr()
    assert captured.err == "step 12/40  96 clips  loss 0.500\n" and not captured.out


@pytest.mark.parametrize("options", [{"lines": True, "quiet": True}, {"lines": False}])
def test_silence(options, capsys):
    with Progress(0, 4, **options) as progress:
        progress.update(1, 0.5)
        progress.line({"loss": 0.5})
    captured = capsys.readouterr()
    assert not captured.err and not captured.out


ON_TERMINAL = """
from rdtf.training.progress import Progress
with Progress(0, 4, quiet={quiet}, lines=True) as progress:
    for step in range(1, 5):
        progress.update(step, 0.25)
        progress.line({{"loss": 0.25, "clips": 8 * step}})
"""


@pytest.mark.parametrize("quiet", [False, True])
def test_a_bar_and_no_lines_on_a_terminal(quiet):
    master, slave = pty.openpty()
    code = ON_TERMINAL.format(quiet=quiet)
    subprocess.run([sys.executable, "-c", code], stderr=slave, check=True)
    os.close(slave)
    shown = b""
    try:
        while part := os.read(master, 4096):
            shown += part
    except OSError:  # Linux says so at the end
        pass
    os.close(master)
    assert (b"4/4" in shown and b"loss 0.2500" in shown) == (not quiet)
    assert b"clips" not in shown
