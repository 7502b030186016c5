"""From an outcome to the records that tell of it: status, reply, tier, DLQ, outbox.

Invariant: a pure function of the outcome. Whatever it makes is written in the same transaction as the offset of the
record that the outcome settles, so the retry, the status and the offset move together.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field

import msgspec

from fairlane.consumer.outcome import (
    Cancelled,
    Completed,
    Dead,
    Deferred,
    Expired,
    HandedBack,
    Malformed,
    Moved,
    OutboxRecord,
    Outcome,
    Retrying,
    traceparent_of,
)
from fairlane.consumer.retry import AttemptsMax
from fairlane.consumer.settlement import THRIFT_MAX, Settling
from fairlane.topics import events, letters, routing, tracing, wire
from fairlane.topics.events import ErrorInfo, Reason, StatusEvent
from fairlane.topics.names import QueueNames, Tier
from fairlane.topics.task import Origin, Task

Headers = Sequence[tuple[str, bytes | None]]
NO_PARTITION = -1
"""Lets the partitioner choose."""


class Record(msgspec.Struct, frozen=True, gc=False):
    """A record to produce."""

    topic: str
    key: bytes | None
    value: bytes | None
    headers: Headers
    partition: int = NO_PARTITION


@dataclass(frozen=True)
class Settles:
    """Makes the records of outcomes.

    Attributes:
        names: of the queue's topics.
        tiers: ascending.
        worker: name of this worker.
        attempts_max: what an event says of a task that leaves its attempts to the handler's policy.
    """

    names: QueueNames
    tiers: tuple[Tier, ...]
    worker: str
    attempts_max: AttemptsMax = field(default_factory=AttemptsMax)
    _status_topic: str = field(init=False)

    def __post_init__(self) -> None:
        object.__setattr__(self, "_status_topic", self.names.status)

    def records(self, settling: Settling) -> list[Record]:
        """Everything that settling this outcome writes, in order."""
        outcome = settling.outcome
        if isinstance(outcome, Completed) and not outcome.outbox and not outcome.delivery.task.reply_to:
            # Nearly every record that is written is one of these.
            return [self._status(outcome.delivery.task, self._completed(outcome))]
        records = list(self._records(outcome, settling.thrift))
        return [record for record in records if record.partition == NO_PARTITION] if settling.mute else records

    def _records(self, outcome: Outcome, thrift: int) -> Iterator[Record]:
        match outcome:
            case Completed():
                yield from map(_of_outbox, outcome.outbox)
                yield from self._terminal(outcome.delivery.task, self._completed(outcome))
            case Retrying():
                yield self._hop(outcome.task, outcome.finished_ms)
                due_ms = outcome.task.not_before_ms
                yield self._status(
                    outcome.delivery.task, self._event(outcome, "retrying", error=outcome.error, due_ms=due_ms)
                )
            case Dead():
                yield from self._letter_of(outcome, outcome.reason, outcome.error, thrift)
                event = self._event(outcome, "failed", reason=outcome.reason, error=_cut(outcome.error, thrift))
                yield from self._terminal(outcome.delivery.task, event)
            case Expired():
                yield from self._letter_of(outcome, "expired", None, thrift)
                yield from self._terminal(outcome.delivery.task, self._event(outcome, "expired", reason="expired"))
            case Cancelled():
                event = self._event(outcome, "cancelled", reason=outcome.reason)
                yield from self._terminal(outcome.delivery.task, event)
            case Deferred():
                yield self._hop(outcome.delivery.kept, outcome.finished_ms)
            case HandedBack():
                task = outcome.delivery.kept
                yield self._hop(msgspec.structs.replace(task, handbacks=task.handbacks + 1), outcome.finished_ms)
            case Moved(delivery, _, target):
                task = delivery.kept
                yield Record(target.topic, task.key, task.value, wire.hop(task), target.partition)
            case Malformed():
                yield from self._malformed(outcome, thrift)

    def _completed(self, outcome: Completed) -> StatusEvent:
        delivery = outcome.delivery
        task, assigned = delivery.task, delivery.assigned
        traceparent = outcome.traceparent or task.traceparent
        # By place, which costs a third of what it costs by name.
        return StatusEvent(
            task.id,
            task.type,
            "completed",
            task.lane,
            task.attempt,
            task.max_attempts or self.attempts_max[task.type],
            task.enqueued_ms,
            outcome.started_ms,
            outcome.finished_ms,
            0,
            self.worker,
            assigned.topic,
            assigned.partition,
            delivery.offset,
            tracing.trace_id(traceparent) if traceparent else "",
            "",
            None,
            msgspec.Raw(outcome.result),
        )

    def _event(
        self,
        outcome: Retrying | Dead | Expired | Cancelled,
        state: events.State,
        *,
        due_ms: int = 0,
        reason: str = "",
        error: ErrorInfo | None = None,
    ) -> StatusEvent:
        delivery = outcome.delivery
        task = delivery.task
        return StatusEvent(
            id=task.id,
            type=task.type,
            state=state,
            lane=task.lane,
            attempt=task.attempt,
            max_attempts=task.max_attempts or self.attempts_max[task.type],
            enqueued_ms=task.enqueued_ms,
            started_ms=0 if isinstance(outcome, Expired) else outcome.started_ms,
            finished_ms=outcome.finished_ms,
            due_ms=due_ms,
            worker=self.worker,
            topic=delivery.assigned.topic,
            partition=delivery.assigned.partition,
            offset=delivery.offset,
            trace_id=tracing.trace_id(traceparent_of(outcome) or task.traceparent),
            reason=reason,
            error=error,
        )

    def _terminal(self, task: Task, event: StatusEvent) -> Iterator[Record]:
        yield self._status(task, event)
        topic, colon, partition = task.reply_to.rpartition(":")
        # A foreign client may write anything there; a reply that names no partition of ours is not sent.
        if colon and topic == self.names.replies and partition.isdecimal() and len(partition) < 6:
            yield Record(topic, task.id.encode(), events.encode(event), (), int(partition))

    def _status(self, task: Task, event: StatusEvent) -> Record:
        origin = [("fairlane-origin", str(task.origin).encode())]
        return Record(self._status_topic, task.id.encode(), events.encode(event), origin)

    def _hop(self, task: Task, now_ms: int) -> Record:
        topic = routing.topic_for(task, self.names, self.tiers, now_ms)
        if topic == task.lane and topic != self.names.lane(task.priority):
            # Somebody else's topic is only read: the shortest tier runs what is due at once.
            topic = self.names.tier(self.tiers[0])
        return Record(topic, task.key, task.value, wire.hop(task))

    def _letter_of(
        self, outcome: Dead | Expired, reason: Reason, error: ErrorInfo | None, thrift: int
    ) -> Iterator[Record]:
        if thrift >= THRIFT_MAX:
            return
        delivery = outcome.delivery
        task = delivery.kept
        headers = letters.dead_letter(
            wire.producers_headers(task),
            task=task,
            reason=reason,
            error=_cut(error, thrift),
            topic=delivery.assigned.topic,
            partition=delivery.assigned.partition,
            offset=delivery.offset,
            group=self.names.group,
            now_ms=outcome.finished_ms,
        )
        yield Record(self.names.dlq, task.key, task.value, headers)

    def _malformed(self, outcome: Malformed, thrift: int) -> Iterator[Record]:
        record = outcome.delivery
        origin = Origin(record.assigned.topic, record.assigned.partition, record.offset)
        error = ErrorInfo("MalformedRecord", outcome.problem)
        if thrift < THRIFT_MAX:
            headers = letters.dead_letter(
                record.headers,
                task=None,
                reason="malformed",
                error=error,
                topic=origin.topic,
                partition=origin.partition,
                offset=origin.offset,
                group=self.names.group,
                now_ms=outcome.finished_ms,
            )
            yield Record(self.names.dlq, record.key, record.value, headers)
        task = Task(id=str(origin), type="", payload=b"", lane=origin.topic, origin=origin)
        event = StatusEvent(
            id=task.id,
            type="",
            state="failed",
            lane=origin.topic,
            finished_ms=outcome.finished_ms,
            worker=self.worker,
            topic=origin.topic,
            partition=origin.partition,
            offset=origin.offset,
            reason="malformed",
            error=error,
        )
        yield self._status(task, event)


def _of_outbox(record: OutboxRecord) -> Record:
    return Record(record.topic, record.key, record.value, record.headers)


def _cut(error: ErrorInfo | None, thrift: int) -> ErrorInfo | None:
    """The error, without its traceback and most of its message once its record was too large."""
    if error is None or thrift == 0:
        return error
    return ErrorInfo(error.type[:100], error.message[:200])
