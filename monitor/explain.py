"""Why a task is where it is: what holds it, how many are before it, and when it should start.

Invariant: no I/O and no clock. What is not known is said to be unknown (-1, 0 or ""), never guessed; an estimate is
built on rates that were just measured, and says so.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Final, Literal

import msgspec

from fairlane.monitor.order_view import order_line, pause_line
from fairlane.monitor.show import age, moment, visible
from fairlane.monitor.stats import Stats, TopicStats
from fairlane.monitor.task_view import Place, TaskView
from fairlane.topics.control import KILL, LANE, QUEUE, TYPE, ControlRecord

Held = Literal[
    "ended", "running", "cancelled", "due", "paused", "killed", "no_workers", "limit", "backlog", "busy", "nothing",
    "moving",
]  # fmt: skip
"""What holds a task: it ended, it runs, it was cancelled and has not ended yet, it is not due, it is paused, it may fit
a kill-switch, nobody works, its type runs as often as it may, others are before it, all slots are taken, nothing (it
starts at once), or it is on its way between two places."""

_SECOND_MS: Final = 1_000
_NEVER_MS: Final = 1 << 63


class Explanation(msgspec.Struct, frozen=True, kw_only=True):
    """Where a task is, and why.

    Attributes:
        task: what is known of it.
        held_by: what it waits for.
        why: the same in a sentence.
        before: how many tasks of its lane should start before it: an estimate from its partition; -1 is unknown.
        drain_per_s: how many tasks of its lane are ended a second, of all workers; 0 is unknown.
        starts_ms: when it should start, Unix ms; 0 is unknown.
        late: whether it will have expired by then.
        advice: what would change it, or "".
    """

    task: TaskView
    held_by: Held
    why: str
    before: int = -1
    drain_per_s: float = 0.0
    starts_ms: int = 0
    late: bool = False
    advice: str = ""


def explain(
    task: TaskView,
    stats: Stats | None,
    now_ms: int,
    cancel: ControlRecord | None = None,
    when: Callable[[int], str] = moment,
) -> Explanation:
    """Say what holds a task.

    Args:
        task: what is known of it.
        stats: its queue at the same moment; None where it is not needed, since the task ended.
        now_ms: Unix ms.
        cancel: the one in force that binds it, if one does.
        when: writes a time, Unix ms.
    """
    if task.state in ("completed", "failed", "cancelled", "expired"):
        return _ended(task)
    if cancel is not None:
        return _cancelled(task, stats, cancel, now_ms, when)
    if task.state == "running":
        return _running(task, stats, now_ms)
    if task.place is None or stats is None:
        return Explanation(
            task=task, held_by="moving", why="no lane or tier has its record now: it is on its way",
            advice="Ask again in a moment",
        )  # fmt: skip
    return _waiting(task, task.place, stats, now_ms, when)


def _ended(task: TaskView) -> Explanation:
    took = f" after {task.attempt} attempts" if task.attempt > 1 else ""
    why = f"it {'is ' if task.state in ('cancelled', 'expired') else ''}{task.state}{took}"
    advice = ""
    if task.state == "cancelled" and task.reason:
        why += f" {task.reason}"
    if task.state in ("failed", "expired"):
        error = f": {task.error.type}: {task.error.message}" if task.error else ""
        why += f", {task.reason or 'for no reason that is known'}{error}"
        if task.place is not None and not task.place.replayed:
            letter = f"{task.place.partition}/{task.place.offset}"
            advice = f"`fairlane dlq replay {letter} --queue {task.queue}` runs it again"
    return Explanation(task=task, held_by="ended", why=why, before=0, advice=advice)


def _cancelled(
    task: TaskView, stats: Stats | None, cancel: ControlRecord, now_ms: int, when: Callable[[int], str]
) -> Explanation:
    reason = f": {visible(cancel.reason)}" if cancel.reason else ""
    since = f"{when(cancel.at_ms)} ({age(max(0, now_ms - cancel.at_ms))})"
    who = f"it was cancelled by {visible(cancel.who) or 'somebody'} at {since}{reason}"
    if task.state == "running":
        return Explanation(task=task, held_by="cancelled", why=f"{who}; it runs on {task.worker}, and is cut off")
    ends = "when a worker would start it"
    paused = [pause_line(each, stats.queue, now_ms, when) for each in _pauses(task, stats)] if stats else []
    if paused:
        ends += f", and {paused[0]}"
    elif stats is not None and not stats.worker_count:
        ends += f", and no worker of queue {stats.queue!r} is alive"
    return Explanation(task=task, held_by="cancelled", why=f"{who}; it does not run, and ends as cancelled {ends}")


def _running(task: TaskView, stats: Stats | None, now_ms: int) -> Explanation:
    why = f"{task.worker or 'a worker'} runs its attempt {task.attempt} for {_seconds(now_ms - task.started_ms)}"
    times = next((each for each in stats.types if each.type == task.type), None) if stats else None
    if times is not None and times.n:
        why += f"; the type takes {_seconds(times.mean_ms)} in the mean"
    return Explanation(task=task, held_by="running", why=why, before=0, starts_ms=task.started_ms)


def _pauses(task: TaskView, stats: Stats) -> list[ControlRecord]:
    """Those that hold it when it is due: the one that ends last comes first."""
    found = [each for each in stats.paused if each.scope in (QUEUE, LANE + task.lane, TYPE + task.type)]
    held = [each for each in found if not each.until_ms or each.until_ms > task.due_ms]
    return sorted(held, key=lambda each: each.until_ms or _NEVER_MS, reverse=True)


def _waiting(task: TaskView, place: Place, stats: Stats, now_ms: int, when: Callable[[int], str]) -> Explanation:
    lane = next((lane for lane in stats.lanes if lane.topic == task.lane), None)
    per_s = _drain_per_s(stats, lane)
    # In its lane others are before it; from a tier it joins the lane's end when it is due.
    waiting = lane.length if lane else -1
    before = min(place.before * max(1, lane.partitions), max(waiting - 1, 0)) if lane else place.before
    if place.kind == "tier":
        before = max(waiting, -1)
    newer = f"; {stats.newer_workers} of a newer fairlane are not counted" if stats.newer_workers else ""
    nobody = "" if stats.worker_count else f"no worker of queue {stats.queue!r} is alive{newer}"
    due_in_ms = max(0, task.due_ms - now_ms)
    queued_ms = int(before / per_s * _SECOND_MS) if per_s and before >= 0 else None
    if before <= 0 and stats.running_tasks < stats.slots:
        queued_ms = 0
    starts_ms = now_ms + max(due_in_ms, queued_ms) if queued_ms is not None and not nobody else 0
    held_by: Held
    if kills := [each for each in stats.orders if each.kind == KILL and each.task_type == task.type]:
        held_by, why, advice = _killed(kills, task, stats, now_ms, when)
        why += f"; and {nobody}" if nobody else ""
        starts_ms = 0
    elif pauses := _pauses(task, stats):
        held_by, why, advice = _paused(pauses, stats, now_ms, when)
        why += f"; and {nobody}" if nobody else ""
        ends_ms = pauses[0].until_ms
        starts_ms = max(starts_ms, ends_ms + (queued_ms or 0)) if starts_ms and ends_ms else 0
    elif nobody:
        held_by, why, advice = "no_workers", nobody, "Start one: `fairlane worker MODULE:APP`"
    else:
        held_by, why, advice = _held(task, lane, stats, before, per_s, due_in_ms)
    late = bool(task.expires_ms and (starts_ms or now_ms) >= task.expires_ms)
    if late:
        why += "; it will have expired by then"
    return Explanation(
        task=task, held_by=held_by, why=why, before=before, drain_per_s=round(per_s, 3), starts_ms=starts_ms, late=late,
        advice=advice,
    )  # fmt: skip


def _paused(
    pauses: list[ControlRecord], stats: Stats, now_ms: int, when: Callable[[int], str]
) -> tuple[Held, str, str]:
    why = "; ".join(pause_line(each, stats.queue, now_ms, when) for each in pauses)
    commands = [f"`fairlane resume --queue {stats.queue}{_option(each)}`" for each in pauses]
    return "paused", why, f"{' and '.join(commands)} {'let' if len(commands) > 1 else 'lets'} it go on"


def _option(pause: ControlRecord) -> str:
    if pause.task_type:
        return f" --type {visible(pause.task_type)}"
    return f" --lane {pause.lane}" if pause.lane else ""


def _killed(
    kills: list[ControlRecord], task: TaskView, stats: Stats, now_ms: int, when: Callable[[int], str]
) -> tuple[Held, str, str]:
    """The kill-switch that fits all tasks of the type, else the first of those that may fit it."""
    switch = next((each for each in kills if not each.where), kills[0])
    line = order_line(switch, stats.queue, now_ms, when)
    if switch.where:
        line = f"it may fit a kill-switch: {line}"
    elif switch.action != "park":
        line += "; it ends when a worker reads it"
    return "killed", line, f"`fairlane kill --queue {stats.queue} --type {visible(task.type)} --off` lets it run"


def _held(
    task: TaskView, lane: TopicStats | None, stats: Stats, before: int, per_s: float, due_in_ms: int
) -> tuple[Held, str, str]:
    if due_in_ms:
        again = f"attempt {task.attempt} of it" if task.state == "retrying" else "it"
        return "due", f"{again} is not due for {_seconds(due_in_ms)}", ""
    limit = next((each.limit for each in stats.types if each.type == task.type and each.limit), 0)
    runs = sum(one.task.type == task.type for one in stats.running)
    if limit and runs >= limit:
        return (
            "limit",
            f"{runs} of type {task.type!r} run, and {limit} at once is what its adaptive concurrency allows now",
            "",
        )
    if before > 0:
        lane_name = lane.topic if lane else task.lane
        drained = f", which end at {per_s:,.1f}/s" if per_s else ", and none of them has ended lately"
        advice = "" if per_s else "`fairlane workers` says what the workers do"
        return "backlog", f"about {before:,} tasks of {lane_name} are before it{drained}", advice
    if stats.slots and stats.running_tasks >= stats.slots:
        return (
            "busy",
            f"all {stats.slots} slots of {stats.worker_count} workers are taken",
            "More workers, or --workers",
        )
    return "nothing", "nothing is before it: a worker takes it next", ""


def _drain_per_s(stats: Stats, lane: TopicStats | None) -> float:
    """How many tasks of the lane end a second: the queue's rate, by the weights of the lanes that have any."""
    rates = stats.rates
    total = rates.completed_per_s + rates.failed_per_s + rates.retried_per_s
    full = [each for each in stats.lanes if each.length]
    if lane is None or not full:
        return total
    weights = {each.topic: max(1, each.weight) for each in (*full, lane)}
    return total * weights[lane.topic] / sum(weights.values())


def _seconds(ms: float) -> str:
    return f"{max(0.0, ms) / _SECOND_MS:,.1f} s"
