"""Plots of a run, as PNG: throughput beside the peers, and how every figure stands to its bar.

Invariant: drawn from `bench.json` alone, so that an old run can be drawn again: `python bench/plots.py FOLDER`.
"""

from __future__ import annotations

import json
import sys
from pathlib import Path
from typing import Any, Final

import matplotlib as mpl
from matplotlib import pyplot

_OURS: Final = "#1f6f8b"
_THEIRS: Final = "#9aa5ad"
_SHORT: Final = "#c8553d"
_RATES: Final = {
    "raw_per_s": "raw loop (no results, no guarantees)",
    "noop_per_s": "fairlane, async",
    "sync_per_s": "fairlane, sync on 2 × 8 threads",
    "parallel_consumer_poll_per_s": "Parallel Consumer, poll",
    "parallel_consumer_produce_per_s": "Parallel Consumer, pollAndProduce",
    "dramatiq_per_s": "Dramatiq",
    "faststream_per_s": "FastStream",
    "celery_per_s": "Celery",
    "rq_per_s": "RQ",
}


def draw(folder: Path) -> list[Path]:
    """Draw what a run left in a folder; returns the pictures."""
    mpl.use("agg")
    told: dict[str, Any] = json.loads((folder / "bench.json").read_text())
    drawn = [_throughput(told, folder / "throughput.png"), _bars(told, folder / "bars.png")]
    return [path for path in drawn if path is not None]


def _throughput(told: dict[str, Any], path: Path) -> Path | None:
    figures = told["figures"]
    rates = {label: figures[key] for key, label in _RATES.items() if figures.get(key)}
    if not rates:
        return None
    labels = sorted(rates, key=lambda label: rates[label])
    figure, axes = pyplot.subplots(figsize=(9, 0.5 * len(labels) + 1.5))
    colours = [_OURS if label.startswith("fairlane") else _THEIRS for label in labels]
    bars = axes.barh(labels, [rates[label] for label in labels], color=colours)
    axes.bar_label(bars, labels=[f"{rates[label]:,.0f}" for label in labels], padding=4)
    axes.set_xscale("log")
    axes.margins(x=0.2)
    axes.set_xlabel("no-op tasks a second, logarithmic")
    return _saved(figure, axes, told, path)


def _bars(told: dict[str, Any], path: Path) -> Path | None:
    met = {key: _reached(told["figures"][key], said["bar"]) for key, said in told["bars"].items()}
    shown = {key: value for key, value in met.items() if value is not None}
    if not shown:
        return None
    labels = list(reversed(shown))
    figure, axes = pyplot.subplots(figsize=(9, 0.4 * len(labels) + 1.5))
    colours = [_OURS if told["bars"][key]["verdict"] == "met" else _SHORT for key in labels]
    bars = axes.barh(labels, [min(shown[key], 4.0) for key in labels], color=colours)
    texts = [f"{told['figures'][key]:.3g} ({told['bars'][key]['bar']})" for key in labels]
    axes.bar_label(bars, labels=texts, padding=4)
    axes.axvline(1, color="black", linewidth=1)
    axes.set_xlim(0, 5)
    axes.set_xlabel("how far the bar (the line) is reached, cut at 4")
    return _saved(figure, axes, told, path)


def _reached(value: float | None, bar: str) -> float | None:
    """1 is the bar itself, more is better; None where there is no value, or none that a ratio could tell."""
    sign, limit = bar.split()
    if value is None or float(limit) == 0:
        return None
    if sign == "≥":
        return value / float(limit)
    return float(limit) / value if value > 0 else 4.0


def _saved(figure: Any, axes: Any, told: dict[str, Any], path: Path) -> Path:
    axes.spines[["top", "right"]].set_visible(False)
    about = told["about"]
    axes.set_title(f"{about['command']}: {about['machine']}, {about['versions']}", fontsize=9)
    figure.tight_layout()
    figure.savefig(path, dpi=120)
    pyplot.close(figure)
    return path


if __name__ == "__main__":
    print(*draw(Path(sys.argv[1])), sep="\n")
