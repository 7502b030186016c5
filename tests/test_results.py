"""What became of a task: by following the status topic, or by a reply."""

from __future__ import annotations

import asyncio
import threading
import time
from collections.abc import Iterator
from typing import Any

import pytest
from live_queue import a_task, alike, headers_of, live_queue, parcel, records, wait_until
from standin_settler import StandinSettler, completed, ended

from fairlane.producer import TaskHandle, TaskProducer
from fairlane.producer.follower import Follower
from fairlane.topics.connection import Connection
from fairlane.topics.control_errors import TaskCancelled
from fairlane.topics.errors import KafkaUnreachable, ProducerClosed, QueueUnknown, ResultTimeout, TaskFailed
from fairlane.topics.events import StatusEvent
from fairlane.topics.ids import new_id
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


@pytest.fixture(scope="module")
def settler(kafka: str, names: QueueNames) -> StandinSettler:
    return StandinSettler(kafka, names)


def sent(names: QueueNames, producer: TaskProducer, **fields: object) -> TaskHandle[Any]:
    return producer.enqueue(parcel(a_task(names, **fields)))  # type: ignore[arg-type]


def test_a_result_that_is_there_already_is_found(
    names: QueueNames, producer: TaskProducer, settler: StandinSettler
) -> None:
    handle = sent(names, producer)
    settler.settle(completed(handle.id, {"sent": True}))
    assert handle.result(60) == {"sent": True}
    assert handle.result(0.001) == {"sent": True}


def test_a_result_is_waited_for(names: QueueNames, producer: TaskProducer, settler: StandinSettler) -> None:
    handle = sent(names, producer)
    with pytest.raises(ResultTimeout, match="it goes on"):
        handle.result(0.5)
    later = threading.Timer(0.3, settler.settle, [completed(handle.id, 42)])
    later.start()
    assert handle.result(60) == 42
    later.join()


@pytest.mark.parametrize(("state", "reason"), [("failed", "max_attempts"), ("cancelled", ""), ("expired", "expired")])
def test_a_task_that_ended_without_a_result_raises_why(
    names: QueueNames, producer: TaskProducer, settler: StandinSettler, state: Any, reason: str
) -> None:
    handle = sent(names, producer)
    settler.settle(ended(handle.id, state, reason))
    with pytest.raises(TaskFailed, match="no such address") as caught:
        handle.result(60)
    assert (caught.value.state, caught.value.reason, caught.value.error_type) == (state, reason, "ValueError")
    assert isinstance(caught.value, TaskCancelled) is (state == "cancelled")


def test_an_attempt_that_failed_is_no_end(names: QueueNames, producer: TaskProducer, settler: StandinSettler) -> None:
    handle = sent(names, producer)
    settler.settle(ended(handle.id, "retrying"))
    with pytest.raises(ResultTimeout):
        handle.result(1)
    settler.settle(completed(handle.id))
    assert handle.result(60) is None


def test_a_transaction_that_is_aborted_said_nothing(
    names: QueueNames, producer: TaskProducer, settler: StandinSettler
) -> None:
    handle = sent(names, producer)
    settler.begin()
    settler.write(completed(handle.id, "never"))
    with pytest.raises(ResultTimeout):
        handle.result(0.5)
    settler.abort()
    settler.settle(completed(handle.id, "in the end"))
    assert handle.result(60) == "in the end"


def test_the_end_of_a_replay_counts_more_than_the_end_before_it(
    names: QueueNames, producer: TaskProducer, settler: StandinSettler
) -> None:
    handle = sent(names, producer)
    settler.settle(ended(handle.id, "failed", "fatal"))
    settler.settle(completed(handle.id, "replayed"))
    assert handle.result(60) == "replayed"


def test_many_wait_at_once_on_one_thread(
    kafka: str, names: QueueNames, producer: TaskProducer, settler: StandinSettler
) -> None:
    handles = producer.enqueue_many([parcel(a_task(names)) for _ in range(300)])

    async def wait_for_all() -> list[Any]:
        waiting = asyncio.gather(*(handle.aresult(30) for handle in reversed(handles)))
        await asyncio.to_thread(settler.settle, *(completed(h.id, n) for n, h in enumerate(handles[:200])))
        await asyncio.to_thread(settler.settle, *(completed(h.id, n + 200) for n, h in enumerate(handles[200:])))
        return await waiting

    assert asyncio.run(wait_for_all()) == list(reversed(range(300)))
    threads = [thread for thread in threading.enumerate() if thread.name == f"fairlane-results-{names.queue}"]
    assert len(threads) >= 1
    assert [handle.result(60) for handle in handles] == list(range(300))


def test_a_handle_is_made_from_an_id_alone_also_of_a_foreign_kind(
    names: QueueNames, producer: TaskProducer, settler: StandinSettler
) -> None:
    for task_id in (new_id(), f"order-{new_id()}"):
        settler.settle(completed(task_id, task_id))
        assert producer.handle(task_id, bytes).result(60).decode() == f'"{task_id}"'


def test_a_task_without_an_event_is_pending_and_then_what_its_event_says(
    names: QueueNames, producer: TaskProducer, settler: StandinSettler
) -> None:
    handle = sent(names, producer)
    status = handle.status()
    assert (status.state, status.topic, status.offset) == ("pending", handle.topic, handle.offset)
    settler.settle(ended(handle.id, "retrying"))
    wait_until(lambda: handle.status().state == "retrying", "what was committed is visible")
    assert asyncio.run(handle.astatus()).state == "retrying"


def test_a_status_is_asked_of_the_lookup_where_there_is_one(kafka: str, names: QueueNames) -> None:
    running = StatusEvent(id="x", type="email", state="running")
    producer = TaskProducer(Connection(kafka), names, lookup=lambda _: running)
    assert producer.handle("x", bytes).status() is running
    assert asyncio.run(producer.handle("x", bytes).astatus()) is running
    producer.close()


def test_a_reply_comes_to_the_process_that_asked_without_the_status_topic(
    kafka: str, names: QueueNames, producer: TaskProducer, settler: StandinSettler
) -> None:
    handles = producer.enqueue_many(alike(a_task(names, level=4), 3, reply=True))
    asked = {headers_of(m)["ce_id"]: headers_of(m)["fairlane-reply-to"] for m in records(kafka, names.lane(4))}
    addresses = {asked[handle.id.encode()] for handle in handles}
    [address] = addresses
    assert address is not None
    assert address.decode().startswith(f"{names.replies}:")
    for handle in handles:
        settler.reply(address.decode(), completed(handle.id, handle.id))
    assert [handle.result(60) for handle in handles] == [handle.id for handle in handles]
    with pytest.raises(ResultTimeout):
        producer.handle(handles[0].id, bytes).result(1)


def test_a_reply_may_be_waited_for_again_and_by_several(
    kafka: str, names: QueueNames, producer: TaskProducer, settler: StandinSettler
) -> None:
    handle = producer.enqueue(parcel(a_task(names, level=5), reply=True))
    [message] = [m for m in records(kafka, names.lane(5)) if headers_of(m)["ce_id"] == handle.id.encode()]
    with pytest.raises(ResultTimeout):
        handle.result(0.2)

    async def wait_twice() -> list[Any]:
        waiting = asyncio.gather(handle.aresult(20), handle.aresult(20))
        address = headers_of(message)["fairlane-reply-to"]
        assert address is not None
        await asyncio.to_thread(settler.reply, address.decode(), completed(handle.id, "here"))
        return list(await waiting)

    assert asyncio.run(wait_twice()) == ["here", "here"]


def test_a_queue_without_topics_is_unknown(kafka: str, queue: str) -> None:
    producer = TaskProducer(Connection(kafka), QueueNames(queue))
    with pytest.raises(QueueUnknown):
        producer.handle(new_id(), bytes).result(60)
    producer.close()


def test_a_kafka_that_is_away_is_told_from_a_task_that_takes_long() -> None:
    producer = TaskProducer(Connection("127.0.0.1:1"), QueueNames("shop"))
    with pytest.raises(KafkaUnreachable, match="Connection refused"):
        producer.handle(new_id(), bytes).result(4)
    producer.close()


def test_who_waits_is_told_when_the_producer_is_closed(kafka: str, names: QueueNames) -> None:
    producer = TaskProducer(Connection(kafka), names)
    handle = producer.handle(new_id(), bytes)
    threading.Timer(0.5, producer.close).start()
    with pytest.raises(ProducerClosed):
        handle.result(60)


def test_reading_ends_when_nobody_waits_and_begins_again(
    kafka: str, names: QueueNames, settler: StandinSettler
) -> None:
    follower = Follower(Connection(kafka), names, idle_s=0.2)
    mine = f"fairlane-results-{names.queue}"
    before = [thread for thread in threading.enumerate() if thread.name == mine]

    def ask() -> None:
        task_id = new_id()
        future = follower.watch(task_id, time.time_ns() // 1_000_000, ends_only=True)
        settler.settle(completed(task_id))
        assert isinstance(future.result(60), StatusEvent)

    def is_quiet() -> bool:
        return not [t for t in threading.enumerate() if t.name == mine and t not in before]

    ask()
    wait_until(is_quiet, "the thread has ended")
    ask()
    abandoned = follower.watch(new_id(), time.time_ns() // 1_000_000, ends_only=True)
    abandoned.cancel()
    wait_until(is_quiet, "the thread has ended, though somebody had waited and given up")
    follower.close()
