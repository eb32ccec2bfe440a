"""REST: the `/v1/videos` shape, over the app itself."""

from __future__ import annotations

import base64
import json
import re
import shutil
import subprocess
import sys
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

from fixtures_service import (
    ENDLESS,
    ENDLESS_LIMITS,
    direct,
    given_request,
    moving_disc,
    png,
    running,
    spec,
    still,
    wait_for_steps,
)
from rdtf.app.errors import Limits
from rdtf.sampling.options import SamplingOptions
from rdtf.sampling.pipeline import StickerPipeline
from rdtf.sampling.requests import blank_request, interpolate_request, predict_request
from rdtf.stickers import Sticker, decode_sticker, encode_sticker
from sampling.moving import whole_pipeline

httpx = pytest.importorskip("httpx", reason="the extra dev is not installed")

KEYS = ("a-key-of-mine-0001", "a-key-of-yours-0002")


def data_url(data: bytes) -> str:
    return "data:image/png;base64," + base64.b64encode(data).decode()


SMALL = data_url(png(still(16, 1)))
CLIP = data_url(encode_sticker(moving_disc(16, 3), ".gif"))


def finished(core, client, video, **options):
    """The job as it is when it has ended."""
    for job in core.queue._jobs.values():
        core.queue.wait(job, timeout_s=120)
    return client.get(f"/v1/videos/{video['id']}", **options).json()


def make(core, client, body=None, **options):
    answer = client.post("/v1/videos", json=body, **options)
    assert answer.status_code == 200, answer.text
    video = answer.json()
    assert (video["object"], video["error"]) == ("video", None)
    return finished(core, client, video)


def content(client, video, **options):
    answer = client.get(f"/v1/videos/{video['id']}/content", **options)
    assert answer.status_code == 200, answer.text
    return answer


# ------------------------------------------------------------------------------ making


def test_text_to_sticker(core, client, pipeline):
    video = make(core, client, {"prompt": "a cat", "steps": 2, "seed": 1, "frames": 4})
    assert (video["status"], video["progress"]) == ("completed", 100)
    assert (video["seconds"], video["size"], video["frames"]) == ("0.4", "32x32", 4)
    assert video["expires_at"] >= video["completed_at"] >= video["created_at"]
    answer = content(client, video)
    assert answer.headers["content-type"] == "image/webp"
    assert video["id"] in answer.headers["content-disposition"]
    (clip,) = direct(pipeline, spec(pipeline))
    np.testing.assert_array_equal(decode_sticker(answer.content).frames, clip.frames)


def test_a_still_in_json_becomes_the_frame_that_was_asked_for(core, client, pipeline):
    given = still(pipeline.canvas, 4)
    reference = {"image_url": data_url(png(given)), "frame": 2}
    body = {"input_reference": reference, "frames": 4, "steps": 2, "frame_ms": 50}
    video = make(core, client, body)
    clip = decode_sticker(content(client, video).content)
    np.testing.assert_array_equal(clip.frames[2], given.frames[0])
    assert clip.durations_ms.tolist() == [50] * 4


def test_stills_of_a_form_become_the_frames_that_were_asked_for(core, client, pipeline):
    stills = [still(pipeline.canvas, seed) for seed in (5, 6)]
    files = [("input_reference", (f"{i}.png", png(s))) for i, s in enumerate(stills)]
    fields = {"steps": "2", "seconds": "0.8", "frames": "4", "input_reference_frame": ["3", "0"]}
    answer = client.post("/v1/videos", data=fields, files=files)
    assert answer.status_code == 200, answer.text
    video = finished(core, client, answer.json())
    clip = decode_sticker(content(client, video).content)
    np.testing.assert_array_equal(clip.frames[3], stills[0].frames[0])
    np.testing.assert_array_equal(clip.frames[0], stills[1].frames[0])
    assert clip.durations_ms.tolist() == [200] * 4


@pytest.mark.parametrize(
    ("fields", "kept", "places", "total"),
    [
        ({"task": "interpolate", "factor": 2}, [0, 1, 2], [0, 2, 4], 5),
        ({"task": "predict", "after": 1, "before": 1}, [0, 1, 2], [1, 2, 3], 5),
        ({"task": "fill", "known": [0, 2]}, [0, 2], [0, 2], 3),
    ],
)
def test_the_tasks(core, client, pipeline, fields, kept, places, total):
    clip = moving_disc(pipeline.canvas, 3)
    url = data_url(encode_sticker(clip, ".gif"))
    video = make(core, client, {**fields, "input_reference": url, "steps": 2})
    made = decode_sticker(content(client, video).content)
    assert made.num_frames == total
    np.testing.assert_array_equal(made.frames[places], clip.frames[kept])
    if fields["task"] == "interpolate":
        assert made.total_ms == clip.total_ms


def test_an_own_video_can_be_the_reference(core, client):
    first = make(core, client, {"prompt": "a cat", "steps": 2, "frames": 3})
    body = {"task": "predict", "after": 1, "steps": 2, "input_reference": {"video_id": first["id"]}}
    second = make(core, client, body)
    clips = [decode_sticker(content(client, video).content) for video in (first, second)]
    np.testing.assert_array_equal(clips[1].frames[:3], clips[0].frames)


def test_remix_keeps_given_frames_and_seed(core, client, pipeline):
    given = data_url(png(still(pipeline.canvas, 7)))
    first = make(core, client, {"prompt": "a", "input_reference": given, "seed": 9, "steps": 2})
    answer = client.post(f"/v1/videos/{first['id']}/remix", json={"prompt": "a dog"})
    video = finished(core, client, answer.json())
    assert video["remixed_from_video_id"] == first["id"]
    assert (video["prompt"], video["seed"]) == ("a dog", 9)
    wanted = spec(pipeline, request=given_request(pipeline, 7), prompt="a dog", seeds=(9,))
    (clip,) = direct(pipeline, wanted)
    made = decode_sticker(content(client, video).content)
    np.testing.assert_array_equal(made.frames, clip.frames)


def test_steps_and_guidance_are_the_models_by_the_task(make_core, client_of, pipeline):
    """As on the command line: nothing is said, and the model's own table is taken."""
    steps = {"generation": 3, "interpolation": 5, "prediction": 2}
    table = {family: {"num_inference_steps": count} for family, count in steps.items()}
    core = make_core(source=lambda: StickerPipeline(**pipeline.components, sampling=table))
    client = client_of(core)
    stills = [SMALL, data_url(png(still(16, 2)))]
    asked = {
        "generation": {"prompt": "a cat", "frames": 3},
        "interpolation": {"task": "interpolate", "input_reference": stills},
        "prediction": {"task": "predict", "after": 1, "input_reference": CLIP},
    }
    made = [(family, make(core, client, body)["id"]) for family, body in asked.items()]
    longer = {"video": {"id": made[1][1]}, "frames": 1}
    extended = client.post("/v1/videos/extensions", json=longer).json()
    assert finished(core, client, extended)["status"] == "completed"
    for family, video in [*made, ("prediction", extended["id"])]:
        job = core.queue._jobs[video]
        assert job.spec.options == SamplingOptions()
        assert (job.steps_done, job.steps_total) == (steps[family], steps[family])


def test_extensions_go_on_behind(core, client):
    first = make(core, client, {"prompt": "a cat", "steps": 2, "frames": 3})
    body = {"video": {"id": first["id"]}, "seconds": 0.2, "steps": 2}
    answer = client.post("/v1/videos/extensions", json=body)
    video = finished(core, client, answer.json())
    assert (video["frames"], video["seconds"]) == (5, "0.5")


def test_sizes(core, client, pipeline):
    video = make(core, client, {"prompt": "a cat", "steps": 1, "size": "48x64"})
    clip = decode_sticker(content(client, video).content)
    assert (video["size"], clip.width, clip.height) == ("48x64", 48, 64)
    given = moving_disc(40, 3)
    url = data_url(encode_sticker(given, ".webp"))
    body = {"task": "fill", "known": [1], "input_reference": url, "size": "input", "steps": 1}
    clip = decode_sticker(content(client, make(core, client, body)).content)
    np.testing.assert_array_equal(clip.frames[1], given.frames[1])


def test_the_default_size_is_that_of_the_picture(core, client):
    """Up to 512 pixels, of its own pixels; the model's canvas only where nothing is given."""
    url = data_url(encode_sticker(moving_disc(40, 3), ".webp"))
    body = {"task": "fill", "known": [1], "input_reference": url, "steps": 1}
    assert make(core, client, body)["size"] == "40x40"
    assert make(core, client, {**body, "size": "canvas"})["size"] != "40x40"


def test_motion_and_loop(core, client):
    url = data_url(encode_sticker(moving_disc(40, 1), ".webp"))
    body = {"input_reference": url, "steps": 1, "frames": 3, "loop": True, "motion_scale": 0.5}
    assert make(core, client, body)["frames"] == 3
    for wrong, param in (({"motion": "jmup"}, "motion"), ({"motion_scale": 1e9}, "motion_scale")):
        answer = client.post("/v1/videos", json={**body, **wrong})
        assert answer.status_code == 400
        assert answer.json()["error"]["param"] == param
    answer = client.post("/v1/videos", json={**body, "motion": "jmup"})
    assert "jump" in answer.json()["error"]["message"]
    answer = client.post("/v1/videos", json={**body, "motion": "jump"})
    assert (answer.status_code, answer.json()["error"]["param"]) == (400, "motion")
    assert "no motion network" in answer.json()["error"]["message"]


def test_text_alone_is_refused_at_once_by_a_model_that_cannot_draw(make_core, client_of):
    whole = whole_pipeline()
    moves = StickerPipeline(**{**whole.components, "drawer": None})
    core = make_core(source=lambda: moves)
    answer = client_of(core).post("/v1/videos", json={"prompt": "a cat"})
    assert (answer.status_code, answer.json()["error"]["param"]) == (400, "input_reference")
    assert "can't draw from text alone; add a picture" in answer.json()["error"]["message"]
    assert core.queue.list() == []


def test_a_fully_transparent_picture_is_refused(client):
    url = data_url(encode_sticker(Sticker(np.zeros((1, 40, 40, 4), np.uint8), [100]), ".webp"))
    answer = client.post("/v1/videos", json={"input_reference": url, "frames": 3})
    assert answer.status_code == 400
    assert "transparent" in answer.json()["error"]["message"]


def test_platforms_and_pictures_of_a_video(core, client):
    video = make(core, client, {"prompt": "a cat", "steps": 1, "platform": "apng"})
    answer = content(client, video)
    assert answer.headers["content-type"] == "image/apng"
    assert len(answer.content) == video["bytes"]
    for variant in ("thumbnail", "spritesheet"):
        picture = content(client, video, params={"variant": variant})
        assert decode_sticker(picture.content).num_frames == 1
    folder = make(core, client, {"prompt": "a cat", "steps": 1, "format": "frames"})
    assert content(client, folder).content.startswith(b"PK")


def test_an_export_that_is_refused_fails_the_video(core, client):
    video = make(core, client, {"prompt": "a cat", "steps": 1, "platform": "line"})
    assert (video["status"], video["error"]["code"]) == ("failed", "export_duration")
    answer = client.get(f"/v1/videos/{video['id']}/content")
    assert (answer.status_code, answer.json()["error"]["code"]) == (409, "failed")


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
        ({"input_reference": {"video_id": "../../etc"}}, "id"),
        ({"input_reference": "data:text/html;base64,PGh0bWw+"}, "input_reference"),
    ],
)
def test_what_is_wrong_is_said_in_one_line(core, client, body, param):
    answer = client.post("/v1/videos", json=body)
    error = answer.json()["error"]
    assert answer.status_code == (404 if param == "id" else 400), answer.text
    assert (error["param"], error["type"]) == (param, "invalid_request_error")
    assert len(error["message"]) < 400
    assert "\n" not in error["message"]
    assert core.queue.num_kept == 0


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


# ------------------------------------------------------------------------------ the document


def test_defaults_are_those_of_the_models_table(core, client, pipeline):
    """The schema sets nothing of its own; a request without settings is sampled by the table."""
    schema = client.get("/openapi.json").json()["components"]["schemas"]["CreateVideo"]
    for name in ("steps", "guidance", "image_guidance"):
        assert schema["properties"][name].get("default") is None
    clip = moving_disc(pipeline.canvas, 3)
    url = data_url(encode_sticker(clip, ".gif"))
    bodies = {
        "generation": (
            {"prompt": "a cat", "frames": 4},
            blank_request(4, clip.frames.shape[1:3], 100),
        ),
        "interpolation": (
            {"task": "interpolate", "input_reference": url},
            interpolate_request(clip, 2),
        ),
        "prediction": (
            {"task": "predict", "after": 1, "input_reference": url},
            predict_request(clip, 1),
        ),
    }
    for family, (body, request) in bodies.items():
        table = pipeline.sampling_defaults[family]
        explicit = spec(
            pipeline,
            request=request,
            prompt=body.get("prompt", ""),
            options=vars(table),
        )
        video = make(core, client, {**body, "seed": 1})
        made = decode_sticker(content(client, video).content)
        np.testing.assert_array_equal(made.frames, direct(pipeline, explicit)[0].frames)


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
