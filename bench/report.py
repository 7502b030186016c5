"""What a run found: a Markdown table for people, JSON for checks."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import NamedTuple


class Figure(NamedTuple):
    """One figure: the median of its repeats."""

    key: str
    value: float
    meaning: str
    repeats: Sequence[float] = ()


def write(figures: Sequence[Figure], folder: Path, *, scaled: Mapping[str, int]) -> None:
    """Print the table and leave bench.md and bench.json in the folder."""
    lines = ["| figure | key | median | spread |", "| --- | --- | --- | --- |"]
    for figure in figures:
        spread = f"{min(figure.repeats):,.0f} to {max(figure.repeats):,.0f}" if figure.repeats else ""
        value = f"{figure.value:,.0f}" if figure.value >= 1000 else f"{figure.value:.3g}"
        lines.append(f"| {figure.meaning} | {figure.key} | {value} | {spread} |")
    table = "\n".join(lines)
    folder.mkdir(parents=True, exist_ok=True)
    (folder / "bench.md").write_text(table + "\n")
    found = {"figures": {figure.key: round(figure.value, 4) for figure in figures}, "scaled": dict(scaled)}
    (folder / "bench.json").write_text(json.dumps(found, indent=2) + "\n")
    print(table)
