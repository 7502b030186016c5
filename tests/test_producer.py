"""Enqueueing on a real Kafka: where tasks go, what is acknowledged, and what every failure is called."""

from __future__ import annotations

import asyncio
import socket
import threading
import time
from collections import Counter
from collections.abc import Iterator

import pytest
from confluent_kafka.admin import AdminClient
from confluent_kafka.cimpl import NewTopic
from live_queue import a_task, headers_of, live_queue, parcel, records, wait_until
from opentelemetry import trace
from opentelemetry.sdk.trace import TracerProvider
from opentelemetry.sdk.trace.export import SimpleSpanProcessor
from opentelemetry.sdk.trace.export.in_memory_span_exporter import InMemorySpanExporter

from fairlane.producer import TaskProducer
from fairlane.topics.connection import Connection
from fairlane.topics.errors import (
    KafkaUnreachable,
    ProducerClosed,
    QueueUnknown,
    SomeNotEnqueued,
    TaskTooLarge,
)
from fairlane.topics.names import QueueNames

pytestmark = pytest.mark.kafka


@pytest.fixture(scope="module")
def names(kafka: str) -> Iterator[QueueNames]:
    with live_queue(kafka) as names:
        yield names


@pytest.fixture
def producer(kafka: str, names: QueueNames) -> Iterator[TaskProducer]:
    producer = TaskProducer(Connection(kafka), names, enqueue_timeout_s=60)
    yield producer
    producer.close()


def closed_port() -> int:
    with socket.socket() as listener:
        listener.bind(("127.0.0.1", 0))
        port: int = listener.getsockname()[1]
        return port


def test_an_enqueued_task_is_in_its_lane_where_the_handle_says(
    kafka: str, names: QueueNames, producer: TaskProducer
) -> None:
    task = a_task(names, level=5, value=b'{"to": "ann"}', key=b"ann")
    handle = producer.enqueue(parcel(task))
    [found] = [m for m in records(kafka, names.lane(5)) if headers_of(m)["ce_id"] == task.id.encode()]
    assert (handle.id, handle.topic) == (task.id, found.topic())
    assert (handle.partition, handle.offset) == (found.partition(), found.offset())
    assert (found.key(), found.value()) == (b"ann", b'{"to": "ann"}')
    assert headers_of(found)["ce_type"] == b"email"


@pytest.mark.parametrize(
    ("delay_ms", "tier"),
    [
        (400, "1s"),  # less than the smallest tier goes to the smallest
        (4_000, "1s"),  # the largest tier that is not longer
        (60_000, "1m"),  # exactly a tier's, though a moment has gone by since it was said
        (61_000, "1m"),
        (40 * 86_400_000, "1d"),
    ],
)
def test_a_delayed_task_is_in_the_largest_tier_that_is_not_longer(
    names: QueueNames, producer: TaskProducer, delay_ms: int, tier: str
) -> None:
    due_ms = time.time_ns() // 1_000_000 + delay_ms
    handle = producer.enqueue(parcel(a_task(names, not_before_ms=due_ms)))
    assert handle.topic == f"{names.queue}.retry-{tier}"


def test_a_delayed_task_says_when_it_is_due_and_where_it_belongs(
    kafka: str, names: QueueNames, producer: TaskProducer
) -> None:
    task = a_task(names, level=5, not_before_ms=time.time_ns() // 1_000_000 + 6_000)
    handle = producer.enqueue(parcel(task))
    [found] = [m for m in records(kafka, handle.topic) if headers_of(m)["ce_id"] == task.id.encode()]
    assert headers_of(found)["fairlane-not-before-ms"] == b"%d" % task.not_before_ms
    assert headers_of(found)["fairlane-lane"] == names.lane(5).encode()


def test_many_are_sent_together_and_their_handles_come_in_order(names: QueueNames, producer: TaskProducer) -> None:
    tasks = [a_task(names, level=1 + number % 5) for number in range(2_000)]
    handles = producer.enqueue_many([parcel(task) for task in tasks])
    assert [handle.id for handle in handles] == [task.id for task in tasks]
    assert [handle.topic for handle in handles] == [task.lane for task in tasks]
    assert len({(handle.topic, handle.partition, handle.offset) for handle in handles}) == 2_000


def test_many_tasks_without_a_key_are_shared_evenly_by_the_partitions(kafka: str) -> None:
    with live_queue(kafka) as own:
        producer = TaskProducer(Connection(kafka), own)
        parcels = [parcel(a_task(own)) for _ in range(30)]
        assert Counter(handle.partition for handle in producer.enqueue_many(parcels)) == {0: 10, 1: 10, 2: 10}
        keyed = [parcel(a_task(own, key=b"k")) for _ in range(30)]
        assert len({handle.partition for handle in producer.enqueue_many(keyed)}) == 1
        producer.close()


def test_none_of_many_is_nothing_to_do(producer: TaskProducer) -> None:
    assert producer.enqueue_many([]) == []


def test_threads_share_a_producer(kafka: str, names: QueueNames, producer: TaskProducer) -> None:
    with live_queue(kafka) as own:
        shared = TaskProducer(Connection(kafka), own)
        ids: list[str] = []

        def enqueue() -> None:
            for _ in range(200):
                ids.append(shared.enqueue(parcel(a_task(own))).id)

        threads = [threading.Thread(target=enqueue) for _ in range(8)]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join(60)
        shared.close()
        found = [headers_of(message)["ce_id"] for message in records(kafka, own.lane(3))]
        assert sorted(found, key=bytes) == sorted(task_id.encode() for task_id in ids)  # type: ignore[arg-type]
        assert len(ids) == 1_600


def test_event_loops_and_threads_share_a_producer(names: QueueNames, producer: TaskProducer) -> None:
    ids: list[str] = []

    async def enqueue() -> None:
        for handle in await asyncio.gather(*(producer.aenqueue(parcel(a_task(names))) for _ in range(100))):
            ids.append(handle.id)
        for handle in await producer.aenqueue_many([parcel(a_task(names)) for _ in range(1_100)]):
            ids.append(handle.id)

    def in_a_loop() -> None:
        asyncio.run(enqueue())

    def without_a_loop() -> None:
        for _ in range(50):
            ids.append(producer.enqueue(parcel(a_task(names))).id)

    threads = [threading.Thread(target=target) for target in (in_a_loop, in_a_loop, without_a_loop)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(60)
    assert len(set(ids)) == 2 * 1_200 + 50


def test_a_cancelled_call_leaves_the_task_where_it_is_and_the_loop_unharmed(
    kafka: str, names: QueueNames, producer: TaskProducer
) -> None:
    producer.enqueue(parcel(a_task(names, level=2)))
    task = a_task(names, level=2)

    async def cancel_at_once() -> None:
        call = asyncio.create_task(producer.aenqueue(parcel(task)))
        await asyncio.sleep(0)
        call.cancel()
        with pytest.raises(asyncio.CancelledError):
            await call

    asyncio.run(cancel_at_once())
    wait_until(
        lambda: task.id.encode() in [headers_of(m)["ce_id"] for m in records(kafka, names.lane(2))],
        "the task that was sent before the call was cancelled is there",
    )


def test_too_large_for_this_client_is_said_with_the_limit(names: QueueNames, producer: TaskProducer) -> None:
    task = a_task(names, value=b"x" * 1_100_000)
    with pytest.raises(TaskTooLarge) as caught:
        producer.enqueue(parcel(task))
    assert (caught.value.task_id, caught.value.size_bytes, caught.value.limit_bytes) == (task.id, 1_100_000, 1_000_000)


def test_too_large_for_the_broker_is_the_same_error(kafka: str, names: QueueNames) -> None:
    generous = TaskProducer(Connection(kafka, {"message.max.bytes": 5_000_000}), names)
    with pytest.raises(TaskTooLarge) as caught:
        generous.enqueue(parcel(a_task(names, value=b"x" * 2_000_000)))
    assert (caught.value.size_bytes, caught.value.limit_bytes) == (2_000_000, 0)
    generous.close()


def test_of_many_it_is_said_which_arrived_and_which_did_not(names: QueueNames, producer: TaskProducer) -> None:
    tasks = [a_task(names), a_task(names, value=b"x" * 1_100_000), a_task(names)]
    with pytest.raises(SomeNotEnqueued) as caught:
        producer.enqueue_many([parcel(task) for task in tasks])
    assert caught.value.arrived == (tasks[0].id, tasks[2].id)
    [(failed, error)] = caught.value.errors
    assert failed == tasks[1].id
    assert isinstance(error, TaskTooLarge)


def test_a_queue_without_topics_is_unknown_at_once_and_known_once_they_are_made(kafka: str, queue: str) -> None:
    names = QueueNames(queue)
    producer = TaskProducer(Connection(kafka), names, enqueue_timeout_s=90)
    began = time.monotonic()
    with pytest.raises(QueueUnknown, match=rf"fairlane topics create --queue {queue}") as caught:
        producer.enqueue(parcel(a_task(names)))
    assert time.monotonic() - began < 60
    assert caught.value.topic == names.lane(3)
    admin = AdminClient({"bootstrap.servers": kafka})
    admin.create_topics([NewTopic(names.lane(3), 1, 1)])[names.lane(3)].result(60)
    wait_until(lambda: names.lane(3) in admin.list_topics(timeout=60).topics, "the broker knows the topic")
    assert producer.enqueue(parcel(a_task(names))).offset == 0
    producer.close()
    admin.delete_topics([names.lane(3)])[names.lane(3)].result(60)


def test_an_enqueue_makes_no_topic_even_where_the_broker_would() -> None:
    # librdkafka's own mock cluster makes every topic that it is asked for.
    names = QueueNames("nowhere")
    producer = TaskProducer(Connection("", {"test.mock.num.brokers": 1}), names, enqueue_timeout_s=10)
    with pytest.raises(QueueUnknown):
        producer.enqueue(parcel(a_task(names)))
    producer.close()


def test_without_a_broker_it_is_unreachable_after_the_timeout_and_nothing_is_in_flight() -> None:
    names = QueueNames("shop")
    bootstrap = f"127.0.0.1:{closed_port()}"
    producer = TaskProducer(Connection(bootstrap), names, enqueue_timeout_s=1)
    began = time.monotonic()
    with pytest.raises(KafkaUnreachable, match="Connection refused") as caught:
        producer.enqueue(parcel(a_task(names)))
    assert time.monotonic() - began > 0.9
    assert (caught.value.bootstrap, caught.value.timeout_s) == (bootstrap, 1)
    with pytest.raises(KafkaUnreachable):
        asyncio.run(producer.aenqueue(parcel(a_task(names))))
    producer.close()


def test_a_sent_task_carries_the_context_of_its_send_span_and_the_span_says_where_it_is(
    kafka: str, names: QueueNames, producer: TaskProducer, monkeypatch: pytest.MonkeyPatch
) -> None:
    exporter = InMemorySpanExporter()
    provider = TracerProvider(shutdown_on_exit=False)
    provider.add_span_processor(SimpleSpanProcessor(exporter))
    monkeypatch.setattr(trace, "_TRACER_PROVIDER", provider)
    good, bad = a_task(names), a_task(names, value=b"x" * 1_100_000)
    with pytest.raises(SomeNotEnqueued):
        producer.enqueue_many([parcel(good), parcel(bad)])
    by_id = {(span.attributes or {})["messaging.message.id"]: span for span in exporter.get_finished_spans()}
    [message] = [m for m in records(kafka, names.lane(3)) if headers_of(m)["ce_id"] == good.id.encode()]
    context = by_id[good.id].context
    assert context is not None
    assert f"{context.trace_id:032x}-{context.span_id:016x}" in str(headers_of(message)["traceparent"])
    assert (by_id[good.id].attributes or {})["messaging.kafka.offset"] == message.offset()
    assert (by_id[bad.id].attributes or {})["error.type"] == "TaskTooLarge"


def test_after_close_a_task_is_not_sent(kafka: str, names: QueueNames) -> None:
    producer = TaskProducer(Connection(kafka), names)
    producer.enqueue(parcel(a_task(names)))
    producer.close()
    producer.close()
    with pytest.raises(ProducerClosed):
        producer.enqueue(parcel(a_task(names)))


def test_a_full_buffer_is_waited_for(kafka: str, names: QueueNames) -> None:
    narrow = TaskProducer(Connection(kafka, {"queue.buffering.max.messages": 10}), names)
    tasks = [a_task(names) for _ in range(500)]
    assert len(narrow.enqueue_many([parcel(task) for task in tasks])) == 500

    async def enqueue() -> int:
        return len(await narrow.aenqueue_many([parcel(a_task(names)) for _ in range(500)]))

    assert asyncio.run(enqueue()) == 500
    narrow.close()
