"""REST: jobs, refusals, keys and health, over the app itself."""

from __future__ import annotations

from dataclasses import replace

import pytest

from fixtures_service import (
    ENDLESS,
    ENDLESS_LIMITS,
    done,
    moving_disc,
    png,
    running,
    still,
    wait_for_steps,
)
from rdtf.app.errors import Limits
from rdtf.stickers import encode_sticker
from sampling.moving import whole_pipeline

from .rest import CLIP, SMALL, data_url, finished, make

httpx = pytest.importorskip("httpx", reason="the extra dev is not installed")

KEYS = ("a-key-of-mine-0001", "a-key-of-yours-0002")


# ------------------------------------------------------------------------------ jobs


def test_lists_are_paged(core, client):
    ids = [make(core, client, {"prompt": "a", "steps": 1})["id"] for _ in range(3)]
    page = client.get("/v1/videos", params={"limit": 2}).json()
    assert [video["id"] for video in page["data"]] == ids[:0:-1]
    assert (page["first_id"], page["last_id"], page["has_more"]) == (ids[2], ids[1], True)
    page = client.get("/v1/videos", params={"after": ids[1]}).json()
    assert [video["id"] for video in page["data"]] == ids[:1]
    page = client.get("/v1/videos", params={"order": "asc"}).json()
    assert [video["id"] for video in page["data"]] == ids
    assert client.get("/v1/videos", params={"limit": 0}).status_code == 400


@pytest.mark.parametrize(
    ("query", "status", "param"),
    [
        ("after=zz", 404, "after"),
        ("after=", 404, "after"),
        ("limit=x", 400, "limit"),
        ("order=foo", 400, "order"),
    ],
)
def test_a_list_refuses_what_it_does_not_know(core, client, query, status, param):
    """Not an empty list: a client that pages would take that for the end."""
    answer = client.get(f"/v1/videos?{query}")
    assert (answer.status_code, answer.json()["error"]["param"]) == (status, param)


@pytest.mark.parametrize(
    "body",
    [
        {"content": "prompt=a"},
        {"content": '{"prompt": "a"}', "headers": {"content-type": "text/plain"}},
        {"content": "<a/>", "headers": {"content-type": "application/xml"}},
        {"content": ""},
    ],
    ids=["none", "text", "xml", "empty"],
)
def test_other_bodies_are_told_what_is_accepted(core, client, body):
    def message(path, **sent):
        answer = client.post(path, **sent)
        assert answer.status_code == 400
        return answer.json()["error"]["message"]

    first = message("/v1/videos", **body)
    kinds = ("application/json", "multipart/form-data", "application/x-www-form-urlencoded")
    assert all(kind in first for kind in kinds)
    video = make(core, client, {"prompt": "a", "steps": 1})
    for path in (f"/v1/videos/{video['id']}/remix", "/v1/videos/extensions"):
        for sent in (body, {"data": {"prompt": "a"}}):
            refused = message(path, **sent)
            assert "application/json" in refused
            assert "form" not in refused.replace("sent as", "")


def test_forms_without_files_are_taken_and_files_belong_into_the_other(core, client):
    form = {"prompt": "a cat", "steps": "1", "frames": "2"}
    video = client.post("/v1/videos", data=form).json()
    assert finished(core, client, video)["status"] == "completed"
    answer = client.post("/v1/videos", data={**form, "input_reference": SMALL})
    assert answer.status_code == 400
    assert "multipart/form-data" in answer.json()["error"]["message"]


def test_deleting(core, client):
    video = make(core, client, {"prompt": "a", "steps": 1})
    answer = client.delete(f"/v1/videos/{video['id']}")
    assert answer.json() == {"id": video["id"], "object": "video.deleted", "deleted": True}
    for path in ("", "/content"):
        assert client.get(f"/v1/videos/{video['id']}{path}").status_code == 404
    assert not list((core.store.work / "jobs").rglob("*.webp"))


def test_a_job_on_its_way(make_core, client_of):
    core = make_core(replace(ENDLESS_LIMITS, max_waiting=1))
    client = client_of(core)
    body = {"prompt": "a", "steps": ENDLESS}
    first = client.post("/v1/videos", json=body).json()
    wait_for_steps(core, core.queue.get(first["id"]))
    waiting = client.post("/v1/videos", json=body).json()
    assert (waiting["status"], waiting["queue_position"]) == ("queued", 1)
    assert client.get(f"/v1/videos/{first['id']}").json()["status"] == "in_progress"
    assert client.get(f"/v1/videos/{first['id']}/content").status_code == 409
    full = client.post("/v1/videos", json=body)
    assert (full.status_code, full.json()["error"]["code"]) == (429, "queue_full")
    assert int(full.headers["retry-after"]) >= 1
    assert "rdtf_jobs_waiting 1.0" in client.get("/metrics").text
    for video in (waiting, first):
        assert client.delete(f"/v1/videos/{video['id']}").status_code == 200
    again = client.post("/v1/videos", json={"prompt": "a", "steps": 1}).json()
    assert finished(core, client, again)["status"] == "completed"


def test_deleting_a_long_prediction_ends_it_between_its_windows(make_core, client_of):
    whole = whole_pipeline(max_frames=4, predicts=True)
    core = make_core(source=lambda: whole)
    client = client_of(core)
    body = {"task": "predict", "after": 476, "size": "canvas", "input_reference": CLIP}
    video = client.post("/v1/videos", json=body).json()
    job = core.queue.get(video["id"])
    wait_for_steps(core, job)
    assert client.delete(f"/v1/videos/{video['id']}").status_code == 200
    assert done(core, job).state.value == "cancelled"
    assert 0 < job.steps_done < job.steps_total


# ------------------------------------------------------------------------------ bad input


@pytest.mark.parametrize(
    ("body", "param"),
    [
        ({}, None),
        ({"prompt": ""}, None),
        ({"prompt": "x" * 2**20}, "prompt"),
        ({"prompt": 5}, "prompt"),
        ({"prompt": "a", "bogus": 1}, "bogus"),
        ({"prompt": "a", "model": "sora-2"}, "model"),
        ({"prompt": "a", "seconds": "nan"}, "seconds"),
        ({"prompt": "a", "seconds": -1}, "seconds"),
        ({"prompt": "a", "seconds": 599}, "frames"),
        ({"prompt": "a", "frames": 10**9}, "frames"),
        ({"input_reference": {"image_url": SMALL, "frame": 10**9}}, "frames"),
        ({"task": "interpolate", "factor": 10**6, "input_reference": CLIP}, "frames"),
        ({"task": "predict", "after": 10**9, "input_reference": CLIP}, "frames"),
        ({"task": "fill", "known": [10**9], "input_reference": CLIP}, "frames"),
        ({"task": "predict", "after": 0, "input_reference": CLIP}, None),
        ({"prompt": "a", "frames": 8, "seconds": 1, "frame_ms": 100}, "seconds"),
        ({"prompt": "a", "steps": 101}, "steps"),
        ({"prompt": "a", "steps": 0}, "steps"),
        ({"prompt": "a", "guidance": 31}, "guidance"),
        ({"prompt": "a", "image_guidance": "nan"}, "image_guidance"),
        ({"prompt": "a", "seed": -1}, "seed"),
        ({"prompt": "a", "seed": 2**70}, "seed"),
        ({"prompt": "a", "size": "1x99999"}, "size"),
        ({"prompt": "a", "size": "huge"}, "size"),
        ({"prompt": "a", "platform": "myspace"}, "platform"),
        ({"prompt": "a", "platform": "gif", "format": "gif"}, "format"),
        ({"prompt": "a", "task": "dance"}, "task"),
        ({"task": "interpolate"}, "input_reference"),
        ({"task": "fill", "known": []}, "input_reference"),
        ({"input_reference": "http://169.254.169.254/"}, "input_reference"),
        ({"input_reference": "file:///etc/passwd"}, "input_reference"),
        ({"input_reference": {}}, "input_reference"),
        ({"input_reference": ["data:image/png;base64,AAAA"] * 65}, "input_reference"),
        ({"input_reference": {"video_id": "../../etc"}}, "video_id"),
        ({"input_reference": "data:text/html;base64,PGh0bWw+"}, "input_reference"),
    ],
)
def test_what_is_wrong_is_said_in_one_line(core, client, body, param):
    answer = client.post("/v1/videos", json=body)
    error = answer.json()["error"]
    assert answer.status_code == (404 if param == "video_id" else 400), answer.text
    assert (error["param"], error["type"]) == (param, "invalid_request_error")
    assert len(error["message"]) < 400
    assert "\n" not in error["message"]
    assert core.queue.num_kept == 0


@pytest.mark.parametrize(("body", "words"), [(b"[1]", "a JSON object"), (b"{bad", "no valid JSON")])
def test_a_body_that_is_no_object_is_told_as_what_it_is(client, body, words):
    answer = client.post("/v1/videos", content=body, headers={"content-type": "application/json"})
    assert answer.status_code == 400 and words in answer.json()["error"]["message"]


def test_a_clip_with_nothing_to_make_is_refused(client):
    url = data_url(encode_sticker(moving_disc(24, 3), ".gif"))
    body = {"task": "fill", "known": [0, 1, 2], "input_reference": url}
    assert client.post("/v1/videos", json=body).json()["error"]["param"] == "frames"
    body = {"task": "fill", "known": [7], "input_reference": url}
    assert "frame 7" in client.post("/v1/videos", json=body).json()["error"]["message"]


@pytest.mark.parametrize(
    "sent",
    [
        {"content": b"{", "headers": {"content-type": "application/json"}},
        {"content": b"[" * 100_000, "headers": {"content-type": "application/json"}},
        {"content": b"\xff\xfe", "headers": {"content-type": "application/json"}},
        {"content": b"x", "headers": {"content-type": "text/plain"}},
        {"content": b"x", "headers": {"content-type": "multipart/form-data"}},
        {"content": b"x", "headers": {"content-type": "multipart/form-data; boundary=b"}},
        {"data": {"prompt": "a", "bogus": "1"}},
        {"data": {"prompt": "a"}, "files": {"other": ("a.png", b"x")}},
        {"data": {"prompt": "a"}, "files": {"input_reference": ("a.png", b"no picture")}},
        {"data": {"input_reference_frame": "1"}, "files": []},
        {"data": {"input_reference_frame": "x"}, "files": {"input_reference": ("a", b"x")}},
    ],
)
def test_bodies_that_are_no_request(core, client, sent):
    answer = client.post("/v1/videos", **sent)
    assert answer.status_code == 400, answer.text
    assert answer.json()["error"]["message"]
    assert core.queue.num_kept == 0


def test_names_of_files_never_become_paths(core, client, pipeline):
    picture = png(still(pipeline.canvas, 1))
    for name in ("../../../evil.png", "/etc/evil.png", "a\0b.png", "..\\evil.png", "x" * 4000):
        files = {"input_reference": (name, picture)}
        answer = client.post("/v1/videos", data={"steps": "1"}, files=files)
        assert answer.status_code == 200, answer.text
        finished(core, client, answer.json())
    names = {path.name for path in core.store.work.rglob("*") if path.is_file()}
    assert names == {"rdtf-studio.lock", "jobs.sqlite", "clip-0.webp"}
    for path in ("/v1/videos/..%2f..%2fetc%2fpasswd/content", "/v1/videos/%00/content"):
        assert client.get(path).status_code == 404


def test_bodies_that_are_too_large(make_core, client_of):
    client = client_of(make_core(Limits(max_body_bytes=10_000)))
    stated = client.post("/v1/videos", json={"prompt": "x" * 20_000})
    streamed = client.post(
        "/v1/videos",
        content=iter([b"x" * 5_000] * 4),
        headers={"content-type": "application/json"},
    )
    for answer in (stated, streamed):
        error = answer.json()["error"]
        assert (answer.status_code, error["code"]) == (413, "too_large")


def test_the_pages_of_other_sites_cannot_start_jobs(client):
    for headers in (
        {"origin": "http://evil.example"},
        {"origin": "null"},
        {"sec-fetch-site": "cross-site", "origin": "http://testserver"},
    ):
        answer = client.post("/v1/videos", json={"prompt": "a"}, headers=headers)
        assert (answer.status_code, answer.json()["error"]["code"]) == (403, "foreign_origin")
    own = {"origin": "http://testserver"}
    assert client.post("/v1/videos", json={"prompt": "a", "steps": 1}, headers=own).is_success


def test_names_of_others_are_refused_on_the_loopback_interface(core):
    """DNS rebinding: a page's own name may come to point to this machine."""
    with running(core) as address:
        port = address.rpartition(":")[2]
        for host in ("evil.example", f"evil.example:{port}", "127.0.0.1.evil.example", ""):
            answer = httpx.get(f"{address}/v1/videos", headers={"host": host})
            assert (answer.status_code, answer.json()["error"]["code"]) == (403, "foreign_host")
        for host in ("localhost", f"localhost:{port}", f"127.0.0.1:{port}", f"[::1]:{port}"):
            assert httpx.get(f"{address}/v1/videos", headers={"host": host}).status_code == 200


@pytest.mark.parametrize(
    ("method", "path", "status", "allowed"),
    [
        ("PUT", "/v1/videos", 405, "GET, POST"),
        ("TRACE", "/v1/videos/video_1", 405, "DELETE, GET"),
        ("GET", "/v1/videos/video_1/remix", 405, "POST"),
        ("PATCH", "/v1/videos/extensions", 405, "POST"),
        ("POST", "/readyz", 405, "GET"),
        ("GET", "/v1/nothing", 404, None),
        ("GET", "/v1/videos/", 404, None),
    ],
)
def test_other_methods_and_paths(client, method, path, status, allowed):
    answer = client.request(method, path)
    assert answer.status_code == status
    assert answer.headers.get("allow") == allowed
    assert set(answer.json()["error"]) == {"message", "type", "param", "code"}


def test_a_mistake_of_ours_has_the_documented_shape(make_core, client_of, tmp_path):
    core = make_core()
    client = client_of(core, raise_server_exceptions=False)
    core.queue.list = lambda owner: 1 // 0
    answer = client.get("/v1/videos")
    assert (answer.status_code, answer.json()["error"]["code"]) == (500, "internal")


def test_one_client_cannot_fill_the_queue(make_core, client_of):
    core = make_core(replace(ENDLESS_LIMITS, max_waiting=4))
    mine = client_of(core, client=("192.0.2.1", 1))
    yours = client_of(core, client=("192.0.2.2", 1))
    body = {"prompt": "a", "steps": ENDLESS}
    first = mine.post("/v1/videos", json=body).json()
    wait_for_steps(core, core.queue.get(first["id"]))
    answers = [mine.post("/v1/videos", json=body) for _ in range(4)]
    assert [answer.status_code for answer in answers] == [200, 200, 200, 429]
    assert "your own" in answers[-1].json()["error"]["message"]
    assert yours.post("/v1/videos", json=body).json()["queue_position"] == 1
    for job in core.queue.list():
        core.queue.delete(job)


# ------------------------------------------------------------------------------ keys, health


def test_wrong_keys_are_slowed(make_core, client_of):
    core = make_core(keys=KEYS)
    thief, mine = client_of(core, client=("192.0.2.1", 1)), client_of(core)
    statuses = []
    for number in range(12):
        headers = {"authorization": f"Bearer wrong-{number}"}
        answer = thief.get("/v1/videos", headers=headers)
        statuses.append(answer.status_code)
    assert statuses == [401] * 10 + [429] * 2
    assert answer.json()["error"]["code"] == "too_many_attempts"
    assert 1 <= int(answer.headers["retry-after"]) <= 5
    right = {"authorization": f"Bearer {KEYS[0]}"}
    assert thief.get("/v1/videos", headers=right).status_code == 429
    assert mine.get("/v1/videos", headers=right).status_code == 200


def test_keys(make_core, client_of):
    core = make_core(keys=KEYS)
    client = client_of(core)
    mine, yours = ({"authorization": f"Bearer {key}"} for key in KEYS)
    for headers in ({}, {"authorization": "Bearer wrong"}, {"authorization": KEYS[0]}):
        for method, path in (("GET", "/v1/videos"), ("POST", "/v1/videos"), ("GET", "/metrics")):
            answer = client.request(method, path, headers=headers)
            assert (answer.status_code, answer.json()["error"]["code"]) == (401, "invalid_api_key")
            assert answer.headers["www-authenticate"] == "Bearer"
    assert client.get("/healthz").status_code == client.get("/readyz").status_code == 200
    video = client.post("/v1/videos", json={"prompt": "a", "steps": 1}, headers=mine).json()
    assert finished(core, client, video, headers=mine)["status"] == "completed"
    assert client.get(f"/v1/videos/{video['id']}", headers=yours).status_code == 404
    assert client.get("/v1/videos", headers=yours).json()["data"] == []


def test_health_while_the_model_is_missing(make_core, client_of, tmp_path):
    core = make_core(source=tmp_path / "nowhere", wait=False)
    core.runner._loaded.wait(60)
    client = client_of(core)
    assert client.get("/healthz").status_code == 200
    answer = client.get("/readyz")
    assert (answer.status_code, answer.json()["error"]["code"]) == (503, "model_failed")
    assert client.post("/v1/videos", json={"prompt": "a"}).status_code == 503


def test_health_and_metrics(core, client):
    make(core, client, {"prompt": "a", "steps": 1})
    client.get("/v1/videos/nothing")
    assert client.get("/readyz").json()["status"] == "ready"
    assert client.get("/v1/models").json()["data"][0]["id"] == "rdtf"
    text = client.get("/metrics").text
    assert 'rdtf_jobs_total{state="completed"} 1.0' in text
    wanted = 'rdtf_http_requests_total{method="GET",route="/v1/videos/{video_id}",status="404"} 1.0'
    assert wanted in text
    assert "nothing" not in text
    headers = client.get("/healthz").headers
    assert headers["x-content-type-options"] == "nosniff"
    assert "default-src 'self'" in headers["content-security-policy"]
