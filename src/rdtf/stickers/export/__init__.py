"""Export: stickers as the files that messengers take, checked by their rules."""

from rdtf.stickers.export.check import CheckReport, check_bytes, check_file
from rdtf.stickers.export.edit import ExportOptions, outline, trim_to_content
from rdtf.stickers.export.exporter import Export, export_sticker
from rdtf.stickers.export.packs import Pack, PackItem, check_pack, export_pack
from rdtf.stickers.export.platforms import ExportError, Platform, find_platform, platforms

__all__ = [
    "CheckReport",
    "Export",
    "ExportError",
    "ExportOptions",
    "Pack",
    "PackItem",
    "Platform",
    "check_bytes",
    "check_file",
    "check_pack",
    "export_pack",
    "export_sticker",
    "find_platform",
    "outline",
    "platforms",
    "trim_to_content",
]
