"""Enqueueing: in bulk beside a raw producer with the same headers, and one after the other."""

from __future__ import annotations

from sizes import Sizes
from stage import Measured, Stage


def run(stage: Stage, sizes: Sizes) -> Measured:
    measured: Measured = {}
    with stage.queue() as names:
        for kind in ("raw", "many", "blind"):
            measured[f"enqueue_{kind}_per_s"] = stage.subject("enqueue", names.queue, kind, sizes.enqueued)["per_s"]
        one = stage.subject("enqueue", names.queue, "one", sizes.enqueued_one)
    return measured | {"enqueue_one_per_s": one["per_s"], "enqueue_one_p50_ms": one["p50_ms"]}
