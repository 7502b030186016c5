"""`make soak`: the command line of the soak."""

from __future__ import annotations

import argparse
import shutil
import sys
import tempfile
from pathlib import Path

import msgspec

from fairlane.kafka import EmbeddedKafka
from soak.run import Soak, as_json, as_markdown

DELAYS_S = (1.0, 6.0, 65.0)


def say(line: str) -> None:
    """A line for whoever waits."""
    sys.stdout.write(f"{line}\n")
    sys.stdout.flush()


def main() -> int:
    """The command line."""
    parser = argparse.ArgumentParser(prog="make soak")
    parser.add_argument("--minutes", type=float, default=5, help="how long the load runs")
    parser.add_argument("--rate", type=float, default=150, help="tasks a second")
    parser.add_argument("--out", type=Path, default=Path("out/soak.json"))
    asked = parser.parse_args()
    if not sys.platform.startswith("linux"):
        sys.exit("the soak looks at processes through /proc, which is Linux's alone")
    seconds = asked.minutes * 60
    every_s = min(5.0, max(0.5, seconds / 300))
    asked.out.parent.mkdir(parents=True, exist_ok=True)
    # It stays if something failed: the logs tell why.
    folder = Path(tempfile.mkdtemp(prefix="fairlane-soak-"))
    say(f"{asked.minutes:g} minutes at {asked.rate:g} tasks a second; the logs are in {folder}")
    with EmbeddedKafka() as kafka:
        result = Soak(seconds, asked.rate, every_s, DELAYS_S, say).run(kafka.bootstrap, folder)
    asked.out.write_bytes(msgspec.json.format(msgspec.json.encode(as_json(result)), indent=0) + b"\n")
    say(as_markdown(result))
    if result.failures:
        return 1
    shutil.rmtree(folder)
    return 0


if __name__ == "__main__":
    sys.exit(main())
