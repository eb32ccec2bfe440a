from __future__ import annotations

import subprocess
import sys

import pytest

COMMANDS = (
    ("quickstart",),
    ("data",),
    ("data", "synth"),
    ("data", "animate"),
    ("data", "prepare"),
    ("data", "inspect"),
    ("data", "bundle"),
    ("train",),
    ("train", "nano"),
    ("train-autoencoder",),
    ("train-network",),
    ("join-parts",),
    ("generate",),
    ("interpolate",),
    ("predict",),
    ("fill",),
    ("evaluate",),
)


def test_help_names_every_command_and_imports_nothing_heavy():
    code = """
import sys
from rdtf.cli.main import main
try:
    main(["--help"])
finally:
    heavy = {"torch", "diffusers", "transformers", "numpy", "PIL", "scipy", "av"} & set(sys.modules)
    print("heavy:", sorted(heavy))
"""
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert "heavy: []" in done.stdout and not done.stderr
    for command in COMMANDS:
        assert command[0] in done.stdout


@pytest.mark.parametrize("command", COMMANDS, ids=" ".join)
def test_every_command_has_help(rdtf, command):
    ended = rdtf(*command, "--help")
    assert ended.status == 0 and not ended.err
    assert f"usage: rdtf {' '.join(command)}" in ended.out
    if command not in (("data",), ("train",)):
        assert "--json" in ended.out


def test_the_module_is_the_program():
    done = subprocess.run(
        [sys.executable, "-m", "rdtf.cli.main", "data", "inspect", "no/such/folder"],
        capture_output=True,
        text=True,
    )
    assert done.returncode == 2 and not done.stdout
    assert done.stderr.count("\n") == 1 and "no/such/folder holds no training set" in done.stderr


@pytest.mark.parametrize(
    "arguments",
    [(), ("dance",), ("train",), ("train", "nano"), ("generate", "a cat"), ("fill", "x.gif")],
    ids=" ".join,
)
def test_an_incomplete_command_is_refused(rdtf, arguments):
    ended = rdtf(*arguments)
    assert ended.status == 2 and ended.err and not ended.out


def test_options_that_do_not_parse_are_refused(rdtf, tmp_path):
    ended = rdtf("data", "synth", tmp_path / "x", "--count", "many")
    assert ended.status == 2 and "many" in ended.err and not (tmp_path / "x").exists()
