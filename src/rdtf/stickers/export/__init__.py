"""Export: stickers as the files that messengers take, checked by their rules."""

from rdtf.stickers.export.check import CheckReport, Finding, check_bytes, check_file
from rdtf.stickers.export.exporter import Export, export_sticker
from rdtf.stickers.export.loops import (
    boomerang,
    change_speed,
    cross_fade,
    fit_time,
    ping_pong,
    seam_error,
    start_at,
)
from rdtf.stickers.export.options import ExportOptions
from rdtf.stickers.export.packcheck import PackReport, check_pack
from rdtf.stickers.export.packs import Pack, PackItem, export_pack
from rdtf.stickers.export.platforms import ExportError, Limit, Platform, find_platform, platforms
from rdtf.stickers.export.report import ExportReport
from rdtf.stickers.export.shapes import outline, pad, trim_to_content

__all__ = [
    "CheckReport",
    "Export",
    "ExportError",
    "ExportOptions",
    "ExportReport",
    "Finding",
    "Limit",
    "Pack",
    "PackItem",
    "PackReport",
    "Platform",
    "boomerang",
    "change_speed",
    "check_bytes",
    "check_file",
    "check_pack",
    "cross_fade",
    "export_pack",
    "export_sticker",
    "find_platform",
    "fit_time",
    "outline",
    "pad",
    "ping_pong",
    "platforms",
    "seam_error",
    "start_at",
    "trim_to_content",
]
