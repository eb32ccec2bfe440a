"""The program itself: its version, and mistyped commands."""

from __future__ import annotations

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
