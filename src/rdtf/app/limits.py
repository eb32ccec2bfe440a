"""What one client, one job and the whole server may cost."""

from __future__ import annotations

from dataclasses import dataclass, field, fields

from rdtf.errors import ConfigError
from rdtf.stickers import Budget

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
        max_waiting: jobs that wait, of everybody.
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

    def __post_init__(self) -> None:
        for entry in fields(self):
            value = getattr(self, entry.name)
            if isinstance(value, int) and value < 1:
                raise ConfigError(f"{entry.name} is {value}; it must be at least 1")
