"""What Linux says of processes: memory, threads, open files, children.

Invariant: it looks from outside, through `/proc`, so that what is measured is not changed by it.
"""

from __future__ import annotations

from collections import defaultdict
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path

import proc


@dataclass(frozen=True)
class Sample:
    """One process at one moment.

    Attributes:
        resident_mib: its resident memory.
        threads: how many it has.
        files: how many descriptors are open.
        children: how many processes it has started that live, and those that they have started.
        children_mib: the resident memory of these.
        cpu_s: CPU time of all its threads so far; without its children.
    """

    resident_mib: float
    threads: int
    files: int
    children: int
    children_mib: float
    cpu_s: float


def children() -> dict[int, list[int]]:
    """The children of each process of this machine."""
    found = defaultdict(list)
    for entry in Path("/proc").iterdir():
        if entry.name.isdigit():
            # A process may end while it is looked at.
            with suppress(OSError):
                # The name of the program stands in brackets and may have spaces in it.
                parent = (entry / "stat").read_text().rpartition(")")[2].split()[1]
                found[int(parent)].append(int(entry.name))
    return found


def offspring(pid: int, of: dict[int, list[int]]) -> list[int]:
    """All processes below one."""
    below = of.get(pid, [])
    return [*below, *(each for child in below for each in offspring(child, of))]


def sample(pid: int, below: list[int]) -> Sample:
    """Look at a process.

    Args:
        pid: of the process.
        below: those that it has started.

    Raises:
        OSError: it has ended.
    """
    resident_mib = proc.resident_mib(pid)
    if not resident_mib:
        raise ProcessLookupError(f"process {pid} has ended, and nobody has waited for it yet")
    children_mib = 0.0
    for child in below:
        with suppress(OSError):
            children_mib += proc.resident_mib(child)
    return Sample(
        resident_mib=resident_mib,
        threads=_count(pid, "task"),
        files=_count(pid, "fd"),
        children=len(below),
        children_mib=children_mib,
        cpu_s=proc.cpu_s(pid),
    )


def _count(pid: int, what: str) -> int:
    return sum(1 for _ in Path(f"/proc/{pid}/{what}").iterdir())
