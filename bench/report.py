"""What a run found: a Markdown table for people, JSON for checks.

Invariant: pure text of what is handed in; every figure of the run is in both, with null and a reason where there is
no value.
"""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from typing import Any

from figures import KEYS, Found


def as_json(found: Sequence[Found], about: Mapping[str, Any], scaled: Mapping[str, Any]) -> str:
    """`figures` by key, their `spread` and `bars`, what is `scaled` down and what is `missing`, and `about` the run."""
    told = {
        "figures": {each.figure.key: _rounded(each.value) for each in found},
        "spread": {each.figure.key: [_rounded(value) for value in each.repeats] for each in found if each.repeats},
        "bars": {
            each.figure.key: {"bar": str(each.figure.bar), "verdict": each.verdict}
            for each in found
            if each.figure.bar is not None
        },
        "scaled": dict(scaled),
        "missing": {each.figure.key: each.missing for each in found if each.value is None},
        "about": dict(about),
    }
    return json.dumps(told, indent=2) + "\n"


def as_markdown(found: Sequence[Found], about: Mapping[str, Any], scaled: Mapping[str, Any]) -> str:
    """The table of the figures with a bar, then that of what was measured next to them."""
    repeats = f"medians of {about['repeats']} interleaved repeats" if about["repeats"] > 1 else "one repeat"
    lines = [f"`{about['command']}`: {about['machine']}, {about['versions']}; {repeats}.", ""]
    if scaled:
        names = ", ".join(f"{name} {what['here']:,g} of {what['full']:,g}" for name, what in scaled.items())
        lines += [f"Scaled down: {names}.", ""]
    lines += ["| figure | key | median | spread | bar | |", "| --- | --- | --- | --- | --- | --- |"]
    lines += [_row(each) for each in found if each.figure in KEYS]
    lines += ["", "| next to them | key | median | spread |", "| --- | --- | --- | --- |"]
    lines += [
        f"| {each.figure.meaning} | {each.figure.key} | {_shown(each)} | {_spread(each)} |"
        for each in found
        if each.figure not in KEYS
    ]
    return "\n".join(lines) + "\n"


def _row(each: Found) -> str:
    bar = str(each.figure.bar) if each.figure.bar is not None else ""
    cells = (each.figure.meaning, each.figure.key, _shown(each), _spread(each), bar, each.verdict)
    return f"| {' | '.join(cells)} |"


def _shown(each: Found) -> str:
    return number(each.value) if each.value is not None else each.missing


def _spread(each: Found) -> str:
    return f"{number(min(each.repeats))} to {number(max(each.repeats))}" if len(each.repeats) > 1 else ""


def number(value: float) -> str:
    """Three digits that matter, or all of a large one's."""
    if abs(value) >= 1_000:
        return f"{value:,.0f}"
    return f"{value:.3g}"


def _rounded(value: float | None) -> float | None:
    return None if value is None else round(value, 4)
