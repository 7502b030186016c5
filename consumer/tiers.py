"""Where a task waits until it is due: in memory, or in which tier.

Invariant: a task is accepted only when what remains of its delay fits memory, so it is never run early by the clock of
the worker that runs it; and it never hops from tier to tier without waiting in between.

The *hold limit* is the delay of the second smallest tier (5 s by default): what remains below it waits in memory, its
record unsettled in the smallest tier, which is always read through. More goes to the largest tier that is not longer
than what remains, and the same again from there. The limit is not the smallest tier's own delay: a task of between
one and five seconds would go round the smallest tier in a tight loop, or hop once more for nothing.

Bound on hops. Let d_1 < … < d_n be the delays and a = 1 s (or half a tier's delay if that is less) the lookahead: a
tier's record is read `a` before its time. A visit to tier i shortens what remains by at least d_i - a, and tier i is
visited only while less than d_(i+1) remains; so it is visited at most 1 + (d_(i+1) - d_i) / (d_i - a) times, and the
largest at most 1 + (r - d_n) / (d_n - a) times for a delay r. With the default tiers a year takes at most 366 visits of
the largest and 49 below it, a delay of one tier exactly one.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Final, TypeAlias

from fairlane.topics.errors import UsageError
from fairlane.topics.names import Tier
from fairlane.topics.routing import tier_for

LOOKAHEAD_MS: Final = 1_000
"""How long before its time a record of a larger tier is read: the rest of the wait is exact, in memory."""

NAP_MS: Final = 2_000
"""How long the end of a larger tier is not looked at, at most.

Each fetch names every partition that is read, and the broker looks at each: without idle tiers it is half of them.
"""


@dataclass(frozen=True, slots=True)
class Accept:
    """The task is due, or what remains is short enough to wait in memory."""


@dataclass(frozen=True, slots=True)
class Hop:
    """Settle the record by writing the task to `tier`."""

    tier: Tier


@dataclass(frozen=True, slots=True)
class Wait:
    """Pause the partition until `until_ms` (Unix ms): neither this record nor one behind it has waited long enough."""

    until_ms: int


Decision: TypeAlias = Accept | Hop | Wait

_ACCEPT: Final = Accept()


def hold_limit_ms(tiers: Sequence[Tier]) -> int | None:
    """What remains below this waits in memory; None where there is but one tier, and all waits in memory.

    Raises:
        UsageError: there is no tier.
    """
    if not tiers:
        raise UsageError("the queue has no tier", "Delays and retries need at least one; two keep long delays on disk")
    return tiers[1].delay_ms if len(tiers) > 1 else None


def read_decision(tier: Tier, appended_ms: int, not_before_ms: int, now_ms: int, tiers: Sequence[Tier]) -> Decision:
    """What to do with a record that was read from a tier.

    Args:
        tier: the tier it was read from.
        appended_ms: when the broker appended it (LogAppendTime), Unix ms.
        not_before_ms: when its task is due, Unix ms.
        now_ms: the worker's clock, Unix ms.
        tiers: the queue's tiers, ascending.
    """
    remaining_ms = not_before_ms - now_ms
    hold_ms = hold_limit_ms(tiers)
    if hold_ms is None or remaining_ms < hold_ms:
        return _ACCEPT
    if tier.delay_ms > tiers[0].delay_ms:
        # A broker whose clock runs ahead must not make the task late, hence the earlier of the two.
        until_ms = min(appended_ms + tier.delay_ms, not_before_ms) - min(LOOKAHEAD_MS, tier.delay_ms // 2)
        if now_ms < until_ms:
            return Wait(until_ms)
    return Hop(tier_for(remaining_ms, tiers))


def nap_ms(tier: Tier, tiers: Sequence[Tier]) -> int:
    """How long a partition of a tier that was read to its end need not be looked at, ms; 0 if it is to be followed.

    What is written into it meanwhile is not to be read before it has waited for nearly the tier's delay; the half of
    that is left for clocks that differ. The smallest tier takes what is due at any time, and is always followed.

    Args:
        tier: the tier.
        tiers: the queue's tiers, ascending.
    """
    if tier.delay_ms <= tiers[0].delay_ms:
        return 0
    half_ms = (tier.delay_ms - min(LOOKAHEAD_MS, tier.delay_ms // 2)) // 2
    return min(NAP_MS, half_ms) if half_ms >= LOOKAHEAD_MS else 0


def snap(delay_ms: int, tiers: Sequence[Tier]) -> int:
    """The delay made so long that one tier holds all of it: the smallest tier that is not shorter.

    Never shorter than asked, since a retry that comes too early is the one thing a backoff must not do. Delays below
    the hold limit stay as they are (they wait in memory to the millisecond), and so do those beyond the largest tier.

    Args:
        delay_ms: the delay, ms.
        tiers: the queue's tiers, ascending.
    """
    hold_ms = hold_limit_ms(tiers)
    if hold_ms is None or delay_ms < hold_ms:
        return delay_ms
    return next((tier.delay_ms for tier in tiers if tier.delay_ms >= delay_ms), delay_ms)
