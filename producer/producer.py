"""Tasks into Kafka: each one acknowledged by all in-sync replicas, or an error that says whether it may be there.

Invariant: a task that `enqueue` returns a handle for is in Kafka. Nothing is dropped in silence: what `close` could not
deliver is named, and so is what of many did not arrive.

Safe from any number of threads and event loops at once. A forked child begins with a client of its own.
"""

from __future__ import annotations

import logging
import time
import weakref
from collections.abc import Callable, Mapping, Sequence
from functools import partial
from itertools import repeat
from typing import Any, Final, Generic, TypeVar

import msgspec
from msgspec.structs import replace

from fairlane.producer.client import Client
from fairlane.producer.dealing import deal
from fairlane.producer.handle import TaskHandle, Trail
from fairlane.producer.reply import Reply
from fairlane.producer.results import Lookup, Results
from fairlane.producer.shipment import Shipment
from fairlane.producer.slot import ClientSlot
from fairlane.producer.space import SLICE_S
from fairlane.producer.steps import Blocking, Course, Turn, Until, arun, run
from fairlane.topics import routing, tracing
from fairlane.topics.clock import now_ms
from fairlane.topics.connection import Connection
from fairlane.topics.errors import (
    BufferFull,
    EnqueueUncertain,
    FairlaneError,
    KafkaUnreachable,
    SomeNotEnqueued,
    TasksNotSent,
)
from fairlane.topics.names import DEFAULT_TIERS, QueueNames, Tier
from fairlane.topics.task import Task

_log = logging.getLogger("fairlane.producer")

R = TypeVar("R")

ENQUEUE_TIMEOUT_S: Final = 30.0
_REPORT_GRACE_S: Final = 10.0
"""How much later than its timeout the report of a task may come."""

_WAKE_AFTER: Final = 1_000
_CHUNK: Final = 500
"""How many tasks are sent in one go before an event loop gets its turn."""


class Parcel(msgspec.Struct, Generic[R], frozen=True, gc=False):
    """A task, and what its producer wants to hear of it.

    Attributes:
        task: complete: id, type, value, lane.
        load: reads its result; `from_json` where its handler is not known here.
        reply: whether the worker shall send the result to this process directly.
        like: a task that it differs from in id, payload and value only, one object for all of which that is true: what
            they have in common is encoded once.
    """

    task: Task
    load: Callable[[bytes], R]
    reply: bool = False
    like: Task | None = None


class TaskProducer:
    """Sends tasks to the lanes and tiers of a queue.

    Args:
        connection: how to talk to Kafka.
        names: the queue.
        tiers: of the queue, in ascending order.
        enqueue_timeout_s: how long Kafka may take to acknowledge a task, seconds. A first task, or the first after all
            brokers were away, may wait as long again for a broker, and any task as long for room in the buffer.
        lookup: finds out about a task by its id, for `status()` of handles.
    """

    def __init__(
        self,
        connection: Connection,
        names: QueueNames,
        *,
        tiers: Sequence[Tier] = DEFAULT_TIERS,
        enqueue_timeout_s: float = ENQUEUE_TIMEOUT_S,
        lookup: Lookup | None = None,
    ) -> None:
        self.names = names
        self._bootstrap = connection.bootstrap
        self._tiers = tuple(tiers)
        self._timeout_s = enqueue_timeout_s
        self._slot = ClientSlot(connection, names.queue, enqueue_timeout_s)
        self._results = Results(connection, names, lookup)
        weakref.finalize(self, _close_unasked, self._slot, self._results, enqueue_timeout_s)

    def enqueue(self, parcel: Parcel[R]) -> TaskHandle[R]:
        """Send a task and wait until Kafka has acknowledged it.

        Raises:
            KafkaUnreachable: no broker answered in time; the task is not there.
            QueueUnknown: the topic does not exist.
            TaskTooLarge: Kafka does not take so large a record.
            BufferFull: tasks are made faster than Kafka takes them.
            EnqueueUncertain: no acknowledgement came in time; the task may be there. Send it again with the same id.
            EnqueueRefused: Kafka refused it for good.
            ProducerClosed: the producer was closed.
        """
        return _only(run(self._send((parcel,))))

    async def aenqueue(self, parcel: Parcel[R]) -> TaskHandle[R]:
        """The same as `enqueue`, for async code. A cancelled call does not take the task back."""
        return _only(await arun(self._send((parcel,))))

    def enqueue_many(self, parcels: Sequence[Parcel[R]]) -> list[TaskHandle[R]]:
        """Send all, then wait once for Kafka to acknowledge them.

        Returns:
            The handles, in order.

        Raises:
            SomeNotEnqueued: names those that arrived and those that did not, each with its error as in `enqueue`.
            KafkaUnreachable, QueueUnknown, ProducerClosed: nothing was sent.
        """
        return _all(parcels, run(self._send(parcels)))

    async def aenqueue_many(self, parcels: Sequence[Parcel[R]]) -> list[TaskHandle[R]]:
        """The same as `enqueue_many`, for async code."""
        return _all(parcels, await arun(self._send(parcels)))

    @property
    def in_flight(self) -> int:
        """How many tasks are on their way to Kafka now."""
        return self._slot.in_flight

    def handle(self, task_id: str, load: Callable[[bytes], R]) -> TaskHandle[R]:
        """A handle for a task that somebody enqueued, somewhere, whose id was kept."""
        return TaskHandle(Trail(task_id), self._results, load)

    def close(self, timeout_s: float | None = None) -> None:
        """Wait for what is under way and send nothing any more. A second call does nothing.

        Args:
            timeout_s: how long to wait, seconds; the enqueue timeout by default.

        Raises:
            TasksNotSent: names what did not arrive.
        """
        waited_s = self._timeout_s if timeout_s is None else timeout_s
        self._results.close()
        undelivered = self._slot.close(waited_s)
        if undelivered:
            raise TasksNotSent(undelivered, waited_s)

    def _send(self, parcels: Sequence[Parcel[Any]]) -> Course[list[TaskHandle[Any] | FairlaneError]]:
        """The handle or the error of each parcel. Raises only where nothing was sent."""
        if not parcels:
            return []
        client = self._slot.get()
        moment_ms = now_ms()
        tasks = [parcel.task for parcel in parcels]
        topics = [routing.first_topic(task, self.names, self._tiers, moment_ms) for task in tasks]
        shipment = Shipment(tasks, [parcel.like for parcel in parcels], topics, client.translate, client.space)
        try:
            if tracing.may_trace():
                yield from self._trace(shipment)
            replies = yield from self._expect_replies(parcels, shipment)
            unknown = client.unknown_topics(dict.fromkeys(topics))
            if unknown:
                yield Blocking(partial(client.verify, unknown))
            shipment.partitions = deal(tasks, topics, {topic: client.partitions(topic) for topic in set(topics)})
            yield from self._hand_over(client, shipment)
        except BaseException as error:
            shipment.give_up(error)
            raise
        shipment.seal()
        if not (yield Until(shipment.done, self._timeout_s + _REPORT_GRACE_S)):
            self._give_up(shipment)
        return self._answers(shipment, parcels, replies, moment_ms)

    def _trace(self, shipment: Shipment) -> Course[None]:
        for index in range(len(shipment.tasks)):
            if index % _CHUNK == _CHUNK - 1:
                yield Turn()
            shipment.trace(index)

    def _expect_replies(self, parcels: Sequence[Parcel[Any]], shipment: Shipment) -> Course[dict[int, Reply]]:
        """Write the address for a reply into the tasks that want one; returns what will get each."""
        asking = [index for index, parcel in enumerate(parcels) if parcel.reply]
        if not asking:
            return {}
        tasks = shipment.tasks
        address, expected = self._results.follower.expect([tasks[index].id for index in asking])
        replies = dict(zip(asking, map(Reply, expected), strict=True))
        if not (yield Until(address, self._timeout_s)):
            raise KafkaUnreachable(self._bootstrap, self._timeout_s, self._results.follower.trouble)
        reply_to = address.result()
        if isinstance(reply_to, FairlaneError):
            raise reply_to
        for index in asking:
            shipment.change(index, replace(tasks[index], reply_to=reply_to))
        return replies

    def _hand_over(self, client: Client, shipment: Shipment) -> Course[None]:
        tasks = shipment.tasks
        while shipment.handed < len(tasks):
            if shipment.handed:
                yield Turn()
            if not client.hand_over(shipment, _CHUNK) and not (
                yield from self._hand_over_when_there_is_room(client, shipment)
            ):
                for left in range(shipment.handed, len(tasks)):
                    shipment.fail(left, BufferFull(tasks[left].id, self._timeout_s))
                return

    def _hand_over_when_there_is_room(self, client: Client, shipment: Shipment) -> Course[bool]:
        """Whether there was any before the enqueue timeout."""
        deadline, before = time.monotonic() + self._timeout_s, shipment.handed
        while (remaining_s := deadline - time.monotonic()) > 0:
            room = client.space.wait_for(min(_WAKE_AFTER, len(client.raw) // 2))
            yield Until(room, min(SLICE_S, remaining_s))
            if client.hand_over(shipment, _CHUNK) or shipment.handed > before:
                return True
        return False

    def _give_up(self, shipment: Shipment) -> None:
        for index, task in enumerate(shipment.tasks):
            if shipment.offsets[index] is None and index not in shipment.errors:
                waited_s = self._timeout_s + _REPORT_GRACE_S
                shipment.errors[index] = EnqueueUncertain(task.id, waited_s, "librdkafka gave no report")
                shipment.end_span(index)

    def _answers(
        self, shipment: Shipment, parcels: Sequence[Parcel[Any]], replies: Mapping[int, Reply], moment_ms: int
    ) -> list[TaskHandle[Any] | FairlaneError]:
        errors, watcher = shipment.errors, self._results
        followed = map(replies.get, range(len(parcels))) if replies else repeat(None)
        rows = zip(parcels, shipment.topics, shipment.partitions, shipment.offsets, followed)  # noqa: B905 - repeat
        return [
            TaskHandle(
                Trail(parcel.task.id, parcel.task.type, topic, partition, offset, moment_ms, reply),
                watcher,
                parcel.load,
            )
            if offset is not None
            else errors[index]
            for index, (parcel, topic, partition, offset, reply) in enumerate(rows)
        ]


def _only(answers: list[TaskHandle[Any] | FairlaneError]) -> TaskHandle[Any]:
    [answer] = answers
    if isinstance(answer, FairlaneError):
        raise answer
    return answer


def _all(parcels: Sequence[Parcel[Any]], answers: list[TaskHandle[Any] | FairlaneError]) -> list[TaskHandle[Any]]:
    handles = [answer for answer in answers if isinstance(answer, TaskHandle)]
    if len(handles) == len(answers):
        return handles
    errors = tuple(
        (parcel.task.id, answer)
        for parcel, answer in zip(parcels, answers, strict=True)
        if isinstance(answer, FairlaneError)
    )
    raise SomeNotEnqueued(tuple(handle.id for handle in handles), errors)


def _close_unasked(slot: ClientSlot, results: Results, timeout_s: float) -> None:
    """What happens to a producer that nobody closed, when it is collected or the process ends."""
    results.close()
    undelivered = slot.close(timeout_s)
    if undelivered:
        _log.error("%s", TasksNotSent(undelivered, timeout_s))
