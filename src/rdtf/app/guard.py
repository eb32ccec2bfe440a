"""Around the whole app: what is refused before it is read, and numbers for Prometheus."""

from __future__ import annotations

import ipaddress
import math
import time
from collections.abc import Mapping
from urllib.parse import urlsplit

from fastapi import HTTPException
from prometheus_client import (
    CollectorRegistry,
    Counter,
    Gauge,
    Histogram,
    ProcessCollector,
    generate_latest,
)
from starlette.datastructures import Headers, MutableHeaders
from starlette.responses import JSONResponse
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from rdtf.app.errors import ServiceError
from rdtf.app.jobs import Job, JobQueue

_SECONDS = (0.1, 0.3, 1, 3, 10, 30, 100, 300)
_SAFE_METHODS = ("GET", "HEAD", "OPTIONS")
_METHODS = (*_SAFE_METHODS, "POST", "DELETE", "PUT", "PATCH")
#: Nothing from elsewhere is ever loaded or called, whatever a component of the page would like.
_POLICY = (
    "default-src 'self' data: blob:; script-src 'self' 'unsafe-inline' 'unsafe-eval' blob:; "
    "style-src 'self' 'unsafe-inline'; object-src 'none'; base-uri 'self'; frame-ancestors 'self'"
)
_HEADERS = {
    "x-content-type-options": "nosniff",
    "referrer-policy": "no-referrer",
    "content-security-policy": _POLICY,
}


class Metrics:
    """Counts jobs as they finish and requests as they are answered."""

    def __init__(self, queue: JobQueue) -> None:
        self._registry = registry = CollectorRegistry()
        ProcessCollector(registry=registry)
        for name, what, count in (
            ("rdtf_jobs_waiting", "Jobs in the queue", lambda: queue.num_waiting),
            ("rdtf_jobs_running", "Jobs that run now", lambda: queue.num_running),
            ("rdtf_jobs_kept", "Jobs that are known", lambda: queue.num_kept),
        ):
            Gauge(name, what, registry=registry).set_function(count)
        self._jobs = Counter("rdtf_jobs", "Finished jobs", ["state"], registry=registry)
        self._seconds = Histogram(
            "rdtf_job_seconds", "From start to end of a job", registry=registry, buckets=_SECONDS
        )
        self._requests = Counter(
            "rdtf_http_requests", "Requests", ["method", "route", "status"], registry=registry
        )
        queue.listeners.append(self._finished)

    def _finished(self, job: Job) -> None:
        self._jobs.labels(job.state.value).inc()
        if job.started_s is not None and job.finished_s is not None:
            self._seconds.observe(job.finished_s - job.started_s)

    def answered(self, method: str, route: str, status: int) -> None:
        self._requests.labels(method, route, str(status)).inc()

    def text(self) -> bytes:
        return generate_latest(self._registry)


class _Attempts:
    """Wrong keys and passwords by address: ten at once, then one every five seconds."""

    _BURST, _SECONDS_EACH, _MAX_ADDRESSES = 10, 5.0, 4096

    def __init__(self) -> None:
        self._settled_s: dict[str, float] = {}  # address → when all its attempts are forgotten

    def refusal(self, address: str) -> ServiceError | None:
        wait_s = self._settled_s.get(address, 0.0) - time.monotonic()
        wait_s -= (self._BURST - 1) * self._SECONDS_EACH
        if wait_s <= 0:
            return None
        retry = math.ceil(wait_s)
        message = f"too many wrong keys or passwords; try again in {retry} s"
        return ServiceError(message, retry_after_s=retry, code="too_many_attempts")

    def failed(self, address: str) -> None:
        start_s = max(self._settled_s.pop(address, 0.0), time.monotonic())
        self._settled_s[address] = start_s + self._SECONDS_EACH
        if len(self._settled_s) > self._MAX_ADDRESSES:
            del self._settled_s[next(iter(self._settled_s))]


class Guard:
    """ASGI middleware around the whole app.

    Args:
        has_keys: whether keys are needed; without, only names of this machine are answered on the
            loopback interface, or any page could rebind its name to it.
    """

    def __init__(self, app: ASGIApp, max_body_bytes: int, metrics: Metrics, has_keys: bool) -> None:
        self._app, self._most, self._metrics = app, max_body_bytes, metrics
        self._has_keys, self._attempts = has_keys, _Attempts()

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] != "http":
            await self._app(scope, receive, send)
            return
        status = 500

        async def answer(message: Message) -> None:
            nonlocal status
            if message["type"] == "http.response.start":
                status = message["status"]
                headers = MutableHeaders(scope=message)
                for name, value in _HEADERS.items():
                    headers.setdefault(name, value)
            await send(message)

        try:
            refusal = self._refusal(scope)
            if refusal is not None:
                await error_answer(refusal)(scope, receive, answer)
            else:
                await self._app(scope, self._counted(receive), answer)
                if _shows_key(scope) and status in (400, 401):
                    self._attempts.failed(client_address(scope))
        finally:
            self._metrics.answered(*_labels(scope), status)

    def _refusal(self, scope: Scope) -> ServiceError | None:
        headers = Headers(scope=scope)
        length = headers.get("content-length", "")
        if length.isdigit() and int(length) > self._most:
            return self._too_large()
        if not self._has_keys and _is_rebound(scope, headers):
            message = "without API keys, this server answers only to localhost and 127.0.0.1"
            return ServiceError(message, code="foreign_host")
        if scope["method"] not in _SAFE_METHODS and _is_foreign(headers):
            message = "requests from the pages of other sites are refused"
            return ServiceError(message, code="foreign_origin")
        if self._has_keys and _shows_key(scope):
            return self._attempts.refusal(client_address(scope))
        return None

    def _counted(self, receive: Receive) -> Receive:
        """A body without a stated length is counted while it comes."""
        received = 0

        async def counted() -> Message:
            nonlocal received
            message = await receive()
            received += len(message.get("body", b""))
            if received > self._most:
                raise HTTPException(413, str(self._too_large()))
            return message

        return counted

    def _too_large(self) -> ServiceError:
        return ServiceError(f"the request is larger than {self._most} bytes", code="too_large")


def client_address(scope: Scope) -> str:
    return scope["client"][0] if scope.get("client") else ""


def _shows_key(scope: Scope) -> bool:
    """Whether a request tries a key, or a password of the page."""
    if scope["path"].rstrip("/") == "/login":
        return scope["method"] == "POST"
    return "authorization" in Headers(scope=scope)


def _is_rebound(scope: Scope, headers: Headers) -> bool:
    """Whether a request to the loopback interface names another host."""
    if not scope.get("server") or not _is_loopback(scope["server"][0]):
        return False
    name = urlsplit(f"//{headers.get('host', '')}").hostname or ""
    return name != "localhost" and not _is_loopback(name)


def _is_loopback(host: str) -> bool:
    try:
        return ipaddress.ip_address(host).is_loopback
    except ValueError:
        return False


def _is_foreign(headers: Headers) -> bool:
    """Whether a browser sends this for a page of another site (which needs no permission to)."""
    if site := headers.get("sec-fetch-site"):
        return site == "cross-site"
    origin = headers.get("origin")
    return origin is not None and urlsplit(origin).netloc != headers.get("host")


def _labels(scope: Scope) -> tuple[str, str]:
    """Method and route, never the path itself: clients must not be able to make new rows."""
    route = getattr(scope.get("route"), "path", None)
    path = scope["path"]
    if not isinstance(route, str):
        route = "other" if path.startswith("/v1") else "studio"
    method = scope["method"]
    return method if method in _METHODS else "other", route


def error_answer(error: ServiceError, headers: Mapping[str, str] | None = None) -> JSONResponse:
    """Every refusal in one shape."""
    kind = "server_error" if error.status >= 500 else "invalid_request_error"
    body = {"message": str(error), "type": kind, "param": error.param, "code": error.code}
    headers = dict(headers or {})
    if error.retry_after_s is not None:
        headers["Retry-After"] = str(error.retry_after_s)
    if error.status == 401:
        headers["WWW-Authenticate"] = "Bearer"
    return JSONResponse({"error": body}, error.status, headers)
