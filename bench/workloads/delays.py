"""Delays and retries: how late, and whether ever early."""

from __future__ import annotations

from sizes import Sizes
from stage import Measured, Stage


def run(stage: Stage, sizes: Sizes) -> Measured:
    with stage.queue() as names:
        found = stage.subject("delays", names.queue, sizes.delayed, sizes.delay_s)
    return {f"delay_{name}": value for name, value in found.items()}
