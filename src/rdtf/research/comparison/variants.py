"""The ablation, in the manner of the paper's Tables 3 and 4.

All are trained from scratch, without the frame composer (which is not the paper's), with the same
training FLOPs as the DFGN. The steps are the paper's: the temporal layer, then the dual mask, then
the curriculum.

*Without the dual mask* is the model that the paper starts from, said plainly: no condition mask
(one task, first frame and text → clip; the network sees the clean first frame and no mask
channel), and no loss mask (clips padded to the longest by repeating their last frame, and the loss
counts all frames, given and repeated ones too). On tasks that it was not trained for it is scored
by replacement: given frames are put back, noised, before every sampling step.
"""

from __future__ import annotations

from collections.abc import Sequence

from rdtf.method.curriculum import Curriculum, CurriculumConfig
from rdtf.research.comparison.methods import METHODS, REFERENCE, Method

_RATE = METHODS[REFERENCE].learning_rate


def _variant(name: str, label: str, *, dual_mask: bool = True, **changes: object) -> Method:
    changes = {"model__compose": False, **changes}
    return Method(name, label, _RATE, changes=changes, dual_mask=dual_mask)


# The last row is the DFGN that the comparison trains anyway.
VARIANTS: tuple[Method, ...] = (
    _variant(
        "conv3d",
        "3D convolution as temporal layer",
        dual_mask=False,
        model__temporal_layer="conv3d",
    ),
    _variant("sti", "STI", dual_mask=False),
    _variant("dual-mask", "STI + dual mask, curriculum none", curriculum__mode="none"),
    _variant("linear", "… + linear curriculum", curriculum__mode="linear"),
    _variant("static", "… + static curriculum", curriculum__mode="static"),
    Method(REFERENCE, "… + adaptive curriculum", _RATE, changes=METHODS[REFERENCE].changes),
)


def distinct_variants() -> list[Method]:
    """Those that differ in what is trained.

    With the paper's knots, which lie on a line, the linear and the static curriculum coincide; two
    equal runs would tell nothing.
    """
    if same_schedule("linear", "static"):
        return [variant for variant in VARIANTS if variant.name != "static"]
    return list(VARIANTS)


def variant_label(name: str) -> str:
    """A row's name, which says so where it stands for two."""
    label = next(variant.label for variant in VARIANTS if variant.name == name)
    if name == "linear" and same_schedule("linear", "static"):
        return f"{label} (= static: the paper's knots lie on a line)"
    return label


def same_schedule(first: str, second: str, points: Sequence[float] = (0, 0.2, 0.5, 0.7, 1)) -> bool:
    """Whether two curriculum modes give the same weights all along."""
    one, two = (Curriculum(CurriculumConfig(mode=mode)) for mode in (first, second))
    return all(
        abs(one.task_weights(point)[task] - two.task_weights(point)[task]) < 1e-9
        for point in points
        for task in one.task_weights(point)
    )
