"""Whether a worker is alive, and whether it is ready: facts and a time go in, checks come out.

Invariant: no check of liveness asks how Kafka is. A restart does not mend a broker that is away, and a fleet that
restarts because of one comes back all at once. Readiness may ask: it restarts nobody.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import asdict, dataclass
from typing import Any, Final, Literal

State = Literal["starting", "running", "draining", "stopped"]

LIVE_S: Final = 120.0
"""Longer than the reader waits at most in one turn while Kafka is away: for offsets, a revocation and a new start."""
SLOW_S: Final = 0.5
POLL_S: Final = 15.0
SETTLE_S: Final = 30.0
ASSIGN_S: Final = 15.0
"""A member that the group gives nothing is told nothing (KIP-848): so long it may only be early."""
BEAT_S: Final = 10.0


@dataclass(frozen=True, slots=True)
class Facts:
    """How a worker is; times are those of one monotonic clock, in seconds.

    Attributes:
        state: where it is in its life.
        asked_s: when the event loop was asked for a sign that it has not given yet; None if it owes none.
        polled_s: the reader's last poll; None before the reader has started.
        backlog: outcomes that wait for their settlement or are being settled.
        settled_s: the last time when a settlement went through or nothing waited for one.
        held: partitions that it holds.
        held_since_s: when partitions last came or went, or reading began.
        beat_s: when Kafka last acknowledged a heartbeat; None if it never has.
    """

    state: State
    asked_s: float | None
    polled_s: float | None
    backlog: int
    settled_s: float
    held: int
    held_since_s: float
    beat_s: float | None


@dataclass(frozen=True, slots=True)
class Check:
    """One thing that was looked at.

    Attributes:
        name: of what.
        ok: whether it is as it should be.
        says: how it is, for people.
        age_s: how old or how late it is, seconds; None where there is no such time.
        limit_s: what it may be, seconds.
    """

    name: str
    ok: bool
    says: str
    age_s: float | None = None
    limit_s: float | None = None


def live(facts: Facts, now_s: float) -> tuple[Check, ...]:
    """The checks that a restart would mend."""
    return _loop(facts, LIVE_S, now_s), _reader(facts, LIVE_S, now_s)


def ready(facts: Facts, loop_blocked_s: float, now_s: float) -> tuple[Check, ...]:
    """The checks of a worker that does its work.

    Args:
        facts: how it is.
        loop_blocked_s: from when on an event loop that does not answer is blocked, seconds.
        now_s: the time, by the clock of the facts.
    """
    return (
        Check("state", facts.state == "running", facts.state),
        _loop(facts, loop_blocked_s, now_s),
        _reader(facts, POLL_S, now_s),
        _settler(facts, now_s),
        _partitions(facts, now_s),
    )


def report(checks: Sequence[Check]) -> dict[str, Any]:
    """What is answered to whoever asks, as JSON holds it."""
    return {
        "status": "ok" if all(check.ok for check in checks) else "failed",
        "checks": [asdict(check) for check in checks],
    }


def _aged(name: str, age_s: float, limit_s: float, says: str, otherwise: str) -> Check:
    age_s = round(max(0.0, age_s), 3)
    ok = age_s < limit_s
    return Check(name, ok, says if ok else otherwise, age_s, limit_s)


def _loop(facts: Facts, limit_s: float, now_s: float) -> Check:
    late_s = now_s - facts.asked_s if facts.asked_s is not None else 0.0
    says = "answers" if late_s < SLOW_S else "is late with its answer"
    return _aged("event_loop", late_s, limit_s, says, "blocked: the log says by which handler, with its stack")


def _reader(facts: Facts, limit_s: float, now_s: float) -> Check:
    if facts.polled_s is None:
        return Check("reader", facts.state == "starting", "not started yet", None, limit_s)
    return _aged("reader", now_s - facts.polled_s, limit_s, "polls", "has stopped polling")


def _settler(facts: Facts, now_s: float) -> Check:
    if not facts.backlog:
        return Check("settler", ok=True, says="has nothing to settle", age_s=0.0, limit_s=SETTLE_S)
    waiting = f"{facts.backlog} outcomes wait"
    return _aged("settler", now_s - facts.settled_s, SETTLE_S, f"commits; {waiting}", f"commits nothing; {waiting}")


def _partitions(facts: Facts, now_s: float) -> Check:
    if facts.held:
        return Check("partitions", ok=True, says=f"{facts.held} assigned")
    waited_s = round(max(0.0, now_s - facts.held_since_s), 3)
    if facts.polled_s is None or waited_s < ASSIGN_S:
        return Check("partitions", ok=False, says="none assigned yet", age_s=waited_s, limit_s=ASSIGN_S)
    if facts.beat_s is None or now_s - facts.beat_s >= BEAT_S:
        says = "none assigned, and Kafka does not answer"
        return Check("partitions", ok=False, says=says, age_s=waited_s, limit_s=ASSIGN_S)
    says = "none assigned: the group has more workers than the lanes have partitions"
    return Check("partitions", ok=True, says=says, age_s=waited_s, limit_s=ASSIGN_S)
