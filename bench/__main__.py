"""`make bench`: every figure of one interleaved run, medians of several repeats, as a table, as JSON and as plots.

Method: one real Kafka (KAFKA_BOOTSTRAP_SERVERS, else the embedded one) on the same cores as everything else. Every
repeat runs each subject once, one after the other, on topics of its own, so that the noise of the machine hits all of
them. A ratio is one of medians of the same run. How each subject is measured, its own docstring says.
"""

from __future__ import annotations

import argparse
import os
import platform
import time
from importlib.metadata import version
from importlib.util import find_spec
from pathlib import Path
from typing import Any

import figures
from report import as_json, as_markdown
from sizes import FULL, QUICK, SMOKE, Sizes, scaled
from stage import BENCH, Measured, Stage, stage
from workloads import WORKLOADS

SIZES = {"full": FULL, "quick": QUICK, "smoke": SMOKE}


def measure(on: Stage, sizes: Sizes, names: list[str]) -> list[Measured]:
    """Run the workloads, all of them in each repeat."""
    repeats: list[Measured] = []
    for repeat in range(sizes.repeats):
        measured: Measured = {}
        for name in names:
            if repeat and not WORKLOADS[name].every_repeat:
                continue
            began = time.monotonic()
            found = WORKLOADS[name].run(on, sizes)
            shown = ", ".join(f"{key} {value:,.4g}" for key, value in found.items())
            print(f"[{repeat + 1}/{sizes.repeats}] {name}, {time.monotonic() - began:.0f} s: {shown}", flush=True)
            measured |= found
        repeats.append(measured)
    return repeats


def about(sizes: Sizes, command: str) -> dict[str, Any]:
    """What the run was made of."""
    return {
        "command": command,
        "machine": f"{os.cpu_count()} cores, {platform.system()} {platform.machine()}",
        "versions": f"Python {platform.python_version()}, confluent-kafka {version('confluent-kafka')}",
        "python": platform.python_version(),
        "repeats": sizes.repeats,
    }


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--size", choices=SIZES, default="full", help="how large the workloads are")
    parser.add_argument("--only", default="", help=f"some of {','.join(WORKLOADS)}, comma-separated")
    parser.add_argument("--out", type=Path, default=BENCH / "out")
    parser.add_argument("--home", type=Path, default=BENCH.parent / ".bench", help="environments of the peers")
    options = parser.parse_args()
    names = options.only.split(",") if options.only else list(WORKLOADS)
    if unknown := [name for name in names if name not in WORKLOADS]:
        parser.error(f"no workload is called {unknown[0]!r}; there are {', '.join(WORKLOADS)}")
    sizes = SIZES[options.size]
    with stage(options.home) as on:
        repeats = measure(on, sizes, names)
    found = figures.find(repeats, names, on.missing)
    said = about(sizes, " ".join(["make bench", *(["QUICK=1"] if sizes is not FULL else [])]))
    smaller = scaled(sizes)
    options.out.mkdir(parents=True, exist_ok=True)
    (options.out / "bench.json").write_text(as_json(found, said, smaller))
    table = as_markdown(found, said, smaller)
    (options.out / "bench.md").write_text(table)
    print(table)
    draw(options.out)


def draw(folder: Path) -> None:
    """The plots, where there is something to draw with: the bench's own environment has it."""
    if find_spec("matplotlib") is None:
        print("No plots: matplotlib is in the environment that `make bench` makes")
        return
    import plots

    print("Plots:", ", ".join(path.name for path in plots.draw(folder)))


if __name__ == "__main__":
    main()
