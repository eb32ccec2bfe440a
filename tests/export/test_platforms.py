"""The data file, and the page that shows it."""

from __future__ import annotations

import datetime
import subprocess
import sys
from pathlib import Path

import pytest

from rdtf.stickers.export import ExportError, find_platform, platforms
from rdtf.stickers.export.check import RULES, platform_rows
from rdtf.stickers.export.encoders import ENCODERS
from rdtf.stickers.export.platforms import (
    FILE_FORMATS,
    PICTURE_FORMATS,
    _data,
    _limits,
    confidence_levels,
    dated,
)

PAGE_WRITER = Path(__file__).parents[2] / "docs" / "platforms.py"


def all_limits():
    for platform in platforms().values():
        limits = {**platform.limits, **platform.advice}
        if platform.pack is not None:
            limits |= platform.pack.limits
            limits |= {name: image.max_bytes for name, image in platform.pack.images.items()}
        for name, limit in limits.items():
            yield platform, name, limit
    for name, limit in _limits(_data()["formats"]["gif"]).items():
        yield None, name, limit


def test_every_limit_says_who_says_so_and_how_sure_that_is():
    day = datetime.date.fromisoformat(dated())
    assert day.year >= 2026
    for platform, name, limit in all_limits():
        assert limit.source and limit.confidence in confidence_levels(), (platform, name)
        assert datetime.date.fromisoformat(limit.checked_on) <= day


def test_every_limit_is_enforced():
    for platform in platforms().values():
        for name in (*platform.limits, *platform.advice):
            assert name in RULES, (platform.id, name)


def test_every_platform_can_be_written():
    for platform in platforms().values():
        assert set(platform.formats) <= {*PICTURE_FORMATS, *FILE_FORMATS}
        assert platform.format in (*ENCODERS, *FILE_FORMATS)


def test_the_figures_that_everybody_knows():
    """A slip of the pen in the data file should not go unseen."""
    known = {
        "telegram": ([512, 512], 256_000, 3000),
        "telegram-emoji": ([100, 100], 256_000, 3000),
        "whatsapp": ([512, 512], 500_000, 10_000),
        "signal": ([512, 512], 300_000, 3000),
        "line": ([320, 270], 300_000, 4000),
        "discord": ([320, 320], 512_000, 5000),
        "slack": ([128, 128], 128_000, None),
        "imessage": ([408, 408], 500_000, None),
        "wechat": ([240, 240], 500_000, None),
    }
    for name, (canvas, num_bytes, total_ms) in known.items():
        platform = find_platform(name)
        limit = platform.canvas()
        assert limit is not None and limit.value == canvas
        assert platform.value("max_bytes") == num_bytes
        assert platform.value("max_total_ms") == total_ms


def test_unknown_platforms_are_refused_with_the_nearest():
    with pytest.raises(ExportError, match="telegram") as caught:
        find_platform("telegramm")
    assert caught.value.reason == "option"
    assert find_platform(" WhatsApp ") is platforms()["whatsapp"]


def test_pack_images_are_platforms_of_their_own():
    cover = find_platform("telegram").image("cover")
    assert cover.format == "webm" and cover.value("max_bytes") == 32_000
    assert cover.value("max_total_ms") == 3000
    tray = find_platform("whatsapp").image("tray")
    assert (tray.format, tray.still, tray.value("canvas")) == ("png", "only", [96, 96])
    with pytest.raises(ExportError, match="no sticker packs"):
        find_platform("slack").image("cover")


def test_the_page_shows_the_data_file():
    """Renew it by `python docs/platforms.py`."""
    subprocess.run([sys.executable, PAGE_WRITER, "--check"], check=True)
    assert len(platform_rows()) == len(platforms())
