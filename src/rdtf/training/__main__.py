"""Train on a bundle where only torch, numpy, pillow, safetensors, diffusers and transformers are.

    PYTHONPATH=BUNDLE python -m rdtf.training motion BUNDLE --out RUN --seconds 1800 --slice 560

With the program installed `rdtf train-network` does the same.
"""

from __future__ import annotations

import argparse
import math
import sys
from collections.abc import Sequence
from pathlib import Path

from rdtf.errors import UserError

INTERRUPTED = 75


def main(arguments: Sequence[str] | None = None) -> int:
    """Status 0: the plan is done, or this call's slice is over; 2: a mistake, in one line; 75:
    stopped by a signal after saving."""
    from rdtf.training.bundled import train_from_options

    given = _parser().parse_args(arguments)
    try:
        result = train_from_options(given.kind, given)
    except UserError as error:
        print(f"rdtf: {error}", file=sys.stderr)
        return 2
    for path in result.parts:
        print(path)
    return INTERRUPTED if result.reason == "interrupted" else 0


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(
        prog="python -m rdtf.training", description=(__doc__ or "").splitlines()[0]
    )
    add = parser.add_argument
    add("kind", choices=("motion", "prediction", "recurrence", "drawing"))
    add("bundle", nargs="+", type=Path, help="folder of the bundle, or folders of its parts")
    add("--out", type=Path, required=True, help="run folder; if it holds a run, that goes on")
    add("--seconds", type=float, help="training time that the schedule is planned for, all calls")
    add("--steps", type=int, help="instead of --seconds")
    add("--slice", type=float, default=math.inf, help="seconds after which this call ends, saved")
    add("--parts", type=float, help="write the weights in half precision as parts of MB")
    add("--precision", choices=("fp32", "amp", "bf16"), help="default: bf16 on a GPU")
    add("--compile", action="store_true", help="compile the network; takes minutes at the start")
    add("--batch-size", type=int)
    add("--channels", type=_numbers, help="width of each level, e.g. 64,128,192")
    add("--learning-rate", type=float)
    add("--weight", nargs="*", default=[], metavar="NAME=NUMBER", help="of a collection of clips")
    add("--grammar-share", type=float, help="of motion batches: motions of the grammar on stills")
    add("--seed", type=int)
    add("--workers", type=int, help="processes that draw batches")
    add("--store", type=Path, help="where decoded frames are kept; default: beside the bundle")
    add("--device", help="default: a GPU if there is one")
    return parser


def _numbers(text: str) -> tuple[int, ...]:
    return tuple(int(part) for part in text.split(","))


if __name__ == "__main__":
    sys.exit(main())
