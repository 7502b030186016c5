"""`make simulate`: the command line of the simulation."""

from __future__ import annotations

import argparse
import os
import sys
from pathlib import Path

from simulation.many import many, replay


def main() -> int:
    """The command line."""
    parser = argparse.ArgumentParser(prog="make simulate")
    parser.add_argument("--seeds", type=int, default=100, help="how many worlds")
    parser.add_argument("--first", type=int, default=0, help="the first seed")
    parser.add_argument("--seed", type=int, help="play one again")
    parser.add_argument("--processes", type=int, default=os.cpu_count() or 1)
    parser.add_argument("--out", type=Path, default=Path("out/simulate.json"))
    asked = parser.parse_args()
    if os.environ.get("PYTHONHASHSEED") != "0":
        sys.exit("set PYTHONHASHSEED=0: the order of sets is drawn by Python otherwise, and no seed plays again")
    if asked.seed is not None:
        return replay(asked.seed)
    return many(asked.first, asked.seeds, asked.processes, asked.out)


if __name__ == "__main__":
    sys.exit(main())
