"""Where a task goes next: its lane when it is due, a tier while it is not.

Invariant: lanes hold only tasks that are due. A remaining delay goes to the largest tier that is not longer than it, so
one hop never overshoots; what is left when it leaves that tier goes through here again. The shortest tier is the
durable place of every delay shorter than the second one: it is read through and its tasks wait in memory.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Final

from fairlane.topics.names import Lane, QueueNames, Tier
from fairlane.topics.task import Task

JUST_NOW_MS: Final = 1_000


def tier_for(remaining_ms: int, tiers: Sequence[Tier]) -> Tier:
    """The tier for a remaining delay: the largest one not longer than it, else the shortest.

    Args:
        remaining_ms: how long until the task is due, milliseconds, more than 0.
        tiers: in ascending order, at least one.
    """
    chosen = tiers[0]
    for tier in tiers:
        if tier.delay_ms > remaining_ms:
            break
        chosen = tier
    return chosen


def topic_for(task: Task, names: QueueNames, tiers: Sequence[Tier], now_ms: int) -> str:
    """The topic that the task's record goes to at `now_ms`: its lane, or a tier while it is not due."""
    remaining_ms = task.not_before_ms - now_ms
    return names.tier(tier_for(remaining_ms, tiers)) if remaining_ms > 0 else task.lane


def first_topic(task: Task, names: QueueNames, tiers: Sequence[Tier], now_ms: int) -> str:
    """The topic that a new task's record goes to at `now_ms`.

    Its delay counts from when it was made. A task that was made just now, with a delay of exactly a tier's, goes there,
    though a millisecond has gone by since: one hop instead of twelve.
    """
    if not task.not_before_ms:
        return task.lane
    made_just_now = 0 <= now_ms - task.enqueued_ms <= JUST_NOW_MS
    return topic_for(task, names, tiers, task.enqueued_ms if made_just_now else now_ms)


def lane_for(priority: int, lanes: Sequence[Lane]) -> Lane:
    """The lane of a priority: the one of that level, else the nearest less urgent one, else the least urgent.

    Args:
        priority: as the task or the user says it.
        lanes: at least one, in any order.
    """
    at_most = [lane for lane in lanes if lane.level <= priority]
    return max(at_most, key=lambda lane: lane.level) if at_most else min(lanes, key=lambda lane: lane.level)
