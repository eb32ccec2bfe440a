"""What a client is told: a status of HTTP, a word for programs, a line for people."""

from __future__ import annotations

from dataclasses import dataclass, field, fields

from rdtf.errors import ConfigError, UserError
from rdtf.stickers import Budget


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


class TooManyAttemptsError(ServiceError):
    status, code = 429, "too_many_attempts"


class ForeignHostError(ServiceError):
    """A name that is not this machine's: DNS rebinding."""

    status, code = 403, "foreign_host"


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


_MIB = 2**20


def _upload_budget() -> Budget:
    return Budget(
        max_bytes=16 * _MIB,
        max_canvas=2048,
        max_frames=240,
        max_total_pixels=2**25,  # 128 MiB of RGBA
        max_duration_ms=60_000,
    )


@dataclass(frozen=True)
class Limits:
    """All inclusive.

    Attributes:
        max_body_bytes: of one HTTP request.
        upload: of one picture or clip, checked before any pixel is decoded.
        max_data_url_chars: of a picture inside JSON.
        max_references: pictures in one request.
        max_frames, max_steps, max_variants, max_side: of one job; the side in pixels.
        max_prompt_chars: of the text.
        max_waiting: jobs that wait, of everybody; one REST client has three quarters of them.
        max_waiting_per_session: jobs of one studio session that wait.
        max_waiting_bytes: pixels of all jobs that wait.
        keep_seconds: how long a finished job can be fetched.
        max_kept, max_kept_bytes: finished jobs and the bytes of their files; the oldest go first.
        max_sessions: studio sessions; the ones idle for longest go first.
        session_seconds: how long an idle studio session is kept.
        reload_seconds: how long a job goes on after its page is gone, so that it may come back.
        max_history, max_pack: stickers in a session's history and pack.
    """

    max_body_bytes: int = 24 * _MIB
    upload: Budget = field(default_factory=_upload_budget)
    max_data_url_chars: int = 20_971_520
    max_references: int = 64
    max_frames: int = 480
    max_steps: int = 100
    max_variants: int = 6
    max_side: int = 1024
    max_prompt_chars: int = 2000
    max_waiting: int = 32
    max_waiting_per_session: int = 4
    max_waiting_bytes: int = 256 * _MIB
    keep_seconds: int = 3600
    max_kept: int = 500
    max_kept_bytes: int = 2048 * _MIB
    max_sessions: int = 64
    session_seconds: int = 24 * 3600
    reload_seconds: float = 20.0
    max_history: int = 48
    max_pack: int = 120

    @property
    def max_waiting_per_client(self) -> int:
        return max(1, self.max_waiting * 3 // 4)

    def __post_init__(self) -> None:
        for entry in fields(self):
            value = getattr(self, entry.name)
            if isinstance(value, int) and value < 1:
                raise ConfigError(f"{entry.name} is {value}; it must be at least 1")
