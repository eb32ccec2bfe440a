"""A bundle: a training set that another machine uses with nothing else of this project.

    BUNDLE/manifest.json       canvas, size and SHA-256 of every file, what compression lost
    BUNDLE/clips.json          the clips, as in a clip store
    BUNDLE/frame_bytes.npy     uint32 [T], length of each frame's WebP
    BUNDLE/frames-000.bin ...  the frames' WebPs one after another
    BUNDLE/text/               the text encoder in half precision, only the tokens that occur
    BUNDLE/rdtf/               the modules of this package that training needs

With a limit on its size the bundle comes as folders `part-1`, `part-2`, ..., which may travel one
by one; all but the first hold frames only. Here they are written,
`data.clip_store` reads them.
"""

from __future__ import annotations

import hashlib
import io
import shutil
import tempfile
from collections.abc import Iterable, Sequence
from dataclasses import asdict, dataclass
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import torch
from PIL import Image
from safetensors.torch import save_file
from torch import Tensor, nn

from rdtf.data.clip_store import (
    BUNDLE_FORMAT,
    BUNDLE_VERSION,
    MANIFEST_FILE,
    SIZES_FILE,
    TEXT_FOLDER,
    StoredClip,
    write_clips,
)
from rdtf.data.keyframes import without_hidden_colour
from rdtf.data.pool import default_workers, ordered_map
from rdtf.errors import DataError, UserError
from rdtf.fileio import atomic_folder, check_apart, size_text, write_json
from rdtf.models.loading import load_pretrained, load_tensors
from rdtf.synthetic.grammar import draw_motion
from rdtf.synthetic.words import draw_caption

if TYPE_CHECKING:
    from rdtf.data.dataset import Clip, PreparedDataset
    from rdtf.models.text import TextEncoder

# What training on a bundle imports: no module in these needs more than torch, numpy, pillow,
# safetensors and diffusers when it is imported there.
_ROOMS = ("", "data", "method", "models", "stickers", "stickers/formats", "synthetic", "training")
_QUALITY = 80
_CHEAP = 1.5  # lossless frames may be this much longer than lossy ones
# Measured on drawings of 128 px: 1.8 ms; the codec's usual effort saves 4 % for half more time.
_LOSSY = {"quality": _QUALITY, "method": 2}
# 0.9 ms; with the usual effort 17 % shorter and eight times slower.
_LOSSLESS = {"lossless": True, "quality": 20, "method": 1}
_MANIFEST_ROOM = 64_000


@dataclass(frozen=True)
class BundleSummary:
    """What was bundled.

    num_held_out: clips of other splits than "train", which are not in it; parts: folders; files:
    bytes by kind (frames, text, code, rest); lossless_share: of frames; lossy_psnr_db: of the other
    frames, premultiplied RGBA, None if there are none.
    """

    path: Path
    parts: tuple[Path, ...]
    num_clips: int
    num_held_out: int
    num_frames: int
    canvas: int
    num_bytes: int
    files: dict[str, int]
    lossless_share: float
    lossy_psnr_db: float | None

    def to_dict(self) -> dict[str, Any]:
        return {**asdict(self), "path": str(self.path), "parts": [str(p) for p in self.parts]}


def write_bundle(
    inputs: Sequence[Path | str],
    out: Path | str,
    *,
    canvas: int = 128,
    encoder: TextEncoder | None = None,
    part_bytes: int | None = None,
    workers: int | None = None,
    overwrite: bool = False,
) -> BundleSummary:
    """Bundle a prepared training set, or folders of stickers, which are prepared first.

    Held-out clips stay at home.

    Args:
        inputs: one training set, or folders and files of stickers.
        out: folder to make.
        canvas: side in pixels; a training set of another size is resampled.
        encoder: of the captions; default: the one that needs no download.
        part_bytes: no part is larger; None: one folder.
        workers: processes; 0 is this one; None is one per processor.
        overwrite: replace `out` if it is a bundle.

    Raises:
        UserError: an input or option makes no sense, or `out` is taken.
    """
    from rdtf.data.dataset import PreparedDataset
    from rdtf.data.prepare import prepare
    from rdtf.data.shards import is_dataset
    from rdtf.models.text import TextEncoder

    out = Path(out)
    check_apart(inputs, out)
    _check(out, canvas, overwrite)
    encoder = encoder or TextEncoder()
    with tempfile.TemporaryDirectory(prefix="rdtf-bundle-") as temporary:
        source = Path(inputs[0])
        if len(inputs) > 1 or not is_dataset(source):
            source = Path(temporary) / "set"
            prepare([Path(name) for name in inputs], source, canvas=canvas, workers=workers)
        dataset = PreparedDataset(source)
        with atomic_folder(out) as folder:
            return _write(dataset, folder, out, canvas, encoder, part_bytes, workers)


def _check(out: Path, canvas: int, overwrite: bool) -> None:
    if canvas < 16 or canvas % 16:
        raise UserError(f"canvas is {canvas}; it must be a multiple of 16")
    if out.exists() and not (out.is_dir() and not any(out.iterdir())):
        if not any(out.glob(MANIFEST_FILE)) and not any(out.glob(f"part-1/{MANIFEST_FILE}")):
            raise UserError(f"{out} is taken by something that is no bundle; name another folder")
        if not overwrite:
            raise UserError(f"bundle {out} exists; name another folder or pass --overwrite")


def _write(
    dataset: PreparedDataset,
    folder: Path,
    out: Path,
    canvas: int,
    encoder: TextEncoder,
    part_bytes: int | None,
    workers: int | None,
) -> BundleSummary:
    clips = dataset.clips("train")
    first = folder if part_bytes is None else folder / "part-1"
    first.mkdir(exist_ok=True)
    write_clips(first, stored := list(_stored(clips)))
    write_text(encoder, stored, first / TEXT_FOLDER)
    _copy_package(first)
    num_frames = stored[-1].start + stored[-1].count
    used = _MANIFEST_ROOM + 4 * num_frames + 128
    used += sum(path.stat().st_size for path in first.rglob("*") if path.is_file())
    if part_bytes is not None and used > part_bytes:
        raise UserError(
            f"parts of {size_text(part_bytes)} are too small: what must be together is "
            f"{size_text(used)}"
        )
    frames = _FramesWriter(folder, part_bytes, used)
    squares, lossy = 0.0, 0
    for found in _encoded(dataset, clips, canvas, workers):
        for data, error in found:
            frames.append(data)
            squares, lossy = squares + (error or 0.0), lossy + (error is not None)
    files = frames.close()
    np.save(first / SIZES_FILE, np.array(frames.sizes, np.uint32), allow_pickle=False)
    loss_db = None if not lossy else float(-10 * np.log10(max(squares / lossy, 1e-10)))
    about = {
        "format": BUNDLE_FORMAT,
        "version": BUNDLE_VERSION,
        "canvas": canvas,
        "dataset": dataset.fingerprint,
        "num_clips": len(stored),
        "num_frames": num_frames,
        "lossless_share": 1 - lossy / num_frames,
        "lossy_psnr_db": loss_db,
        "webp_quality": _QUALITY,
        "frames": files,
        "files": dict(_listed(folder, part_bytes is not None)),
    }
    parts = sorted(folder.glob("part-*"), key=lambda path: int(path.name[5:])) or [folder]
    for part in parts:
        write_json(part / MANIFEST_FILE, about)
    return BundleSummary(
        path=out,
        parts=tuple(out / part.relative_to(folder) for part in parts),
        num_clips=len(stored),
        num_held_out=len(dataset.clips()) - len(stored),
        num_frames=num_frames,
        canvas=canvas,
        num_bytes=sum(path.stat().st_size for path in folder.rglob("*") if path.is_file()),
        files=_by_kind(about["files"]),
        lossless_share=about["lossless_share"],
        lossy_psnr_db=loss_db,
    )


def _stored(clips: Sequence[Clip]) -> Iterable[StoredClip]:
    start = 0
    for clip in clips:
        yield StoredClip(
            start=start,
            count=clip.num_frames,
            durations_ms=clip.durations_ms,
            captions=clip.captions,
            motion=str(clip.attributes.get("motion_caption") or ""),
            source=clip.source or "",
            concept=clip.concept,
        )
        start += clip.num_frames


def _encoded(
    dataset: PreparedDataset, clips: Sequence[Clip], canvas: int, workers: int | None
) -> Iterable[list[tuple[bytes, float | None]]]:
    from rdtf.data.pool import track

    results = ordered_map(
        partial(_encode_clip, dataset.address, dataset.canvas, canvas),
        clips,
        workers=default_workers(len(clips)) if workers is None else workers,
        failed=_failed,
    )
    return track(results, "bundling", len(clips))


def _failed(clip: Clip, _: str) -> list[tuple[bytes, float | None]]:
    raise DataError(f"the codec crashed on clip {clip.id}; prepare the training set without it")


def _encode_clip(
    address: str, from_canvas: int, canvas: int, clip: Clip
) -> list[tuple[bytes, float | None]]:
    from rdtf.data.dataset import read_clip_frames
    from rdtf.stickers.canvas import fit_frame

    frames = read_clip_frames(address, clip, from_canvas)
    if from_canvas != canvas:
        frames = np.stack(
            [fit_frame(f, canvas, canvas, crisp=canvas > from_canvas) for f in frames]
        )
    return [encode_frame(frame) for frame in frames]


def encode_frame(frame: np.ndarray) -> tuple[bytes, float | None]:
    """One frame as WebP: without loss where that is hardly longer (pixel art, flat drawings).

    Args:
        frame: uint8 `[S, S, 4]` straight RGBA.

    Returns:
        (bytes, mean squared error of premultiplied RGBA in [0, 1]; None: without loss).
    """
    image = Image.fromarray(without_hidden_colour(frame))

    def encoded(**options: Any) -> bytes:
        buffer = io.BytesIO()
        image.save(buffer, "WEBP", **options)
        return buffer.getvalue()

    exact, lossy = encoded(**_LOSSLESS), encoded(**_LOSSY)
    if len(exact) <= _CHEAP * len(lossy):
        return exact, None
    seen = np.asarray(Image.open(io.BytesIO(lossy), formats=["WEBP"]).convert("RGBA"))
    return lossy, float(np.square(_premultiplied(seen) - _premultiplied(frame)).mean())


def _premultiplied(frame: np.ndarray) -> np.ndarray:
    pixels = frame.astype(np.float32) / 255
    pixels[..., :3] *= pixels[..., 3:]
    return pixels


class _FramesWriter:
    """Frames one after another into files, a new part whenever one is full."""

    def __init__(self, folder: Path, part_bytes: int | None, used: int) -> None:
        self.folder, self.part_bytes, self.room = folder, part_bytes, (part_bytes or 0) - used
        self.sizes: list[int] = []
        self.files: list[dict[str, Any]] = []
        self._open()

    def append(self, data: bytes) -> None:
        if self.part_bytes is not None and len(data) > self.room:
            self._file.close()
            self.room = self.part_bytes - _MANIFEST_ROOM
            if len(data) > self.room:
                raise UserError("a frame is larger than a part; allow larger parts")
            self._open()
        self._file.write(data)
        self.room -= len(data)
        self.sizes.append(len(data))
        self.files[-1]["count"] += 1

    def close(self) -> list[dict[str, Any]]:
        self._file.close()
        return self.files

    def _open(self) -> None:
        number = len(self.files)
        folder = self.folder if self.part_bytes is None else self.folder / f"part-{number + 1}"
        folder.mkdir(exist_ok=True)
        name = f"frames-{number:03d}.bin"
        self.files.append({"name": name, "first": len(self.sizes), "count": 0})
        self._file = (folder / name).open("wb")


def _copy_package(folder: Path) -> None:
    package = Path(__file__).resolve().parents[1]
    for room in _ROOMS:
        for file in sorted((package / room).glob("*.py")):
            target = folder / "rdtf" / file.relative_to(package)
            target.parent.mkdir(parents=True, exist_ok=True)
            shutil.copyfile(file, target)


def _listed(folder: Path, in_parts: bool) -> Iterable[tuple[str, dict[str, Any]]]:
    """Name inside of its part, and what is known, of every file."""
    for path in sorted(path for path in folder.rglob("*") if path.is_file()):
        name = path.relative_to(folder)
        part, name = (name.parts[0], Path(*name.parts[1:])) if in_parts else ("", name)
        with path.open("rb") as file:
            digest = hashlib.file_digest(file, "sha256").hexdigest()
        yield name.as_posix(), {"num_bytes": path.stat().st_size, "sha256": digest, "part": part}


def _by_kind(files: dict[str, dict[str, Any]]) -> dict[str, int]:
    found = {"frames": 0, "text": 0, "code": 0, "rest": 0}
    for name, about in files.items():
        room = name.split("/")[0]
        kind = {TEXT_FOLDER: "text", "rdtf": "code"}.get(room, "rest")
        kind = "frames" if name.startswith("frames-") else kind
        found[kind] += about["num_bytes"]
    return found


_WEIGHTS_FILE = "encoder.safetensors"
_GRAMMAR_CAPTIONS = 6000  # drawn to know the grammar's words: each occurs many times


def write_text(encoder: TextEncoder, clips: Sequence[StoredClip], folder: Path) -> None:
    """Save the encoder with the tokens of the clips' captions and of the motion grammar."""
    tokenizer, model = encoder.parts
    ids = _token_ids(tokenizer, _captions(clips))
    table = model.get_input_embeddings().weight.detach()
    weights = {
        name: _half(tensor)
        for name, tensor in model.state_dict().items()
        if tensor.data_ptr() != table.data_ptr()  # T5 has it under two names
    }
    weights["ids"], weights["rows"] = torch.from_numpy(ids), _half(table[torch.from_numpy(ids)])
    folder.mkdir(parents=True)
    tokenizer.save_pretrained(folder)
    model.config.save_pretrained(folder)
    save_file(weights, folder / _WEIGHTS_FILE)


def read_text(folder: Path) -> tuple[Any, nn.Module]:
    """Tokenizer and frozen encoder (fp32) as `write_text` saved them.

    Tokens that were not saved read as the unknown token.

    Raises:
        DataError: the folder holds no such encoder.
    """
    from transformers import AutoConfig, AutoModelForTextEncoding, AutoTokenizer

    try:
        tokenizer: Any = load_pretrained(AutoTokenizer, folder)
        config = load_pretrained(AutoConfig, folder)
        weights = load_tensors(folder / _WEIGHTS_FILE)
    except (OSError, ValueError) as error:
        raise DataError(f"text encoder in {folder} can't be loaded: {error}") from error
    model: Any = AutoModelForTextEncoding.from_config(config)
    ids, rows = weights.pop("ids"), weights.pop("rows").float()
    table = torch.zeros_like(model.get_input_embeddings().weight)
    table[ids] = rows
    if tokenizer.unk_token_id is not None:
        unknown = torch.ones(len(table), dtype=torch.bool)
        unknown[ids] = False
        table[unknown] = table[tokenizer.unk_token_id].clone()
    full = {name: tensor.float() for name, tensor in weights.items()}
    for name, tensor in model.state_dict().items():
        if tensor.data_ptr() == model.get_input_embeddings().weight.data_ptr():
            full[name] = table
    model.load_state_dict(full)
    return tokenizer, model.eval().requires_grad_(False).float()


def _half(tensor: Tensor) -> Tensor:
    kept = tensor.detach().cpu()
    return (kept.half() if kept.is_floating_point() else kept).contiguous().clone()


def _captions(clips: Sequence[StoredClip]) -> Iterable[str]:
    for clip in clips:
        yield from clip.captions
        yield clip.motion
    generator = np.random.Generator(np.random.Philox(key=[0, 0]))
    for number in range(_GRAMMAR_CAPTIONS):
        name = "thing" if number % 2 else ""
        yield draw_caption(draw_motion(generator), name, generator)


def _token_ids(tokenizer: Any, captions: Iterable[str]) -> np.ndarray:
    """Sorted, int64; a word may have another token at a caption's start than within one."""
    different = list(dict.fromkeys(captions))
    ids = set(tokenizer.all_special_ids)
    for texts in (different, [f"a {caption}" for caption in different]):
        for found in tokenizer(texts)["input_ids"]:
            ids.update(found)
    return np.array(sorted(ids), dtype=np.int64)
