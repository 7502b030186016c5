"""What an operator asks of the workers of a queue: all that stands until it is taken back, and to cancel tasks.

Invariant: whoever gets an answer knows that Kafka has it. It works while all workers are down.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from typing import Final, Literal

import msgspec

from fairlane.monitor.errors import ReadIncomplete
from fairlane.monitor.lookup import find_task
from fairlane.monitor.scan import BEGINNING, Scanner
from fairlane.monitor.standing_orders import StandingOrders
from fairlane.topics import audit
from fairlane.topics.audit import decode_audit
from fairlane.topics.clock import now_ms
from fairlane.topics.control import (
    CANCEL,
    CANCEL_KEPT_MS,
    CANCELS_MAX,
    TASK,
)
from fairlane.topics.control_errors import TooManyCancels
from fairlane.topics.errors import TaskUnknown, UsageError
from fairlane.topics.events import TERMINAL
from fairlane.topics.headers import MAX_NAME

LOOKED_UP_MAX: Final = 100
"""Of so many tasks it is looked up whether they have ended already; of more, nothing is said."""
_AT_ONCE: Final = 8

Found = Literal["ended", "pending", "running", "retrying", "unknown", "not looked up"]


class CancelAnswer(msgspec.Struct, frozen=True, kw_only=True):
    """What became of the wish to cancel one task.

    Attributes:
        id: of the task.
        found: where it was then; one that had ended stays as it ended.
        state: how it ended, where it had.
        asked: whether the workers were asked to cancel it.
    """

    id: str
    found: Found
    state: str = ""
    asked: bool = True


class Controller(StandingOrders):
    """Asks things of the workers of one queue: what they are to do until it is taken back, and to cancel tasks.

    Args:
        connection: to the cluster.
        names: of the queue.
        lanes: of the queue.
        who: for the record and the audit.
        via: where it is asked for: `cli`, `python`, `api`.
        timeout_s: how long one answer of Kafka's may take, seconds.
    """

    def cancel(self, task_ids: Sequence[str], *, reason: str = "") -> list[CancelAnswer]:
        """Cancel tasks: one that waits never runs, one that runs is cut off. Returns what was found of each, in order.

        Args:
            task_ids: ids of tasks that were enqueued; one that nobody knows is remembered for 30 days.
            reason: why, for whoever asks later.

        Raises:
            UsageError: an id is none, or none is given.
            TooManyCancels: more would be in force than workers hold.
            NoControl: the queue has no control topic.
            NotControlled: Kafka refused.
            KafkaUnreachable: no broker answered.
        """
        ids = list(dict.fromkeys(task_ids))
        for task_id in ids:
            if not (0 < len(task_id) <= MAX_NAME and task_id.isascii() and task_id.isprintable()):
                raise UsageError(f"{task_id!r:.100} is no id of a task", "Give what `enqueue` said")
        if not ids:
            raise UsageError("no task is named", "Give the ids of tasks")
        topics = self._log.topics()
        held = {each.task_id for each in self.in_force() if each.kind == CANCEL}
        if len(held | set(ids)) > CANCELS_MAX:
            raise TooManyCancels(self._names.queue, len(held), len(ids), CANCELS_MAX)
        replays = self._replays(frozenset(ids), topics)
        answers, enqueued_ms = self._look_up(ids)
        at_ms = now_ms()
        asked = [
            self._log.record(
                CANCEL,
                TASK + answer.id,
                reason,
                until_ms=at_ms + CANCEL_KEPT_MS,
                # The clock of its producer may be ahead of ours.
                before_ms=max(at_ms, enqueued_ms.get(answer.id, 0)),
                replays=replays.get(answer.id, 0),
            )
            for answer in answers
            if answer.asked
        ]
        self._log.ask(asked)
        self._log.audit(audit.CANCEL, [each.task_id for each in asked], reason)
        return answers

    def _replays(self, ids: frozenset[str], topics: Mapping[str, int]) -> dict[str, int]:
        """How often letters of these tasks were put back: a cancel binds what is there, not what is put back later."""
        counts: dict[str, int] = {}
        starts = {(self._names.audit, number): BEGINNING for number in range(topics.get(self._names.audit, 0))}
        with Scanner(self._connection, timeout_s=self._timeout_s, group=self._names.group) as scanner:
            for message in scanner.read(starts):
                record = decode_audit(message.value() or b"")
                if record is not None and record.action == audit.REPLAY and record.task_id in ids:
                    counts[record.task_id] = counts.get(record.task_id, 0) + 1
        return counts

    def _look_up(self, ids: Sequence[str]) -> tuple[list[CancelAnswer], dict[str, int]]:
        """Where these tasks are, and when they were enqueued."""
        if len(ids) > LOOKED_UP_MAX:
            return [CancelAnswer(id=each, found="not looked up") for each in ids], {}
        with ThreadPoolExecutor(_AT_ONCE) as pool:
            found = list(pool.map(self._find, ids))
        return [answer for answer, _ in found], {answer.id: enqueued_ms for answer, enqueued_ms in found}

    def _find(self, task_id: str) -> tuple[CancelAnswer, int]:
        try:
            view = find_task(
                self._connection, self._names, task_id, now_ms=now_ms(), lanes=self._lanes, timeout_s=self._timeout_s
            )
        except TaskUnknown:
            return CancelAnswer(id=task_id, found="unknown"), 0
        except ReadIncomplete:
            return CancelAnswer(id=task_id, found="not looked up"), 0
        if view.state in TERMINAL and not view.replayed_ms:
            return CancelAnswer(id=task_id, found="ended", state=view.state, asked=False), 0
        waits: Found = "running" if view.state == "running" else "retrying" if view.state == "retrying" else "pending"
        return CancelAnswer(id=task_id, found=waits), view.enqueued_ms
