"""The program itself: its version, and mistyped commands."""

from __future__ import annotations

import subprocess
import sys

import pytest

from rdtf.cli.main import main


def test_the_version_is_told(capsys):
    with pytest.raises(SystemExit) as left:
        main(["--version"])
    assert left.value.code == 0
    assert capsys.readouterr().out.startswith("rdtf ")


@pytest.mark.parametrize(
    ("words", "meant"), [(["generat"], "generate"), (["data", "prepar"], "prepare")]
)
def test_a_mistyped_command_is_answered_by_the_one_that_was_meant(words, meant, capsys):
    with pytest.raises(SystemExit) as left:
        main(words)
    assert left.value.code == 2
    said = capsys.readouterr().err
    assert f"did you mean {meant}?" in said
    assert said.count("\n") == 1


def test_a_reader_that_leaves_early_is_no_mistake():
    """`rdtf train nano --help | head -1`."""
    command = [sys.executable, "-m", "rdtf.cli.main", "train", "nano", "--help"]
    with subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.PIPE) as program:
        assert program.stdout is not None and program.stderr is not None
        program.stdout.close()
        assert program.stderr.read() == b""
