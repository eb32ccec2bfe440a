"""A real server on the loopback interface: many clients, clients that go away, the command."""

from __future__ import annotations

import contextlib
import os
import re
import signal
import socket
import subprocess
import sys
import time
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import numpy as np
import psutil
import pytest

from fixtures_service import direct, given_request, png, running, spec, still
from rdtf.app.core import bind
from rdtf.app.errors import Limits
from rdtf.stickers import decode_sticker

pytest.importorskip("fastapi", reason="the extra studio is not installed")
httpx = pytest.importorskip("httpx", reason="the extra dev is not installed")


@pytest.fixture
def address(core):
    with running(core) as address:
        yield address


def made(client, core, **request) -> bytes:
    """Create, wait, fetch: as a client does it."""
    answer = client.post("/v1/videos", **request)
    assert answer.status_code == 200, answer.text
    path = f"/v1/videos/{answer.json()['id']}"
    core.queue.wait(core.queue.get(answer.json()["id"]), timeout_s=300)
    video = client.get(path).json()
    assert video["status"] == "completed", video
    return client.get(f"{path}/content").content


def test_twenty_clients_at_once_each_get_their_own(core, address, pipeline):
    """Each sends a picture and a seed of its own and must get exactly that sticker."""

    def visit(seed: int) -> np.ndarray:
        with httpx.Client(base_url=address, timeout=300) as client:
            files = {"input_reference": ("given.png", png(still(pipeline.canvas, seed)))}
            fields = {"prompt": "a cat", "steps": "2", "seed": str(seed), "frames": "4"}
            return decode_sticker(made(client, core, data=fields, files=files)).frames

    with ThreadPoolExecutor(20) as pool:
        results = list(pool.map(visit, range(20)))
    for seed, frames in enumerate(results):
        wanted = spec(pipeline, request=given_request(pipeline, seed), seeds=(seed,))
        np.testing.assert_array_equal(frames, direct(pipeline, wanted)[0].frames)
    assert core.queue.num_kept == 20


def test_a_client_that_goes_away_half_way_leaves_nothing(core, address):
    host, port = address.removeprefix("http://").split(":")
    head = (
        "POST /v1/videos HTTP/1.1\r\nHost: localhost\r\n"
        "Content-Type: multipart/form-data; boundary=b\r\n"
        "Content-Length: 100000\r\n\r\n--b\r\nContent-Disposition: form-data; "
        'name="input_reference"; filename="a.png"\r\n\r\n'
    )
    for _ in range(3):
        with socket.create_connection((host, int(port))) as connection:
            connection.sendall(head.encode() + b"x" * 5000)
    with httpx.Client(base_url=address, timeout=300) as client:
        made(client, core, json={"prompt": "a", "steps": 1})
        assert len(client.get("/v1/videos").json()["data"]) == 1
    assert [p.name for p in (core.store.work / "tmp").iterdir()] == []


def test_a_client_that_does_not_wait_finds_its_video_later(core, address):
    with httpx.Client(base_url=address) as client:
        video = client.post("/v1/videos", json={"prompt": "a", "steps": 2}).json()
    core.queue.wait(core.queue.get(video["id"]), timeout_s=300)
    with httpx.Client(base_url=address) as client:
        assert client.get(f"/v1/videos/{video['id']}").json()["status"] == "completed"


def test_a_body_that_is_too_large_is_told_before_it_is_sent(make_core):
    with running(make_core(Limits(max_body_bytes=1000))) as address:
        answer = httpx.post(f"{address}/v1/videos", content=b"x" * 5_000_000)
        assert answer.status_code == 413


def test_a_key_is_asked_for_before_the_body_is_read(make_core):
    """Only the head and the beginning of a large form are sent; the answer comes all the same."""
    with running(make_core(keys=("a-key-of-mine-0001",))) as address:
        host, port = address.removeprefix("http://").split(":")
        head = (
            "POST /v1/videos HTTP/1.1\r\nHost: localhost\r\nContent-Length: 10000000\r\n"
            "Content-Type: multipart/form-data; boundary=b\r\n\r\n--b\r\n"
        )
        with socket.create_connection((host, int(port)), timeout=20) as connection:
            connection.sendall(head.encode())
            assert connection.recv(100).startswith(b"HTTP/1.1 401")


# ------------------------------------------------------------------------------ minutes


@pytest.mark.slow
def test_memory_is_flat_over_500_requests(make_core):
    """Resident memory after 500 requests against that after the first 100."""
    core = make_core(Limits(max_kept=50))
    process, sizes = psutil.Process(), {}
    with running(core) as address, httpx.Client(base_url=address, timeout=300) as client:
        for number in range(1, 501):
            made(client, core, json={"prompt": f"cat {number}", "steps": 1, "frames": 2})
            if number % 100 == 0:
                sizes[number] = process.memory_info().rss
    print({number: f"{size / 1e6:.1f} MB" for number, size in sizes.items()})
    assert sizes[500] <= sizes[100] * 1.05, sizes
    assert core.queue.num_kept <= 51


@contextlib.contextmanager
def command(tiny_run, tmp_path, *options: str):
    """Process and client of `rdtf studio` with a home, working and temporary folder of its own."""
    folders = {name: tmp_path / name for name in ("home", "state", "tmp", "cwd")}
    for folder in folders.values():
        folder.mkdir(exist_ok=True)
    source = str(Path(__file__).parents[2] / "src")
    environment = {
        **os.environ,
        "HOME": str(folders["home"]),
        "XDG_STATE_HOME": str(folders["state"]),
        "TMPDIR": str(folders["tmp"]),
        "PYTHONPATH": os.pathsep.join([source, os.environ.get("PYTHONPATH", "")]),
        "PYTHONDONTWRITEBYTECODE": "1",
    }
    arguments = [sys.executable, "-m", "rdtf.cli.main", "studio", "--model", str(tiny_run)]
    process = subprocess.Popen(
        [*arguments, "--port", "0", *options],
        cwd=folders["cwd"],
        env=environment,
        stderr=subprocess.PIPE,
        text=True,
    )
    try:
        assert process.stderr is not None
        line = process.stderr.readline()  # it says so when it answers
        address = re.search(r"http://127\.0\.0\.1:\d+", line)
        assert address, line + process.stderr.read()
        with httpx.Client(base_url=address[0], timeout=300) as client:
            while client.get("/readyz").status_code != 200:
                time.sleep(0.1)  # polling, as a load balancer does
            yield process, client
    finally:
        process.kill()
        process.wait()


def until(client, video, status: str) -> dict:
    """Ask until the video has `status`, or has ended otherwise."""
    while True:
        shown = client.get(f"/v1/videos/{video['id']}").json()
        if shown["status"] in (status, "completed", "failed"):
            assert shown["status"] == status, shown
            return shown
        time.sleep(0.05)  # polling, as a client does


def files_in(*folders: Path) -> list[Path]:
    return [path for folder in folders for path in folder.rglob("*") if path.is_file()]


@pytest.mark.slow
def test_the_command_serves_and_writes_only_into_its_work_folder(tiny_run, tmp_path):
    work = tmp_path / "work"
    with command(tiny_run, tmp_path, "--work", str(work)) as (process, client):
        assert "rdtf studio" in client.get("/").text
        files = {"input_reference": ("../../../evil.png", png(still(32, 1)))}
        video = client.post("/v1/videos", data={"steps": "2"}, files=files).json()
        until(client, video, "completed")
        assert client.get(f"/v1/videos/{video['id']}/content").content.startswith(b"RIFF")
        process.send_signal(signal.SIGTERM)
        assert process.wait(60) == 0
    assert files_in(*(tmp_path / name for name in ("home", "state", "tmp", "cwd"))) == []
    names = {path.name for path in files_in(work)}
    assert names == {"rdtf-studio.lock", "jobs.sqlite", "clip-0.webp"}


@pytest.mark.slow
def test_jobs_survive_a_killed_server(tiny_run, tmp_path):
    """SIGKILL: finished ones stay, the one that ran is interrupted, the one that waited is made."""
    options = ("--no-page", "--max-steps", "1000000")
    with command(tiny_run, tmp_path, *options) as (process, client):
        given = still(32, 3)
        files = {"input_reference": ("a.png", png(given))}
        fields = {"steps": "1", "frames": "3", "size": "canvas"}
        finished = client.post("/v1/videos", data=fields, files=files).json()
        until(client, finished, "completed")
        before = client.get(f"/v1/videos/{finished['id']}/content").content
        endless = {"prompt": "a", "steps": 1_000_000}
        running = client.post("/v1/videos", json=endless).json()
        until(client, running, "in_progress")
        waiting = client.post("/v1/videos", data=fields, files=files).json()
        process.kill()
    assert list((tmp_path / "tmp").iterdir()) == []
    assert files_in(tmp_path / "home", tmp_path / "cwd") == []
    with command(tiny_run, tmp_path, *options) as (_, client):
        assert client.get(f"/v1/videos/{finished['id']}/content").content == before
        assert until(client, running, "failed")["error"]["code"] == "interrupted"
        until(client, waiting, "completed")
        clip = decode_sticker(client.get(f"/v1/videos/{waiting['id']}/content").content)
        np.testing.assert_array_equal(clip.frames[0], given.frames[0])


def test_the_port_may_be_taken(tmp_path):
    from rdtf.errors import UserError

    with bind("127.0.0.1", 0) as listener:
        listener.listen()
        with pytest.raises(UserError, match="in use"):
            bind("127.0.0.1", listener.getsockname()[1])
