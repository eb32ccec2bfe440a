"""The nodes. Each is a schema and a few lines; what they do is in rdtf and in `tensors`."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from comfy_api.latest import io

from .tensors import ALPHA_KINDS, positions_from_text, sticker_from_tensors, tensors_from_sticker

Model = io.Custom("RDTF_MODEL")
Durations = io.Custom("RDTF_DURATIONS")
CATEGORY = "stickers"
_MAX_SEED = 2**64 - 1
_BY_TASK, _BY_TEXT = -1.0, "by the text"


def _clip_inputs() -> list[Any]:
    """A clip: frames, transparency, timing."""
    return [
        io.Image.Input("image", tooltip="The frames, as a batch."),
        io.Mask.Input(
            "mask", optional=True, tooltip="1 = transparent, as Load Image gives it; none = opaque."
        ),
        *_timing_inputs(),
    ]


def _timing_inputs() -> list[Any]:
    return [
        Durations.Input(
            "durations", optional=True, tooltip="How long each frame is shown, from another node."
        ),
        io.Int.Input(
            "duration_ms",
            default=100,
            min=1,
            max=60_000,
            tooltip="How long each frame is shown, if no durations are connected.",
        ),
        io.Combo.Input(
            "alpha",
            options=list(ALPHA_KINDS),
            default="straight",
            tooltip="Whether colours are multiplied with the opacity; Load Image gives straight.",
        ),
    ]


def _sampling_inputs() -> list[Any]:
    """Texts and ranges are those of the pipeline's options."""
    from rdtf.sampling.options import (
        NETWORK,
        OUTPUT_SIZES,
        SamplingOptions,
        option_help,
        option_range,
    )
    from rdtf.synthetic import VERBS

    def scale(name: str, by_task: bool = True) -> Any:
        least, most = option_range(name)
        return io.Float.Input(
            name,
            default=_BY_TASK if by_task else 1.0,
            min=_BY_TASK if by_task else least,
            max=most,
            step=0.1,
            tooltip=option_help(name) + (" -1 = the default." if by_task else ""),
        )

    return [
        io.String.Input("prompt", default="", multiline=True, tooltip="What it shows."),
        io.Int.Input(
            "steps",
            default=0,
            min=0,
            max=1000,
            tooltip=f"{option_help('num_inference_steps')} 0 = the default.",
        ),
        scale("guidance_scale"),
        scale("image_guidance_scale"),
        io.Combo.Input(
            "motion",
            options=[_BY_TEXT, NETWORK, *VERBS],
            default=_BY_TEXT,
            tooltip=option_help("motion"),
        ),
        scale("motion_scale", by_task=False),
        io.Boolean.Input("loop", default=False, tooltip=option_help("loop")),
        io.Combo.Input(
            "size",
            options=list(OUTPUT_SIZES),
            default=SamplingOptions.output_size,
            tooltip=option_help("output_size"),
        ),
        io.Int.Input("seed", default=0, min=0, max=_MAX_SEED, control_after_generate=True),
    ]


def _clip_outputs() -> list[Any]:
    return [
        io.Image.Output(display_name="image"),
        io.Mask.Output(display_name="mask"),
        Durations.Output(display_name="durations"),
    ]


def _clip(image: Any, mask: Any, durations: Any, duration_ms: int, alpha: Any) -> Any:
    return sticker_from_tensors(image, mask, duration_ms if durations is None else durations, alpha)


def _sampling(
    steps: int,
    guidance_scale: float,
    image_guidance_scale: float,
    motion: str,
    motion_scale: float,
    loop: bool,
    size: str,
    seed: int,
) -> dict[str, Any]:
    """Arguments for the pipeline; its callback moves ComfyUI's bar, which also cancels."""
    import torch
    from comfy.utils import ProgressBar

    bar = ProgressBar(max(steps, 1))

    def move(pipeline: Any, index: int, timestep: Any, tensors: Any) -> dict[str, Any]:
        bar.update_absolute(index + 1, pipeline.num_timesteps)
        return tensors

    return {
        "num_inference_steps": steps or None,
        "guidance_scale": _unless_by_task(guidance_scale),
        "image_guidance_scale": _unless_by_task(image_guidance_scale),
        "motion": None if motion == _BY_TEXT else motion,
        "motion_scale": motion_scale,
        "loop": loop,
        "output_size": size,
        "generator": torch.Generator().manual_seed(seed),
        "callback_on_step_end": move,
    }


def _unless_by_task(scale: float) -> float | None:
    """Anything below 0 stands for the model's default, which no number of the node could say."""
    return None if scale < 0 else scale


def _result(sticker: Any, alpha: Any) -> Any:
    image, mask = tensors_from_sticker(sticker, alpha)
    return io.NodeOutput(image, mask, sticker.durations_ms.tolist())


class LoadStickerModel(io.ComfyNode):
    """A run of `rdtf train`, or a saved pipeline."""

    @classmethod
    def define_schema(cls) -> io.Schema:
        return io.Schema(
            node_id="RDTFLoadModel",
            display_name="Load Sticker Model",
            category=CATEGORY,
            description="Loads a run directory of rdtf train, or a saved pipeline.",
            inputs=[
                io.String.Input("path", default="", tooltip="Folder of the run or the pipeline."),
                io.Combo.Input("device", options=["auto", "cpu"], default="auto"),
            ],
            outputs=[Model.Output(display_name="model")],
        )

    @classmethod
    def fingerprint_inputs(cls, path: str, device: str) -> tuple[str, str, float]:
        """Loads again when training went on."""
        marks = [Path(path) / "model_index.json", Path(path) / "checkpoints"]
        return (
            path,
            device,
            max((mark.stat().st_mtime for mark in marks if mark.exists()), default=0.0),
        )

    @classmethod
    def execute(cls, path: str, device: str) -> io.NodeOutput:
        from rdtf.errors import UserError
        from rdtf.training.run import load_pipeline

        if not path.strip():
            raise UserError("name the folder of a model: a run of rdtf train, or a saved pipeline")
        pipeline = load_pipeline(path.strip())
        return io.NodeOutput(pipeline.to("cpu") if device == "cpu" else pipeline)


class GenerateSticker(io.ComfyNode):
    """Text, a still, or both -> a clip."""

    @classmethod
    def define_schema(cls) -> io.Schema:
        return io.Schema(
            node_id="RDTFGenerate",
            display_name="Generate Sticker",
            category=CATEGORY,
            description="Makes an animated sticker from text, from a still, or from both.",
            inputs=[
                Model.Input("model"),
                io.Image.Input(
                    "image", optional=True, tooltip="A still; it becomes one frame, unchanged."
                ),
                io.Mask.Input("mask", optional=True, tooltip="1 = transparent."),
                io.Int.Input("num_frames", default=8, min=1, max=1000),
                io.Int.Input(
                    "image_index",
                    default=0,
                    min=0,
                    max=999,
                    tooltip="Which frame the still becomes.",
                ),
                io.Int.Input("duration_ms", default=100, min=1, max=60_000),
                io.Combo.Input("alpha", options=list(ALPHA_KINDS), default="straight"),
                *_sampling_inputs(),
            ],
            outputs=_clip_outputs(),
        )

    @classmethod
    def execute(
        cls,
        model: Any,
        num_frames: int,
        image_index: int,
        duration_ms: int,
        alpha: str,
        prompt: str,
        image: Any = None,
        mask: Any = None,
        **sampling: Any,
    ) -> io.NodeOutput:
        still = None if image is None else _clip(image, mask, None, duration_ms, alpha).select([0])
        sticker = model(
            prompt,
            still,
            num_frames=num_frames,
            image_index=image_index,
            duration_ms=duration_ms,
            **_sampling(**sampling),
        )
        return _result(sticker, alpha)


class FillSticker(io.ComfyNode):
    """Frames at positions -> the frames between and around them."""

    @classmethod
    def define_schema(cls) -> io.Schema:
        return io.Schema(
            node_id="RDTFFill",
            display_name="Fill Sticker",
            category=CATEGORY,
            description="Keeps the frames at the named positions and makes all others.",
            inputs=[
                Model.Input("model"),
                *_clip_inputs(),
                io.String.Input(
                    "positions",
                    default="0",
                    tooltip="Frames to keep, from 0. If the batch holds just these, they go there.",
                ),
                io.Int.Input(
                    "num_frames",
                    default=0,
                    min=0,
                    max=1000,
                    tooltip="0 = as the batch or positions say.",
                ),
                *_sampling_inputs(),
            ],
            outputs=_clip_outputs(),
        )

    @classmethod
    def execute(
        cls,
        model: Any,
        image: Any,
        positions: str,
        num_frames: int,
        duration_ms: int,
        alpha: str,
        prompt: str,
        mask: Any = None,
        durations: Any = None,
        **sampling: Any,
    ) -> io.NodeOutput:
        clip = _clip(image, mask, durations, duration_ms, alpha)
        sticker = model.fill(
            clip,
            positions_from_text(positions),
            num_frames=num_frames or None,
            prompt=prompt,
            **_sampling(**sampling),
        )
        return _result(sticker, alpha)


class InterpolateSticker(io.ComfyNode):
    """A clip -> more frames in the same time."""

    @classmethod
    def define_schema(cls) -> io.Schema:
        return io.Schema(
            node_id="RDTFInterpolate",
            display_name="Interpolate Sticker",
            category=CATEGORY,
            description="Makes new frames between those of a clip; its total time stays the same.",
            inputs=[
                Model.Input("model"),
                *_clip_inputs(),
                io.Int.Input(
                    "factor", default=2, min=2, max=16, tooltip="2 = one new frame between any two."
                ),
                *_sampling_inputs(),
            ],
            outputs=_clip_outputs(),
        )

    @classmethod
    def execute(
        cls,
        model: Any,
        image: Any,
        factor: int,
        duration_ms: int,
        alpha: str,
        prompt: str,
        mask: Any = None,
        durations: Any = None,
        **sampling: Any,
    ) -> io.NodeOutput:
        clip = _clip(image, mask, durations, duration_ms, alpha)
        sticker = model.interpolate(clip, factor, prompt=prompt, **_sampling(**sampling))
        return _result(sticker, alpha)


class PredictSticker(io.ComfyNode):
    """A clip -> what comes after or before it."""

    @classmethod
    def define_schema(cls) -> io.Schema:
        return io.Schema(
            node_id="RDTFPredict",
            display_name="Extend Sticker",
            category=CATEGORY,
            description="Adds new frames at the end of a clip, at its start, or both.",
            inputs=[
                Model.Input("model"),
                *_clip_inputs(),
                io.Int.Input("after", default=4, min=0, max=1000),
                io.Int.Input("before", default=0, min=0, max=1000),
                *_sampling_inputs(),
            ],
            outputs=_clip_outputs(),
        )

    @classmethod
    def execute(
        cls,
        model: Any,
        image: Any,
        after: int,
        before: int,
        duration_ms: int,
        alpha: str,
        prompt: str,
        mask: Any = None,
        durations: Any = None,
        **sampling: Any,
    ) -> io.NodeOutput:
        clip = _clip(image, mask, durations, duration_ms, alpha)
        sticker = model.predict(clip, after, before, prompt=prompt, **_sampling(**sampling))
        return _result(sticker, alpha)


class ExportSticker(io.ComfyNode):
    """A clip -> the file that a messenger takes, in ComfyUI's output folder."""

    @classmethod
    def define_schema(cls) -> io.Schema:
        from rdtf.stickers.export import platforms

        return io.Schema(
            node_id="RDTFExport",
            display_name="Export Sticker",
            category=CATEGORY,
            description="Writes what a messenger takes, checked by its rules, or a plain format.",
            inputs=[
                *_clip_inputs(),
                io.Combo.Input("platform", options=list(platforms()), default="webp"),
                io.String.Input("filename_prefix", default="stickers/sticker"),
                io.Combo.Input(
                    "time",
                    options=["refuse", "trim", "hold", "speed"],
                    default="refuse",
                    tooltip="If the platform does not take the clip's length.",
                ),
                io.Int.Input("outline_px", default=0, min=0, max=64, tooltip="White stroke."),
            ],
            outputs=[io.String.Output(display_name="report")],
            is_output_node=True,
        )

    @classmethod
    def execute(
        cls,
        image: Any,
        platform: str,
        filename_prefix: str,
        time: str,
        outline_px: int,
        duration_ms: int,
        alpha: str,
        mask: Any = None,
        durations: Any = None,
    ) -> io.NodeOutput:
        import folder_paths

        clip = _clip(image, mask, durations, duration_ms, alpha)
        export = clip.export(platform, time=time, outline_px=outline_px)
        folder, name, counter, subfolder, _ = folder_paths.get_save_image_path(
            filename_prefix, folder_paths.get_output_directory(), clip.width, clip.height
        )
        paths = export.save(folder, f"{name}_{counter:05}_")
        report = str(export.report)
        shown = [
            {"filename": path.name, "subfolder": subfolder, "type": "output"} for path in paths
        ]
        animated = (clip.num_frames > 1,)
        return io.NodeOutput(report, ui={"images": shown, "animated": animated, "text": (report,)})


NODES = (
    LoadStickerModel,
    GenerateSticker,
    FillSticker,
    InterpolateSticker,
    PredictSticker,
    ExportSticker,
)
