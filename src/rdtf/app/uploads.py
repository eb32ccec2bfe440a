"""Pictures from strangers: format by content, budget before pixels, nothing hidden inside."""

from __future__ import annotations

import base64
import binascii
import re

from rdtf.app.errors import ServiceError, TooLargeError
from rdtf.app.limits import Limits
from rdtf.errors import UserError
from rdtf.stickers import Sticker, decode_sticker
from rdtf.stickers.export.containers import hidden_parts

_DATA_URL = re.compile(r"data:[\w.+-]*/?[\w.+-]*(?:;[\w=.+-]+)*;base64,", re.ASCII)
_NAME_CHARACTERS = 48


def decode_upload(
    data: bytes, name: str | None, limits: Limits, *, param: str = "input_reference"
) -> Sticker:
    """The clip (or still) in an uploaded file.

    Args:
        data: content of the file.
        name: what the client calls it; used in messages only, never as a path.
        limits: `limits.upload` is checked against headers, before any pixel is decoded.
        param: the field that an error names.

    Raises:
        TooLargeError: more bytes than the budget.
        ServiceError: not one of the formats, damaged, over the budget, or also something else.
    """
    shown = shown_name(name)
    budget = limits.upload
    if len(data) > budget.max_bytes:
        message = f"{shown} has {len(data)} bytes; at most {budget.max_bytes} are taken"
        raise TooLargeError(message, param=param)
    try:
        _refuse_polyglot(data, shown)
        return decode_sticker(data, shown, budget=budget)
    except ServiceError:
        raise
    except UserError as error:
        message = str(error).replace("raise Budget.", "see the server's limit ")
        raise ServiceError(message, code="bad_picture", param=param) from error


def _refuse_polyglot(data: bytes, shown: str) -> None:
    """A file that is a picture and an archive, a document or a script too is no picture.

    Any other tail is ignored: phones append videos to their photos.
    """
    if found := hidden_parts(data):
        message = f"{shown} is not only a picture: it holds {'; '.join(found)}; refused"
        raise ServiceError(message, code="bad_picture", param="input_reference")


def shown_name(name: str | None) -> str:
    """A name that is safe to print: the last part, short, printable."""
    last = re.split(r"[/\\]", name or "")[-1]
    printable = "".join(c for c in last if c.isprintable())[:_NAME_CHARACTERS]
    return printable.strip(" .") or "the upload"


def decode_data_url(url: str, limits: Limits, *, param: str = "input_reference") -> bytes:
    """The bytes of a `data:…;base64,…` URL; nothing is ever fetched.

    Raises:
        TooLargeError: longer than the limit.
        ServiceError: another kind of URL, or not base64.
    """
    if len(url) > limits.max_data_url_chars:
        message = f"a picture has {len(url)} characters; at most {limits.max_data_url_chars}"
        raise TooLargeError(message, param=param)
    match = _DATA_URL.match(url[:256])
    if match is None:
        message = (
            "a picture in JSON must be a data URL (data:image/png;base64,...); none is fetched"
        )
        raise ServiceError(message, param=param)
    try:
        return base64.b64decode(url[match.end() :], validate=True)
    except (binascii.Error, ValueError) as error:
        raise ServiceError("a picture's data URL is not valid base64", param=param) from error
