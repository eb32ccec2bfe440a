"""`python -m benchmarks` runs all of them, `python -m benchmarks NAME --help` tells of one.

All of them take less than three minutes on two idle cores.
"""

from __future__ import annotations

import json
import os
import sys

os.environ.setdefault("OMP_WAIT_POLICY", "PASSIVE")  # before torch is imported


def main() -> None:
    """Run one benchmark, or all with their defaults; `--json` prints values instead of tables."""
    import warnings

    import tyro

    from benchmarks.ablations import Ablations
    from benchmarks.common import machine
    from benchmarks.curriculum import CurriculumCost
    from benchmarks.drawing import Drawing
    from benchmarks.duplicates import Duplicates
    from benchmarks.export import ExportTime
    from benchmarks.goals import Goals
    from benchmarks.loading import Loading
    from benchmarks.memory import Memory
    from benchmarks.percentile import Percentile
    from benchmarks.pile import Pile
    from benchmarks.sampling import Sampling
    from benchmarks.throughput import Throughput
    from benchmarks.words import Words
    from rdtf.training.device import default_device

    known = {
        "throughput": Throughput,
        "memory": Memory,
        "sampling": Sampling,
        "loading": Loading,
        "curriculum": CurriculumCost,
        "duplicates": Duplicates,
        "percentile": Percentile,
        "export": ExportTime,
        "ablations": Ablations,
        "words": Words,
        "drawing": Drawing,
        "pile": Pile,
        "goals": Goals,
    }
    warnings.simplefilter("ignore")
    arguments = [argument for argument in sys.argv[1:] if argument != "--json"]
    as_json = len(arguments) < len(sys.argv) - 1
    if arguments:
        chosen = [tyro.extras.subcommand_cli_from_dict(known, args=arguments, prog="benchmarks")]
    else:
        slow = (Ablations, Duplicates, Words, Drawing, Pile, Goals)  # they need data or minutes
        chosen = [kind() for kind in known.values() if kind not in slow]
    where, values = machine(default_device()), {}
    if not as_json:
        print(f"$ python -m benchmarks {' '.join(arguments)}".rstrip())
    for benchmark in chosen:
        table = benchmark.run()
        values[type(benchmark).__name__.lower()] = table.values
        if not as_json:
            print(f"\n{table.text(where)}", flush=True)
    if as_json:
        print(json.dumps({"machine": where, **values}))


if __name__ == "__main__":
    main()
