"""REST: what POST /v1/videos makes."""

from __future__ import annotations

import numpy as np
import pytest

from fixtures_service import (
    ENDLESS,
    ENDLESS_LIMITS,
    direct,
    given_request,
    moving_disc,
    png,
    spec,
    still,
)
from rdtf.sampling.options import SamplingOptions
from rdtf.sampling.pipeline import StickerPipeline
from rdtf.sampling.requests import ClipRequest
from rdtf.stickers import Sticker, decode_sticker, encode_sticker
from sampling.moving import whole_pipeline

from .rest import CLIP, SMALL, content, data_url, finished, make


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


def test_a_loop_has_new_frames_between_its_last_and_its_first(core, client, pipeline):
    clip = moving_disc(pipeline.canvas, 3)
    url = data_url(encode_sticker(clip, ".gif"))
    body = {"task": "interpolate", "factor": 2, "loop": True, "input_reference": url, "steps": 1}
    made = decode_sticker(content(client, make(core, client, body)).content)
    assert (made.num_frames, made.total_ms) == (6, clip.total_ms)


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
        assert job.spec.options == SamplingOptions(output_size=job.spec.options.output_size)
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


def test_a_named_size_is_made_of_the_pictures_own_pixels(core, client):
    given = moving_disc(64, 3)
    url = data_url(encode_sticker(given, ".webp"))
    body = {"task": "fill", "known": [1], "input_reference": url, "size": "96x64", "steps": 1}
    clip = decode_sticker(content(client, make(core, client, body)).content)
    np.testing.assert_array_equal(clip.frames[1], given.fit_canvas((64, 96)).frames[1])


def test_a_video_has_its_size_from_the_start(make_core, client_of, pipeline):
    """WIDTHxHEIGHT while it waits and when it has failed, as docs/rest.md says, remixes too."""
    client = client_of(make_core(ENDLESS_LIMITS))
    url = data_url(encode_sticker(moving_disc(40, 3).fit_canvas((40, 48)), ".webp"))
    canvas = f"{pipeline.canvas}x{pipeline.canvas}"
    wanted = {None: "48x40", "auto": "48x40", "input": "48x40", "canvas": canvas, "64x32": "64x32"}
    for asked, size in wanted.items():
        body = {"input_reference": url, "steps": ENDLESS, "prompt": "a", "frames": 3}
        video = client.post("/v1/videos", json={**body, "size": asked}).json()
        assert video["size"] == size
        assert client.get(f"/v1/videos/{video['id']}").json()["size"] == size
    assert client.post("/v1/videos", json={"prompt": "a", "steps": 1}).json()["size"] == canvas
    for asked in ("15x64", "64x1025", "64", "big"):
        answer = client.post("/v1/videos", json={**body, "size": asked})
        assert (answer.status_code, answer.json()["error"]["param"]) == (400, "size")


def test_a_remix_has_its_size_from_the_start(core, client):
    url = data_url(encode_sticker(moving_disc(40, 1), ".webp"))
    video = make(core, client, {"input_reference": url, "steps": 1, "frames": 2, "prompt": "a"})
    remix = client.post(f"/v1/videos/{video['id']}/remix", json={"prompt": "b"}).json()
    assert remix["size"] == video["size"] == "40x40"


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
            ClipRequest.blank(4, clip.frames.shape[1:3], 100),
        ),
        "interpolation": (
            {"task": "interpolate", "input_reference": url},
            ClipRequest.interpolate(clip, 2),
        ),
        "prediction": (
            {"task": "predict", "after": 1, "input_reference": url},
            ClipRequest.predict(clip, 1),
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
