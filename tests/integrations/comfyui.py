"""As much of ComfyUI as the nodes touch: its V3 interface, and a run through a workflow.

Written after ComfyUI's documented behaviour: ids are unique over inputs and outputs, all inputs but
the optional ones must be there, values must lie in their range, links must be of the same type.
"""

from __future__ import annotations

import asyncio
import importlib.util
import os
import sys
from dataclasses import dataclass, field
from pathlib import Path
from types import ModuleType, SimpleNamespace
from typing import Any

PACK = Path(__file__).resolve().parents[2] / "integrations" / "comfyui"


class Socket:
    """One input or output of a node."""

    io_type = "*"

    def __init__(self, id: str | None = None, optional: bool = False, **options: Any) -> None:
        self.id, self.optional, self.options = id, optional, options
        self.default = options.get("default")

    def check(self, value: Any) -> None:
        """A value typed into the node."""


class Number(Socket):
    def check(self, value: Any) -> None:
        assert isinstance(value, (int, float)) and not isinstance(value, bool), self.id
        assert self.options["min"] <= value <= self.options["max"], self.id


class Choice(Socket):
    def check(self, value: Any) -> None:
        assert value in self.options["options"], self.id


class Flag(Socket):
    def check(self, value: Any) -> None:
        assert isinstance(value, bool), self.id


class Text(Socket):
    def check(self, value: Any) -> None:
        assert isinstance(value, str), self.id


def kind(io_type: str, base: type[Socket] = Socket) -> Any:
    socket = type(io_type, (base,), {"io_type": io_type})
    return SimpleNamespace(Input=socket, Output=socket)


@dataclass
class Schema:
    node_id: str
    display_name: str = ""
    category: str = "sd"
    inputs: list[Socket] = field(default_factory=list)
    outputs: list[Socket] = field(default_factory=list)
    description: str = ""
    is_output_node: bool = False

    def __post_init__(self) -> None:
        for index, output in enumerate(self.outputs):
            output.id = output.id or f"_{index}_{output.io_type}_"
        ids = [socket.id for socket in (*self.inputs, *self.outputs)]
        assert len(ids) == len(set(ids)), f"{self.node_id}: ids must be unique"


class ComfyNode:
    pass


class NodeOutput:
    def __init__(self, *args: Any, ui: Any = None) -> None:
        self.args, self.ui = args, ui


class ComfyExtension:
    async def on_load(self) -> None:
        pass


def interface() -> dict[str, ModuleType]:
    """What ComfyUI offers for import, by name."""
    io = SimpleNamespace(
        Schema=Schema,
        ComfyNode=ComfyNode,
        NodeOutput=NodeOutput,
        Custom=kind,
        Image=kind("IMAGE"),
        Mask=kind("MASK"),
        Int=kind("INT", Number),
        Float=kind("FLOAT", Number),
        String=kind("STRING", Text),
        Boolean=kind("BOOLEAN", Flag),
        Combo=kind("COMBO", Choice),
    )
    latest = ModuleType("comfy_api.latest")
    vars(latest).update(io=io, ComfyExtension=ComfyExtension)
    return {"comfy_api": ModuleType("comfy_api"), "comfy_api.latest": latest}


@dataclass
class Comfy:
    """A ComfyUI with the pack loaded, its output folder, and what its progress bar was told."""

    output: Path
    nodes: dict[str, Any] = field(default_factory=dict)
    progress: list[tuple[int, int]] = field(default_factory=list)
    core: dict[str, Any] = field(default_factory=dict)

    def run(self, workflow: dict[str, Any]) -> dict[str, NodeOutput]:
        """Execute a workflow in the API's format; gives the output of every node."""
        done: dict[str, NodeOutput] = {}

        def result(name: str) -> NodeOutput:
            if name not in done:
                step = workflow[name]
                if step["class_type"] in self.core:
                    done[name] = self.core[step["class_type"]](**step["inputs"])
                else:
                    done[name] = self._execute(step, workflow, result)
            return done[name]

        for name in workflow:
            result(name)
        return done

    def _execute(self, step: dict[str, Any], workflow: dict[str, Any], result: Any) -> NodeOutput:
        node = self.nodes[step["class_type"]]
        sockets = {socket.id: socket for socket in node.define_schema().inputs}
        assert set(step["inputs"]) <= set(sockets), "inputs that the node does not have"
        missing = [id for id, s in sockets.items() if not s.optional and id not in step["inputs"]]
        assert not missing, f"{step['class_type']} misses {missing}"
        values = {}
        for id, value in step["inputs"].items():
            if isinstance(value, list):
                self._check_link(workflow[value[0]], value[1], sockets[id])
                values[id] = result(value[0]).args[value[1]]
            else:
                sockets[id].check(value)
                values[id] = value
        return node.execute(**values)

    def _check_link(self, source: dict[str, Any], index: int, socket: Socket) -> None:
        if source["class_type"] not in self.core:
            outputs = self.nodes[source["class_type"]].define_schema().outputs
            assert outputs[index].io_type == socket.io_type, socket.id


def load_pack(monkeypatch: Any) -> Any:
    """The folder as ComfyUI imports it: under a name of its own, by its path."""
    name = "custom_nodes_rdtf"
    for loaded in [key for key in sys.modules if key.split(".")[0] == name]:
        monkeypatch.delitem(sys.modules, loaded)
    spec = importlib.util.spec_from_file_location(
        name, PACK / "__init__.py", submodule_search_locations=[str(PACK)]
    )
    assert spec is not None and spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    monkeypatch.setitem(sys.modules, name, module)
    spec.loader.exec_module(module)
    return module


def start(monkeypatch: Any, output: Path) -> Comfy:
    """ComfyUI with the pack loaded by its entry point."""
    comfy = Comfy(output)

    class ProgressBar:
        def __init__(self, total: int) -> None:
            self.total = total

        def update_absolute(self, value: int, total: int) -> None:
            comfy.progress.append((value, total))

    utils, folder_paths = ModuleType("comfy.utils"), ModuleType("folder_paths")
    vars(utils)["ProgressBar"] = ProgressBar
    vars(folder_paths).update(
        get_output_directory=lambda: str(output), get_save_image_path=_save_image_path
    )
    modules = {
        **interface(),
        "comfy": ModuleType("comfy"),
        "comfy.utils": utils,
        "folder_paths": folder_paths,
    }
    for name, module in modules.items():
        monkeypatch.setitem(sys.modules, name, module)

    async def nodes() -> list[Any]:
        extension = await load_pack(monkeypatch).comfy_entrypoint()
        assert isinstance(extension, ComfyExtension)
        await extension.on_load()
        return await extension.get_node_list()

    comfy.nodes = {node.define_schema().node_id: node for node in asyncio.run(nodes())}
    return comfy


def _save_image_path(
    prefix: str, folder: str, width: int, height: int
) -> tuple[str, str, int, str, str]:
    """(folder, name, number, subfolder, prefix); refuses to leave the output folder."""
    subfolder, name = os.path.split(os.path.normpath(prefix))
    full = Path(folder, subfolder).resolve()
    if not full.is_relative_to(Path(folder).resolve()):
        raise ValueError("Saving image outside the output folder is not allowed.")
    full.mkdir(parents=True, exist_ok=True)
    taken = [path.name.removeprefix(f"{name}_")[:5] for path in full.glob(f"{name}_?????_*")]
    return str(full), name, max(map(int, taken), default=0) + 1, subfolder, prefix
