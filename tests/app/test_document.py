"""REST: the OpenAPI document and docs/rest.md say what the interface does."""

from __future__ import annotations

import json
import re
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

from fixtures_service import (
    png,
    running,
    still,
)
from rdtf.stickers import decode_sticker


@pytest.mark.skipif(shutil.which("curl") is None, reason="curl is not installed")
def test_the_examples_of_the_page_work(core, tmp_path):
    """docs/rest.md: every block of shell or Python, word for word but for the port."""
    page = (Path(__file__).parents[2] / "docs" / "rest.md").read_text("utf-8")
    blocks = re.findall(r"```(sh|python)\n(.*?)```", page, re.DOTALL)
    assert {language for language, _ in blocks} == {"sh", "python"}
    for name, seed in (("a.png", 1), ("b.png", 2)):
        (tmp_path / name).write_bytes(png(still(64, seed)))
    with running(core) as address:
        for language, text in blocks:
            text = text.replace("http://127.0.0.1:7860", address)
            command = ["bash", "-eu"] if language == "sh" else [sys.executable]
            ran = subprocess.run(
                [*command, "-c", text], cwd=tmp_path, capture_output=True, text=True, timeout=30
            )
            assert ran.returncode == 0, ran.stdout + ran.stderr
    assert decode_sticker((tmp_path / "cat.webp").read_bytes()).num_frames == 8
    between = decode_sticker((tmp_path / "between.webp").read_bytes())
    assert between.num_frames == 8
    assert core.queue.list()
    assert all(job.state.value == "completed" for job in core.queue.list())


def test_the_openapi_document_names_every_field(client):
    document = client.get("/openapi.json").json()
    schemas = document["components"]["schemas"]
    body = document["paths"]["/v1/videos"]["post"]["requestBody"]["content"]
    assert set(body) == {"application/json", "multipart/form-data"}
    for reference in re.findall(r'"#/components/schemas/(\w+)"', json.dumps(document)):
        assert reference in schemas
    assert "input_reference" in schemas["CreateVideo"]["properties"]
    form = schemas["CreateVideoForm"]["properties"]
    assert set(form) == {*schemas["CreateVideo"]["properties"], "input_reference_frame"}
    assert '"null"' not in json.dumps(form)  # a form knows no null


def test_the_reference_page_names_all_of_it(client):
    """docs/rest.md: every route, every field, every status of every route."""
    page = (Path(__file__).parents[2] / "docs" / "rest.md").read_text("utf-8")
    document = client.get("/openapi.json").json()
    for path, methods in document["paths"].items():
        for method, operation in methods.items():
            assert f"{method.upper()} {path}" in page
            for status in operation["responses"]:
                assert status in page
    for name in ("CreateVideo", "Reference", "Video", "Extend"):
        for field in document["components"]["schemas"][name]["properties"]:
            assert f"`{field}`" in page, field
    assert set(re.findall(r"`(?:GET|POST|DELETE) (/\S+)`", page)) <= set(document["paths"])
