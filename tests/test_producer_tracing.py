"""The `send` span of a task: it ends with Kafka's own report, or with the reason why nothing was sent."""

from __future__ import annotations

import asyncio
import uuid
from collections.abc import Iterator
from contextlib import suppress

import pytest
from live_queue import a_task, alike, headers_of, live_queue, parcel, records
from opentelemetry import trace
from opentelemetry.sdk.trace import ReadableSpan
from span_recorder import Recorder, as_text, error_type, install

from fairlane.producer import TaskProducer
from fairlane.topics.connection import Connection
from fairlane.topics.errors import KafkaUnreachable, QueueUnknown, SomeNotEnqueued
from fairlane.topics.names import QueueNames

pytestmark = pytest.mark.kafka

NOWHERE = Connection("127.0.0.1:1")


@pytest.fixture(scope="module")
def names(kafka: str) -> Iterator[QueueNames]:
    with live_queue(kafka) as names:
        yield names


@pytest.fixture
def producer(kafka: str, names: QueueNames) -> Iterator[TaskProducer]:
    producer = TaskProducer(Connection(kafka), names)
    yield producer
    producer.close()


@pytest.fixture
def sdk(monkeypatch: pytest.MonkeyPatch) -> Recorder:
    return install(monkeypatch, Recorder())


def of_task(sdk: Recorder, task_id: str) -> ReadableSpan:
    (span,) = [span for span in sdk.spans("send") if (span.attributes or {})["messaging.message.id"] == task_id]
    return span


def place(span: ReadableSpan) -> tuple[object, object]:
    said = span.attributes or {}
    return said["messaging.destination.partition.id"], said["messaging.kafka.offset"]


def test_each_of_many_has_a_span_of_its_own_that_says_where_it_is(
    kafka: str, names: QueueNames, producer: TaskProducer, sdk: Recorder
) -> None:
    with sdk.provider.get_tracer("web").start_as_current_span("checkout") as checkout:
        handles = producer.enqueue_many(alike(a_task(names), 20))
    written = {headers_of(message)["ce_id"]: message for message in records(kafka, names.lane(3))}
    for handle in handles:
        span, message = of_task(sdk, handle.id), written[handle.id.encode()]
        assert as_text(span.parent) == as_text(checkout.get_span_context())
        assert place(span) == (str(handle.partition), handle.offset) == (str(message.partition()), message.offset())
        assert headers_of(message)["traceparent"] == as_text(span.context).encode()


def test_one_that_is_refused_fails_alone(names: QueueNames, producer: TaskProducer, sdk: Recorder) -> None:
    good, bad = a_task(names), a_task(names, value=b"x" * 1_100_000)
    with pytest.raises(SomeNotEnqueued):
        producer.enqueue_many([parcel(good), parcel(bad)])
    assert error_type(of_task(sdk, good.id)) is None
    assert error_type(of_task(sdk, bad.id)) == "TaskTooLarge"


@pytest.mark.parametrize("reply", [False, True])
def test_a_send_that_reaches_nobody_has_a_span_as_long_as_it_was_tried(sdk: Recorder, reply: bool) -> None:
    names = QueueNames("shop")
    producer = TaskProducer(NOWHERE, names, enqueue_timeout_s=0.4)
    task = a_task(names)
    with pytest.raises(KafkaUnreachable):
        producer.enqueue(parcel(task, reply=reply))
    span = of_task(sdk, task.id)
    assert error_type(span) == "KafkaUnreachable"
    assert span.end_time is not None
    assert span.start_time is not None
    assert span.end_time - span.start_time > 0.3e9
    producer.close()


def test_a_send_to_a_queue_that_is_not_there_says_so(kafka: str, sdk: Recorder) -> None:
    names = QueueNames(f"t-{uuid.uuid4().hex[:8]}")
    producer = TaskProducer(Connection(kafka), names, enqueue_timeout_s=5)
    task = a_task(names)

    async def enqueue() -> None:
        await producer.aenqueue(parcel(task))

    with pytest.raises(QueueUnknown):
        asyncio.run(enqueue())
    assert error_type(of_task(sdk, task.id)) == "QueueUnknown"
    producer.close()


def test_a_send_that_is_cancelled_before_anything_was_sent_says_so(sdk: Recorder) -> None:
    names = QueueNames("shop")
    producer = TaskProducer(NOWHERE, names, enqueue_timeout_s=1)
    task = a_task(names)

    async def cancel() -> None:
        sending = asyncio.ensure_future(producer.aenqueue(parcel(task, reply=True)))
        await asyncio.sleep(0)
        sending.cancel()
        with suppress(asyncio.CancelledError):
            await sending

    asyncio.run(cancel())
    assert error_type(of_task(sdk, task.id)) == "asyncio.exceptions.CancelledError"
    producer.close()


def test_a_cancelled_call_does_not_take_back_its_task_whose_span_ends_with_the_report(
    names: QueueNames, producer: TaskProducer, sdk: Recorder
) -> None:
    producer.enqueue(parcel(a_task(names)))
    task = a_task(names)

    async def cancel() -> None:
        sending = asyncio.ensure_future(producer.aenqueue(parcel(task)))
        await asyncio.sleep(0)
        sending.cancel()
        with suppress(asyncio.CancelledError):
            await sending

    asyncio.run(cancel())
    producer.close()
    span = of_task(sdk, task.id)
    assert error_type(span) is None
    assert int(str(place(span)[1])) >= 0


def test_without_an_sdk_no_task_of_many_is_looked_at(
    names: QueueNames, producer: TaskProducer, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(trace, "_TRACER_PROVIDER", None)
    monkeypatch.setattr("fairlane.topics.tracing.start_send", None)
    assert len(producer.enqueue_many([parcel(a_task(names)) for _ in range(3)])) == 3
