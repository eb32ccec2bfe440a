"""REST: jobs in the `/v1/videos` shape, health, metrics. A thin layer over `core`."""

from __future__ import annotations

from typing import Annotated, Any, Literal

import anyio.to_thread
from fastapi import Depends, FastAPI, Query, Request, Response
from fastapi.exceptions import RequestValidationError
from fastapi.openapi.utils import get_openapi
from fastapi.routing import APIRoute
from starlette.exceptions import HTTPException as StarletteHTTPException

import rdtf
from rdtf.app.access import CONTENT_TYPE, Guard, Metrics, client_address, error_answer
from rdtf.app.core import Core, clip_of, content_of
from rdtf.app.errors import ServiceError, UnavailableError
from rdtf.app.job import Job
from rdtf.app.requests import Given, read_request, remixed, to_given, to_spec
from rdtf.app.schema import (
    CreateVideo,
    ErrorAnswer,
    Extend,
    Reference,
    Remix,
    Video,
    VideoDeleted,
    VideoList,
    to_video,
)
from rdtf.app.spec import JobSpec, new_seeds
from rdtf.app.store import MEDIA_TYPES

_ERRORS: dict[int | str, dict[str, Any]] = {
    code: {"model": ErrorAnswer, "description": text}
    for code, text in {
        400: "Something in the request is wrong; `param` says what.",
        401: "No API key, or a wrong one.",
        403: "The page of another site, or a foreign Host, asks.",
        404: "No such video, or it has expired.",
        409: "The content is not there yet.",
        413: "Too large.",
        429: "The queue is full, or too many wrong keys; Retry-After says when to try again.",
        500: "A mistake of the server.",
        503: "The model is loading or can't be loaded.",
        507: "The disk is full.",
    }.items()
}


_ANY_ROUTE = (403, 413, 500)  # the guard's, and what should not happen
_KEYED = (401, 429)


def _errors(*codes: int) -> dict[int | str, dict[str, Any]]:
    keyed = _KEYED if 401 in codes else ()
    return {code: _ERRORS[code] for code in sorted({*codes, *keyed, *_ANY_ROUTE})}


def owner_of(request: Request) -> str:
    """Whose jobs this request may see."""
    return request.app.state.core.keys.owner(request.headers.get("authorization"))


def client_of(request: Request) -> str:
    """Whose turn in the queue a request takes: its key's, or its address's."""
    return owner_of(request) or f"address {client_address(request.scope)}"


Owner = Annotated[str, Depends(owner_of)]
Client = Annotated[str, Depends(client_of)]


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
    )
    app.add_middleware(
        Guard,
        max_body_bytes=core.limits.max_body_bytes,
        metrics=metrics,
        has_keys=bool(core.keys),
    )
    app.state.core = core
    _add_error_handlers(app)
    _add_health(app, core, metrics)
    _add_videos(app, core)
    _add_refusals(app)
    app.openapi = lambda: _openapi(app)  # type: ignore[method-assign]
    return app


def _add_error_handlers(app: FastAPI) -> None:
    @app.exception_handler(ServiceError)
    async def refused(request: Request, error: ServiceError) -> Response:
        return error_answer(error)

    @app.exception_handler(RequestValidationError)
    async def invalid(request: Request, error: RequestValidationError) -> Response:
        first = error.errors()[0]
        where = str(first["loc"][-1]) if first["loc"] else None
        return error_answer(ServiceError(f"{where}: {first['msg']}", param=where))

    @app.exception_handler(StarletteHTTPException)
    async def plain(request: Request, error: StarletteHTTPException) -> Response:
        refusal = ServiceError(str(error.detail), code=_CODES.get(error.status_code))
        refusal.status = error.status_code
        return error_answer(refusal, error.headers)

    @app.exception_handler(Exception)
    async def internal(request: Request, error: Exception) -> Response:
        refusal = ServiceError("a mistake of the server; see its log", code="internal")
        refusal.status = 500
        return error_answer(refusal)


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
_CODES = {404: "not_found", 405: "method_not_allowed", 413: "too_large"}


def _add_health(app: FastAPI, core: Core, metrics: Metrics) -> None:
    @app.get("/healthz", tags=["health"], responses=_errors(503))
    async def healthz() -> dict[str, str]:
        """The process lives."""
        if not core.queue.is_alive:
            raise UnavailableError("the worker has stopped; start the server again")
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
        dependencies=[Depends(owner_of)],
    )
    def read_metrics() -> Response:
        """Numbers for Prometheus."""
        return Response(metrics.text(), media_type=CONTENT_TYPE)


def _add_videos(app: FastAPI, core: Core) -> None:
    queue = core.queue

    def shown(job: Job) -> Video:
        return to_video(job, core.runner.name, queue.position(job))

    def submit(spec: JobSpec, owner: str, client: str, remix_of: str | None = None) -> Video:
        job = queue.submit(
            spec,
            owner,
            client=client,
            max_own=core.limits.max_waiting_per_client,
            remix_of=remix_of,
            is_durable=True,
        )
        return shown(job)

    def spec_of(asked: CreateVideo, given: list[Given]) -> JobSpec:
        pipeline = core.runner.pipeline(0)
        return to_spec(asked, given, pipeline.canvas, pipeline.max_frames, core.limits)

    @app.get("/v1/models", tags=["videos"], responses=_errors(401))
    async def list_models(owner: Owner) -> dict[str, Any]:
        """The one model of this server."""
        model = {"id": core.runner.name, "object": "model", "owned_by": "rdtf"}
        return {"object": "list", "data": [model]}

    @app.post(
        "/v1/videos",
        tags=["videos"],
        responses=_errors(400, 401, 404, 409, 413, 429, 503, 507),
        openapi_extra={"requestBody": _BODY},
    )
    async def create_video(request: Request, owner: Owner, client: Client) -> Video:
        """Begin a job. JSON, or a multipart form with files."""
        queue.check_room(
            client, core.limits.max_waiting_per_client
        )  # before megabytes are read and decoded
        core.runner.pipeline(0)
        body = await read_request(request, core.limits)
        if body.asked.model not in (None, core.runner.name):
            message = f"there is no model {body.asked.model!r}; there is {core.runner.name}"
            raise ServiceError(message, code="model_not_found", param="model")

        def begin() -> Video:
            return submit(spec_of(body.asked, to_given(body, core, owner)), owner, client)

        return await anyio.to_thread.run_sync(begin, limiter=_limiter(app))

    @app.get("/v1/videos", tags=["videos"], responses=_errors(400, 401))
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
            jobs = jobs[ids.index(after) + 1 :] if after in ids else []
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
        video_id: str,
        owner: Owner,
        variant: Literal["video", "thumbnail", "spritesheet"] = "video",
    ) -> Response:
        """The file: the clip or its export; `thumbnail` and `spritesheet` are PNG."""
        job = queue.get(video_id, owner)
        data, media_type, suffix = content_of(job, variant)
        headers = {"Content-Disposition": f'attachment; filename="{job.id}{suffix}"'}
        return Response(data, media_type=media_type, headers=headers)

    @app.post(
        "/v1/videos/{video_id}/remix",
        tags=["videos"],
        responses=_errors(400, 401, 404, 409, 429, 503, 507),
    )
    def remix_video(video_id: str, body: Remix, owner: Owner, client: Client) -> Video:
        """The same given frames, settings and seed with another text, as a new job."""
        job = queue.get(video_id, owner)
        spec = remixed(job.spec, clip_of(job), body.prompt, core.limits)
        return submit(spec, owner, client, remix_of=job.id)

    @app.post(
        "/v1/videos/extensions",
        tags=["videos"],
        responses=_errors(400, 401, 404, 409, 429, 503, 507),
    )
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
            seed=new_seeds(body.seed, 1)[0],
            steps=body.steps,
            size=f"{clip.width}x{clip.height}",
        )
        return submit(spec_of(asked, [Given(clip)]), owner, client)


def _limiter(app: FastAPI) -> anyio.CapacityLimiter:
    """At most two uploads are decoded at a time: each may take 128 MiB."""
    if not hasattr(app.state, "limiter"):
        app.state.limiter = anyio.CapacityLimiter(2)
    return app.state.limiter


# ------------------------------------------------------------------------------ OpenAPI

_SCHEMA = "#/components/schemas/CreateVideo"
_FILES = {"type": "array", "items": {"type": "string", "format": "binary"}}
_POSITIONS = {
    "type": "array",
    "items": {"type": "integer", "minimum": 0},
    "description": "The frame that each file becomes, in the order of the files.",
}
_BODY = {
    "required": True,
    "content": {
        "application/json": {"schema": {"$ref": _SCHEMA}},
        "multipart/form-data": {"schema": {"$ref": f"{_SCHEMA}Form"}},
    },
}
_METRICS = {"description": "Prometheus text.", "content": {"text/plain": {}}}
_CONTENT = {
    "description": "The file.",
    "content": {
        kind: {"schema": {"type": "string", "format": "binary"}}
        for kind in sorted({*MEDIA_TYPES.values(), "application/octet-stream"})
    },
}


def _form_schema(schema: dict[str, Any]) -> dict[str, Any]:
    """The same fields as parts of a form, in which there is no null, and files."""
    fields: dict[str, Any] = {}
    for name, field in schema["properties"].items():
        values = [kind for kind in field.get("anyOf", ()) if kind != {"type": "null"}]
        plain = {key: value for key, value in field.items() if key not in ("anyOf", "default")}
        fields[name] = {**plain, **values[0]} if values else field
    fields |= {"input_reference": _FILES, "input_reference_frame": _POSITIONS}
    return {**schema, "title": "CreateVideoForm", "properties": fields}


def _openapi(app: FastAPI) -> dict[str, Any]:
    """FastAPI's document and the schemas of the body that is read by hand."""
    if app.openapi_schema is None:
        document = get_openapi(
            title=app.title, version=app.version, description=app.description, routes=app.routes
        )
        schemas = document.setdefault("components", {}).setdefault("schemas", {})
        for model in (CreateVideo, Reference):
            schema = model.model_json_schema(ref_template="#/components/schemas/{model}")
            schema.pop("$defs", None)
            schemas[model.__name__] = schema
        schemas["CreateVideoForm"] = _form_schema(schemas["CreateVideo"])
        for operations in document["paths"].values():
            for operation in operations.values():
                operation["responses"].pop("422", None)  # answered as 400, in our shape
        for unused in ("HTTPValidationError", "ValidationError"):
            schemas.pop(unused, None)
        schemes = {"key": {"type": "http", "scheme": "bearer"}}
        document["components"]["securitySchemes"] = schemes
        document["security"] = [{}, {"key": []}]
        app.openapi_schema = document
    return app.openapi_schema
