"""What a client is told: a status of HTTP, a word for programs, a line for people."""

from __future__ import annotations

from rdtf.errors import UserError


class ServiceError(UserError):
    """A request that is refused, or a job that failed.

    Attributes:
        status: of HTTP.
        code: a word for programs; part of the interface, see docs/rest.md.
        param: the field that is wrong, if it is one.
        retry_after_s: when to try again, if that may help.
    """

    status = 400
    code = "invalid_request"

    def __init__(
        self,
        message: str,
        *,
        code: str | None = None,
        param: str | None = None,
        retry_after_s: int | None = None,
    ) -> None:
        super().__init__(message)
        self.code = code or type(self).code
        self.param = param
        self.retry_after_s = retry_after_s


class WrongKeyError(ServiceError):
    status, code = 401, "invalid_api_key"


class ForeignOriginError(ServiceError):
    status, code = 403, "foreign_origin"


class NotFoundError(ServiceError):
    status, code = 404, "not_found"


class NotReadyError(ServiceError):
    """The result is asked for before it is there, or was never made."""

    status, code = 409, "not_ready"


class TooLargeError(ServiceError):
    status, code = 413, "too_large"


class BusyError(ServiceError):
    status, code = 429, "queue_full"


class UnavailableError(ServiceError):
    status, code = 503, "unavailable"


class DiskFullError(ServiceError):
    status, code = 507, "disk_full"
