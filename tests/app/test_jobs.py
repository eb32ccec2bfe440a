"""The queue: order, limits, cancelling, expiry, and that every slot is freed."""

from __future__ import annotations

import resource
import threading
from dataclasses import replace
from itertools import pairwise
from pathlib import Path

import numpy as np
import pytest

from fixtures_service import (
    ENDLESS,
    ENDLESS_LIMITS,
    direct,
    done,
    given_request,
    moving_disc,
    refused,
    spec,
    wait_for_steps,
)
from rdtf.app.core import Core
from rdtf.app.errors import Limits, ServiceError
from rdtf.app.job import JobState
from rdtf.app.jobs import JobQueue
from rdtf.app.runner import PipelineRunner
from rdtf.app.store import Store
from rdtf.errors import UserError
from rdtf.sampling.moving import plan_motion
from rdtf.sampling.requests import ClipRequest
from sampling.moving import whole_pipeline


def files_of(core, room="jobs"):
    return sorted(path.name for path in (core.store.work / room).rglob("*") if path.is_file())


def test_a_job_gives_what_the_pipeline_gives(core, pipeline):
    wanted = spec(pipeline, request=given_request(pipeline, 3), seeds=(5, 6))
    job = done(core, core.queue.submit(wanted))
    assert (job.state, job.progress) == (JobState.COMPLETED, 100)
    for result, clip in zip(job.results, direct(pipeline, wanted), strict=True):
        np.testing.assert_array_equal(result.clip().frames, clip.frames)
        np.testing.assert_array_equal(result.clip().frames[0], wanted.request.frames[0])
    assert [result.seed for result in job.results] == [5, 6]


def test_given_frames_of_another_size_come_back_untouched(core, pipeline):
    clip, own = moving_disc(50, 3), {"options": {"output_size": "input"}}
    wanted = spec(pipeline, request=ClipRequest.fill(clip, [0, 2]), size=(50, 50), prompt="", **own)
    result = done(core, core.queue.submit(wanted)).results[0]
    assert (result.width, result.height) == (50, 50)
    np.testing.assert_array_equal(result.clip().frames[[0, 2]], clip.frames[[0, 2]])


def test_jobs_are_made_in_order_one_at_a_time(core, pipeline):
    jobs = [core.queue.submit(spec(pipeline, seeds=(seed,))) for seed in range(4)]
    for job in jobs:
        done(core, job)
    starts = [(job.started_s, job.finished_s) for job in jobs]
    assert starts == sorted(starts)
    assert all(before[1] <= after[0] for before, after in pairwise(starts))


def test_progress_counts_steps_of_all_windows_and_variants(core, pipeline):
    long = ClipRequest.fill(moving_disc(pipeline.canvas, 6), [0, 1])
    job = done(core, core.queue.submit(spec(pipeline, request=long, seeds=(1, 2), prompt="")))
    assert job.steps_done == job.steps_total > 4  # two steps, two variants, two windows


def test_previews_are_pictures_of_the_clip_on_its_way(make_core, pipeline):
    core = make_core(ENDLESS_LIMITS)
    job = core.queue.submit(spec(pipeline, steps=ENDLESS, previews=True))
    version = job.version
    while job.preview is None:
        version = core.queue.wait(job, version, timeout_s=60)
    from rdtf.stickers import decode_sticker

    assert decode_sticker(job.preview).num_frames == 4
    core.queue.cancel(job)


# ------------------------------------------------------------------------------ cancelling


def test_cancelling_a_running_job_is_seen_at_the_next_step(make_core, pipeline):
    core = make_core(ENDLESS_LIMITS)
    job = core.queue.submit(spec(pipeline, steps=ENDLESS))
    following = core.queue.submit(spec(pipeline))
    wait_for_steps(core, job)
    core.queue.cancel(job)
    steps = job.steps_done
    assert done(core, job).state is JobState.CANCELLED
    assert job.steps_done <= steps + 1
    assert done(core, following).state is JobState.COMPLETED


def test_a_long_prediction_is_told_and_cancelled_window_by_window(make_core):
    """A prediction takes no sampling: each of its windows counts as one step."""
    whole = whole_pipeline(max_frames=4, predicts=True)
    core = make_core(ENDLESS_LIMITS, source=lambda: whole)
    clip = moving_disc(whole.canvas, 2)
    brief = spec(whole, request=ClipRequest.predict(clip, 80), prompt="", steps=None)
    job = done(core, core.queue.submit(brief))
    longest = whole.predictor.config_.max_frames
    windows = len(list(plan_motion([True] * 2 + [False] * 80, longest, loop=False)))
    assert job.steps_done == job.steps_total == windows > 5
    endless = replace(brief, request=ClipRequest.predict(clip, 478), seeds=tuple(range(6)))
    job = core.queue.submit(endless)
    wait_for_steps(core, job)
    core.queue.cancel(job)
    steps = job.steps_done
    assert done(core, job).state is JobState.CANCELLED
    assert job.steps_done <= steps + 1 < job.steps_total


def test_cancelling_a_waiting_job_frees_its_place_at_once(make_core, pipeline):
    core = make_core(replace(ENDLESS_LIMITS, max_waiting=1))
    running = core.queue.submit(spec(pipeline, steps=ENDLESS))
    wait_for_steps(core, running)
    waiting = core.queue.submit(spec(pipeline))
    with refused("queue_full"):
        core.queue.submit(spec(pipeline))
    core.queue.cancel(waiting)
    assert waiting.state is JobState.CANCELLED
    core.queue.submit(spec(pipeline))
    core.queue.cancel(running)


def test_deleting_a_running_job_leaves_nothing(make_core, pipeline):
    core = make_core(ENDLESS_LIMITS)
    job = core.queue.submit(spec(pipeline, steps=ENDLESS))
    wait_for_steps(core, job)
    core.queue.delete(job)
    with refused("not_found"):
        core.queue.get(job.id)
    done(core, job)
    done(core, core.queue.submit(spec(pipeline)))
    assert files_of(core) == ["clip-0.webp"]


def test_closing_cancels_everything(make_core, pipeline):
    core = make_core(ENDLESS_LIMITS)
    jobs = [core.queue.submit(spec(pipeline, steps=ENDLESS)) for _ in range(3)]
    core.queue.close(timeout_s=60)
    assert {job.state for job in jobs} == {JobState.CANCELLED}
    with pytest.raises(ServiceError, match="stopping"):
        core.queue.submit(spec(pipeline))


# ------------------------------------------------------------------------------ limits


def test_a_full_queue_says_when_to_come_back(make_core, pipeline):
    core = make_core(replace(ENDLESS_LIMITS, max_waiting=2))
    running = core.queue.submit(spec(pipeline, steps=ENDLESS))
    wait_for_steps(core, running)
    for _ in range(2):
        core.queue.submit(spec(pipeline))
    with refused("queue_full") as caught:
        core.queue.submit(spec(pipeline))
    assert (caught.value.status, caught.value.code) == (429, "queue_full")
    assert 1 <= caught.value.retry_after_s <= 600
    core.queue.cancel(running)


def test_one_visitor_cannot_fill_the_queue(make_core, pipeline):
    core = make_core(ENDLESS_LIMITS)
    running = core.queue.submit(spec(pipeline, steps=ENDLESS), "me")
    wait_for_steps(core, running)
    core.queue.submit(spec(pipeline), "me", max_own=1)
    with refused("queue_full", match="your own"):
        core.queue.submit(spec(pipeline), "me", max_own=1)
    core.queue.submit(spec(pipeline), "you", max_own=1)
    core.queue.cancel(running)


def test_clients_take_turns(make_core, pipeline):
    """Five jobs of one client and then one of another: the other's is the second to be made."""
    core = make_core(ENDLESS_LIMITS)
    running = core.queue.submit(spec(pipeline, steps=ENDLESS), "me")
    wait_for_steps(core, running)
    mine = [core.queue.submit(spec(pipeline), "me") for _ in range(3)]
    yours = core.queue.submit(spec(pipeline), "you")
    assert [core.queue.position(job) for job in (yours, *mine)] == [1, 2, 3, 4]
    core.queue.cancel(running)
    for job in (yours, *mine):
        done(core, job)
    starts = [job.started_s for job in (yours, *mine)]
    assert starts == sorted(starts)


def test_a_waiting_job_is_cancelled_while_the_model_is_loading(make_core, pipeline):
    loading = threading.Event()

    def load():
        loading.wait(60)
        return pipeline

    core = make_core(source=load, wait=False)
    job = core.queue.submit(spec(pipeline))
    core.queue.cancel(job)
    assert job.state is JobState.CANCELLED
    assert core.queue.num_waiting == 0
    loading.set()
    assert done(core, core.queue.submit(spec(pipeline))).state is JobState.COMPLETED


def test_ready_means_that_a_text_was_encoded(pipeline, tmp_path):
    """Until the text encoder has encoded one text, no job is taken."""
    was_ready = []

    class Watched(type(pipeline.text_encoders)):
        def encode(self, texts):
            was_ready.append(core.runner._pipeline is not None)
            return super().encode(texts)

    watched = Watched.__new__(Watched)
    watched.__dict__.update(pipeline.text_encoders.__dict__)
    components = {**pipeline.components, "text_encoders": watched}
    source = PipelineRunner(lambda: type(pipeline)(**components))
    core = Core.build(source, tmp_path / "work")
    with refused("unavailable"):
        core.check_ready()
    core.start()
    core.runner.pipeline(60)
    assert was_ready == [False]
    core.check_ready()
    core.close()


def test_pixels_of_waiting_jobs_are_limited(make_core, pipeline):
    one = spec(pipeline).request.frames.nbytes
    core = make_core(replace(ENDLESS_LIMITS, max_waiting_bytes=one * 2))
    running = core.queue.submit(spec(pipeline, steps=ENDLESS))
    wait_for_steps(core, running)
    core.queue.submit(spec(pipeline))
    core.queue.submit(spec(pipeline))
    with refused("queue_full", match="pictures"):
        core.queue.submit(spec(pipeline))
    core.queue.cancel(running)


@pytest.mark.parametrize(
    ("changes", "param"),
    [
        ({"steps": 101}, "steps"),
        ({"seeds": tuple(range(7))}, "variants"),
        ({"seeds": (-1,)}, "seed"),
        ({"prompt": "x" * 2001}, "prompt"),
        ({"prompt": "a\0b"}, "prompt"),
        ({"size": (16, 5000)}, "size"),
        ({"prompt": " "}, None),
    ],
)
def test_a_job_over_the_limits_is_refused(core, pipeline, changes, param):
    with pytest.raises(ServiceError) as caught:
        core.queue.submit(spec(pipeline, **changes))
    assert (caught.value.status, caught.value.param) == (400, param)
    assert core.queue.num_kept == 0


# ------------------------------------------------------------------------------ failures


def test_a_failed_export_frees_the_slot_and_says_why(core, pipeline):
    job = done(core, core.queue.submit(spec(pipeline, platform="line")))  # 0.4 s: no whole second
    assert (job.state, job.error.code) == (JobState.FAILED, "export_duration")
    assert "LINE" in str(job.error)
    assert files_of(core) == []
    assert done(core, core.queue.submit(spec(pipeline))).state is JobState.COMPLETED


def test_a_full_disk_is_told_and_frees_the_slot(core, pipeline):
    """The system refuses to write more than 64 bytes into any file."""
    soft, hard = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (64, hard))
    try:
        job = done(core, core.queue.submit(spec(pipeline)))
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, (soft, hard))
    assert (job.state, job.error.code) == (JobState.FAILED, "disk_full")
    assert str(core.store.work) not in str(job.error)
    assert files_of(core) == []
    assert done(core, core.queue.submit(spec(pipeline))).state is JobState.COMPLETED


def test_a_mistake_of_ours_is_told_without_insides(make_core, pipeline):
    class Broken(type(pipeline)):
        def complete(self, *arguments, **options):
            raise RuntimeError("secret /path/to/weights")

    broken = Broken(**pipeline.components)
    core = make_core(source=lambda: broken)
    job = done(core, core.queue.submit(spec(pipeline)))
    assert (job.state, job.error.code) == (JobState.FAILED, "internal")
    assert "secret" not in str(job.error)
    assert core.queue.is_alive


def test_a_model_that_cannot_be_loaded_fails_every_job(make_core, pipeline, tmp_path):
    core = make_core(source=tmp_path / "nowhere", wait=False)
    job = done(core, core.queue.submit(spec(pipeline)))
    assert (job.state, job.error.code) == (JobState.FAILED, "model_failed")
    assert "does not exist" in str(job.error)


# ------------------------------------------------------------------------------ keeping


class Clock:
    def __init__(self) -> None:
        self.now_s = 1_000_000.0

    def __call__(self) -> float:
        return self.now_s


@pytest.fixture
def timed(pipeline, tmp_path):
    """A queue with a clock that the test turns."""
    clock = Clock()
    store = Store(tmp_path / "timed")
    limits = Limits(keep_seconds=60, max_kept=3)
    queue = JobQueue(PipelineRunner(lambda: pipeline), store, limits, clock)
    queue.start()
    yield queue, clock, store
    queue.close(timeout_s=60)
    store.close()


def stored(store: Store) -> int:
    return sum(1 for path in (store.work / "jobs").rglob("*.webp"))


def test_finished_jobs_expire_with_their_files(timed, pipeline):
    queue, clock, store = timed
    job = queue.submit(spec(pipeline))
    queue.wait(job)
    assert job.expires_s == clock.now_s + 60
    clock.now_s += 61
    with refused("not_found"):
        queue.get(job.id)
    assert queue.list() == []
    queue.expire()
    assert (queue.num_kept, stored(store)) == (0, 0)


def test_the_oldest_finished_jobs_go_when_there_are_too_many(timed, pipeline):
    queue, _, store = timed
    jobs = [queue.submit(spec(pipeline, seeds=(seed,))) for seed in range(5)]
    for job in jobs:
        queue.wait(job)
    queue.expire()
    assert [job.id for job in queue.list()] == [job.id for job in jobs[2:]]
    assert stored(store) == 3


def test_pixels_of_finished_jobs_are_let_go(core, pipeline):
    job = done(core, core.queue.submit(spec(pipeline, request=given_request(pipeline, 1))))
    assert job.spec.request.frames.nbytes == 4 * 4
    assert job.spec.request.known.tolist() == [True, False, False, False]


def test_only_the_owner_sees_a_job(core, pipeline):
    job = core.queue.submit(spec(pipeline), "me")
    assert core.queue.get(job.id, "me") is job
    assert core.queue.list("you") == []
    with refused("not_found"):
        core.queue.get(job.id, "you")


# ------------------------------------------------------------------------------ the folder


def test_the_work_folder_belongs_to_one_server(tmp_path):
    store = Store(tmp_path / "work")
    with pytest.raises(UserError, match="used by another"):
        Store(tmp_path / "work")
    store.save("jobs", "video_1", "clip.webp", b"x")
    store.save_row("video_2", {})
    store.save("jobs", "video_2", "clip.webp", b"x")
    store.close()
    assert [path.name for path in (tmp_path / "work" / "jobs").iterdir()] == ["video_2"]
    Store(tmp_path / "work").close()


def test_only_its_user_reads_the_work_folder(tmp_path):
    (tmp_path / "work").mkdir(mode=0o755)
    store = Store(tmp_path / "work")
    folders = [store.work, *(path for path in store.work.iterdir() if path.is_dir())]
    assert len(folders) == 6
    assert {path.stat().st_mode & 0o777 for path in folders} == {0o700}
    store.close()


def test_a_damaged_database_does_not_stop_the_server(tmp_path):
    Store(tmp_path / "work").close()
    (tmp_path / "work" / "jobs.sqlite").write_bytes(b"no database" * 100)
    store = Store(tmp_path / "work")
    assert store.rows() == []
    store.close()


# ------------------------------------------------------------------------------ restarts


def test_jobs_go_on_after_an_orderly_restart(pipeline, tmp_path):
    """What is finished stays; what ran and what waited is made, from the same given frames."""
    cores = []

    def started(limits=ENDLESS_LIMITS):
        core = Core.build(PipelineRunner(lambda: pipeline), tmp_path / "work", limits)
        cores.append(core)
        core.start()
        return core

    first = started()
    finished = done(first, first.queue.submit(spec(pipeline), "me", is_durable=True))
    wanted = spec(pipeline, request=given_request(pipeline, 3), size=(20, 24))
    blocking = first.queue.submit(spec(pipeline, steps=ENDLESS), is_durable=True)
    waiting = first.queue.submit(wanted, "me", is_durable=True, remix_of=finished.id)
    forgotten = first.queue.submit(spec(pipeline), "me")
    wait_for_steps(first, blocking)
    first.close()

    second = started()
    assert second.queue.num_waiting + second.queue.num_running == 2
    again = second.queue.get(finished.id, "me")
    assert (again.state, again.expires_s) == (JobState.COMPLETED, finished.expires_s)
    assert again.results == finished.results
    assert again.results[0].clip().num_frames == 4
    assert second.queue.list("me") == [again, second.queue.get(waiting.id, "me")]
    with refused("not_found"):
        second.queue.get(forgotten.id, "me")
    running = second.queue.get(blocking.id)
    wait_for_steps(second, running)
    second.queue.delete(running)
    job = done(second, second.queue.get(waiting.id, "me"))
    assert (job.state, job.remix_of) == (JobState.COMPLETED, finished.id)
    assert (job.results[0].height, job.results[0].width) == (20, 24)
    expected = direct(pipeline, wanted)[0].fit_canvas((20, 24))
    np.testing.assert_array_equal(job.results[0].clip().frames, expected.frames)
    assert files_of(second) == ["clip-0.webp", "clip-0.webp"]
    second.close()


def test_a_job_that_ran_when_the_server_died_is_interrupted(pipeline, tmp_path):
    runner = PipelineRunner(lambda: pipeline)
    store = Store(tmp_path / "work")
    job = JobQueue(runner, store).submit(spec(pipeline), is_durable=True)
    job.state = JobState.IN_PROGRESS
    job.save(store)
    store.close()
    store = Store(tmp_path / "work")
    found = JobQueue(runner, store).get(job.id)
    assert (found.state, found.error.code) == (JobState.FAILED, "interrupted")
    store.close()


def test_a_row_that_cannot_be_read_is_dropped(pipeline, tmp_path):
    store = Store(tmp_path / "work")
    store.save_row("video_1", {"state": "queued"})
    queue = JobQueue(PipelineRunner(lambda: pipeline), store)
    assert (queue.list(), store.rows()) == ([], [])
    store.close()


def test_a_folder_with_something_else_in_it_is_refused(tmp_path):
    (tmp_path / "thesis.txt").write_text("mine")
    with pytest.raises(UserError, match="not empty"):
        Store(tmp_path)
    assert (tmp_path / "thesis.txt").read_text() == "mine"


@pytest.mark.parametrize("name", ["../x", "a/b", "", ".", "..", "a\0b", "A" * 99, "-x", "x\n"])
def test_names_that_are_not_ours_never_become_paths(tmp_path: Path, name: str):
    store = Store(tmp_path / "work")
    for room, owner, file in (("jobs", name, "x"), ("jobs", "x", name), (name, "x", "x")):
        with pytest.raises(ValueError, match="no name"):
            store.path(room, owner, file)
    store.close()
