"""What an operator asks of the workers of a queue: cancel tasks, pause and resume lanes, and what is in force.

Invariant: whoever gets an answer knows that Kafka has it: the record of `<queue>.control` is acknowledged, then that of
the audit. It works while all workers are down. Nothing here is written inside a transaction, and to ask twice is to ask
once.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from functools import partial
from typing import Final, Literal

import msgspec
from confluent_kafka import KafkaError, KafkaException, Message, Producer

from fairlane.monitor.errors import ReadIncomplete
from fairlane.monitor.lookup import find_task
from fairlane.monitor.offsets import Offsets
from fairlane.monitor.pauses import in_force
from fairlane.monitor.scan import BEGINNING, Scanner
from fairlane.topics import audit
from fairlane.topics.audit import AuditRecord, decode_audit, encode_audit
from fairlane.topics.client_log import librdkafka_log
from fairlane.topics.clock import now_ms
from fairlane.topics.connection import Connection
from fairlane.topics.control import (
    CANCEL,
    CANCEL_KEPT_MS,
    CANCELS_MAX,
    LANE,
    PAUSE,
    QUEUE,
    REASON_MAX,
    TASK,
    WHO_MAX,
    ControlRecord,
    cut,
    encode_control,
)
from fairlane.topics.control_errors import NoControl, NotControlled, TooManyCancels
from fairlane.topics.denial import is_denial, missing, on_topic
from fairlane.topics.errors import KafkaUnreachable, TaskUnknown, UsageError
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
        self._who = cut(who, WHO_MAX)
        self._via = cut(via, WHO_MAX)
        self._timeout_s = timeout_s

    def in_force(self) -> tuple[ControlRecord, ...]:
        """What is asked of the workers now: pauses first, then cancels, the oldest first.

        Raises:
            NoControl: the queue has no control topic.
            ReadIncomplete: there was more to read than the time allowed.
            RightMissing: we may not read it.
            KafkaUnreachable: no broker answered.
        """
        self._topics()
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
        topics = self._topics()
        held = {each.task_id for each in self.in_force() if each.kind == CANCEL}
        if len(held | set(ids)) > CANCELS_MAX:
            raise TooManyCancels(self._names.queue, len(held), len(ids), CANCELS_MAX)
        replays = self._replays(frozenset(ids), topics)
        answers, enqueued_ms = self._look_up(ids)
        at_ms = now_ms()
        asked = [
            ControlRecord(
                kind=CANCEL,
                scope=TASK + answer.id,
                who=self._who,
                via=self._via,
                at_ms=at_ms,
                until_ms=at_ms + CANCEL_KEPT_MS,
                reason=cut(reason, REASON_MAX),
                # The clock of its producer may be ahead of ours.
                before_ms=max(at_ms, enqueued_ms.get(answer.id, 0)),
                replays=replays.get(answer.id, 0),
            )
            for answer in answers
            if answer.asked
        ]
        self._ask([(each.key, encode_control(each)) for each in asked])
        self._audit(audit.CANCEL, [each.task_id for each in asked], reason)
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
        at_ms = now_ms()
        if until_ms and until_ms <= at_ms:
            raise UsageError("the pause would be over before it begins", "Give a time that is to come")
        record = ControlRecord(
            kind=PAUSE,
            scope=self._scope(lane),
            who=self._who,
            via=self._via,
            at_ms=at_ms,
            until_ms=until_ms,
            reason=cut(reason, REASON_MAX),
        )
        self._topics()
        self._ask([(record.key, encode_control(record))])
        self._audit(audit.PAUSE, [record.lane or QUEUE], reason, until_ms)
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
        self._ask([(each.key, None) for each in taken_back])
        self._audit(audit.RESUME, [lane or QUEUE for lane in (each.lane for each in taken_back)], reason)
        return tuple(each for each in pauses if each.scope != scope)

    def _scope(self, lane: str) -> str:
        if not lane:
            return QUEUE
        topics = [each.topic for each in self._lanes]
        for topic in (lane, f"{self._names.queue}.{lane}", f"{self._names.queue}.p{lane}"):
            if topic in topics:
                return LANE + topic
        raise UsageError(f"queue {self._names.queue!r} has no lane {lane!r}", f"There are: {', '.join(topics)}")

    def _topics(self) -> Mapping[str, int]:
        offsets = Offsets(self._connection, timeout_s=self._timeout_s)
        topics = offsets.partitions()
        if self._names.control not in topics:
            offsets.require({self._names.control})
            raise NoControl(self._names.queue, self._names.control)
        return topics

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

    def _audit(self, action: str, targets: Iterable[str], reason: str, until_ms: int = 0) -> None:
        said = {"reason": cut(reason, REASON_MAX)} if reason else {}
        more = {"until_ms": until_ms} if until_ms else {}
        at_ms = now_ms()
        records = [
            AuditRecord(at_ms=at_ms, who=self._who, via=self._via, action=action, target=each, details=said | more)
            for each in targets
        ]
        self._write(self._names.audit, [(each.key, encode_audit(each)) for each in records], done=len(records))

    def _ask(self, records: Sequence[tuple[bytes, bytes | None]]) -> None:
        self._write(self._names.control, records, done=0)

    def _write(self, topic: str, records: Sequence[tuple[bytes, bytes | None]], *, done: int) -> None:
        """Write records, and return when all of them are acknowledged."""
        if not records:
            return
        refused: list[KafkaError] = []

        def told(error: KafkaError | None, _: Message) -> None:
            if error is not None:
                refused.append(error)

        properties = self._connection.producer(message_timeout_ms=round(self._timeout_s * 1000))
        producer = Producer(properties, logger=librdkafka_log)
        for key, value in records:
            produce = partial(producer.produce, topic, value, key, on_delivery=told)
            try:
                produce()
            except BufferError:
                producer.flush(self._timeout_s)
                produce()
            except KafkaException as raised:
                refused.append(raised.args[0])
                break
        if producer.flush(self._timeout_s + 1.0):
            raise KafkaUnreachable(self._connection.bootstrap, self._timeout_s)
        if not refused:
            return
        error = refused[0]
        if is_denial(error):
            raise missing(error, f"write {topic}", self._connection, on_topic("Write", topic))
        if error.code() in (KafkaError._MSG_TIMED_OUT, KafkaError._TRANSPORT, KafkaError._ALL_BROKERS_DOWN):
            raise KafkaUnreachable(self._connection.bootstrap, self._timeout_s, error.str())
        raise NotControlled(topic, error.name(), error.str(), done or len(records) - len(refused))
