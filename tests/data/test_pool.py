from __future__ import annotations

import os
import signal
import subprocess
import sys

import pytest

from rdtf.data import pool
from rdtf.data.pool import ordered_map, track
from rdtf.errors import UserError


def square(number: int) -> int:
    return number * number


def die_at_five(number: int) -> int:
    if number == 5:
        os._exit(3)  # as a native decoder does that is fed the wrong file
    return number


def is_torch_loaded(_: int) -> tuple[bool, str]:
    import rdtf.data.dataset  # noqa: F401

    return "torch" in sys.modules, os.environ["OMP_NUM_THREADS"]


def never(number: int, _: str = "") -> int:
    raise AssertionError(f"{number} did not crash")


@pytest.mark.parametrize("workers", [0, 2])
def test_results_come_in_order(workers):
    results = ordered_map(square, range(50), workers=workers, failed=never)
    assert list(results) == [number * number for number in range(50)]


def test_only_the_item_that_crashes_is_lost():
    results = ordered_map(die_at_five, range(20), workers=2, failed=lambda n, _: -n)
    assert list(results) == [0, 1, 2, 3, 4, -5, *range(6, 20)]


def take(what: str) -> str:
    if what == "time":
        while True:
            pass
    if what == "crash":
        os.kill(os.getpid(), signal.SIGSEGV)
    try:
        bytearray(3 * 2**30 if what == "memory" else 1)
    except MemoryError:
        return "memory error"
    return what


def test_a_hang_a_crash_and_a_memory_hog_cost_one_item_each():
    items = ["a", "time", "b", "crash", "c", "memory", "d"]
    results = ordered_map(
        take,
        items,
        workers=2,
        failed=lambda item, kind: f"{item} failed: {kind}",
        seconds=1.0,
        memory_bytes=2 * 2**30,
    )
    made = ["a", "time failed: time", "b", "crash failed: crash", "c", "memory error", "d"]
    assert list(results) == made


def test_workers_do_without_torch_and_extra_threads():
    results = ordered_map(is_torch_loaded, range(1), workers=1, failed=lambda *_: (True, ""))
    assert list(results) == [(False, "1")]


def test_an_error_in_the_function_reaches_the_caller():
    with pytest.raises(AssertionError, match="1 did not crash"):
        list(ordered_map(never, [1], workers=1, failed=never))


def test_a_script_without_a_main_guard_is_told_so(tmp_path):
    lines = [
        "from rdtf.data.pool import ordered_map",
        "from rdtf.errors import UserError",
        "try:",
        "    list(ordered_map(abs, [1], workers=1, failed=abs))",
        "except UserError as error:",
        "    print(error)",
    ]
    (tmp_path / "script.py").write_text("\n".join(lines))
    command = [sys.executable, "script.py"]
    path = {"PYTHONPATH": os.pathsep.join(sys.path)}
    done = subprocess.run(command, cwd=tmp_path, env=os.environ | path, capture_output=True)
    assert b"if __name__ == '__main__'" in done.stdout


def test_negative_workers_are_refused():
    with pytest.raises(UserError, match="workers is -1"):
        list(ordered_map(square, [1], workers=-1, failed=never))


def test_a_log_gets_a_line_now_and_then(monkeypatch, capsys):
    monkeypatch.setattr(pool, "_LOG_SECONDS", 0.0)
    assert list(track(range(3), "preparing", 5, done=2)) == [0, 1, 2]
    lines = capsys.readouterr().err.splitlines()
    assert len(lines) == 3 and lines[0].startswith("preparing: 3 of 5, ")
    assert lines[0].endswith(" min left")
    monkeypatch.setattr(pool, "_LOG_SECONDS", 60.0)
    assert list(track(range(3), "preparing", 3)) == [0, 1, 2] and not capsys.readouterr().err


def test_a_bar_tells_the_rate(capsys):
    assert list(track(range(3), "preparing", 3, show=True)) == [0, 1, 2]
    assert "3/3" in (shown := capsys.readouterr().err) and "/s" in shown
