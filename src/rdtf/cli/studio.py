"""`rdtf studio`: the web page and the REST interface, in one process."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from rdtf.cli.output import note

if TYPE_CHECKING:
    from rdtf.app.errors import Limits

_MIB = 2**20


@dataclass(kw_only=True)
class StudioCommand:
    """Serve a page to make stickers with, and REST jobs under /v1/videos.

    Nothing is loaded from elsewhere, and nothing is sent there. Stop it with Ctrl-C.

    Example: rdtf studio --model RUN

    Example: rdtf studio --model RUN --host 0.0.0.0 --api-key-file keys.txt --no-page
    """

    model: Path | None = None
    """Run directory of `rdtf train`, or a saved pipeline. Default: the model that ships."""
    host: str = "127.0.0.1"
    """Address to listen on; 0.0.0.0 lets other machines in: set --api-key-file then."""
    port: int = 7860
    """Port to listen on; 0 = any that is free."""
    api_key_file: Path | None = None
    """File with API keys, one per line: bearer tokens for REST, passwords for the page."""
    work: Path | None = None
    """Folder for jobs and uploads; jobs survive a restart. Default:
    ~/.local/state/rdtf/studio-PORT."""
    no_page: bool = False
    """REST only."""
    max_waiting: int = 32
    """Most jobs in the queue; further ones are refused (status 429)."""
    max_frames: int = 480
    """Most frames of one clip."""
    max_steps: int = 100
    """Most denoising steps of one job."""
    max_upload_mb: int = 16
    """Largest uploaded picture or clip, in MiB."""
    keep_minutes: int = 60
    """How long the results of finished jobs are kept."""

    def run(self) -> None:
        from rdtf.app.core import ApiKeys, Core, bind, serve, work_folder
        from rdtf.app.runner import PipelineRunner
        from rdtf.sampling.options import check_model

        _end_on_signals()
        keys = ApiKeys.from_file(self.api_key_file) if self.api_key_file else ApiKeys()
        if self.model is not None:
            check_model(self.model)
        with bind(self.host, self.port) as listener, work_folder(self.work, self.port) as work:
            core = Core.build(PipelineRunner(self.model), work, self._limits(), keys)
            host, port = listener.getsockname()[:2]
            address = f"http://[{host}]:{port}" if ":" in host else f"http://{host}:{port}"

            def up() -> None:
                what = "REST" if self.no_page else "studio"
                note(f"rdtf {what} at {address} (Ctrl-C stops it); loading the model")
                if not keys and host not in ("127.0.0.1", "::1"):
                    note("rdtf: anyone who can reach this address can use it; see --api-key-file")

            serve(core, listener, page=not self.no_page, on_up=up)

    def _limits(self) -> Limits:
        from dataclasses import replace

        from rdtf.app.errors import Limits

        limits = Limits()
        upload_bytes = self.max_upload_mb * _MIB
        return replace(
            limits,
            max_body_bytes=max(limits.max_body_bytes, upload_bytes * 3 // 2),
            upload=replace(limits.upload, max_bytes=upload_bytes),
            max_waiting=self.max_waiting,
            max_frames=self.max_frames,
            max_steps=self.max_steps,
            keep_seconds=self.keep_minutes * 60,
        )


def _end_on_signals() -> None:
    """SIGTERM ends like Ctrl-C: in order, with status 0."""
    import signal
    import sys

    for number in (signal.SIGINT, signal.SIGTERM):
        signal.signal(number, lambda *_: sys.exit(0))
