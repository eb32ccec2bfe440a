"""rdtf for ComfyUI: animate, fill, interpolate, extend and export stickers with transparency.

ComfyUI imports this folder from `custom_nodes` and calls `comfy_entrypoint`. Nothing heavy, and
nothing of ComfyUI's, is imported before that.
"""

from __future__ import annotations

from importlib.util import find_spec
from typing import Any

__all__ = ["comfy_entrypoint"]


async def comfy_entrypoint() -> Any:
    """The extension with all nodes (ComfyUI's V3 interface).

    Raises:
        ImportError: ComfyUI's node interface or rdtf can't be imported; says what to install.
    """
    try:
        from comfy_api.latest import ComfyExtension
    except ImportError as error:
        raise ImportError(
            "the rdtf nodes need ComfyUI's V3 node interface (comfy_api.latest): put this folder "
            "into ComfyUI/custom_nodes, start it with ComfyUI, and update ComfyUI if it is older"
        ) from error
    if find_spec("rdtf") is None:
        raise ImportError(
            "the rdtf nodes need the package rdtf: install it into ComfyUI's Python with "
            "pip install PATH-TO-RDTF"
        )
    from .nodes import NODES

    class StickerExtension(ComfyExtension):
        async def get_node_list(self) -> list[type]:
            return list(NODES)

    return StickerExtension()
