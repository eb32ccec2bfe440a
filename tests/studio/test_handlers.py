"""The page's handlers over a real core; and the Blocks that call them."""

from __future__ import annotations

import asyncio
import base64
import re
import zipfile
from dataclasses import asdict, replace
from io import BytesIO
from typing import Any

import numpy as np
import pytest
import torch

from fixtures_service import (
    ENDLESS,
    ENDLESS_LIMITS,
    done,
    moving_disc,
    png,
    still,
    wait_for_steps,
)
from rdtf.app.job import JobState
from rdtf.app.studio.handlers import Handlers
from rdtf.app.studio.session import Settings
from rdtf.app.studio.storyboard import regenerate_request
from rdtf.sampling.options import TaskSampling
from rdtf.sampling.requests import ClipRequest
from rdtf.sampling.windows import plan_windows
from rdtf.stickers import Sticker, decode_sticker, encode_sticker
from sampling.moving import whole_pipeline
from stickers.samples import lottie, lottie_bytes

NO_OPTIONS = (0, False, "none", 1.0, "refuse", "")


async def _all(views: Any) -> list[Any]:
    return [view async for view in views]


def collect(views: Any) -> list[Any]:
    """Everything that a handler yields."""
    return asyncio.run(_all(views))


def press(do: str, index: int = -1, name: str = "", on: bool | None = None) -> dict[str, Any]:
    """What `studio.js` sends."""
    return {"do": do, "index": index, "name": name, "on": on}


@pytest.fixture
def handlers(core) -> Handlers:
    return Handlers(core)


@pytest.fixture
def token(handlers) -> str:
    return handlers.session(None).token


def fields(prompt="a cat", steps=2, variants=1, seed=3, size="canvas", **changes) -> list[Any]:
    """The fields of the Make tab, in the order in which the page sends them."""
    settings = Settings(prompt, "", 1.0, variants, steps, seed, 2.0, 1.0, size)
    return list(vars(replace(settings, **changes)).values())


def make(handlers, token, **changes):
    return collect(handlers.make(token, *fields(**changes)))


def test_steps_and_guidance_are_those_of_the_models_table(handlers, token, pipeline, monkeypatch):
    """What the page sends while its fields are as they were: each row of the table, by its task."""
    table = {
        "generation": TaskSampling(3, guidance_scale=1.5, image_guidance_scale=1.2),
        "interpolation": TaskSampling(2, guidance_scale=2.5),
        "prediction": TaskSampling(4, guidance_scale=3.5),
    }
    monkeypatch.setattr(type(pipeline), "sampling_defaults", table)
    clip = encode_sticker(moving_disc(pipeline.canvas, 2), ".gif")

    def compare(family: str, request: ClipRequest) -> None:
        job = handlers.session(token).job
        assert job.steps_total == table[family].num_inference_steps
        generator = torch.Generator().manual_seed(job.spec.seeds[0])
        told = {
            **asdict(table[family]),
            "generator": generator,
            "output_size": job.spec.options.output_size,
        }
        own = pipeline.complete(request, job.spec.prompt, **told)
        made = handlers.session(token).editor.current()
        np.testing.assert_array_equal(made.frames, own.frames)

    untouched = {"steps": 0, "guidance": None, "image_guidance": None}
    for family, task, data in (
        ("generation", "animate", png(still(pipeline.canvas, 1))),
        ("interpolation", "smooth2", clip),
        ("prediction", "extend", clip),
    ):
        handlers.upload(token, [data])
        handlers.set(token, "task", task)
        handlers.set(token, "loop", False)
        handlers.set(token, "length", 3, 100)
        handlers.set(token, "extension", 2, 0)
        make(handlers, token, **untouched)
        compare(family, handlers.session(token).storyboard.request(pipeline.canvas))
    request = regenerate_request(handlers.session(token).editor.current(), {1})
    handlers.select(token, press("select", 1, on=True))
    collect(handlers.regenerate(token, "", 0, 11))
    compare("interpolation", request)


def test_drop_choose_make_edit_export(handlers, token, pipeline):
    clip = moving_disc(pipeline.canvas, 4)
    clip = clip.replace(frames=np.minimum(clip.frames, 200))  # no pixel art
    strip, words, notice = handlers.upload(token, [encode_sticker(clip, ".webp")])
    assert strip.count('aria-pressed="true"') == 4  # all of them
    assert "all of them are kept" in notice
    handlers.set(token, "task", "fix")
    strip, words, notice = handlers.give(token, press("give", 1, on=False))
    assert strip.count('aria-pressed="true"') == 3
    assert (notice, "3 of 4 frames kept, 1 to generate" in words) == ("", True)

    views = make(handlers, token, variants=2)
    assert "Done" in views[-1][0]
    assert views[-1][1].count('data-do="choose"') == 2
    for found in re.findall(r'href="files/(\w+)"', views[-1][1]):
        data, file = handlers.library.get(found)  # Save on each variant
        assert file.name.startswith("a-cat-")
        assert decode_sticker(data).num_frames == 4
    made = handlers.session(token).editor.current()
    np.testing.assert_array_equal(made.frames[[0, 2, 3]], clip.frames[[0, 2, 3]])

    before = made.frames.copy()
    handlers.select(token, press("select", 1, on=True))
    views = collect(handlers.regenerate(token, "", 2, 11))
    again = handlers.session(token).editor.current()
    np.testing.assert_array_equal(again.frames[[0, 2, 3]], before[[0, 2, 3]])
    assert (again.frames[1] != before[1]).any()

    (*_, table) = collect(handlers.export(token, press("export", name="apng"), *NO_OPTIONS))
    (found,) = re.findall(r'href="files/(\w+)"', table)
    _, file = handlers.library.get(found)
    assert file.name == "a-cat-apng.apng"
    assert "✓ passes" in table
    (*_, table) = collect(handlers.export(token, press("export", name="line"), *NO_OPTIONS))
    assert "✗ refused" in table
    assert "✓ passes" in table  # the other's result stays
    handlers.edit(token, "reverse")
    assert "✓ passes" not in handlers.export_view(token)  # another clip now


def sent_file(data: bytes, do: str, index: int = -1) -> dict[str, Any]:
    return {"do": do, "index": index, "data": base64.b64encode(data).decode()}


def test_pictures_can_be_put_into_frames(handlers, token, pipeline):
    """By a drop on the frame, by its number, or as a drawing."""
    handlers.upload(token, [png(still(pipeline.canvas, 1))])
    strip, *_ = handlers.draw(token, sent_file(png(still(40, 2)), "draw"), 5)
    assert strip.count('aria-pressed="true"') == 2
    strip, *_ = handlers.give(token, sent_file(png(still(40, 3)), "drop", 6))
    strip, *_ = handlers.upload(token, [png(still(40, 4))], 8)
    assert sorted(handlers.session(token).storyboard.stills) == [0, 4, 6, 7]
    for data in ("", "not base64", None):
        *_, notice = handlers.draw(token, {"do": "draw", "data": data})
        assert "draw something first" in notice
    empty = np.zeros((1, 8, 8, 4), np.uint8)
    *_, notice = handlers.draw(token, sent_file(png(Sticker(empty, np.array([100]))), "draw"))
    assert "draw something first" in notice
    assert len(handlers.session(token).storyboard.stills) == 4


@pytest.mark.parametrize("data", [b"", b"<svg/>", b"GIF89a"])
def test_a_wrong_file_is_told_and_changes_nothing(handlers, token, data):
    *_, notice = handlers.upload(token, [data])
    assert 'role="alert"' in notice
    assert handlers.session(token).storyboard.stills == {}


def test_parts_of_a_lottie_that_are_not_drawn_are_named(handlers, token):
    """Wherever the file is dropped; files that are drawn whole say nothing."""
    data = lottie_bytes(layers=[{**lottie()["layers"][0], "ef": [{"ty": 29}]}])
    for drop in (
        lambda: handlers.upload(token, [data]),
        lambda: handlers.upload(token, [data], 1),
        lambda: handlers.give(token, sent_file(data, "drop", 2)),
    ):
        *_, notice = drop()
        assert "not drawn: effects" in notice
        handlers.set(token, "task", "fix")
    *_, notice = handlers.upload(token, [lottie_bytes()])
    assert "not drawn" not in notice


def test_loop_motion_and_strength_reach_the_model(make_core):
    handlers = Handlers(make_core(source=whole_pipeline))
    token = handlers.session(None).token
    handlers.upload(token, [png(still(32, 1))])
    make(handlers, token, strength=0.5)
    spec = handlers.session(token).job.spec
    assert (spec.options.loop, spec.options.motion, spec.options.motion_scale) == (True, None, 0.5)
    handlers.set(token, "loop", False)
    make(handlers, token, motion="jump")
    job = handlers.session(token).job
    assert (job.spec.options.loop, job.spec.options.motion) == (False, "jump")
    assert job.state is JobState.COMPLETED
    handlers.upload(token, [encode_sticker(moving_disc(32, 2), ".gif")])
    make(handlers, token, motion="jump")  # between frames there is no motion to choose
    job = handlers.session(token).job
    assert (job.spec.options.motion, job.state) == (None, JobState.COMPLETED)


def test_a_motion_is_refused_by_a_model_that_has_none(handlers, token, pipeline):
    handlers.upload(token, [png(still(pipeline.canvas, 1))])
    (*_, (view, _)) = make(handlers, token, motion="jump")
    assert "no motion network" in view
    assert handlers.session(token).job is None


def test_a_reload_finds_prompt_settings_and_the_running_job(make_core):
    core = make_core(replace(ENDLESS_LIMITS, reload_seconds=600.0))
    handlers = Handlers(core)
    token = handlers.session(None).token
    handlers.keep_settings(token, *fields(prompt="a dog", steps=7))
    assert handlers.session(token).settings.prompt == "a dog"

    async def reload() -> list[Any]:
        views = handlers.make(token, *fields(steps=ENDLESS))
        await anext(views)
        await views.aclose()  # what the page's server does when the browser is gone
        assert not handlers.session(token).job.is_finished
        again = []
        async for view in handlers.resume(token):
            again.append(view)
            if len(again) == 1:
                handlers.cancel(token)
        return again

    views = asyncio.run(reload())
    assert "Cancelled" in views[-1][0]
    assert len(collect(handlers.resume(handlers.session(None).token))) == 1  # another tab: nothing


def test_what_was_finished_while_the_page_was_away_is_there(handlers, token):
    async def leave() -> None:
        views = handlers.make(token, *fields())
        await anext(views)
        await views.aclose()

    asyncio.run(leave())
    done(handlers.core, handlers.session(token).job)
    assert "Use variant 1" in collect(handlers.resume(token))[-1][1]
    assert len(handlers.session(token).visitor.history) == 1
    assert len(collect(handlers.resume(token))) == 1
    assert len(handlers.session(token).visitor.history) == 1  # taken once


@pytest.mark.parametrize(
    "event",
    [{}, {"index": "x"}, {"index": 10**30, "on": True}, {"index": -1, "on": True}, {"index": None}],
)
def test_nonsense_from_a_browser_changes_nothing(handlers, token, event):
    handlers.give(token, event)
    handlers.select(token, event)
    handlers.choose(token, event)
    handlers.pack_change(token, event)
    handlers.history(token, {"do": "open", "name": "../../x", **event})
    assert handlers.session(token).storyboard.stills == {}


def test_what_can_not_be_made_is_told(handlers, token):
    for changes in ({"prompt": ""}, {"prompt": "x" * 3000}, {"steps": 1000}, {"seed": 10**40}):
        (view,) = make(handlers, token, **changes)
        assert 'role="alert"' in view[0]
    (view,) = collect(handlers.regenerate(token, "", 2, None))
    assert "no sticker yet" in view[2]
    (view,) = collect(handlers.export(token, None, *NO_OPTIONS))
    assert "no sticker yet" in view


def test_cancel_and_leaving_free_the_slot(make_core):
    core = make_core(replace(ENDLESS_LIMITS, reload_seconds=0.01))
    handlers = Handlers(core)
    token = handlers.session(None).token

    async def cancelled() -> list[Any]:
        views = []
        async for view in handlers.make(token, *fields(steps=ENDLESS)):
            views.append(view)
            if len(views) == 2:
                assert handlers.cancel(token) == ""
        return views

    assert "Cancelled" in asyncio.run(cancelled())[-1][0]

    async def left() -> None:
        views = handlers.make(token, *fields(steps=ENDLESS))
        await anext(views)
        await views.aclose()  # what the page's server does when the browser is gone

    asyncio.run(left())
    job = handlers.session(token).job
    assert done(core, job).state is JobState.CANCELLED
    assert "Done" in make(handlers, token)[-1][0]


def test_a_long_extension_is_cancelled_between_its_windows(make_core):
    whole = whole_pipeline(max_frames=4, predicts=True)
    handlers = Handlers(make_core(source=lambda: whole))
    token = handlers.session(None).token
    handlers.upload(token, [encode_sticker(moving_disc(whole.canvas, 2), ".webp")])
    handlers.set(token, "task", "extend")
    handlers.set(token, "extension", 478, 0)

    async def cancelled() -> str:
        settings = fields(variants=6, guidance=None, image_guidance=None)
        async for view, _ in handlers.make(token, *settings):
            if "Step" in view:
                handlers.cancel(token)
        return view

    assert "Cancelled" in asyncio.run(cancelled())
    job = handlers.session(token).job
    assert 0 < job.steps_done < job.steps_total


def test_progress_shows_steps_previews_and_the_queue(make_core, pipeline):
    core = make_core(ENDLESS_LIMITS)
    handlers = Handlers(core)
    first, second = (handlers.session(None).token for _ in range(2))

    async def watch() -> tuple[str, str]:
        views = handlers.make(first, *fields(steps=ENDLESS))
        async for view, _ in views:
            if "data:image/webp" in view:
                break
        wait_for_steps(core, handlers.session(first).job)
        others = handlers.make(second, *fields(steps=1))
        waiting, _ = await anext(others)
        await others.aclose()
        await views.aclose()
        return view, waiting

    view, waiting = asyncio.run(watch())
    windows = list(plan_windows([False] * 8, pipeline.max_frames, loop=True))  # Animate loops
    assert re.search(rf"Step \d+ of {len(windows) * ENDLESS}\b", view)
    assert "1 before you" in waiting


def test_sessions_do_not_see_each_other(handlers, pipeline):
    mine, yours = (handlers.session(None).token for _ in range(2))
    handlers.upload(mine, [png(still(pipeline.canvas, 1))])
    make(handlers, mine)
    assert handlers.session(yours).storyboard.stills == {}
    assert "Nothing made yet" in collect(handlers.resume(yours))[-1][1]
    assert "kept here" in handlers.history_view(yours)
    assert handlers.core.queue.list() == []  # nor does REST


def test_history_and_pack(handlers, token, pipeline):
    make(handlers, token, prompt="a <b>cat</b>")
    (item,) = handlers.session(token).visitor.history
    assert "a &lt;b&gt;cat&lt;/b&gt;" in handlers.history_view(token)
    handlers.edit(token, "reverse")
    handlers.keep(token)
    assert len(handlers.session(token).visitor.history) == 2
    handlers.history(token, press("open", name=item.id))
    for name in ("one", "two", "three"):
        cards, notice = handlers.pack_add(token, name, "🎉")
        assert notice == ""
    cards, _ = handlers.pack_change(token, press("earlier", 2))
    assert cards.index("three") < cards.index("two")
    handlers.pack_change(token, press("remove", 0))
    built = handlers.pack_build(token, "signal", "My pack", "me", *NO_OPTIONS)
    (found,) = re.findall(r'href="files/(\w+)"', built)
    data, file = handlers.library.get(found)
    assert file.name == "My-pack-signal.zip"
    names = zipfile.ZipFile(BytesIO(data)).namelist()
    assert [name for name in names if name.endswith("png")] == ["01_three.png", "02_two.png"]
    refused = handlers.pack_build(token, "whatsapp", "My pack", "me", *NO_OPTIONS)
    assert "3 to 30" in refused
    handlers.history(token, press("drop", name=item.id))
    assert len(handlers.session(token).visitor.history) == 1


def test_edits_by_name(handlers, token):
    make(handlers, token)
    for do in ("all", "none", "all", "later", "duplicate", "undo", "redo", "reverse"):
        *_, notice = handlers.edit(token, do)
        assert notice == ""
    handlers.edit(token, "retime", 40)
    before = handlers.session(token).editor.current()
    assert handlers.edit(token, "crop", 1, 2, 3, 4)[-1] == ""
    clip = handlers.session(token).editor.current()
    np.testing.assert_array_equal(clip.frames, before.frames[:, 2:-4, 1:-3])
    assert handlers.edit(token, "text", "Hi", "top", 30, "#ff0000", "#000000")[-1] == ""
    assert handlers.session(token).editor.current() is not clip
    assert "choose a tolerance" in handlers.edit(token, "cutout", 999)[-1]
    shown = [handlers.export_preview(token, outline, *NO_OPTIONS[1:]) for outline in (0, 16)]
    assert shown[0] != shown[1]
    for _ in range(2):
        handlers.edit(token, "undo")
    assert handlers.session(token).editor.current().durations_ms.tolist() == [40] * 16
    handlers.use_edited(token)
    assert handlers.session(token).storyboard.clip.num_frames == 16


# ------------------------------------------------------------------------------ the page


def test_the_page_calls_the_handlers(core, pipeline):
    """Every event of the Blocks, through Gradio's own call of the function behind it."""
    gr = pytest.importorskip("gradio", reason="the extra studio is not installed")
    from rdtf.app.studio.page import build_page

    handlers = Handlers(core)
    page = build_page(handlers)
    config = page.get_config_file()
    assert len(page.fns) > 25
    assert all(event["api_visibility"] == "private" for event in config["dependencies"])
    loads = [fn for fn in page.fns.values() if fn.targets and fn.targets[0][1] == "load"]
    token, header, *_ = loads[0].fn("")
    assert f"{pipeline.canvas} px" in header
    strip = next(block for block in page.blocks.values() if block.elem_id == "frame-strip")
    clicks = [fn for fn in page.fns.values() if fn.targets == [(strip._id, "click")]]
    handlers.upload(token, [png(still(16, 1))])
    event = gr.EventData(strip, press("give", 5, on=True))
    shown, *_ = clicks[0].fn(token, event)
    assert shown.count('aria-pressed="true"') == 2


def test_no_rule_of_the_style_sheet_is_torn_apart():
    """Gradio puts a prefix behind every comma of a selector, also behind those in brackets."""
    pytest.importorskip("gradio", reason="the extra studio is not installed")
    from rdtf.app.studio.make_tab import asset

    selectors = re.findall(
        r"[^{}]+(?=\{)", re.sub(r"/\*.*?\*/", "", asset("studio.css"), flags=re.S)
    )
    assert selectors
    assert not [s for s in selectors if "@media" not in s and re.search(r"\([^()]*,", s)]


def test_the_page_is_in_the_service_and_fetches_nothing_elsewhere(core):
    pytest.importorskip("gradio", reason="the extra studio is not installed")
    from starlette.testclient import TestClient

    from rdtf.app.core import make_app

    app = make_app(core)
    with TestClient(app) as client:
        page = client.get("/")
        assert page.status_code == 200
        assert "default-src 'self'" in page.headers["content-security-policy"]
        elsewhere = r"<(?:script|link)[^>]+(?:src|href)=.https?://(?!testserver)"
        assert not re.search(elsewhere, page.text)
        assert client.get("/healthz").json() == {"status": "ok"}
        assert client.get("/files/nothing").status_code == 404
        inside = client.get(f"/gradio_api/file={core.store.work}/rdtf-studio.lock")
        assert inside.status_code in (403, 404)


def test_with_keys_the_page_asks_for_one(make_core):
    pytest.importorskip("gradio", reason="the extra studio is not installed")
    from starlette.testclient import TestClient

    from rdtf.app.core import make_app

    core = make_core(keys=("a-key-of-mine-0001",))
    with TestClient(make_app(core)) as client:
        assert client.get("/config").status_code == 401
        for password, status in (("wrong", 400), ("a-key-of-mine-0001", 200)):
            answer = client.post("/login", data={"username": "me", "password": password})
            assert answer.status_code == status
        guesses = [{"username": "me", "password": f"wrong {number}"} for number in range(10)]
        statuses = [client.post("/login", data=guess).status_code for guess in guesses]
        assert statuses == [400] * 9 + [429]
        assert client.get("/config").status_code == 200
