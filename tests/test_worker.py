"""A worker on a real Kafka: what becomes of tasks."""

from __future__ import annotations

import asyncio
import threading
import time
import uuid
from collections.abc import Iterator
from itertools import pairwise

import pytest
from confluent_kafka.admin import AdminClient, NewTopic  # type: ignore[attr-defined]
from live_queue import headers_of, records, wait_until
from working_queue import WorkingQueue, working_queue

from fairlane.consumer.context import context
from fairlane.consumer.intake import Intake
from fairlane.consumer.retry import RetryPolicy
from fairlane.consumer.signals import Reject, RetryLater
from fairlane.topics.names import Lane, QueueNames

pytestmark = pytest.mark.kafka

SOON = RetryPolicy(max_attempts=3, base_s=0.2, factor=1, jitter=0)


@pytest.fixture(scope="module")
def shared(kafka: str) -> Iterator[WorkingQueue]:
    """One queue for the tests that do not care who else uses it, one after the other."""
    with working_queue(kafka) as queue:
        yield queue


async def add(a: int, b: int = 1) -> int:
    return a + b


def test_an_async_handler_completes_and_its_result_is_stored(shared: WorkingQueue) -> None:
    task = shared.task("add", b'{"a":1,"b":2}')
    shared.send(task)
    with shared.worker(add):
        event = shared.wait_event(task, "completed")
    assert bytes(event.result) == b"3"
    assert (event.attempt, event.lane, event.type) == (1, shared.names.lane(3), "add")


def test_a_def_handler_runs_on_a_thread_and_not_on_the_loop(shared: WorkingQueue) -> None:
    def where() -> str:
        return threading.current_thread().name

    task = shared.task("where")
    shared.send(task)
    with shared.worker(where):
        event = shared.wait_event(task, "completed")
    assert b"fairlane-handler" in bytes(event.result)


def test_a_failed_attempt_is_retried_after_its_delay_and_then_completes(shared: WorkingQueue) -> None:
    starts: list[float] = []

    async def flaky() -> str:
        starts.append(time.monotonic())
        if len(starts) < 3:
            raise ConnectionError("not yet")
        return "at last"

    task = shared.task("flaky")
    shared.send(task)
    with shared.worker(flaky, policies={"flaky": {"retry": SOON}}):
        event = shared.wait_event(task, "completed")
    assert event.attempt == 3
    assert [found.state for found in shared.events(task.id)] == ["retrying", "retrying", "completed"]
    assert all(later - earlier >= 0.199 for earlier, later in pairwise(starts))


def test_after_its_last_attempt_a_task_is_in_the_dlq_byte_for_byte_with_the_reason(shared: WorkingQueue) -> None:
    def doomed(n: int) -> None:
        raise ValueError(f"no good: {n}")

    task = shared.task("doomed", b'{ "n" : 7 }', key=b"customer-1")
    shared.send(task)
    with shared.worker(doomed, policies={"doomed": {"retry": SOON}}):
        event = shared.wait_event(task, "failed")
    assert (event.reason, event.attempt) == ("max_attempts", 3)
    assert event.error is not None
    assert (event.error.type, event.error.message) == ("ValueError", "no good: 7")
    letter = next(each for each in shared.letters() if headers_of(each).get("ce_id") == task.id.encode())
    headers = headers_of(letter)
    assert (letter.key(), letter.value()) == (b"customer-1", b'{ "n" : 7 }')
    assert headers["fairlane-reason"] == b"max_attempts"
    assert headers["fairlane-attempt"] == b"3"
    assert b"no good: 7" in (headers["fairlane-traceback"] or b"")
    assert headers["__dlq.errors.topic"] == (headers["fairlane-original-topic"])


def test_reject_is_dead_at_once_and_retry_later_waits_as_long_as_it_says(shared: WorkingQueue) -> None:
    starts: list[float] = []

    async def choosy(reject: bool) -> str:
        if reject:
            raise Reject("never")
        starts.append(time.monotonic())
        if len(starts) == 1:
            raise RetryLater(0.6, "later")
        return "done"

    rejected, later = shared.task("choosy", b'{"reject":true}'), shared.task("choosy", b'{"reject":false}')
    shared.send(rejected, later)
    with shared.worker(choosy):
        assert shared.wait_event(rejected, "failed").reason == "rejected"
        shared.wait_event(later, "completed")
    assert starts[1] - starts[0] >= 0.599


def test_a_payload_that_does_not_fit_is_dead_with_what_is_wrong(shared: WorkingQueue) -> None:
    task = shared.task("add", b'{"a":"many"}')
    shared.send(task)
    with shared.worker(add):
        event = shared.wait_event(task, "failed")
    assert event.reason == "invalid_payload"
    assert event.error is not None
    assert "a" in event.error.message


def test_a_payload_that_does_not_fit_can_wait_for_a_newer_worker(shared: WorkingQueue) -> None:
    task = shared.task("add", b'{"a":"many"}')
    shared.send(task)
    with shared.worker(add, policies={"add": {"on_invalid": "retry"}}):
        event = shared.wait_event(task, "retrying")
    assert event.attempt == 1


def test_a_type_without_a_handler_waits_for_one_and_is_dead_when_none_comes(shared: WorkingQueue) -> None:
    hopeless = shared.task("unheard-of")
    shared.send(hopeless)
    with shared.worker(add, no_handler_s=1.0):
        shared.wait_event(hopeless, "retrying")
        event = shared.wait_event(hopeless, "failed")
    assert (event.reason, event.attempt) == ("no_handler", 1)


def test_an_attempt_that_takes_too_long_is_cut_off_and_retried(shared: WorkingQueue) -> None:
    async def slow() -> None:
        await asyncio.sleep(60)

    def stuck() -> None:
        while True:
            pass

    tasks = [shared.task("slow", timeout_ms=200), shared.task("stuck", timeout_ms=200)]
    shared.send(*tasks)
    once = {"retry": RetryPolicy(max_attempts=1)}
    with shared.worker(slow, stuck, policies={"slow": once, "stuck": once}):
        for task in tasks:
            event = shared.wait_event(task, "failed")
            assert event.error is not None
            assert event.error.type == "AttemptTimeout"


def test_a_task_that_expired_is_not_started(shared: WorkingQueue) -> None:
    ran: list[int] = []

    async def late() -> None:
        ran.append(1)

    task = shared.task("late", expires_ms=time.time_ns() // 1_000_000 - 1)
    shared.send(task)
    with shared.worker(late):
        assert shared.wait_event(task, "expired").reason == "expired"
    assert not ran


def test_a_delayed_task_is_never_early(shared: WorkingQueue) -> None:
    starts: dict[str, int] = {}

    async def punctual() -> None:
        starts[context().task.id] = time.time_ns() // 1_000_000

    now_ms = time.time_ns() // 1_000_000
    tasks = [shared.task("punctual", not_before_ms=now_ms + delay_ms) for delay_ms in (1, 300, 1_500, 5_200)]
    for task in tasks:
        # As a foreign client may: straight onto the lane, or into the wrong tier.
        shared.send(task, topic=shared.names.lane(3) if task.not_before_ms % 2 else f"{shared.names.queue}.retry-1s")
    with shared.worker(punctual):
        for task in tasks:
            shared.wait_event(task, "completed")
    late_ms = {task.not_before_ms - now_ms: starts[task.id] - task.not_before_ms for task in tasks}
    assert all(late >= 0 for late in late_ms.values()), late_ms


def test_delayed_tasks_of_which_too_many_bytes_would_be_held_run_once_and_in_time(
    shared: WorkingQueue, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Room for 10 of 200: the tier is read again, round by round; nothing of it is lost, early or run twice."""
    again: list[object] = []
    starts: dict[str, list[int]] = {}
    read_again = Intake.read_again

    def note(intake: Intake) -> list[tuple[tuple[str, int], int]]:
        found = read_again(intake)
        again.extend(found)
        return found

    async def heavy(text: str) -> None:
        starts.setdefault(context().task.id, []).append(time.time_ns() // 1_000_000)

    monkeypatch.setattr(Intake, "read_again", note)
    payload = b'{"text":"%s"}' % (b"x" * 10_000)
    with shared.worker(heavy, buffer_bytes=400_000):
        # What waits for its time can only be held by a worker that reads already.
        shared.send(ready := shared.task("heavy", payload))
        shared.wait_event(ready, "completed")
        due_ms = time.time_ns() // 1_000_000 + 7_500
        tasks = [shared.task("heavy", payload, not_before_ms=due_ms + 5 * number) for number in range(200)]
        shared.send(*tasks, topic=f"{shared.names.queue}.retry-5s")
        for task in tasks:
            shared.wait_event(task, "completed")
    assert again
    assert {len(found) for found in starts.values()} == {1}
    assert min(starts[task.id][0] - task.not_before_ms for task in tasks) >= 0
    assert len(again) <= len(tasks), "each round brings some of them on"


def test_what_a_handler_sends_is_written_once_and_only_if_it_succeeds(shared: WorkingQueue) -> None:
    attempts: list[int] = []

    async def child() -> None:
        return None

    async def parent() -> str:
        here = context()
        here.emit(shared.names.audit, {"attempt": here.attempt}, key=here.task.id)
        (child_id,) = here.enqueue(shared.task("child"))
        attempts.append(here.attempt)
        if here.attempt < 3:
            raise ConnectionError
        return child_id

    task = shared.task("parent")
    shared.send(task)
    with shared.worker(parent, child, policies={"parent": {"retry": SOON}}):
        event = shared.wait_event(task, "completed")
        child_id = bytes(event.result).decode().strip('"')
        wait_until(lambda: shared.events(child_id), "the child ran")
    emitted = [each.value() for each in records(shared.bootstrap, shared.names.audit) if each.key() == task.id.encode()]
    assert emitted == [b'{"attempt":3}']
    assert attempts == [1, 2, 3]


def test_a_result_that_kafka_refuses_is_dead_alone_and_its_neighbours_settle(shared: WorkingQueue) -> None:
    async def echo(size: int) -> str:
        return "x" * size

    large = shared.task("echo", b'{"size":3000000}')
    small = [shared.task("echo", b'{"size":10}') for _ in range(20)]
    shared.send(*small[:10], large, *small[10:])
    with shared.worker(echo, result_max_bytes=10_000_000):
        for task in small:
            shared.wait_event(task, "completed")
        event = shared.wait_event(large, "failed")
    assert event.reason == "result_too_large"


def test_a_result_over_the_limit_is_dead_with_the_limit(shared: WorkingQueue) -> None:
    async def wordy() -> str:
        return "x" * 100

    task = shared.task("wordy")
    shared.send(task)
    with shared.worker(wordy, result_max_bytes=50):
        event = shared.wait_event(task, "failed")
    assert event.reason == "result_too_large"
    assert event.error is not None
    assert "50" in event.error.message


def test_an_outbox_record_that_cannot_be_written_makes_its_task_dead_without_it(shared: WorkingQueue) -> None:
    async def lost() -> None:
        context().emit("no-such-topic-anywhere", b"x")

    bad, good = shared.task("lost"), shared.task("add", b'{"a":1}')
    shared.send(bad, good)
    with shared.worker(lost, add):
        assert shared.wait_event(bad, "failed").reason == "outbox_failed"
        shared.wait_event(good, "completed")


def test_a_tombstone_is_skipped_and_stops_nothing(kafka: str) -> None:
    with working_queue(kafka) as queue:
        queue.send_raw(queue.names.lane(3), None, key=b"gone")
        task = queue.task("add", b'{"a":1}')
        queue.send(task)
        with queue.worker(add):
            queue.wait_event(task, "completed")
            wait_until(lambda: not queue.lag(), "lag 0")


def test_a_bare_json_record_of_any_client_is_a_task(shared: WorkingQueue) -> None:
    shared.send_raw(shared.names.lane(5), b'{"type":"add","payload":{"a":40,"b":2},"id":"bare-1"}')
    shared.flush()
    with shared.worker(add):
        wait_until(lambda: shared.events("bare-1"), "it ran")
    assert bytes(shared.events("bare-1")[0].result) == b"42"


def test_an_idle_queue_has_lag_0_in_kafkas_own_eyes(kafka: str) -> None:
    with working_queue(kafka) as queue:
        seen: set[str] = set()

        async def flaky() -> None:
            if context().task.id not in seen:
                seen.add(context().task.id)
                raise ConnectionError

        queue.send(*[queue.task("flaky", level=level) for level in (1, 2, 3, 4, 5) for _ in range(20)])
        with queue.worker(flaky, policies={"flaky": {"retry": SOON}}):
            queue.wait_ended(100)
            wait_until(lambda: not queue.lag(), "lag 0")


def test_a_type_with_a_concurrency_limit_does_not_hold_up_the_others(shared: WorkingQueue) -> None:
    running = 0
    most = 0
    release = asyncio.Event()

    async def narrow() -> None:
        nonlocal running, most
        running += 1
        most = max(most, running)
        await release.wait()
        running -= 1

    async def wide() -> None:
        return None

    narrows = [shared.task("narrow") for _ in range(6)]
    wides = [shared.task("wide") for _ in range(20)]
    shared.send(*narrows, *wides)
    with shared.worker(narrow, wide, policies={"narrow": {"concurrency": 2}}, concurrency=4) as pool:
        for task in wides:
            shared.wait_event(task, "completed")
        assert pool.loop is not None
        pool.loop.call_soon_threadsafe(release.set)
        for task in narrows:
            shared.wait_event(task, "completed")
    assert most == 2


def test_any_topic_can_be_a_lane_and_its_records_need_no_headers(kafka: str) -> None:
    orders = f"orders-{uuid.uuid4().hex[:6]}"
    admin = AdminClient({"bootstrap.servers": kafka})
    for made in admin.create_topics([NewTopic(orders, 4, 1)]).values():
        made.result(60)
    name = f"t-{uuid.uuid4().hex[:8]}"
    lanes = (*QueueNames(name).default_lanes(), Lane(orders, level=6, weight=4, default_type="order"))
    tries: dict[str, int] = {}

    async def order(number: int) -> int:
        tries[context().task.id] = tries.get(context().task.id, 0) + 1
        if number == 2 and tries[context().task.id] == 1:
            raise ConnectionError
        if number == 3:
            raise Reject("cancelled")
        return number

    try:
        with working_queue(kafka, lanes=lanes, name=name) as queue:
            for number in range(4):
                queue.send_raw(orders, b'{"number":%d}' % number, key=b"customer")
            queue.send_raw(orders, b"no json at all")
            queue.flush()
            with queue.worker(order, policies={"order": {"retry": SOON}}):
                ended = queue.wait_ended(5)
                wait_until(lambda: not queue.lag(), "lag 0")
            found = sorted((event.state, bytes(event.result)) for (event,) in ended.values())
            assert found == [
                ("completed", b"0"),
                ("completed", b"1"),
                ("completed", b"2"),
                ("failed", b"null"),
                ("failed", b"null"),
            ]
            assert all(origin.startswith(f"{orders}/") for origin in ended)
            assert {letter.value() for letter in queue.letters()} == {b'{"number":3}', b"no json at all"}
            assert len(records(kafka, orders)) == 5, "somebody else's records are left alone"
    finally:
        admin.delete_topics([orders])[orders].result(60)
