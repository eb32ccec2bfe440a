"""The node pack, loaded and run as ComfyUI does it."""

from __future__ import annotations

import ast
import asyncio
import inspect
import json
import sys
from dataclasses import asdict
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from fixtures_runs import CANVAS
from rdtf.errors import UserError
from rdtf.sampling.options import TaskSampling
from rdtf.stickers import Sticker
from stickers.samples import clip

from . import comfyui
from .comfyui import PACK, Comfy, NodeOutput

SAMPLING = {
    "prompt": "",
    "steps": 2,
    "guidance_scale": 1.0,
    "image_guidance_scale": 1.0,
    "motion": "by the text",
    "motion_scale": 1.0,
    "loop": False,
    "size": "canvas",
    "seed": 3,
}


@pytest.fixture
def comfy(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> Comfy:
    return comfyui.start(monkeypatch, tmp_path / "output")


def tensors(sticker: Sticker) -> tuple[torch.Tensor, torch.Tensor]:
    pixels = torch.from_numpy(sticker.frames).float() / 255
    return pixels[..., :3], 1 - pixels[..., 3]


def sticker_of(output: NodeOutput) -> Sticker:
    image, mask, durations = output.args
    pixels = torch.cat([image, 1 - mask[..., None]], -1)
    return Sticker((pixels * 255).round().byte().numpy(), durations)


def execute(comfy: Comfy, node: str, **inputs: Any) -> NodeOutput:
    """A node with the defaults of its schema, as the canvas has them."""
    defaults = {
        socket.id: socket.default
        for socket in comfy.nodes[node].define_schema().inputs
        if socket.default is not None
    }
    return comfy.nodes[node].execute(**{**defaults, **inputs})


# ------------------------------------------------------------------------------ the schema


def test_the_nodes_and_their_wires(comfy):
    wires = {
        name: (
            {socket.id: socket.io_type for socket in node.define_schema().inputs},
            [socket.io_type for socket in node.define_schema().outputs],
        )
        for name, node in comfy.nodes.items()
    }
    assert set(wires) == {
        "RDTFLoadModel",
        "RDTFGenerate",
        "RDTFFill",
        "RDTFInterpolate",
        "RDTFPredict",
        "RDTFExport",
    }
    for name in ("RDTFGenerate", "RDTFFill", "RDTFInterpolate", "RDTFPredict"):
        inputs, outputs = wires[name]
        assert outputs == ["IMAGE", "MASK", "RDTF_DURATIONS"]
        assert (inputs["model"], inputs["image"], inputs["mask"]) == ("RDTF_MODEL", "IMAGE", "MASK")
        assert {"seed", "steps", "loop", "prompt", "motion", "motion_scale"} <= set(inputs)
    assert wires["RDTFLoadModel"][1] == ["RDTF_MODEL"]
    assert comfy.nodes["RDTFExport"].define_schema().is_output_node


def test_every_input_is_an_argument_and_every_default_is_allowed(comfy):
    for node in comfy.nodes.values():
        schema = node.define_schema()
        arguments = inspect.signature(node.execute).parameters
        takes_all = any(p.kind is p.VAR_KEYWORD for p in arguments.values())
        for socket in schema.inputs:
            assert socket.id in arguments or takes_all
            if socket.optional:
                assert arguments[socket.id].default is None
            if socket.default is not None:
                socket.check(socket.default)
        assert schema.display_name and schema.category and schema.description


def test_without_comfyui_the_pack_says_what_is_missing(monkeypatch):
    monkeypatch.setitem(sys.modules, "comfy_api", None)
    with pytest.raises(ImportError, match="ComfyUI/custom_nodes"):
        asyncio.run(comfyui.load_pack(monkeypatch).comfy_entrypoint())


def test_without_rdtf_the_pack_says_what_to_install(monkeypatch):
    for name, module in comfyui.interface().items():
        monkeypatch.setitem(sys.modules, name, module)
    pack = comfyui.load_pack(monkeypatch)
    monkeypatch.setattr(pack, "find_spec", lambda name: None)
    with pytest.raises(ImportError, match="pip install"):
        asyncio.run(pack.comfy_entrypoint())


def test_the_tensors_need_nothing_of_comfyui():
    imported = {
        (node.module or "").split(".")[0]
        for node in ast.walk(ast.parse((PACK / "tensors.py").read_text("utf-8")))
        if isinstance(node, ast.ImportFrom)
    }
    assert not {"comfy", "comfy_api"} & imported


# ------------------------------------------------------------------------------- execution


def test_generation_keeps_the_still(comfy, pipeline):
    still = clip(1, CANVAS)
    image, mask = tensors(still)
    out = execute(
        comfy,
        "RDTFGenerate",
        **{**SAMPLING, "model": pipeline, "image": image, "mask": mask, "num_frames": 3},
    )
    made = sticker_of(out)
    assert made.num_frames == 3 and out.args[2] == [100, 100, 100]
    assert np.array_equal(made.frames[0], still.frames[0])
    assert comfy.progress == [(1, 2), (2, 2)]


def test_generation_from_text_alone_follows_the_seed(comfy, pipeline):
    def made(seed: int) -> np.ndarray:
        sampling = {**SAMPLING, "prompt": "a cat", "seed": seed, "num_frames": 2}
        return sticker_of(execute(comfy, "RDTFGenerate", model=pipeline, **sampling)).frames

    assert np.array_equal(made(2**64 - 1), made(2**64 - 1))
    assert not np.array_equal(made(0), made(1))


@pytest.mark.parametrize("size", ["canvas", "input"])
def test_filling_keeps_the_frames_at_their_positions(comfy, pipeline, size):
    keys = clip(3, 48)
    image, mask = tensors(keys)
    out = execute(
        comfy,
        "RDTFFill",
        **{**SAMPLING, "size": size},
        model=pipeline,
        image=image,
        mask=mask,
        positions="0,2,5",
        num_frames=7,
        duration_ms=70,
    )
    made = sticker_of(out)
    expected = keys if size == "input" else keys.fit_canvas(CANVAS)
    assert np.array_equal(made.frames[[0, 2, 5]], expected.frames)
    assert out.args[2] == [70] * 7


def test_filling_reads_premultiplied_pictures_and_answers_in_kind(comfy, pipeline):
    keys = clip(2, CANVAS)
    straight, mask = tensors(keys)
    inputs = {**SAMPLING, "model": pipeline, "mask": mask, "positions": "0,2"}
    plain = execute(comfy, "RDTFFill", image=straight, **inputs)
    image = straight * (1 - mask[..., None])
    other = execute(comfy, "RDTFFill", image=image, alpha="premultiplied", **inputs)
    assert torch.equal(plain.args[1], other.args[1])
    expected = plain.args[0] * (1 - plain.args[1][..., None])
    assert (other.args[0] - expected).abs().max() <= 1.01 / 255


def test_interpolation_and_extension_keep_time_and_frames(comfy, pipeline):
    sticker = clip(3, CANVAS)
    image, mask = tensors(sticker)
    inputs = {**SAMPLING, "model": pipeline, "image": image, "mask": mask}
    smooth = execute(comfy, "RDTFInterpolate", durations=[40, 60, 80], **inputs)
    assert sum(smooth.args[2]) == 180
    assert np.array_equal(sticker_of(smooth).frames[::2], sticker.frames)
    closed = execute(comfy, "RDTFInterpolate", **{**inputs, "loop": True})
    assert sticker_of(closed).num_frames == 6
    longer = execute(comfy, "RDTFPredict", after=1, before=2, **inputs)
    assert np.array_equal(sticker_of(longer).frames[2:5], sticker.frames)


def test_export_writes_into_the_output_folder(comfy):
    image, mask = tensors(clip(4, CANVAS))
    for number in (1, 2):
        out = execute(comfy, "RDTFExport", image=image, mask=mask, platform="telegram")
        (shown,) = out.ui["images"]
        assert (
            shown["filename"] == f"sticker_{number:05}_.webm" and shown["subfolder"] == "stickers"
        )
        assert (comfy.output / "stickers" / shown["filename"]).is_file()
        assert "VP9" in out.args[0] and out.ui["text"] == out.args


def test_export_stays_in_the_output_folder_and_tells_refusals(comfy, tmp_path):
    image, mask = tensors(clip(4, CANVAS))
    with pytest.raises(ValueError, match="outside the output folder"):
        execute(comfy, "RDTFExport", image=image, mask=mask, filename_prefix="../away")
    with pytest.raises(UserError, match="at most 3 s"):
        execute(comfy, "RDTFExport", image=image, mask=mask, platform="telegram", duration_ms=5000)
    assert not (tmp_path / "away").exists()


def test_models_are_loaded_from_runs_and_told_apart_by_their_age(comfy, tiny_run):
    node = comfy.nodes["RDTFLoadModel"]
    loaded = node.execute(path=f" {tiny_run / 'pipeline'} ", device="cpu").args[0]
    assert loaded.canvas == CANVAS
    first = node.fingerprint_inputs(path=str(tiny_run), device="cpu")
    assert first == node.fingerprint_inputs(path=str(tiny_run), device="cpu")
    assert first != node.fingerprint_inputs(path=str(tiny_run / "pipeline"), device="cpu")
    for path, message in (("", "name the folder"), ("no/such/run", "does not exist")):
        with pytest.raises(UserError, match=message):
            node.execute(path=path, device="auto")


def test_steps_and_guidance_are_those_of_the_models_table(comfy, pipeline, monkeypatch):
    """What the nodes send while nothing was changed in them: each row of the table, by its task."""
    table = {
        "generation": TaskSampling(3, guidance_scale=1.5, image_guidance_scale=1.2),
        "interpolation": TaskSampling(2, guidance_scale=2.5),
        "prediction": TaskSampling(4, guidance_scale=3.5),
    }
    monkeypatch.setattr(type(pipeline), "sampling_defaults", table)
    sticker = clip(2, CANVAS).with_durations(100)
    image, mask = tensors(sticker)
    inputs = {"model": pipeline, "image": image, "mask": mask, "prompt": "a cat", "seed": 3}
    still = {**inputs, "image": image[:1], "mask": mask[:1], "num_frames": 3}
    for family, node, sent, method, arguments in (
        ("generation", "RDTFGenerate", still, pipeline, (sticker.select([0]), 3)),
        ("interpolation", "RDTFInterpolate", inputs, pipeline.interpolate, (sticker, 2)),
        ("prediction", "RDTFPredict", {**inputs, "after": 2}, pipeline.predict, (sticker, 2)),
    ):
        comfy.progress.clear()
        made = sticker_of(execute(comfy, node, **sent))
        values = table[family]
        assert comfy.progress[-1] == (values.num_inference_steps,) * 2
        told = {**asdict(values), "generator": torch.Generator().manual_seed(3)}
        own = (
            method("a cat", arguments[0], num_frames=arguments[1], **told)
            if family == "generation"
            else method(*arguments, prompt="a cat", **told)
        )
        assert np.array_equal(made.frames, own.frames)


# -------------------------------------------------------------------------------- workflows


@pytest.mark.parametrize("path", sorted(PACK.glob("examples/*.json")), ids=lambda path: path.stem)
def test_the_example_workflows_run(comfy, tiny_run, path):
    workflow = json.loads(path.read_text("utf-8"))
    source = clip(3 if "key" in path.stem else 1, CANVAS)
    comfy.core["LoadImage"] = lambda image: NodeOutput(*tensors(source))
    for step in workflow.values():
        if "steps" in step["inputs"]:
            step["inputs"]["steps"] = 1
        if "path" in step["inputs"]:
            step["inputs"]["path"] = str(tiny_run)
    done = comfy.run(workflow)
    made = sticker_of(done["4"])
    assert made.num_frames == (12 if "key" in path.stem else 16)
    (shown,) = done["5"].ui["images"]
    written = Sticker.load(comfy.output / shown["subfolder"] / shown["filename"])
    assert abs(written.total_ms - made.total_ms) <= 10
    assert np.array_equal(made.frames[0], source.frames[0])
