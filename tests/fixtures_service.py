"""A running core with a real tiny model: shared by the tests of the service and of the studio."""

from __future__ import annotations

import contextlib
import threading
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from rdtf.app.core import ApiKeys, Core
from rdtf.app.errors import Limits, ServiceError
from rdtf.app.job import Job, JobSpec
from rdtf.app.runner import PipelineRunner
from rdtf.sampling.options import SamplingOptions
from rdtf.sampling.pipeline import StickerPipeline
from rdtf.sampling.requests import ClipRequest
from rdtf.stickers import Sticker, encode_sticker

#: Enough steps to be still running whenever a test looks; such jobs are cancelled.
ENDLESS = 100_000
ENDLESS_LIMITS = Limits(max_steps=ENDLESS)

CoreMaker = Callable[..., Core]


@pytest.fixture
def make_core(pipeline: StickerPipeline, tmp_path: Path) -> Iterator[CoreMaker]:
    """Cores over the tiny pipeline, started and loaded; all are closed at the end."""
    cores: list[Core] = []

    def make(limits: Limits | None = None, *, keys: tuple[str, ...] = (), **options: Any) -> Core:
        source = options.pop("source", lambda: pipeline)
        work = tmp_path / f"work-{len(cores)}"
        core = Core.build(PipelineRunner(source), work, limits, ApiKeys(keys))
        cores.append(core)
        core.start()
        if options.pop("wait", True):
            core.runner.pipeline(60)
        return core

    yield make
    for core in cores:
        core.close()


@pytest.fixture
def core(make_core: CoreMaker) -> Core:
    return make_core()


def spec(pipeline: StickerPipeline, **settings: Any) -> JobSpec:
    """A job of two steps from text alone, at the pipeline's canvas."""
    canvas = pipeline.canvas
    settings = {"prompt": "a cat", "seeds": (1,), "size": (canvas, canvas), **settings}
    options = {"num_inference_steps": settings.pop("steps", 2), **settings.pop("options", {})}
    options = SamplingOptions(**{"output_size": "canvas", **options})
    request = settings.pop("request", None) or ClipRequest.blank(4, (canvas, canvas), 100)
    return JobSpec(request=request, options=options, **settings)


def given_request(pipeline: StickerPipeline, seed: int) -> ClipRequest:
    """Four frames, the first one given: a picture of its own for each seed."""
    return ClipRequest.place(still(pipeline.canvas, seed), [0], 4, 100)


def still(side: int, seed: int) -> Sticker:
    """A disc of one colour on nothing."""
    colors = np.random.default_rng(seed).integers(0, 256, 3)
    y, x = np.indices((side, side)) - side / 2
    frame = np.zeros((1, side, side, 4), np.uint8)
    frame[0, (x**2 + y**2) < (side / 3) ** 2] = [*colors, 255]
    return Sticker(frame, np.array([100]))


def moving_disc(side: int, num_frames: int, seed: int = 0) -> Sticker:
    """The disc of `still`, moving to the right."""
    frame = still(side, seed).frames[0]
    frames = np.stack([np.roll(frame, 2 * index, axis=1) for index in range(num_frames)])
    return Sticker(frames, np.full(num_frames, 100))


def png(sticker: Sticker) -> bytes:
    return encode_sticker(sticker.select([0]), ".png")


def direct(pipeline: StickerPipeline, spec: JobSpec) -> list[Sticker]:
    """What the job must give, by the pipeline itself."""
    return [
        pipeline.complete(
            spec.request,
            spec.prompt,
            **spec.options.arguments(),
            generator=torch.Generator().manual_seed(seed),
        )
        for seed in spec.seeds
    ]


@contextlib.contextmanager
def refused(code: str, match: str | None = None) -> Iterator[Any]:
    """As `pytest.raises`, by the code that clients see."""
    with pytest.raises(ServiceError, match=match) as caught:
        yield caught
    assert caught.value.code == code


def wait_for_steps(core: Core, job: Job) -> None:
    """Until the job has done its first denoising step."""
    version = job.version
    while job.steps_done == 0 and not job.is_finished:
        version = core.queue.wait(job, version, timeout_s=60)


def done(core: Core, job: Job) -> Job:
    core.queue.wait(job, timeout_s=120)
    assert job.is_finished
    return job


@contextlib.contextmanager
def running(core: Core, *, page: bool = False) -> Iterator[str]:
    """The core behind uvicorn; yields the address."""
    from rdtf.app.core import bind, make_app, make_server

    server = make_server(make_app(core, page=page))
    listener = bind("127.0.0.1", 0)
    listener.listen()  # connections are kept from here on
    thread = threading.Thread(target=server.run, kwargs={"sockets": [listener]})
    thread.start()
    try:
        yield "http://{}:{}".format(*listener.getsockname())
    finally:
        server.should_exit = True
        thread.join()
