"""Reading the body of `POST /v1/videos`: JSON or a multipart form, into the same model."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

from fastapi import Request
from pydantic import ValidationError
from starlette.datastructures import UploadFile
from starlette.formparsers import MultiPartParser

from rdtf.app.asked import Given
from rdtf.app.core import Core, clip_of
from rdtf.app.errors import ServiceError
from rdtf.app.limits import Limits
from rdtf.app.schemas import CreateVideo, Reference
from rdtf.app.uploads import decode_data_url, decode_upload

_MAX_FIELDS = 128
_POSITION = "input_reference_frame"

# Parts of a form stay in memory, which the limit on bodies bounds; no file is written for them.
MultiPartParser.spool_max_size = 2**40


@dataclass(frozen=True)
class Body:
    """A request as it came: fields, and the files of a form as (name, content, position)."""

    asked: CreateVideo
    files: tuple[tuple[str | None, bytes, int | None], ...] = ()


async def read_request(request: Request, limits: Limits) -> Body:
    """Parse the body.

    Raises:
        ServiceError: neither JSON nor a form, or fields that are unknown or wrong.
    """
    kind = request.headers.get("content-type", "").partition(";")[0].strip().lower()
    if kind == "application/json":
        return Body(_validated(CreateVideo.model_validate_json, await request.body()))
    if kind in ("multipart/form-data", "application/x-www-form-urlencoded"):
        return await _read_form(request, limits)
    raise ServiceError("send application/json or multipart/form-data")


def _validated(validate: Any, value: Any) -> CreateVideo:
    try:
        return validate(value)
    except ValidationError as error:
        first = error.errors(include_url=False, include_input=False)[0]
        param = ".".join(str(part) for part in first["loc"][:1]) or None
        message = f"{param[:40]}: {first['msg']}" if param else first["msg"]
        raise ServiceError(message[:300], param=param) from error


async def _read_form(request: Request, limits: Limits) -> Body:
    most = limits.max_references
    async with request.form(
        max_files=most, max_fields=_MAX_FIELDS, max_part_size=limits.max_data_url_chars
    ) as form:
        fields: dict[str, Any] = {}
        uploads: list[tuple[str | None, bytes]] = []
        positions: list[str] = []
        for name, value in form.multi_items():
            if isinstance(value, UploadFile):
                if name not in ("input_reference", "input_reference[]"):
                    raise ServiceError("files belong into input_reference", param=name[:40])
                uploads.append((value.filename, await value.read()))
            elif name in (_POSITION, f"{_POSITION}[]"):
                positions += value.split(",")
            elif name == "input_reference":
                fields.setdefault(name, []).append(value)
            elif value != "":
                fields[name] = value
    if "known" in fields:
        fields["known"] = [part for part in fields["known"].split(",") if part.strip()]
    asked = _validated(CreateVideo.model_validate, fields)
    frames = _positions(positions, len(uploads))
    files = zip(uploads, frames, strict=True)
    return Body(asked, tuple((name, data, frame) for (name, data), frame in files))


def _positions(texts: list[str], count: int) -> list[int | None]:
    if not texts:
        return [None] * count
    if len(texts) != count:
        raise ServiceError(
            f"{count} files need {count} positions, got {len(texts)}", param=_POSITION
        )
    if not all(text.strip().isdecimal() and len(text) < 9 for text in texts):
        raise ServiceError("positions are numbers from 0", param=_POSITION)
    return [int(text) for text in texts]


def to_given(body: Body, core: Core, owner: str) -> list[Given]:
    """Decode every picture of the request. Takes time and memory: not for the event loop."""
    references = body.asked.input_reference
    listed = references if isinstance(references, list) else [references] if references else []
    if len(listed) + len(body.files) > core.limits.max_references:
        most = core.limits.max_references
        raise ServiceError(f"at most {most} pictures are taken", param="input_reference")
    given = [_referenced(reference, core, owner) for reference in listed]
    for name, data, frame in body.files:
        given.append(Given(decode_upload(data, name, core.limits), frame))
    return given


def _referenced(reference: Reference | str, core: Core, owner: str) -> Given:
    if isinstance(reference, str):
        reference = Reference(image_url=reference)
    if (reference.image_url is None) == (reference.video_id is None):
        message = "a reference has one of image_url and video_id"
        raise ServiceError(message, param="input_reference")
    if reference.video_id is not None:
        return Given(clip_of(core.queue.get(reference.video_id, owner)), reference.frame)
    data = decode_data_url(reference.image_url or "", core.limits)
    return Given(decode_upload(data, "the picture", core.limits), reference.frame)
