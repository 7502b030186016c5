"""The front door on a real Kafka: from a call to its status and its typed result."""

from __future__ import annotations

import asyncio
import dataclasses
import threading
from collections.abc import Iterator

import pytest
from live_queue import live_queue, wait_until
from standin_settler import StandinSettler, completed, ended

from fairlane import Fairlane, Settings, TaskFailed
from fairlane.topics.errors import InvalidResult, ProducerClosed, SomeNotEnqueued, TaskTooLarge
from fairlane.topics.names import QueueNames

pytestmark = pytest.mark.kafka


@dataclasses.dataclass
class Receipt:
    number: int


def charge(amount: int) -> Receipt:
    return Receipt(amount)


async def send(to: str) -> None: ...


@pytest.fixture(scope="module")
def names(kafka: str) -> Iterator[QueueNames]:
    with live_queue(kafka) as names:
        yield names


@pytest.fixture
def app(kafka: str, names: QueueNames) -> Iterator[Fairlane]:
    with Fairlane(names.queue, settings=Settings(queue_url=f"kafka://{kafka}")) as app:
        yield app


@pytest.fixture(scope="module")
def settler(kafka: str, names: QueueNames) -> StandinSettler:
    return StandinSettler(kafka, names)


def test_a_result_is_of_the_type_that_the_function_says(app: Fairlane, settler: StandinSettler) -> None:
    handle = app.task(charge).enqueue(3)
    settler.settle(completed(handle.id, {"number": 3}))
    assert handle.result(60) == Receipt(3)
    by_id = app.handle(handle.id)
    assert by_id.result(60) == {"number": 3}
    assert by_id.topic == ""


def test_a_result_of_another_type_is_an_error_of_its_own(app: Fairlane, settler: StandinSettler) -> None:
    handle = app.task(charge).enqueue(3)
    settler.settle(completed(handle.id, {"nummer": 3}))
    with pytest.raises(InvalidResult, match="number"):
        handle.result(60)


def test_a_status_tells_of_a_task_that_waits_and_of_one_that_ended(app: Fairlane, settler: StandinSettler) -> None:
    handle = app.task(send).options(delay_s=3_600).enqueue("ann")
    status = handle.status()
    assert (status.state, status.type, status.topic, status.offset) == ("pending", "send", handle.topic, handle.offset)
    settler.settle(ended(handle.id, "failed", "fatal"))
    wait_until(lambda: handle.status().state == "failed", "what was committed is visible")
    assert asyncio.run(handle.astatus()).reason == "fatal"
    with pytest.raises(TaskFailed):
        asyncio.run(handle.aresult(20))


def test_many_of_several_types_are_enqueued_at_once(app: Fairlane, names: QueueNames) -> None:
    sending, charging = app.task(send), app.task(charge)
    calls = [sending.options(priority=5).call("ann"), charging.call(1), app.call("elsewhere", [1], priority=1)]
    handles = app.enqueue_many(calls)
    assert [handle.topic for handle in handles] == [names.lane(5), names.lane(3), names.lane(1)]

    async def enqueue() -> int:
        return len(await app.aenqueue_many(sending.call(str(number)) for number in range(100)))

    assert asyncio.run(enqueue()) == 100


def test_of_many_the_error_names_those_that_arrived(app: Fairlane) -> None:
    with pytest.raises(SomeNotEnqueued, match="1 of 2 tasks did not arrive: b: task b is too large") as caught:
        app.enqueue_many([app.call("x", id="a"), app.call("x", b"x" * 1_100_000, id="b")])
    assert caught.value.arrived == ("a",)
    assert isinstance(caught.value.errors[0][1], TaskTooLarge)


def test_first_enqueues_from_many_threads_make_one_producer(kafka: str, names: QueueNames) -> None:
    app = Fairlane(names.queue, settings=Settings(queue_url=f"kafka://{kafka}"))
    ids: list[str] = []
    threads = [threading.Thread(target=lambda: ids.append(app.enqueue("x").id)) for _ in range(8)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(60)
    assert len(set(ids)) == 8
    assert len([t for t in threading.enumerate() if t.name == f"fairlane-reports-{names.queue}" and t.is_alive()]) >= 1
    app.close()
    with pytest.raises(ProducerClosed):
        app.enqueue("x")


def test_an_app_closes_in_async_code_too(kafka: str, names: QueueNames) -> None:
    async def use() -> str:
        async with Fairlane(names.queue, settings=Settings(queue_url=f"kafka://{kafka}")) as app:
            return (await app.aenqueue("x", {"a": 1})).id

    assert asyncio.run(use())
