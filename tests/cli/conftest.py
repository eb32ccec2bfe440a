from __future__ import annotations

import json
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest

from fixtures_runs import pipeline, tiny_run, training_set
from rdtf.cli.main import main

__all__ = ["pipeline", "tiny_run", "training_set"]


@dataclass(frozen=True)
class Ended:
    """How a command ended."""

    status: int
    out: str
    err: str

    @property
    def json(self) -> Any:
        """What `--json` printed: one line, and nothing else."""
        assert self.out.count("\n") == 1
        return json.loads(self.out)


Rdtf = Callable[..., Ended]


@pytest.fixture
def rdtf(capfd: pytest.CaptureFixture[str]) -> Rdtf:
    """Run the program in this process: `rdtf("train", "nano", "--data", folder)`."""

    def run(*arguments: object) -> Ended:
        capfd.readouterr()
        with pytest.raises(SystemExit) as left:
            main([str(argument) for argument in arguments])
        out, err = capfd.readouterr()
        return Ended(int(left.value.code or 0), out, err)

    return run


@pytest.fixture
def refused(rdtf: Rdtf) -> Callable[..., str]:
    """Run a command that must fail by the user's mistake; gives its one line on stderr."""

    def run(*arguments: object) -> str:
        ended = rdtf(*arguments)
        assert ended.status == 2, ended
        assert not ended.out
        lines = ended.err.splitlines()
        assert len(lines) == 1 and lines[0].startswith("rdtf: "), ended.err
        return lines[0].removeprefix("rdtf: ")

    return run


def content(folder: Path) -> dict[str, bytes | None]:
    """Everything below a folder, to see that nothing has changed."""
    return {
        str(path.relative_to(folder)): path.read_bytes() if path.is_file() else None
        for path in sorted(folder.rglob("*"))
    }
