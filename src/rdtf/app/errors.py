"""What a client is told: a status of HTTP, a word for programs, a line for people; and limits."""

from __future__ import annotations

from dataclasses import dataclass, fields

from rdtf.errors import ConfigError, UserError
from rdtf.stickers import Budget

#: Code → status of HTTP; any other is a 400. Part of the interface, see docs/rest.md.
_STATUS = {
    "invalid_api_key": 401,
    "foreign_host": 403,  # a name that is not this machine's: DNS rebinding
    "foreign_origin": 403,
    "not_found": 404,
    "method_not_allowed": 405,
    "not_ready": 409,
    "failed": 409,
    "too_large": 413,
    "queue_full": 429,
    "too_many_attempts": 429,
    "internal": 500,
    "unavailable": 503,
    "model_failed": 503,
    "disk_full": 507,
}


class ServiceError(UserError):
    """A request that is refused, or a job that failed.

    Args:
        code: a word for programs, which settles the status.
        param: the field that is wrong, if it is one.
        retry_after_s: when to try again, if that may help.
    """

    def __init__(
        self,
        message: str,
        *,
        code: str = "invalid_request",
        param: str | None = None,
        retry_after_s: int | None = None,
    ) -> None:
        super().__init__(message)
        self.code, self.param, self.retry_after_s = code, param, retry_after_s
        self.status = _STATUS.get(code, 400)

    @classmethod
    def of_status(cls, status: int, message: str) -> ServiceError:
        """One that a framework gave a status only."""
        codes = {404: "not_found", 405: "method_not_allowed", 413: "too_large"}
        error = cls(message, code=codes.get(status, "invalid_request"))
        error.status = status
        return error


_MIB = 2**20


_UPLOAD = Budget(
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
    upload: Budget = _UPLOAD
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
