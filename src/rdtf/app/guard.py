"""What holds for every request, the page's too: size, origin, headers, counting."""

from __future__ import annotations

from urllib.parse import urlsplit

from fastapi import HTTPException
from starlette.datastructures import Headers, MutableHeaders
from starlette.responses import JSONResponse
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from rdtf.app.errors import ForeignOriginError, ServiceError, TooLargeError
from rdtf.app.metrics import Metrics

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


class Guard:
    """ASGI middleware around the whole app."""

    def __init__(self, app: ASGIApp, max_body_bytes: int, metrics: Metrics) -> None:
        self._app, self._most, self._metrics = app, max_body_bytes, metrics

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
        finally:
            self._metrics.answered(*_labels(scope), status)

    def _refusal(self, scope: Scope) -> ServiceError | None:
        headers = Headers(scope=scope)
        length = headers.get("content-length", "")
        if length.isdigit() and int(length) > self._most:
            return self._too_large()
        if scope["method"] not in _SAFE_METHODS and _is_foreign(headers):
            return ForeignOriginError("requests from the pages of other sites are refused")
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

    def _too_large(self) -> TooLargeError:
        return TooLargeError(f"the request is larger than {self._most} bytes")


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


def error_answer(error: ServiceError) -> JSONResponse:
    """Every refusal in one shape."""
    kind = "server_error" if error.status >= 500 else "invalid_request_error"
    body = {"message": str(error), "type": kind, "param": error.param, "code": error.code}
    headers = {}
    if error.retry_after_s is not None:
        headers["Retry-After"] = str(error.retry_after_s)
    if error.status == 401:
        headers["WWW-Authenticate"] = "Bearer"
    return JSONResponse({"error": body}, error.status, headers)
