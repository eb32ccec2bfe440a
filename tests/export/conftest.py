from __future__ import annotations

import json
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import pytest

from rdtf.cli.main import main


@dataclass(frozen=True)
class Ended:
    """How a command ended."""

    status: int
    out: str
    err: str

    @property
    def json(self) -> Any:
        assert self.out.count("\n") == 1
        return json.loads(self.out)


@pytest.fixture
def rdtf(capfd: pytest.CaptureFixture[str]) -> Callable[..., Ended]:
    """Run the program in this process: `rdtf("export", file, "--to", "telegram")`."""

    def run(*arguments: object) -> Ended:
        capfd.readouterr()
        with pytest.raises(SystemExit) as left:
            main([str(argument) for argument in arguments])
        out, err = capfd.readouterr()
        return Ended(int(left.value.code or 0), out, err)

    return run


@pytest.fixture
def refused(rdtf: Callable[..., Ended]) -> Callable[..., str]:
    """Run a command that must fail by the user's mistake; gives its one line on stderr."""

    def run(*arguments: object) -> str:
        ended = rdtf(*arguments)
        assert ended.status == 2 and not ended.out, ended
        lines = ended.err.splitlines()
        assert len(lines) == 1 and lines[0].startswith("rdtf: "), ended.err
        return lines[0].removeprefix("rdtf: ")

    return run
