"""The whole interface against its own document, by schemathesis (`pip install schemathesis`)."""

from __future__ import annotations

import shutil
import subprocess

import pytest

from fixtures_service import running
from rdtf.app.errors import Limits

# What no schema can say: data URLs must hold pictures, fields must fit each other. Ids in
# bodies are fuzzed, also that of the video that was just created.
CONFIG = """
[[operations]]
include-method = "POST"
[operations.checks.positive_data_acceptance]
expected-statuses = ["2xx", "400", "404", "409", "413", "429"]
[operations.checks.ensure_resource_availability]
enabled = false
"""
PROGRAM = shutil.which("schemathesis")


@pytest.mark.slow
@pytest.mark.skipif(PROGRAM is None, reason="schemathesis is not installed")
def test_every_operation_keeps_to_the_document(make_core, tmp_path):
    (tmp_path / "schemathesis.toml").write_text(CONFIG)
    with running(make_core(Limits(max_waiting=1000))) as address:
        ran = subprocess.run(
            [str(PROGRAM), "run", f"{address}/openapi.json", "--seed", "1", "--no-color"],
            cwd=tmp_path,
            capture_output=True,
            text=True,
        )
    print(ran.stdout)
    assert ran.returncode == 0, ran.stderr
