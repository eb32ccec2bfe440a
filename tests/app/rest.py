"""What a client of the REST interface does, in a few words."""

from __future__ import annotations

import base64

from fixtures_service import (
    moving_disc,
    png,
    still,
)
from rdtf.stickers import encode_sticker


def data_url(data: bytes) -> str:
    return "data:image/png;base64," + base64.b64encode(data).decode()


SMALL = data_url(png(still(16, 1)))
CLIP = data_url(encode_sticker(moving_disc(16, 3), ".gif"))


def finished(core, client, video, **options):
    """The job as it is when it has ended."""
    for job in core.queue._jobs.values():
        core.queue.wait(job, timeout_s=120)
    return client.get(f"/v1/videos/{video['id']}", **options).json()


def make(core, client, body=None, **options):
    answer = client.post("/v1/videos", json=body, **options)
    assert answer.status_code == 200, answer.text
    video = answer.json()
    assert (video["object"], video["error"]) == ("video", None)
    return finished(core, client, video)


def content(client, video, **options):
    answer = client.get(f"/v1/videos/{video['id']}/content", **options)
    assert answer.status_code == 200, answer.text
    return answer
