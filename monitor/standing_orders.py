"""What an operator asks of the workers of a queue until it is taken back: pauses, weights, kill-switches, demotions.

Invariant: whoever gets an answer knows that Kafka has it. It works while all workers are down.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any, get_args

from fairlane.monitor.control_log import ControlLog
from fairlane.monitor.standing import in_force
from fairlane.topics import audit, condition
from fairlane.topics.clock import now_ms
from fairlane.topics.connection import Connection
from fairlane.topics.control import (
    DEMOTE,
    KILL,
    LANE,
    PAUSE,
    QUEUE,
    TYPE,
    WEIGHT,
    WEIGHT_MAX,
    Action,
    ControlRecord,
)
from fairlane.topics.errors import UsageError
from fairlane.topics.headers import MAX_NAME
from fairlane.topics.names import Lane, QueueNames


class StandingOrders:
    """Asks things of the workers of one queue, and takes them back.

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

    def pause(self, lane: str = "", *, task_type: str = "", until_ms: int = 0, reason: str = "") -> ControlRecord:
        """Start nothing more of a lane, of a type, or of the whole queue; what runs goes on. Returns what is in force.

        Args:
            lane: its topic, or its name in the queue (`p3`); "" is the queue.
            task_type: in place of a lane.
            until_ms: when it goes on by itself, Unix ms; 0 is not before `resume`.
            reason: why, for whoever asks later.

        Raises:
            UsageError: there is no such lane, the type is none, or the time is over.
            NoControl: the queue has no control topic.
            NotControlled, RightMissing: Kafka refused.
            KafkaUnreachable: no broker answered.
        """
        _check_end("pause", until_ms)
        record = self._log.record(PAUSE, self._scope_of(lane, task_type), reason, until_ms=until_ms)
        self._ask(audit.PAUSE, record, until_ms=until_ms)
        return record

    def resume(self, lane: str = "", *, task_type: str = "", reason: str = "") -> tuple[ControlRecord, ...]:
        """Take a pause back: of a lane, of a type, or of the whole queue. Returns the pauses that are still in force.

        Args:
            lane: as for `pause`; a lane or type that was paused by itself stays so when the queue goes on.
            task_type: in place of a lane.
            reason: why, for whoever asks later.

        Raises:
            UsageError: it is not paused.
            NoControl, NotControlled, KafkaUnreachable: as for `pause`.
        """
        scope = self._scope_of(lane, task_type)
        pauses = [each for each in self.in_force() if each.kind == PAUSE]
        taken_back = [each for each in pauses if each.scope == scope]
        if not taken_back:
            what = f"type {task_type!r}" if task_type else scope.removeprefix(LANE)
            what = what if scope != QUEUE else f"queue {self._names.queue!r}"
            by_itself = ", ".join(_target(each) for each in pauses)
            raise UsageError(f"{what} is not paused", f"Paused is: {by_itself}" if by_itself else "Nothing is")
        self._log.take_back(taken_back)
        self._log.audit(audit.RESUME, map(_target, taken_back), reason)
        return tuple(each for each in pauses if each.scope != scope)

    def weigh(self, weights: Mapping[str, int], *, until_ms: int = 0, reason: str = "") -> tuple[ControlRecord, ...]:
        """Let lanes have other weights than workers are configured with. Returns what is in force of them now.

        Args:
            weights: by lane, its topic or its name in the queue (`p3`): a whole number from 1 to 10,000.
            until_ms: when the configured ones hold again, Unix ms; 0 is not before `unweigh`.
            reason: why, for whoever asks later.

        Raises:
            UsageError: there is no such lane, a weight is none, or the time is over.
            NoControl, NotControlled, KafkaUnreachable: as for `pause`.
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
            NoControl, NotControlled, KafkaUnreachable: as for `pause`.
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

    def kill(
        self, task_type: str, action: Action, *, where: str = "", until_ms: int = 0, reason: str = ""
    ) -> ControlRecord:
        """Let no task of a type begin any more that fits a condition; what runs goes on. Returns what is in force now.

        Args:
            task_type: of the tasks.
            action: `drop` ends them as cancelled, `dlq` makes them dead letters, which can be put back, and `park` lets
                them wait, as a pause of the type does.
            where: the condition: see `topics.condition`; "" fits all tasks of the type.
            until_ms: when it ends by itself, Unix ms; 0 is not before `unkill`.
            reason: why, for the tasks' last status and whoever asks later.

        Raises:
            UsageError: the type, the action or the condition is none, or the time is over.
            NoControl, NotControlled, KafkaUnreachable: as for `pause`.
        """
        _check_end("kill-switch", until_ms)
        if action not in get_args(Action):
            raise UsageError(f"a kill-switch cannot {action!r}", f"It can: {', '.join(get_args(Action))}")
        if where:
            condition.parse(where)
        scope = _type_scope(task_type) + (f"?{where}" if where else "")
        record = self._log.record(KILL, scope, reason, action=action, where=where, until_ms=until_ms)
        self._ask(audit.KILL, record, fate=action, where=where, until_ms=until_ms)
        return record

    def unkill(self, task_type: str, *, where: str = "", reason: str = "") -> tuple[ControlRecord, ...]:
        """Take kill-switches of a type back. Returns those that were; what is dead or cancelled stays so.

        Args:
            task_type: of the tasks.
            where: only the one with this condition; "" is all of the type.
            reason: why, for whoever asks later.

        Raises:
            UsageError: there is none.
            NoControl, NotControlled, KafkaUnreachable: as for `pause`.
        """
        return self._take_back(KILL, task_type, where, reason)

    def demote(self, task_type: str, to: str, *, until_ms: int = 0, reason: str = "") -> ControlRecord:
        """Move the tasks of a type out of all lanes that are more urgent than one: those that wait, and new ones.

        Args:
            task_type: of the tasks.
            to: the lane, as for `pause`; one of the queue's own.
            until_ms: when it ends by itself, Unix ms; 0 is not before `undemote`. What was moved stays where it is.
            reason: why, for whoever asks later.

        Raises:
            UsageError: the type is none, there is no such lane or it is somebody else's topic, or the time is over.
            NoControl, NotControlled, KafkaUnreachable: as for `pause`.
        """
        _check_end("demotion", until_ms)
        topic = self._scope(to).removeprefix(LANE) if to else ""
        own = [lane for lane in self._lanes if self._names.owns(lane)]
        if topic not in [lane.topic for lane in own]:
            names = ", ".join(lane.topic for lane in own)
            raise UsageError(f"tasks cannot be moved to {to!r}", f"Name one of the queue's own lanes: {names}")
        record = self._log.record(DEMOTE, _type_scope(task_type), reason, to=topic, until_ms=until_ms)
        self._ask(audit.DEMOTE, record, to=topic, until_ms=until_ms)
        return record

    def undemote(self, task_type: str, *, reason: str = "") -> tuple[ControlRecord, ...]:
        """Let new tasks of a type stay in their lanes again. Returns what was taken back; what was moved stays moved.

        Args:
            task_type: of the tasks.
            reason: why, for whoever asks later.

        Raises:
            UsageError: it is not demoted.
            NoControl, NotControlled, KafkaUnreachable: as for `pause`.
        """
        return self._take_back(DEMOTE, task_type, "", reason)

    def _ask(self, audited: str, record: ControlRecord, **details: Any) -> None:
        self._log.topics()
        self._log.ask([record])
        self._log.audit(audited, [_target(record)], record.reason, **details)

    def _take_back(self, kind: str, task_type: str, where: str, reason: str) -> tuple[ControlRecord, ...]:
        found = [each for each in self.in_force() if each.kind == kind and each.task_type == task_type]
        taken_back = tuple(each for each in found if where in ("", each.where))
        if not taken_back:
            raise UsageError(
                f"there is no {kind} of type {task_type!r}" + (f" where {where!r}" if where else ""),
                "`fairlane control list` says what there is",
            )
        self._log.take_back(taken_back)
        for each in taken_back:
            self._log.audit(kind, [_target(each)], reason, where=each.where, taken_back=True)
        return taken_back

    def _scope_of(self, lane: str, task_type: str) -> str:
        if lane and task_type:
            raise UsageError("both a lane and a type are named", "Name one of them")
        return _type_scope(task_type) if task_type else self._scope(lane)

    def _scope(self, lane: str) -> str:
        if not lane:
            return QUEUE
        topics = [each.topic for each in self._lanes]
        for topic in (lane, f"{self._names.queue}.{lane}", f"{self._names.queue}.p{lane}"):
            if topic in topics:
                return LANE + topic
        raise UsageError(f"queue {self._names.queue!r} has no lane {lane!r}", f"There are: {', '.join(topics)}")


def _type_scope(task_type: str) -> str:
    if not (0 < len(task_type) <= MAX_NAME and task_type.isprintable()):
        raise UsageError(f"{task_type!r:.100} is no type of tasks", "Give the name that a handler has")
    return TYPE + task_type


def _target(record: ControlRecord) -> str:
    """What it is about, for the audit."""
    return record.lane or (TYPE + record.task_type if record.task_type else record.scope)


def _check_end(what: str, until_ms: int) -> None:
    if until_ms and until_ms <= now_ms():
        raise UsageError(f"the {what} would be over before it begins", "Give a time that is to come")
