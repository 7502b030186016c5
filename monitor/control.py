"""What an operator asks of the workers of a queue: cancel tasks, pause, resume and weigh lanes, and what is in force.

Invariant: whoever gets an answer knows that Kafka has it. It works while all workers are down.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from typing import Final, Literal

import msgspec

from fairlane.monitor.control_log import ControlLog
from fairlane.monitor.errors import ReadIncomplete
from fairlane.monitor.lookup import find_task
from fairlane.monitor.scan import BEGINNING, Scanner
from fairlane.monitor.standing import in_force
from fairlane.topics import audit
from fairlane.topics.audit import decode_audit
from fairlane.topics.clock import now_ms
from fairlane.topics.connection import Connection
from fairlane.topics.control import (
    CANCEL,
    CANCEL_KEPT_MS,
    CANCELS_MAX,
    LANE,
    PAUSE,
    QUEUE,
    TASK,
    WEIGHT,
    WEIGHT_MAX,
    ControlRecord,
)
from fairlane.topics.control_errors import TooManyCancels
from fairlane.topics.errors import TaskUnknown, UsageError
from fairlane.topics.events import TERMINAL
from fairlane.topics.headers import MAX_NAME
from fairlane.topics.names import Lane, QueueNames

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


class Controller:
    """Asks things of the workers of one queue.

    Args:
        connection: to the cluster.
        names: of the queue.
        lanes: of the queue.
        who: for the record and the audit.
        via: where it is asked for: `cli`, `python`, `api`.
        timeout_s: how long one answer of Kafka's may take, seconds.
    """

    def __init__(
        self,
        connection: Connection,
        names: QueueNames,
        lanes: Sequence[Lane],
        *,
        who: str,
        via: str,
        timeout_s: float = 10,
    ) -> None:
        self._connection = connection
        self._names = names
        self._lanes = tuple(lanes)
        self._log = ControlLog(connection, names, who=who, via=via, timeout_s=timeout_s)
        self._timeout_s = timeout_s

    def in_force(self) -> tuple[ControlRecord, ...]:
        """What is asked of the workers now: pauses first, then cancels, the oldest first.

        Raises:
            NoControl: the queue has no control topic.
            ReadIncomplete: there was more to read than the time allowed.
            RightMissing: we may not read it.
            KafkaUnreachable: no broker answered.
        """
        self._log.topics()
        return in_force(self._connection, self._names, now_ms(), timeout_s=self._timeout_s)

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

    def pause(self, lane: str = "", *, until_ms: int = 0, reason: str = "") -> ControlRecord:
        """Start nothing more of a lane, or of the whole queue; what runs goes on. Returns what is in force now.

        Args:
            lane: its topic, or its name in the queue (`p3`); "" is the queue.
            until_ms: when it goes on by itself, Unix ms; 0 is not before `resume`.
            reason: why, for whoever asks later.

        Raises:
            UsageError: there is no such lane, or the time is over.
            NoControl, NotControlled, KafkaUnreachable: as for `cancel`.
        """
        _check_end("pause", until_ms)
        record = self._log.record(PAUSE, self._scope(lane), reason, until_ms=until_ms)
        self._log.topics()
        self._log.ask([record])
        self._log.audit(audit.PAUSE, [record.lane or QUEUE], reason, until_ms=until_ms)
        return record

    def resume(self, lane: str = "", *, reason: str = "") -> tuple[ControlRecord, ...]:
        """Take a pause back: of a lane, or of the whole queue. Returns the pauses that are still in force.

        Args:
            lane: as for `pause`; a lane that was paused by itself stays so when the queue goes on.
            reason: why, for whoever asks later.

        Raises:
            UsageError: it is not paused.
            NoControl, NotControlled, KafkaUnreachable: as for `cancel`.
        """
        scope = self._scope(lane)
        pauses = [each for each in self.in_force() if each.kind == PAUSE]
        taken_back = [each for each in pauses if each.scope == scope]
        if not taken_back:
            what = scope.removeprefix(LANE) if scope != QUEUE else f"queue {self._names.queue!r}"
            by_itself = ", ".join(each.lane or "the whole queue" for each in pauses)
            raise UsageError(f"{what} is not paused", f"Paused is: {by_itself}" if by_itself else "Nothing is")
        self._log.take_back(taken_back)
        self._log.audit(audit.RESUME, [each.lane or QUEUE for each in taken_back], reason)
        return tuple(each for each in pauses if each.scope != scope)

    def weigh(self, weights: Mapping[str, int], *, until_ms: int = 0, reason: str = "") -> tuple[ControlRecord, ...]:
        """Let lanes have other weights than workers are configured with. Returns what is in force of them now.

        Args:
            weights: by lane, its topic or its name in the queue (`p3`): a whole number from 1 to 10,000.
            until_ms: when the configured ones hold again, Unix ms; 0 is not before `unweigh`.
            reason: why, for whoever asks later.

        Raises:
            UsageError: there is no such lane, a weight is none, or the time is over.
            NoControl, NotControlled, KafkaUnreachable: as for `cancel`.
        """
        _check_end("weight", until_ms)
        if not weights:
            raise UsageError("no lane is named", "Say p5=16")
        for lane, weight in weights.items():
            if not 1 <= weight <= WEIGHT_MAX:
                raise UsageError(f"lane {lane!r} cannot have weight {weight}", f"A weight is 1 to {WEIGHT_MAX:,}")
        records = [
            self._log.record(WEIGHT, self._scope(lane), reason, weight=weight, until_ms=until_ms)
            for lane, weight in weights.items()
        ]
        self._log.topics()
        self._log.ask(records)
        for each in records:
            self._log.audit(audit.WEIGHT, [each.lane], reason, weight=each.weight, until_ms=until_ms)
        return tuple(records)

    def unweigh(self, lanes: Sequence[str] = (), *, reason: str = "") -> tuple[ControlRecord, ...]:
        """Let lanes have the weights again that workers are configured with. Returns those that were taken back.

        Args:
            lanes: as for `weigh`; none are all that have another weight.
            reason: why, for whoever asks later.

        Raises:
            UsageError: one of them has the configured weight already.
            NoControl, NotControlled, KafkaUnreachable: as for `cancel`.
        """
        scopes = {self._scope(lane) for lane in lanes}
        weighed = {each.scope: each for each in self.in_force() if each.kind == WEIGHT}
        if absent := sorted(scopes - weighed.keys()):
            names = ", ".join(scope.removeprefix(LANE) for scope in absent)
            raise UsageError(f"{names}: nobody gave it another weight", "`fairlane control list` says who asked what")
        taken_back = [each for scope, each in weighed.items() if not scopes or scope in scopes]
        self._log.take_back(taken_back)
        self._log.audit(audit.WEIGHT, [each.lane for each in taken_back], reason, taken_back=True)
        return tuple(taken_back)

    def _scope(self, lane: str) -> str:
        if not lane:
            return QUEUE
        topics = [each.topic for each in self._lanes]
        for topic in (lane, f"{self._names.queue}.{lane}", f"{self._names.queue}.p{lane}"):
            if topic in topics:
                return LANE + topic
        raise UsageError(f"queue {self._names.queue!r} has no lane {lane!r}", f"There are: {', '.join(topics)}")

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


def _check_end(what: str, until_ms: int) -> None:
    if until_ms and until_ms <= now_ms():
        raise UsageError(f"the {what} would be over before it begins", "Give a time that is to come")
