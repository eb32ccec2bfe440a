"""REST: jobs in the `/v1/videos` shape, health, metrics. A thin layer over `core`."""

from __future__ import annotations

from collections.abc import Callable
from typing import Annotated, Any, Literal

import anyio.to_thread
from fastapi import Depends, FastAPI, Form, Query, Request, Response
from fastapi.exceptions import RequestValidationError
from fastapi.openapi.utils import get_openapi
from fastapi.routing import APIRoute
from prometheus_client import CONTENT_TYPE_LATEST
from pydantic import BaseModel, Field
from starlette.datastructures import Headers
from starlette.exceptions import HTTPException as StarletteHTTPException
from starlette.formparsers import MultiPartParser
from starlette.routing import Match
from starlette.types import Scope

import rdtf
from rdtf.app.core import Core, clip_of, content_of
from rdtf.app.errors import ServiceError
from rdtf.app.guard import Guard, Metrics, client_address, error_answer
from rdtf.app.job import Job, JobSpec, JobState
from rdtf.app.requests import (
    CreateVideo,
    CreateVideoForm,
    Extend,
    Given,
    Remix,
    VideoFields,
    given_of,
    remixed,
    to_spec,
)
from rdtf.app.store import MEDIA_TYPES, media_type


class JobError(BaseModel):
    code: str
    message: str


class Video(BaseModel):
    """A job and what came of it."""

    id: str
    object: Literal["video"] = "video"
    status: Literal["queued", "in_progress", "completed", "failed"]
    progress: int = Field(description="Percent.")
    created_at: int
    completed_at: int | None = None
    expires_at: int | None = None
    model: str
    prompt: str
    seconds: str
    size: str = Field(description="WIDTHxHEIGHT.")
    seed: int
    task: str
    frames: int
    platform: str
    queue_position: int | None = Field(default=None, description="Jobs before this one.")
    bytes: int | None = Field(default=None, description="Size of the content.")
    motion: str | None = Field(
        default=None, description="What was understood of the words, and the motion that it is."
    )
    remixed_from_video_id: str | None = None
    error: JobError | None = None


class VideoList(BaseModel):
    object: Literal["list"] = "list"
    data: list[Video]
    first_id: str | None = None
    last_id: str | None = None
    has_more: bool = False


class VideoDeleted(BaseModel):
    id: str
    object: Literal["video.deleted"] = "video.deleted"
    deleted: Literal[True] = True


class ErrorBody(BaseModel):
    message: str
    type: str
    param: str | None = None
    code: str


class ErrorAnswer(BaseModel):
    """Every refusal has this shape."""

    error: ErrorBody


def _to_video(job: Job, model: str, position: int) -> Video:
    """A job as clients see it. The interface has no "cancelled": that is a failure with a code."""
    status: Any = job.state.value
    error = None
    if job.state is JobState.CANCELLED:
        status, error = "failed", JobError(code="cancelled", message="it was cancelled")
    elif job.error is not None:
        error = JobError(code=job.error.code, message=str(job.error))
    spec, result = job.spec, job.results[0] if job.results else None
    height, width = spec.size
    return Video(
        id=job.id,
        status=status,
        progress=job.progress,
        created_at=int(job.created_s),
        completed_at=int(job.finished_s) if job.finished_s and error is None else None,
        expires_at=int(job.expires_s) if job.expires_s else None,
        model=model,
        prompt=spec.prompt,
        seconds=f"{int(spec.request.durations_ms.sum()) / 1000:g}",
        size=f"{width}x{height}",
        seed=spec.seeds[0],
        task=spec.task,
        frames=spec.request.num_frames,
        platform=spec.platform,
        queue_position=position if job.state is JobState.QUEUED else None,
        bytes=result.num_bytes if result else None,
        motion=(result.motion or None) if result else None,
        remixed_from_video_id=job.remix_of,
        error=error,
    )


# Files of a form stay in memory, which the limit on bodies bounds; no file is written for them.
MultiPartParser.spool_max_size = 2**40

_ERRORS: dict[int | str, dict[str, Any]] = {
    code: {"model": ErrorAnswer, "description": text}
    for code, text in {
        400: "Something in the request is wrong; `param` says what.",
        401: "No API key, or a wrong one.",
        403: "A page of another site asks, or the Host header names another machine.",
        404: "No such video, or it has expired.",
        409: "The content is not there yet.",
        413: "Too large.",
        429: "The queue is full, or too many wrong keys; Retry-After says when to try again.",
        500: "Internal server error.",
        503: "The model is loading or can't be loaded.",
        507: "The disk is full.",
    }.items()
}


_CREATE = "/v1/videos"
_ANY_ROUTE = (403, 413, 500)  # the guard's, and what should not happen
_KEYED = (401, 429)


def _errors(*codes: int) -> dict[int | str, dict[str, Any]]:
    keyed = _KEYED if 401 in codes else ()
    return {code: _ERRORS[code] for code in sorted({*codes, *keyed, *_ANY_ROUTE})}


def _owner_of(request: Request) -> str:
    """Whose jobs this request may see."""
    return request.app.state.core.keys.owner(request.headers.get("authorization"))


def _client_of(request: Request) -> str:
    """Whose turn in the queue a request takes: its key's, or its address's."""
    return _owner_of(request) or f"address {client_address(request.scope)}"


Owner = Annotated[str, Depends(_owner_of)]
Client = Annotated[str, Depends(_client_of)]


class _JobRoute(APIRoute):
    """Begins a job: key, queue and model are checked before the body is read and decoded."""

    def get_route_handler(self) -> Callable[[Request], Any]:
        handler = super().get_route_handler()

        async def checked(request: Request) -> Response:
            core: Core = request.app.state.core
            core.queue.check_room(_client_of(request), core.limits.max_waiting_per_client)
            core.runner.pipeline(0)
            return await handler(request)

        return checked


class _FormRoute(_JobRoute):
    """Takes forms only: all else is for the JSON route of the same path."""

    def matches(self, scope: Scope) -> Any:
        kind = Headers(scope=scope).get("content-type", "").partition(";")[0].strip().lower()
        is_form = kind in ("multipart/form-data", "application/x-www-form-urlencoded")
        return super().matches(scope) if is_form else (Match.NONE, {})


def create_app(core: Core) -> FastAPI:
    """The app of one `core`; the studio's page is mounted into it by `rdtf.app.studio`."""
    metrics = Metrics(core.queue)
    app = FastAPI(
        title="rdtf",
        version=rdtf.__version__,
        description="Animated stickers as jobs: create one, ask for it until it is completed, "
        "fetch its content.",
        docs_url=None,  # those pages load scripts from elsewhere
        redoc_url=None,
        generate_unique_id_function=lambda route: route.name,
    )
    app.add_middleware(
        Guard, max_body_bytes=core.limits.max_body_bytes, metrics=metrics, has_keys=bool(core.keys)
    )
    app.state.core = core
    _add_error_handlers(app)
    _add_health(app, core, metrics)
    _add_videos(app, core)
    _add_making(app, core)
    _add_refusals(app)
    app.openapi = lambda: _openapi(app)  # type: ignore[method-assign]
    return app


def _add_error_handlers(app: FastAPI) -> None:
    @app.exception_handler(ServiceError)
    async def refused(request: Request, error: ServiceError) -> Response:
        return error_answer(error)

    @app.exception_handler(RequestValidationError)
    async def invalid(request: Request, error: RequestValidationError) -> Response:
        return error_answer(_as_service_error(error.errors()[0], request.url.path))

    @app.exception_handler(StarletteHTTPException)
    async def plain(request: Request, error: StarletteHTTPException) -> Response:
        refusal = ServiceError.of_status(error.status_code, str(error.detail))
        return error_answer(refusal, error.headers)

    @app.exception_handler(Exception)
    async def internal(request: Request, error: Exception) -> Response:
        message = "internal server error; see the server's log"
        return error_answer(ServiceError(message, code="internal"))


def _as_service_error(first: dict[str, Any], path: str) -> ServiceError:
    """What pydantic found, as one line about one field."""
    if first["type"] == "model_attributes_type" or first["loc"] == ("body",):
        message = "the body must be a JSON object, sent as application/json"
        form = "; or a form, multipart/form-data or application/x-www-form-urlencoded"
        return ServiceError(message + (form if path == _CREATE else ""))
    if "UploadFile" in first["msg"]:
        message = "input_reference: forms take files (multipart/form-data), JSON data URLs"
        return ServiceError(message, param="input_reference")
    if first["type"] == "json_invalid":
        return ServiceError(f"the body is no valid JSON: {first['ctx']['error']}"[:300])
    where = next((part[:40] for part in first["loc"][1:2] if isinstance(part, str)), None)
    words = str(first["ctx"]["error"]) if first["type"] == "value_error" else first["msg"]
    return ServiceError(f"{where}: {words}"[:300] if where else words[:300], param=where)


def _add_refusals(app: FastAPI) -> None:
    """Other methods and paths of the interface, which else would reach the page behind it."""
    methods: dict[str, set[str]] = {}
    for route in app.routes:
        if isinstance(route, APIRoute):
            methods.setdefault(route.path, set()).update(route.methods or ())

    def refuse(path: str, allowed: str) -> None:
        @app.api_route(path, methods=_ALL_METHODS, include_in_schema=False)
        async def not_allowed() -> None:
            raise StarletteHTTPException(405, "method not allowed", {"Allow": allowed})

    for path in sorted(methods, key=lambda path: "{" in path):
        refuse(path, ", ".join(sorted(methods[path])))

    @app.api_route("/v1/{rest:path}", methods=_ALL_METHODS, include_in_schema=False)
    async def not_found() -> None:
        raise StarletteHTTPException(404, "there is no such path")


_ALL_METHODS = ["GET", "HEAD", "OPTIONS", "POST", "PUT", "PATCH", "DELETE", "TRACE", "QUERY"]


def _add_health(app: FastAPI, core: Core, metrics: Metrics) -> None:
    @app.get("/healthz", tags=["health"], responses=_errors(503))
    async def healthz() -> dict[str, str]:
        """The process lives."""
        if not core.queue.is_alive:
            raise ServiceError("the worker has stopped; restart the server", code="unavailable")
        return {"status": "ok"}

    @app.get("/readyz", tags=["health"], responses=_errors(503))
    async def readyz() -> dict[str, Any]:
        """The model is loaded and jobs are taken."""
        core.check_ready()
        waiting, most = core.queue.num_waiting, core.limits.max_waiting
        return {"status": "ready", "waiting": waiting, "max_waiting": most}

    @app.get(
        "/metrics",
        tags=["health"],
        response_class=Response,
        responses={200: _METRICS, **_errors(401)},
        dependencies=[Depends(_owner_of)],
    )
    def read_metrics() -> Response:
        """Numbers for Prometheus."""
        return Response(metrics.text(), media_type=CONTENT_TYPE_LATEST)


def _add_videos(app: FastAPI, core: Core) -> None:
    queue = core.queue

    def shown(job: Job) -> Video:
        return _to_video(job, core.runner.name, queue.position(job))

    @app.get("/v1/models", tags=["videos"], responses=_errors(401))
    async def list_models(owner: Owner) -> dict[str, Any]:
        """The one model of this server."""
        model = {"id": core.runner.name, "object": "model", "owned_by": "rdtf"}
        return {"object": "list", "data": [model]}

    @app.get(_CREATE, tags=["videos"], responses=_errors(400, 401, 404))
    def list_videos(
        owner: Owner,
        after: str | None = None,
        limit: Annotated[int, Query(ge=1, le=100)] = 20,
        order: Literal["asc", "desc"] = "desc",
    ) -> VideoList:
        """Your jobs, newest first; `after` is the last id of the page before."""
        jobs = queue.list(owner)
        if order == "desc":
            jobs.reverse()
        if after is not None:
            ids = [job.id for job in jobs]
            if after not in ids:
                message = "no video of yours has this id any more; list again from the first page"
                raise ServiceError(f"after: {message}", code="not_found", param="after")
            jobs = jobs[ids.index(after) + 1 :]
        page = [shown(job) for job in jobs[:limit]]
        return VideoList(
            data=page,
            first_id=page[0].id if page else None,
            last_id=page[-1].id if page else None,
            has_more=len(jobs) > limit,
        )

    @app.get("/v1/videos/{video_id}", tags=["videos"], responses=_errors(401, 404))
    def read_video(video_id: str, owner: Owner) -> Video:
        """How a job is doing."""
        return shown(queue.get(video_id, owner))

    @app.delete("/v1/videos/{video_id}", tags=["videos"], responses=_errors(401, 404))
    def delete_video(video_id: str, owner: Owner) -> VideoDeleted:
        """Delete a video. If it waits or runs, that ends, and its place is free."""
        job = queue.get(video_id, owner)
        queue.delete(job)
        return VideoDeleted(id=job.id)

    @app.get(
        "/v1/videos/{video_id}/content",
        tags=["videos"],
        response_class=Response,
        responses={200: _CONTENT, **_errors(400, 401, 404, 409)},
    )
    def read_content(
        video_id: str, owner: Owner, variant: Literal["video", "thumbnail", "spritesheet"] = "video"
    ) -> Response:
        """The file: the clip or its export; `thumbnail` and `spritesheet` are PNG."""
        job = queue.get(video_id, owner)
        data, suffix = content_of(job, variant)
        headers = {"Content-Disposition": f'attachment; filename="{job.id}{suffix}"'}
        return Response(data, media_type=media_type(suffix), headers=headers)


def _add_making(app: FastAPI, core: Core) -> None:
    """The routes that begin a job."""
    queue = core.queue
    decoding = anyio.CapacityLimiter(2)  # uploads at a time: each may take 128 MiB

    def submit(spec: JobSpec, owner: str, client: str, remix_of: str | None = None) -> Video:
        job = queue.submit(
            spec,
            owner,
            client=client,
            max_own=core.limits.max_waiting_per_client,
            remix_of=remix_of,
            is_durable=True,
        )
        return _to_video(job, core.runner.name, queue.position(job))

    def spec_of(asked: VideoFields, given: list[Given]) -> JobSpec:
        pipeline = core.runner.pipeline(0)
        return to_spec(asked, given, pipeline.canvas, pipeline.max_frames, core.limits)

    async def begin(asked: CreateVideo | CreateVideoForm, owner: str, client: str) -> Video:
        if asked.model not in (None, core.runner.name):
            message = f"there is no model {asked.model!r}; there is {core.runner.name}"
            raise ServiceError(message, code="model_not_found", param="model")

        def decode_and_submit() -> Video:
            return submit(spec_of(asked, given_of(asked, core, owner)), owner, client)

        return await anyio.to_thread.run_sync(decode_and_submit, limiter=decoding)

    def post(path: str, route: type[APIRoute] = _JobRoute, **options: Any) -> Callable[..., None]:
        def add(endpoint: Callable[..., Any]) -> None:
            options["route_class_override"] = route
            app.router.add_api_route(path, endpoint, methods=["POST"], tags=["videos"], **options)

        return add

    created = _begun(400, 401, 404, 409, 413, 429, 503, 507)

    @post(_CREATE, _FormRoute)
    async def create_video_of_form(
        form: Annotated[CreateVideoForm, Form(media_type=_MULTIPART)], owner: Owner, client: Client
    ) -> Video:
        return await begin(form, owner, client)

    @post(_CREATE, responses=created, openapi_extra=_FORM_BODY)
    async def create_video(asked: CreateVideo, owner: Owner, client: Client) -> Video:
        """Begin a job. JSON, or a multipart form with files."""
        return await begin(asked, owner, client)

    begun = _begun(400, 401, 404, 409, 429, 503, 507)

    @post("/v1/videos/{video_id}/remix", responses=begun)
    def remix_video(video_id: str, body: Remix, owner: Owner, client: Client) -> Video:
        """The same given frames, settings and seed with another text, as a new job."""
        job = queue.get(video_id, owner)
        spec = remixed(job.spec, clip_of(job), body.prompt, core.limits)
        return submit(spec, owner, client, remix_of=job.id)

    @post("/v1/videos/extensions", responses=begun)
    def extend_video(body: Extend, owner: Owner, client: Client) -> Video:
        """More frames behind a completed video, as a new job."""
        job = queue.get(body.video.id, owner)
        clip = clip_of(job)
        after = body.frames
        if after is None:
            mean_ms = clip.total_ms / clip.num_frames
            after = max(1, round((body.seconds or mean_ms / 1000) * 1000 / mean_ms))
        asked = CreateVideo(
            prompt=body.prompt,
            task="predict",
            after=after,
            seed=body.seed,
            steps=body.steps,
            size="input",
        )
        return submit(spec_of(asked, [Given(clip)]), owner, client)


# ------------------------------------------------------------------------------ OpenAPI

_MULTIPART = "multipart/form-data"
_FORM_BODY = {
    "requestBody": {
        "content": {_MULTIPART: {"schema": {"$ref": "#/components/schemas/CreateVideoForm"}}}
    }
}
_METRICS = {"description": "Prometheus text.", "content": {"text/plain": {}}}
_CONTENT = {
    "description": "The file.",
    "content": {kind: {"schema": {"type": "string", "format": "binary"}} for kind in MEDIA_TYPES},
}
_ID = "$response.body#/id"
_LINKS = {
    name: {"operationId": name, "parameters": {"video_id": _ID}}
    for name in ("read_video", "read_content", "remix_video", "delete_video")
} | {"extend_video": {"operationId": "extend_video", "requestBody": {"video": {"id": _ID}}}}


def _begun(*codes: int) -> dict[int | str, dict[str, Any]]:
    """The answers of a route that begins a job; links say where its id leads."""
    return {200: {"links": _LINKS}, **_errors(*codes)}


def _openapi(app: FastAPI) -> dict[str, Any]:
    """FastAPI's document, less its own answer 422, which is our 400; a key may be needed."""
    if app.openapi_schema is None:
        document = get_openapi(
            title=app.title, version=app.version, description=app.description, routes=app.routes
        )
        for operations in document["paths"].values():
            for operation in operations.values():
                operation["responses"].pop("422", None)
        for unused in ("HTTPValidationError", "ValidationError"):
            document["components"]["schemas"].pop(unused, None)
        schemes = {"key": {"type": "http", "scheme": "bearer"}}
        document["components"]["securitySchemes"] = schemes
        document["security"] = [{}, {"key": []}]
        app.openapi_schema = document
    return app.openapi_schema
