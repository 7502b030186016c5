"""A partition that is held back, as a heartbeat tells it and as people read it.

Invariant: frozen. The sentence is the same in a worker's log and in every view.
"""

from __future__ import annotations

from typing import Final, Literal

import msgspec

HeadState = Literal["running", "waiting", "delayed", "suspect", "unknown"]
"""What the head does: it runs, waits for its turn (a limit of its type), for its time, or as one that a worker may have
died of; unknown where the worker cannot name it."""

_SINCE: Final[dict[HeadState, str]] = {
    "running": "has been running",
    "waiting": "has waited for its turn",
    "delayed": "has waited for its time",
    "suspect": "has waited, as a worker may have died of it,",
    "unknown": "has been unfinished",
}


class HeldBack(msgspec.Struct, frozen=True):
    """What holds a partition back: the record at the lowest unfinished offset, its head.

    Attributes:
        partition: `topic/partition`.
        offset: of the head.
        id: of the head's task; "" where it is unknown.
        type: of the head's task; "" where it is unknown.
        state: what the head does.
        since_ms: since when it does, Unix ms.
        finished: offsets behind the head that are finished, those without a record included.
        unfinished: offsets that are not, from the head to the highest finished one.
        outage: whether too many are unfinished for one task to be the cause.
    """

    partition: str
    offset: int
    id: str = ""
    type: str = ""
    state: HeadState = "unknown"
    since_ms: int = 0
    finished: int = 0
    unfinished: int = 0
    outage: bool = False


def sentence(held: HeldBack, now_ms: int) -> str:
    """Who holds back how much since when: `shop.p3[4]: task 01a2… (resize) has been running for 312 s and holds …`."""
    topic, _, number = held.partition.rpartition("/")
    who = f"task {held.id} ({held.type})" if held.id else f"offset {held.offset}"
    since = f"{_SINCE[held.state]} for {max(0, now_ms - held.since_ms) // 1000:,} s"
    if not held.outage:
        return f"{topic}[{number}]: {who} {since} and holds back {held.finished:,} finished records"
    return (
        f"{topic}[{number}]: {held.unfinished:,} of {held.finished + held.unfinished:,} records are unfinished, too "
        f"many for one task to be the cause; the first, {who}, {since}"
    )
