"""`make chaos`: the command line of the storm."""

from __future__ import annotations

import argparse
import random
import sys
from pathlib import Path

import msgspec

from chaos.run import chaos


def main() -> int:
    """The command line; returns 1 if anything was lost, doubled, stuck or crashed."""
    parser = argparse.ArgumentParser(prog="make chaos")
    parser.add_argument("--minutes", type=float, default=2.0, help="how long faults are injected")
    parser.add_argument("--seed", type=int, default=random.randrange(1_000_000), help="of the faults; any by default")
    parser.add_argument("--out", type=Path, default=Path("out/chaos.json"))
    asked = parser.parse_args()
    folder = asked.out.absolute().with_suffix("")
    report = chaos(asked.minutes, asked.seed, folder, lambda line: print(line, flush=True))
    asked.out.write_bytes(msgspec.json.format(msgspec.json.encode(report.json())) + b"\n")
    print(f"\n{report.markdown()}\n\nin {asked.out}; logs and evidence in {folder}")
    return 0 if report.is_good else 1


if __name__ == "__main__":
    sys.exit(main())
